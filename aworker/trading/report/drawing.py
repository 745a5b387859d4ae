"""Charts as plain shapes for SVG, in thousandths of the plot: lines that stretch with it, words and marks that do not.

Invariant: the highest and the lowest value of what is drawn can be seen, however many values there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from aworker.trading.report.figures import Bin, round_step

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SCALE = 1000
_COLUMNS = 450
_MOST_TICKS = 5
_LOGARITHMIC = 10.0
"""Times the lowest value that the highest is before a scale is logarithmic."""
_DAY_S = 86_400


class Tick(msgspec.Struct, frozen=True):
    """A place on an axis in per cent, and what stands there."""

    at: float
    text: str


class Line(msgspec.Struct, frozen=True):
    """One curve: its name, how it is drawn, and its points."""

    name: str
    kind: str
    points: list[str]
    """Its pieces: a value that is not there parts a line."""
    last: str = ""
    """The last value in words."""


class Mark(msgspec.Struct, frozen=True):
    """A sign at a place in per cent, and what is told of it."""

    kind: str
    x: float
    y: float
    told: str


class Span(msgspec.Struct, frozen=True):
    """A straight line between two places."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


class Chart(msgspec.Struct, frozen=True):
    """A plot with its axes."""

    label: str
    """What a screen reader says of it."""
    lines: list[Line]
    rows: list[Tick]
    """Of the values, from the top in per cent."""
    columns: list[Tick]
    """Of time, from the left in per cent."""
    base: float | None = None
    """Where 0, or the start, lies, in thousandths from the top."""
    area: str = ""
    spans: list[Span] = []
    marks: list[Mark] = []
    bars: list[tuple[str, float, float, float, float, str]] = []
    """Columns of a histogram: kind, x, y, width, height, what is told of it."""
    is_logarithmic: bool = False


class Axis:
    """Values to thousandths from the top."""

    def __init__(self, lowest: float, highest: float, *, may_be_logarithmic: bool = False) -> None:
        if not highest > lowest:
            lowest, highest = lowest - (abs(lowest) * 0.05 or 1.0), highest + (abs(highest) * 0.05 or 1.0)
        self.is_logarithmic = may_be_logarithmic and lowest > 0 and highest / lowest > _LOGARITHMIC
        self._low = math.log(lowest) if self.is_logarithmic else lowest
        self._high = math.log(highest) if self.is_logarithmic else highest
        margin = (self._high - self._low) * 0.04
        self._low, self._high = self._low - margin, self._high + margin

    def places(self, values: Floats) -> Floats:
        """Return where values lie; NaN stays."""
        known = np.log(np.maximum(values, 1e-300)) if self.is_logarithmic else values
        return (self._high - known) / (self._high - self._low) * SCALE

    def place(self, value: float) -> float:
        """Return where a value lies."""
        return round(float(self.places(np.array([value]))[0]), 1)

    def ticks(self, text: str) -> list[Tick]:
        """Return round values with their words, by a format such as ``{:.0%}``."""
        if self.is_logarithmic:
            powers = range(math.floor(self._low / math.log(10)), math.ceil(self._high / math.log(10)) + 1)
            many = (self._high - self._low) / math.log(10) > 3
            values = [10.0**power * each for power in powers for each in ((1,) if many else (1, 2, 5))]
        else:
            step = round_step((self._high - self._low) / _MOST_TICKS)
            values = [step * each for each in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]
        kept = [(value, self.place(value) / SCALE * 100) for value in values]
        return [Tick(round(at, 2), _words(text, value)) for value, at in kept if 0 <= at <= 100]


def _words(text: str, value: float) -> str:
    return text.format(0.0 if abs(value) < 1e-12 else value)


def thinned(values: Floats, columns: int = _COLUMNS) -> Integers:
    """Return the places to draw: all of a short curve, else the lowest and the highest of each of ``columns`` parts."""
    if len(values) <= 2 * columns:
        return np.arange(len(values))
    known = np.where(np.isfinite(values), values, 0.0)
    starts = np.linspace(0, len(values), columns + 1).astype(np.int64)[:-1]
    found = [np.array([0, len(values) - 1])]
    for start, end in zip(starts, np.append(starts[1:], len(values)), strict=True):
        part = known[start:end]
        found.append(start + np.array([int(part.argmin()), int(part.argmax())]))
    return np.unique(np.concatenate(found))


def line(name: str, kind: str, values: Floats, axis: Axis, last: str = "") -> Line:
    """Return a curve of one value a bar, drawn evenly from the left edge to the right one."""
    chosen = thinned(values)
    x = chosen / max(len(values) - 1, 1) * SCALE
    y = axis.places(values[chosen])
    pieces: list[list[str]] = [[]]
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(down):
            pieces[-1].append(f"{across:.1f},{down:.1f}")
        elif pieces[-1]:
            pieces.append([])
    return Line(name, kind, [" ".join(piece) for piece in pieces if len(piece) > 1], last)


def time_ticks(timestamp: Integers) -> list[Tick]:
    """Return a few round dates, where the first bar at or after each stands."""
    start, end = int(timestamp[0]), int(timestamp[-1])
    span = max(end - start, 1)
    if span > 2 * 365 * _DAY_S:
        years = math.ceil(span / (365.25 * _DAY_S) / _MOST_TICKS)
        step = next(each for each in (1, 2, 5, 10, 20, 50) if each >= years or each == 50)
        first = datetime.fromtimestamp(start, UTC).year
        marks = [datetime(year, 1, 1, tzinfo=UTC) for year in range(first, first + 200) if year % step == 0]
        form = "%Y"
    elif span > 62 * _DAY_S:
        step = math.ceil(span / (30.4 * _DAY_S) / _MOST_TICKS)
        step = next(each for each in (1, 2, 3, 6) if each >= step or each == 6)
        first = datetime.fromtimestamp(start, UTC).year
        marks = [datetime(first + at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in range(0, 48, step)]
        form = "%Y-%m"
    else:
        step = next(
            each
            for each in (60, 300, 900, 3600, 4 * 3600, _DAY_S, 2 * _DAY_S, 7 * _DAY_S, 14 * _DAY_S)
            if each >= span / _MOST_TICKS or each == 14 * _DAY_S
        )
        marks = [datetime.fromtimestamp(at, UTC) for at in range(start - start % step, end + step, step)]
        form = "%m-%d" if step >= _DAY_S else "%H:%M"
    ticks = []
    for mark in marks:
        at = mark.timestamp()
        if start <= at <= end:
            place = int(np.searchsorted(timestamp, at)) / max(len(timestamp) - 1, 1) * 100
            ticks.append(Tick(round(place, 2), mark.strftime(form)))
    return ticks


def columns_of(bins: Sequence[Bin], told: str) -> Chart:
    """Return a histogram of returns."""
    most = max((each.count for each in bins), default=0) or 1
    width = SCALE / max(len(bins), 1)
    shapes = []
    for at, each in enumerate(bins):
        height = each.count / most * SCALE * 0.96
        words = f"{each.low:.1%} to {each.high:.1%}: {each.count:,}"
        kind = "gain" if each.low >= 0 else "loss"
        x, y = round(at * width + width * 0.06, 1), round(SCALE - height, 1)
        shapes.append((kind, x, y, round(width * 0.88, 1), round(height, 1), words))
    every = max(1, math.ceil(len(bins) / _MOST_TICKS))
    zero = next((at for at, each in enumerate(bins) if abs(each.low) < 1e-12), 0)
    digits = 0 if bins and bins[0].high - bins[0].low >= 0.01 else 1
    marks = [
        Tick(round(at * width / SCALE * 100, 2), f"{each.low:.{digits}%}")
        for at, each in enumerate(bins)
        if (at - zero) % every == 0
    ]
    step = round_step(max(most / 4, 1))
    rows = [
        Tick(round(100 - value / most * 96, 2), f"{value:,.0f}") for value in np.arange(0, most + 1e-9, step).tolist()
    ]
    return Chart(told, [], rows, marks, bars=[shape for shape in shapes if shape[4] > 0])
