"""
A thousand neurons from a small start
=====================================

The same data and the same width as from a large start, but tiny random weights. The neurons first turn, all towards a
few directions, while the network is still next to zero; then they grow, and few activation patterns are left.

``python examples/plot_dynamics_small_start.py FOLDER`` also writes a film and an interactive page there.
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
# Weights of size 1/10000. At the step where the loss has fallen by one per cent, nearly all the turning is done: the
# neurons stand at few places, and their masses are still next to zero.
run = dynamics(problem, width=1000, scale=1e-4, steps=1000, step_size=0.02, record=10, optima_every=1)
growth = int(np.flatnonzero(run.loss < 0.99 * run.loss[0])[0])
display = DynamicsDisplay.from_dynamics(run).plot(record=growth)
print(f"loss down by one per cent at step {run.steps[growth]}:")
print(f"  activations changed by then {run.changed[growth]:.1%}, at the end {run.changed[-1]:.1%}")

# %%
# And at the end of the run: the masses have grown where the neurons stood.
display.plot()
print(f"patterns {run.n_patterns[0]} at the start, {run.n_patterns[growth]} at that step, {run.n_patterns[-1]} at last")

# %%
# What the lost patterns cost: the convex program on the patterns that are left, against that on those of the start.
print(f"optimum of the patterns: {run.trajectory.optima[0]:.5f} at the start, {run.trajectory.optima[-1]:.5f} at last")

# %%
# The same as a film and as a page with a slider.
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    print(display.save(folder / "small_start.gif"))
    print(display.to_html(folder / "small_start.html", title="1,000 neurons from a small start"))
