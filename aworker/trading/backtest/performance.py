"""What an equity curve is worth: returns, risk, and ratios of the two.

Every function is pure, takes numpy arrays and gives a float that is NaN where the figure is undefined (`measure` gives
None instead, for JSON). Returns are fractions a bar; equity is in units of the starting capital. The formulas are
those of the empyrical library with a risk-free rate of 0, unless a docstring says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TRADING_DAYS_PER_YEAR = 252
SESSION_MINUTES = 390
"""Of a day on the US exchanges."""

_DAY_S = 86_400
_ZERO = 1e-14
_ENOUGH_DAYS = 90
_NEAR = 1 / 15
CURVE_POINTS = 200
_CACHED = 1 << 15


def periods_per_year(bar_s: int, timestamp: NDArray[np.int64]) -> float:
    """Return how many bars of ``bar_s`` seconds a year has.

    A market that trades on Saturdays as on other days is open round the clock, 365 days a year; any other has 252 days.
    Below a day the bars of a day are counted: the median of the days between the first and the last, so 252 x 390 for
    minutes of the US exchanges, 365 x 24 for hours round the clock. Fewer than three days are taken for such days of
    390 minutes or 24 hours. Weekly bars are 52. Where the days that are there, over three months or more, are another
    number a year by more than a fifteenth (months taken as days, a market with Sundays, a share that seldom trades),
    they are counted as they are.
    """
    day = timestamp // _DAY_S
    if bar_s >= 7 * _DAY_S:
        return _as_counted(52.0 * 7 * _DAY_S / bar_s, len(timestamp), timestamp)
    # 1970-01-01 was a Thursday, so Saturdays are days 2, 9, 16, ... Any 13 days round the clock hold one; a row that
    # went astray is one of many.
    is_round_the_clock = np.count_nonzero(day % 7 == 2) * 14 > len(day)
    days = 365.0 if is_round_the_clock else float(TRADING_DAYS_PER_YEAR)
    if bar_s >= _DAY_S:
        return _as_counted(days * _DAY_S / bar_s, len(timestamp), timestamp)
    bars = np.unique(day, return_counts=True)[1]
    days = _as_counted(days, len(bars), timestamp)
    if len(bars) < 3:
        return days * (_DAY_S if is_round_the_clock else SESSION_MINUTES * 60) / bar_s
    return days * float(np.median(bars[1:-1]))


def _as_counted(usual: float, count: int, timestamp: NDArray[np.int64]) -> float:
    """Return what a year usually has, or what there is a year where that is another number."""
    span_s = float(timestamp[-1] - timestamp[0]) if len(timestamp) else 0.0
    if span_s < _ENOUGH_DAYS * _DAY_S:
        return usual
    there = (count - 1) / (span_s / (365.25 * _DAY_S))
    return usual if abs(there / usual - 1) < _NEAR else there


def returns_of(equity: Floats) -> Floats:
    """Return the n - 1 returns between n values; NaN or infinite after a value of 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return equity[1:] / equity[:-1] - 1.0


def total_return(equity: Floats) -> float:
    """Return last / first - 1; NaN without values."""
    return float(equity[-1] / equity[0] - 1.0) if len(equity) else math.nan


def annual_return(equity: Floats, periods: float) -> float:
    """Return the compound growth a year; NaN below two values."""
    if len(equity) < 2:
        return math.nan
    try:
        # Not numpy's power, which warns where it should raise.
        return math.pow(equity[-1] / equity[0], periods / (len(equity) - 1)) - 1.0
    except OverflowError:
        return math.nan


def volatility(returns: Floats, periods: float) -> float:
    """Return the yearly standard deviation (n - 1 degrees of freedom); NaN below two returns."""
    return float(np.std(returns, ddof=1) * math.sqrt(periods)) if len(returns) > 1 else math.nan


def sharpe_ratio(returns: Floats, periods: float) -> float:
    """Return mean / standard deviation, a year; NaN below two returns or where they do not vary."""
    if len(returns) < 2:
        return math.nan
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation * math.sqrt(periods) if deviation > _ZERO else math.nan


def sortino_ratio(returns: Floats, periods: float) -> float:
    """Return the yearly mean / the yearly root mean square of the losses; NaN without a loss."""
    if len(returns) < 2:
        return math.nan
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside * math.sqrt(periods) if downside > _ZERO else math.nan


def drawdowns(equity: Floats) -> Floats:
    """Return how far each value stands below the highest before it: a fraction, 0 or negative."""
    return equity / np.maximum.accumulate(equity) - 1.0


def max_drawdown(equity: Floats) -> tuple[float, int]:
    """Return the deepest drawdown (0 or negative) and the longest time below a former high, in bars."""
    if not len(equity):
        return math.nan, 0
    below = drawdowns(equity)
    at_high = np.flatnonzero(below == 0.0)
    # The run that has not recovered yet ends with the data.
    longest = int(np.max(np.diff(np.append(at_high, len(equity))))) - 1
    return float(np.min(below)), longest


def calmar_ratio(equity: Floats, periods: float) -> float:
    """Return the annual return / the size of the maximum drawdown; NaN without a drawdown."""
    deepest, _ = max_drawdown(equity)
    return annual_return(equity, periods) / -deepest if deepest < 0 else math.nan


def measure(equity: Floats, periods: float) -> dict[str, Any]:
    """Return the figures of a curve as JSON-like values: None where one is undefined."""
    returns = returns_of(equity)
    deepest, longest = max_drawdown(equity)
    return {
        "total_return": finite(total_return(equity)),
        "annual_return": finite(annual_return(equity, periods)),
        "volatility": finite(volatility(returns, periods)),
        "sharpe_ratio": finite(sharpe_ratio(returns, periods)),
        "sortino_ratio": finite(sortino_ratio(returns, periods)),
        "calmar_ratio": finite(calmar_ratio(equity, periods)),
        "max_drawdown": finite(deepest),
        "max_drawdown_bars": longest,
    }


FIGURES = (
    "total_return",
    "annual_return",
    "volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "max_drawdown",
)


def measure_many(equity: Floats, periods: float) -> dict[str, Floats]:
    """Return FIGURES of many curves at once, a row each: what `measure` gives for every one, NaN for None."""
    # A few curves at a time, as many as a processor's cache holds.
    size = max(_CACHED // max(equity.shape[1], 1), 1)
    parts = [_measured(equity[start : start + size], periods) for start in range(0, max(len(equity), 1), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in FIGURES}


def _measured(equity: Floats, periods: float) -> dict[str, Floats]:
    count = equity.shape[1]
    with np.errstate(all="ignore"):
        growth = equity[:, -1] / equity[:, 0]
        returns = equity[:, 1:] / equity[:, :-1]
        returns -= 1.0
        mean = returns.mean(axis=1) if count > 1 else np.full(len(equity), np.nan)
        annual = growth ** (periods / (count - 1)) - 1.0 if count > 1 else np.full(len(equity), np.nan)
        peaks = np.maximum.accumulate(equity, axis=1)
        deepest = np.divide(equity, peaks, out=peaks).min(axis=1) - 1.0
        undefined = np.full(len(equity), np.nan)
        deviation, downside = undefined, undefined
        if count > 2:
            moved = returns - mean[:, np.newaxis]
            deviation = np.sqrt(np.einsum("ij,ij->i", moved, moved) / (count - 2))
            losses = np.minimum(returns, 0.0, out=returns)
            downside = np.sqrt(np.einsum("ij,ij->i", losses, losses) / (count - 1))
        yearly = math.sqrt(periods)
        return {
            "total_return": growth - 1.0,
            "annual_return": annual,
            "volatility": deviation * yearly,
            "sharpe_ratio": np.where(deviation > _ZERO, mean / deviation * yearly, np.nan),
            "sortino_ratio": np.where(downside > _ZERO, mean / downside * yearly, np.nan),
            "calmar_ratio": np.where(deepest < 0, annual / -deepest, np.nan),
            "max_drawdown": deepest,
        }


def sample_curve(timestamp: NDArray[np.int64], equity: Floats, points: int = CURVE_POINTS) -> list[list[Any]]:
    """Return at most ``points`` [epoch s, equity] pairs, about evenly spaced.

    The first, the last and the two ends of the deepest drawdown are among them, so that it can be seen in them.
    """
    if len(equity) <= points:
        places = np.arange(len(equity))
    else:
        deepest = int(np.argmin(drawdowns(equity)))
        ends = [int(np.argmax(equity[: deepest + 1])), deepest]
        evenly = np.round(np.linspace(0, len(equity) - 1, points - len(ends))).astype(np.int64)
        places = np.unique(np.concatenate([evenly, ends]))
    values = equity[places].tolist()
    if not np.isfinite(equity[places]).all():
        values = [finite(value) for value in values]
    return [list(pair) for pair in zip(timestamp[places].tolist(), values, strict=True)]


def finite(number: float | np.float64) -> float | None:
    """Return a plain float, None for NaN and the infinities: JSON has no word for them."""
    return float(number) if math.isfinite(number) else None
