"""Prompts of people who had not seen the reader, with their meaning: written first, kept as they were written.

A prompt of kind ``rule`` is right when its strategy signals at every bundled daily bar where one of its reference rules
does; ``refuse`` when it is refused. What the reader makes of them otherwise is a wrong trade.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aworker.trading.prompts import PromptNotUnderstood, strategy_from_prompt
from aworker.trading.strategies.strategy import Rules
from tests.kit.signals import signals

FOLDER = Path(__file__).parents[3] / "data/prompts"
LEAST_RIGHT = {
    "people": (102, 115),
    "people-2": (76, 82),
    "people-3": (72, 82),
    "people-4": (73, 82),
    "people-5": (34, 60),
}
"""Prompts that are understood, and those that the rule language can say. Before any of a file was looked at it was 25,
40, 39, 46 and 33 of them, and 3, 3, 1, 6 and 1 were misread."""


def _faults(case: dict[str, Any], rules: Rules) -> list[str]:
    faults = [name for name in ("entry", "exit") if not _is_meant(getattr(rules, name), case[name])]
    asked = case["risk"]
    limits = ("stop_loss", "take_profit", "trailing_stop", "max_bars")
    faults += [name for name in limits if getattr(rules.risk, name) != pytest.approx(asked.get(name))]
    if set(case["symbols"]) != set(rules.symbols or ()):
        faults.append("symbols")
    if case.get("timeframe", rules.timeframe) != rules.timeframe:
        faults.append("timeframe")
    return faults


def _is_meant(rule: str | None, references: list[str]) -> bool:
    # Where nothing is said of leaving, any exit is right that the description states.
    return not references or (rule is not None and signals(rule) in map(signals, references))


def _verdict(case: dict[str, Any]) -> str:
    try:
        rules = strategy_from_prompt(case["prompt"]).rules
    except PromptNotUnderstood:
        return "right" if case["kind"] == "refuse" else "refused"
    return "right" if case["kind"] == "rule" and not _faults(case, rules) else "wrong"


@pytest.mark.parametrize("name", LEAST_RIGHT)
def test_most_of_what_people_write_is_understood_and_nothing_is_misread(name: str) -> None:
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))

    verdicts = {case["id"]: _verdict(case) for case in cases}

    rule_ids = {case["id"] for case in cases if case["kind"] == "rule"}
    least, count = LEAST_RIGHT[name]
    assert [name for name, verdict in verdicts.items() if verdict == "wrong"] == []
    assert sum(verdicts[name] == "right" for name in rule_ids) >= least
    assert len(rule_ids) == count
