"""
Training against the convex optimum, step by step
=================================================

At each step the activation patterns of the neurons define a convex program, whose optimum is the best that the network
could reach without a new pattern. It tells apart two reasons why training is slow or stuck: the run has not yet
reached the optimum of its patterns, or the patterns themselves have become poor.

``python examples/plot_dynamics_optimum.py FOLDER`` also writes a film and an interactive page there.
"""

# %%
# A bump on eight samples. Its best network, of any width, has five neurons.
import sys
from pathlib import Path

import numpy as np

from cvxnn import Problem, solve
from cvxnn.display import DynamicsDisplay
from cvxnn.landscape import dynamics

x = np.array([-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, 1.0])
problem = Problem(np.column_stack([x, np.ones(len(x))]), np.maximum(0.0, 0.8 - 2.0 * np.abs(x)), beta=1e-3)
best = solve(problem)
print(f"proved optimum {best.lower_bound:.5f} with {best.network.width} neurons")

# %%
# From a small start, 100 neurons lose the patterns that the bump needs. The run then reaches the convex optimum of
# the patterns that are left, to many digits, and stays there: a local minimum more than ten times above the optimum.
stuck = dynamics(problem, width=100, scale=1e-3, steps=6000, step_size=0.02, record=50, optima_every=1)
display = DynamicsDisplay.from_dynamics(stuck).plot()
print(f"small start: objective {stuck.objective[-1]:.5f}, optimum of its patterns {stuck.trajectory.optima[-1]:.5f}")
print(f"  patterns {stuck.n_patterns[0]} -> {stuck.n_patterns[-1]}")

# %%
# From weights of middle size the patterns of the best network are still there at the end: the objective goes on
# falling towards their optimum, which is that of all networks.
free = dynamics(problem, width=100, scale=0.2, steps=6000, step_size=0.02, record=50, optima_every=1)
DynamicsDisplay.from_dynamics(free).plot()
print(f"middle start: objective {free.objective[-1]:.5f}, optimum of its patterns {free.trajectory.optima[-1]:.5f}")
print(f"  patterns {free.n_patterns[0]} -> {free.n_patterns[-1]}")

# %%
# The same as a film and as a page with a slider.
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    print(display.save(folder / "optimum.gif"))
    print(display.to_html(folder / "optimum.html", title="Training against the convex optimum"))
