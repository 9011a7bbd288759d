"""
Paths that never rise
=====================

A network that is wide enough can be led down to a global optimum without ever rising, and any two optima of such a
width are joined by a path on which the objective is constant. Here are both kinds, step by step.
"""

# %%
# From a bad start to the optimum
# -------------------------------
#
# The network has one neuron more than the effective dimension of the data, with random weights. The path first balances
# the neurons, then moves their masses, in which the objective is convex, and lets neurons of an optimum in.

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.display import LandscapeDisplay, PathDisplay

x = np.linspace(-2.0, 2.0, 9)
problem = Problem(np.c_[x, np.ones(9)], np.abs(np.abs(x) - 1.0), beta=0.05)
width = landscape.effective_dimension(problem.X) + 1
rng = np.random.default_rng(3)
start = ReLUNetwork(rng.normal(size=(width, 2)), rng.normal(size=width))
best = solve(problem, tol=1e-11)
path = landscape.descent_path(problem, start, optimum=best)
print(f"width {width}: objective {start.objective(problem):.4f} -> {path(1.0).objective(problem):.6f}")
print(f"proved lower bound {path.lower_bound:.6f}, largest rise on the way {path.max_rise():.1e}")

PathDisplay.from_path(path).plot(log=True)

# %%
# The same path seen from above
# -----------------------------
#
# The plane goes through the start, the end, and the network at which neurons of the optimum begin to enter. The first
# axis is the straight line from start to end: along it, the objective rises again on the way.

turn = path(path.breakpoints[2])
plane = LandscapeDisplay.from_networks(
    problem,
    start,
    path.end,
    turn,
    names=("start", "end", "neurons enter"),
    paths={"descent path": path},
    lower_bound=path.lower_bound,
)
plane.plot()
line = np.linspace(0.0, plane.points[1].position[0], 200)
straight = plane.plane.objectives(np.c_[line, np.zeros(200)])
print(f"largest rise on the straight line {np.max(straight - np.minimum.accumulate(straight)):.3f}")

# %%
# Between two optima
# ------------------
#
# Six points on a regular hexagon have several best networks of width 3. With room for more neurons, the masses of one
# flow into those of another, and the objective stays where it is.

angles = np.pi * np.arange(6) / 3.0
hexagon = Problem(np.c_[np.cos(angles), np.sin(angles)], np.ones(6), beta=0.2)
optima = landscape.optimal_set(hexagon)
first, second = (optima.network(masses, width=6) for masses in optima.vertices()[:2])
joined = landscape.connect(hexagon, first, second)
print(f"objectives between {joined.objectives().min():.12f} and {joined.objectives().max():.12f}")

PathDisplay.from_path(joined).plot()
plt.show()
