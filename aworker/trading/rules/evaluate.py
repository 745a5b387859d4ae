"""The values of a program on one symbol's bars.

A number is undefined (NaN) at a bar before its look-back, where a value it stands on is undefined, where it divides
by zero and where it overflows. A condition with any undefined operand is undefined, `not` and `or` included, and an
undefined condition never signals. Invariant: a value at a bar depends on that bar and earlier ones only.

A window of bars (sma, wma, stddev, highest, lowest, cci, vwap) that holds an undefined one is undefined, so that a
value depends on its window and nothing before it: the same bar says the same in a backtest and on the few bars that an
alert reads. What is smoothed without an end (ema, rsi, atr, adx, obv) leaves an undefined bar out and goes on, as if it
were not there. What looks a number of bars back (lag, change, momentum, roc, crosses_above, ...) counts every bar.

Why windows are joined from halves: TA-Lib adds the new bar to a running sum and takes the old one off, and its rounding
depends on every bar since the first. Prices move in cents, so a close lies on its average often, and the rounding would
decide: of 17,700 bars near 5 dollars `close > sma(close, 5)` was wrong on 528, and differed between the whole and the
tail on 530. Joined, windows that are alike have values that are alike, to the bit, in a few array operations.

Why undefined bars are taken out of the rest first: a single NaN makes TA-Lib's recursive averages NaN for good. Why a
series that does not move is looked for: TA-Lib gives it an RSI, an ADX and a stochastic of 0, which would make
`rsi(close) < 30` fire on a halted symbol, and a CCI of rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
    levels: dict[str, Numbers] = field(default_factory=dict)
    """The program's further numbers, each of shape (n,)."""


_Parts = tuple[Numbers, ...]
_Join = Callable[[_Parts, int, _Parts, int], _Parts]
"""(values of windows, their bars, values of the windows right after, their bars) -> values of both as one window."""


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
        levels={name: np.array(np.broadcast_to(values[place], count)) for name, place in program.levels},
    )


def _uses(program: Program) -> list[int]:
    uses = [0] * len(program.steps)
    for step in program.steps:
        for place in step.inputs:
            uses[place] += 1
    for result in (*program.results, *(place for _, place in program.levels)):
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
    # TA-Lib before 0.8 takes an average move below 1e-14 for none, and coins at a millionth of a dollar lie there. A
    # power of two changes no digit, and the first value is the same however many bars follow.
    return 2.0 ** min(-math.frexp(first)[1], 100) if 0.0 < abs(first) < 1.0 else 1.0


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
            values[window - 1 :] = _finite(last(_windows(window, first(*series), join), window))
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


_sma = _windowed(_join_means)
_wma = _windowed(_join_weighted, lambda series: (series, series))
_stddev = _windowed(
    _join_deviations,
    lambda series: (series, np.where(np.isnan(series), np.nan, 0.0)),
    lambda parts, window: np.sqrt(parts[1] / window),
)
_highest = _windowed(_join_by(np.maximum))
_lowest = _windowed(_join_by(np.minimum))
_vwap = _windowed(
    _join_traded,
    # Of three equal prices the mean is exactly that price.
    lambda high, low, close, volume: (low + ((high - low) + (close - low)) / 3.0, volume),
    lambda parts, window: np.where(parts[1] == 0.0, np.nan, parts[0]),
)


def _ema(series: Numbers, window: int) -> Numbers:
    average = talib.EMA(series, window)
    # Only its start is a sum.
    moved = series != series[0]
    still = int(moved.argmax()) if moved.any() else series.size
    if still >= window:
        average[window - 1 : still] = series[0]
    return average


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
    if np.isnan(high + low + close).all():
        return np.full(close.size, np.nan)
    # Not a running sum: a NaN does not outlast its window.
    index = _finite(talib.CCI(high, low, close, window))
    unmoved = _unmoved((high + low + close) / 3.0, window)
    if unmoved is not None:
        index[unmoved] = np.nan
    return index


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
    "sma": _sma,
    "ema": _over_defined(_ema),
    "wma": _wma,
    "stddev": _stddev,
    "highest": _highest,
    "lowest": _lowest,
    "rsi": _over_defined(_rsi),
    "atr": _over_defined(talib.ATR),
    "adx": _over_defined(_adx),
    "cci": _cci,
    "vwap": _vwap,
    "obv": _over_defined(talib.OBV),
}
