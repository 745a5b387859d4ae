"""Trading one symbol on its signals: which trades come of them, and what the capital was worth at every close.

What happens in a bar, in this order (each point is one where engines differ):

1. At the open: a signal of the bar before is carried out, entry or exit. No signal is acted on in its own bar.
2. Inside the bar, the entry bar included: the stop, else the target. The stop is the higher of ``stop_loss`` below the
   entry price and ``trailing_stop`` below the highest price since entry known before the bar. Opened below the stop:
   the open. Opened above the target: the target.
   Parts that are sold before the rest are in `scaling`.
3. At the close: the rules are looked at. Where entry and exit both hold, nothing is opened.

A signal to sell short where a long position is held, or to buy where a short one is, also ends that position, both at
one open. Where both sides signal, neither does.

Slippage moves every fill against the trade; the commission is paid on the value filled, ``per_share`` on every share.
The whole capital goes into the one position, in fractions of a share: a short sells what a long position would have
bought, and pays ``borrow`` a year of 365 days on that value. A short whose price has doubled, so that its loss reaches
the capital, is bought back there, and the trading ends. A trade still open at the end is worth the last close, without
costs of leaving it. A bar with an undefined or not positive price does not exist for trading: orders wait for the next
that does.

Invariant: no value of a bar is used before it is known, so that bars cut off at the end change no earlier trade.

Why it jumps from signal to signal and searches stops in blocks: a loop over every bar costs a second for what takes a
tenth of one here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.limits import FLAT, MAX_BARS, OPEN, REASONS, RUIN, SIGNAL, Limits
from aworker.trading.backtest.scaling import Scaling, Sold, Trade, mean_price
from aworker.trading.bars.store import COLUMNS, Bars
from aworker.trading.strategies.strategy import LIMITS, Risk

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
    """The mean where it was left in parts, those still held at the last close."""
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
    proceeds: Floats
    """What of a share was sold before and at the end, at its prices; less than ``exit_price`` where some is open."""
    parts: dict[int, list[Sold]]
    """Of trades that were left in parts: what was sold before the rest."""


YEAR_S = 365 * 86_400


def simulate(
    bars: Bars,
    entry: Booleans | None,
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
    whens: Mapping[str, Booleans] = MappingProxyType({}),
    per_share: float = 0.0,
    *,
    is_tradable: bool = False,
) -> Simulation:
    """Trade one symbol on its signals, bool[n] each at the close of a bar.

    ``entry`` None means that it is only sold short, ``exit`` None that there is no exit rule; then ``cycle``, which
    waits for an exit signal after a stop, waits for a new entry signal like ``edge``. ``levels`` are what the rules of
    ``risk`` say at each close. ``flat`` says of each bar whether nothing is held or bought any more, and whether a
    position of the day before is closed. ``short`` and ``cover`` are entry and exit of the short side; ``borrow`` is
    what a short pays a year, a fraction. ``whens`` are the conditions of ``risk.scale_out``, ``per_share`` is money a
    side. ``is_tradable`` tells that all bars have prices, which is looked up otherwise.
    """
    costs = Costs(commission, slippage, borrow, per_share)
    orders = Orders(entry, exit, short, cover, levels, flat, whens)
    places = None if is_tradable else tradable(bars)
    if places is None:
        return _simulate(bars, orders, risk, reentry, costs)
    made = _simulate(bars_at(bars, places), orders.at(places), risk, reentry, costs)
    # A bar that does not exist for trading leaves equity and position as they were.
    latest = np.searchsorted(places, np.arange(len(bars)), side="right") - 1
    known = latest >= 0
    equity, held = np.ones(len(bars)), np.zeros(len(bars), np.bool_)
    equity[known], held[known] = made.equity[latest[known]], made.held[latest[known]]
    parts = {
        place: [each._replace(bar=places.item(each.bar)) for each in sold] for place, sold in made.parts.items()
    }  # fmt: skip
    entry_bar, exit_bar = places[made.entry_bar], places[made.exit_bar]
    return replace(made, entry_bar=entry_bar, exit_bar=exit_bar, equity=equity, held=held, parts=parts)


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

    entry: Booleans | None
    """None of what is only sold short."""
    exit: Booleans | None
    short: Booleans | None
    cover: Booleans | None
    levels: Mapping[str, Floats]
    flat: tuple[Booleans, Booleans] | None
    whens: Mapping[str, Booleans] = field(default_factory=dict)
    """The conditions of ``risk.scale_out``, by name."""

    def at(self, places: Integers) -> Orders:
        """Return those of some of the bars."""
        signals = (self.entry, self.exit, self.short, self.cover)
        entry, exit, short, cover = (None if each is None else each[places] for each in signals)
        levels = {name: level[places] for name, level in self.levels.items()}
        flat = None if self.flat is None else (self.flat[0][places], self.flat[1][places])
        whens = {name: when[places] for name, when in self.whens.items()}
        return Orders(entry, exit, short, cover, levels, flat, whens)


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
    entry, short = (
        side if side is None or known is None else side & known for side in (orders.entry, orders.short)
    )  # fmt: skip
    if short is None:
        return [] if entry is None else [Side(1, entry, orders.exit, orders, reentry)]
    if entry is None:
        return [Side(-1, short, orders.cover, orders, reentry)]
    # A signal of the other side is an exit.
    long_, short = entry & ~short, short & ~entry
    exit = short if orders.exit is None else orders.exit | short
    cover = long_ if orders.cover is None else orders.cover | long_
    return [Side(1, long_, exit, orders, reentry), Side(-1, short, cover, orders, reentry)]


class Trading:
    """What may be traded of one symbol; its bars must all have prices."""

    def __init__(self, bars: Bars, orders: Orders, risk: Risk, reentry: str, slippage: float) -> None:
        self.bars = bars
        self._risk, self._slippage = risk, slippage
        self.limits = {1: Limits(bars, risk, orders.levels)}
        self.sides = _sides(orders, self.limits[1], reentry)
        if orders.short is not None:
            self.limits[-1] = Limits(bars, risk, orders.levels, -1)
        self._scaling = {
            side: Scaling(risk, limits, orders.whens, slippage)
            for side, limits in self.limits.items()
            if risk.scale_out
        }
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
        trade = start, end, paid, got, reason, side.sign
        return self._scaling[side.sign].ended(trade) if self._scaling else trade

    def sold(self, trade: Trade) -> list[Sold]:
        """Return the parts of a trade that were sold before the rest."""
        return self._scaling[trade[5]].sold(trade) if self._scaling else []

    def leave(self, side: Side, end: int, reason: int) -> None:
        """Go on after a trade of a side."""
        side.leave(end, reason)
        for other in self.sides:
            if other is not side:
                # The signal that ended this trade may be one to enter the other way, at the same open.
                other.now = max(other.now, end - 1 if reason == SIGNAL else end)


def _simulate(bars: Bars, orders: Orders, risk: Risk, reentry: str, costs: Costs) -> Simulation:
    if (
        orders.short is None
        and orders.entry is not None
        and orders.flat is None
        and not orders.levels
        and _is_bare(risk)
    ):
        return _counted(bars, _of_signals(bars, orders.entry, orders.exit, costs.slippage), {}, costs)
    # Jumps from event to event: the lists hold the bars at which something can happen.
    trading = Trading(bars, orders, risk, reentry, costs.slippage)
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
    parts = {place: sold for place, trade in enumerate(trades) if (sold := trading.sold(trade))}
    table = np.array(trades, np.float64).reshape(len(trades), 6)
    return _counted(bars, table, parts, costs)


def _is_bare(risk: Risk) -> bool:
    return risk.max_bars is None and not risk.scale_out and all(getattr(risk, name) is None for name in LIMITS)


def _of_signals(bars: Bars, entry: Booleans, exit: Booleans | None, slippage: float) -> Floats:
    """Return the trades of a long side that its signals alone end, a row each as a `Trade`.

    By turns the next signal to buy and the next one to sell count, so all are found at once.
    """
    count = len(bars)
    may_enter = entry if exit is None else entry & ~exit
    if exit is None:
        starts, ends = np.flatnonzero(may_enter)[:1] + 1, np.empty(0, np.int64)
    else:
        places = np.flatnonzero(may_enter | exit)
        buys = may_enter[places]
        before = np.zeros(len(buys), np.bool_)
        before[1:] = buys[:-1]
        starts, ends = places[buys & ~before] + 1, places[~buys & before] + 1
    starts = starts[starts < count]
    table = np.empty((len(starts), 6))
    table[:, 0], table[:, 1], table[:, 4], table[:, 5] = starts, count, OPEN, 1
    table[:, 2] = bars.open[starts] * (1.0 + slippage)
    ends = ends[ends < count]
    closed = len(ends)
    table[:closed, 1], table[:closed, 4] = ends, SIGNAL
    table[:closed, 3] = bars.open[ends] * (1.0 - slippage)
    table[closed:, 3] = bars.close[-1] if count else 0.0
    return table


def _next(sides: list[Side]) -> tuple[int, Side | None]:
    first: tuple[int, Side | None] = (0, None)
    for side in sides:
        signal = side.next_signal()
        if signal is not None and (first[1] is None or signal < first[0]):
            first = (signal, side)
    return first


def _counted(bars: Bars, table: Floats, parts: dict[int, list[Sold]], costs: Costs) -> Simulation:
    # A row of the table is a `Trade`.
    commission, borrow, per_share = costs.commission, costs.borrow, costs.per_share
    count, close = len(bars), bars.close
    starts, ends, reasons = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 4].astype(np.int8)
    paid_, got_, side = table[:, 2], table[:, 3], table[:, 5].astype(np.int8)
    cost = paid_ * (1.0 + commission) + per_share
    leaving = np.where(reasons == OPEN, 0.0, commission)
    ending = np.where(reasons == OPEN, 0.0, per_share)
    growth = np.maximum((got_ * (1.0 - leaving) - ending) / cost, 0.0)
    is_short = side < 0
    is_mixed = bool(is_short.any())
    if is_mixed:
        last = np.minimum(ends, count - 1)
        fee = borrow * (bars.timestamp[last] - bars.timestamp[starts]) / YEAR_S
        owed_ = got_ * (1.0 + leaving) + ending + paid_ * fee
        short_growth = 1.0 + (paid_ * (1.0 - commission) - per_share - owed_) / cost
        growth = np.where(is_short, np.where(reasons == RUIN, 0.0, np.maximum(short_growth, 0.0)), growth)
    proceeds = np.where(reasons == OPEN, 0.0, got_)
    courses: dict[int, _Course] = {}
    for place, sold in parts.items():
        course = courses[place] = _Course(bars, _trade(table[place]), sold, costs)
        growth[place] = course.growth
        proceeds[place], got_[place] = course.proceeds, course.exit_price
    capital = np.cumprod(np.concatenate([[1.0], growth]))
    # Stretches by turns in cash and in shares: a value at a close is shares x price, or the cash.
    borders = np.empty(2 * len(table) + 2, np.int64)
    borders[0], borders[1:-1:2], borders[2:-1:2], borders[-1] = 0, starts, ends, count
    lengths = np.diff(borders)
    values = np.empty(2 * len(table) + 1)
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
        owed = close[part] - paid * (1.0 - commission) + per_share + fees
        equity[part] = np.maximum(capital[place] - shares * owed, 0.0)
    for place, course in courses.items():
        # Before the first part is sold the worth is that of any trade, to the last bit.
        first = parts[place][0].bar
        equity[first : ends.item(place)] = capital[place] * course.values[first - starts.item(place) :]
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
        proceeds=proceeds,
        parts=parts,
    )


def _trade(row: Floats) -> Trade:
    start, end, paid, got, reason, side = row.tolist()
    return int(start), int(end), paid, got, int(reason), int(side)


class _Course:
    """What 1 invested in a trade that is left in parts was worth at its closes, and what it became."""

    def __init__(self, bars: Bars, trade: Trade, sold: list[Sold], costs: Costs) -> None:
        start, end, paid, got, reason, side = trade
        rate, cost = costs.commission, costs.of_a_share(paid)
        close, last = bars.close[start:end], min(end, len(bars) - 1)
        fees = paid * costs.borrow / YEAR_S * (bars.timestamp[start : last + 1] - bars.timestamp[start])
        # Of a short what was kept aside, and what the sale brought.
        kept = paid * (1.0 + rate) + paid * (1.0 - rate)

        def worth(price: Any, fee: Any) -> Any:
            return price if side > 0 else kept - price - fee

        def back(price: float, fee: float) -> float:
            return float(worth(price, fee)) - price * rate - costs.per_share

        rest, cash = np.ones(len(close)), np.zeros(len(close))
        total = 0.0
        for each in sold:
            at = each.bar - start
            money = each.part * back(each.price, fees.item(at))
            total += money
            cash[at:] += money
            rest[at:] -= each.part
        left = 1.0 - sum(each.part for each in sold)
        total += left * (float(worth(got, fees.item(-1))) if reason == OPEN else back(got, fees.item(-1)))
        self.exit_price = mean_price(sold, got)
        self.proceeds = mean_price(sold, 0.0 if reason == OPEN else got)
        self.growth = max(total / cost, 0.0)
        self.values = np.maximum((cash + worth(close, fees[: len(close)]) * rest) / cost, 0.0)
