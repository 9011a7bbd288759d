"""Settings of all tests.

Hypothesis draws the same examples in every run, so that a failure is due to the code. Tests that interrupt a solve need
a signal that interrupts: a shell that starts the tests in the background has them, and their children, ignore it.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
