"""What holds of every backtest with a short side: money adds up bar by bar, and the future changes no past."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aworker.trading.backtest.simulation import REASONS, Simulation, simulate
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.strategy import Risk
from tests.kit.market import random_bars
from tests.property.test_backtest import Market, costs, markets

Flags = NDArray[np.bool_]
YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class Both:
    """A drawn case with a short side."""

    market: Market
    short: Flags
    cover: Flags | None
    borrow: float

    def run(self, count: int | None = None) -> Simulation:
        market = self.market
        exit, cover = (None if each is None else each[:count] for each in (market.exit, self.cover))
        return simulate(
            market.bars[:count],
            market.entry[:count],
            exit,
            market.risk,
            market.reentry,
            market.commission,
            market.slippage,
            {name: level[:count] for name, level in market.levels.items()},
            short=self.short[:count],
            cover=cover,
            borrow=self.borrow,
        )


@st.composite
def both_sides(draw: st.DrawFn) -> Both:
    market = draw(markets())
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = len(market.bars)
    # A rule's price is the stop of one side only.
    levels = {name: level for name, level in market.levels.items() if name not in ("stop_price", "target_price")}
    risk = Risk(market.risk.stop_loss, market.risk.take_profit, market.risk.trailing_stop, market.risk.break_even)
    if risk.stop_loss is None and risk.trailing_stop is None:
        risk = replace_multiples(risk)
    risk = msgspec.structs.replace(risk, max_bars=market.risk.max_bars)
    entry = random.random(count) < draw(st.sampled_from([0.0, 0.1, 0.5]))
    return Both(
        replace(market, levels=levels, risk=risk, entry=entry),
        random.random(count) < draw(st.sampled_from([0.05, 0.3, 0.9])),
        draw(st.sampled_from([None, random.random(count) < 0.1])),
        draw(st.sampled_from([0.0, 0.05])),
    )


def replace_multiples(risk: Risk) -> Risk:
    """Return limits without multiples of a risk that there is none of."""
    target = None if str(risk.take_profit).endswith("R") else risk.take_profit
    even = None if str(risk.break_even).endswith("R") else risk.break_even
    return Risk(risk.stop_loss, target, risk.trailing_stop, even)


@dataclass
class Trader:
    """Walks bar by bar with cash, shares and debts; a short is walked with prices counted negative."""

    both: Both

    def walk(self) -> tuple[list[tuple[Any, ...]], list[float]]:
        market, risk, levels = self.both.market, self.both.market.risk, self.both.market.levels
        bars, rate, slip = market.bars, market.commission, market.slippage
        trades: list[tuple[Any, ...]] = []
        values: list[float] = []
        cash, side, shares, paid, entered, lived = 1.0, 0, 0.0, 0.0, -1, 0
        peak, trail, stop_at, target_at, even_at = 0.0, -math.inf, -math.inf, math.inf, math.inf
        value, last, leave, enter = 1.0, -1, "", 0
        waits = {1: "nothing", -1: "nothing"}
        seen = {1: True, -1: True}
        ruined = False

        def worth(price: float, bar: int, leaving: float) -> float:
            if side > 0:
                return shares * price * (1 - leaving)
            held_s = float(bars.timestamp[bar] - bars.timestamp[entered])
            owed = shares * (price * (1 + leaving) + paid * self.both.borrow * held_s / YEAR_S)
            return max(cash + shares * paid * (1 - rate) - owed, 0.0)

        def left(bar: int, at: float, reason: str) -> None:
            nonlocal cash, side, ruined
            got = at * (1 - side * slip)
            cash = 0.0 if reason == "ruin" else worth(got, bar, rate)
            trades.append((entered, bar, paid, got, reason, side))
            ruined = reason == "ruin"
            exits = market.exit if side > 0 else self.both.cover
            del exits
            waits[side] = "nothing" if reason == "signal" else market.reentry
            side = 0

        for bar in range(len(bars)):
            prices = [float(getattr(bars, name)[bar]) for name in ("open", "high", "low", "close")]
            if not all(0 < price < math.inf for price in prices):
                values.append(value)
                continue
            open_, high, low, close = prices
            if leave:
                left(bar, open_, leave)
            if enter and not ruined:
                side, entered, lived = enter, bar, 0
                paid = open_ * (1 + side * slip)
                shares = cash / (paid * (1 + rate))

                def distance(name: str, risked: float, without: float, start: int = last, at: float = paid) -> float:
                    limit = getattr(risk, name)
                    if name in levels:
                        return float(levels[name][start])
                    if isinstance(limit, str):
                        return float(limit.removesuffix("R")) * risked
                    return without if limit is None else at * float(limit)

                mirrored = side * paid
                stop_at = mirrored - distance("stop_loss", 0.0, math.inf)
                trail = mirrored - distance("trailing_stop", 0.0, math.inf)
                risked = mirrored - max(stop_at, trail)
                target_at = mirrored + distance("take_profit", risked, math.inf)
                even_at = mirrored + distance("break_even", risked, math.inf)
                peak = mirrored
            leave, enter = "", 0
            if side:
                if "trailing_stop" in levels and not math.isnan(levels["trailing_stop"][last]):
                    trail = max(trail, peak - float(levels["trailing_stop"][last]))
                elif isinstance(risk.trailing_stop, float):
                    trail = peak - abs(peak) * risk.trailing_stop
                stops = [(stop_at, "stop_loss"), (side * paid if peak >= even_at else -math.inf, "break_even")]
                stops += [(trail, "trailing_stop"), (-2 * paid if side < 0 else 0.0, "ruin")]
                stop, reason = max(stops, key=lambda each: each[0])
                lowest, highest = (low, high) if side > 0 else (-high, -low)
                if lowest <= stop:
                    got = min(stop, side * open_)
                    left(bar, side * got, "ruin" if side < 0 and got <= -2 * paid else reason)
                elif highest >= target_at:
                    left(bar, side * target_at, "take_profit")
                else:
                    peak, lived = max(peak, highest), lived + 1
            known = all(level[bar] > 0 for level in levels.values())
            wants = {1: bool(market.entry[bar]) and known, -1: bool(self.both.short[bar]) and known}
            if wants[1] and wants[-1]:
                wants = {1: False, -1: False}
            outs = {
                1: wants[-1] or (market.exit is not None and bool(market.exit[bar])),
                -1: wants[1] or (self.both.cover is not None and bool(self.both.cover[bar])),
            }
            if side and outs[side]:
                leave = "signal"
            elif side and risk.max_bars is not None and lived >= risk.max_bars:
                leave = "max_bars"
            for way in (1, -1):
                if waits[way] == "cycle" and outs[way] and side != way:
                    waits[way] = "nothing"
                fresh = waits[way] in ("nothing", "level") or (waits[way] == "edge" and not seen[way])
                if side != way and wants[way] and not outs[way] and fresh and (side == 0 or leave == "signal"):
                    enter = way
                seen[way] = wants[way]
            last, value = bar, cash if not side else worth(close, bar, 0.0)
            values.append(value)
        if side:
            trades.append((entered, last, paid, float(bars.close[last]), "open", side))
        return trades, values


@given(both_sides())
@settings(max_examples=200, deadline=None)
def test_cash_shares_and_debts_add_up_at_every_bar(both: Both) -> None:
    trades, values = Trader(both).walk()

    made = both.run()

    assert made.entry_bar.tolist() == [trade[0] for trade in trades]
    assert made.exit_bar.tolist() == [trade[1] for trade in trades]
    assert [REASONS[reason] for reason in made.reason] == [trade[4] for trade in trades]
    assert made.side.tolist() == [trade[5] for trade in trades]
    assert made.entry_price == pytest.approx([trade[2] for trade in trades], rel=1e-12)
    assert made.exit_price == pytest.approx([trade[3] for trade in trades], rel=1e-12)
    assert made.equity == pytest.approx(np.array(values), rel=1e-9, abs=1e-12)


@given(both_sides(), st.integers(0, 160))
@settings(max_examples=150, deadline=None)
def test_cutting_off_the_future_changes_no_past_trade(both: Both, count: int) -> None:
    count = min(count, len(both.market.bars))

    whole, cut = both.run(), both.run(count)

    np.testing.assert_array_equal(cut.equity, whole.equity[:count])
    np.testing.assert_array_equal(cut.entry_bar, whole.entry_bar[whole.entry_bar < count])
    np.testing.assert_array_equal(cut.side, whole.side[whole.entry_bar < count])


@given(st.integers(0, 10_000), costs)
@settings(max_examples=50, deadline=None)
def test_a_short_is_a_long_of_what_falls(seed: int, slippage: float) -> None:
    bars = random_bars(seed, 100)
    nothing, signal = np.zeros(100, np.bool_), np.zeros(100, np.bool_)
    signal[[5, 50]] = True
    leave = np.roll(signal, 20)

    short = simulate(bars, nothing, None, Risk(), "level", 0.0, slippage, short=signal, cover=leave)
    long_ = simulate(bars, signal, leave, Risk(), "level", 0.0, 0.0)

    gained = long_.growth - 1
    paid = 1 - slippage, 1 + slippage
    assert short.growth == pytest.approx(np.maximum(1 + (paid[0] - paid[1] * (1 + gained)) / paid[0], 0.0))


def test_no_bars_make_no_trouble() -> None:
    bars: Bars = random_bars(1, 2)[:0]

    made = simulate(bars, np.zeros(0, np.bool_), None, Risk(), short=np.zeros(0, np.bool_))

    assert len(made.equity) == 0
