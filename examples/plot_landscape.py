"""
Why training is convex in disguise
==================================

Two ReLU neurons on two points: the objective is not convex, but on each region of fixed activation patterns it is the
objective of a convex program. Gradient descent ends in the optimum of the region where it starts to settle; the convex
programs, taken together, tell which of these is the best network of all. Then the same on a plane through three
networks that are too large to be drawn otherwise.
"""

# %%
# Two neurons on two points
# -------------------------
#
# The output weights are positive, and each neuron is scaled so that :math:`|w_i| = |a_i|`. What is left are two
# numbers, :math:`z_i = |a_i| w_i`. A neuron with z > 0 is active on the point with x > 0 only, one with z < 0 on the
# other.

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.display import LandscapeDisplay, TwoNeuronDisplay

points = Problem([[-1.0], [2.0]], [1.0, 2.0], beta=0.1)


def course(problem: Problem, start: ReLUNetwork, steps: int) -> list[ReLUNetwork]:
    """Networks of full-batch gradient descent on all weights."""
    run = landscape.dynamics(problem, start, steps=steps, step_size=0.02, record=steps // 200)
    return [run.network(record) for record in range(len(run))]


starts = {"descent from both neurons at x > 0": (0.9, 1.2), "descent from one neuron at each side": (-0.2, 0.3)}
paths = {}
for name, z in starts.items():
    root = np.sqrt(np.abs(z))
    start = ReLUNetwork((np.sign(z) * root)[:, None], root)
    paths[name] = course(points, start, steps=600)

display = TwoNeuronDisplay.from_problem(points, paths=paths).plot()

# %%
# Each thick line is a valley of local minima: both neurons are active on the same point, and only the sum of their
# slopes counts. At its ends one neuron is zero, and from there the objective falls into the next region: that is how a
# path that never rises leaves the valley.

for region in display.regions:
    print(region.cells, f"optimum {region.objective:.6f}", "local minimum" if region.is_minimum else "")
print(f"proved lower bound for every width {display.lower_bound:.6f}")
display.plot(three=True)

# %%
# The functions at these optima. In a valley both neurons serve one point, and the other point is missed.

display.plot_fits()

# %%
# A plane through three networks
# ------------------------------
#
# Two starts of gradient descent, six weights each. One course ends in a strict local minimum, 14 % above the optimum;
# the plane goes through both ends and the first start, and both courses are seen in projection onto it. Distances in
# the picture depend on the order of the neurons, which here is that of the starts; ``match=True`` would bring the
# neurons of each network into the order that comes closest to the first.

X = [[0.4, -0.1], [-2.3, 1.0], [-1.4, 0.7], [0.4, 0.6], [0.5, 0.7], [0.6, 0.7]]
problem = Problem(X, [0.0, 1.4, 0.9, 0.2, 0.2, 0.1], beta=0.2)
proof = solve(problem, tol=1e-9)
stuck = course(problem, ReLUNetwork([[0.9, 0.1], [-0.7, -0.9]], [0.5, 0.2]), steps=4000)
found = course(problem, ReLUNetwork([[0.4, 1.0], [-0.1, 1.4]], [0.7, 0.4]), steps=4000)
plane = LandscapeDisplay.from_networks(
    problem,
    stuck[-1],
    found[-1],
    stuck[0],
    names=("end of descent 1", "end of descent 2", "start of descent 1"),
    paths={"descent 1": stuck, "descent 2": found},
    lower_bound=proof.global_lower_bound,
)
plane.plot()

# %%
# The same in three dimensions. Courses beside the plane stand at their own objective, not at that of the plane.

plane.plot(three=True)
plt.show()
