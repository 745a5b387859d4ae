"""Selling in parts: ten bars by hand, the right answers written before the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.backtest.simulation import OPEN, simulate
from aworker.trading.bars.store import BarStore
from aworker.trading.report.export import trades_table
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.parts import Part
from aworker.trading.strategies.strategy import (
    Risk,
    Rules,
    StrategyInvalid,
    apply_fields,
    check_rules,
    condition_rules,
    describe,
    limit_rules,
    rules_from_source,
    source_text,
)
from tests.kit.market import DAY_S, START_S, context, make_bars, store_of

TEN = [
    (10.0, 11.0, 9.0, 10.0),  # the signal
    (10.0, 11.0, 9.5, 10.5),  # the entry, at 10
    (10.5, 12.0, 10.0, 11.5),
    (11.5, 13.0, 11.0, 12.5),
    (12.5, 14.0, 12.0, 13.5),
    (13.0, 13.5, 11.0, 11.5),
    (11.5, 12.0, 10.0, 10.5),
    (10.5, 11.0, 9.0, 9.5),
    (9.5, 10.0, 8.0, 8.5),
    (8.5, 9.0, 8.0, 8.5),
]
ONCE = "entry: close == 10 and day_of_month() == 1\nreentry: edge\n"


def run(
    folder: Path, text: str, bars: list[tuple[float, float, float, float]] | None = None, **asked: Any
) -> dict[str, Any]:
    store_of(folder, make_bars(bars or TEN))
    rules = rules_from_source(text)
    request = {
        "rules": json.loads(msgspec_json(rules)),
        "now_s": float(START_S + 20 * DAY_S),
        "start_s": float(START_S),
    }
    path = {"market_data_path": str(folder), "whole_curve": True}
    return run_backtest({**request, **path, **asked}, context())


def msgspec_json(rules: Rules) -> str:

    return msgspec.json.encode(rules).decode()


def left(made: dict[str, Any]) -> list[tuple[float, float, float]]:
    """Return (bar, price, part) of what was sold before the rest, then the bar and mean price of the end."""
    (trade,) = made["instances"]
    sold = trade["strategy_results"].get("parts_sold", [])
    bars = [((each["timestamp"] - START_S) // DAY_S, each["price"], each["part"]) for each in sold]
    at = None if trade["exit_timestamp"] is None else (trade["exit_timestamp"] - START_S) // DAY_S
    return [*bars, (at, trade["exit_price"], trade["strategy_results"]["exit_reason"])]


CASES: list[tuple[str, str, list[Any], float]] = [
    # 0.5 x 11 + 0.5 x 8.5 at the end, of 10.
    ("half at a gain of 10%", "scale_out: 50% at 10%", [(1, 11.0, 0.5), (None, 9.75, "open")], 0.975),
    (
        "half at what the stop risks, the rest at the stop",
        "stop_loss: 10%\nscale_out: half at 1R",
        [(1, 11.0, 0.5), (7, 10.0, "stop_loss")],
        1.0,
    ),
    (
        "thirds at 10% and 20%, the rest at the entry price after 15%",
        "scale_out: 1/3 at 10%, 1/3 at 20%\nbreak_even: 15%",
        [(1, 11.0, 1 / 3), (2, 12.0, 1 / 3), (6, 11.0, "break_even")],
        1.1,
    ),
    (
        "all in parts ends the trade",
        "scale_out: 50% at $1, 50% at $3",
        [(1, 11.0, 0.5), (3, 12.0, "scale_out")],
        1.2,
    ),
    (
        "in ATRs, of which there are none yet, so nothing is bought",
        "scale_out: 50% at 2 ATR",
        [],
        1.0,
    ),
    (
        "half when a condition holds, at the next open",
        "scale_out: 50% when close > 12",
        [(4, 12.5, 0.5), (None, 10.5, "open")],
        1.05,
    ),
    (
        "half at a gain and half at a condition: the condition ends it",
        "scale_out: 50% at 10%; 50% when close > 13",
        [(1, 11.0, 0.5), (5, 12.0, "signal")],
        1.2,
    ),
    (
        "a part beyond the target is never sold alone",
        "take_profit: 20%\nscale_out: 25% at 10%, 25% at 30%",
        [(1, 11.0, 0.25), (2, 11.75, "take_profit")],
        1.175,
    ),
    (
        "in the bar of the stop the stop comes first",
        "stop_loss: 5%\nscale_out: 50% at 10%",
        [(1, 9.5, "stop_loss")],
        0.95,
    ),
    (
        "the exit rule sells the rest",
        "exit: close == 11.5 and falling(close)\nscale_out: 50% at 30%",
        [(3, 13.0, 0.5), (6, 12.25, "signal")],
        1.225,
    ),
    ("after a number of bars", "max_bars: 3\nscale_out: 50% at 20%", [(2, 12.0, 0.5), (4, 12.25, "max_bars")], 1.225),
]


@pytest.mark.parametrize(("text", "legs", "worth"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_parts_are_sold_as_by_hand(tmp_path: Path, text: str, legs: list[Any], worth: float) -> None:
    once = "entry: close == 10 and day_of_month() == 1\n" if "exit" in text else ONCE

    made = run(tmp_path, once + text)

    assert [pytest.approx(leg[:2]) for leg in legs] == [leg[:2] for leg in (left(made) if made["instances"] else [])]
    assert [leg[2] for leg in legs] == [leg[2] for leg in (left(made) if made["instances"] else [])]
    assert made["performance_metrics"]["equity_curve"][-1][1] == pytest.approx(worth)


def test_a_short_buys_back_in_parts_and_pays_for_what_it_owes(tmp_path: Path) -> None:
    falling = [(20 - open_, 20 - low, 20 - high, 20 - close) for open_, high, low, close in TEN]
    text = ONCE + "side: short\nscale_out: 50% at 10%, 25% at 20%\nstop_loss: 50%"

    made = run(tmp_path, text, falling, borrow=0.365)

    # Sold at 10; half bought back at 9 in the bar of the entry, a quarter at 8 a day later, the rest still owed at 11.5
    # after 8 days at 0.01 a day.
    assert left(made) == [
        (1, 9.0, 0.5),
        (2, 8.0, 0.25),
        (None, pytest.approx(0.5 * 9 + 0.25 * 8 + 0.25 * 11.5), "open"),
    ]
    gained = 0.5 * 1 + 0.25 * (2 - 0.01) + 0.25 * (-1.5 - 0.08)
    assert made["instances"][0]["future_return"] == pytest.approx(gained / 10)


def test_costs_are_paid_on_every_part(tmp_path: Path) -> None:
    made = run(tmp_path, ONCE + "scale_out: 50% at 10%\nmax_bars: 3", commission=0.01, slippage=0.02, per_share=0.1)

    # Bought at 10.20, 1% and 0.10 a share; half sold in the same bar, 10% above what was paid, the rest at the open.
    paid = 10 * 1.02
    sold = [paid * 1.1 * 0.98, 12.5 * 0.98]
    back = sum(0.5 * (price * 0.99 - 0.1) for price in sold)
    assert made["instances"][0]["strategy_results"]["parts_sold"][0]["timestamp"] == START_S + 2 * DAY_S
    assert made["instances"][0]["future_return"] == pytest.approx(back / (paid * 1.01 + 0.1) - 1)
    assert made["performance_metrics"]["turnover"] > 0


def test_an_account_sells_whole_shares_and_has_the_money_at_once(tmp_path: Path) -> None:
    text = ONCE + "capital: 75\nwhole_shares: yes\nscale_out: 50% at 10%\nmax_bars: 3"

    made = run(tmp_path, text, per_order=1.0)

    # 7 shares and 1 for the order of 75, so 4 are left; 3 of the 7 go at 11, less 1; 4 at 12.5, less 1.
    trade = made["instances"][0]["strategy_results"]
    assert (trade["shares"], trade["parts_sold"][0]["part"]) == (7, pytest.approx(3 / 7))
    curve = [value * 75 for _, value in made["performance_metrics"]["equity_curve"]]
    assert curve[1] == pytest.approx(4 + 3 * 11 - 1 + 4 * 10.5)
    assert curve[-1] == pytest.approx(4 + 3 * 11 - 1 + 4 * 12.5 - 1)


@pytest.mark.parametrize("reentry", ["edge", "cycle", "level"])
def test_the_rest_is_sold_before_anything_is_bought_again(tmp_path: Path, reentry: str) -> None:
    text = f"entry: close > 9\nreentry: {reentry}\nscale_out: 50% at 10%, 50% at 20%"

    made = run(tmp_path, text)

    # Sold out in bar 2; level buys at the next open, the others wait for a new signal.
    entries = [(trade["timestamp"] - START_S) // DAY_S for trade in made["instances"]]
    assert entries == ([1, 3, 5] if reentry == "level" else [1])


def test_a_short_without_an_exit_waits_for_a_new_signal_after_its_stop(tmp_path: Path) -> None:
    text = "entry: close == 11.5 or close == 9.5\nside: short\nstop_loss: 5%"

    made = run(tmp_path, text)

    # Bar 2 signals, bar 3 opens at 11.5 and stops at 12.075; bars 5 and 7 signal anew.
    assert [(trade["timestamp"] - START_S) // DAY_S for trade in made["instances"]] == [3, 6]


def test_shares_cost_without_an_account_and_orders_are_said_not_to(tmp_path: Path) -> None:
    made = run(tmp_path, ONCE + "max_bars: 3", per_share=0.5, per_order=2.0)

    assert made["instances"][0]["future_return"] == pytest.approx((12.5 - 0.5) / (10 + 0.5) - 1)
    assert any("per_order, 2 an order, is not charged" in line for line in made["summary"]["warnings"])
    assert not any("per_order" in line for line in run(tmp_path, ONCE, per_share=0.5)["summary"]["warnings"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("50% at 5%", (Part(0.5, 0.05),)),
        ("half at 1R, 25% at 10%", (Part(0.5, "1R"), Part(0.25, 0.1))),
        ("1/2 at $2; 0.25 at 2 ATR", (Part(0.5, "2"), Part(0.25, "2 * atr(14)"))),
        (
            "50% at bollinger_upper(close, 20, 2) - close, 50% when rsi(close, 14) > 70 and close > sma(close, 5)",
            (
                Part(0.5, "bollinger_upper(close, 20, 2) - close"),
                Part(0.5, when="rsi(close, 14) > 70 and close > sma(close, 5)"),
            ),
        ),
        ("a third at 5%, 1/3 at 10%, a third at 15%", (Part(1 / 3, 0.05), Part(1 / 3, 0.1), Part(1 / 3, 0.15))),
    ],
)
def test_parts_are_read_and_written_as_people_write_them(text: str, parts: tuple[Part, ...]) -> None:
    rules = rules_from_source(f"entry: close > 1\nstop_loss: 2%\nscale_out: {text}")

    assert rules.risk.scale_out == parts
    assert rules_from_source(source_text(rules)) == rules
    assert "of the position before the rest" in describe(rules)
    assert rules_from_source(f"{source_text(rules)}\nexit: close < 1").risk.scale_out == parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("60% at 5%, 50% at 10%", r"at most 8 parts of 100% in all, was '2 of 1.1 in all'"),
        ("0% at 5%", r"source.scale_out must be parts of the position"),
        ("150% at 5%", r"source.scale_out must be parts of the position"),
        ("50% at 0%", r"scale_out\[0\].at must be a fraction, 0 < x"),
        ("50% at -5%", r"scale_out\[0\].at must be a fraction"),
        ("sell some at 5%", r"source.scale_out must be parts of the position.*write 50% at 1R"),
        ("50% when smaa(close) > 1", r"scale_out\[0\].when must be a condition.*did you mean sma"),
        ("50% at sma(close", r"scale_out\[0\].at must be a number"),
        (", ".join(["10% at 5%"] * 9), r"at most 8 parts"),
        ("1/0 at 5%", r"source.scale_out must be parts of the position"),
    ],
)
def test_parts_that_are_none_are_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(StrategyInvalid, match=says):
        rules_from_source(f"entry: close > 1\nscale_out: {text}")


def test_parts_that_need_what_is_not_there_are_refused() -> None:
    with pytest.raises(StrategyInvalid, match=r"scale_out\[0\].at must be a multiple of a stop's risk"):
        rules_from_source("entry: close > 1\nscale_out: 50% at 1R")
    with pytest.raises(StrategyInvalid, match=r"scale_out\[0\].when must be left out with short"):
        rules_from_source("entry: close > 1\nshort: close < 1\nscale_out: 50% when close > 2")
    for part in (Part(0.5), Part(0.5, 0.1, "close > 1")):
        with pytest.raises(StrategyInvalid, match="with one of at and when"):
            check_rules(Rules("close > 1", risk=Risk(scale_out=(part,))))


def test_none_takes_the_parts_away() -> None:
    rules = rules_from_source("entry: close > 1\nscale_out: 50% at 5%")

    assert apply_fields(rules, {"scale_out": "none"}).risk.scale_out == ()


def test_tables_say_what_was_sold_before_the_rest(tmp_path: Path) -> None:
    made = run(tmp_path, ONCE + "scale_out: 50% at 10%")

    row = trades_table(made).row(0, named=True)

    assert row["parts_sold"] == "2020-01-02 50% at 11"


FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "scaling_figures.json").read_text())


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in FIGURES["cases"]])
def test_parts_agree_with_another_engine(case: dict[str, Any]) -> None:
    risk = msgspec.convert(case["risk"], Risk)
    rules = Rules(case["entry"], case["exit"], risk=risk, reentry="level")
    bars = BarStore().load(case["symbol"], "1d")
    program = compile_program(rules.entry, rules.exit, levels=limit_rules(risk), conditions=condition_rules(rules))
    signals = evaluate(program, bars)
    entry = signals.entry & ~np.isin(bars.timestamp, case["left_out"])
    sides = (entry, signals.exit, None, None) if case["side"] > 0 else (None, None, entry, signals.exit)

    made = simulate(
        bars,
        sides[0],
        sides[1],
        risk,
        "level",
        levels=signals.levels,
        short=sides[2],
        cover=sides[3],
        whens=signals.conditions,
    )

    ours: Legs = {}
    for place, (start, end) in enumerate(zip(made.entry_bar.tolist(), made.exit_bar.tolist(), strict=True)):
        sold = [(each.bar, each.price, each.part) for each in made.parts.get(place, [])]
        if made.reason[place] != OPEN:
            left = 1.0 - sum(part for _, _, part in sold)
            sold.append((end, (made.exit_price[place] - sum(got * part for _, got, part in sold)) / left, left))
        for bar, got, part in sold:
            ours.setdefault((start, bar, made.entry_price.item(place)), []).append((got, part))
    place_of = {int(instant): place for place, instant in enumerate(bars.timestamp)}
    theirs: Legs = {}
    for entered, gone, paid, got, part in case["trades"]:
        key, opened = (place_of[entered], place_of[gone], paid), bars.open.item(place_of[gone])
        # A target that a bar opens beyond is filled at the open there, here at its own price.
        beyond = [mine for mine, share in ours[key] if case["side"] * (opened - mine) > 0 and abs(share - part) < 1e-3]
        theirs.setdefault(key, []).append((beyond[0] if got == opened and beyond else got, part))
    assert summed(ours) == [pytest.approx(each, rel=1e-9) for each in summed(theirs)]


Legs = dict[tuple[int, int, float], list[tuple[float, float]]]


def summed(legs: Legs) -> list[tuple[float, ...]]:
    """Return each bar's parts, those of one price as one; parts are of whole shares there."""
    found: dict[tuple[float, ...], float] = {}
    for key, prices in legs.items():
        for got, part in prices:
            found[*key, round(got, 8)] = found.get((*key, round(got, 8)), 0.0) + round(part, 4)
    return sorted((*key, round(part, 3)) for key, part in found.items())
