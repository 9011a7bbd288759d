"""Group lasso over activation patterns: two methods, for few and for many samples, and the choice between them."""

from cvxnn.solvers.group_lasso._common import GroupLassoResult
from cvxnn.solvers.group_lasso.dispatch import ROWS, solve_group_lasso

__all__ = ["ROWS", "GroupLassoResult", "solve_group_lasso"]
