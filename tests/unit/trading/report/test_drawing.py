"""Charts: nothing that matters is thinned away, axes have round values, gaps stay gaps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aworker.trading.report.drawing import Axis, columns_of, line, thinned, time_ticks
from aworker.trading.report.figures import histogram
from tests.kit.market import DAY_S, START_S


def test_the_extremes_of_a_long_curve_are_drawn() -> None:
    values = np.random.default_rng(3).normal(0.0, 1.0, 100_000)
    values[54_321], values[77_777] = 50.0, -50.0

    chosen = thinned(values)

    assert len(chosen) <= 902
    assert {0, 54_321, 77_777, 99_999} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()


def test_a_short_curve_is_drawn_whole() -> None:
    assert thinned(np.arange(900.0)).tolist() == list(range(900))


def test_the_highest_value_stands_above_the_lowest() -> None:
    axis = Axis(1.0, 2.0)

    assert 0 < axis.place(2.0) < axis.place(1.5) < axis.place(1.0) < 1000


def test_a_wide_range_is_logarithmic_where_it_may_be() -> None:
    axis = Axis(1.0, 1_000.0, may_be_logarithmic=True)

    assert axis.is_logarithmic
    assert axis.place(10.0) - axis.place(100.0) == pytest.approx(axis.place(1.0) - axis.place(10.0), abs=0.2)
    assert [tick.text for tick in axis.ticks("{:g}")] == ["1", "10", "100", "1000"] or len(axis.ticks("{:g}")) > 4
    assert not Axis(-1.0, 1_000.0, may_be_logarithmic=True).is_logarithmic


@pytest.mark.parametrize("low, high", [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (0.0, 1e-9), (1e9, 2e9)])
def test_every_range_has_an_axis(low: float, high: float) -> None:
    axis = Axis(low, high)

    assert math.isfinite(axis.place(low))
    assert 1 <= len(axis.ticks("{:g}")) <= 12


def test_a_value_that_is_not_there_parts_the_line() -> None:
    values = np.array([1.0, 2.0, np.nan, 2.0, 1.0])

    drawn = line("a", "own", values, Axis(1.0, 2.0))

    assert len(drawn.points) == 2
    assert drawn.points[0].startswith("0.0,")
    assert drawn.points[1].endswith(drawn.points[0].split(" ")[0].partition(",")[2])


@pytest.mark.parametrize(
    "bars, step_s, expected",
    [
        (2_520, DAY_S, ["2020", "2022", "2024", "2026"]),
        (250, DAY_S, ["2020-01", "2020-03", "2020-05", "2020-07", "2020-09"]),
        (30, DAY_S, ["01-02", "01-09", "01-16", "01-23", "01-30"]),
        (390, 60, ["00:00", "04:00"]),
        (1, DAY_S, ["00:00"]),
    ],
)
def test_dates_are_round(bars: int, step_s: int, expected: list[str]) -> None:
    at = START_S + step_s * np.arange(bars, dtype=np.int64)

    ticks = time_ticks(at)

    assert [tick.text for tick in ticks] == expected
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_a_histogram_has_a_column_for_each_bin_with_trades() -> None:
    bins = histogram([-0.02, -0.02, 0.03])

    chart = columns_of(bins, "returns")

    assert [bar[0] for bar in chart.bars] == ["loss", "gain"]
    assert chart.bars[0][4] > chart.bars[1][4]
