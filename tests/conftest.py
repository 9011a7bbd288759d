"""Settings of all tests: hypothesis draws the same examples in every run, so that a run says something about the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
