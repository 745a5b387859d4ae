"""When a task is to run: ``delay_s`` seconds from now, or ``at`` an instant.

A delay counts on the server's clock, so that hosts whose clocks differ mean the same; an instant is one whatever the
clock.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal

import msgspec

from aworker.clock import now_s, parse_rfc3339
from aworker.errors import PayloadInvalid

LONGEST_DELAY_S = 315_360_000.0
"""Ten years: more is a mistake."""
Instant = datetime | float | str
"""With a time zone, as epoch seconds, or as RFC 3339 with ``Z`` or an offset."""


class Due(msgspec.Struct, frozen=True):
    """When a delayed task is due, as the enqueue script reads it."""

    how: Literal["in", "at"]
    ms: int
    """From now, or since the epoch."""
    at_s: float
    """The instant in epoch seconds, by this host's clock: the task's ``created_at``, since it begins to wait then."""


def due_of(delay_s: float | None, at: Instant | None) -> Due | None:
    """Return when a task is due; None = now. Raises PayloadInvalid for what is no such time."""
    if at is None:
        return None if delay_s is None else _after(delay_s)
    if delay_s is not None:
        raise PayloadInvalid(f"delay_s and at must not both be given, were {delay_s!r} and {at!r}; leave one out")
    instant_s = _epoch_s(at)
    left_s = instant_s - now_s()
    if not left_s <= LONGEST_DELAY_S:
        raise PayloadInvalid(f"at must be within ten years, was {at!r}; correct it")
    return Due("at", max(0, math.ceil(instant_s * 1000)), instant_s)


def _after(delay_s: Any) -> Due | None:
    if isinstance(delay_s, bool) or not isinstance(delay_s, (int, float)) or not 0 <= delay_s <= LONGEST_DELAY_S:
        raise PayloadInvalid(f"delay_s must be 0 to {LONGEST_DELAY_S:,.0f} seconds, was {delay_s!r}; correct it")
    return Due("in", math.ceil(delay_s * 1000), now_s() + delay_s) if delay_s else None


def _epoch_s(at: Any) -> float:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise PayloadInvalid(f"at must have a time zone, {at!r} has none; write datetime(.., tzinfo=UTC)")
        return at.timestamp()
    if isinstance(at, str):
        instant_s = parse_rfc3339(at)
        if instant_s is None or parse_rfc3339(f"{at.strip()}Z") is not None:
            raise PayloadInvalid(f"at must be RFC 3339 with Z or an offset, was {at!r}; as 2026-01-31T09:30:00+01:00")
        return instant_s
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
        raise PayloadInvalid(f"at must be a datetime, epoch seconds or RFC 3339 text, was {at!r}; correct it")
    return float(at)
