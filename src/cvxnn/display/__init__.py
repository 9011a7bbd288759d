"""Pictures: data that are computed once, kept apart from the drawing (scikit-learn's Display convention).

Each display is built by a class method named after what it takes (``from_problem``, ``from_solution``,
``from_estimator``, ``from_network``, ``from_networks``, ``from_path``, ``from_set``, ``from_rows``, ``from_spline``,
``from_dynamics``, ...), keeps its data as attributes, and draws by ``.plot(ax=None)``, which sets ``ax_`` and
``figure_`` and returns the display; :class:`ProgressDisplay` shows a solve while it runs. Drawing needs matplotlib
(``pip install 'cvxnn[plot]'``), building does not. An object has the same colour in all pictures, see :data:`COLOURS`.
"""

from __future__ import annotations

from cvxnn.display._style import COLOURS as COLOURS
from cvxnn.display.arrangement import ArrangementDisplay as ArrangementDisplay
from cvxnn.display.dynamics import DynamicsDisplay as DynamicsDisplay
from cvxnn.display.gap import GapDisplay as GapDisplay
from cvxnn.display.landscape import LandscapeDisplay as LandscapeDisplay
from cvxnn.display.optimal_set import OptimalSetDisplay as OptimalSetDisplay
from cvxnn.display.path import PathDisplay as PathDisplay
from cvxnn.display.progress import ProgressDisplay as ProgressDisplay
from cvxnn.display.regularization_path import RegularizationPathDisplay as RegularizationPathDisplay
from cvxnn.display.spline import SplineDisplay as SplineDisplay
from cvxnn.display.staircase import StaircaseDisplay as StaircaseDisplay
from cvxnn.display.stationarity import StationarityDisplay as StationarityDisplay
from cvxnn.display.two_neurons import TwoNeuronDisplay as TwoNeuronDisplay

__all__ = [
    "COLOURS",
    "ArrangementDisplay",
    "DynamicsDisplay",
    "GapDisplay",
    "LandscapeDisplay",
    "OptimalSetDisplay",
    "PathDisplay",
    "ProgressDisplay",
    "RegularizationPathDisplay",
    "SplineDisplay",
    "StaircaseDisplay",
    "StationarityDisplay",
    "TwoNeuronDisplay",
]
