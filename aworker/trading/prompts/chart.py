"""A chart parser with weights: of all ways to read a span as a symbol, the cheapest ones.

Symbols in capitals and signs are kinds of edges, others have productions, which stand in ``grammar.txt``. A production
must not begin with its own symbol. Time is bounded by tokens x productions x spans, since each symbol is read once at
each place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from aworker.trading.prompts.lattice import Lattice
from aworker.trading.prompts.phrases import MEANINGS

READINGS_KEPT = 3
MOST_STEPS = 20_000
_PART = re.compile(r"(?:(?P<name>[a-z]\w*):(?=\S))?(?P<symbol>[^?=\s]+|=)(?:=(?P<value>[^?\s]+))?(?P<optional>\?)?$")


class TooHard(Exception):
    """A prompt needs more steps than it may have."""


class Part(NamedTuple):
    """One symbol of a production."""

    symbol: str
    name: str | None
    """What the action calls it."""
    value: str | None
    """The only meaning that fits, for kinds of edges."""
    is_optional: bool


class Production(NamedTuple):
    """One way to read a symbol; the action takes the named parts' values, and gives None where they do not fit."""

    parts: tuple[Part, ...]
    action: Callable[[Mapping[str, Any]], Any]
    cost: float
    first: frozenset[str]
    """The kinds of edges that it can begin with."""


class Reading(NamedTuple):
    """A value of a span, and what it costs to read it so."""

    cost: float
    value: Any


Grammar = dict[str, list[Production]]


@cache
def grammar() -> Grammar:
    """Read the grammar that ships beside this module."""
    written: dict[str, list[tuple[tuple[Part, ...], Callable[[Mapping[str, Any]], Any], float]]] = {}
    symbol = ""
    for line in files(__package__).joinpath("grammar.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("[") and text.endswith("]"):
            symbol = text[1:-1]
            written[symbol] = []
        elif text:
            left, _, right = text.partition("->") if "->" in text else (text, "", "None")
            action, _, cost = right.partition("~")
            parts = tuple(map(_part, left.split()))
            written[symbol].append((parts, _action(ast.parse(action.strip(), mode="eval").body), float(cost or 0)))
    firsts = _firsts({name: [parts for parts, _, _ in many] for name, many in written.items()})
    return {
        name: [Production(parts, action, cost, _first(parts, firsts)) for parts, action, cost in many]
        for name, many in written.items()
    }


def _part(text: str) -> Part:
    found = _PART.match(text)
    assert found is not None, text
    value = found["value"]
    value = value.replace("\\n", "\n") if value is not None else None
    return Part(found["symbol"], found["name"], value, found["optional"] is not None)


def _action(node: ast.AST) -> Callable[[Mapping[str, Any]], Any]:
    """Make a function of an action as it is written: names of parts, constants, tuples and meanings."""
    if isinstance(node, ast.Constant):
        constant = node.value
        return lambda values: constant
    if isinstance(node, ast.Name):
        name = node.id
        return lambda values: values[name]
    if isinstance(node, ast.Tuple):
        many = [_action(each) for each in node.elts]
        return lambda values: tuple(each(values) for each in many)
    assert isinstance(node, ast.Call), ast.dump(node)
    assert isinstance(node.func, ast.Name), ast.dump(node)
    kind, arguments = node.func.id, [_action(each) for each in node.args]
    is_needed = [isinstance(each, ast.Call) for each in node.args]
    make: Callable[..., Any] = MEANINGS.get(kind) or (lambda *parts: (kind, *parts))

    def made(values: Mapping[str, Any]) -> Any:
        given = [each(values) for each in arguments]
        if any(value is None and needed for value, needed in zip(given, is_needed, strict=True)):
            return None
        return make(*given)

    return made


def _firsts(written: Mapping[str, list[tuple[Part, ...]]]) -> dict[str, frozenset[str]]:
    firsts: dict[str, frozenset[str]] = {name: frozenset() for name in written}
    while True:
        more = {name: frozenset().union(*(_first(parts, firsts) for parts in many)) for name, many in written.items()}
        if more == firsts:
            return firsts
        firsts = more


def _first(parts: tuple[Part, ...], firsts: Mapping[str, frozenset[str]]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for part in parts:
        found |= firsts.get(part.symbol, frozenset([part.symbol]))
        if not part.is_optional:
            break
    return found


class Chart:
    """The readings of one lattice under the grammar."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._grammar = grammar()
        self._known: dict[tuple[str, str | None, int], dict[int, list[Reading]]] = {}
        self._kinds = [
            frozenset(edge.kind for at, _ in lattice.reach(start) for edge in lattice.edges[at])
            for start in range(len(lattice.tokens) + 1)
        ]
        self.steps = 0

    def read(self, symbol: str, start: int, value: str | None = None) -> dict[int, list[Reading]]:
        """Return the readings of a symbol from a place on, by where they end, the cheapest first. Raises TooHard."""
        key = symbol, value, start
        if key not in self._known:
            self._known[key] = {}  # a symbol inside itself at the same place reads nothing
            productions = self._grammar.get(symbol)
            self._known[key] = (
                self._terminal(symbol, start, value) if productions is None else self._productions(productions, start)
            )
        return self._known[key]

    def _terminal(self, kind: str, start: int, value: str | None) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        if kind in self._kinds[start]:
            for place, cost in self.lattice.reach(start):
                for edge in self.lattice.edges[place]:
                    if edge.kind == kind and value in (None, edge.value):
                        _keep(found.setdefault(edge.end, []), Reading(cost + edge.cost, edge.value))
        return found

    def _productions(self, productions: list[Production], start: int) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        kinds = self._kinds[start]
        for each in productions:
            if each.first.isdisjoint(kinds):
                continue
            states: list[tuple[int, float, dict[str, Any]]] = [(start, each.cost, {})]
            for part in each.parts:
                later: list[tuple[int, float, dict[str, Any]]] = []
                for at, cost, values in states:
                    if part.is_optional:
                        later.append((at, cost, values if part.name is None else {**values, part.name: None}))
                    for end, readings in self.read(part.symbol, at, part.value).items():
                        if part.name is None:
                            later.append((end, cost + readings[0].cost, values))
                        else:
                            later += [(end, cost + one.cost, {**values, part.name: one.value}) for one in readings]
                self.steps += len(later)
                if self.steps > MOST_STEPS:
                    raise TooHard
                states = later
                if not states:
                    break
            for end, cost, values in states:
                value = each.action(values)
                if value is not None:
                    _keep(found.setdefault(end, []), Reading(cost, value))
        return found


def _keep(readings: list[Reading], new: Reading) -> None:
    for place, known in enumerate(readings):
        if known.value == new.value:
            if new.cost < known.cost:
                readings[place] = new
                readings.sort(key=lambda each: each.cost)
            return
    readings.append(new)
    readings.sort(key=lambda each: each.cost)
    del readings[READINGS_KEPT:]
