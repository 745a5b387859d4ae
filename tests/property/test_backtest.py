"""What holds of every backtest: it cannot look ahead, its money adds up, and chunks change nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aworker.trading.backtest.backtest import backtest_chunk, merge_chunks, plan_chunks
from aworker.trading.backtest.simulation import REASONS, Simulation, simulate
from aworker.trading.bars.store import COLUMNS, Bars
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Risk, limit_rules
from tests.kit.market import DAY_S, START_S, context, random_bars, store_of

RULES: list[tuple[str, str | None]] = [
    ("close > sma(close, 5)", "close < sma(close, 5)"),
    ("rsi(close, 5) < 40", "rsi(close, 5) > 60"),
    ("crosses_above(ema(close, 3), ema(close, 8))", None),
    ("close > lag(highest(high, 10), 1)", "close < lag(lowest(low, 5), 1)"),
]


RISKS = [
    Risk(),
    Risk(stop_loss=0.03, take_profit=0.1, trailing_stop=0.05),
    Risk(stop_loss="2 * atr(5)", take_profit="2R", break_even="1R"),
    Risk(trailing_stop="3 * atr(5)", take_profit="4 * atr(5)", max_bars=10),
    Risk(stop_price="lowest(low, 5)", target_price="bollinger_upper(close, 8, 2)"),
    Risk(stop_loss="1.5", trailing_stop=0.04, break_even=0.02, stop_price="sma(close, 5) - atr(5)"),
]


@dataclass(frozen=True)
class Market:
    """One drawn case."""

    bars: Bars
    entry: NDArray[np.bool_]
    exit: NDArray[np.bool_] | None
    risk: Risk
    reentry: str
    commission: float
    slippage: float
    levels: dict[str, NDArray[np.float64]]

    def run(self, count: int | None = None) -> Simulation:
        exits = None if self.exit is None else self.exit[:count]
        return simulate(
            self.bars[:count],
            self.entry[:count],
            exits,
            self.risk,
            self.reentry,
            self.commission,
            self.slippage,
            {name: level[:count] for name, level in self.levels.items()},
        )


fractions = st.sampled_from([None, 0.01, 0.03, 0.1])
costs = st.sampled_from([0.0, 0.001, 0.02])


@st.composite
def limits(draw: st.DrawFn, bars: Bars, random: np.random.Generator) -> tuple[Risk, dict[str, NDArray[np.float64]]]:
    """Draw limits as fractions, as distances and as prices that change from bar to bar, some of them undefined."""
    levels: dict[str, NDArray[np.float64]] = {}
    holes = draw(st.sampled_from([0.0, 0.3]))

    def level(name: str, values: NDArray[np.float64]) -> str:
        levels[name] = np.where(random.random(len(bars)) < holes, math.nan, values)
        return "of a rule"

    def distance(name: str) -> float | str | None:
        kind = draw(st.sampled_from(["none", "fraction", "rule"]))
        if kind == "rule":
            return level(name, bars.close * draw(st.sampled_from([0.01, 0.05])) * random.uniform(0.2, 2.0, len(bars)))
        return draw(fractions) if kind == "fraction" else None

    is_plain = draw(st.booleans())
    stop = draw(fractions) if is_plain else distance("stop_loss")
    target: float | str | None = draw(fractions) if is_plain else distance("take_profit")
    even: float | str | None = None if is_plain else distance("break_even")
    trail = draw(fractions) if is_plain else distance("trailing_stop")
    price = None
    if not is_plain and draw(st.booleans()):
        price = level("stop_price", bars.close * random.uniform(0.9, 1.01, len(bars)))
    if price or stop or trail:
        target = draw(st.sampled_from([target, target, "1.5R"]))
        even = draw(st.sampled_from([even, even, "0.5R"]))
        if not isinstance(target, float | None) and target.endswith("R"):
            levels.pop("take_profit", None)
        if not isinstance(even, float | None) and even.endswith("R"):
            levels.pop("break_even", None)
    at = None
    if not is_plain and draw(st.booleans()):
        at = level("target_price", bars.close * random.uniform(0.99, 1.1, len(bars)))
    held = draw(st.sampled_from([None, 1, 2, 10]))
    return Risk(stop, target, trail, even, price, at, held), levels


@st.composite
def markets(draw: st.DrawFn) -> Market:
    count = draw(st.integers(0, 160))
    bars = random_bars(draw(st.integers(0, 10_000)), count)
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    share = draw(st.sampled_from([0.02, 0.2, 0.7, 1.0]))
    holes = draw(st.sampled_from([0.0, 0.05, 0.5]))
    columns: dict[str, Any] = {name: getattr(bars, name).copy() for name in COLUMNS}
    for name in ("open", "high", "low", "close"):
        columns[name][random.random(count) < holes / 4] = draw(st.sampled_from([math.nan, math.inf, 0.0, -1.0]))
    risk, levels = draw(limits(bars, random))
    return Market(
        bars=Bars("TEST", "1d", **columns),
        entry=random.random(count) < share,
        exit=draw(st.sampled_from([None, random.random(count) < 0.05, random.random(count) < 0.4])),
        risk=risk,
        levels=levels,
        reentry=draw(st.sampled_from(["cycle", "edge", "level"])),
        commission=draw(costs),
        slippage=draw(costs),
    )


def tradable(bars: Bars) -> NDArray[np.bool_]:
    prices = np.stack([bars.open, bars.high, bars.low, bars.close])
    return np.asarray((np.isfinite(prices) & (prices > 0)).all(axis=0))


@dataclass
class Trader:
    """Walks bar by bar with cash and shares, as slowly and plainly as it can."""

    market: Market

    def knows(self, bar: int) -> bool:
        """Whether all limits are defined at a close."""
        levels = {name: float(level[bar]) for name, level in self.market.levels.items()}
        return all(value > 0 or (name.endswith("price") and not math.isnan(value)) for name, value in levels.items())

    def distances(self, signal: int, paid: float) -> dict[str, float]:
        """What is fixed at the entry: stop, target and the gain for break even, as distances."""
        risk, levels = self.market.risk, self.market.levels
        found: dict[str, float] = {}

        def fixed(name: str, value: float | str | None) -> None:
            if name in levels:
                found[name] = float(levels[name][signal])
            elif isinstance(value, str):
                found[name] = float(value.removesuffix("R")) * found["risked"]
            elif value is not None:
                found[name] = paid * value

        fixed("stop_loss", risk.stop_loss)
        stops = [paid - found["stop_loss"]] if "stop_loss" in found else [0.0]
        if "trailing_stop" in levels:
            stops.append(paid - float(levels["trailing_stop"][signal]))
            found["trail"] = stops[-1]
        elif isinstance(risk.trailing_stop, float):
            stops.append(paid - paid * risk.trailing_stop)
        if "stop_price" in levels:
            stops.append(float(levels["stop_price"][signal]))
        found["risked"] = paid - max(stops)
        fixed("take_profit", risk.take_profit)
        fixed("break_even", risk.break_even)
        return found

    def limits(
        self, last: int, paid: float, peak: float, standing: dict[str, float]
    ) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """Every stop and every target of a bar, from what was known at the close before."""
        risk, levels = self.market.risk, self.market.levels
        stops = [("stop_loss", paid - standing["stop_loss"] if "stop_loss" in standing else 0.0)]
        if "break_even" in standing and peak >= paid + standing["break_even"]:
            stops.append(("break_even", paid))
        if "trailing_stop" in levels:
            distance = float(levels["trailing_stop"][last])
            if not math.isnan(distance):
                standing["trail"] = max(standing["trail"], peak - distance)
            stops.append(("trailing_stop", standing["trail"]))
        elif isinstance(risk.trailing_stop, float):
            stops.append(("trailing_stop", peak - peak * risk.trailing_stop))
        if "stop_price" in levels and not math.isnan(levels["stop_price"][last]):
            stops.append(("stop_price", float(levels["stop_price"][last])))
        targets = [("take_profit", paid + standing["take_profit"] if "take_profit" in standing else math.inf)]
        if "target_price" in levels and not math.isnan(levels["target_price"][last]):
            targets.append(("target_price", float(levels["target_price"][last])))
        return stops, targets

    def walk(self) -> tuple[list[tuple[int, int, float, float, str]], list[float]]:
        market, risk = self.market, self.market.risk
        bars, usable = market.bars, tradable(market.bars)
        cash, shares, price = 1.0, 0.0, math.nan
        entered, paid, peak, lived = -1, 0.0, 0.0, 0
        standing: dict[str, float] = {}
        last = -1
        order: str | None = None
        waits, seen_entry = "nothing", True
        trades: list[tuple[int, int, float, float, str]] = []
        values: list[float] = []

        def sell(bar: int, at: float, reason: str) -> None:
            nonlocal cash, shares, waits
            got = at * (1 - market.slippage)
            cash, shares = shares * got * (1 - market.commission), 0.0
            trades.append((entered, bar, paid, got, reason))
            waits = "nothing" if reason == "signal" else market.reentry
            if waits == "cycle" and market.exit is None:
                waits = "edge"

        for bar in range(len(bars)):
            if not usable[bar]:
                values.append(cash if not shares else shares * price)
                continue
            open_, high, low, close = (float(getattr(bars, name)[bar]) for name in ("open", "high", "low", "close"))
            if order == "buy":
                paid = open_ * (1 + market.slippage)
                shares, cash = cash / (paid * (1 + market.commission)), 0.0
                entered, peak, lived = bar, paid, 0
                standing = self.distances(last, paid)
            elif order is not None:
                sell(bar, open_, order)
            order = None
            if shares:
                stops, targets = self.limits(last, paid, peak, standing)
                # Of stops at one price, which rounding alone sets apart, any may be named.
                stop = max(price for _, price in stops)
                reason = "|".join(name for name, price in stops if price >= stop * (1 - 1e-12))
                aim, target = min(targets, key=lambda each: each[1])
                if low <= stop:
                    sell(bar, min(stop, open_), reason)
                elif high >= target:
                    sell(bar, target if aim == "take_profit" else max(target, open_), aim)
                else:
                    peak = max(peak, high)
                    lived += 1
            price, last = close, bar
            wants_in, wants_out = (
                bool(market.entry[bar]) and self.knows(bar),
                market.exit is not None and bool(market.exit[bar]),
            )
            if shares:
                if wants_out:
                    order = "signal"
                elif risk.max_bars is not None and lived >= risk.max_bars:
                    order = "max_bars"
            else:
                if waits == "cycle" and wants_out:
                    waits = "nothing"
                is_new = wants_in and not seen_entry
                if wants_in and not wants_out and (waits in ("nothing", "level") or (waits == "edge" and is_new)):
                    order = "buy"
            seen_entry = wants_in
            values.append(cash if not shares else shares * close)
        if shares:
            trades.append((entered, int(np.flatnonzero(usable)[-1]), paid, price, "open"))
        return trades, values


@given(markets())
@settings(max_examples=400, deadline=None)
def test_cash_and_position_add_up_at_every_bar(market: Market) -> None:
    trades, values = Trader(market).walk()

    made = market.run()

    assert made.equity == pytest.approx(np.array(values), rel=1e-11)
    assert made.entry_bar.tolist() == [trade[0] for trade in trades]
    assert made.exit_bar.tolist() == [trade[1] for trade in trades]
    assert made.entry_price == pytest.approx([trade[2] for trade in trades], rel=1e-12)
    assert made.exit_price == pytest.approx([trade[3] for trade in trades], rel=1e-12)
    for reason, trade in zip(made.reason, trades, strict=True):
        assert REASONS[reason] in trade[4].split("|")


@given(markets(), st.integers(0, 160))
@settings(max_examples=150, deadline=None)
def test_cutting_off_the_future_changes_no_past_trade(market: Market, count: int) -> None:
    count = min(count, len(market.bars))

    whole, cut = market.run(), market.run(count=count)

    finished = whole.exit_bar < count
    finished &= whole.reason != REASONS.index("open")
    done = int(np.count_nonzero(finished))
    for name in ("entry_bar", "exit_bar", "entry_price", "exit_price", "growth", "reason", "bars_held"):
        np.testing.assert_array_equal(getattr(cut, name)[:done], getattr(whole, name)[:done])
    assert len(cut.entry_bar) == np.count_nonzero(whole.entry_bar < count)
    np.testing.assert_array_equal(cut.equity, whole.equity[:count])


@given(
    st.integers(0, 10_000),
    st.sampled_from(RULES),
    st.sampled_from(RISKS),
    st.integers(0, 200),
    st.sampled_from(["cycle", "edge", "level"]),
)
@settings(max_examples=100, deadline=None)
def test_rules_and_engine_together_do_not_look_ahead(
    seed: int, rules: tuple[str, str | None], risk: Risk, count: int, reentry: str
) -> None:
    bars = random_bars(seed, 200)
    program = compile_program(*rules, levels=limit_rules(risk))

    def run(part: Bars) -> Simulation:
        signals = evaluate(program, part)
        exits = None if program.exit is None else signals.exit
        return simulate(part, signals.entry, exits, risk, reentry, 0.001, levels=signals.levels)

    whole, cut = run(bars), run(bars[:count])

    np.testing.assert_array_equal(cut.entry_bar, whole.entry_bar[whole.entry_bar < count])
    np.testing.assert_array_equal(cut.equity, whole.equity[:count])
    assert (whole.entry_bar > program.look_back).all()


@given(markets())
@settings(max_examples=100, deadline=None)
def test_doubling_prices_changes_no_return(market: Market) -> None:
    doubled = Bars("TEST", "1d", market.bars.timestamp, *(2 * getattr(market.bars, name) for name in COLUMNS[1:]))
    dearer = replace(market, bars=doubled, levels={name: 2 * level for name, level in market.levels.items()})

    plain, twice = market.run(), dearer.run()

    np.testing.assert_array_equal(plain.entry_bar, twice.entry_bar)
    np.testing.assert_array_equal(plain.exit_bar, twice.exit_bar)
    np.testing.assert_array_equal(plain.growth, twice.growth)
    np.testing.assert_array_equal(plain.equity, twice.equity)


@given(markets())
@settings(max_examples=150, deadline=None)
def test_no_fill_is_better_than_its_bar_allows_and_none_is_on_a_hole(market: Market) -> None:
    bars, usable = market.bars, tradable(market.bars)

    made = market.run()

    assert usable[made.entry_bar].all()
    assert usable[made.exit_bar].all()
    assert (made.entry_price == bars.open[made.entry_bar] * (1 + market.slippage)).all()
    for bar, price, code in zip(made.exit_bar, made.exit_price, made.reason, strict=True):
        reason = REASONS[code]
        if reason in ("stop_loss", "trailing_stop", "break_even", "stop_price"):
            assert price <= bars.open[bar] * (1 - market.slippage) or price <= bars.high[bar]
            assert price <= bars.high[bar]
        elif reason in ("take_profit", "target_price"):
            assert price <= bars.high[bar]
        elif reason != "open":
            assert price == bars.open[bar] * (1 - market.slippage)
    assert np.isfinite(made.equity).all()
    assert (made.equity > 0).all()


@given(markets())
@settings(max_examples=100, deadline=None)
def test_trades_of_a_symbol_never_overlap_and_follow_signals(market: Market) -> None:
    made = market.run()

    assert (made.entry_bar <= made.exit_bar).all()
    assert (made.entry_bar[1:] > made.exit_bar[:-1]).all()
    usable = np.flatnonzero(tradable(market.bars))
    for entered in made.entry_bar:
        signal = usable[np.searchsorted(usable, entered) - 1]
        assert market.entry[signal]
        assert market.exit is None or not market.exit[signal]


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    markets = [random_bars(seed, 120, f"EVEN{seed}") for seed in range(6)]
    markets += [random_bars(seed, 60 + 7 * seed, f"LATE{seed}", START_S + seed * 11 * DAY_S) for seed in range(6)]
    gappy = random_bars(50, 120, "GAPPY")
    kept = np.random.default_rng(0).random(120) < 0.6
    markets.append(Bars("GAPPY", "1d", *(getattr(gappy, name)[kept] for name in COLUMNS)))
    folder: Path = tmp_path_factory.mktemp("store")
    return store_of(folder, *markets, random_bars(9, 20, "OLD", START_S - 400 * DAY_S))


@given(
    cuts=st.lists(st.integers(0, 14), max_size=6),
    shuffle=st.randoms(use_true_random=False),
    rules=st.sampled_from(RULES),
    stop=fractions,
    start=st.integers(-30, 100),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_result_is_the_same_whatever_the_chunking(
    store_path: str, cuts: list[int], shuffle: Any, rules: tuple[str, str | None], stop: float | None, start: int
) -> None:
    request = {
        "rules": {"entry": rules[0], "exit": rules[1], "risk": {"stop_loss": stop}, "reentry": "level"},
        "now_s": float(START_S + 150 * DAY_S),
        "start_s": float(START_S + start * DAY_S),
        "commission": 0.001,
        "market_data_path": store_path,
    }
    plan = plan_chunks(request, context())
    (one,) = plan["chunks"]
    symbols = list(one["symbols"])
    whole = merge_chunks(plan["request"], [backtest_chunk(one, context())], context())

    shuffle.shuffle(symbols)
    borders = sorted({0, len(symbols), *cuts})
    parts = [
        {**one, "symbols": symbols[first:last]} for first, last in itertools.pairwise(borders)
    ]  # fmt: skip
    chunks = [backtest_chunk(part, context()) for part in parts]
    shuffle.shuffle(chunks)

    assert merge_chunks(plan["request"], chunks, context()) == whole
