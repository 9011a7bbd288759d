"""The dimension of the span of all contributions that a neuron can make on the data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.networks import unit_rows
from cvxnn.patterns._geometry import describe
from cvxnn.patterns._rank import numerical_rank

__all__ = ["effective_dimension"]


def effective_dimension(X: npt.ArrayLike) -> int:
    r"""Dimension of the span of the outputs of single neurons on the data.

    .. math:: r_{\mathrm{eff}} = \dim \mathrm{span}\{(Xu)_+ : u \in \mathbb{R}^d\}
              = \#\{\text{lines}\} + \mathrm{rank}\{x_j : \text{both orientations of its line occur}\}

    The lines are the distinct lines through the origin that carry a nonzero sample: duplicates and multiples count
    once. It is at most n. No irreducible network has more neurons, and every network with at least
    :math:`r_{\mathrm{eff}} + 1` neurons is joined to a global optimum by a path along which the objective never rises;
    the latter is the statement for n + 1 neurons with n replaced by this number.

    Parameters
    ----------
    X : array-like (n, d)
        Data, one sample a row.

    Returns
    -------
    int
        Between 0 (all samples zero) and n.

    Raises
    ------
    ValueError
        When ``X`` is not a finite 2-dimensional array with at least one entry.

    Notes
    -----
    The functions :math:`|x^\top u|` of distinct lines are linearly independent even modulo linear functions, and
    :math:`(t)_+ = (|t| + t)/2`; so each line adds one dimension, and only lines with both orientations add linear
    functions. Samples within an angle of 1e-9 of one line count as one line, as in
    :func:`cvxnn.patterns.enumerate_patterns`.

    References
    ----------
    Haeffele and Vidal (2017), "Global optimality in neural network training", on descent paths of wide networks.

    Examples
    --------
    >>> effective_dimension([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    3
    """
    geometry = describe(as_float_array(X, "X", ndim=2))
    lines = geometry.lines
    if lines.shape[0] == 0:
        return 0
    coordinates = unit_rows(geometry.rows[geometry.nonzero] @ geometry.basis)
    forward = np.zeros(len(lines), dtype=np.bool_)
    backward = np.zeros(len(lines), dtype=np.bool_)
    block = max(4_000_000 // len(lines), 1)
    for first in range(0, len(coordinates), block):
        cosines = coordinates[first : first + block] @ lines.T
        line = np.argmax(np.abs(cosines), axis=1)
        positive = cosines[np.arange(len(line)), line] > 0
        forward[line[positive]] = True
        backward[line[~positive]] = True
    both = lines[forward & backward]
    return len(lines) + (numerical_rank(both) if len(both) else 0)
