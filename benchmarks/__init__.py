"""Benchmarks: cvxnn and its peers on the same data, side by side; see README.md in this folder."""
