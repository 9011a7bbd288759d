"""Convex programs: one file per theorem, network to program and back."""
