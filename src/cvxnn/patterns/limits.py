"""Limits on the number of patterns, the memory and the time of exact enumeration."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from cvxnn._validation import as_number

DEFAULT_MAX_PATTERNS = 2_000_000
DEFAULT_MAX_MEMORY = 2 * 2**30

_SECONDS_PER_PATTERN = 2e-7  # low estimates for data in general position
_SECONDS_PER_BIT = 1.5e-9


class PatternLimitError(ValueError):
    """Exact enumeration would exceed a limit on patterns, memory or time; the message says what to do."""


@dataclass(frozen=True)
class Limits:
    """Accepted cost of an exact enumeration; the clock starts when the limits are made."""

    max_patterns: float
    max_memory: float
    time_limit: float | None
    started: float

    @classmethod
    def start(cls, max_patterns: float | None, max_memory: float | None, time_limit: float | None) -> Limits:
        """Validate the limits (None: no limit) and start the clock."""
        return cls(
            math.inf if max_patterns is None else as_number(max_patterns, "max_patterns", minimum=1),
            math.inf if max_memory is None else as_number(max_memory, "max_memory", minimum=0, inclusive=False),
            None if time_limit is None else as_number(time_limit, "time_limit", minimum=0, inclusive=False),
            time.perf_counter(),
        )

    def check_size(self, count: int, n_samples: int, n_features: int) -> None:
        """Refuse, before any work, when ``count`` patterns would exceed a limit.

        Raises
        ------
        PatternLimitError
            When the count, its memory or a low estimate of its time is above the limit.
        """
        advice = "or use sample_patterns"
        if count > self.max_patterns:
            raise PatternLimitError(
                f"X has up to {format_count(count)} activation patterns, more than max_patterns="
                f"{format_count(int(self.max_patterns))}; raise max_patterns {advice}."
            )
        memory = count * (-(-n_samples // 8) + 8 * n_features)
        if memory > self.max_memory:
            raise PatternLimitError(
                f"X has up to {format_count(count)} activation patterns, which take {_format_bytes(memory)}, "
                f"more than max_memory={_format_bytes(self.max_memory)}; raise max_memory {advice}."
            )
        seconds = count * (_SECONDS_PER_PATTERN + n_samples * _SECONDS_PER_BIT)
        if self.time_limit is not None and seconds > self.time_limit:
            raise PatternLimitError(
                f"X has up to {format_count(count)} activation patterns, which take about {seconds:.2g} s, "
                f"more than time_limit={self.time_limit:g} s; raise time_limit {advice}."
            )

    def check_time(self) -> None:
        """Stop the work when the time is over.

        Raises
        ------
        PatternLimitError
            When more than ``time_limit`` seconds have passed since the start.
        """
        if self.time_limit is not None and time.perf_counter() - self.started > self.time_limit:
            raise PatternLimitError(
                f"The enumeration was stopped after time_limit={self.time_limit:g} s; raise time_limit "
                "or use sample_patterns."
            )


def format_count(count: int) -> str:
    """Digits with separators, or the power of ten of a number too long to read."""
    return f"{count:,}" if count < 10**15 else f"about 10^{math.floor(count.bit_length() * math.log10(2))}"


def _format_bytes(size: float) -> str:
    if size < 2**20:
        return f"{size / 2**10:.3g} KiB"
    if size < 2**30:
        return f"{size / 2**20:.3g} MiB"
    return f"{size / 2**30:.3g} GiB" if size < 2**50 else f"{size / 2**50:.1e} PiB"
