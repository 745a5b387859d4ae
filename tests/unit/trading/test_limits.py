"""Stops and targets in money, in ATRs and by a rule: ten bars by hand, the right answers written before the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.trading.backtest.limits import OPEN as OPEN_TRADE
from aworker.trading.backtest.simulation import REASONS, simulate
from aworker.trading.bars.store import Bars, BarStore
from aworker.trading.rules import compile_program
from aworker.trading.rules.calendar import flat_bars
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Risk, limit_rules
from tests.kit.market import START_S, flags, make_bars

NAN = float("nan")
TEN = make_bars(
    [
        (10.0, 11.0, 9.0, 10.0),  # the signal
        (10.0, 11.0, 9.5, 10.5),  # the entry, at 10
        (10.5, 12.0, 10.0, 11.5),
        (11.5, 13.0, 11.0, 12.5),
        (12.5, 13.0, 12.0, 12.5),
        (12.0, 12.5, 11.0, 11.5),
        (11.5, 12.0, 10.0, 10.5),
        (10.5, 11.0, 9.0, 9.5),
        (9.5, 10.0, 8.0, 8.5),
        (8.5, 9.0, 8.0, 8.5),
    ]
)
OPEN = (9, 8.5, "open")


def left(risk: Risk, **levels: list[float] | float) -> tuple[int, float, str] | None:
    """Return where, at what and why a trade signalled at the first bar ends; None when there is no trade."""
    given = {name: np.full(10, NAN) for name in levels}
    for name, values in levels.items():
        given[name][: len(values) if isinstance(values, list) else 10] = values
    made = simulate(TEN, flags(10, 0), flags(10), risk, levels=given)
    if not len(made.entry_bar):
        return None
    assert (made.entry_bar.tolist(), made.entry_price.tolist()) == ([1], [10.0])
    return made.exit_bar.item(), made.exit_price.item(), REASONS[made.reason.item()]


CASES: list[tuple[str, Risk, dict[str, Any], tuple[int, float, str] | None]] = [
    ("1.5 under the entry", Risk(stop_loss="r"), {"stop_loss": 1.5}, (8, 8.5, "stop_loss")),
    ("taken at the signal", Risk(stop_loss="r"), {"stop_loss": [1.5] + [0.1] * 9}, (8, 8.5, "stop_loss")),
    ("touched", Risk(stop_loss="r"), {"stop_loss": 2.0}, (8, 8.0, "stop_loss")),
    ("in the bar of the entry", Risk(stop_loss="r"), {"stop_loss": 0.2}, (1, 9.8, "stop_loss")),
    ("wider than the price", Risk(stop_loss="r"), {"stop_loss": 20.0}, OPEN),
    ("target 2 above", Risk(take_profit="r"), {"take_profit": 2.0}, (2, 12.0, "take_profit")),
    ("twice the risk", Risk(stop_loss="r", take_profit="2R"), {"stop_loss": 1.0}, (2, 12.0, "take_profit")),
    ("2.5 times the risk", Risk(stop_loss="r", take_profit="2.5R"), {"stop_loss": 1.0}, (3, 12.5, "take_profit")),
    ("risk of a fraction", Risk(stop_loss=0.1, take_profit="2.5R"), {}, (3, 12.5, "take_profit")),
    ("risk to a price", Risk(stop_price="r", take_profit="3R"), {"stop_price": 9.0}, (3, 13.0, "take_profit")),
    ("trails 2 under the high", Risk(trailing_stop="r"), {"trailing_stop": 2.0}, (5, 11.0, "trailing_stop")),
    ("trails closer", Risk(trailing_stop="r"), {"trailing_stop": [2, 2, 2, 1, 3, 3, 3]}, (4, 12.0, "trailing_stop")),
    ("never falls", Risk(trailing_stop="r"), {"trailing_stop": [2, 2, 2, 1.5, 3, 3, 3]}, (5, 11.5, "trailing_stop")),
    ("a gap in it", Risk(trailing_stop="r"), {"trailing_stop": [2, 2, 2, 2, NAN, 2, 2]}, (5, 11.0, "trailing_stop")),
    ("break even after 2", Risk(break_even="r"), {"break_even": 2.0}, (6, 10.0, "break_even")),
    ("break even after 20 %", Risk(break_even=0.2), {}, (6, 10.0, "break_even")),
    ("never that far", Risk(break_even=0.31), {}, OPEN),
    ("break even after 1R", Risk(stop_loss="r", break_even="1R"), {"stop_loss": 1.0}, (2, 10.0, "break_even")),
    (
        "a trail at break even",
        Risk(trailing_stop="r", break_even=0.3),
        {"trailing_stop": [9, 9, 9, 3, 3, 3, 3, 3]},
        (6, 10.0, "break_even"),
    ),
    (
        "low of 3 bars",
        Risk(stop_price="r"),
        {"stop_price": [9, 9, 9, 9.5, 10, 11, 10, 9, 8, 8]},
        (6, 11.0, "stop_price"),
    ),
    (
        "no level for a bar",
        Risk(stop_price="r"),
        {"stop_price": [9, 9, 9, 9, 10.5, NAN, 9, 9, 9]},
        (7, 9.0, "stop_price"),
    ),
    ("opened through the level", Risk(stop_price="r"), {"stop_price": [9, 9, 9, 9, 12.3]}, (5, 12.0, "stop_price")),
    ("level above the entry", Risk(stop_price="r"), {"stop_price": [10.2] + [1.0] * 9}, (1, 10.0, "stop_price")),
    ("the higher stop", Risk(stop_loss=0.1, stop_price="r"), {"stop_price": 9.2}, (7, 9.2, "stop_price")),
    ("the same stop", Risk(stop_loss=0.1, stop_price="r"), {"stop_price": 9.0}, (7, 9.0, "stop_loss")),
    ("target at a level", Risk(target_price="r"), {"target_price": [14, 14, 12.8, 12.2]}, (3, 12.8, "target_price")),
    (
        "opened above the level",
        Risk(target_price="r"),
        {"target_price": [14, 14, 14, 12.2]},
        (4, 12.5, "target_price"),
    ),
    (
        "the nearer target",
        Risk(target_price="r", take_profit="r"),
        {"target_price": 12.9, "take_profit": 2.5},
        (3, 12.5, "take_profit"),
    ),
    (
        "stop before target",
        Risk(target_price="r", stop_price="r"),
        {"target_price": 12.9, "stop_price": [9, 9, 11.2]},
        (3, 11.2, "stop_price"),
    ),
    ("undefined at the signal", Risk(stop_loss="r"), {"stop_loss": [NAN] + [1.0] * 9}, None),
    ("no distance", Risk(stop_loss="r"), {"stop_loss": 0.0}, None),
    ("no level at the signal", Risk(stop_price="r"), {"stop_price": [NAN] + [9.0] * 9}, None),
    ("no target at the signal", Risk(target_price="r"), {"target_price": [NAN] + [9.0] * 9}, None),
]


@pytest.mark.parametrize("risk, levels, expected", [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_a_limit_closes_where_it_must(
    risk: Risk, levels: dict[str, Any], expected: tuple[int, float, str] | None
) -> None:
    found = left(risk, **levels)

    if expected is None or found is None:
        assert found == expected
    else:
        assert (found[0], found[2]) == (expected[0], expected[2])
        assert found[1] == pytest.approx(expected[1])


FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "limit_figures.json").read_text())


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]])
def test_trades_agree_with_another_engine(case: dict[str, Any]) -> None:
    risk = msgspec.convert(case["risk"], Risk)
    bars = BarStore().load(case["symbol"], "1d")
    signals = evaluate(compile_program(case["entry"], case["exit"], levels=limit_rules(risk)), bars)
    exits = None if case["exit"] is None else signals.exit

    made = simulate(bars, signals.entry, exits, risk, "level", levels=signals.levels)

    closed = made.reason != OPEN_TRADE
    entered, gone, paid, got = (list(column) for column in zip(*case["trades"], strict=True))
    assert bars.timestamp[made.entry_bar[closed]].tolist() == entered
    assert bars.timestamp[made.exit_bar[closed]].tolist() == gone
    assert made.entry_price[closed] == pytest.approx(paid, rel=1e-9)
    assert made.exit_price[closed] == pytest.approx(got, rel=1e-9)


def test_a_position_is_closed_at_the_first_bar_of_the_time_or_of_the_next_day() -> None:
    # Two days of hourly bars from 14:00, the second without a bar at 17:00 or later.
    hours = [14, 15, 16, 17, 18, 24 + 14, 24 + 15, 48 + 14, 48 + 15]
    timestamp = START_S + 3_600 * np.array(hours, np.int64)
    price = np.arange(10.0, 19.0)
    bars = Bars("TEST", "1h", timestamp, price, price + 0.5, price - 0.5, price, np.full(9, 1.0))
    entry = flags(9, 0, 2, 3, 5)

    made = simulate(bars, entry, None, Risk(), "level", flat=flat_bars(timestamp, "UTC", "17:00"))

    # Entered at 15:00 and out at 17:00; a signal at 16:00 may not enter at 17:00, one at 17:00 not at 18:00.
    # Entered at 15:00 of the second day, which ends before 17:00: out at the first bar of the third.
    assert [REASONS[reason] for reason in made.reason] == ["flat", "flat"]
    assert made.entry_bar.tolist() == [1, 6]
    assert made.exit_bar.tolist() == [3, 7]
    assert made.exit_price.tolist() == [13.0, 17.0]
