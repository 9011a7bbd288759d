r"""
One input: networks are linear splines
======================================

The neuron :math:`a (w x + b)_+` bends a fit at its kink :math:`-b/w`, and nowhere else. So a two-layer network of one
input is a linear spline, and weight decay decides where it bends. Two rules for the biases give two answers.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import Problem, solve
from cvxnn.display import SplineDisplay
from cvxnn.splines import fit_spline

rng = np.random.default_rng(3)
x = np.sort(rng.uniform(-3.0, 3.0, 40))
y = np.sin(1.5 * x) + 0.15 * rng.standard_normal(40)

# %%
# Biases that cost nothing: kinks at samples
# ------------------------------------------
#
# Where only the weights decay, the penalty is the sum of all changes of the slope, and some best network bends at
# samples alone (Savarese and others, 2019; Ergen and Pilanci, 2021). The lower bound holds for networks of every width:
# no network of any size has a lower objective.

free = fit_spline(x, y, beta=0.3)
display = SplineDisplay.from_spline(free, x, y).plot()
display.ax_.set_title(f"free biases: {len(display.knots)} kinks, all at samples", pad=24)
print(free)
print("farthest kink from a sample:", max(np.min(np.abs(x - knot)) for knot in display.knots))

# %%
# Biases with weight decay: kinks between samples
# -----------------------------------------------
#
# A column of ones makes the bias one of the weights, which decays, too. At the same beta a best network now bends
# between samples.

problem = Problem(np.c_[x, np.ones_like(x)], y, beta=0.3)
solution = solve(problem)
display = SplineDisplay.from_solution(problem, solution).plot()
between = sum(np.min(np.abs(x - knot)) > 1e-6 for knot in display.knots)
display.ax_.set_title(f"decaying biases: {len(display.knots)} kinks, {between} between samples", pad=24)
print(solution)

# %%
# Weight decay counts kinks
# -------------------------
#
# A large beta leaves a constant, a smaller one a few pieces, and a tiny one lets the spline follow the noise.

figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained", sharey=True)
for ax, beta in zip(axes, (10.0, 1.0, 0.01), strict=True):
    display = SplineDisplay.from_spline(fit_spline(x, y, beta=beta), x, y).plot(ax)
    ax.set_title(f"beta = {beta:g}: {len(display.knots)} kinks", pad=24)
    ax.get_legend().remove()
figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)

plt.show()
