"""What a backtest trades at which price, what its result holds, and what it declines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading import backtest as backtest_module
from aworker.trading.backtest import backtest_chunk, merge_chunks, plan_chunks, run_backtest
from aworker.trading.bars import Bars, BarStore, NoBars
from aworker.trading.performance import measure, returns_of, sharpe_ratio
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.simulation import REASONS, Simulation, simulate
from aworker.trading.strategy import Risk, Rules
from tests.fixtures.market import DAY_S, START_S, Recorder, context, flags, make_bars, random_bars, store_of

FIGURES = json.loads((Path(__file__).parents[1] / "fixtures" / "engine_figures.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]]
ENGINE_REASONS = {
    "Signal": {"signal"},
    "StopLoss": {"stop_loss", "trailing_stop"},
    "TakeProfit": {"take_profit"},
    "EndOfData": {"open"},
}
FLAT = (10.0, 11.0, 9.5, 10.0)
GOLDEN = {
    "entry": "crosses_above(sma(close, 5), sma(close, 20))",
    "exit": "crosses_below(sma(close, 5), sma(close, 20))",
}
ALWAYS = {"entry": "close > 0", "exit": "close < 0"}


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


def long_from_first(bars: Bars, risk: Risk, **costs: float) -> list[tuple[Any, ...]]:
    count = len(bars)
    return trades_of(simulate(bars, flags(count, 0), flags(count), risk, "cycle", **costs))


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


def request(rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rules": rules, "now_s": float(START_S + 400 * DAY_S), "strategy_id": 7, **fields}


def test_a_result_holds_what_readers_decode(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 400, "A"), random_bars(2, 400, "B"))

    result = run_backtest(request(GOLDEN, market_data_path=path), context())

    instance = result["instances"][0]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(result)) == result
    assert (result["success"], result["execution_mode"], result["strategy_id"]) == (True, "backtest", 7)
    assert set(instance) == {
        "ticker", "symbol", "timestamp", "classification", "entry_price", "exit_price", "exit_timestamp",
        "future_return", "strategy_results",
    }  # fmt: skip
    assert type(instance["timestamp"]) is int
    assert type(instance["classification"]) is bool
    assert instance["timestamp"] % DAY_S == 0
    summary, metrics = result["summary"], result["performance_metrics"]
    assert summary["total_instances"] == len(result["instances"]) == metrics["total_trades"]
    assert summary["positive_instances"] == sum(each["classification"] for each in result["instances"])
    assert summary["positive_signals"] == summary["positive_instances"]
    assert summary["symbols_processed"] == 2
    assert summary["date_range"] == ["2020-02-05", "2021-02-03"]
    assert summary["note"] is None
    assert metrics["equity_curve"][0] == [START_S + 35 * DAY_S, 1.0]
    assert metrics["equity_curve"][-1][1] == pytest.approx(1 + metrics["total_return"])
    assert result["instance_limit_reached"] is False


def test_instances_tell_the_trade(tmp_path: Path) -> None:
    rows = [(10.0, 11.0, 9.0, 10.0), (10.0, 11.0, 9.0, 12.0), (12.0, 13.0, 11.0, 8.0), (6.0, 7.0, 5.0, 6.0)]
    path = store_of(tmp_path, make_bars(rows, "A"))

    result = run_backtest(
        request({"entry": "close > 11", "exit": "close < 9"}, start_s=START_S, market_data_path=path), context()
    )

    assert result["instances"] == [
        {
            "ticker": "A",
            "symbol": "A",
            "timestamp": START_S + 2 * DAY_S,
            "classification": False,
            "entry_price": 12.0,
            "exit_price": 6.0,
            "exit_timestamp": START_S + 3 * DAY_S,
            "future_return": -0.5,
            "strategy_results": {"exit_reason": "signal", "bars_held": 1, "capital_before": 1.0},
        }
    ]
    assert result["performance_metrics"]["total_return"] == pytest.approx(-0.5)
    assert result["performance_metrics"]["win_rate"] == 0.0
    assert result["performance_metrics"]["profit_factor"] == 0.0
    assert result["performance_metrics"]["exposure"] == 0.25


def test_an_open_trade_has_no_exit_timestamp(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 50, "A"))

    result = run_backtest(request(ALWAYS, market_data_path=path), context())

    (instance,) = result["instances"]
    assert instance["exit_timestamp"] is None
    assert instance["strategy_results"]["exit_reason"] == "open"
    assert instance["exit_price"] == random_bars(1, 50).close[-1]
    assert result["performance_metrics"]["open_trades"] == 1


def test_capital_is_shared_equally(tmp_path: Path) -> None:
    double = make_bars([(10, 10, 10, 10), (10, 20, 10, 20), (20, 20, 20, 20)], "UP")
    halve = make_bars([(10, 10, 10, 10), (10, 10, 5, 5), (5, 5, 5, 5)], "DOWN")
    late = make_bars([(10, 10, 10, 10), (10, 30, 10, 30)], "LATE", start_s=START_S + DAY_S)
    path = store_of(tmp_path, double, halve, late)

    metrics = run_backtest(request(ALWAYS, start_s=START_S, market_data_path=path), context())["performance_metrics"]

    curve = [value for _, value in metrics["equity_curve"]]
    assert curve == pytest.approx([1, (2 + 0.5 + 1) / 3, (2 + 0.5 + 3) / 3])
    assert metrics["buy_and_hold"]["total_return"] == pytest.approx((2 + 0.5 + 3) / 3 - 1)
    assert metrics["excess_return"] == pytest.approx(0.0)
    assert metrics["win_rate"] == pytest.approx(2 / 3)
    assert metrics["profit_factor"] == pytest.approx((1 + 2) / 0.5)
    assert metrics["expectancy"] == pytest.approx((1 - 0.5 + 2) / 3)
    assert (metrics["best_trade"], metrics["worst_trade"]) == (pytest.approx(2), pytest.approx(-0.5))
    assert metrics["exposure"] == pytest.approx((2 + 2 + 1) / 8)


def test_symbols_of_as_many_bars_on_other_days_are_kept_apart(tmp_path: Path) -> None:
    double = [(10.0, 10.0, 10.0, 10.0), (10.0, 20.0, 10.0, 20.0)]
    path = store_of(tmp_path, make_bars(double, "A"), make_bars(double, "B", start_s=START_S + DAY_S))

    metrics = run_backtest(request(ALWAYS, start_s=START_S, market_data_path=path), context())["performance_metrics"]

    assert metrics["equity_curve"] == [[START_S, 1.0], [START_S + DAY_S, 1.5], [START_S + 2 * DAY_S, 2.0]]


def test_turnover_counts_both_sides_against_the_average_equity(tmp_path: Path) -> None:
    path = store_of(tmp_path, make_bars([(10, 10, 10, 10)] * 366, "A"))
    rules = {"entry": "close > 0", "risk": {"max_bars": 10}}

    metrics = run_backtest(
        request(rules, start_s=START_S, market_data_path=path, commission=0.0), context()
    )["performance_metrics"]  # fmt: skip

    # One trade in exactly one year, of a market without week-ends: bought once and sold once.
    assert metrics["total_trades"] == 1
    assert metrics["turnover"] == pytest.approx(2.0)


def test_money_of_several_trades_by_hand(tmp_path: Path) -> None:
    # Bought at 10 and sold at 20, bought at 20 and sold at 10, bought at 10 and still held at 15.
    # Volume 1 is the signal to buy and 2 to sell; each fills one bar later.
    price = np.array([10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 10.0, 10.0, 15.0])
    volume = np.array([1.0, 0.0, 2.0, 1.0, 0.0, 2.0, 1.0, 0.0, 0.0])
    path = store_of(tmp_path, Bars("A", "1d", START_S + DAY_S * np.arange(9), price, price, price, price, volume))
    rules = {"entry": "volume == 1", "exit": "volume == 2"}

    metrics = run_backtest(
        request(rules, start_s=START_S, market_data_path=path, commission=0.1), context()
    )["performance_metrics"]  # fmt: skip

    first = 20 * 0.9 / (10 * 1.1)
    second = first * 10 * 0.9 / (20 * 1.1)
    last = second * 15 / (10 * 1.1)
    equity = [1, 1 / 1.1, 1 / 1.1, first, first / 1.1, first / 1.1, second, second / 1.1, last]
    value = 1 / 1.1 + 2 / 1.1 + first / 1.1 + first / 1.1 / 2 + second / 1.1
    assert [each for _, each in metrics["equity_curve"]] == pytest.approx(equity)
    assert metrics["profit_factor"] == pytest.approx((first - 1 + last - second) / (first - second))
    assert metrics["turnover"] == pytest.approx(value / np.mean(equity) / (8 / 365))
    assert metrics["total_return"] == pytest.approx(last - 1)
    assert (metrics["total_trades"], metrics["open_trades"]) == (3, 1)


def test_the_market_is_bought_at_its_first_price(tmp_path: Path) -> None:
    hole = (math.nan,) * 4
    path = store_of(tmp_path, make_bars([hole, FLAT, hole, (10.0, 30.0, 10.0, 30.0), hole], "A"))

    metrics = run_backtest(request(ALWAYS, start_s=START_S, market_data_path=path), context())["performance_metrics"]

    assert metrics["buy_and_hold"]["total_return"] == pytest.approx(2.0)
    assert metrics["total_return"] == pytest.approx(2.0)
    assert [value for _, value in metrics["equity_curve"]] == pytest.approx([1, 1, 1, 3, 3])


def test_a_strategy_that_never_trades_has_figures_and_nulls(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 50, "A"))

    result = run_backtest(request({"entry": "close < 0"}, market_data_path=path), context())

    metrics = result["performance_metrics"]
    assert result["instances"] == []
    assert metrics["total_return"] == 0.0
    assert [metrics[name] for name in ("sharpe_ratio", "win_rate", "profit_factor", "best_trade", "expectancy")] == [
        None
    ] * 5


def test_a_window_after_the_data_uses_their_last_year_and_says_so() -> None:
    asked = {"rules": GOLDEN, "now_s": 1_760_000_000.0, "symbols": ["AAPL", "FB"]}

    summary = run_backtest(asked, context())["summary"]

    assert summary["date_range"] == ["2012-03-01", "2013-03-01"]
    assert summary["note"].startswith(
        "The window asked for, 2024-10-09 to 2025-10-09, lies after the last bar, 2013-03-01"
    )


def test_a_window_that_reaches_into_the_data_is_kept() -> None:
    asked = {"rules": GOLDEN, "now_s": 1_760_000_000.0, "symbols": ["FB", "AAPL"], "start_s": 1_356_998_400.0}

    summary = run_backtest(asked, context())["summary"]

    assert summary["date_range"] == ["2013-01-02", "2013-03-01"]
    assert summary["note"] is None


def test_a_window_is_kept_as_long_as_one_symbol_reaches_it(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 20, "A"), random_bars(2, 200, "B"))

    summary = run_backtest(
        request(GOLDEN, start_s=START_S + 100 * DAY_S, market_data_path=path), context()
    )["summary"]  # fmt: skip

    assert summary["note"] is None
    assert summary["symbols_processed"] == 1
    assert summary["symbols_without_bars"] == ["A"]


def test_a_window_before_the_data_is_declined_with_what_there_is() -> None:
    asked = {"rules": GOLDEN, "now_s": 1e9, "symbols": ["FB"], "start_s": 0.0, "end_s": 1e8}

    with pytest.raises(NoBars, match="the bars of FB run from 2012-05-18 to 2013-03-01"):
        run_backtest(asked, context())


def test_an_end_before_the_start_is_declined() -> None:
    asked = {"rules": GOLDEN, "now_s": 1e9, "start_s": 5 * DAY_S, "end_s": 2 * DAY_S}

    with pytest.raises(RequestDeclined, match="end_date must be on or after start_date 1970-01-06, was 1970-01-03"):
        run_backtest(asked, context())


def test_only_symbols_without_any_bars_are_declined() -> None:
    with pytest.raises(NoBars, match="was NOPE"):
        run_backtest({"rules": GOLDEN, "now_s": 1e9, "symbols": ["nope"]}, context())


def test_symbols_without_bars_are_listed_beside_the_others() -> None:
    summary = run_backtest({"rules": GOLDEN, "now_s": 1.3e9, "symbols": ["NOPE", "ibm"]}, context())["summary"]

    assert summary["symbols_processed"] == 1
    assert summary["symbols_without_bars"] == ["NOPE"]


def test_the_strategys_own_symbols_are_the_default_and_securities_filter_them() -> None:
    rules = {**ALWAYS, "symbols": ["AAPL", "IBM"]}

    own = run_backtest({"rules": rules, "now_s": 1.3e9}, context())
    filtered = run_backtest({"rules": rules, "now_s": 1.3e9, "securities": ["ibm", "MSFT"]}, context())

    assert {instance["symbol"] for instance in own["instances"]} == {"AAPL", "IBM"}
    assert {instance["symbol"] for instance in filtered["instances"]} == {"IBM"}


@pytest.mark.parametrize("field", ["commission", "slippage"])
@pytest.mark.parametrize("fraction", [-0.1, 1.0, math.nan])
def test_costs_that_are_no_fraction_are_declined(field: str, fraction: float) -> None:
    with pytest.raises(RequestDeclined, match=f"{field} must be >= 0 and < 1"):
        run_backtest({"rules": GOLDEN, "now_s": 1e9, field: fraction}, context())


def test_rules_that_do_not_compile_are_declined() -> None:
    with pytest.raises(RequestDeclined, match="strategy must have rules that compile"):
        run_backtest({"rules": {"entry": "clos > 1"}, "now_s": 1.3e9}, context())


def test_warm_up_comes_from_before_the_window(tmp_path: Path) -> None:
    bars = random_bars(5, 300, "A")
    path = store_of(tmp_path, bars)
    rules = {"entry": "close > sma(close, 50)", "exit": "close < sma(close, 50)"}

    whole = run_backtest(request(rules, start_s=START_S, market_data_path=path), context())["instances"]
    late = run_backtest(request(rules, start_s=START_S + 100 * DAY_S, market_data_path=path), context())["instances"]

    first_possible = START_S + 50 * DAY_S
    assert min(instance["timestamp"] for instance in whole) >= first_possible
    assert min(instance["timestamp"] for instance in late) > START_S + 100 * DAY_S
    after = START_S + 150 * DAY_S
    assert [trade["timestamp"] for trade in whole if trade["timestamp"] > after] == [
        trade["timestamp"] for trade in late if trade["timestamp"] > after
    ]


def test_bars_before_the_window_let_the_rules_signal_on_its_first_bar(tmp_path: Path) -> None:
    rising = make_bars([(10.0 + day, 11.0 + day, 9.0 + day, 10.5 + day) for day in range(120)], "A")
    path = store_of(tmp_path, rising)
    start_s = START_S + 60 * DAY_S

    result = run_backtest(
        request({"entry": "close > sma(close, 50)"}, start_s=start_s, market_data_path=path), context()
    )

    assert [trade["timestamp"] for trade in result["instances"]] == [start_s + DAY_S]
    assert result["performance_metrics"]["equity_curve"][0] == [start_s, 1.0]


def test_beyond_the_limit_the_latest_instances_are_listed_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_of(tmp_path, *(random_bars(seed, 300, f"S{seed}") for seed in range(4)))
    asked = request({"entry": "close > 0", "risk": {"max_bars": 3}, "reentry": "level"}, market_data_path=path)
    every = run_backtest(asked, context())
    monkeypatch.setattr(backtest_module, "INSTANCE_LIMIT", 50)

    limited = run_backtest(asked, context())

    assert limited["instances"] == every["instances"][-50:]
    assert limited["instance_limit_reached"] is True
    assert limited["summary"]["instance_limit_reached"] is True
    assert limited["summary"]["instances_returned"] == 50
    assert limited["summary"]["total_instances"] == every["summary"]["total_instances"] > 50
    assert limited["performance_metrics"] == every["performance_metrics"]


def test_a_plan_covers_each_symbol_once_and_grows_with_the_window(tmp_path: Path) -> None:
    names = [f"S{number:03}" for number in range(600)]
    path = store_of(tmp_path, *(make_bars([FLAT] * 2, name) for name in names))

    year = plan_chunks(request(GOLDEN, start_s=START_S, end_s=START_S + 365 * DAY_S, market_data_path=path), context())
    century = plan_chunks(
        request(GOLDEN, start_s=START_S - 36_500 * DAY_S, end_s=START_S + DAY_S, market_data_path=path), context()
    )

    assert [name for chunk in year["chunks"] for name in chunk["symbols"]] == names
    assert [name for chunk in century["chunks"] for name in chunk["symbols"]] == names
    assert max(len(chunk["symbols"]) for chunk in year["chunks"]) == 250
    assert max(len(chunk["symbols"]) for chunk in century["chunks"]) < 25
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(year)) == year


def test_a_chunk_needs_a_plan() -> None:
    with pytest.raises(ValueError, match="request must come from plan_chunks"):
        backtest_chunk({"rules": GOLDEN, "now_s": 1e9, "symbols": ["AAPL"]}, context())


def test_chunks_pass_as_msgpack(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 300, "A"), random_bars(2, 200, "B"))
    asked = request(GOLDEN, market_data_path=path)

    plan = msgspec.msgpack.decode(msgspec.msgpack.encode(plan_chunks(asked, context())))
    chunks = [
        msgspec.msgpack.decode(msgspec.msgpack.encode(backtest_chunk(chunk, context()))) for chunk in plan["chunks"]
    ]

    assert merge_chunks(plan["request"], chunks, context()) == run_backtest(asked, context())


def test_progress_is_told_while_a_lone_chunk_runs(tmp_path: Path) -> None:
    path = store_of(tmp_path, *(make_bars([FLAT] * 3, f"S{number:02}") for number in range(60)))
    recorder = Recorder()

    run_backtest(request(GOLDEN, market_data_path=path), recorder.context())

    assert [report[1] for report in recorder.progress] == ["0 of 60 symbols", "25 of 60 symbols", "50 of 60 symbols"]
    assert recorder.progress[1][0] == "backtest"
    assert recorder.progress[1][2:] == ({"symbols_done": 25, "symbols_total": 60}, 25 / 60)


def test_a_cancelled_backtest_stops_between_two_symbols(tmp_path: Path) -> None:
    path = store_of(tmp_path, *(make_bars([FLAT] * 3, f"S{number}") for number in range(9)))

    with pytest.raises(TaskCancelled, match="cancelled after 4 of 9 symbols"):
        run_backtest(request(GOLDEN, market_data_path=path), Recorder(cancel_after=4).context())


def test_equity_that_no_sum_can_hold_is_declined(tmp_path: Path) -> None:
    path = store_of(tmp_path, make_bars([(1e-9, 1e-9, 1e-9, 1e-9)] * 2 + [(1e-9, 10, 1e-9, 10)], "JUNK"))

    with pytest.raises(RequestDeclined, match="equity of JUNK must stay below 2147483648 times its start"):
        run_backtest(request(ALWAYS, market_data_path=path), context())


def test_minutes_are_annualised_by_the_session(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 300, "A", step_s=60))
    rules = {**GOLDEN, "timeframe": "1m"}

    result = run_backtest(request(rules, start_s=START_S, market_data_path=path), context())

    assert result["performance_metrics"]["periods_per_year"] == 252 * 390
    assert result["summary"]["date_range"] == ["2020-01-01T00:00:00Z", "2020-01-01T04:59:00Z"]
    json.dumps(result, allow_nan=False)
