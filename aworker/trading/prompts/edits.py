"""Changes of a strategy in words: the same grammar as for new ones, and what only a strategy that exists can be told.

Invariant: what is not spoken of stays; a change that finds nothing to change, or several things, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from aworker.trading.prompts import clauses
from aworker.trading.prompts.conditions import written
from aworker.trading.prompts.lattice import Number
from aworker.trading.prompts.phrases import whole
from aworker.trading.prompts.rewriting import (
    AVERAGES,
    Comparison,
    comparisons,
    crossings,
    replaced,
    speaks_of,
    windows_of,
    with_function,
    with_number,
    with_window,
    without,
)
from aworker.trading.prompts.series import NotRead, indicators, plain
from aworker.trading.prompts.titles import named
from aworker.trading.strategies.strategy import Risk, Rules

_NEW = re.compile(
    r"(?i)\s*(?:please\s+)?(?:create|build|make me|write|set up|design|i want) (?:me )?an?\b"
    r".*\b(?:strategy|system|bot)\b"
)
_BESIDE = re.compile(r"(?i)\s*(?:and|or)\s+(?:sell|exit|buy|enter|close|get out)\b")
_FUNCTIONS = {
    "macd": ("macd", "macd_signal", "macd_histogram"),
    "band": ("bollinger_lower", "bollinger_middle", "bollinger_upper"),
    "stochastic_k": ("stochastic", "stochastic_k", "stochastic_d"),
}
_RULES = ("entry", "exit", "rank")


class Edited(NamedTuple):
    """What a change made."""

    rules: Rules
    name: str | None
    assumptions: tuple[str, ...]
    is_mended: bool = False


def asks_for_new(prompt: str) -> bool:
    """Say whether a prompt asks for a strategy of its own in the place of the one that is there."""
    return _NEW.match(prompt) is not None


def read(prompt: str, current: Rules) -> Edited:
    """Read a prompt as a change of a strategy's rules. Raises NotRead."""
    if clauses.is_question(prompt):
        raise NotRead("it is a question; say what is to be changed", is_trap=True)
    if _BESIDE.match(prompt):
        raise NotRead("is that beside what the strategy has, or in its place? say also, or instead")
    name, text = named(prompt)
    text = re.sub(r"(?i)[\s,.;]*\band\s*$", "", text) if name else text
    if not text.strip(" ,.;\n"):
        return Edited(current, name, ())
    lattice = clauses.lattice_of(re.sub(r"(?i)^\s*(?:and|also|then|but|please|now)\s+(?=do|only|don|never)", "", text))
    made: list[tuple[float, Rules, Editor]] = []
    reason: NotRead | None = None
    readings = clauses.readings_of(lattice, "edit")
    for cost, parts in readings:
        editor = Editor(current)
        try:
            for part in clauses.flattened(parts):
                editor.change(part)
            made.append((cost, editor.edited(), editor))
        except NotRead as error:
            reason = reason or error
    if reason is not None and (not made or made[0][0] > readings[0][0] + clauses.CLOSE_CALL):
        raise reason
    cheapest = [each for each in made if each[0] <= made[0][0] + clauses.CLOSE_CALL]
    if any(each[1] != cheapest[0][1] for each in cheapest):
        raise NotRead("it can be read as two changes; say which field becomes what", is_trap=True)
    editor = cheapest[0][2]
    slips = tuple(f"{written_as}: {meant}" for written_as, meant in lattice.slips)
    passed = clauses.passed_over(lattice)
    return Edited(cheapest[0][1], name, (*editor.made.scope.assumptions, *slips, *passed), bool(slips))


@dataclass
class Editor:
    """Applies one clause after the other to a strategy's rules."""

    current: Rules
    made: clauses.Strategy = field(default_factory=clauses.Strategy)
    done: set[str] = field(default_factory=set)
    """Rules that this prompt set anew."""

    def __post_init__(self) -> None:
        self.made.scope.timeframe = self.current.timeframe
        self._seed("entry")

    def edited(self) -> Rules:
        """Return the rules with the changes, unchecked."""
        return self.current

    def change(self, clause: tuple[Any, ...]) -> None:
        """Apply a clause. Raises NotRead where it is not clear what it changes."""
        kind, is_also, is_instead = clause[0], False, False
        while kind in ("also", "instead"):
            is_also, is_instead = is_also or kind == "also", is_instead or kind == "instead"
            clause = clause[1]
            kind = clause[0]
        change: Callable[..., None] | None = _CHANGES.get(kind)
        if kind in ("entry", "bare", "bought", "dip"):
            self._rule("entry", clause[2] if kind == "bought" else clause[1], is_also)
            if kind == "bought":
                self.put("symbols", tuple(clause[1]))
        elif kind in ("exit", "sold"):
            condition, limits = (clause[2] if kind == "sold" else clause)[1:]
            if condition is not None:
                self._rule("exit", condition, is_also)
            for each in limits:
                self.limit(each, is_instead)
        elif kind in ("filter", "only", "required"):
            self._filter(clause[1])
        elif kind in ("limit", "hold", "odd"):
            self.limit(clause, is_instead)
        elif change is not None:
            change(self, *clause[1:])
        elif kind in ("template", "crossover", "about", "forever", "pairs"):
            raise NotRead("a strategy of that name is another one; say create a ... strategy, or what changes")

    def put(self, name: str, value: Any) -> None:
        """Set a field of the rules."""
        self.current = msgspec.structs.replace(self.current, **{name: value})

    def rules_with(self, change: Callable[[str], str]) -> None:
        """Change each rule that is there."""
        for name in _RULES:
            rule: str | None = getattr(self.current, name)
            if rule is not None:
                self.put(name, change(rule))

    def limit(self, limit: tuple[Any, ...], is_instead: bool = False) -> None:
        """Set a limit."""
        own = clauses.Strategy(self.made.scope)
        own.limit(limit)
        ((name, value),) = own.risk.items()
        if is_instead and getattr(self.current.risk, name) is None:
            raise NotRead(f"instead of what? the strategy has no {name}; say what to remove")
        if name in self.done and getattr(self.current.risk, name) != value:
            raise NotRead(f"it gives {name} twice")
        self.done.add(name)
        self.risk(name, value)

    def risk(self, name: str, value: Any) -> None:
        """Set a field of the limits."""
        self.put("risk", Risk(**{**msgspec.structs.asdict(self.current.risk), name: value}))

    def _seed(self, name: str) -> None:
        """Let "it" and "below 25" speak of what the rule that is there speaks of."""
        scope, rule = self.made.scope, getattr(self.current, name) or self.current.entry
        scope.is_exit = name == "exit"
        scope.subjects = {("raw", each.subject, each.function) for each in comparisons(rule)}
        scope.subject = next(iter(scope.subjects)) if len(scope.subjects) == 1 else None
        crossed = crossings(self.current.entry)
        if len(crossed) == 1:
            left, right, direction = crossed[0]
            scope.crossing, scope.crossings = (("raw", left, ""), ("raw", right, ""), direction), 1
        for indicator in indicators():
            found = {each for rule in _RULES for each in windows_of_indicator(getattr(self.current, rule), indicator)}
            scope.windows[indicator] = dict.fromkeys((float(each), "bar") for each in sorted(found))
            if not found:
                del scope.windows[indicator]

    def _rule(self, name: str, condition: Any, is_also: bool) -> None:
        if name not in self.done:
            self._seed(name)
        self.made.scope.is_named = False
        before: str | None = getattr(self.current, name)
        if condition[0] == "compare" and condition[1] is None and isinstance(condition[3], Number) and before:
            self._threshold([name], None, condition[2], condition[3])
            return
        text = written(self.made.scope, condition)
        is_more = is_also or name in self.done
        self.put(name, joined(before, text, "or") if is_more and before else text)
        self.done.add(name)

    def _filter(self, condition: Any) -> None:
        self._seed("entry")
        text = written(self.made.scope, condition)
        for new in comparisons(text):
            for each in comparisons(self.current.entry):
                if new.subject == each.subject and new.sign[0] == each.sign[0] and f"not ({new.text})" not in text:
                    raise NotRead(f"{each.text} is there already; to change it say buy when ... instead")
        _check_together(self.current.entry, text)
        self.put("entry", joined(self.current.entry, text, "and"))

    def _threshold(self, names: list[str], functions: frozenset[str] | None, sign: str, number: Number) -> None:
        found: list[tuple[str, Comparison]] = [
            (name, each)
            for name in names
            for each in comparisons(getattr(self.current, name))
            if (functions is None or each.function in functions) and (not sign or each.sign[0] == sign[0])
        ]
        if len(found) != 1:
            which = ", ".join(each.text for _, each in found) or "none"
            raise NotRead(f"the conditions with such a number are: {which}; say which, as in buy when RSI below 25")
        name, old = found[0]
        value = -number.value if number.sign == "-" else number.value
        self.put(
            name, replaced(getattr(self.current, name), old.text, f"{old.subject} {sign or old.sign} {plain(value)}")
        )


def windows_of_indicator(rule: str | None, indicator: str) -> set[int]:
    """Return the windows of an indicator of the lexicon in a rule, where it is one function."""
    return (
        windows_of(rule, frozenset([indicator]))
        if indicator in ("rsi", "adx", "atr", "cci", "roc", "stochastic_k")
        else set()
    )


def joined(first: str, second: str, word: str) -> str:
    """Join two rules, with brackets where they are needed."""
    other = "or" if word == "and" else "and"
    sides = [f"({each})" if f" {other} " in each and word == "and" else each for each in (first, second)]
    return f" {word} ".join(sides)


def _check_together(first: str, second: str) -> None:
    for new in comparisons(second):
        for each in comparisons(first):
            crossed = (new.sign[0], each.sign[0]) in ((">", "<"), ("<", ">"))
            low, high = (new, each) if new.sign[0] == ">" else (each, new)
            if new.subject == each.subject and crossed and low.number >= high.number and "not" not in second:
                raise NotRead(f"{new.text} and {each.text} never hold on one bar")


_CHANGES: dict[str, Callable[..., None]] = {}


def _changes(change: Callable[..., None]) -> Callable[..., None]:
    _CHANGES[change.__name__.strip("_")] = change
    return change


@_changes
def _refused(editor: Editor, reason: str) -> None:
    raise NotRead(reason)


@_changes
def _nothing(editor: Editor) -> None:
    editor.put("symbols", None)


@_changes
def _symbols(editor: Editor, symbols: tuple[str, ...]) -> None:
    editor.put("symbols", tuple(dict.fromkeys(symbols)))


@_changes
def _timeframe(editor: Editor, timeframe: str) -> None:
    editor.put("timeframe", timeframe)
    editor.made.scope.timeframe = timeframe


@_changes
def _rank(editor: Editor, order: str | None, series: Any) -> None:
    text = editor.made.scope.text(series)
    editor.put("rank", f"-{text}" if order == "lowest" else text)


@_changes
def _swap_limit(editor: Editor, name: str, old: Number, new: Number) -> None:
    if getattr(editor.current.risk, name) != old.value / 100:
        raise NotRead(f"{name} does not stand at that")
    editor.limit(("limit", name, new.value / 100))


@_changes
def _relative(editor: Editor, name: str, step: Number, direction: str) -> None:
    before = _fraction(editor, name)
    after = round(before + step.value / 100 * (1 if direction == "more" else -1), 10)
    if not step.is_percent or after <= 0:
        raise NotRead(f"{name} is {before:.4g} and cannot become {after:.4g}; say what it is to be")
    editor.made.scope.assume(f"{name}: {before * 100:g}% becomes {after * 100:g}%")
    editor.risk(name, after)


@_changes
def _scaled_limit(editor: Editor, name: str, factor: float) -> None:
    editor.risk(name, round(_fraction(editor, name) * factor, 10))


def _fraction(editor: Editor, name: str) -> float:
    before = getattr(editor.current.risk, name)
    if before is None:
        raise NotRead(f"the strategy has no {name}")
    if isinstance(before, str):
        raise NotRead(f"{name} is {before}, no percentage; write the field, as in {name}: 5%")
    return float(before)


@_changes
def _relative_hold(editor: Editor, span: Any, direction: str) -> None:
    before = editor.current.risk.max_bars
    after = (before or 0) + editor.made.scope.bars(span) * (1 if direction == "more" else -1)
    if before is None or after < 1:
        raise NotRead(f"max_bars is {before} and cannot become {after}; say how long to hold")
    editor.risk("max_bars", after)


@_changes
def _removed(editor: Editor, many: tuple[tuple[Any, ...], ...]) -> None:
    tickers = tuple(each[1] for each in many if each[0] == "ticker")
    if tickers:
        _removed_symbols(editor, tickers)
    for each in many:
        if each[0] == "field":
            _remove_field(editor, each[1])
        elif each[0] == "part":
            _remove_part(editor, each[1], each[2])


def _remove_field(editor: Editor, name: str) -> None:
    is_limit = name in Risk.__struct_fields__
    if getattr(editor.current.risk if is_limit else editor.current, name) is None:
        raise NotRead(f"the strategy has no {name}")
    if is_limit:
        editor.risk(name, None)
    else:
        editor.put(name, None)


def _remove_part(editor: Editor, name: str, window: Number | None) -> None:
    is_named = speaks_of(functions_of(name), None if window is None else int(window.value))
    count = 0
    for rule_name in ("entry", "exit"):
        rule: str | None = getattr(editor.current, rule_name)
        if rule is not None:
            kept, found = without(rule, is_named)
            count += found
            if rule_name == "entry" and kept is None:
                raise NotRead("that is the only condition to buy; say what takes its place")
            editor.put(rule_name, kept)
    if not count:
        raise NotRead("the strategy has no such condition")


@_changes
def _removed_symbols(editor: Editor, symbols: tuple[str, ...]) -> None:
    here = editor.current.symbols or ()
    left = tuple(each for each in here if each not in symbols)
    if not set(symbols) <= set(here) or not left:
        raise NotRead(f"the strategy's symbols are {', '.join(here) or 'all there are'}; say which are left")
    editor.put("symbols", left)


@_changes
def _added_symbols(editor: Editor, symbols: tuple[str, ...]) -> None:
    if editor.current.symbols is None:
        raise NotRead("the strategy trades every symbol already")
    editor.put("symbols", tuple(dict.fromkeys((*editor.current.symbols, *symbols))))


@_changes
def _swapped_symbol(editor: Editor, old: str, new: str) -> None:
    here = editor.current.symbols or ()
    if old not in here:
        raise NotRead(f"the strategy's symbols are {', '.join(here) or 'all there are'}")
    editor.put("symbols", tuple(dict.fromkeys(new if each == old else each for each in here)))


@_changes
def _window(editor: Editor, name: str, before: Number | None, number: Number) -> None:
    """Change "RSI to 21", which can only be its period; 25 or 80 may be a level to buy or sell at. Levels are round."""
    levels = [
        each.number
        for rule in (editor.current.entry, editor.current.exit)
        for each in comparisons(rule)
        if each.function in functions_of(name)
    ]
    value = number.value
    if before is None and levels and (value % 5 == 0 or value > 25 or any(level % 5 for level in levels)):
        raise NotRead(
            f"its period or its level? say period {plain(value)}, or buy below {plain(value)}, "
            f"or sell above {plain(value)}"
        )
    set_window(editor, functions_of(name), before, number)


@_changes
def _window_of(editor: Editor, name: str, number: Number) -> None:
    set_window(editor, functions_of(name), None, number)


@_changes
def _average_window(editor: Editor, function: str, number: Number) -> None:
    set_window(editor, _averages(editor, function), None, number)


@_changes
def _average_from(editor: Editor, function: str | None, before: Number, number: Number) -> None:
    set_window(editor, _averages(editor, function), before, number)


@_changes
def _average_to(editor: Editor, function: str, before: Number, other: str, number: Number) -> None:
    functions = _averages(editor, function)
    set_window(editor, functions, before, number)
    if other not in functions:
        editor.rules_with(lambda rule: with_function(rule, functions, other, int(number.value))[0])


@_changes
def _macd_window(editor: Editor, parameter: str, number: Number) -> None:
    set_window(editor, functions_of("macd"), None, number, parameter)


@_changes
def _threshold(editor: Editor, state: str, number: Number) -> None:
    names, sign = (["entry"], "<") if state == "oversold" else (["exit"], ">")
    editor._threshold(names, None, sign, number)


@_changes
def _any_threshold(editor: Editor, name: str | None, number: Number) -> None:
    editor._threshold(["entry", "exit"], None if name is None else functions_of(name), "", number)


@_changes
def _swapped_number(editor: Editor, old: Number, new: Number) -> None:
    risk = [name for name in Risk.__struct_fields__ if getattr(editor.current.risk, name) == old.value / 100]
    if old.is_percent:
        if len(risk) != 1:
            raise NotRead(f"what stands at {plain(old.value)}% is not clear; say the stop or the target")
        editor.limit(("limit", risk[0], new.value / 100))
        return
    kinds = {
        kind
        for name in _RULES
        if (rule := getattr(editor.current, name))
        for kind in with_number(rule, old.value, 0)[1]
    }
    if len(kinds) != 1:
        what = "several kinds of number are" if kinds else "no number is"
        raise NotRead(f"{what} {plain(old.value)} in the rules; say which becomes {plain(new.value)}")
    if kinds == {"window"} and whole(new) is None:
        raise NotRead("a number of bars must be a whole number from 1 to 1000")
    editor.rules_with(lambda rule: with_number(rule, old.value, new.value)[0])


@_changes
def _swapped_function(editor: Editor, old: str | None, new: str) -> None:
    functions = AVERAGES - {new} if old is None else frozenset([old])
    if not any(windows_of(getattr(editor.current, name), functions) for name in _RULES):
        raise NotRead(f"the strategy has no {' or '.join(sorted(functions))}")
    editor.rules_with(lambda rule: with_function(rule, functions, new)[0])


def functions_of(name: str) -> frozenset[str]:
    """Return the functions of the rule language that a name of the lexicon stands for."""
    return frozenset(_FUNCTIONS.get(name, (name,)))


def _averages(editor: Editor, function: str | None) -> frozenset[str]:
    """Return the averages that are meant: "the 50 day" may be of any kind, and so may "moving average"."""
    named_one = frozenset([function or "sma"])
    here = any(windows_of(getattr(editor.current, name), named_one) for name in _RULES)
    return named_one if here or function not in (None, "sma") else AVERAGES


def set_window(
    editor: Editor, functions: frozenset[str], before: Number | None, number: Number, parameter: str | None = None
) -> None:
    """Give these functions another window. Raises NotRead where none has one, or several have different ones."""
    if whole(number) is None:
        raise NotRead(f"{plain(number.value)} is no number of bars")
    found = {each for name in _RULES for each in windows_of(getattr(editor.current, name), functions, parameter)}
    windows = found & {int(before.value)} if before is not None else found
    if not windows:
        raise NotRead(f"the strategy has no {' or '.join(sorted(functions))} to change")
    if len(windows) > 1:
        raise NotRead(f"which one: {', '.join(map(str, sorted(windows)))}? say from which to which")
    (old,) = windows
    editor.rules_with(lambda rule: with_window(rule, functions, old, int(number.value), parameter))
    editor._seed("entry")
