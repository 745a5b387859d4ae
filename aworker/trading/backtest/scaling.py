"""Which parts of a trade are sold before the rest, in which bar and at what price.

A part ``at`` a gain is sold in the first bar whose high reaches it, at that price; one ``when`` a condition holds, at
the open after that close. The bar that ends the trade sells the rest: a part of the same bar is gone before only where
it stands nearer than the target that ended it, or where it was sold at the bar's open. A stop comes before any part.

Invariant: parts change neither when the rest of a trade ends nor what later trades are, but that the last part of a
whole position ends it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.limits import (
    FLAT,
    MAX_BARS,
    OPEN,
    SCALE_OUT,
    SIGNAL,
    TARGET,
    TARGET_PRICE,
    Limits,
)
from aworker.trading.strategies import parts
from aworker.trading.strategies.strategy import Risk

AT_OPEN = (SIGNAL, MAX_BARS, FLAT)
"""Reasons of trades that end at the open of their last bar."""

Trade = tuple[int, int, float, float, int, int]
"""The bars of entry and exit (as many as there are when it is open), the prices paid and got, the reason, the side."""


class Sold(NamedTuple):
    """A part that was sold before the rest; of a short, bought back."""

    bar: int
    price: float
    """Slippage included."""
    part: float
    """Fraction of the position as it was bought."""
    is_at_open: bool


def mean_price(sold: list[Sold], last: float) -> float:
    """Return the mean price of a trade whose rest went at ``last``."""
    if not sold:
        return last
    return sum(each.part * each.price for each in sold) + (1.0 - sum(each.part for each in sold)) * last


class Scaling:
    """The parts of one side of a symbol's trades; ``whens`` are the conditions of parts by name, one value a bar."""

    def __init__(self, risk: Risk, limits: Limits, whens: Mapping[str, NDArray[np.bool_]], slippage: float) -> None:
        self._parts = risk.scale_out
        self._limits = limits
        self._slippage = slippage
        self._is_whole = parts.total(self._parts) >= parts.ALL
        self._whens: dict[int, list[int]] = {
            place: np.flatnonzero(whens[parts.name_of(place)]).tolist()
            for place, each in enumerate(self._parts)
            if each.when is not None
        }

    def ended(self, trade: Trade) -> Trade:
        """Return the trade, ended by its last part where the parts are the whole of it."""
        if not self._is_whole:
            return trade
        sold = self._all_sold(trade)
        if sum(each.part for each in sold) < parts.ALL:
            return trade
        start, _, paid, _, _, side = trade
        last = sold[-1]
        return start, last.bar, paid, last.price, SIGNAL if last.is_at_open else SCALE_OUT, side

    def sold(self, trade: Trade) -> list[Sold]:
        """Return the parts that were sold before the rest of a trade that `ended` gave, in their order."""
        sold = self._all_sold(trade)
        return sold[:-1] if trade[4] == SCALE_OUT else sold

    def _all_sold(self, trade: Trade) -> list[Sold]:
        start, end, paid, got, reason, side = trade
        worse = 1.0 - side * self._slippage
        # The bar of the end counts for what is reached inside it only where a target ended the trade.
        until = end + 1 if reason in (TARGET, TARGET_PRICE, SCALE_OUT) else end
        last_open = end if reason in AT_OPEN or reason == OPEN else end + 1
        final = side * got / worse
        found: list[tuple[int, bool, float, Sold]] = []
        for place, part in enumerate(self._parts):
            signals = self._whens.get(place)
            if signals is not None:
                at = bisect_left(signals, start)
                if at < len(signals) and signals[at] + 1 < last_open:
                    bar = signals[at] + 1
                    price = self._limits.opening(bar) * worse
                    found.append((bar, False, 0.0, Sold(bar, price, part.part, True)))
                continue
            target = self._limits.target_of_part(place, start, paid)
            reached = self._limits.reached(start, until, target)
            if reached is None:
                continue
            if reached == end and reason in (TARGET, TARGET_PRICE) and target >= final - abs(final) * 1e-12:
                continue
            found.append((reached, True, target, Sold(reached, side * target * worse, part.part, False)))
        # Of one bar the open first, then what stands nearest; equals as they are written.
        found.sort(key=lambda each: each[:3])
        return _merged([sold for _, _, _, sold in found])


def _merged(sold: list[Sold]) -> list[Sold]:
    # What goes at one open is one order.
    made: list[Sold] = []
    for each in sold:
        if made and each.is_at_open and made[-1].is_at_open and made[-1].bar == each.bar:
            made[-1] = made[-1]._replace(part=made[-1].part + each.part)
        else:
            made.append(each)
    return made
