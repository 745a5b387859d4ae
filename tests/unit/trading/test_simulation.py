"""What one symbol's signals trade, at which price, and what the capital is worth on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.trading.backtest.performance import measure, returns_of, sharpe_ratio
from aworker.trading.backtest.simulation import REASONS, Simulation, simulate
from aworker.trading.bars.store import Bars, BarStore
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Risk, Rules
from tests.kit.market import flags, make_bars

FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "engine_figures.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]]
ENGINE_REASONS = {
    "Signal": {"signal"},
    "StopLoss": {"stop_loss", "trailing_stop"},
    "TakeProfit": {"take_profit"},
    "EndOfData": {"open"},
}
FLAT = (10.0, 11.0, 9.5, 10.0)


def trades_of(made: Simulation) -> list[tuple[Any, ...]]:
    return [
        (entered, left, pytest.approx(paid), pytest.approx(got), REASONS[reason])
        for entered, left, paid, got, reason in zip(
            made.entry_bar.tolist(),
            made.exit_bar.tolist(),
            made.entry_price.tolist(),
            made.exit_price.tolist(),
            made.reason.tolist(),
            strict=True,
        )
    ]


def long_from_first(bars: Bars, risk: Risk, slippage: float = 0.0) -> list[tuple[Any, ...]]:
    count = len(bars)
    return trades_of(simulate(bars, flags(count, 0), flags(count), risk, "cycle", 0.0, slippage))


@pytest.mark.parametrize("case", CASES)
def test_trades_and_figures_agree_with_another_engine(case: dict[str, Any]) -> None:
    rules = msgspec.convert(case["rules"], Rules)
    bars = BarStore().load(case["symbol"], "1d")
    signals = evaluate(compile_program(rules.entry, rules.exit), bars)

    made = simulate(bars, signals.entry, signals.exit, rules.risk, "cycle", case["commission"], case["slippage"])

    figures = measure(made.equity, 252.0)
    assert bars.timestamp[made.entry_bar].tolist() == [trade[0] for trade in case["trades"]]
    assert bars.timestamp[made.exit_bar].tolist() == [trade[1] for trade in case["trades"]]
    assert made.entry_price == pytest.approx([trade[2] for trade in case["trades"]], rel=1e-9)
    assert made.exit_price == pytest.approx([trade[3] for trade in case["trades"]], rel=1e-9)
    for reason, trade in zip(made.reason, case["trades"], strict=True):
        assert REASONS[reason] in ENGINE_REASONS[trade[4]]
    assert made.equity[-1] == pytest.approx(case["end_value"], rel=1e-9)
    assert figures["total_return"] == pytest.approx(case["total_return"], rel=1e-9)
    assert figures["max_drawdown"] == pytest.approx(case["max_drawdown"], rel=1e-9)
    # That engine counts a return of 0 at the first bar, before which there is no value.
    with_first = np.append(0.0, returns_of(made.equity))
    assert sharpe_ratio(with_first, 252.0) == pytest.approx(case["sharpe_ratio"], rel=1e-9)


def test_a_signal_on_a_close_fills_at_the_next_open() -> None:
    bars = make_bars([(10, 11, 9, 10), (12, 13, 11, 12), (14, 15, 13, 14), (16, 17, 15, 16), (18, 19, 17, 18)])

    made = simulate(bars, flags(5, 0), flags(5, 2), Risk())

    assert trades_of(made) == [(1, 3, 12, 16, "signal")]
    assert made.equity == pytest.approx([1, 1, 14 / 12, 16 / 12, 16 / 12])
    assert made.held.tolist() == [False, True, True, False, False]
    assert made.bars_held.tolist() == [2]


def test_costs_are_paid_on_both_sides() -> None:
    bars = make_bars([FLAT] * 4)

    made = simulate(bars, flags(4, 0), flags(4, 1), Risk(), commission=0.01, slippage=0.02)

    assert trades_of(made) == [(1, 2, 10.2, 9.8, "signal")]
    assert made.growth == pytest.approx([(9.8 * 0.99) / (10.2 * 1.01)])
    assert made.equity == pytest.approx([1, 10 / (10.2 * 1.01), made.growth[0], made.growth[0]])


def test_an_open_trade_is_marked_to_the_last_close_without_selling_costs() -> None:
    bars = make_bars([FLAT, FLAT, (10, 13, 9, 12)])

    made = simulate(bars, flags(3, 0), flags(3, 2), Risk(), commission=0.01, slippage=0.0)

    assert trades_of(made) == [(1, 2, 10, 12, "open")]
    assert made.growth == pytest.approx([12 / 10.1])
    assert made.equity[-1] == pytest.approx(12 / 10.1)
    assert made.bars_held.tolist() == [2]


def test_a_signal_on_the_last_bar_trades_nothing() -> None:
    assert trades_of(simulate(make_bars([FLAT] * 3), flags(3, 2), flags(3), Risk())) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_bars_make_no_trouble(count: int) -> None:
    made = simulate(make_bars([FLAT] * count), np.ones(count, np.bool_), None, Risk(stop_loss=0.1, max_bars=1))

    assert made.equity == pytest.approx(np.ones(count))
    assert len(made.entry_bar) == (count == 2)


@pytest.mark.parametrize(
    "bar, risk, expected",
    [
        pytest.param((10, 11, 8, 10), Risk(stop_loss=0.1), (2, 9.0, "stop_loss"), id="stop inside the bar"),
        pytest.param((10, 11, 9, 10), Risk(stop_loss=0.1), (2, 9.0, "stop_loss"), id="stop touched"),
        pytest.param((8, 8.5, 7, 8), Risk(stop_loss=0.1), (2, 8.0, "stop_loss"), id="gap through the stop: the open"),
        pytest.param((10, 13, 9.5, 10), Risk(take_profit=0.2), (2, 12.0, "take_profit"), id="target inside the bar"),
        pytest.param((14, 15, 13, 14), Risk(take_profit=0.2), (2, 12.0, "take_profit"), id="gap through the target"),
        pytest.param((10, 13, 8, 10), Risk(stop_loss=0.1, take_profit=0.2), (2, 9.0, "stop_loss"), id="both: the stop"),
        pytest.param((14, 15, 8, 9), Risk(stop_loss=0.1, take_profit=0.2), (2, 9.0, "stop_loss"), id="gap up, both"),
        pytest.param((10, 20, 9.8, 19), Risk(trailing_stop=0.15), None, id="the bar's own high does not trail"),
        pytest.param((10, 11, 9.2, 10), Risk(trailing_stop=0.15), (2, 9.35, "trailing_stop"), id="trails former high"),
        pytest.param((10, 11, 9.2, 10), Risk(trailing_stop=0.3, stop_loss=0.06), (2, 9.4, "stop_loss"), id="tighter"),
        pytest.param((9, 11, 8, 10), Risk(trailing_stop=0.15), (2, 9.0, "trailing_stop"), id="gap through a trail"),
        pytest.param((10, 11.9, 9.1, 10), Risk(stop_loss=0.1, take_profit=0.2), None, id="neither"),
    ],
)  # fmt: skip
def test_limits_inside_a_bar(bar: tuple[float, ...], risk: Risk, expected: tuple[int, float, str] | None) -> None:
    open_, high, low, close = bar
    bars = make_bars([FLAT, FLAT, (open_, high, low, close)])

    (trade,) = long_from_first(bars, risk)

    if expected is None:
        assert trade[1:] == (2, 10, close, "open")
    else:
        assert trade[1:] == (expected[0], 10, expected[1], expected[2])


def test_a_stop_can_fall_on_the_entry_bar() -> None:
    made = simulate(make_bars([FLAT, (10, 11, 8, 9), FLAT]), flags(3, 0), flags(3), Risk(stop_loss=0.1))

    assert trades_of(made) == [(1, 1, 10, 9, "stop_loss")]
    assert made.bars_held.tolist() == [0]
    assert made.equity == pytest.approx([1, 0.9, 0.9])


def test_slippage_worsens_stops_and_targets_too() -> None:
    stopped = long_from_first(make_bars([FLAT, FLAT, (10, 11, 8, 10)]), Risk(stop_loss=0.1), slippage=0.01)
    reached = long_from_first(make_bars([FLAT, FLAT, (10, 13, 9.5, 10)]), Risk(take_profit=0.2), slippage=0.01)

    assert stopped == [(1, 2, 10.1, 10.1 * 0.9 * 0.99, "stop_loss")]
    assert reached == [(1, 2, 10.1, 10.1 * 1.2 * 0.99, "take_profit")]


def test_an_exit_signal_comes_before_a_stop_of_the_bar_it_fills_in() -> None:
    bars = make_bars([FLAT, FLAT, (10, 11, 5, 6), FLAT])

    made = simulate(bars, flags(4, 0), flags(4, 1), Risk(stop_loss=0.1))

    assert trades_of(made) == [(1, 2, 10, 10, "signal")]


def test_a_trade_ends_at_the_open_after_its_most_bars() -> None:
    made = simulate(make_bars([FLAT] * 8), flags(8, 0), flags(8), Risk(max_bars=3))

    assert trades_of(made) == [(1, 4, 10, 10, "max_bars")]
    assert made.bars_held.tolist() == [3]


def test_a_stop_far_behind_the_entry_is_found() -> None:
    rows = [FLAT] * 2_000 + [(10.0, 11.0, 5.0, 10.0)] + [FLAT] * 10

    for risk in (Risk(stop_loss=0.2), Risk(trailing_stop=0.2)):
        ((entered, left, *_),) = long_from_first(make_bars(rows), risk)

        assert (entered, left) == (1, 2_000)


@pytest.mark.parametrize("bar", [2, 63, 64, 65, 66, 319, 320, 321, 322, 1_343, 1_344, 1_345])
def test_no_bar_is_missed_in_a_long_search(bar: int) -> None:
    spike_then_fall = (
        [FLAT] * bar + [(10.0, 20.0, 9.9, 19.0), (19.0, 19.0, 15.0, 16.0)] + [(17.0, 18.0, 17.0, 17.0)] * 5
    )
    crash = [FLAT] * bar + [(10.0, 11.0, 5.0, 10.0)] + [FLAT] * 5

    assert long_from_first(make_bars(spike_then_fall), Risk(trailing_stop=0.2)) == [
        (1, bar + 1, 10, 16, "trailing_stop")
    ]
    assert long_from_first(make_bars(crash), Risk(stop_loss=0.2)) == [(1, bar, 10, 8, "stop_loss")]


def test_the_trail_remembers_a_high_of_long_ago() -> None:
    rows = [FLAT] * 50 + [(10.0, 20.0, 9.9, 19.0)] + [(19.0, 19.5, 18.0, 19.0)] * 400 + [(19.0, 19.0, 15.0, 16.0)]

    assert long_from_first(make_bars(rows), Risk(trailing_stop=0.2)) == [(1, 451, 10, 16, "trailing_stop")]


@pytest.mark.parametrize(
    "reentry, entries",
    [("level", [1, 3, 5, 7, 9, 11]), ("edge", [1, 5, 9]), ("cycle", [1, 9])],
)
def test_reentry_after_a_stop(reentry: str, entries: list[int]) -> None:
    # Every trade is stopped in the bar after its entry; the condition rises at 0, 4 and 8, the exit signal is at 7.
    rows = [FLAT, FLAT] + [(10.0, 10.0, 8.0, 10.0), FLAT] * 5
    entry = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0], np.bool_)

    made = simulate(make_bars(rows), entry, flags(12, 7), Risk(stop_loss=0.1), reentry)

    assert made.entry_bar.tolist() == entries


def test_cycle_without_an_exit_rule_waits_for_a_new_entry_signal() -> None:
    rows = [FLAT, FLAT] + [(10.0, 10.0, 8.0, 10.0), FLAT] * 5
    entry = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0], np.bool_)

    made = simulate(make_bars(rows), entry, None, Risk(stop_loss=0.1), "cycle")

    assert made.entry_bar.tolist() == [1, 5, 9]


@pytest.mark.parametrize("reentry", ["cycle", "edge", "level"])
def test_after_an_exit_signal_the_standing_condition_enters_again(reentry: str) -> None:
    made = simulate(make_bars([FLAT] * 8), np.ones(8, np.bool_), flags(8, 3), Risk(), reentry)

    assert [trade[:2] for trade in trades_of(made)] == [(1, 4), (5, 7)]


def test_where_entry_and_exit_hold_together_nothing_is_opened() -> None:
    made = simulate(make_bars([FLAT] * 5), flags(5, 0, 1), flags(5, 0), Risk())

    assert made.entry_bar.tolist() == [2]


def test_a_bar_without_a_price_does_not_trade_and_orders_wait() -> None:
    hole = (math.nan, 11.0, 9.0, 10.0)
    bars = make_bars([FLAT, hole, (12, 13, 11, 12), (12, 13, 11, 13), hole, (14, 15, 13, 14), (0, 1, 0, 1)])

    made = simulate(bars, flags(7, 0, 4), flags(7, 3, 1), Risk(stop_loss=0.5))

    assert trades_of(made) == [(2, 5, 12, 14, "signal")]
    assert made.equity == pytest.approx([1, 1, 1, 13 / 12, 13 / 12, 14 / 12, 14 / 12])
    assert made.held.tolist() == [False, False, True, True, True, False, False]


def test_bars_that_begin_without_prices_are_worth_the_cash() -> None:
    hole = (math.nan,) * 4
    made = simulate(make_bars([hole, hole, FLAT, FLAT, FLAT]), flags(5, 0, 2), None, Risk())

    assert made.entry_bar.tolist() == [3]
    assert made.equity == pytest.approx([1, 1, 1, 1, 1])
