r"""
All optimal networks of a problem
=================================

An optimal network is often not unique. All of them put masses on finitely many optimal directions, and the possible
masses form a polytope, whose vertices are the networks from which no neuron can be taken away (Kim, Mishkin and
Pilanci, 2024). Its smallest and largest vertices, m* and M* neurons wide, decide how the optimal networks of each width
hang together. The example has eight samples at the corners of a regular octagon, all with target one.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, landscape
from cvxnn.display import (
    ArrangementDisplay,
    OptimalSetDisplay,
    RegularizationPathDisplay,
    StaircaseDisplay,
    StationarityDisplay,
)

angles = 2.0 * np.pi * np.arange(8) / 8
problem = Problem(np.c_[np.cos(angles), np.sin(angles)], np.ones(8), beta=0.1)
optimal = landscape.optimal_set(problem)
print(optimal)

# %%
# Eight optimal directions
# ------------------------
#
# The dual function touches the circle in as many places as the octagon has corners.

ArrangementDisplay.from_problem(optimal).plot()

# %%
# The polytope of masses
# ----------------------
#
# Every point of it is an optimal network; the numbers at the vertices are widths. It has dimension three, and is seen
# from an angle. The cross marks the network whose masses have the least norm: by symmetry it uses all directions alike.

OptimalSetDisplay.from_set(optimal).plot()
print("masses of least norm:", optimal.min_l2().round(3))

# %%
# The staircase of connectivity
# -----------------------------
#
# With four neurons (m*) there are two optimal networks up to the order of the neurons, and 2 * 4! = 48 points in the
# space of the weights. With five (M*) ten components, with six and more a single one: from there on one can walk from
# any optimal network to any other without leaving the optimum.

stairs = landscape.staircase(optimal)
StaircaseDisplay.from_rows(stairs).plot()
print(stairs)

# %%
# Stationarity of each neuron
# ---------------------------
#
# An optimal network is stationary: the first-order conditions of each neuron hold up to rounding. Turning one neuron by
# a hundredth breaks those of all neurons that share a sample with it.

best = optimal.network(optimal.vertices()[0])
turned = best.W.copy()
turned[0] = [[np.cos(0.01), -np.sin(0.01)], [np.sin(0.01), np.cos(0.01)]] @ turned[0]
figure, axes = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained", sharey=True)
for ax, network in zip(axes, (best, type(best)(turned, best.a)), strict=True):
    StationarityDisplay.from_network(problem, network).plot(ax)
    ax.get_legend().remove()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)

# %%
# Along the weight decay
# ----------------------
#
# With less symmetric targets the optimum is unique, and its neurons come one by one as beta falls.

targets = np.array([1.0, 0.2, 0.8, -0.5, 0.1, -1.0, 0.4, 0.6])
path = landscape.regularization_path(Problem(problem.X, targets), n_betas=16)
RegularizationPathDisplay.from_path(path).plot()
print(path)

plt.show()
