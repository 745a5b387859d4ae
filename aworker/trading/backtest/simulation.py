"""Trading one symbol on its signals: which trades come of them, and what the capital was worth at every close.

What happens in a bar, in this order (each point is one where engines differ):

1. At the open: a signal of the bar before is carried out, entry or exit. No signal is acted on in its own bar.
2. Inside the bar, the entry bar included: the stop, else the target. The stop is the higher of ``stop_loss`` below the
   entry price and ``trailing_stop`` below the highest price since entry known before the bar. Opened below the stop:
   the open. Opened above the target: the target.
3. At the close: the rules are looked at. Where entry and exit both hold, nothing is opened.

A signal to sell short where a long position is held, or to buy where a short one is, also ends that position, both at
one open. Where both sides signal, neither does.

Slippage moves every fill against the trade, the commission is paid on the value filled. The whole capital goes into the
one position, in fractions of a share: a short sells what a long position would have bought, and pays ``borrow`` a year
of 365 days on that value. A short whose loss reaches the capital is bought back there, and the trading ends. A trade
still open at the end is worth the last close, without costs of leaving it. A bar with an undefined or not positive
price does not exist for trading: orders wait for the next that does.

Invariant: no value of a bar is used before it is known, so that bars cut off at the end change no earlier trade.

Why it jumps from signal to signal and searches stops in blocks: a loop over every bar costs a second for what takes a
tenth of one here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.limits import FLAT, MAX_BARS, OPEN, REASONS, RUIN, SIGNAL, Limits
from aworker.trading.bars.store import COLUMNS, Bars
from aworker.trading.strategies.strategy import Risk

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

__all__ = ["OPEN", "REASONS", "Orders", "Simulation", "Trading", "simulate"]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """The trades of one symbol, oldest first, and what its capital of 1 was worth at every close.

    Arrays of k trades, but ``equity`` and ``held`` of n bars.
    """

    entry_bar: Integers
    """The bar at whose open the trade was entered."""
    exit_bar: Integers
    """The bar in which it was left; the last bar when it is still open."""
    bars_held: Integers
    """Closes that the trade lived through."""
    entry_price: Floats
    """Slippage included, commission not; so also ``exit_price``."""
    exit_price: Floats
    growth: Floats
    """What 1 invested became, all costs paid; not below 0."""
    capital: Floats
    """What the symbol's capital was before the trade."""
    reason: NDArray[np.int8]
    """Places in REASONS."""
    side: NDArray[np.int8]
    """1 for a long trade, -1 for a short one."""
    equity: Floats
    held: Booleans
    """Whether a position is held at the close."""


YEAR_S = 365 * 86_400


def simulate(
    bars: Bars,
    entry: Booleans,
    exit: Booleans | None,
    risk: Risk,
    reentry: str = "cycle",
    commission: float = 0.0,
    slippage: float = 0.0,
    levels: Mapping[str, Floats] = MappingProxyType({}),
    flat: tuple[Booleans, Booleans] | None = None,
    short: Booleans | None = None,
    cover: Booleans | None = None,
    borrow: float = 0.0,
) -> Simulation:
    """Trade one symbol on its signals, bool[n] each at the close of a bar.

    ``exit`` None means that there is no exit rule; then ``cycle``, which waits for an exit signal after a stop, waits
    for a new entry signal like ``edge``. ``levels`` are what the rules of ``risk`` say at each close. ``flat`` says of
    each bar whether nothing is held or bought any more, and whether a position of the day before is closed. ``short``
    and ``cover`` are entry and exit of the short side; ``borrow`` is what a short pays a year, a fraction.
    """
    orders = Orders(entry, exit, short, cover, levels, flat)
    places = tradable(bars)
    if places is None:
        return _simulate(bars, orders, risk, reentry, commission, slippage, borrow)
    made = _simulate(bars_at(bars, places), orders.at(places), risk, reentry, commission, slippage, borrow)
    # A bar that does not exist for trading leaves equity and position as they were.
    latest = np.searchsorted(places, np.arange(len(bars)), side="right") - 1
    known = latest >= 0
    equity, held = np.ones(len(bars)), np.zeros(len(bars), np.bool_)
    equity[known], held[known] = made.equity[latest[known]], made.held[latest[known]]
    return replace(made, entry_bar=places[made.entry_bar], exit_bar=places[made.exit_bar], equity=equity, held=held)


def tradable(bars: Bars) -> Integers | None:
    """Return the places of the bars that exist for trading, None for all."""
    prices = (bars.open, bars.high, bars.low, bars.close)
    # NaN fails both comparisons.
    if not len(bars) or all(price.min() > 0 and price.max() < np.inf for price in prices):
        return None
    return np.flatnonzero(np.logical_and.reduce([(price > 0) & (price < np.inf) for price in prices]))


def bars_at(bars: Bars, places: Integers) -> Bars:
    """Return some of the bars."""
    return Bars(bars.symbol, bars.timeframe, *(getattr(bars, name)[places] for name in COLUMNS))


@dataclass(frozen=True, slots=True, eq=False)
class Orders:
    """The signals of one symbol, as `simulate` takes them."""

    entry: Booleans
    exit: Booleans | None
    short: Booleans | None
    cover: Booleans | None
    levels: Mapping[str, Floats]
    flat: tuple[Booleans, Booleans] | None

    def at(self, places: Integers) -> Orders:
        """Return those of some of the bars."""
        exit, short, cover = (None if each is None else each[places] for each in (self.exit, self.short, self.cover))
        levels = {name: level[places] for name, level in self.levels.items()}
        flat = None if self.flat is None else (self.flat[0][places], self.flat[1][places])
        return Orders(self.entry[places], exit, short, cover, levels, flat)


class Side:
    """One side's bars at which something can happen, as lists, and where it goes on."""

    def __init__(self, sign: int, entry: Booleans, exit: Booleans | None, orders: Orders, reentry: str) -> None:
        may_enter = entry if exit is None else entry & ~exit
        if orders.flat is not None:
            may_enter = may_enter & ~np.append(orders.flat[0][1:], False)
        self.sign = sign
        self.exits: list[int] = [] if exit is None else np.flatnonzero(exit).tolist()
        self.reentry = "edge" if reentry == "cycle" and exit is None else reentry
        self.entries: list[int] = np.flatnonzero(may_enter).tolist()
        self.new_entries: list[int] = []
        if self.reentry == "edge":
            rises = may_enter.copy()
            rises[1:] &= ~entry[:-1]
            self.new_entries = np.flatnonzero(rises).tolist()
        self.candidates, self.now = self.entries, 0

    def next_signal(self) -> int | None:
        place = bisect_left(self.candidates, self.now)
        return self.candidates[place] if place < len(self.candidates) else None

    def leave(self, bar: int, reason: int) -> None:
        self.now, self.candidates = bar, self.entries
        if reason in (SIGNAL, FLAT):
            return
        if self.reentry == "edge":
            self.candidates = self.new_entries
        elif self.reentry == "cycle":
            place = bisect_left(self.exits, bar)
            self.candidates, self.now = (self.entries, self.exits[place]) if place < len(self.exits) else ([], bar)


def _sides(orders: Orders, limits: Limits, reentry: str) -> list[Side]:
    known = limits.known()
    entry = orders.entry if known is None else orders.entry & known
    if orders.short is None:
        return [Side(1, entry, orders.exit, orders, reentry)]
    short = orders.short if known is None else orders.short & known
    # A signal of the other side is an exit.
    long_, short = entry & ~short, short & ~entry
    exit = short if orders.exit is None else orders.exit | short
    cover = long_ if orders.cover is None else orders.cover | long_
    return [Side(1, long_, exit, orders, reentry), Side(-1, short, cover, orders, reentry)]


Trade = tuple[int, int, float, float, int, int]
"""The bars of entry and exit (as many as there are when it is open), the prices paid and got, the reason, the side."""


class Trading:
    """What may be traded of one symbol; its bars must all have prices."""

    def __init__(self, bars: Bars, orders: Orders, risk: Risk, reentry: str, slippage: float) -> None:
        self.bars = bars
        self._risk, self._slippage = risk, slippage
        self.limits = {1: Limits(bars, risk, orders.levels)}
        self.sides = _sides(orders, self.limits[1], reentry)
        if len(self.sides) > 1:
            self.limits[-1] = Limits(bars, risk, orders.levels, -1)
        self._closings: list[int] = []
        if orders.flat is not None:
            self._closings = np.flatnonzero(orders.flat[0] | orders.flat[1]).tolist()

    def trade(self, side: Side, start: int) -> Trade:
        """Return the trade that is entered at the open of a bar."""
        count, open_, max_bars = len(self.bars), self.bars.open, self._risk.max_bars
        paid = open_.item(start) * (1.0 + side.sign * self._slippage)
        place = bisect_left(side.exits, start)
        end, reason = (side.exits[place] + 1, SIGNAL) if place < len(side.exits) else (count, OPEN)
        if max_bars is not None and start + max_bars < end:
            end, reason = start + max_bars, MAX_BARS
        if self._closings:
            place = bisect_left(self._closings, start + 1)
            if place < len(self._closings) and self._closings[place] < end:
                end, reason = self._closings[place], FLAT
        if end >= count:
            end, reason = count, OPEN
        worse = 1.0 - side.sign * self._slippage
        got = self.bars.close.item(-1) if reason == OPEN else open_.item(end) * worse
        if self.limits[side.sign].is_there:
            hit = self.limits[side.sign].first_hit(start, end, paid)
            if hit is not None:
                end, price, reason = hit
                got = price * worse
        return start, end, paid, got, reason, side.sign

    def leave(self, side: Side, end: int, reason: int) -> None:
        """Go on after a trade of a side."""
        side.leave(end, reason)
        for other in self.sides:
            if other is not side:
                # The signal that ended this trade may be one to enter the other way, at the same open.
                other.now = max(other.now, end - 1 if reason == SIGNAL else end)


def _simulate(
    bars: Bars, orders: Orders, risk: Risk, reentry: str, commission: float, slippage: float, borrow: float
) -> Simulation:
    # Jumps from event to event: the lists hold the bars at which something can happen.
    trading = Trading(bars, orders, risk, reentry, slippage)
    trades: list[Trade] = []
    while True:
        signal, side = _next(trading.sides)
        if side is None or signal + 1 >= len(bars):
            break
        trade = trading.trade(side, signal + 1)
        trades.append(trade)
        _, end, _, _, reason, _ = trade
        if reason in (OPEN, RUIN):
            break
        trading.leave(side, end, reason)
    return _counted(bars, trades, commission, borrow)


def _next(sides: list[Side]) -> tuple[int, Side | None]:
    first: tuple[int, Side | None] = (0, None)
    for side in sides:
        signal = side.next_signal()
        if signal is not None and (first[1] is None or signal < first[0]):
            first = (signal, side)
    return first


def _counted(bars: Bars, trades: list[Trade], commission: float, borrow: float) -> Simulation:
    count, close = len(bars), bars.close
    table = np.array(trades, np.float64).reshape(len(trades), 6)
    starts, ends, reasons = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 4].astype(np.int8)
    paid_, got_, side = table[:, 2], table[:, 3], table[:, 5].astype(np.int8)
    cost = paid_ * (1.0 + commission)
    leaving = np.where(reasons == OPEN, 0.0, commission)
    growth = got_ * (1.0 - leaving) / cost
    is_short = side < 0
    is_mixed = bool(is_short.any())
    if is_mixed:
        last = np.minimum(ends, count - 1)
        fee = borrow * (bars.timestamp[last] - bars.timestamp[starts]) / YEAR_S
        short_growth = 1.0 + (paid_ * (1.0 - commission) - got_ * (1.0 + leaving) - paid_ * fee) / cost
        growth = np.where(is_short, np.where(reasons == RUIN, 0.0, np.maximum(short_growth, 0.0)), growth)
    capital = np.cumprod(np.concatenate([[1.0], growth]))
    # Stretches by turns in cash and in shares: a value at a close is shares x price, or the cash.
    borders = np.empty(2 * len(trades) + 2, np.int64)
    borders[0], borders[1:-1:2], borders[2:-1:2], borders[-1] = 0, starts, ends, count
    lengths = np.diff(borders)
    values = np.empty(2 * len(trades) + 1)
    values[0::2], values[1::2] = capital, capital[:-1] / cost
    in_shares = np.zeros(len(values), np.bool_)
    in_shares[1::2] = True
    held = np.repeat(in_shares, lengths)
    equity = np.repeat(values, lengths)
    np.multiply(equity, close, out=equity, where=held)
    for place in np.flatnonzero(is_short).tolist() if is_mixed else []:
        part = slice(starts.item(place), ends.item(place))
        paid, shares = paid_.item(place), (capital[place] / cost[place]).item()
        fees = paid * borrow * (bars.timestamp[part] - bars.timestamp[part.start]) / YEAR_S
        owed = close[part] - paid * (1.0 - commission) + fees
        equity[part] = np.maximum(capital[place] - shares * owed, 0.0)
    return Simulation(
        entry_bar=starts,
        exit_bar=np.minimum(ends, count - 1),
        bars_held=ends - starts,
        entry_price=paid_,
        exit_price=got_,
        growth=growth,
        capital=capital[:-1],
        reason=reasons,
        side=side,
        equity=equity,
        held=held,
    )
