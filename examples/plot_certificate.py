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
# Body mass index and a blood serum value of 442 patients predict how their diabetes progresses. Features and target
# are standardised; a column of ones is the bias. The objective is
#
# .. math:: \tfrac12 \|f(X) - y\|^2 + \tfrac{\beta}{2} (\|W\|_F^2 + \|a\|^2) .

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from cvxnn import Problem, ReLUNetwork, landscape, solve
from cvxnn.display import COLOURS, GapDisplay

X, y = load_diabetes(return_X_y=True)
X = np.column_stack([X[:, [2, 8]] / X[:, [2, 8]].std(axis=0), np.ones(len(X))])
y = (y - y.mean()) / y.std()
problem = Problem(X, y, beta=5.0)

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
# Gradient descent on eight neurons from a random start, with its objective recorded at every step.

rng = np.random.default_rng(0)
W, a = 0.3 * rng.standard_normal((8, 3)), 0.3 * rng.standard_normal(8)
course = []
for _ in range(2000):
    hidden = X @ W.T
    course.append(ReLUNetwork(W, a).objective(problem))
    slope = np.maximum(hidden, 0.0) @ a - y
    step_W = ((hidden > 0) * np.outer(slope, a)).T @ X + problem.beta * W
    step_a = np.maximum(hidden, 0.0).T @ slope + problem.beta * a
    W, a = W - 5e-4 * step_W, a - 5e-4 * step_a

verdict = landscape.certify(problem, ReLUNetwork(W, a))
print(verdict.verdict)
print(f"{verdict.objective:.4f} >= best network of any width >= {verdict.lower_bound:.4f}")

# %%
# Without the bound one would see a course that has become flat, and could not tell how far it is from the best network
# of all. With it, the part of the objective that is left to gain is known at every step.

figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
left = 1.0 - solution.lower_bound / np.array(course)
ax.semilogy(left, color=COLOURS["descent"], label="gradient descent, 8 neurons")
ax.axhline(solution.gap, color=COLOURS["optimum"], linestyle="--", label="the network of solve")
ax.set(xlabel="step of gradient descent", ylabel="(objective - bound) / objective", ylim=(1e-13, 2))
ax.set_title("What is left to gain, for networks of every width")
ax.legend()
ax.grid(alpha=0.3)

# %%
# Three verdicts are possible: proved best, beaten (then ``verdict.better`` is a better network), or not decided within
# the time limit; the bound holds in every case. From the network of gradient descent a path leads down to the better
# one, along which the objective never rises.

path = landscape.descent_path(problem, ReLUNetwork(W, a), optimum=verdict.better)
values = path.objectives(200)
print(f"path of width {path.width}: {values[0]:.4f} -> {values[-1]:.4f}, largest rise {path.max_rise(200):.1e}")

# %%
# More columns
# ------------
#
# With all ten columns the activation patterns are too many to be searched. The bound then holds among the patterns in
# use, and is not called global. The course of the solve: how far the best network so far was from that bound.

X, y = load_diabetes(return_X_y=True)
X = np.column_stack([X / X.std(axis=0), np.ones(len(X))])
large = solve(Problem(X, (y - y.mean()) / y.std(), beta=10.0), tol=1e-4)
print(large.status.value, "in scope", large.scope)
GapDisplay.from_solution(large).plot()
