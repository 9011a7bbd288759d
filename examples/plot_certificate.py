r"""
Train, certify, and watch the proof close
=========================================

A two-layer ReLU network is trained on a small table. The result carries a lower bound that holds for networks of every
width, so that the distance from the best network of all is known, not guessed. A network trained by gradient descent
is then judged by the same bound.
"""

# %%
# The problem
# -----------
#
# Body mass index and a blood serum value of 120 patients predict how their diabetes progresses. Features and target
# are standardised; a column of ones is the bias. The objective is
#
# .. math:: \tfrac12 \|f(X) - y\|^2 + \tfrac{\beta}{2} (\|W\|_F^2 + \|a\|^2) .

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from cvxnn import Problem, landscape, solve
from cvxnn.display import COLOURS, GapDisplay

table, progress = (array[:120] for array in load_diabetes(return_X_y=True))
table = (table - table.mean(axis=0)) / table.std(axis=0)
y = (progress - progress.mean()) / progress.std()
problem = Problem(np.column_stack([table[:, [2, 8]], np.ones(len(y))]), y, beta=2.0)

# %%
# Train
# -----
#
# No learning rate, no random restarts. The objective and the lower bound agree to the tolerance.

solution = solve(problem)
print(solution.status.value, "with", solution.network.width, "neurons")
print(f"{solution.objective:.6f} >= optimum >= {solution.lower_bound:.6f}")

# %%
# Judge a network from elsewhere
# ------------------------------
#
# Gradient descent on eight neurons from a random start, with its objective on record.

run = landscape.dynamics(problem, width=8, scale=0.3, steps=2000, step_size=5e-4, record=20)
verdict = landscape.certify(problem, run.final)
print(verdict.verdict)
print(f"{verdict.objective:.4f} >= best network of any width >= {verdict.lower_bound:.4f}")

# %%
# Without the bound one would see a course that has become flat, and could not tell how far it is from the best network
# of all. With it, the part of the objective that is left to gain is known at every step.

figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
ax.semilogy(
    run.steps, 1.0 - solution.lower_bound / run.objective, color=COLOURS["descent"], label="gradient descent, 8 neurons"
)
ax.axhline(solution.gap, color=COLOURS["optimum"], linestyle="--", label="the network of solve")
ax.set(xlabel="step of gradient descent", ylabel="(objective - bound) / objective", ylim=(1e-13, 2))
ax.set_title("What is left to gain, for networks of every width")
ax.legend()
ax.grid(alpha=0.3)

# %%
# Three verdicts are possible: proved best, beaten (then ``verdict.better`` is a better network), or not decided within
# the time limit; the bound holds in every case. From the network of gradient descent a path leads down to the better
# one, along which the objective never rises.

path = landscape.descent_path(problem, run.final, optimum=verdict.better)
values = path.objectives(200)
print(f"path of width {path.width}: {values[0]:.4f} -> {values[-1]:.4f}, largest rise {path.max_rise(200):.1e}")

# %%
# More columns
# ------------
#
# With all ten columns the activation patterns are too many to be searched. The bound then holds among the patterns in
# use, and is not called global. The course of the solve at two weight decays: the best network is found long before the
# solve can tell that it is, and the gap closes with the last patterns that are missing.

X = np.column_stack([table, np.ones(len(y))])
larger = {beta: solve(Problem(X, y, beta=beta), tol=1e-4) for beta in (10.0, 5.0)}
ax = None
for beta, found in larger.items():
    print(f"beta {beta:g}: {found.status.value} in scope {found.scope}, {found.network.width} neurons")
    ax = GapDisplay.from_solution(found, name=f"beta {beta:g}").plot(ax).ax_

# %%
# The same course as objective and bound.

GapDisplay.from_solution(larger[5.0]).plot(values="objective")
plt.show()
