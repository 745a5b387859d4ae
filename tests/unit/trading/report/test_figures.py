"""What a report counts, against values by hand and by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from aworker.trading.report.figures import falls, histogram, rolling_bars, rolling_sharpe, round_step, shade, years
from tests.kit.market import DAY_S, START_S

JANUARY = START_S
EQUITY = np.array([1.0, 1.2, 0.9, 1.1, 1.2, 1.3, 1.17, 1.04, 1.1])
DAYS = START_S + DAY_S * np.arange(len(EQUITY), dtype=np.int64)


def test_drawdowns_are_told_one_by_one_the_deepest_first() -> None:
    first, second = falls(DAYS, EQUITY)

    assert first.depth == pytest.approx(-0.25)
    assert (first.from_s, first.lowest_s, first.recovered_s) == (DAYS[1], DAYS[2], DAYS[4])
    assert first.bars == 3
    assert second.depth == pytest.approx(-0.2)
    assert (second.from_s, second.lowest_s, second.recovered_s) == (DAYS[5], DAYS[7], None)
    assert second.bars == 3


def test_a_curve_that_only_rises_has_no_drawdown() -> None:
    assert falls(DAYS, np.arange(1.0, 10.0)) == []


def test_months_count_from_the_last_value_of_the_month_before() -> None:
    at = np.array(["2020-01-30", "2020-01-31", "2020-02-28", "2020-12-31", "2021-01-04"], "datetime64[s]")

    first, second = years(at.astype(np.int64), np.array([1.0, 1.1, 1.32, 0.66, 0.99]))

    assert first.year == 2020
    assert first.months[0] == pytest.approx(0.1)
    assert first.months[1] == pytest.approx(0.2)
    assert first.months[2:11] == [None] * 9
    assert first.months[11] == pytest.approx(-0.5)
    assert first.total == pytest.approx(-0.34)
    assert second.year == 2021
    assert second.total == pytest.approx(0.5)


def test_a_rolling_ratio_is_the_ratio_of_its_bars() -> None:
    equity = np.exp(np.cumsum(np.random.default_rng(1).normal(0.0005, 0.01, 300)))
    returns = equity[1:] / equity[:-1] - 1

    rolled = rolling_sharpe(equity, 252.0, 60)

    assert np.isnan(rolled[:60]).all()
    for place in (60, 150, 299):
        part = returns[place - 60 : place]
        assert rolled[place] == pytest.approx(part.mean() / part.std(ddof=1) * 252**0.5, rel=1e-9)


def test_equity_that_stands_still_has_no_ratio() -> None:
    assert np.isnan(rolling_sharpe(np.ones(100), 252.0, 30)).all()


@pytest.mark.parametrize("count, expected", [(2_520, 126), (252, 84), (60, 20), (59, 0), (2, 0)])
def test_a_short_curve_is_rolled_over_fewer_bars(count: int, expected: int) -> None:
    assert rolling_bars(count, 252.0) == expected


def test_every_trade_is_in_one_bin_and_one_bin_begins_at_zero() -> None:
    returns = [*np.random.default_rng(2).normal(0.01, 0.05, 500).tolist(), 9.0, -0.9]

    bins = histogram(returns)

    assert sum(each.count for each in bins) == 502
    assert any(abs(each.low) < 1e-12 for each in bins)
    assert len(bins) < 40
    losses = sum(each.count for each in bins if each.high <= 1e-12)
    assert losses == sum(1 for each in returns if each < 0)


@pytest.mark.parametrize("returns", [[], [0.0], [0.01], [-0.5, -0.5], [3.0] * 5])
def test_a_histogram_of_few_trades(returns: list[float]) -> None:
    assert sum(each.count for each in histogram(returns)) == len(returns)


@pytest.mark.parametrize(
    "least, expected", [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (2.2, 2.5), (3.0, 5.0), (7.0, 10.0), (0.00013, 0.0002)]
)
def test_steps_are_round(least: float, expected: float) -> None:
    assert round_step(least) == pytest.approx(expected)


def test_shades_grow_with_the_size() -> None:
    assert [shade(value, 0.1) for value in (None, 0.0, 0.01, 0.09, 5.0, -0.03)] == [
        "", "", "up1", "up4", "up4", "down2",
    ]  # fmt: skip
