"""The figures of an equity curve: by hand, against other libraries' numbers, and where they are undefined."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from aworker.trading.backtest.performance import (
    annual_return,
    calmar_ratio,
    drawdowns,
    finite,
    max_drawdown,
    measure,
    periods_per_year,
    returns_of,
    sample_curve,
    sharpe_ratio,
    sortino_ratio,
    total_return,
    volatility,
)
from aworker.trading.backtest.simulation import simulate
from aworker.trading.bars.store import BarStore
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Rules
from tests.kit.market import DAY_S, START_S

FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "engine_figures.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]]
CURVE = np.array([1.0, 1.1, 0.99, 1.2, 1.08, 1.08, 1.3])


@pytest.mark.parametrize("case", CASES)
def test_figures_agree_with_empyrical(case: dict[str, Any]) -> None:
    rules = msgspec.convert(case["rules"], Rules)
    bars = BarStore().load(case["symbol"], "1d")
    signals = evaluate(compile_program(rules.entry, rules.exit), bars)
    made = simulate(bars, signals.entry, signals.exit, rules.risk, "cycle", case["commission"], case["slippage"])

    figures = measure(made.equity, 252.0)

    for name, expected in case["empyrical"].items():
        assert figures[name] == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_returns_and_drawdowns_by_hand() -> None:
    assert returns_of(CURVE)[:2] == pytest.approx([0.1, -0.1])
    assert total_return(CURVE) == pytest.approx(0.3)
    assert annual_return(CURVE, 12.0) == pytest.approx(1.3**2 - 1)
    assert drawdowns(CURVE) == pytest.approx([0, 0, -0.1, 0, -0.1, -0.1, 0])
    assert max_drawdown(CURVE)[0] == pytest.approx(-0.1)
    assert calmar_ratio(CURVE, 12.0) == pytest.approx((1.3**2 - 1) / 0.1)


def test_risk_by_hand() -> None:
    returns = np.array([0.01, -0.02, 0.03])

    assert volatility(returns, 4.0) == pytest.approx(2 * np.std(returns, ddof=1))
    assert sharpe_ratio(returns, 4.0) == pytest.approx(2 * np.mean(returns) / np.std(returns, ddof=1))
    assert sortino_ratio(returns, 4.0) == pytest.approx(2 * np.mean(returns) / math.sqrt(0.02**2 / 3))


@pytest.mark.parametrize(
    "curve, bars",
    [([1, 2, 3], 0), ([1, 2, 1, 2, 1, 1, 1, 3], 3), ([3, 2, 2], 2), ([1], 0), ([1, 0.9, 1.1, 1.0, 1.0, 1.0], 3)],
)
def test_the_length_of_a_drawdown_counts_bars_below_the_high(curve: list[float], bars: int) -> None:
    assert max_drawdown(np.array(curve, np.float64))[1] == bars


def test_what_is_undefined_is_none() -> None:
    flat = measure(np.ones(10), 252.0)
    rising = measure(np.array([1.0, 1.1, 1.3, 1.4]), 252.0)
    single = measure(np.ones(1), 252.0)

    assert (flat["sharpe_ratio"], flat["sortino_ratio"], flat["calmar_ratio"]) == (None, None, None)
    assert (flat["total_return"], flat["volatility"], flat["max_drawdown"]) == (0.0, 0.0, 0.0)
    assert rising["sortino_ratio"] is None
    assert rising["calmar_ratio"] is None
    assert rising["sharpe_ratio"] > 0
    assert (single["annual_return"], single["volatility"], single["total_return"]) == (None, None, 0.0)


def test_growth_that_no_float_holds_is_none() -> None:
    assert measure(np.array([1.0, 1e9]), 98_280.0)["annual_return"] is None


def test_no_curve_at_all_has_no_figures() -> None:
    assert math.isnan(total_return(np.empty(0)))
    assert math.isnan(max_drawdown(np.empty(0))[0])


def _days(days: range, bars_a_day: int, bar_s: int, *, weekends: bool = False) -> NDArray[np.int64]:
    # The start is a Wednesday.
    chosen = [day for day in days if weekends or day % 7 not in (3, 4)]
    return np.array([START_S + day * DAY_S + bar * bar_s for day in chosen for bar in range(bars_a_day)])


@pytest.mark.parametrize(
    "timestamp, bar_s, periods",
    [
        pytest.param(_days(range(90), 1, DAY_S), DAY_S, 252, id="days"),
        pytest.param(_days(range(2), 1, DAY_S), DAY_S, 252, id="two days"),
        pytest.param(_days(range(90), 1, DAY_S, weekends=True), DAY_S, 365, id="days round the clock"),
        pytest.param(_days(range(4, 17), 1, DAY_S, weekends=True), DAY_S, 365, id="13 days with one Saturday"),
        pytest.param(_days(range(0, 700, 7), 1, 7 * DAY_S), 7 * DAY_S, 52, id="weeks"),
        pytest.param(_days(range(10), 390, 60), 60, 252 * 390, id="US minutes"),
        pytest.param(_days(range(10), 26, 900), 900, 252 * 26, id="US quarters of an hour"),
        pytest.param(_days(range(10), 7, 3600), 3600, 252 * 7, id="US hours"),
        pytest.param(_days(range(10), 510, 60), 60, 252 * 510, id="London minutes"),
        pytest.param(_days(range(10), 24, 3600), 3600, 252 * 24, id="currencies, hours of five days"),
        pytest.param(_days(range(10), 24, 3600, weekends=True), 3600, 365 * 24, id="hours round the clock"),
        pytest.param(_days(range(1), 200, 60), 60, 252 * 390, id="part of a session"),
        pytest.param(_days(range(3, 4), 20, 3600, weekends=True), 3600, 365 * 24, id="part of a Saturday"),
        pytest.param(_days(range(10), 390, 60)[100:-100], 60, 252 * 390, id="first and last day in part"),
    ],
)
def test_a_year_has_as_many_bars_as_its_market_is_open(
    timestamp: NDArray[np.int64], bar_s: int, periods: float
) -> None:
    assert periods_per_year(bar_s, timestamp) == pytest.approx(periods)


@pytest.mark.parametrize("bar_s, bars", [(DAY_S, 1), (60, 390)])
def test_one_row_on_a_saturday_makes_no_market_round_the_clock(bar_s: int, bars: int) -> None:
    timestamp = _days(range(60), bars, bar_s)

    astray = np.sort(np.append(timestamp, START_S + 10 * DAY_S))

    assert periods_per_year(bar_s, astray) == periods_per_year(bar_s, timestamp)


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 5_000])
def test_a_sampled_curve_keeps_its_ends_and_its_bound(count: int) -> None:
    equity = np.linspace(1.0, 2.0, count)

    points = sample_curve(START_S + DAY_S * np.arange(count), equity)

    assert min(count, 198) <= len(points) <= min(count, 200)
    assert points[0] == [START_S, 1.0]
    assert points[-1] == [START_S + DAY_S * (count - 1), equity[-1]]
    assert all(earlier[0] < later[0] for earlier, later in itertools.pairwise(points))
    assert all(type(instant) is int and type(value) is float for instant, value in points)


def test_a_sampled_curve_shows_the_deepest_drawdown() -> None:
    equity = np.linspace(1.0, 2.0, 5_000)
    equity[3_001:3_003] = 0.5

    values = np.array([value for _, value in sample_curve(START_S + DAY_S * np.arange(5_000), equity)])

    assert max_drawdown(values)[0] == max_drawdown(equity)[0]


@pytest.mark.parametrize(
    ("step_days", "a_year"),
    [([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], 12), ([1, 1, 1, 1, 1, 2], 313), ([7], 52.18), ([3, 4], 104.4)],
    ids=["months", "with sundays", "weeks", "two days a week"],
)
def test_days_that_are_there_count_where_they_are_another_number(step_days: list[int], a_year: float) -> None:
    timestamp = START_S + DAY_S * np.cumsum([0, *step_days * 400])

    assert periods_per_year(DAY_S, timestamp) == pytest.approx(a_year, rel=0.01)


def test_finite_gives_plain_floats_or_none() -> None:
    assert [finite(number) for number in (1.5, math.nan, math.inf, -math.inf)] == [1.5, None, None, None]
    assert type(finite(np.float64(2))) is float
