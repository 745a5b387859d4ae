"""What holds of every backtest that sells in parts: money adds up bar by bar, and the future changes no past."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aworker.trading.backtest.account import Market, trade_account
from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.simulation import REASONS, Orders, Simulation, simulate
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.parts import Part
from aworker.trading.strategies.strategy import Account, Risk, Rules
from tests.kit.market import random_bars

Flags = NDArray[np.bool_]
YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class Case:
    """A drawn case; ``side`` -1 sells short on its entries."""

    bars: Bars
    side: int
    entry: Flags
    exit: Flags | None
    risk: Risk
    levels: dict[str, NDArray[np.float64]]
    whens: dict[str, Flags]
    reentry: str
    costs: Costs

    def orders(self, count: int | None = None) -> Orders:
        entry, exit = self.entry[:count], None if self.exit is None else self.exit[:count]
        levels = {name: level[:count] for name, level in self.levels.items()}
        whens = {name: when[:count] for name, when in self.whens.items()}
        if self.side > 0:
            return Orders(entry, exit, None, None, levels, None, whens)
        return Orders(None, None, entry, exit, levels, None, whens)

    def run(self, count: int | None = None) -> Simulation:
        said, costs = self.orders(count), self.costs
        return simulate(
            self.bars[:count],
            said.entry,
            said.exit,
            self.risk,
            self.reentry,
            costs.commission,
            costs.slippage,
            said.levels,
            None,
            said.short,
            said.cover,
            costs.borrow,
            said.whens,
            costs.per_share,
        )


@st.composite
def cases(draw: st.DrawFn, *, with_money: bool = False) -> Case:
    count = draw(st.integers(0, 120))
    bars = random_bars(draw(st.integers(0, 10_000)), count)
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    side = draw(st.sampled_from([1, 1, -1]))
    stop = draw(st.sampled_from([None, 0.02, 0.05]))
    levels: dict[str, NDArray[np.float64]] = {}
    whens: dict[str, Flags] = {}
    parts = []
    left = 1.0
    for place in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from([0.25, 0.5, 1 / 3, left]))
        if part > left + 1e-12 or left < 1e-9:
            break
        left -= part
        kind = draw(st.sampled_from(["fraction", "R", "rule", "when"] if stop else ["fraction", "rule", "when"]))
        if kind == "when":
            whens[f"scale_out_{place + 1}"] = random.random(count) < 0.15
            parts.append(Part(part, when="of a rule"))
        elif kind == "rule":
            level = bars.close * random.uniform(0.002, 0.06, count)
            levels[f"scale_out_{place + 1}"] = np.where(random.random(count) < 0.1, math.nan, level)
            parts.append(Part(part, "of a rule"))
        else:
            parts.append(Part(part, "1R" if kind == "R" else draw(st.sampled_from([0.01, 0.03, 0.08]))))
    risk = Risk(
        stop_loss=stop,
        take_profit=draw(st.sampled_from([None, 0.03, 0.1])),
        break_even=draw(st.sampled_from([None, 0.02])),
        max_bars=draw(st.sampled_from([None, None, 3, 12])),
        scale_out=tuple(parts),
    )
    costs = Costs(
        draw(st.sampled_from([0.0, 0.002])),
        draw(st.sampled_from([0.0, 0.01])),
        draw(st.sampled_from([0.0, 0.5])),
        draw(st.sampled_from([0.0, 0.3])),
    )
    if with_money:
        costs = Costs(costs.commission, costs.slippage, costs.borrow, 0.01, 1.0)
    return Case(
        bars,
        side,
        random.random(count) < draw(st.sampled_from([0.05, 0.3, 1.0])),
        draw(st.sampled_from([None, random.random(count) < 0.05])),
        risk,
        levels,
        whens,
        draw(st.sampled_from(["cycle", "edge", "level"])),
        costs,
    )


@dataclass
class Walk:
    """A bar by bar walk, as plain as can be, of one position at a time; prices of a short are counted negative."""

    case: Case
    capital: float = 1.0
    whole: bool = False

    def __post_init__(self) -> None:
        self.cash = self.capital
        self.trades: list[tuple[Any, ...]] = []
        self.values: list[float] = []
        self.held: dict[str, Any] | None = None

    def worth(self, count: float, price: float, bar: int, leaving: float) -> float:
        case, held = self.case, self.held or {}
        if case.side > 0:
            return float(count * price * (1 - leaving))
        rate, paid = case.costs.commission, held["paid"]
        fee = paid * case.costs.borrow * float(case.bars.timestamp[bar] - case.bars.timestamp[held["since"]]) / YEAR_S
        return float(count * (paid * (1 + rate) + paid * (1 - rate) - price * (1 + leaving) - fee))

    def sell(self, count: float, price: float, bar: int) -> None:
        held = self.held or {}
        got = price * (1 - self.case.side * self.case.costs.slippage)
        back = self.worth(count, got, bar, self.case.costs.commission)
        back -= count * self.case.costs.per_share + self.case.costs.per_order
        self.cash += back
        held["back"] += back
        held["left"] -= count
        held["legs"].append((bar, got, count / held["bought"]))

    def sell_parts(self, places: list[int], price: float, bar: int) -> bool:
        """Sell parts as one order; returns whether nothing is to be left."""
        held = self.held or {}
        held["waiting"] -= set(places)
        parts = self.case.risk.scale_out
        count = held["bought"] * sum(parts[place].part for place in places)
        if not held["waiting"] and sum(each.part for each in parts) > 1 - 1e-9:
            return True
        if self.whole:
            count = float(math.floor(count * (1 + 1e-12)))
        if count:
            self.sell(count, price, bar)
        return False

    def leave(self, price: float, bar: int, reason: str) -> None:
        held = self.held or {}
        self.sell(held["left"], price, bar)
        self.trades.append((held["since"], bar, reason, held["back"] / held["invested"], held["legs"]))
        self.held = None

    def walk(self) -> Walk:
        case, costs = self.case, self.case.costs
        bars, risk, side = case.bars, case.risk, case.side
        waits, seen, leave, enter = "nothing", True, "", False
        sell: list[int] = []
        for bar in range(len(bars)):
            open_, high, low, close = (float(getattr(bars, name)[bar]) for name in ("open", "high", "low", "close"))
            reason = ""
            if self.held and leave:
                self.leave(open_, bar, leave)
                reason = leave
            if self.held and sell and self.sell_parts(sell, open_, bar):
                self.leave(open_, bar, "signal")
                waits = "nothing"
            if enter and self.cash > 0 and not self.held:
                paid = open_ * (1 + side * costs.slippage)
                unit = paid * (1 + costs.commission) + costs.per_share
                count = (self.cash - costs.per_order) / unit
                count = float(math.floor(count * (1 + 1e-12))) if self.whole else count
                if count > 0 and count * unit + costs.per_order >= self.cash / 100:
                    invested = count * unit + costs.per_order
                    self.cash -= invested
                    self.held = {
                        "since": bar, "paid": paid, "bought": count, "left": count, "invested": invested, "back": 0.0,
                        "legs": [], "peak": side * paid, "lived": 0, "waiting": set(range(len(risk.scale_out))),
                    }  # fmt: skip
            leave, enter, sell, reason = "", False, [], ""
            held = self.held
            if held:
                paid = held["paid"]
                stops = [(-2 * paid if side < 0 else -math.inf, "ruin")]
                if risk.stop_loss is not None:
                    stops.insert(0, (side * paid - paid * float(risk.stop_loss), "stop_loss"))
                if risk.break_even is not None and held["peak"] >= side * paid + paid * float(risk.break_even):
                    stops.insert(1, (side * paid, "break_even"))
                stop, why = max(stops, key=lambda each: each[0])
                target = math.inf if risk.take_profit is None else side * paid + paid * float(risk.take_profit)
                lowest, highest = (low, high) if side > 0 else (-high, -low)
                at = {}
                for place, part in enumerate(risk.scale_out):
                    if part.at == "1R":
                        at[place] = side * paid + paid * float(risk.stop_loss or 0)
                    elif isinstance(part.at, float):
                        at[place] = side * paid + paid * part.at
                    elif part.at is not None:
                        at[place] = side * paid + float(case.levels[f"scale_out_{place + 1}"][held["since"] - 1])
                if lowest <= stop:
                    got = min(stop, side * open_)
                    reason = "ruin" if side < 0 and got <= -2 * paid else why
                    self.leave(side * got, bar, reason)
                else:
                    for place in sorted(at, key=lambda each: (at[each], each)):
                        is_nearer = at[place] < target * (1 - 1e-13 * side)
                        if place not in held["waiting"] or highest < at[place] or not is_nearer:
                            continue
                        if self.sell_parts([place], side * at[place], bar):
                            reason = "scale_out"
                            self.leave(side * at[place], bar, reason)
                            break
                    if self.held and highest >= target:
                        reason = "take_profit"
                        self.leave(side * target, bar, reason)
                if self.held:
                    held["peak"], held["lived"] = max(held["peak"], highest), held["lived"] + 1
            known = all(level[bar] > 0 for level in case.levels.values())
            wants, out = bool(case.entry[bar]) and known, case.exit is not None and bool(case.exit[bar])
            if reason == "ruin":
                self.values += [max(self.cash, 0.0)] * (len(bars) - bar)
                return self
            if reason:
                waits = "edge" if case.reentry == "cycle" and case.exit is None else case.reentry
            if self.held:
                if out:
                    leave, waits = "signal", "nothing"
                elif risk.max_bars is not None and self.held["lived"] >= risk.max_bars:
                    leave = "max_bars"
                    waits = "edge" if case.reentry == "cycle" and case.exit is None else case.reentry
                sell = [place for place in self.held["waiting"] if case.risk.scale_out[place].when is not None]
                sell = sorted(place for place in sell if case.whens[f"scale_out_{place + 1}"][bar])
            if waits == "cycle" and out and not leave:
                waits = "nothing"
            fresh = waits in ("nothing", "level") or (waits == "edge" and not seen)
            enter = wants and not out and fresh and not self.held
            seen = bool(case.entry[bar]) and known
            left = 0.0 if self.held is None else self.worth(self.held["left"], close, bar, 0.0)
            self.values.append(max(self.cash + left, 0.0))
        return self


def legs_of(made: Simulation, place: int) -> list[tuple[int, float, float]]:
    return [(each.bar, each.price, each.part) for each in made.parts.get(place, [])]


@given(cases())
@settings(max_examples=400, deadline=None)
def test_what_is_sold_in_parts_adds_up_at_every_bar(case: Case) -> None:
    walked = Walk(case).walk()

    made = case.run()

    closed = len(walked.trades)
    assert made.entry_bar.tolist()[:closed] == [trade[0] for trade in walked.trades]
    assert made.exit_bar.tolist()[:closed] == [trade[1] for trade in walked.trades]
    assert [REASONS[reason] for reason in made.reason][:closed] == [trade[2] for trade in walked.trades]
    assert len(made.reason) == closed + (walked.held is not None)
    assert made.growth[:closed] == pytest.approx([max(trade[3], 0.0) for trade in walked.trades], rel=1e-9, abs=1e-12)
    for place, trade in enumerate(walked.trades):
        assert legs_of(made, place) == [pytest.approx(leg, rel=1e-12) for leg in trade[4][:-1]]
    assert made.equity == pytest.approx(np.array(walked.values), rel=1e-9, abs=1e-12)


@given(cases(), st.integers(0, 120))
@settings(max_examples=150, deadline=None)
def test_cutting_off_the_future_changes_no_part_that_was_sold(case: Case, count: int) -> None:
    count = min(count, len(case.bars))

    whole, cut = case.run(), case.run(count)

    np.testing.assert_array_equal(cut.equity, whole.equity[:count])
    for place, bar in enumerate(cut.entry_bar.tolist()):
        assert bar == whole.entry_bar[place]
        before = [leg for leg in legs_of(whole, place) if leg[0] < count]
        assert legs_of(cut, place) == before


@given(cases(with_money=True), st.booleans())
@settings(max_examples=200, deadline=None)
def test_an_account_of_one_symbol_has_the_money_of_its_parts(case: Case, whole: bool) -> None:
    if not len(case.bars):
        return
    walked = Walk(case, 1000.0, whole).walk()
    rules = Rules("close > 0", risk=case.risk, reentry=case.reentry, account=Account(1000.0, whole_shares=whole))
    market = Market(case.bars, case.orders(), np.zeros(len(case.bars)))

    made, _ = trade_account([market], rules, case.costs, 1000)

    assert 1000 * made.equity == pytest.approx(np.array(walked.values), rel=1e-9, abs=1e-9)
    for trade, each in zip(walked.trades, made.instances, strict=False):
        sold = each["strategy_results"].get("parts_sold", [])
        assert [leg["part"] for leg in sold] == pytest.approx([leg[2] for leg in trade[4][:-1]])
        assert 1 + each["future_return"] == pytest.approx(trade[3], rel=1e-9, abs=1e-12)
