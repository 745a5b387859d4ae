"""What a report counts beside a result's own figures: drawdowns one by one, months, rolling Sharpe ratios, bins.

Pure functions of curves and trades; equity is in units of the starting capital, returns are fractions.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.performance import drawdowns, returns_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SHADES = 4
_LEAST_ROLLING = 20


class Fall(msgspec.Struct, frozen=True):
    """One drawdown, from the high before it to the bar that reached that high again."""

    depth: float
    """A fraction below 0."""
    from_s: int
    lowest_s: int
    recovered_s: int | None
    """None = not yet."""
    bars: int
    """From the high to the recovery, or to the end."""


class Year(msgspec.Struct, frozen=True):
    """The returns of a year and of its months; None for a month without bars."""

    year: int
    months: list[float | None]
    total: float


class Bin(msgspec.Struct, frozen=True):
    """How many trades returned from ``low`` up to, without, ``high``."""

    low: float
    high: float
    count: int


def falls(timestamp: Integers, equity: Floats, most: int = 5) -> list[Fall]:
    """Return the deepest drawdowns that do not overlap, deepest first."""
    below = drawdowns(equity)
    at_high = np.flatnonzero(below == 0.0)
    ends = np.append(at_high[1:], len(equity))
    found = []
    for start, end in zip(at_high.tolist(), ends.tolist(), strict=True):
        if end - start < 2:
            continue
        lowest = start + int(np.argmin(below[start:end]))
        is_over = end < len(equity)
        found.append(
            Fall(
                float(below[lowest]),
                int(timestamp[start]),
                int(timestamp[lowest]),
                int(timestamp[end]) if is_over else None,
                end - start if is_over else end - start - 1,
            )
        )
    return sorted(found, key=lambda fall: fall.depth)[:most]


def years(timestamp: Integers, equity: Floats) -> list[Year]:
    """Return the months of a curve by their last value, in UTC; the first counts from the first value."""
    month = timestamp.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    last = np.append(np.flatnonzero(np.diff(month)), len(month) - 1)
    before = np.concatenate([[equity[0]], equity[last[:-1]]])
    returns = equity[last] / before - 1.0
    table: dict[int, list[float | None]] = {}
    growth: dict[int, float] = {}
    for which, change in zip(month[last].tolist(), returns.tolist(), strict=True):
        year = 1970 + which // 12
        table.setdefault(year, [None] * 12)[which % 12] = change
        growth[year] = growth.get(year, 1.0) * (1.0 + change)
    return [Year(year, months, growth[year] - 1.0) for year, months in table.items()]


def rolling_bars(count: int, periods: float) -> int:
    """Return over how many bars a rolling Sharpe ratio is taken: half a year, a third of a shorter curve, 0 = none."""
    bars = min(round(periods / 2), count // 3)
    return bars if bars >= _LEAST_ROLLING else 0


def rolling_sharpe(equity: Floats, periods: float, bars: int) -> Floats:
    """Return the yearly Sharpe ratio of the last ``bars`` returns at each value; NaN before, and where none vary."""
    returns = returns_of(equity)
    values = np.full(len(equity), np.nan)
    if len(returns) < bars:
        return values
    mean, deviation = _moving(returns, bars)
    with np.errstate(divide="ignore", invalid="ignore"):
        values[bars:] = np.where(deviation > 1e-12, mean / deviation * math.sqrt(periods), np.nan)
    return values


def _moving(values: Floats, window: int) -> tuple[Floats, Floats]:
    # Of values near 0 the running sums lose nothing that can be seen.
    total = np.concatenate([[0.0], np.cumsum(values)])
    squares = np.concatenate([[0.0], np.cumsum(values * values)])
    mean = (total[window:] - total[:-window]) / window
    variance = (squares[window:] - squares[:-window] - window * mean * mean) / (window - 1)
    return mean, np.sqrt(np.maximum(variance, 0.0))


def histogram(returns: list[float], most: int = 24) -> list[Bin]:
    """Return the returns in bins of a round width, of which one begins at 0; the outermost take what lies beyond."""
    if not returns:
        return []
    values = np.array(returns)
    low, high = (float(each) for each in np.percentile(values, [1, 99]))
    width = round_step(max(high - low, abs(high), abs(low), 1e-4) / most)
    first, last = math.floor(low / width), math.floor(high / width)
    place = np.clip(np.floor(values / width), first, last).astype(np.int64) - first
    counts = np.bincount(place, minlength=last - first + 1)
    return [Bin((first + at) * width, (first + at + 1) * width, int(count)) for at, count in enumerate(counts)]


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is not below ``least`` (> 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in (1.0, 2.0, 2.5, 5.0, 10.0) if power * each >= least * (1 - 1e-9))


def shade(value: float | None, scale: float) -> str:
    """Return how strongly a cell is coloured: ``up1`` to ``up4``, ``down1`` to ``down4``, or nothing."""
    if value is None or not scale or abs(value) < 5e-5:
        return ""
    strength = min(1 + int(abs(value) / scale * _SHADES), _SHADES)
    return f"{'up' if value > 0 else 'down'}{strength}"


def by_symbol(instances: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the trades of each symbol, symbols with the most trades first, ties by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for trade in instances:
        found.setdefault(str(trade["symbol"]), []).append(trade)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))
