"""What a handler returns or raises when it wants to be run again later."""

from __future__ import annotations

import math

LONGEST_DELAY_S = 315_360_000.0
"""Ten years: more is a mistake. ``worker.max_retry_delay_s`` is the bound of a deployment."""
REASON_CHARACTERS = 1_000


class Retry(Exception):
    """Run this task again after ``delay_s`` seconds; None = the worker's exponential backoff.

    ``return Retry(...)`` and ``raise Retry(...)`` do the same. Raises TypeError and ValueError for a delay that is no
    number of seconds from 0 to ten years, and for a reason that is no text.
    """

    def __init__(self, delay_s: float | None = None, reason: str = "the handler asked for it") -> None:
        if delay_s is not None:
            if isinstance(delay_s, bool) or not isinstance(delay_s, (int, float)):
                raise TypeError(f"Retry.delay_s must be a number of seconds, was {delay_s!r}; write Retry(delay_s=5)")
            if not 0 <= delay_s <= LONGEST_DELAY_S or math.isnan(delay_s):
                raise ValueError(
                    f"Retry.delay_s must be 0 to {LONGEST_DELAY_S:,.0f} seconds, was {delay_s!r}; correct it"
                )
        if not isinstance(reason, str):
            raise TypeError(f"Retry.reason must be a text, was {reason!r}; say why in words")
        super().__init__(reason)
        self.delay_s = None if delay_s is None else float(delay_s)
        self.reason = str(reason)[:REASON_CHARACTERS]
