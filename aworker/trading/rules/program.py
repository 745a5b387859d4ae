"""A strategy's rules, parsed: what they say, how many bars they need, and the steps that give their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aworker.trading.rules.parser import Kind, Trees, parse
from aworker.trading.rules.steps import Step, Steps


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, checked."""

    text: str
    kind: Kind
    """``condition`` (true or false at a bar) or ``score`` (a number)."""
    look_back: int
    """Bars of warm-up: the first ``look_back`` bars have no value and never signal."""


@dataclass(frozen=True, slots=True)
class Program:
    """The rules of one strategy as one list of steps, what they have in common computed once."""

    entry: Rule
    exit: Rule | None
    rank: Rule | None
    look_back: int
    """Bars of warm-up: the most of its rules."""
    tail_bars: int | None
    """How many of the latest bars give the last bar's values, those of windows to the bit, smoothed ones to about 1e-9;
    None = all of them, because on-balance volume is summed from the first bar.

    An exponential average counts 20 windows beside its look-back, Wilder's (rsi, atr, adx) 30.
    """
    steps: tuple[Step, ...] = field(repr=False)
    results: tuple[int, int | None, int | None] = field(repr=False)
    """Places of the steps whose values entry, exit and rank are."""
    levels: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    """Names and places of further numbers: what the rules of a strategy's limits say."""
    conditions: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    """Names and places of further conditions: short and cover."""
    others: dict[str, int | None] = field(default_factory=dict, repr=False)
    """Other symbols that it looks at, and how many of their latest bars give the last bar's values; None = all."""
    timezone: str = "UTC"
    """Where its days and times of the day are."""


def parse_rule(text: str, kind: Kind) -> Rule:
    """Check one rule: a ``condition`` for entry and exit, a ``score`` for rank.

    Raises RuleError for any text that is none, and nothing else.
    """
    steps = Steps()
    place = parse(text, kind, steps)
    return Rule(text, kind, steps[place].look_back)


def compile_program(
    entry: str,
    exit: str | None = None,
    rank: str | None = None,
    levels: Mapping[str, str] = MappingProxyType({}),
    timezone: str = "UTC",
    conditions: Mapping[str, str] = MappingProxyType({}),
    trees: Trees | None = None,
) -> Program:
    """Parse a strategy's rules into one program; ``levels`` are further numbers by name, ``conditions`` conditions.

    ``trees`` make it quick where many are alike.

    Raises RuleError for the first rule that is none; its ``text`` tells which.
    """
    steps = Steps()
    read = parse if trees is None else trees.parse
    entry_place = read(entry, "condition", steps)
    exit_place = None if exit is None else read(exit, "condition", steps)
    rank_place = None if rank is None else read(rank, "score", steps)
    level_places = tuple((name, read(text, "score", steps)) for name, text in levels.items())
    condition_places = tuple((name, read(text, "condition", steps)) for name, text in conditions.items())
    results = (entry_place, exit_place, rank_place)
    further = (*level_places, *condition_places)
    last = [steps[place] for place in (*results, *(place for _, place in further)) if place is not None]
    histories = [step.history for step in last]
    tail_bars = None if None in histories else 1 + max(each for each in histories if each is not None)
    return Program(
        entry=Rule(entry, "condition", steps[entry_place].look_back),
        exit=None if exit is None or exit_place is None else Rule(exit, "condition", steps[exit_place].look_back),
        rank=None if rank is None or rank_place is None else Rule(rank, "score", steps[rank_place].look_back),
        look_back=max(step.look_back for step in last),
        tail_bars=tail_bars,
        steps=steps.freeze(),
        results=results,
        levels=level_places,
        conditions=condition_places,
        others=_others(steps, tail_bars),
        timezone=timezone,
    )


def _others(steps: Steps, tail_bars: int | None) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for step in steps.freeze():
        if step.operation != "of":
            continue
        inner = steps[step.inputs[0]]
        if inner.symbol is not None:
            # Twice as many: its market may trade on more days.
            wanted = None if inner.history is None or tail_bars is None else 1 + inner.history + 2 * tail_bars
            before = found.get(inner.symbol, 0)
            found[inner.symbol] = None if wanted is None or before is None else max(before, wanted)
    return found
