"""Selling short: ten bars by hand, the right answers written before the code; then other engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.trading.backtest.limits import OPEN as OPEN_TRADE
from aworker.trading.backtest.simulation import REASONS, Simulation, simulate
from aworker.trading.bars.store import Bars, BarStore
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Risk, limit_rules
from tests.kit.market import flags, make_bars
from tests.unit.trading.test_limits import TEN

NOTHING = flags(10)
NO_LIMITS = Risk()


def short_of(entered: int, covered: int | None = None, risk: Risk = NO_LIMITS, **costs: Any) -> Simulation:
    covers = NOTHING if covered is None else flags(10, covered)
    return simulate(TEN, NOTHING, None, risk, "level", short=flags(10, entered), cover=covers, **costs)


def trades_of(made: Simulation) -> list[tuple[Any, ...]]:
    reasons = [REASONS[reason] for reason in made.reason]
    columns = (made.entry_bar, made.exit_bar, made.entry_price, made.exit_price, reasons, made.side)
    return list(zip(*(list(column) for column in columns), strict=True))


def test_a_short_gains_what_the_price_falls() -> None:
    made = short_of(0, 5)

    assert trades_of(made) == [(1, 6, 10.0, 11.5, "signal", -1)]
    assert made.growth == pytest.approx([0.85])
    assert made.equity == pytest.approx([1, 0.95, 0.85, 0.75, 0.75, 0.85, 0.85, 0.85, 0.85, 0.85])
    assert made.held.tolist() == [False, True, True, True, True, True, False, False, False, False]


def test_a_short_pays_costs_on_both_sides() -> None:
    made = short_of(0, 5, commission=0.01, slippage=0.02)

    assert made.entry_price == pytest.approx([9.8])
    assert made.exit_price == pytest.approx([11.73])
    assert made.growth == pytest.approx([1 + (9.8 * 0.99 - 11.73 * 1.01) / (9.8 * 1.01)])


def test_what_is_borrowed_costs_by_the_day() -> None:
    made = short_of(0, 5, borrow=0.365)

    assert made.growth == pytest.approx([0.845])
    assert made.equity[3] == pytest.approx(0.748)


@pytest.mark.parametrize(
    "entered, risk, level, expected",
    [
        pytest.param(0, Risk(stop_loss=0.2), None, (2, 12.0, "stop_loss"), id="a fifth above"),
        pytest.param(0, Risk(stop_loss="r"), 1.5, (2, 11.5, "stop_loss"), id="a distance above"),
        pytest.param(0, Risk(stop_loss=0.31), None, (9, 8.5, "open"), id="never so high"),
        pytest.param(5, Risk(trailing_stop="r"), 1.0, (7, 11.0, "trailing_stop"), id="trails the low"),
        pytest.param(5, Risk(trailing_stop=0.1), None, (7, 11.0, "trailing_stop"), id="trails the low by a tenth"),
        pytest.param(5, Risk(trailing_stop="r"), 1.5, (9, 8.5, "open"), id="trails further off"),
        pytest.param(5, Risk(take_profit=0.1), None, (6, 10.35, "take_profit"), id="target below"),
        pytest.param(5, Risk(stop_loss=0.1, take_profit="2R"), None, (7, 9.2, "take_profit"), id="twice the risk"),
        pytest.param(0, Risk(break_even="r"), 0.4, (2, 10.5, "break_even"), id="opened above break even"),
        pytest.param(5, Risk(max_bars=2), None, (8, 9.5, "max_bars"), id="two bars"),
    ],
)
def test_limits_of_a_short_are_mirrored(
    entered: int, risk: Risk, level: float | None, expected: tuple[int, float, str]
) -> None:
    names = [name for name in ("stop_loss", "trailing_stop", "break_even") if getattr(risk, name) == "r"]

    made = short_of(entered, risk=risk, levels={name: np.full(10, level) for name in names})

    assert made.exit_bar.item() == expected[0]
    assert made.exit_price.item() == pytest.approx(expected[1])
    assert REASONS[made.reason.item()] == expected[2]


@pytest.mark.parametrize(
    "bar, price",
    [((12.0, 21.0, 11.0, 20.0), 20.0), ((25.0, 26.0, 24.0, 25.0), 25.0)],
    ids=["inside the bar", "over night"],
)
def test_a_short_that_loses_everything_ends_the_trading(bar: tuple[float, float, float, float], price: float) -> None:
    flat = (10.0, 10.0, 10.0, 10.0)
    bars = make_bars([flat, flat, bar, flat, flat, flat])

    made = simulate(bars, flags(6), None, Risk(), "level", short=np.ones(6, np.bool_), cover=None)

    assert trades_of(made) == [(1, 2, 10.0, price, "ruin", -1)]
    assert made.growth.tolist() == [0.0]
    assert made.equity.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_signal_of_the_other_side_turns_the_position_at_one_open() -> None:
    made = simulate(TEN, flags(10, 0, 6), None, Risk(), "level", short=flags(10, 3), cover=None)

    assert trades_of(made) == [
        (1, 4, 10.0, 12.5, "signal", 1),
        (4, 7, 12.5, 10.5, "signal", -1),
        (7, 9, 10.5, 8.5, "open", 1),
    ]
    assert made.growth == pytest.approx([1.25, 1.16, 8.5 / 10.5])
    assert made.equity[5] == pytest.approx(1.25 * (1 + (12.5 - 11.5) / 12.5))
    assert made.equity[-1] == pytest.approx(1.25 * 1.16 * 8.5 / 10.5)


def test_an_exit_and_a_signal_of_the_other_side_share_the_open() -> None:
    made = simulate(TEN, flags(10, 0), flags(10, 3), Risk(), "level", short=flags(10, 3), cover=flags(10, 6))

    assert [trade[:2] for trade in trades_of(made)] == [(1, 4), (4, 7)]


def test_where_both_sides_signal_nothing_is_done() -> None:
    made = simulate(TEN, flags(10, 0, 3), None, Risk(), "level", short=flags(10, 3, 0, 5), cover=None)

    assert trades_of(made) == [(6, 9, 11.5, 8.5, "open", -1)]


def test_after_a_stop_the_other_side_waits_for_nothing() -> None:
    # The long is stopped in bar 2 and waits for a new entry signal; the short's signal at its close is taken.
    entry, short = np.ones(10, np.bool_), flags(10, 2)
    entry[2] = False

    made = simulate(TEN, entry, None, Risk(stop_loss="r"), "edge", levels={"stop_loss": np.full(10, 0.4)}, short=short)

    assert [trade[:2] + trade[4:] for trade in trades_of(made)[:2]] == [(1, 1, "stop_loss", 1), (3, 3, "stop_loss", -1)]


FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "short_figures.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]]


def traded(case: dict[str, Any], **costs: Any) -> tuple[Bars, Simulation]:
    risk = msgspec.convert(case["risk"], Risk)
    conditions = {name: case[name] for name in ("short", "cover") if case[name]}
    bars = BarStore().load(case["symbol"], "1d")
    program = compile_program(case["entry"], levels=limit_rules(risk), conditions=conditions)
    said = evaluate(program, bars)
    made = simulate(
        bars, said.entry, None, risk, "level", levels=said.levels,
        short=said.conditions["short"], cover=said.conditions.get("cover"), **costs,
    )  # fmt: skip
    return bars, made


@pytest.mark.parametrize("case", CASES)
def test_trades_agree_with_another_engine(case: dict[str, Any]) -> None:
    bars, made = traded(case)

    closed = made.reason != OPEN_TRADE
    entered, gone, paid, got, side = (list(column) for column in zip(*case["trades"], strict=True))
    assert bars.timestamp[made.entry_bar[closed]].tolist() == entered
    assert bars.timestamp[made.exit_bar[closed]].tolist() == gone
    assert made.side[closed].tolist() == side
    assert made.entry_price[closed] == pytest.approx(paid, rel=1e-9)
    assert made.exit_price[closed] == pytest.approx(got, rel=1e-9)


@pytest.mark.parametrize(
    "case", [each for each in FIGURES["cases"] if "returns" in each], ids=lambda case: case["name"]
)
def test_returns_after_costs_agree_with_another_engine(case: dict[str, Any]) -> None:
    bars, made = traded(case, **case["costs"])

    closed = made.reason != OPEN_TRADE
    entered, paid, got, side, gained = (list(column) for column in zip(*case["returns"], strict=True))
    assert bars.timestamp[made.entry_bar[closed]].tolist() == entered
    assert made.side[closed].tolist() == side
    assert made.entry_price[closed] == pytest.approx(paid, rel=1e-9)
    assert made.exit_price[closed] == pytest.approx(got, rel=1e-9)
    # It counts a return on the value filled, not on what was put in, of which the commission is a part.
    of_value = (made.growth[closed] - 1) * (1 + case["costs"]["commission"])
    assert of_value == pytest.approx(gained, rel=1e-9)
