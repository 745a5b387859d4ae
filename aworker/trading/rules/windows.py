"""Values of windows of bars: a value stands on its window and on nothing before it, to the last bit.

Why windows are joined from halves: TA-Lib adds the new bar to a running sum and takes the old one off, and its rounding
depends on every bar since the first. Prices move in cents, so a close lies on its average often, and the rounding would
decide: of 17,700 bars near 5 dollars `close > sma(close, 5)` was wrong on 528, and differed between the whole and the
tail on 530. Joined, windows that are alike have values that are alike, to the bit, in a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_Parts = tuple[Numbers, ...]
_Join = Callable[[_Parts, int, _Parts, int], _Parts]
"""(values of windows, their bars, values of the windows right after, their bars) -> values of both as one window."""


def finite(numbers: Numbers) -> Numbers:
    infinite = np.isinf(numbers)
    return np.where(infinite, np.nan, numbers) if np.count_nonzero(infinite) else numbers


def lag(series: Numbers, bars: int) -> Numbers:
    lagged = np.full(series.size, np.nan)
    lagged[bars:] = series[: max(series.size - bars, 0)]
    return lagged


def _windows(window: int, bars: _Parts, join: _Join) -> _Parts:
    # Windows of 1, 2, 4, ... bars, each joined from the two halves before and after its middle; those that stand in the
    # binary form of ``window`` are joined to the whole. An array of windows of w bars is w - 1 shorter than the bars.
    size, block = 1, bars
    length, whole = 0, bars
    while True:
        if window & size:
            if length:
                before = tuple(each[:-length] for each in block)
                whole = join(before, size, tuple(each[size:] for each in whole), length)
            else:
                whole = block
            length += size
        if length == window:
            return whole
        block = join(tuple(each[:-size] for each in block), size, tuple(each[size:] for each in block), size)
        size *= 2


def _windowed(
    join: _Join,
    first: Callable[..., _Parts] = lambda series: (series,),
    last: Callable[[_Parts, int], Numbers] = lambda parts, window: parts[0],
) -> Callable[..., Numbers]:
    # ``first`` gives the parts of windows of one bar, ``last`` the value of the whole.
    def compute(*arguments: Any) -> Numbers:
        *series, window = arguments
        values = np.full(series[0].size, np.nan)
        if values.size >= window:
            values[window - 1 :] = finite(last(_windows(window, first(*series), join), window))
        return values

    return compute


def _join_means(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    # Not the sum by the count: so the mean of equal values is that value.
    (left,), (right,) = before, after
    return ((left + right) * 0.5,) if bars == more else (left + (right - left) * (more / (bars + more)),)


def _join_weighted(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    # The weights 1, 2, ... of the bars after go on where those of the bars before end.
    (left, _), (right, mean) = before, after
    total = (bars + more) * (bars + more + 1)
    weighted = mean + (left - mean) * (bars * (bars + 1) / total) + (right - mean) * (more * (more + 1) / total)
    return weighted, *_join_means((before[1],), bars, (mean,), more)


def _join_deviations(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    # Chan, Golub and LeVeque: Algorithms for computing the sample variance, 1983. No difference of large squares.
    (left, left_squares), (right, right_squares) = before, after
    step = right - left
    share = more / (bars + more)
    return left + step * share, left_squares + right_squares + step * step * (bars * share)


def _join_traded(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    (left, left_volume), (right, right_volume) = before, after
    volume = left_volume + right_volume
    share = np.divide(right_volume, volume, out=np.zeros_like(volume), where=volume != 0.0)
    return left + (right - left) * share, volume


def _join_by(pick: np.ufunc) -> _Join:
    return lambda before, bars, after, more: (pick(before[0], after[0]),)


sma = _windowed(_join_means)
wma = _windowed(_join_weighted, lambda series: (series, series))
stddev = _windowed(
    _join_deviations,
    lambda series: (series, np.where(np.isnan(series), np.nan, 0.0)),
    lambda parts, window: np.sqrt(parts[1] / window),
)
highest = _windowed(_join_by(np.maximum))
lowest = _windowed(_join_by(np.minimum))
vwap = _windowed(
    _join_traded,
    # Of three equal prices the mean is exactly that price.
    lambda high, low, close, volume: (low + ((high - low) + (close - low)) / 3.0, volume),
    lambda parts, window: np.where(parts[1] == 0.0, np.nan, parts[0]),
)


def _join_pairs(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    # As _join_deviations, for two series and their products.
    (left, other_left, *left_squares), (right, other_right, *right_squares) = before, after
    step, other_step = right - left, other_right - other_left
    share = more / (bars + more)
    return (
        left + step * share,
        other_left + other_step * share,
        *(
            first + second + product * (bars * share)
            for first, second, product in zip(
                left_squares,
                right_squares,
                (step * step, other_step * other_step, step * other_step),
                strict=True,
            )
        ),
    )


def _first_pairs(left: Numbers, right: Numbers) -> _Parts:
    nothing = np.where(np.isnan(left) | np.isnan(right), np.nan, 0.0)
    return left, right, nothing, nothing, nothing


correlation = _windowed(
    _join_pairs,
    _first_pairs,
    lambda parts, window: np.clip(parts[4] / (np.sqrt(parts[2]) * np.sqrt(parts[3])), -1.0, 1.0),
)
beta = _windowed(_join_pairs, _first_pairs, lambda parts, window: parts[4] / parts[3])


def _join_sums(before: _Parts, bars: int, after: _Parts, more: int) -> _Parts:
    return tuple(left + right for left, right in zip(before, after, strict=True))


_flows = _windowed(
    _join_sums, lambda up, down: (up, down), lambda parts, window: 100.0 * parts[0] / (parts[0] + parts[1])
)


def mfi(high: Numbers, low: Numbers, close: Numbers, volume: Numbers, window: int) -> Numbers:
    typical = (high + low + close) / 3.0
    move = typical - lag(typical, 1)
    flow = np.where(np.isnan(move), np.nan, typical * volume)
    up = np.where(move > 0.0, flow, flow * 0.0)
    return _flows(up, np.where(move < 0.0, flow, flow * 0.0), window)


def percent_rank(series: Numbers, window: int) -> Numbers:
    not_above = np.zeros(series.size)
    for bars in range(1, window + 1):
        earlier = lag(series, bars)
        not_above += np.where(np.isnan(earlier) | np.isnan(series), np.nan, earlier <= series)
    return 100.0 * not_above / window
