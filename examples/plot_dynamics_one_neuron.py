"""
One neuron moves across the data
================================

Gradient descent on a single ReLU neuron, seen through its activation pattern: as long as the neuron crosses no sample
its pattern stays, and the best it can do is the optimum of a convex program. The floor changes at the moment when the
neuron crosses a sample.

``python examples/plot_dynamics_one_neuron.py FOLDER`` also writes a film and an interactive page there.
"""

# %%
# Five samples on a line. A column of ones is the hidden bias, so the neuron ``a (w x + b)_+`` switches at ``-b / w``.
import sys
from pathlib import Path

import numpy as np

from cvxnn import Problem, ReLUNetwork, solve
from cvxnn.display import DynamicsDisplay
from cvxnn.landscape import dynamics

x = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
problem = Problem(np.column_stack([x, np.ones(5)]), [0.0, 0.0, 0.0, 0.4, 1.0], beta=0.01)


def neuron(switch: float, side: float) -> ReLUNetwork:
    """Balanced neuron that switches at an input and is active on one side of it."""
    w = 0.5 * side * np.array([1.0, -switch])
    return ReLUNetwork([w], [np.linalg.norm(w)])


# %%
# The neuron starts far to the left, active on all samples but one, and moves right across two samples.
run = dynamics(problem, neuron(-0.8, 1.0), steps=1600, step_size=0.02, record=8, optima_every=1)
display = DynamicsDisplay.from_dynamics(run).plot()

# %%
# The convex optimum of its pattern falls at each crossing. In the end the run reaches the best network of *every*
# width: for these data one neuron is enough.
crossings = np.flatnonzero(np.diff(run.trajectory.optima) != 0.0) + 1
for record in crossings:
    before, after = run.trajectory.optima[[record - 1, record]]
    place = run.activation_points[record, 0]
    print(f"step {run.steps[record]:4d}: neuron at {place:+.3f}, optimum of its pattern {before:.4f} -> {after:.4f}")
best = solve(problem)
print(f"at the end {run.objective[-1]:.6f}, proved optimum of all widths {best.lower_bound:.6f}")

# %%
# Other targets have several local minima for one neuron. Each run ends at the optimum of *some* pattern, and which one
# depends on the start; the best network of all widths is far better.
hard = Problem(problem.X, [1.0, 0.2, 0.0, 0.3, 0.8], beta=0.01)
print(f"proved optimum of all widths {solve(hard).lower_bound:.4f}")
for switch in (-0.8, 0.2, 0.7):
    for side in (1.0, -1.0):
        end = dynamics(hard, neuron(switch, side), steps=2000, step_size=0.02, record=500, optima_every=1)
        print(
            f"start at {switch:+.1f}, active to the {'right' if side > 0 else 'left'}: ends at "
            f"{end.activation_points[-1, 0]:+.3f} with {end.objective[-1]:.4f}, "
            f"optimum of that pattern {end.trajectory.optima[-1]:.4f}"
        )

# %%
# The same as a film and as a page with a slider.
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    print(display.save(folder / "one_neuron.gif", fps=20.0))
    print(display.to_html(folder / "one_neuron.html", title="One neuron moves across the data"))
