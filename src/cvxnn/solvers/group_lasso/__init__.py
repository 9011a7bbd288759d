"""Group lasso over activation patterns: methods for few and many samples, one for where they stall, the choice."""

from cvxnn.solvers.group_lasso._common import GroupLassoResult
from cvxnn.solvers.group_lasso.dispatch import ROWS, solve_group_lasso

__all__ = ["ROWS", "GroupLassoResult", "solve_group_lasso"]
