"""The landscape of the training problem: judge a network, list the best ones, and walk between them."""

from __future__ import annotations

from cvxnn.landscape._certify_relatives import RelativeCertificate as RelativeCertificate
from cvxnn.landscape.certify import NetworkCertificate as NetworkCertificate
from cvxnn.landscape.certify import certify as certify
from cvxnn.landscape.connect import connect as connect
from cvxnn.landscape.descent_path import descent_path as descent_path
from cvxnn.landscape.dynamics import Dynamics as Dynamics
from cvxnn.landscape.dynamics import dynamics as dynamics
from cvxnn.landscape.dynamics import initial_network as initial_network
from cvxnn.landscape.effective_dimension import effective_dimension as effective_dimension
from cvxnn.landscape.interpolation import InterpolationError as InterpolationError
from cvxnn.landscape.interpolation import Interpolators as Interpolators
from cvxnn.landscape.interpolation import nonunique_interpolators as nonunique_interpolators
from cvxnn.landscape.network_path import NetworkPath as NetworkPath
from cvxnn.landscape.network_path import PathError as PathError
from cvxnn.landscape.optimal_set import OptimalSet as OptimalSet
from cvxnn.landscape.optimal_set import OptimalSetError as OptimalSetError
from cvxnn.landscape.optimal_set import ParallelOptimalSet as ParallelOptimalSet
from cvxnn.landscape.optimal_set import optimal_set as optimal_set
from cvxnn.landscape.prune import prune as prune
from cvxnn.landscape.regularization_path import BetaMax as BetaMax
from cvxnn.landscape.regularization_path import RegularizationPath as RegularizationPath
from cvxnn.landscape.regularization_path import beta_max as beta_max
from cvxnn.landscape.regularization_path import regularization_path as regularization_path
from cvxnn.landscape.staircase import Staircase as Staircase
from cvxnn.landscape.staircase import StaircaseRow as StaircaseRow
from cvxnn.landscape.staircase import Transition as Transition
from cvxnn.landscape.staircase import staircase as staircase
from cvxnn.landscape.stationarity import Stationarity as Stationarity
from cvxnn.landscape.stationarity import stationarity as stationarity
from cvxnn.landscape.trajectory import Trajectory as Trajectory
from cvxnn.landscape.trajectory import trajectory_optima as trajectory_optima
