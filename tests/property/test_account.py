"""What holds of every account: its money adds up, and later bars change nothing that was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aworker.trading.backtest.account import Market, trade_account
from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.simulation import Orders
from aworker.trading.bars.store import COLUMNS, Bars
from aworker.trading.strategies.strategy import Account, Risk, Rules
from tests.kit.market import DAY_S, START_S, random_bars

DAYS = 40
LIMIT = 10_000


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Market], Rules, Costs]:
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    made = []
    for number in range(draw(st.integers(1, 5))):
        bars = random_bars(seed + number, DAYS, f"S{number}")
        kept = random.random(DAYS) < draw(st.sampled_from([1.0, 1.0, 0.7]))
        kept[0] = True
        bars = Bars(bars.symbol, "1d", *(getattr(bars, name)[kept] for name in COLUMNS))
        count = len(bars)
        entry, exit = (random.random(count) < draw(st.sampled_from([0.1, 0.5])) for _ in range(2))
        short = draw(st.sampled_from([None, random.random(count) < 0.1]))
        rank = np.where(random.random(count) < 0.2, math.nan, random.random(count))
        made.append(Market(bars, Orders(entry, exit, short, None, {}, None), rank))
    account = Account(
        1000.0,
        draw(st.sampled_from([None, 1, 2])),
        draw(st.sampled_from([None, 0.4, "300", "2% risk"])),
        draw(st.booleans()),
    )
    risk = Risk(stop_loss=draw(st.sampled_from([0.02, 0.1])), take_profit=draw(st.sampled_from([None, 0.03])))
    rules = Rules("close > 0", risk=risk, reentry=draw(st.sampled_from(["level", "edge", "cycle"])), account=account)
    return made, rules, draw(st.sampled_from([Costs(), Costs(0.002, 0.001, 0.03, 0.01, 1.0)]))


def walked(book: list[Market], rules: Rules, costs: Costs) -> tuple[list[tuple[Any, ...]], list[float]]:
    """Walk day by day with cash and positions, as plainly as it can; returns the trades in order and the worth."""
    account, risk = rules.account or Account(), rules.risk
    most = account.max_positions or len(book)
    cash, worth = account.capital, account.capital
    held: dict[int, dict[str, Any]] = {}
    waits = [{1: "nothing", -1: "nothing"} for _ in book]
    seen = [{1: True, -1: True} for _ in book]
    orders: list[dict[str, Any]] = [{"leave": "", "enter": 0, "rank": math.nan} for _ in book]
    at = [{int(instant): place for place, instant in enumerate(market.bars.timestamp)} for market in book]
    trades: list[tuple[Any, ...]] = []
    values: list[float] = []

    def value(one: dict[str, Any], price: float, now: int, leaving: float) -> float:
        if one["side"] > 0:
            return float(one["shares"] * price * (1 - leaving))
        fee = one["paid"] * costs.borrow * (now - one["since"]) / (365 * DAY_S)
        return float(one["shares"] * (2 * one["paid"] - price * (1 + leaving) - fee))

    def leave(symbol: int, price: float, now: int, reason: str) -> None:
        nonlocal cash
        one = held.pop(symbol)
        got = price * (1 - one["side"] * costs.slippage)
        back = value(one, got, now, costs.commission) - one["shares"] * costs.per_share - costs.per_order
        trades.append((one["since"], symbol, now, reason, one["side"], one["shares"], back / one["invested"]))
        cash += back
        waits[symbol][one["side"]] = "nothing" if reason == "signal" else rules.reentry

    for day in range(DAYS):
        now = START_S + day * DAY_S
        there = [symbol for symbol in range(len(book)) if now in at[symbol]]
        if not there:
            continue
        place = {symbol: at[symbol][now] for symbol in there}
        for symbol in there:
            if orders[symbol]["leave"]:
                leave(symbol, float(book[symbol].bars.open[place[symbol]]), now, "signal")
        wanting = [symbol for symbol in there if orders[symbol]["enter"]]
        rank = {
            symbol: -math.inf if math.isnan(orders[symbol]["rank"]) else orders[symbol]["rank"] for symbol in wanting
        }
        for symbol in sorted(wanting, key=lambda each: (-rank[each], each)):
            if len(held) >= most or cash <= 0 or symbol in held:
                continue
            side = orders[symbol]["enter"]
            paid = float(book[symbol].bars.open[place[symbol]]) * (1 + side * costs.slippage)
            unit = paid * (1 + costs.commission) + costs.per_share
            if account.size is None:
                size = cash / (most - len(held))
            elif account.size == "300":
                size = 300.0
            elif account.size == "2% risk":
                size = worth * 0.02 / (paid * float(risk.stop_loss or 0)) * unit + costs.per_order
            else:
                size = worth * float(account.size)
            shares = (min(size, cash) - costs.per_order) / unit
            shares = float(math.floor(shares * (1 + 1e-12))) if account.whole_shares else shares
            invested = shares * unit + costs.per_order
            if shares <= 0 or invested < size / 100:
                continue
            cash -= invested
            held[symbol] = {"side": side, "shares": shares, "paid": paid, "since": now, "invested": invested}
        for symbol in there:
            bars, bar = book[symbol].bars, place[symbol]
            orders[symbol] = {"leave": "", "enter": 0, "rank": float(book[symbol].rank[bar])}
            if symbol in held:
                one = held[symbol]
                side, paid, open_ = one["side"], one["paid"], float(bars.open[bar])
                lowest, highest = (bars.low[bar], bars.high[bar]) if side > 0 else (-bars.high[bar], -bars.low[bar])
                stop = side * paid - paid * float(risk.stop_loss or 0)
                target = math.inf if risk.take_profit is None else side * paid + paid * float(risk.take_profit)
                if lowest <= stop:
                    leave(symbol, side * min(stop, side * open_), now, "stop_loss")
                elif highest >= target:
                    leave(symbol, side * target, now, "take_profit")
            said = book[symbol].orders
            wants = {
                1: said.entry is not None and bool(said.entry[bar]),
                -1: said.short is not None and bool(said.short[bar]),
            }
            if wants[1] and wants[-1]:
                wants = {1: False, -1: False}
            outs = {1: wants[-1] or bool(said.exit is not None and said.exit[bar]), -1: wants[1]}
            side = held[symbol]["side"] if symbol in held else 0
            if side and outs[side]:
                orders[symbol]["leave"] = "signal"
            for way in (1, -1):
                if waits[symbol][way] == "cycle" and outs[way] and side != way:
                    waits[symbol][way] = "nothing"
                wait = waits[symbol][way]
                fresh = wait in ("nothing", "level") or (wait == "edge" and not seen[symbol][way])
                if side != way and wants[way] and not outs[way] and fresh and (not side or orders[symbol]["leave"]):
                    orders[symbol]["enter"] = way
                seen[symbol][way] = wants[way]
        worth = cash
        for symbol, one in held.items():
            bars = book[symbol].bars
            latest = int(np.searchsorted(bars.timestamp, now, side="right")) - 1
            worth += value(one, float(bars.close[latest]), int(bars.timestamp[latest]), 0.0)
        values.append(worth)
    for symbol, one in held.items():
        bars = book[symbol].bars
        back = value(one, float(bars.close[-1]), int(bars.timestamp[-1]), 0.0)
        trades.append(
            (one["since"], symbol, int(bars.timestamp[-1]), "open", one["side"], one["shares"], back / one["invested"])
        )
    return sorted(trades, key=lambda trade: trade[:2]), values


def listed(instances: list[dict[str, Any]], count: int) -> list[tuple[Any, ...]]:
    names = [f"S{number}" for number in range(count)]
    return [
        (
            each["timestamp"],
            names.index(each["symbol"]),
            each["strategy_results"]["exit_reason"],
            pytest.approx(each["strategy_results"]["shares"], rel=1e-9),
            pytest.approx(1 + each["future_return"], rel=1e-9, abs=1e-12),
        )
        for each in instances
    ]


@given(markets())
@settings(max_examples=60, deadline=None)
def test_the_money_adds_up_at_every_close(drawn: tuple[list[Market], Rules, Costs]) -> None:
    trades, values = walked(*drawn)

    whole, _ = trade_account(*drawn, LIMIT)

    assert [(each[0], each[1], each[3], each[5], each[6]) for each in trades] == listed(whole.instances, len(drawn[0]))
    assert 1000 * whole.equity == pytest.approx(np.array(values), rel=1e-9)


@given(markets(), st.integers(1, DAYS))
@settings(max_examples=30, deadline=None)
def test_cutting_off_the_future_changes_no_worth_before(drawn: tuple[list[Market], Rules, Costs], days: int) -> None:
    book, rules, costs = drawn
    end = START_S + (days - 1) * DAY_S
    cut = []
    for bars, orders, rank in book:
        count = int(np.searchsorted(bars.timestamp, end, side="right"))
        cut.append(Market(bars[:count], orders.at(np.arange(count)), rank[:count]))

    whole, _ = trade_account(book, rules, costs, LIMIT)
    part, _ = trade_account(cut, rules, costs, LIMIT)

    kept: NDArray[np.bool_] = whole.timestamp <= end
    assert part.equity == pytest.approx(whole.equity[kept], rel=1e-12)
