"""The values of a program on one symbol's bars.

A number is undefined (NaN) at a bar before its look-back, where a value it stands on is undefined, where it divides
by zero and where it overflows. A condition with any undefined operand is undefined, `not` and `or` included, and an
undefined condition never signals. Invariant: a value at a bar depends on that bar and earlier ones only.

An undefined bar inside the data is left out: sma, ema, wma, stddev, highest, lowest, rsi, atr, adx, cci, vwap and obv
go on over the bars that are defined, as if it were not there, and are undefined at it alone. What looks a number of
bars back (lag, change, momentum, roc, crosses_above, ...) counts every bar.

Why undefined bars are taken out first: a single NaN makes TA-Lib's recursive averages NaN for good. Why a series that
does not move is looked for: TA-Lib gives it an RSI, an ADX and a stochastic of 0, which would make `rsi(close) < 30`
fire on a halted symbol, and a CCI of rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import talib
from numpy.typing import NDArray

from aworker.trading.rules.program import Program

Numbers = NDArray[np.float64]
Booleans = NDArray[np.bool_]


class Bars(Protocol):
    """One symbol's bars: float64 arrays of one length, oldest first."""

    @property
    def open(self) -> Numbers: ...
    @property
    def high(self) -> Numbers: ...
    @property
    def low(self) -> Numbers: ...
    @property
    def close(self) -> Numbers: ...
    @property
    def volume(self) -> Numbers: ...


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """What the rules say at each of n bars."""

    entry: Booleans
    """Shape (n,)."""
    exit: Booleans
    """Shape (n,); all False without an exit rule."""
    rank: Numbers
    """Shape (n,); NaN where undefined, everywhere without a rank rule."""


class _Condition(NamedTuple):
    holds: Booleans
    defined: Booleans


def evaluate(program: Program, bars: Bars) -> Signals:
    """Return entry, exit and rank at every bar; fewer bars than the look-back, or none, give no signal.

    NaN and infinite bars are undefined. Raises ValueError if the bars' arrays differ in length.
    """
    count = len(bars.close)
    for name in _SERIES:
        if len(getattr(bars, name)) != count:
            raise ValueError(f"bars.{name} must have the length of bars.close, {count}, had {len(getattr(bars, name))}")

    values: list[Any] = []
    uses = _uses(program)
    with np.errstate(all="ignore"):
        for step in program.steps:
            if step.operation in _SERIES:
                values.append(_finite(np.ascontiguousarray(getattr(bars, step.operation), dtype=np.float64)))
            else:
                inputs = [values[place] for place in step.inputs]
                values.append(_OPERATIONS[step.operation](*inputs, *step.parameters))
            for place in step.inputs:
                uses[place] -= 1
                # Let go at once: years of minute bars are megabytes a value, and a program may have hundreds.
                if not uses[place]:
                    values[place] = None
    entry, exit, rank = program.results
    return Signals(
        entry=_signal(values[entry], count),
        exit=np.zeros(count, np.bool_) if exit is None else _signal(values[exit], count),
        rank=np.full(count, np.nan) if rank is None else np.array(np.broadcast_to(values[rank], count)),
    )


def _uses(program: Program) -> list[int]:
    uses = [0] * len(program.steps)
    for step in program.steps:
        for place in step.inputs:
            uses[place] += 1
    for result in program.results:
        if result is not None:
            uses[result] += 1
    return uses


def _signal(condition: _Condition, count: int) -> Booleans:
    return np.array(np.broadcast_to(condition.holds & condition.defined, count))


def _finite(numbers: Numbers) -> Numbers:
    infinite = np.isinf(numbers)
    return np.where(infinite, np.nan, numbers) if np.count_nonzero(infinite) else numbers


def _arithmetic(operation: np.ufunc) -> Callable[..., Numbers]:
    return lambda *numbers: _finite(operation(*numbers))


def _compare(operation: np.ufunc) -> Callable[[Numbers, Numbers], _Condition]:
    return lambda left, right: _Condition(operation(left, right), ~(np.isnan(left) | np.isnan(right)))


def _and(left: _Condition, right: _Condition) -> _Condition:
    return _Condition(left.holds & right.holds, left.defined & right.defined)


def _or(left: _Condition, right: _Condition) -> _Condition:
    return _Condition(left.holds | right.holds, left.defined & right.defined)


def _not(condition: _Condition) -> _Condition:
    return _Condition(~condition.holds, condition.defined)


def _lag(series: Numbers, bars: int) -> Numbers:
    lagged = np.full(series.size, np.nan)
    lagged[bars:] = series[: max(series.size - bars, 0)]
    return lagged


def _over_defined(indicator: Callable[..., Numbers]) -> Callable[..., Numbers]:
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
            return _finite(indicator(*series, *windows))
        defined = ~undefined
        values = np.full(defined.size, np.nan)
        values[defined] = _finite(indicator(*(each[defined] for each in series), *windows))
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
    # TA-Lib before 0.8 takes a variance or an average move below 1e-14 for none, and coins at a millionth of a dollar
    # lie there. A power of two changes no digit, and the first value is the same however many bars follow.
    return 2.0 ** min(-math.frexp(first)[1], 100) if 0.0 < abs(first) < 1.0 else 1.0


def _sma(series: Numbers, window: int) -> Numbers:
    average = talib.SMA(series, window)
    # A running sum is off by a rounding error, so that a halted symbol's close would lie above its average.
    unmoved = _unmoved(series, window)
    if unmoved is not None:
        average[unmoved] = series[unmoved]
    return average


def _wma(series: Numbers, window: int) -> Numbers:
    average = talib.WMA(series, window)
    unmoved = _unmoved(series, window)
    if unmoved is not None:
        average[unmoved] = series[unmoved]
    return average


def _ema(series: Numbers, window: int) -> Numbers:
    average = talib.EMA(series, window)
    # Only its start is a sum.
    moved = series != series[0]
    still = int(moved.argmax()) if moved.any() else series.size
    if still >= window:
        average[window - 1 : still] = series[0]
    return average


def _stddev(series: Numbers, window: int) -> Numbers:
    scale = _scaled_up(series[0])
    deviation = talib.STDDEV(series * scale, window) / scale
    unmoved = _unmoved(series, window)
    if unmoved is not None:
        deviation[unmoved] = 0.0
    return deviation


def _rsi(series: Numbers, window: int) -> Numbers:
    index = talib.RSI(series * _scaled_up(series[0]), window)
    unmoved = _unmoved(series, window + 1)
    if unmoved is not None:
        index[unmoved] = np.nan
    return index


def _adx(high: Numbers, low: Numbers, close: Numbers, window: int) -> Numbers:
    scale = _scaled_up(close[0])
    high, low, close = high * scale, low * scale, close * scale
    index = talib.ADX(high, low, close, window)
    reach = talib.TRANGE(high, low, close)
    unmoved = _unmoved(reach, window)
    if unmoved is not None:
        index[unmoved & (reach == 0.0)] = np.nan
    return index


def _cci(high: Numbers, low: Numbers, close: Numbers, window: int) -> Numbers:
    index = talib.CCI(high, low, close, window)
    unmoved = _unmoved((high + low + close) / 3.0, window)
    if unmoved is not None:
        index[unmoved] = np.nan
    return index


def _vwap(high: Numbers, low: Numbers, close: Numbers, volume: Numbers, window: int) -> Numbers:
    typical = (high + low + close) / 3.0
    if window == 1:
        return np.where(volume == 0.0, np.nan, typical)
    return _sma(typical * volume, window) / _sma(volume, window)


_SERIES = ("open", "high", "low", "close", "volume")
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "constant": np.float64,
    "add": _arithmetic(np.add),
    "subtract": _arithmetic(np.subtract),
    "multiply": _arithmetic(np.multiply),
    "divide": _arithmetic(np.divide),
    "abs": np.abs,
    "<": _compare(np.less),
    "<=": _compare(np.less_equal),
    ">": _compare(np.greater),
    ">=": _compare(np.greater_equal),
    "==": _compare(np.equal),
    "!=": _compare(np.not_equal),
    "and": _and,
    "or": _or,
    "not": _not,
    "lag": _lag,
    "sma": _over_defined(_sma),
    "ema": _over_defined(_ema),
    "wma": _over_defined(_wma),
    "stddev": _over_defined(_stddev),
    "highest": _over_defined(talib.MAX),
    "lowest": _over_defined(talib.MIN),
    "rsi": _over_defined(_rsi),
    "atr": _over_defined(talib.ATR),
    "adx": _over_defined(_adx),
    "cci": _over_defined(_cci),
    "vwap": _over_defined(_vwap),
    "obv": _over_defined(talib.OBV),
}
