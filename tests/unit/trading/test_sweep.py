"""Sweeps: each combination is what a backtest of it is, however they were cut; the best is doubted by the book."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.backtest.parameters import check_parameters, combination, filled, read_setting, read_values
from aworker.trading.backtest.performance import FIGURES, measure, measure_many
from aworker.trading.backtest.sweep import fold_borders, merge_sweep, plan_sweep, run_sweep, sweep_chunk
from aworker.trading.backtest.tries import best_by_chance, chance_of_skill, shape_of
from aworker.trading.strategies.strategy import StrategyInvalid, rules_from_source
from tests.kit.market import DAY_S, START_S, Recorder, context, random_bars, store_of

TEXT = """name: Cross
entry: crosses_above(sma(close, {fast}), ema(close, {slow})) or rsi(close, 14) < 20.5
exit: close < sma(close, {slow})
stop_loss: {stop}%
"""
PARAMETERS = {"fast": ["3", "5", "8"], "slow": ["10", "20"], "stop": ["2", "4.5"]}


@pytest.fixture
def path(tmp_path: Path) -> str:
    late = random_bars(3, 150, "LATE", start_s=START_S + 90 * DAY_S)
    return store_of(tmp_path, random_bars(1, 300, "ONE"), random_bars(2, 300, "TWO"), late)


def request(path: str, **changes: Any) -> dict[str, Any]:
    return {
        "text": TEXT,
        "parameters": PARAMETERS,
        "now_s": START_S + 299 * DAY_S,
        "start_s": START_S + 30 * DAY_S,
        "market_data_path": path,
        "commission": 0.001,
        **changes,
    }


def backtested(path: str, values: dict[str, str], **changes: Any) -> dict[str, Any]:
    asked = {**request(path), "rules": rules_from_source(filled(TEXT, values)), **changes}
    for name in ("text", "parameters"):
        del asked[name]
    asked["rules"] = msgspec.to_builtins(asked["rules"])
    return run_backtest(asked, context())


def test_every_combination_is_what_its_backtest_is(path: str) -> None:
    found = run_sweep(request(path), context())

    assert (found["execution_mode"], found["tries"], len(found["combinations"])) == ("sweep", 12, 12)
    for row in found["combinations"]:
        values = {name: f"{value}" for name, value in row["parameters"].items()}
        metrics = backtested(path, values)["performance_metrics"]
        for figure in (*FIGURES, "total_trades", "win_rate"):
            assert row[figure] == pytest.approx(metrics[figure], rel=1e-9, abs=1e-12), (values, figure)
    ratios = [row["sharpe_ratio"] for row in found["combinations"]]
    assert ratios == sorted(ratios, reverse=True)
    assert found["best"]["parameters"] == found["combinations"][0]["parameters"]
    assert found["best"]["performance_metrics"]["sharpe_ratio"] == pytest.approx(ratios[0])


@pytest.mark.parametrize(
    "more",
    [
        "short: crosses_below(close, sma(close, {slow}))\ncover: close > sma(close, {fast})\n",
        "capital: 10000\nmax_positions: 1\n",
        "side: short\n",
    ],
)
def test_every_way_of_trading_is_swept_as_it_is_traded(path: str, more: str) -> None:
    text = f"entry: close > of('TWO', sma(close, {{slow}}))\nexit: close < sma(close, {{fast}})\n{more}"
    parameters = {"fast": ["3", "8"], "slow": ["10", "20"]}

    found = run_sweep(request(path, text=text, parameters=parameters, borrow=0.05), context())

    for row in found["combinations"]:
        rules = rules_from_source(filled(text, {name: f"{value}" for name, value in row["parameters"].items()}))
        asked = {
            name: value for name, value in request(path, borrow=0.05).items() if name not in ("text", "parameters")
        }
        metrics = run_backtest({**asked, "rules": msgspec.to_builtins(rules)}, context())["performance_metrics"]
        assert row["total_return"] == pytest.approx(metrics["total_return"], rel=1e-9, abs=1e-12)
        assert row["total_trades"] == metrics["total_trades"] > 0


def test_the_result_is_the_same_however_it_is_cut(path: str) -> None:
    whole = run_sweep(request(path, folds=3), context())
    plan = plan_sweep(request(path, folds=3), context())
    chunks = [{**plan["request"], "first": first, "count": 1} for first in range(12)]

    made = [sweep_chunk(chunk, context()) for chunk in reversed(chunks)]

    assert merge_sweep(plan["request"], made, context()) == whole


@pytest.mark.parametrize("metric", ["sortino_ratio", "calmar_ratio", "total_return", "max_drawdown"])
def test_the_best_is_the_one_with_the_most_of_what_was_asked(path: str, metric: str) -> None:
    found = run_sweep(request(path, metric=metric), context())

    values = [row[metric] for row in found["combinations"]]
    assert values[0] == max(values)
    heat = found["heat_map"]
    assert (heat["rows"], heat["columns"], heat["best_of"]) == ("fast", "slow", ["stop"])
    assert max(value for line in heat["values"] for value in line) == values[0]
    row = found["combinations"][5]["parameters"]
    cell = heat["values"][heat["row_values"].index(row["fast"])][heat["column_values"].index(row["slow"])]
    assert cell >= found["combinations"][5][metric]


def test_what_is_no_strategy_is_left_out_and_said(path: str) -> None:
    text = "entry: macd(close, {fast}, {slow}) > 0\nexit: macd(close, {fast}, {slow}) < 0\n"
    parameters = {"fast": ["5", "12"], "slow": ["10", "26"]}

    found = run_sweep(request(path, text=text, parameters=parameters), context())

    assert (found["tries"], found["refused"]) == (3, 1)
    assert "fast must be below slow, was 12 against 10" in found["first_refusal"]
    assert any("1 combinations are no strategies" in warning for warning in found["summary"]["warnings"])
    assert found["heat_map"]["values"][1][0] is None


def test_the_number_of_tries_is_said_beside_the_best(path: str) -> None:
    found = run_sweep(request(path), context())

    ratios = np.array([row["sharpe_ratio"] for row in found["combinations"]]) / 365**0.5
    periods = found["best"]["performance_metrics"]["periods_per_year"]
    threshold = best_by_chance(float(np.var(ratios * (365 / periods) ** 0.5, ddof=1)), 12) * periods**0.5
    assert found["best_sharpe_by_chance"] == pytest.approx(threshold)
    assert 0 <= found["deflated_sharpe_ratio"] <= 1
    assert found["summary"]["warnings"][0].startswith("It is the best of 12 tries: without any skill")


def test_a_walk_forward_follows_what_was_best_before(path: str) -> None:
    found = run_sweep(request(path, folds=4), context())

    walked = found["walk_forward"]
    parts = walked["parts"]
    assert len(parts) == 4
    for before, part in itertools.pairwise(parts):
        assert part["followed_from"] == before["followed_to"]
        assert part["chosen_from"] > before["chosen_from"]
    assert all(part["chosen_from"] < part["followed_from"] < part["followed_to"] for part in parts)
    growth = np.prod([1 + part["return"] for part in parts])
    assert walked["equity_curve"][-1][1] == pytest.approx(growth)
    assert walked["performance_metrics"]["total_return"] == pytest.approx(growth - 1)
    # The first choice by hand: the Sharpe ratio of every combination's curve in the first part.
    borders = fold_borders(270, 4)[0]
    best = None
    for place in range(12):
        values = combination(PARAMETERS, place)
        curve = backtested(path, values, whole_curve=True)["performance_metrics"]["equity_curve"]
        equity = np.array([value for _, value in curve])
        sharpe = measure(equity[borders[0] : borders[1] + 1], 365.0)["sharpe_ratio"]
        if sharpe is not None and (best is None or sharpe > best[0]):
            best = (sharpe, values, equity[borders[2]] / equity[borders[1]] - 1)
    assert best is not None
    assert {name: str(value) for name, value in parts[0]["parameters"].items()} == best[1]
    assert parts[0]["in_sample"] == pytest.approx(best[0])
    assert parts[0]["return"] == pytest.approx(best[2])


def test_a_walk_forward_does_not_see_what_comes_after(path: str, tmp_path: Path) -> None:
    cut = store_of(tmp_path / "cut", random_bars(1, 300, "ONE")[:250], random_bars(2, 300, "TWO")[:250])
    full = store_of(tmp_path / "full", random_bars(1, 300, "ONE"), random_bars(2, 300, "TWO"))
    end = {"end_s": START_S + 249 * DAY_S}

    short = run_sweep(request(cut, folds=4, **end), context())
    long = run_sweep(request(full, folds=4, **end), context())

    assert short["walk_forward"] == long["walk_forward"]


def test_parts_are_of_one_length_and_end_with_the_window() -> None:
    borders = fold_borders(1_001, 7)

    assert borders[0][0] == 0
    assert borders[-1][2] == 1_000
    assert [last - end for _, end, last in borders] == [100] * 7
    assert [end - start for start, end, _ in borders] == [300] * 7


def test_progress_is_told_and_a_cancelled_sweep_ends(path: str) -> None:
    recorder = Recorder()

    run_sweep(request(path), recorder.context())

    assert ("sweep", "12 of 12 combinations") in [report[:2] for report in recorder.progress]
    with pytest.raises(TaskCancelled, match="was cancelled"):
        run_sweep(request(path), Recorder(cancel_after=1).context())


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"parameters": {"fast": ["3"], "slow": ["10"]}}, "parameters must have stop"),
        ({"parameters": {**PARAMETERS, "more": ["1"]}}, "must stand in the rules as {more}, which have {fast}, {slow}"),
        (
            {"parameters": {name: [str(n) for n in range(1, 60)] for name in PARAMETERS}},
            "at most 100,000, were 205,379",
        ),
        ({"metric": "luck"}, "metric must be one of sharpe_ratio"),
        ({"folds": 51}, "walk_forward must be 0 to 50 parts, was 51"),
        ({"folds": 50, "start_s": START_S + 280 * DAY_S}, "walk_forward must leave 2 bars a part"),
        ({"symbols": ["NOPE"]}, "symbols must have 1d bars"),
        ({"text": TEXT + "timeframe: {fast}", "parameters": PARAMETERS}, "timeframe must be the same for all"),
        ({"text": TEXT.replace("rsi", "rsj")}, "none of 12 was; the first: rules.entry must be"),
        ({"text": "entry: close < {n}", "parameters": {"n": ["0", "0.5"]}}, "no combination traded"),
        ({"text": "entry: close > open", "parameters": {}}, "parameters must be 1 to 8, were 0"),
        ({"commission": 2}, "commission must be >= 0"),
    ],
)
def test_what_cannot_be_had_is_told_in_words(path: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestDeclined) as refused:
        run_sweep(request(path, **changes), context())

    assert told in str(refused.value)


def test_a_sweep_of_one_combination_is_a_backtest(path: str) -> None:
    found = run_sweep(request(path, parameters={"fast": ["3"], "slow": ["10"], "stop": ["2"]}), context())

    assert found["tries"] == 1
    assert found["best_sharpe_by_chance"] == 0.0
    assert not any("tries" in warning for warning in found["summary"]["warnings"])


def test_rules_without_a_name_for_all_symbols(path: str) -> None:
    text = "entry: close > sma(close, {n})\nexit: none\nsymbols: ONE"

    own = run_sweep(request(path, text=text, parameters={"n": ["5", "6"]}), context())
    every = run_sweep(request(path, text=text, parameters={"n": ["5", "6"]}, all_symbols=True), context())

    assert own["summary"]["symbols_processed"] == 1
    assert every["summary"]["symbols_processed"] == 3


@pytest.mark.parametrize(
    "given, values",
    [
        ("5..20:5", ["5", "10", "15", "20"]),
        ("5..7", ["5", "6", "7"]),
        (" 5 .. 9 : 2 ", ["5", "7", "9"]),
        ("0.01..0.03:0.01", ["0.01", "0.02", "0.03"]),
        ("-1..1", ["-1", "0", "1"]),
        ("5..5", ["5"]),
        ("5..9:3", ["5", "8"]),
        ("5,10,20", ["5", "10", "20"]),
        ("sma, ema", ["sma", "ema"]),
        ("2.5", ["2.5"]),
        ([5, 0.1, "ema"], ["5", "0.1", "ema"]),
        ([1e-7, 5, 5], ["0.0000001", "5"]),
        (7, ["7"]),
    ],
)
def test_values_are_read_as_they_are_written(given: Any, values: list[str]) -> None:
    assert read_values("set.n", given) == values


@pytest.mark.parametrize(
    "given",
    ["", "5..", "..5", "9..5", "5..9:0", "5..9:-1", "1..1000000", "5;6", "a b", "5,,6", [], [True], [None],
     "__import__()", "5..9:x", "1e999", {"a": 1}, "1..99999999999999999999:0.0001"],
)  # fmt: skip
def test_what_is_no_value_is_refused(given: Any) -> None:
    with pytest.raises(RequestDeclined, match=r"^set\.n must be|^set\.n must rise"):
        read_values("set.n", given)


@pytest.mark.parametrize("text", ["n", "=5", "1n=5", "n m=5", "n=", "n=x y"])
def test_a_setting_names_its_option(text: str) -> None:
    with pytest.raises(RequestDeclined, match=r"^--set"):
        read_setting("--set", text)


def test_combinations_are_counted_through_like_a_clock() -> None:
    assert check_parameters(TEXT, PARAMETERS) == 12
    assert list(combination(PARAMETERS, 0).values()) == ["3", "10", "2"]
    assert list(combination(PARAMETERS, 1).values()) == ["3", "10", "4.5"]
    assert list(combination(PARAMETERS, 11).values()) == ["8", "20", "4.5"]
    assert len({tuple(combination(PARAMETERS, place).values()) for place in range(12)}) == 12


def test_many_curves_are_measured_as_one_by_one() -> None:
    random = np.random.default_rng(4)
    curves = np.exp(np.cumsum(random.normal(0, 0.01, (6, 300)), axis=1))
    curves[3] = 1.0
    curves[4] = np.linspace(1, 2, 300)

    many = measure_many(curves, 252.0)

    for place, curve in enumerate(curves):
        one = measure(curve, 252.0)
        for figure in FIGURES:
            value = many[figure][place]
            assert (None if np.isnan(value) else float(value)) == (
                None if one[figure] is None else pytest.approx(one[figure], rel=1e-9, abs=1e-12)
            )


@pytest.mark.parametrize("bars", [1, 2])
def test_the_shortest_curves_have_no_ratio(bars: int) -> None:
    many = measure_many(np.ones((2, bars)), 252.0)

    assert np.isnan(many["sharpe_ratio"]).all()


def test_the_deflated_ratio_is_that_of_its_paper() -> None:
    # Bailey and Lopez de Prado 2014, the numerical example: an annual Sharpe ratio of 2.5 over 5 years of 250 days,
    # 100 trials whose annual ratios have a variance of 1/2, skewness -3, kurtosis 10: 0.1132 a day, 0.9004.
    threshold = best_by_chance(0.5 / 250, 100)

    assert threshold == pytest.approx(0.1132, abs=5e-5)
    assert chance_of_skill(2.5 / 250**0.5, threshold, 1250, -3.0, 10.0) == pytest.approx(0.9004, abs=5e-5)
    # With 46 trials the authors find 0.9505.
    assert chance_of_skill(2.5 / 250**0.5, best_by_chance(0.5 / 250, 46), 1250, -3.0, 10.0) == pytest.approx(
        0.9505, abs=5e-5
    )


def test_the_shape_of_returns() -> None:
    returns = np.random.default_rng(5).normal(0, 1, 200_000)

    skewness, kurtosis = shape_of(returns)

    assert skewness == pytest.approx(0, abs=0.02)
    assert kurtosis == pytest.approx(3, abs=0.05)


def test_a_text_of_strangers_is_no_strategy(path: str) -> None:
    with pytest.raises((RequestDeclined, StrategyInvalid)):
        run_sweep(request(path, text="entry: {f}(1)", parameters={"f": ["eval"]}), context())
