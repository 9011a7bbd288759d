r"""
Activation cells and the neurons that are optimal
=================================================

A neuron :math:`(x^\top u)_+` is on for some samples and off for the others. Which ones is its activation pattern, and
there are only finitely many: each sample cuts the directions u by the line :math:`x_j^\top u = 0`, and a cell between
the cuts has one pattern. The convex program has one block of variables for each cell.

The dual vector :math:`\nu` of the optimum tells where neurons are worth their weight decay. It makes the function
:math:`h(u) = \nu^\top (Xu)_+`, which never exceeds :math:`\beta` in size on unit vectors, and the optimal neurons are
exactly where it touches (Pilanci and Ergen, 2020).
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, solve
from cvxnn.display import ArrangementDisplay

# %%
# Three samples cut the circle into six cells
# -------------------------------------------
#
# The bits around the circle are the patterns: sample 1 first. Opposite cells have opposite patterns. Of the eight
# conceivable patterns of three samples two are missing: no weight vector makes them.

X = np.array([[1.0, 0.2], [0.3, 1.0], [-0.8, 0.7]])
cells = ArrangementDisplay.from_problem(X)
cells.plot()
print(len(cells.patterns), "patterns of", 2 ** len(X))

# %%
# Where neurons are optimal
# -------------------------
#
# With targets there is an optimum. The curve has the radius :math:`|h(u)|/\beta`: it stays inside of the unit circle,
# which proves that no neuron of any direction could improve the network, and touches it where the network has its
# neurons. Blue is for neurons with a positive output weight, orange (dashed) for negative ones.

problem = Problem(X, [1.0, -0.5, 1.2], beta=0.2)
touching = ArrangementDisplay.from_problem(problem)
touching.plot()
network = solve(problem).network
print("optimal directions\n", touching.directions.round(3))
print("neurons found by solve\n", (network.W / np.linalg.norm(network.W, axis=1, keepdims=True)).round(3))

# %%
# More weight decay, fewer neurons
# --------------------------------
#
# At a larger beta fewer neurons pay. Beyond the largest useful one the whole curve is inside of the circle, and the
# network is zero.

figure, axes = plt.subplots(1, 3, figsize=(13, 5.2), layout="constrained")
for ax, beta in zip(axes, (0.1, 0.6, 1.5), strict=True):
    display = ArrangementDisplay.from_problem(Problem(problem.X, problem.y, beta=beta)).plot(ax)
    ax.set_title(f"beta = {beta:g}: {len(display.directions)} optimal directions")
    ax.get_legend().remove()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)

# %%
# Two inputs and a bias: great circles on a sphere
# ------------------------------------------------
#
# With a column of ones the weight vectors have three entries, and their directions fill a sphere, drawn here as a map
# of equal areas with the bias :math:`u_3` up. Each sample is now a great circle. The darker the place, the closer a
# neuron there is to being worth its weight decay; the optimal ones sit on the peaks.

rng = np.random.default_rng(3)
points = rng.standard_normal((7, 2))
sphere = ArrangementDisplay.from_problem(Problem(np.c_[points, np.ones(7)], points[:, 0] ** 2 - points[:, 1], beta=0.3))
sphere.plot()
print(len(sphere.patterns), "cells,", len(sphere.directions), "optimal directions")

plt.show()
