"""
A thousand neurons from a large and from a small start
======================================================

The same data, the same width, the same gradient descent: only the size of the random weights at the start differs.
From a large start the neurons hardly move, and their activation patterns stay ("lazy" training). From a small start
the neurons first turn, all towards a few directions, while the network is still next to zero; then they grow, and few
patterns are left.

``python examples/plot_dynamics_scale.py FOLDER`` also writes films and interactive pages there.
"""

# %%
# Eight samples of a sine.
import sys
from pathlib import Path

import numpy as np

from cvxnn import Problem
from cvxnn.display import DynamicsDisplay
from cvxnn.landscape import dynamics

x = np.array([-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, 1.0])
problem = Problem(np.column_stack([x, np.ones(len(x))]), np.sin(3.0 * x), beta=1e-3)

# %%
# Large start: weights of size one, in pairs of opposite output so that the network starts as the zero function. The
# step size is one over the largest curvature at the start. The loss vanishes while less than one activation in a
# thousand changes.
large = dynamics(problem, width=1000, scale=1.0, paired=True, steps=1500, record=10, optima_every=10)
lazy = DynamicsDisplay.from_dynamics(large).plot()
print(f"loss {large.loss[0]:.3f} -> {large.loss[-1]:.1e}")
print(f"patterns {large.n_patterns[0]} -> {large.n_patterns[-1]}, activations changed {large.changed[-1]:.3%}")

# %%
# Small start: weights of size 1/10000. At the step where the loss has fallen by one per cent, nearly all the turning
# is done.
small = dynamics(problem, width=1000, scale=1e-4, steps=1000, step_size=0.02, record=10, optima_every=1)
growth = int(np.flatnonzero(small.loss < 0.99 * small.loss[0])[0])
aligned = DynamicsDisplay.from_dynamics(small).plot(record=growth)

# %%
# And at the end of the run.
aligned.plot()
print(f"loss down by one per cent at step {small.steps[growth]}:")
print(f"  activations changed by then {small.changed[growth]:.1%}, at the end {small.changed[-1]:.1%}")
print(f"  patterns {small.n_patterns[0]} at the start, {small.n_patterns[growth]} then, {small.n_patterns[-1]} at last")

# %%
# What the lost patterns cost: the convex program on the patterns that are left, against that on those of the start.
print(f"optimum of the patterns: {small.trajectory.optima[0]:.5f} at the start, {small.trajectory.optima[-1]:.5f} now")

# %%
# The same as films and as pages with a slider.
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    for name, display in (("large", lazy), ("small", aligned)):
        print(display.save(folder / f"{name}_start.gif"))
        print(display.to_html(folder / f"{name}_start.html", title=f"1,000 neurons from a {name} start"))
