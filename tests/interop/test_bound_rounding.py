"""Bounds in the units of another training are rounded down."""

from fractions import Fraction

from cvxnn.interop import judge, torch_objective
from cvxnn.interop.two_layer import TwoLayerWeights


def test_training_bound_is_below_the_exact_quotient():
    for n in (3, 7, 11):
        X, y = [[float(i), 1.0 / (i + 1)] for i in range(n)], [float(i % 2) for i in range(n)]
        weights = TwoLayerWeights([[1.0, 0.5]], [1.0], hidden_bias=[0.0], output_bias=0.5)
        judged = judge(weights, X, y, torch_objective(n, weight_decay=0.3, hidden_bias_decay=0.1))
        for bound in (0.1, 1.0 / 3.0, 0.7):
            assert Fraction(judged.training_bound(bound)) < Fraction(bound) / Fraction(judged.scale)
