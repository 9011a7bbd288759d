"""
How many activation patterns a network has
==========================================

A convex program with *all* activation patterns of the data has the best network of every width as its optimum. A
network that is trained has the patterns of its neurons only. Two things can be counted: how many patterns random
neurons bring along, and how many are left when training goes on.
"""

# %%
# The patterns of the data
# ------------------------
#
# Eight samples on a line, with a column of ones for the bias, have 16 patterns, that of no active sample included.
import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, patterns, solve
from cvxnn.display import COLOURS
from cvxnn.landscape import dynamics, initial_network, trajectory_optima

x = np.array([-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8, 1.0])
problem = Problem(np.column_stack([x, np.ones(len(x))]), np.sin(3.0 * x), beta=1e-3)
total = len(patterns.enumerate_patterns(problem.X))
best = solve(problem)
print(f"{total} patterns; proved optimum {best.lower_bound:.5f}, by a network of {best.network.width} neurons")

# %%
# Random neurons
# --------------
#
# Networks of random weights have more patterns the wider they are, and none that is active is missing from a few
# hundred neurons on. The optimum of the convex program on the patterns at the start falls with their number. It is
# that of all networks as soon as the few patterns of a best network are among them. Six starts of each width.

widths = 2 ** np.arange(1, 10)
starts = [[initial_network(problem, width=int(m), random_state=seed) for seed in range(6)] for m in widths]
steps = [list(trajectory_optima(problem, networks)) for networks in starts]
counts = np.array([[len(step.patterns) for step in row] for row in steps])
optima = np.array([[step.optimum for step in row] for row in steps])
for m, count, optimum in zip(widths, counts, optima, strict=True):
    print(
        f"{m:4d} neurons: {count.mean():4.1f} patterns, optimum {np.median(optimum) / best.lower_bound:6.2f} times best"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
left.plot(widths, counts, "o", color=COLOURS["network"], alpha=0.4, markersize=5)
left.plot(widths, counts.mean(axis=1), "-", color=COLOURS["network"], label="mean of six random networks")
left.axhline(total - 1, color=COLOURS["bound"], linestyle=":", label="all that are active on some sample")
left.set(xlabel="width (neurons)", ylabel="distinct activation patterns", ylim=(0, total + 1))
right.plot(widths, optima, "s", color=COLOURS["optimum"], alpha=0.4, markersize=5)
right.plot(widths, np.median(optima, axis=1), "--", color=COLOURS["optimum"], label="convex optimum, median of six")
right.axhline(best.lower_bound, color=COLOURS["bound"], linestyle=":", label="proved bound for every network")
right.set(xlabel="width (neurons)", ylabel="objective (loss and weight decay)", yscale="log")
for ax in (left, right):
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths, [str(m) for m in widths])
    ax.grid(alpha=0.3)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)

# %%
# While training goes on
# ----------------------
#
# From a large start the patterns stay; the smaller the start, the fewer are left, and the higher is the floor under the
# objective that they set.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for scale, style in ((1.0, "-"), (0.1, "--"), (1e-4, ":")):
    size = {"paired": True} if scale == 1.0 else {"step_size": 0.02}
    run = dynamics(problem, width=300, scale=scale, steps=1500, record=30, optima_every=1, **size)
    left.step(run.steps, run.n_patterns, style, where="post", color=COLOURS["network"], label=f"scale {scale:g}")
    chosen = run.steps[run.optimum_records]
    right.step(chosen, run.trajectory.optima, style, where="post", color=COLOURS["optimum"], label=f"scale {scale:g}")
    print(
        f"scale {scale:g}: patterns {run.n_patterns[0]} -> {run.n_patterns[-1]}, "
        f"convex optimum of them {run.trajectory.optima[0]:.4f} -> {run.trajectory.optima[-1]:.4f}"
    )
right.axhline(best.lower_bound, color=COLOURS["bound"], lw=0.8, label="proved bound")
left.set(xlabel="step", ylabel="distinct activation patterns", ylim=(0, total + 1))
right.set(xlabel="step", ylabel="convex optimum of the patterns", yscale="log")
for ax in (left, right):
    ax.grid(alpha=0.3)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, handlelength=3.0)

plt.show()
