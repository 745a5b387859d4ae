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

from aworker.trading.prompts.lattice import Edge, Lattice
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


Action = Callable[[Mapping[str, Any]], Any]
"""Takes the named parts' values, and gives None where they do not fit."""


class Step:
    """A place in a symbol's productions, which share their beginnings: the parts that go on, and what ends here."""

    __slots__ = ("ends", "parts")

    def __init__(self) -> None:
        self.parts: dict[Part, tuple[frozenset[str], Step]] = {}
        """By part: the kinds of edges that it can begin with, and where it leads."""
        self.ends: list[tuple[Action, float]] = []


class Reading(NamedTuple):
    """A value of a span, and what it costs to read it so."""

    cost: float
    value: Any


Grammar = dict[str, Step]


@cache
def grammar() -> Grammar:
    """Read the grammar that ships beside this module."""
    written: dict[str, list[tuple[tuple[Part, ...], Action, float]]] = {}
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
    made: Grammar = {}
    for name, many in written.items():
        made[name] = Step()
        for parts, end, price in many:
            at = made[name]
            for part in parts:
                at = at.parts.setdefault(part, (firsts.get(part.symbol, frozenset([part.symbol])), Step()))[1]
            at.ends.append((end, price))
    return made


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


State = tuple[int, float, dict[str, Any]]
"""Where a production has come to, at what cost, and its parts' values so far."""


class Chart:
    """The readings of one lattice under the grammar."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._grammar = grammar()
        self._known: dict[tuple[str, str | None, int], dict[int, list[Reading]]] = {}
        self._edges = [self._within_reach(start) for start in range(len(lattice.tokens) + 1)]
        self._kinds = [frozenset(edges) for edges in self._edges]
        self.steps = 0

    def read(self, symbol: str, start: int, value: str | None = None) -> dict[int, list[Reading]]:
        """Return the readings of a symbol from a place on, by where they end, the cheapest first. Raises TooHard."""
        key = symbol, value, start
        known = self._known.get(key)
        if known is None:
            self._known[key] = {}  # a symbol inside itself at the same place reads nothing
            step = self._grammar.get(symbol)
            if step is None:
                known = self._terminal(symbol, start, value)
            else:
                known = {}
                self._go_on(step, [(start, 0.0, {})], known)
            self._known[key] = known
        return known

    def _within_reach(self, start: int) -> dict[str, list[tuple[float, Edge]]]:
        found: dict[str, list[tuple[float, Edge]]] = {}
        for place, cost in self.lattice.reach(start):
            for edge in self.lattice.edges[place]:
                found.setdefault(edge.kind, []).append((cost + edge.cost, edge))
        return found

    def _terminal(self, kind: str, start: int, value: str | None) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        for cost, edge in self._edges[start].get(kind, ()):
            if value in (None, edge.value):
                _keep(found.setdefault(edge.end, []), Reading(cost, edge.value))
        return found

    def _go_on(self, step: Step, states: list[State], found: dict[int, list[Reading]]) -> None:
        for action, more in step.ends:
            for end, cost, values in states:
                value = action(values)
                if value is not None:
                    _keep(found.setdefault(end, []), Reading(cost + more, value))
        for part, (first, further) in step.parts.items():
            name = part.name
            later: list[State] = []
            for at, cost, values in states:
                if part.is_optional:
                    later.append((at, cost, values if name is None else {**values, name: None}))
                if first.isdisjoint(self._kinds[at]):
                    continue
                for end, readings in self.read(part.symbol, at, part.value).items():
                    if name is None:
                        later.append((end, cost + readings[0].cost, values))
                    else:
                        later += [(end, cost + one.cost, {**values, name: one.value}) for one in readings]
            if later:
                self.steps += len(later)
                if self.steps > MOST_STEPS:
                    raise TooHard
                self._go_on(further, later, found)


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
