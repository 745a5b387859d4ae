"""Trading one symbol on its signals: which trades come of them, and what the capital was worth at every close.

What happens in a bar, in this order (each point is one where engines differ):

1. At the open: a signal of the bar before is carried out, entry or exit. No signal is acted on in its own bar.
2. Inside the bar, the entry bar included: the stop, else the target. The stop is the higher of ``stop_loss`` below the
   entry price and ``trailing_stop`` below the highest price since entry known before the bar. Opened below the stop:
   the open. Opened above the target: the target.
3. At the close: the rules are looked at. Where entry and exit both hold, nothing is opened.

Slippage moves every fill against the trade, the commission is paid on the value filled. The whole capital goes into the
one position, long only, in fractions of a share. A trade still open at the end is worth the last close, without costs
of selling. A bar with an undefined or not positive price does not exist for trading: orders wait for the next
that does.

Invariant: no value of a bar is used before it is known, so that bars cut off at the end change no earlier trade.

Why it jumps from signal to signal and searches stops in blocks: a loop over every bar costs a second for what takes a
tenth of one here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.limits import FLAT, MAX_BARS, OPEN, REASONS, SIGNAL, Limits
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.strategy import Risk

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

__all__ = ["OPEN", "REASONS", "Simulation", "simulate"]


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
    """What 1 invested became, all costs paid."""
    capital: Floats
    """What the symbol's capital was before the trade."""
    reason: NDArray[np.int8]
    """Places in REASONS."""
    equity: Floats
    held: Booleans
    """Whether a position is held at the close."""


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
) -> Simulation:
    """Trade one symbol on its signals, bool[n] each at the close of a bar.

    ``exit`` None means that there is no exit rule; then ``cycle``, which waits for an exit signal after a stop, waits
    for a new entry signal like ``edge``. ``levels`` are what the rules of ``risk`` say at each close. ``flat`` says of
    each bar whether nothing is held or bought any more, and whether a position of the day before is closed.
    """
    prices = (bars.open, bars.high, bars.low, bars.close)
    # NaN fails both comparisons.
    if not len(bars) or all(price.min() > 0 and price.max() < np.inf for price in prices):
        return _simulate(bars, entry, exit, risk, reentry, commission, slippage, levels, flat)
    tradable = np.logical_and.reduce([(price > 0) & (price < np.inf) for price in prices])
    places = np.flatnonzero(tradable)
    kept = Bars(
        bars.symbol, bars.timeframe, bars.timestamp[places], bars.open[places], bars.high[places],
        bars.low[places], bars.close[places], bars.volume[places],
    )  # fmt: skip
    exits = None if exit is None else exit[places]
    known_levels = {name: level[places] for name, level in levels.items()}
    known_flat = None if flat is None else (flat[0][places], flat[1][places])
    short = _simulate(kept, entry[places], exits, risk, reentry, commission, slippage, known_levels, known_flat)
    # A bar that does not exist for trading leaves equity and position as they were.
    latest = np.cumsum(tradable) - 1
    known = latest >= 0
    equity, held = np.ones(len(bars)), np.zeros(len(bars), np.bool_)
    equity[known], held[known] = short.equity[latest[known]], short.held[latest[known]]
    return Simulation(
        entry_bar=places[short.entry_bar],
        exit_bar=places[short.exit_bar],
        bars_held=short.bars_held,
        entry_price=short.entry_price,
        exit_price=short.exit_price,
        growth=short.growth,
        capital=short.capital,
        reason=short.reason,
        equity=equity,
        held=held,
    )


def _simulate(
    bars: Bars,
    entry: Booleans,
    exit: Booleans | None,
    risk: Risk,
    reentry: str,
    commission: float,
    slippage: float,
    levels: Mapping[str, Floats],
    flat: tuple[Booleans, Booleans] | None,
) -> Simulation:
    # Jumps from event to event: the lists hold the bars at which something can happen.
    count = len(bars)
    open_, close = bars.open, bars.close
    limits = Limits(bars, risk, levels)
    known = limits.known()
    if known is not None:
        entry = entry & known
    closings: list[int] = []
    may_enter = entry if exit is None else entry & ~exit
    if flat is not None:
        closings = np.flatnonzero(flat[0] | flat[1]).tolist()
        may_enter = may_enter & ~np.append(flat[0][1:], False)
    exits = [] if exit is None else np.flatnonzero(exit).tolist()
    entries = np.flatnonzero(may_enter).tolist()
    if reentry == "cycle" and exit is None:
        reentry = "edge"
    new_entries: list[int] = []
    if reentry == "edge":
        rises = may_enter.copy()
        rises[1:] &= ~entry[:-1]
        new_entries = np.flatnonzero(rises).tolist()
    worse, better = 1.0 - slippage, 1.0 + slippage

    trades: list[tuple[int, int, float, float, int]] = []
    candidates, now = entries, 0
    while True:
        place = bisect_left(candidates, now)
        if place == len(candidates) or candidates[place] + 1 >= count:
            break
        start = candidates[place] + 1
        paid = open_.item(start) * better
        place = bisect_left(exits, start)
        end, reason = (exits[place] + 1, SIGNAL) if place < len(exits) else (count, OPEN)
        if risk.max_bars is not None and start + risk.max_bars < end:
            end, reason = start + risk.max_bars, MAX_BARS
        if flat is not None:
            place = bisect_left(closings, start + 1)
            if place < len(closings) and closings[place] < end:
                end, reason = closings[place], FLAT
        if end >= count:
            end, reason = count, OPEN
        got = close.item(-1) if reason == OPEN else open_.item(end) * worse
        if limits.is_there:
            hit = limits.first_hit(start, end, paid)
            if hit is not None:
                end, price, reason = hit
                got = price * worse
        trades.append((start, end, paid, got, reason))
        if reason == OPEN:
            break
        now = end
        candidates = entries
        is_ordinary = reason in (SIGNAL, FLAT)
        if not is_ordinary and reentry == "edge":
            candidates = new_entries
        elif not is_ordinary and reentry == "cycle":
            place = bisect_left(exits, end)
            if place == len(exits):
                break
            now = exits[place]

    table = np.array(trades, np.float64).reshape(len(trades), 5)
    starts, ends, reasons = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 4].astype(np.int8)
    paid_, got_ = table[:, 2], table[:, 3]
    cost = paid_ * (1.0 + commission)
    growth = got_ * np.where(reasons == OPEN, 1.0, 1.0 - commission) / cost
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
    return Simulation(
        entry_bar=starts,
        exit_bar=np.minimum(ends, count - 1),
        bars_held=ends - starts,
        entry_price=paid_,
        exit_price=got_,
        growth=growth,
        capital=capital[:-1],
        reason=reasons,
        equity=equity,
        held=held,
    )
