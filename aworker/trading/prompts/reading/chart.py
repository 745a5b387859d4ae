"""A chart parser with weights: of all ways to read a span as a symbol, the cheapest ones.

Symbols in capitals and signs are kinds of edges, others have productions. Productions must not begin with their own
symbol. Time is bounded by tokens x productions x spans, since each symbol is read once at each place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from aworker.trading.prompts.reading.lattice import Lattice

READINGS_KEPT = 3
MOST_STEPS = 400_000


class TooHard(Exception):
    """A prompt needs more steps than it may have."""


class Production(NamedTuple):
    """One way to read a symbol; the action takes the parts' values, and gives None where they do not fit."""

    parts: tuple[tuple[str, bool], ...]
    """Symbol, and whether it may be left out."""
    action: Callable[..., Any]
    cost: float


class Reading(NamedTuple):
    """A value of a span, and what it costs to read it so."""

    cost: float
    value: Any


Grammar = dict[str, list[Production]]


def production(parts: str, action: Callable[..., Any], cost: float = 0.0) -> Production:
    """Write a production: symbols with spaces between them, those with ``?`` behind may be left out."""
    return Production(tuple((part.removesuffix("?"), part.endswith("?")) for part in parts.split()), action, cost)


class Chart:
    """The readings of one lattice under one grammar."""

    def __init__(self, lattice: Lattice, grammar: Grammar) -> None:
        self.lattice = lattice
        self._grammar = grammar
        self._known: dict[tuple[str, int], dict[int, list[Reading]]] = {}
        self.steps = 0

    def read(self, symbol: str, start: int) -> dict[int, list[Reading]]:
        """Return the readings of a symbol from a place on, by where they end, the cheapest first. Raises TooHard."""
        key = symbol, start
        if key not in self._known:
            self._known[key] = {}  # a symbol inside itself at the same place reads nothing
            productions = self._grammar.get(symbol)
            found = self._terminal(symbol, start) if productions is None else self._productions(productions, start)
            self._known[key] = found
        return self._known[key]

    def _terminal(self, kind: str, start: int) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        for place, cost in self.lattice.reach(start):
            for edge in self.lattice.edges[place]:
                if edge.kind == kind:
                    _keep(found.setdefault(edge.end, []), Reading(cost, edge.value))
        return found

    def _productions(self, productions: list[Production], start: int) -> dict[int, list[Reading]]:
        found: dict[int, list[Reading]] = {}
        for each in productions:
            states: list[tuple[int, float, tuple[Any, ...]]] = [(start, each.cost, ())]
            for symbol, is_optional in each.parts:
                later: list[tuple[int, float, tuple[Any, ...]]] = []
                for at, cost, values in states:
                    if is_optional:
                        later.append((at, cost, (*values, None)))
                    for end, readings in self.read(symbol, at).items():
                        later += [(end, cost + reading.cost, (*values, reading.value)) for reading in readings]
                self.steps += len(later)
                if self.steps > MOST_STEPS:
                    raise TooHard
                states = later
                if not states:
                    break
            for end, cost, values in states:
                value = each.action(*values)
                if value is not None and value is not False:
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
