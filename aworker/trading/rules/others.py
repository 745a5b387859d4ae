"""What rules see of other symbols: `of("SPY", ...)` is counted on that symbol's own bars and taken over bar by bar.

At a bar the other symbol is worth what its latest bar with the same opening instant or an earlier one says; nothing
where that bar is older than MOST_AGE_S. Invariant: no bar of another symbol that opens later is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aworker.trading.rules.conditions import Condition
from aworker.trading.rules.program import Program

MOST_AGE_S = 7 * 86_400
"""A week: a holiday lies within it, a symbol that stopped trading does not."""


class Others:
    """The bars of the symbols that a program looks at, and its values on them, which are counted once."""

    def __init__(self, program: Program, bars: Mapping[str, Any], most_age_s: int = MOST_AGE_S) -> None:
        missing = [symbol for symbol in program.others if symbol not in bars]
        if missing:
            raise ValueError(f"others must have the bars of {', '.join(program.others)}, was without {missing[0]}")
        self.bars = {symbol: bars[symbol] for symbol in program.others}
        self._most_age_s = most_age_s
        self._values: dict[int, Any] = {}

    def keep(self, place: int, value: Any) -> Any:
        """Remember a step's value on its symbol's own bars."""
        self._values[place] = value
        return value

    def known(self, place: int) -> Any:
        """Return what `keep` was given, None before."""
        return self._values.get(place)

    def aligned(self, symbol: str, value: Any, timestamp: NDArray[np.int64]) -> Any:
        """Return a number or condition on the other symbol's bars as one on bars with these opening instants."""
        there = self.bars[symbol].timestamp
        place = np.searchsorted(there, timestamp, side="right") - 1
        if not len(there):
            known = np.zeros(len(timestamp), np.bool_)
        else:
            known = (place >= 0) & (timestamp - there[place] <= self._most_age_s)
        place = np.where(known, place, 0)

        def taken(array: Any, without: Any) -> Any:
            whole = np.broadcast_to(array, len(there))
            return np.where(known, whole[place], without) if len(there) else np.full(len(timestamp), without)

        if isinstance(value, Condition):
            return Condition(taken(value.holds, False), taken(value.defined, False))
        return taken(value, np.nan)
