"""Continuous curves of networks of one width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, curve, figure
from cvxnn._validation import as_count, as_float_array
from cvxnn.landscape._pieces import piece_length
from cvxnn.networks import ReLUNetwork

if TYPE_CHECKING:
    from cvxnn.landscape._pieces import Piece
    from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["NetworkPath", "PathError"]

_BLOCK_ENTRIES = 2_000_000
_PROFILE = 100
_SHORTEST_SHARE = 0.2
"""A piece gets at least this share of the time that an average piece gets, so that breakpoints stay apart."""


class PathError(ValueError):
    """No path was found; the message names the obstruction.

    Attributes
    ----------
    network : ReLUNetwork or None
        Network at which a descent got stuck, where that is the obstruction.
    """

    def __init__(self, message: str, network: ReLUNetwork | None = None) -> None:
        self.network = network
        super().__init__(message)


@dataclass(frozen=True, eq=False)
class NetworkPath:
    """Continuous path of networks of one width, as found by :func:`descent_path` or :func:`connect`.

    Calling it with a number t in [0, 1] gives the network at time t. The time runs at about constant speed in the space
    of all weights.

    Attributes
    ----------
    problem : Problem
        The problem whose objective the path is about.
    start, end : ReLUNetwork
        Networks at t = 0 and t = 1, to the last bit.
    pieces : tuple
        Smooth pieces, one after the other.
    breakpoints : ndarray (k + 1,)
        Increasing times at which the k pieces meet, 0 and 1 included.
    lower_bound : float
        Proved lower bound of the objective over networks of every width; minus infinity where none was computed.
    target_is_global : bool
        Whether that bound proves the end of the path to be a global optimum (to the tolerance asked for). False says
        that this was not proved: the path then leads to the best network known.

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> from cvxnn.landscape.descent_path import descent_path
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1)
    >>> start = ReLUNetwork([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.5, 0.5]], [1.0, -1.0, 0.5, 1.0])
    >>> path = descent_path(problem, start)
    >>> path.width, round(path(0.0).objective(problem), 6), round(path(1.0).objective(problem), 6)
    (4, 1.7875, 0.185)
    >>> bool(path.max_rise() <= 1e-12)
    True
    """

    problem: Problem
    start: ReLUNetwork
    end: ReLUNetwork
    pieces: tuple[Piece, ...]
    breakpoints: FloatArray
    lower_bound: float
    target_is_global: bool

    @property
    def width(self) -> int:
        """Number of neurons of every network on the path."""
        return self.start.width

    @property
    def stages(self) -> tuple[str, ...]:
        """Name of the step behind each piece, such as "balance", "optimise masses" or "insert neurons"."""
        return tuple(piece.stage for piece in self.pieces)

    def __repr__(self) -> str:
        """Sizes and stages on one line."""
        return f"NetworkPath(width={self.width}, pieces={len(self.pieces)}, stages={list(dict.fromkeys(self.stages))})"

    def _repr_html_(self) -> str:
        """Table for notebooks, with the profile of the objective along the path."""
        values = self.objectives(_PROFILE)
        rows = [
            ("width", self.width),
            ("pieces", len(self.pieces)),
            ("stages", ", ".join(dict.fromkeys(self.stages))),
            ("objective at the start", figure(values[0])),
            ("objective at the end", figure(values[-1])),
        ]
        if self.lower_bound > -np.inf:
            rows.append(("lower bound for every network", figure(self.lower_bound)))
        note = "The end is proved to be a global optimum." if self.target_is_global else ""
        return card("Network path", rows, note=note, picture=curve(values, "objective along the path"))

    def __call__(self, t: float) -> ReLUNetwork:
        """Network at time t.

        Raises
        ------
        ValueError
            If t is not a number between 0 and 1.
        """
        W, a = self.weights([t])
        return ReLUNetwork(W[0], a[0])

    def weights(self, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Weights ``(B, m, d)`` and ``(B, m)`` of the networks at B times.

        Raises
        ------
        ValueError
            If a time is not a number between 0 and 1.
        """
        t = self._times(times)
        W = np.zeros((len(t), self.width, self.start.n_features))
        a = np.zeros((len(t), self.width))
        for rows, active, W_part, a_part in self._blocks(t):
            W[rows[:, None], active], a[rows[:, None], active] = W_part, a_part
        return W, a

    def objectives(self, num: int = 200) -> FloatArray:
        """Objective at ``num`` evenly spaced times from 0 to 1, from the weights there, ``(num,)``."""
        return self.objectives_at(np.linspace(0.0, 1.0, as_count(num, "num")))

    def objectives_at(self, times: npt.ArrayLike) -> FloatArray:
        """Objective at the given times, from the weights there, ``(B,)``."""
        t = self._times(times)
        out = np.empty(len(t))
        X, beta = self.problem.X, self.problem.beta
        for rows, _, W, a in self._blocks(t):
            outputs = (W.reshape(-1, W.shape[2]) @ X.T).reshape(len(rows), -1, len(X))
            np.maximum(outputs, 0.0, out=outputs)
            fits = np.matmul(a[:, None, :], outputs)[:, 0, :]
            penalties = 0.5 * beta * (np.sum(W * W, axis=(1, 2)) + np.sum(a * a, axis=1))
            out[rows] = penalties + [self.problem.loss_value(fit) for fit in fits]
        return out

    def max_rise(self, num: int = 1000) -> float:
        """Largest relative rise of the objective from one of ``num`` evenly spaced times to any later one."""
        values = self.objectives(num)
        lowest = np.minimum.accumulate(values)
        return float(np.max((values - lowest) / np.maximum(np.abs(lowest), np.finfo(np.float64).tiny)))

    def _times(self, times: npt.ArrayLike) -> FloatArray:
        t = as_float_array(times, "t", ndim=1)
        outside = t[(t < 0.0) | (t > 1.0)]
        if outside.size:
            raise ValueError(f"t must lie between 0 and 1; got {outside[0]:g}.")
        return t

    def _blocks(
        self, t: FloatArray
    ) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray, FloatArray]]:
        """Yield times that lie on one piece: their positions, the active neurons, and the weights of these."""
        everyone = np.arange(self.width)
        for at, network in ((0.0, self.start), (1.0, self.end)):
            rows = np.flatnonzero(t == at)
            if rows.size:
                shape = (len(rows), *network.W.shape)
                yield rows, everyone, np.broadcast_to(network.W, shape), np.broadcast_to(network.a, shape[:2])
        inner = np.flatnonzero((t > 0.0) & (t < 1.0))
        home = np.searchsorted(self.breakpoints, t[inner], side="right") - 1
        n, d = self.problem.X.shape
        for k in np.unique(home):
            rows = inner[home == k]
            piece = self.pieces[k]
            theta = (t[rows] - self.breakpoints[k]) / (self.breakpoints[k + 1] - self.breakpoints[k])
            size = max(_BLOCK_ENTRIES // max(len(piece.active) * (n + d), 1), 1)
            for first in range(0, len(rows), size):
                W, a = piece.weights(np.clip(theta[first : first + size], 0.0, 1.0))
                yield rows[first : first + size], piece.active, W, a


def assemble_path(
    problem: Problem,
    start: ReLUNetwork,
    end: ReLUNetwork,
    pieces: Sequence[Piece],
    *,
    lower_bound: float = -np.inf,
    target_is_global: bool = False,
) -> NetworkPath:
    """Join pieces to a path; each gets time in proportion to its length. ``pieces`` must not be empty."""
    lengths = np.array([piece_length(piece) for piece in pieces])
    total = float(lengths.sum())
    shares = np.maximum(lengths / total, _SHORTEST_SHARE / len(pieces)) if total > 0.0 else np.ones(len(pieces))
    breakpoints = np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
    breakpoints[-1] = 1.0
    breakpoints.flags.writeable = False
    return NetworkPath(problem, start, end, tuple(pieces), breakpoints, lower_bound, target_is_global)
