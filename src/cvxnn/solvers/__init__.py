"""Solvers: one algorithm per file; they know blocks, norms and cones, not architectures."""
