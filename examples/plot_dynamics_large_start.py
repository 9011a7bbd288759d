"""
A thousand neurons from a large start
=====================================

From large random weights the neurons hardly move: each of them has to change very little for the network to change a
lot. Their activation patterns stay as they were ("lazy" training), and the run is nearly that of a convex program, the
one on the patterns of the start.

``python examples/plot_dynamics_large_start.py FOLDER`` also writes a film and an interactive page there.
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
# Weights of size one, in pairs of opposite output so that the network starts as the zero function. The step size is one
# over the largest curvature at the start.
run = dynamics(problem, width=1000, scale=1.0, paired=True, steps=1500, record=10, optima_every=10)
display = DynamicsDisplay.from_dynamics(run).plot()

# %%
# The loss vanishes while less than one activation in a thousand changes, and the patterns are all still there.
print(f"loss {run.loss[0]:.3f} -> {run.loss[-1]:.1e}")
print(f"patterns {run.n_patterns[0]} -> {run.n_patterns[-1]}, activations changed at most {run.changed.max():.3%}")

# %%
# What has moved? The masses changed by a small part of what they were, and so did the inputs at which neurons switch.
mass = run.norms * np.abs(run.outputs)
print(
    f"masses of the neurons moved by {np.linalg.norm(mass[-1] - mass[0]) / np.linalg.norm(mass[0]):.1%} of their norm"
)
moved = np.abs(run.activation_points[-1] - run.activation_points[0])
print(f"half of the neurons switch within {np.median(moved):.1e} of where they did")

# %%
# The objective is far above the convex optimum of these patterns all the same: it is nearly all weight decay, of the
# large weights that the start has brought and that no sample needs. Weight decay removes them, but slowly.
print(f"objective {run.objective[-1]:.3f}, of which weight decay {run.objective[-1] - run.loss[-1]:.3f}")
print(f"convex optimum of the patterns {run.trajectory.optima[-1]:.5f}")

# %%
# The same as a film and as a page with a slider.
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    print(display.save(folder / "large_start.gif"))
    print(display.to_html(folder / "large_start.html", title="1,000 neurons from a large start"))
