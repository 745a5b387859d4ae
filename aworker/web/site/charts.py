"""Pictures made on the server: plain shapes for SVG, whose words stand beside them in the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from aworker.overview.snapshot import Level
from aworker.queues.presence import MINUTES

WIDTH, HEIGHT = 600, 120


class Bar(msgspec.Struct, frozen=True):
    """One column of a chart: what completed stands below what failed."""

    x: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float


class Hour(msgspec.Struct, frozen=True):
    """The last hour."""

    bars: list[Bar]
    most_ended: int
    lines: list[tuple[str, str]]
    """Label of a level and the points of its line of waiting tasks."""
    most_waiting: int
    rows: list[tuple[int, int, int, int]]
    """Minutes ago, completed, failed, waiting; where something was counted."""

    @property
    def is_empty(self) -> bool:
        """Whether no worker has counted anything."""
        return not self.rows


class Curve(msgspec.Struct, frozen=True):
    """A line with its ends."""

    points: str
    area: str
    base_y: float
    """Where the first value lies."""
    lowest: float
    highest: float
    first_at_s: float
    last_at_s: float
    last: float


def hour(levels: Sequence[Level]) -> Hour:
    """Return the shapes of the last hour, the running minute last."""
    columns = [[level.minutes[at] for level in levels] for at in range(MINUTES)]
    ended = [
        (sum(m.completed for m in column if m), sum(m.failed for m in column if m), any(column)) for column in columns
    ]
    most_ended = max([done + failed for done, failed, _ in ended], default=0)
    most_waiting = max([m.waiting for column in columns for m in column if m], default=0)
    step = WIDTH / MINUTES
    bars = []
    for at, (done, failed, _) in enumerate(ended):
        if done or failed:
            high, low = HEIGHT * done / most_ended, HEIGHT * failed / most_ended
            bars.append(
                Bar(
                    round(at * step + 1, 1),
                    round(HEIGHT - high, 1),
                    round(high, 1),
                    round(HEIGHT - high - low, 1),
                    round(low, 1),
                )
            )
    lines = [(level.label, _line(level, most_waiting, step)) for level in levels]
    rows = [
        (MINUTES - 1 - at, done, failed, sum(m.waiting for m in columns[at] if m))
        for at, (done, failed, known) in enumerate(ended)
        if known
    ]
    return Hour(bars, most_ended, lines, most_waiting, rows[::-1])


def _line(level: Level, most: int, step: float) -> str:
    scale = (HEIGHT - 4) / (most or 1)
    return " ".join(
        f"{at * step + step / 2:.1f},{HEIGHT - 2 - minute.waiting * scale:.1f}"
        for at, minute in enumerate(level.minutes)
        if minute is not None
    )


def curve(points: Any) -> Curve | None:
    """Return the shape of [epoch s, value] pairs; None where they are no curve."""
    known = _pairs(points)
    if len(known) < 2 or known[0][0] >= known[-1][0]:
        return None
    start, end = known[0][0], known[-1][0]
    lowest, highest = min(value for _, value in known), max(value for _, value in known)
    spread = (highest - lowest) or max(abs(highest), 1.0)

    def y(value: float) -> float:
        return 4 + (highest - value) / spread * (HEIGHT - 8)

    text = " ".join(f"{(at - start) / (end - start) * WIDTH:.1f},{y(value):.1f}" for at, value in known)
    area = f"0,{HEIGHT} {text} {WIDTH},{HEIGHT}"
    return Curve(text, area, round(y(known[0][1]), 1), lowest, highest, start, end, known[-1][1])


def _pairs(points: Any) -> list[tuple[float, float]]:
    if not isinstance(points, list):
        return []
    known = []
    for point in points[:2_000]:
        if not isinstance(point, list) or len(point) != 2:
            return []
        at, value = point
        if value is None:
            continue
        if not all(isinstance(one, (int, float)) and math.isfinite(one) for one in point):
            return []
        known.append((float(at), float(value)))
    # It is drawn from left to right, and no instant is beyond what a calendar has.
    in_order = all(a[0] <= b[0] for a, b in pairwise(known))
    return known if in_order and all(0 <= at < 1e11 and abs(value) < 1e15 for at, value in known) else []
