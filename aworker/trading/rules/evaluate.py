"""The values of a program on one symbol's bars.

A number is undefined (NaN) at a bar before its look-back, where a value it stands on is undefined, where it divides
by zero and where it overflows. A condition with any undefined operand is undefined, `not` and `or` included, and an
undefined condition never signals. Invariant: a value at a bar depends on that bar and earlier ones only.

A window of bars (sma, wma, stddev, highest, lowest, cci, vwap, mfi, slope, ...) that holds an undefined one is
undefined, so that a value depends on its window and nothing before it: the same bar says the same in a backtest and on
the few bars that an alert reads. What is smoothed without an end (ema, rsi, atr, adx, obv) leaves an undefined bar out
and goes on, as if it were not there. What looks a number of bars back (lag, change, momentum, roc, crosses_above, ...)
counts every bar.

The operations stand in `windows` (values of windows), `smoothed` (TA-Lib's recursions and what is like them) and
`conditions`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import talib
from numpy.typing import NDArray

from aworker.trading.rules import conditions, smoothed, windows
from aworker.trading.rules.calendar import SESSIONS, TIMES, Clock
from aworker.trading.rules.others import Others
from aworker.trading.rules.program import Program
from aworker.trading.rules.steps import Step
from aworker.trading.rules.windows import Numbers

Booleans = NDArray[np.bool_]


class Bars(Protocol):
    """One symbol's bars: float64 arrays of one length, oldest first."""

    @property
    def timestamp(self) -> NDArray[np.int64]: ...
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
    conditions: dict[str, Booleans] = field(default_factory=dict)
    """The program's further conditions, each of shape (n,)."""


class Known:
    """Numbers of one symbol's bars that one program computed and the next may need: a sweep's rules share most."""

    def __init__(self, most_bytes: int = 64 << 20) -> None:
        self._places: dict[tuple[Any, ...], int] = {}
        self._values: dict[int, Any] = {}
        self._left_bytes = most_bytes

    def place(self, step: Step, inputs: list[int], timezone: str) -> int:
        """Return the step's own number, the same for the same step of any program."""
        key = (step.operation, step.parameters, step.symbol, timezone, *inputs)
        return self._places.setdefault(key, len(self._places))

    def get(self, place: int) -> Any:
        """Return the value, None where it is not kept."""
        return self._values.get(place)

    def keep(self, place: int, value: Any) -> None:
        """Keep a series of numbers while there is room."""
        if isinstance(value, np.ndarray) and value.nbytes <= self._left_bytes:
            self._left_bytes -= value.nbytes
            self._values[place] = value


def evaluate(program: Program, bars: Bars, others: Others | None = None, known: Known | None = None) -> Signals:
    """Return entry, exit and rank at every bar; fewer bars than the look-back, or none, give no signal.

    NaN and infinite bars are undefined. ``others`` has the bars of the symbols that the rules look at beside, ``known``
    what programs before this one computed on the same bars.
    Raises ValueError if the bars' arrays differ in length, or ``others`` is missing.
    """
    count = len(bars.close)
    for name in _SERIES:
        if len(getattr(bars, name)) != count:
            raise ValueError(f"bars.{name} must have the length of bars.close, {count}, had {len(getattr(bars, name))}")

    values: list[Any] = []
    uses = _uses(program)
    clocks: dict[str | None, Clock] = {}
    places: list[int] = []
    with np.errstate(all="ignore"):
        for place, step in enumerate(program.steps):
            if known is not None:
                places.append(known.place(step, [places[each] for each in step.inputs], program.timezone))
                value = known.get(places[-1])
                if value is not None:
                    values.append(value)
                    continue
            if step.symbol is not None:
                values.append(_value_of_another(program, place, values, others, clocks))
            elif step.operation == "of":
                values.append(_taken_over(program, step, values, others, bars))
            else:
                values.append(_value(step, values, bars, program.timezone, clocks))
            if known is not None:
                # What another program may need is not let go.
                known.keep(places[-1], values[-1])
                continue
            for each in step.inputs:
                uses[each] -= 1
                # Let go at once: years of minute bars are megabytes a value, and a program may have hundreds.
                if not uses[each]:
                    values[each] = None
    entry, exit, rank = program.results
    return Signals(
        entry=_signal(values[entry], count),
        exit=np.zeros(count, np.bool_) if exit is None else _signal(values[exit], count),
        rank=np.full(count, np.nan) if rank is None else np.array(np.broadcast_to(values[rank], count)),
        levels={name: np.array(np.broadcast_to(values[place], count)) for name, place in program.levels},
        conditions={name: _signal(values[place], count) for name, place in program.conditions},
    )


def _uses(program: Program) -> list[int]:
    uses = [0] * len(program.steps)
    for step in program.steps:
        for place in step.inputs:
            uses[place] += 1
    for result in (*program.results, *(place for _, place in (*program.levels, *program.conditions))):
        if result is not None:
            uses[result] += 1
    return uses


def _value(step: Step, values: list[Any], bars: Bars, timezone: str, clocks: dict[str | None, Clock]) -> Any:
    if step.operation in _SERIES:
        return windows.finite(np.ascontiguousarray(getattr(bars, step.operation), dtype=np.float64))
    inputs = [values[place] for place in step.inputs]
    if step.operation in TIMES or step.operation in SESSIONS:
        if step.symbol not in clocks:
            clocks[step.symbol] = Clock(np.asarray(bars.timestamp, np.int64), timezone)
        if step.operation in TIMES:
            return TIMES[step.operation](clocks[step.symbol])
        return SESSIONS[step.operation](clocks[step.symbol], *inputs)
    return _OPERATIONS[step.operation](*inputs, *step.parameters)


def _value_of_another(
    program: Program, place: int, values: list[Any], others: Others | None, clocks: dict[str | None, Clock]
) -> Any:
    # Counted once for all the symbols that are traded.
    step = program.steps[place]
    if others is None or step.symbol is None:
        raise ValueError(f"others must have the bars of {', '.join(program.others)}, was None")
    known = others.known(place)
    if known is not None:
        return known
    return others.keep(place, _value(step, values, others.bars[step.symbol], program.timezone, clocks))


def _taken_over(program: Program, step: Step, values: list[Any], others: Others | None, bars: Bars) -> Any:
    (place,) = step.inputs
    symbol = program.steps[place].symbol
    assert others is not None
    assert symbol is not None
    return others.aligned(symbol, values[place], np.asarray(bars.timestamp, np.int64))


def _signal(condition: conditions.Condition, count: int) -> Booleans:
    return np.array(np.broadcast_to(condition.holds & condition.defined, count))


def _arithmetic(operation: np.ufunc) -> Callable[..., Numbers]:
    return lambda *numbers: windows.finite(operation(*numbers))


_SERIES = ("open", "high", "low", "close", "volume")
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "constant": np.float64,
    "add": _arithmetic(np.add),
    "subtract": _arithmetic(np.subtract),
    "multiply": _arithmetic(np.multiply),
    "divide": _arithmetic(np.divide),
    "abs": np.abs,
    "<": conditions.compare(np.less),
    "<=": conditions.compare(np.less_equal),
    ">": conditions.compare(np.greater),
    ">=": conditions.compare(np.greater_equal),
    "==": conditions.compare(np.equal),
    "!=": conditions.compare(np.not_equal),
    "and": conditions.both,
    "or": conditions.either,
    "not": conditions.opposite,
    "lag": windows.lag,
    "sma": windows.sma,
    "ema": smoothed.over_defined(smoothed.ema),
    "wma": windows.wma,
    "stddev": windows.stddev,
    "highest": windows.highest,
    "lowest": windows.lowest,
    "rsi": smoothed.over_defined(smoothed.rsi),
    "atr": smoothed.over_defined(talib.ATR),
    "adx": smoothed.over_defined(smoothed.directional(talib.ADX)),
    "cci": smoothed.cci,
    "vwap": windows.vwap,
    "obv": smoothed.over_defined(talib.OBV),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "since": conditions.since,
    "count": conditions.count,
    "value_when": conditions.value_when,
    "supertrend": smoothed.over_defined(smoothed.supertrend),
    "sar": smoothed.over_defined(smoothed.sar),
    "mfi": windows.mfi,
    "plus_di": smoothed.over_defined(smoothed.directional(talib.PLUS_DI)),
    "minus_di": smoothed.over_defined(smoothed.directional(talib.MINUS_DI)),
    "percent_rank": windows.percent_rank,
    "correlation": windows.correlation,
    "beta": windows.beta,
}
