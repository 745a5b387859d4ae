"""docs/rules.md says what the language is: its functions, fields, limits, examples and its error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aworker.trading.prompts import strategy_from_prompt
from aworker.trading.rules import INDICATORS, SERIES, parse_rule
from aworker.trading.rules.functions import MAX_WINDOW_BARS
from aworker.trading.rules.parser import MAX_COST, MAX_LOOK_BACK_BARS
from aworker.trading.rules.scan import MAX_CHARACTERS, MAX_DEPTH, MAX_TOKENS
from aworker.trading.strategies.strategy import REENTRIES, SOURCE_KEYS, TIMEFRAMES, StrategyInvalid, rules_from_source

TEXT = (Path(__file__).parents[3] / "docs" / "rules.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def block(kind: str) -> str:
    found = re.search(rf"^```{kind}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_functions_are_those_of_the_language() -> None:
    rows = [line.split(" | ") for line in section("Functions").splitlines() if line.startswith("| `")]

    listed = [f"{name.strip('|` ')}: {about.removesuffix(' |')}" for name, about in rows]
    assert listed == list(INDICATORS.values())


def test_the_fields_are_those_of_a_strategy() -> None:
    rows = [line for line in section("Fields").splitlines() if line.startswith("| `")]

    assert [row.split("`")[1] for row in rows] == list(SOURCE_KEYS)
    assert all(f" {timeframe}" in section("Fields") for timeframe in TIMEFRAMES)
    assert all(f"`{reentry}`" in section("Fields") for reentry in REENTRIES)
    assert all(f"`{name}`" in section("Values") for name in SERIES)


def test_the_limits_are_those_in_force() -> None:
    limits = (MAX_CHARACTERS, MAX_TOKENS, MAX_DEPTH, MAX_LOOK_BACK_BARS, MAX_COST)

    assert re.findall(r"\b(\d+) (?:ch|wo|le|ba|st)", section("Limits")) == [str(limit) for limit in limits]
    assert f"from 1 to {MAX_WINDOW_BARS}" in section("Functions")


@pytest.mark.parametrize("rule", block("rules").splitlines())
def test_every_example_is_a_rule(rule: str) -> None:
    assert parse_rule(rule, "condition").text == rule


def test_the_strategy_reads_as_it_stands() -> None:
    draft = strategy_from_prompt(block(""))

    assert (draft.name, draft.rules.symbols, draft.rules.risk.stop_loss) == ("Golden cross", ("AAPL", "MSFT"), 0.08)


def test_the_error_is_the_one_that_is_told() -> None:
    told, text, caret = block("error").splitlines()

    with pytest.raises(StrategyInvalid) as raised:
        rules_from_source(f"entry: {text.strip()}")

    assert told == f"aworker: {raised.value}"
    assert raised.value.__notes__ == [f"{text}\n{caret}"]
