"""Values that are smoothed without an end, or stand on every bar since the first: TA-Lib's, and those like them.

Why undefined bars are taken out of the rest first: a single NaN makes TA-Lib's recursive averages NaN for good. Why a
series that does not move is looked for: TA-Lib gives it an RSI, an ADX and a stochastic of 0, which would make
`rsi(close) < 30` fire on a halted symbol, and a CCI of rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import talib
from numpy.typing import NDArray

from aworker.trading.rules.windows import Numbers, finite

Booleans = NDArray[np.bool_]


def over_defined(indicator: Callable[..., Numbers]) -> Callable[..., Numbers]:
    def compute(*arguments: Any) -> Numbers:
        series = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        windows = [argument for argument in arguments if not isinstance(argument, np.ndarray)]
        undefined = np.isnan(series[0])
        for other in series[1:]:
            undefined |= np.isnan(other)
        gaps = np.count_nonzero(undefined)
        # TA-Lib before 0.8.2 writes outside an empty array.
        if gaps == undefined.size:
            return np.full(undefined.size, np.nan)
        if not gaps:
            return finite(indicator(*series, *windows))
        defined = ~undefined
        values = np.full(defined.size, np.nan)
        values[defined] = finite(indicator(*(each[defined] for each in series), *windows))
        return values

    return compute


def _unmoved(series: Numbers, bars: int) -> Booleans | None:
    same = series[1:] == series[:-1]
    if np.count_nonzero(same) < bars - 1:
        return None
    place = np.arange(series.size)
    place[1:][same] = 0
    return np.arange(series.size) - np.maximum.accumulate(place) >= bars - 1


def _scaled_up(first: float) -> float:
    # TA-Lib before 0.8 takes an average move below 1e-14 for none, and coins at a millionth of a dollar lie there. A
    # power of two changes no digit, and the first value is the same however many bars follow.
    return 2.0 ** min(-math.frexp(first)[1], 100) if 0.0 < abs(first) < 1.0 else 1.0


def ema(series: Numbers, window: int) -> Numbers:
    average = talib.EMA(series, window)
    # Only its start is a sum.
    moved = series != series[0]
    still = int(moved.argmax()) if moved.any() else series.size
    if still >= window:
        average[window - 1 : still] = series[0]
    return average


def rsi(series: Numbers, window: int) -> Numbers:
    index = talib.RSI(series * _scaled_up(series[0]), window)
    unmoved = _unmoved(series, window + 1)
    if unmoved is not None:
        index[unmoved] = np.nan
    return index


def directional(indicator: Callable[..., Numbers]) -> Callable[..., Numbers]:
    def compute(high: Numbers, low: Numbers, close: Numbers, window: int) -> Numbers:
        scale = _scaled_up(close[0])
        high, low, close = high * scale, low * scale, close * scale
        index = indicator(high, low, close, window)
        reach = talib.TRANGE(high, low, close)
        unmoved = _unmoved(reach, window)
        if unmoved is not None:
            index[unmoved & (reach == 0.0)] = np.nan
        return index

    return compute


def sar(high: Numbers, low: Numbers, step: float, most: float) -> Numbers:
    # TA-Lib takes no fewer than two bars.
    return talib.SAR(high, low, step, most) if high.size > 1 else np.full(high.size, np.nan)


def cci(high: Numbers, low: Numbers, close: Numbers, window: int) -> Numbers:
    if np.isnan(high + low + close).all():
        return np.full(close.size, np.nan)
    # Not a running sum: a NaN does not outlast its window.
    index = finite(talib.CCI(high, low, close, window))
    unmoved = _unmoved((high + low + close) / 3.0, window)
    if unmoved is not None:
        index[unmoved] = np.nan
    return index


def supertrend(high: Numbers, low: Numbers, close: Numbers, atr: Numbers, multiple: float) -> Numbers:
    middle, width = (high + low) / 2.0, multiple * atr
    line = []
    # TradingView begins with a falling price.
    upper, lower, before, is_up = math.inf, -math.inf, math.nan, False
    for top, bottom, now in zip((middle + width).tolist(), (middle - width).tolist(), close.tolist(), strict=True):
        if not (top < upper or before > upper):
            top = upper
        if not (bottom > lower or before < lower):
            bottom = lower
        is_up = now >= bottom if is_up else now > top
        line.append(bottom if is_up else top)
        upper, lower, before = top, bottom, now
    return np.array(line)
