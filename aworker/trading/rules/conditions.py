"""Conditions: true or false at a bar, and defined there or not; and the numbers that are counted from them.

Invariant: a condition with an undefined operand is undefined, `not` and `or` included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aworker.trading.rules.windows import Numbers

Booleans = NDArray[np.bool_]


class Condition(NamedTuple):
    holds: Booleans
    defined: Booleans


def compare(operation: np.ufunc) -> Callable[[Numbers, Numbers], Condition]:
    def compared(left: Numbers, right: Numbers) -> Condition:
        # Numbers are finite or NaN, and NaN alone is not itself.
        both = left + right
        return Condition(operation(left, right), both == both)

    return compared


def both(left: Condition, right: Condition) -> Condition:
    return Condition(left.holds & right.holds, left.defined & right.defined)


def either(left: Condition, right: Condition) -> Condition:
    return Condition(left.holds | right.holds, left.defined & right.defined)


def opposite(condition: Condition) -> Condition:
    return Condition(~condition.holds, condition.defined)


def held(condition: Condition, count: int) -> Booleans:
    return np.broadcast_to(condition.holds & condition.defined, count)


def since(condition: Condition, close: Numbers) -> Numbers:
    place = np.arange(close.size, dtype=np.float64)
    last = np.maximum.accumulate(np.where(held(condition, close.size), place, -1.0))
    return np.where(last < 0.0, np.nan, place - last)


def count(condition: Condition, close: Numbers, bars: int) -> Numbers:
    defined = np.broadcast_to(condition.defined, close.size)
    holding = np.concatenate([[0.0], np.cumsum(held(condition, close.size), dtype=np.float64)])
    known = np.concatenate([[0.0], np.cumsum(defined, dtype=np.float64)])
    values = np.full(close.size, np.nan)
    if close.size >= bars:
        # Whole numbers, so no rounding.
        values[bars - 1 :] = np.where(known[bars:] - known[:-bars] == bars, holding[bars:] - holding[:-bars], np.nan)
    return values


def value_when(condition: Condition, series: Numbers, times: int) -> Numbers:
    places = np.flatnonzero(held(condition, series.size))
    which = np.cumsum(held(condition, series.size)) - times
    values = np.full(series.size, np.nan)
    values[which >= 0] = series[places[which[which >= 0]]]
    return values
