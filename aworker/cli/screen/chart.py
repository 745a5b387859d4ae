"""A curve drawn with characters: braille dots where the terminal has them, stars where it has not.

Why no plotting package: a line of 200 points needs none, and those that exist bring a compiled part or colour codes
into files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

_LABEL_WIDTH = 9
# The bits of a braille character's dots by column and row, from the top.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def draw_curve(points: Sequence[Sequence[float | None]], *, width: int, height: int, unicode: bool = True) -> list[str]:
    """Return the lines of a chart of [epoch s, value] points in time order, ``width`` x ``height`` characters.

    Values that are None are left out; fewer than two are no curve: an empty list. Between two points the line is
    straight.
    """
    known = [(float(at), float(value)) for at, value in points if at is not None and value is not None]
    if len(known) < 2 or known[0][0] == known[-1][0]:
        return []
    plot_width, plot_height = max(width - _LABEL_WIDTH - 2, 2), max(height - 2, 2)
    across, down = (2, 4) if unicode else (1, 1)
    lowest, highest = (pick(value for _, value in known) for pick in (min, max))
    spread = highest - lowest or max(abs(highest), 1.0)
    cells = [[0] * plot_width for _ in range(plot_height)]
    before: int | None = None
    for column, value in enumerate(_resampled(known, plot_width * across)):
        row = round((highest - value) / spread * (plot_height * down - 1))
        # A steep stretch fills its column, so that the line has no holes.
        nearest = row if before is None or before == row else before + (1 if row > before else -1)
        for dot in range(min(row, nearest), max(row, nearest) + 1):
            cells[dot // down][column // across] |= _DOTS[column % across][dot % down] if unicode else 1
        before = row
    side, corner, floor = ("│", "└", "─") if unicode else ("|", "+", "-")
    lines = []
    for number, row_cells in enumerate(cells):
        value = highest - spread * number / (plot_height - 1)
        is_labelled = number in (0, plot_height // 2, plot_height - 1)
        label = f"{value:>{_LABEL_WIDTH}.4g}" if is_labelled else " " * _LABEL_WIDTH
        text = "".join(_character(cell, unicode) for cell in row_cells)
        lines.append(f"{label} {side}{text}".rstrip())
    lines.append(f"{'':{_LABEL_WIDTH}} {corner}{floor * plot_width}")
    first, last = (datetime.fromtimestamp(known[place][0], UTC).strftime("%Y-%m-%d") for place in (0, -1))
    lines.append(f"{'':{_LABEL_WIDTH + 2}}{first}{last:>{max(plot_width - len(first), 1)}}")
    return lines


def _resampled(points: list[tuple[float, float]], columns: int) -> list[float]:
    start, end = points[0][0], points[-1][0]
    values = []
    place = 0
    for column in range(columns):
        at = start + (end - start) * column / (columns - 1)
        while place < len(points) - 2 and points[place + 1][0] < at:
            place += 1
        (left_at, left), (right_at, right) = points[place], points[place + 1]
        part = (at - left_at) / (right_at - left_at) if right_at > left_at else 1.0
        values.append(left + (right - left) * min(max(part, 0.0), 1.0))
    return values if all(map(math.isfinite, values)) else [0.0] * columns


def _character(cell: int, unicode: bool) -> str:
    if unicode:
        return chr(0x2800 + cell) if cell else " "
    return "*" if cell else " "
