"""Pictures: data that are computed once, kept apart from the drawing (scikit-learn's Display convention).

Each display is built by a class method (``from_problem``, ``from_solution``, ``from_estimator``), keeps its data as
attributes, and draws by ``.plot(ax=None)``, which sets ``ax_`` and ``figure_``. Drawing needs matplotlib
(``pip install 'cvxnn[plot]'``), building does not. An object has the same colour in all pictures, see :data:`COLOURS`.
"""

from __future__ import annotations

from cvxnn.display._style import COLOURS as COLOURS
from cvxnn.display.dynamics import DynamicsDisplay as DynamicsDisplay
from cvxnn.display.gap import GapDisplay as GapDisplay

__all__ = ["COLOURS", "DynamicsDisplay", "GapDisplay"]
