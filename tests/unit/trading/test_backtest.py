"""What a backtest's result holds, which bars it uses, and what it declines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.backtest import backtest as backtest_module
from aworker.trading.backtest.backtest import backtest_chunk, merge_chunks, plan_chunks, run_backtest
from aworker.trading.bars.store import Bars, NoBars
from tests.kit.market import DAY_S, START_S, Recorder, context, make_bars, random_bars, store_of

FLAT = (10.0, 11.0, 9.5, 10.0)
GOLDEN = {
    "entry": "crosses_above(sma(close, 5), sma(close, 20))",
    "exit": "crosses_below(sma(close, 5), sma(close, 20))",
}
ALWAYS = {"entry": "close > 0", "exit": "close < 0"}


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


def test_progress_is_told_after_each_of_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_module, "_CHUNK_SYMBOLS", 2)
    path = store_of(tmp_path, *(make_bars([FLAT] * 3, f"S{number}") for number in range(5)))
    recorder = Recorder()

    run_backtest(request(GOLDEN, market_data_path=path), recorder.context())

    assert [report[1] for report in recorder.progress] == ["2 of 5 symbols", "4 of 5 symbols", "5 of 5 symbols"]
    assert recorder.progress[1][2:] == ({"symbols_done": 4, "symbols_total": 5}, 4 / 5)


def test_a_cancelled_backtest_stops_between_two_symbols(tmp_path: Path) -> None:
    path = store_of(tmp_path, *(make_bars([FLAT] * 3, f"S{number}") for number in range(9)))

    with pytest.raises(TaskCancelled, match="cancelled after 4 of 9 symbols"):
        run_backtest(request(GOLDEN, market_data_path=path), Recorder(cancel_after=4).context())


def test_equity_that_no_sum_can_hold_is_declined(tmp_path: Path) -> None:
    path = store_of(tmp_path, make_bars([(1e-9, 1e-9, 1e-9, 1e-9)] * 2 + [(1e-9, 10, 1e-9, 10)], "JUNK"))

    with pytest.raises(RequestDeclined, match="equity of JUNK must stay below 2147483648 times its start"):
        run_backtest(request(ALWAYS, market_data_path=path), context())


def test_prices_that_overflow_are_declined_too(tmp_path: Path) -> None:
    path = store_of(tmp_path, make_bars([(1e-300,) * 4, (1e-300, 1e300, 1e-300, 1e300), (1e300,) * 4] * 2, "JUNK"))
    rules = {"entry": "close < 1", "exit": "close > 1"}

    with pytest.raises(RequestDeclined, match="equity of JUNK must stay below"):
        run_backtest(request(rules, start_s=START_S, market_data_path=path), context())


def test_minutes_are_annualised_by_the_session(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 300, "A", step_s=60))
    rules = {**GOLDEN, "timeframe": "1m"}

    result = run_backtest(request(rules, start_s=START_S, market_data_path=path), context())

    assert result["performance_metrics"]["periods_per_year"] == 252 * 390
    assert result["summary"]["date_range"] == ["2020-01-01T00:00:00Z", "2020-01-01T04:59:00Z"]
    json.dumps(result, allow_nan=False)


def test_what_the_bars_do_not_carry_is_said_beside_the_figures(tmp_path: Path) -> None:
    months = random_bars(1, 60, "MONTHS")
    months = _at(months, START_S + 30 * DAY_S * np.arange(60))
    quiet = random_bars(2, 1_768, "QUIET")
    quiet.volume[1::2] = 0
    gone = random_bars(3, 400, "GONE")
    path = store_of(tmp_path, months, quiet, gone)
    asked = request(ALWAYS, market_data_path=path, start_s=float(START_S), now_s=float(START_S + 1_800 * DAY_S))

    result = run_backtest(asked, context())

    said = " | ".join(result["summary"]["warnings"])
    assert "The bars of MONTHS lie about 30 days apart and are taken as 1d" in said
    assert "The bars of GONE end before the others'; trades of GONE are still open there" in said
    assert "1 entries of QUIET are at bars without volume" in said


def test_a_result_tells_what_it_was_made_from(tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 400, "A"), random_bars(2, 400, "B"))

    first, again = (run_backtest(request(GOLDEN, market_data_path=path), context()) for _ in range(2))
    store_of(tmp_path, random_bars(3, 400, "B"))
    other = run_backtest(request(GOLDEN, market_data_path=path), context())

    assert json.dumps(first) == json.dumps(again)
    made, changed = first["made_from"], other["made_from"]
    assert made["window"] == first["summary"]["date_range"]
    assert (made["bars"]["count"], made["commission"], made["slippage"]) == (730, 0.0, 0.0)
    assert made["bars"]["fingerprint"] != changed["bars"]["fingerprint"]
    assert made["rules"] == changed["rules"]


def _at(bars: Bars, timestamp: Any) -> Bars:
    """Return the bars at other instants."""
    return Bars(bars.symbol, bars.timeframe, timestamp, bars.open, bars.high, bars.low, bars.close, bars.volume)


def test_a_short_strategy_says_its_side_and_what_borrowing_costs(tmp_path: Path) -> None:
    bars = make_bars([(10.0, 10.0, 10.0, 10.0), (10.0, 10.0, 8.0, 8.0), (8.0, 8.0, 8.0, 8.0), (8.0, 8.0, 8.0, 8.0)])
    request = {
        "now_s": float(START_S + 3 * DAY_S),
        "market_data_path": store_of(tmp_path, bars),
        "rules": {"entry": "close == 10", "exit": "close == 8", "side": "short"},
        "borrow": 0.365,
    }

    made = run_backtest(request, context())
    both = run_backtest({**request, "rules": {"entry": "close == 8", "short": "close == 10"}}, context())

    (trade,) = made["instances"]
    assert trade["future_return"] == pytest.approx(0.2 - 0.001)
    assert trade["strategy_results"]["side"] == "short"
    assert made["made_from"]["borrow"] == 0.365
    assert made["made_from"]["rules"] == ["entry: close == 10", "exit: close == 8", "side: short"]
    assert [each["strategy_results"]["side"] for each in both["instances"]] == ["short", "long"]
