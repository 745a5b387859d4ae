"""All symbols in one account: who gets the money, how much of it, and what the account was worth at every close.

At each instant, in this order: positions that end at the open are settled; those that are signalled are opened, the
highest ``rank`` first, ties by symbol, while there are places and money; what ends inside the bar is settled, and its
money is there from the next instant on. A size counts with the account's worth at the close before and the price of
the fill, equal parts are those of the money there is; where it does not reach the size is cut, and below a hundredth of
itself nothing is opened. A signal that
gets no money is gone. A short keeps its value in money aside, so the account never owes more than it holds.

How a trade goes (`Trading`) does not depend on its size, so it is known when it is opened. Invariant: what is decided
at an instant depends on that instant's opening prices and on earlier bars only.

Why all symbols are walked together in one process: each decision needs the money that the others left.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.limits import OPEN
from aworker.trading.backtest.portfolio import Joined, joined_account
from aworker.trading.backtest.scaling import AT_OPEN, Sold, Trade, mean_price
from aworker.trading.backtest.simulation import YEAR_S, Orders, Side, Trading, bars_at, tradable
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.strategy import Account, Rules, risk_of_size

__all__ = ["Costs", "Filled", "Market", "trade_account"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LEAST_OF_SIZE = 0.01


class Market(NamedTuple):
    """One symbol's window: its bars, the signals, and the rank at each close."""

    bars: Bars
    orders: Orders
    rank: Floats


class Filled(NamedTuple):
    """One trade of the account. ``invested`` is what it took, ``returned`` what came back, in the currency."""

    symbol: int
    trade: Trade
    shares: float
    invested: float
    returned: float
    sold: list[Sold]
    """What was sold before the rest; each ``part`` is of the shares that were bought."""


class _Paid(NamedTuple):
    """Money that comes back: in which of the symbol's bars, and whether at its open."""

    bar: int
    money: float
    is_at_open: bool


def trade_account(
    markets: list[Market], rules: Rules, costs: Costs, limit: int
) -> tuple[Joined, list[tuple[Integers, bool]]]:
    """Trade all symbols, sorted by name, with one account; the ``limit`` latest trades are listed.

    Returned beside it is of each symbol when it was entered, and whether it is still held.
    """
    account = rules.account or Account()
    book = _Book(markets, rules, costs)
    most = len(markets) if account.max_positions is None else account.max_positions
    for instant, candidates in book.signalled():
        book.settle(instant)
        for symbol, side, signal in candidates:
            if len(book.held) >= most or book.cash <= 0.0:
                break
            book.open(symbol, side, signal, instant, account, most)
    columns = _columns(book)
    whole = joined_account(
        [market.bars for market in markets],
        book.timestamp,
        np.maximum(book.equity(), 0.0) / account.capital,
        columns,
        {
            place: [[int(book.trading[each.symbol].bars.timestamp[sold.bar]), *sold[1:3]] for sold in each.sold]
            for place, each in enumerate(book.filled)
            if each.sold
        },
        account.capital,
        limit,
    )
    of_symbols = []
    for symbol in range(len(markets)):
        own = columns["symbol"] == symbol
        of_symbols.append((columns["entry_at"][own], bool((columns["reason"][own] == OPEN).any())))
    return whole, of_symbols


class _Book:
    """The money, what is held, and what every trade is worth on the way."""

    def __init__(self, markets: list[Market], rules: Rules, costs: Costs) -> None:
        account = rules.account or Account()
        self.cash = self.capital = account.capital
        self.held: dict[int, Filled] = {}
        self.filled: list[Filled] = []
        self._costs = costs
        self.timestamp = np.unique(np.concatenate([market.bars.timestamp for market in markets]))
        self._worth = np.zeros(len(self.timestamp))
        self._moved = np.zeros(len(self.timestamp) + 1)
        self._known, self._cash_before = 0, self.capital
        self._ends: list[tuple[int, int, int, bool, float]] = []
        self.trading: list[Trading] = []
        self.instants: list[Integers] = []
        self._ranks: list[Floats] = []
        for bars, orders, rank in markets:
            places = tradable(bars)
            if places is not None:
                bars, orders, rank = bars_at(bars, places), orders.at(places), rank[places]
            self.trading.append(Trading(bars, orders, rules.risk, rules.reentry, costs.slippage))
            self.instants.append(np.searchsorted(self.timestamp, bars.timestamp))
            self._ranks.append(rank)

    def signalled(self) -> Iterator[tuple[int, list[tuple[int, Side, int]]]]:
        """Yield the instants at which something may be opened, and what, the highest rank first."""
        parts = []
        for symbol, (trading, opens, rank) in enumerate(zip(self.trading, self.instants, self._ranks, strict=True)):
            for which, side in enumerate(trading.sides):
                signal = np.array(side.entries, np.int64)
                signal = signal[signal + 1 < len(opens)]
                columns = (opens[signal + 1], -rank[signal], np.full(len(signal), symbol), signal)
                parts.append((*columns, np.full(len(signal), which)))
        if not parts:
            return
        instants, ranks, symbols, signals, sides = (np.concatenate(column) for column in zip(*parts, strict=True))
        # An undefined rank sorts behind all others.
        order = np.lexsort((symbols, ranks, instants))
        instants, symbols, signals, sides = (column[order] for column in (instants, symbols, signals, sides))
        borders = np.flatnonzero(np.diff(instants, prepend=-1, append=-1)).tolist()
        for first, end in itertools.pairwise(borders):
            part = slice(first, end)
            yield int(instants[first]), self._among(symbols[part], sides[part], signals[part])

    def _among(self, symbols: Integers, which: Integers, signals: Integers) -> list[tuple[int, Side, int]]:
        found = zip(symbols.tolist(), which.tolist(), signals.tolist(), strict=True)
        return [(symbol, self.trading[symbol].sides[side], signal) for symbol, side, signal in found]

    def settle(self, instant: int) -> None:
        """Take in the money of what ended before an instant, or at its open."""
        while self._ends and self._ends[0][:2] <= (instant, 0):
            _, _, place, is_last, money = heapq.heappop(self._ends)
            filled = self.filled[place]
            self.cash += money
            if is_last and self.held.get(filled.symbol) is filled:
                del self.held[filled.symbol]

    def open(self, symbol: int, side: Side, signal: int, instant: int, account: Account, most: int) -> None:
        """Open a position if its symbol is free, its signal counts and the money reaches."""
        place = bisect_left(side.candidates, signal)
        counts = signal >= side.now and place < len(side.candidates) and side.candidates[place] == signal
        if symbol in self.held or not counts:
            return
        trading = self.trading[symbol]
        trade = trading.trade(side, signal + 1)
        start, end, paid, _, reason, _ = trade
        unit = self._costs.of_a_share(paid)
        wanted = self._wanted(trading, trade, unit, instant, account, most)
        shares = (min(wanted, self.cash) - self._costs.per_order) / unit
        if account.whole_shares:
            # As many as are paid for but for rounding.
            shares = float(math.floor(shares * (1.0 + 1e-12)))
        invested = shares * unit + self._costs.per_order
        if not shares > 0.0 or invested < _LEAST_OF_SIZE * wanted:
            return
        sold = [each for each in self._in_whole(trading.sold(trade), shares, account) if each.part > 0.0]
        values, paid_back = self._course(trading.bars, trade, shares, sold)
        filled = Filled(symbol, trade, shares, invested, math.fsum(each.money for each in paid_back), sold)
        self.cash -= invested
        self._moved[instant] -= invested
        self.held[symbol] = filled
        instants = self.instants[symbol]
        until = len(self.timestamp) if reason == OPEN else instants.item(end)
        seen = np.searchsorted(instants, np.arange(instant, until), side="right") - 1 - start
        self._worth[instant:until] += values[seen]
        for each in paid_back if reason != OPEN else paid_back[:-1]:
            at = instants.item(each.bar)
            is_last = each is paid_back[-1]
            self._moved[at] += each.money
            heapq.heappush(self._ends, (at, 0 if each.is_at_open else 1, len(self.filled), is_last, each.money))
        self.filled.append(filled)
        trading.leave(side, end, reason)

    def _in_whole(self, sold: list[Sold], shares: float, account: Account) -> list[Sold]:
        if not account.whole_shares:
            return sold
        return [each._replace(part=math.floor(shares * each.part * (1.0 + 1e-12)) / shares) for each in sold]

    def _wanted(self, trading: Trading, trade: Trade, unit: float, instant: int, account: Account, most: int) -> float:
        size, (start, _, paid, _, _, sign) = account.size, trade
        if isinstance(size, str):
            risk = risk_of_size(size)
            if risk is None:
                return float(size)
            risked = trading.limits[sign].risked(start, paid)
            wanted = self._equity_before(instant) * risk / risked * unit + self._costs.per_order
            return wanted if risked > 0.0 else 0.0
        return self.cash / (most - len(self.held)) if size is None else self._equity_before(instant) * size

    def _course(self, bars: Bars, trade: Trade, shares: float, sold: list[Sold]) -> tuple[Floats, list[_Paid]]:
        # What the trade was worth at its closes, and what it brought in, at its end last of all.
        start, end, paid, got, reason, sign = trade
        costs, close = self._costs, bars.close[start:end]
        last = min(end, len(bars) - 1)
        fees = paid * costs.borrow / YEAR_S * (bars.timestamp[start : last + 1] - bars.timestamp[start])
        # Of a short what was kept aside, the commission in it, and what the sale brought, less the commission.
        kept = paid * ((1.0 + costs.commission) + (1.0 - costs.commission))

        def back(count: Any, price: Any, fee: Any, leaving: float) -> Any:
            if sign > 0:
                return count * price * (1.0 - leaving)
            return count * kept - count * (price * (1.0 + leaving) + fee)

        rest, paid_back = shares, []
        values = back(shares, close, fees[: len(close)], 0.0)
        for each in sold:
            at, count = each.bar - start, shares * each.part
            money = back(count, each.price, fees.item(at), costs.commission)
            money -= count * costs.per_share + costs.per_order
            paid_back.append(_Paid(each.bar, money, each.is_at_open))
            rest -= count
            values[at:] = back(rest, close[at:], fees[at : len(close)], 0.0)
        leaving, ending = costs.commission, rest * costs.per_share + costs.per_order
        if reason == OPEN:
            leaving = ending = 0.0
        money = back(rest, got, fees.item(-1), leaving) - ending
        return values, [*paid_back, _Paid(last, money, reason in AT_OPEN)]

    def _equity_before(self, instant: int) -> float:
        while self._known < instant:
            self._cash_before += self._moved.item(self._known)
            self._known += 1
        return self._cash_before + self._worth.item(instant - 1) if instant else self.capital

    def equity(self) -> Floats:
        """Return what the account was worth at every close."""
        return self.capital + np.cumsum(self._moved[:-1]) + self._worth


def _columns(book: _Book) -> dict[str, NDArray[Any]]:
    filled = book.filled
    trades = [each.trade for each in filled]
    stamps = [book.trading[each.symbol].bars.timestamp for each in filled]
    last = [min(trade[1], len(stamp) - 1) for trade, stamp in zip(trades, stamps, strict=True)]
    return {
        "symbol": np.array([each.symbol for each in filled], np.int64),
        "entry_at": np.array([stamp.item(trade[0]) for trade, stamp in zip(trades, stamps, strict=True)], np.int64),
        "exit_at": np.array([stamp.item(end) for end, stamp in zip(last, stamps, strict=True)], np.int64),
        "bars_held": np.array([trade[1] - trade[0] for trade in trades], np.int64),
        "entry_price": np.array([trade[2] for trade in trades], np.float64),
        "exit_price": np.array([mean_price(each.sold, each.trade[3]) for each in filled], np.float64),
        "growth": np.array([each.returned / each.invested for each in filled], np.float64),
        "capital": np.array([each.invested for each in filled], np.float64),
        "reason": np.array([trade[4] for trade in trades], np.int8),
        "side": np.array([trade[5] for trade in trades], np.int8),
        "shares": np.array([each.shares for each in filled], np.float64),
        "proceeds": np.array([mean_price(each.sold, _last_price(each.trade)) for each in filled], np.float64),
    }


def _last_price(trade: Trade) -> float:
    # What is still held has brought in nothing.
    return 0.0 if trade[4] == OPEN else trade[3]
