"""The flat program that rules are made into: a list of steps, each the operation on earlier steps.

Invariant: two steps are never alike, and a step's inputs stand before it. So a part that entry, exit and rank have in
common is there once, and nothing that walks the list recurses.

Why a list and not a tree: `macd_histogram(macd_histogram(...))` names its operand four times a level, which as a tree
is walked 4 ** depth times.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One operation. Its value is one number or one condition a bar, or a single one where it is constant."""

    operation: str
    inputs: tuple[int, ...]
    """Places of the steps it works on."""
    parameters: tuple[float, ...]
    """A constant's value; an indicator's window in bars."""
    is_condition: bool
    look_back: int
    """Bars before the first defined value."""
    history: int | None
    """Earlier bars that a value depends on by more than about 1e-9; None = all of them."""
    cost: int
    """Multiples of what an ordinary step takes."""
    symbol: str | None = None
    """Whose bars it stands on; None = the symbol that is traded, or none at all."""

    @property
    def is_constant(self) -> bool:
        """Whether it is a plain number."""
        return self.operation == "constant"


class Steps:
    """Steps in the making."""

    def __init__(self) -> None:
        self.symbol: str | None = None
        """Whose bars are meant by what is added."""
        self._places: dict[tuple[str, tuple[int, ...], tuple[float, ...], str | None], int] = {}
        self._steps: list[Step] = []
        self.cost = 0

    def __getitem__(self, place: int) -> Step:
        return self._steps[place]

    def freeze(self) -> tuple[Step, ...]:
        """Return all steps in order."""
        return tuple(self._steps)

    def constant(self, value: float) -> int:
        """Return the place of a number."""
        return self.add("constant", parameters=(value,))

    def bars(self, name: str) -> int:
        """Return the place of open, high, low, close or volume."""
        return self.add(name)

    def add(
        self,
        operation: str,
        *inputs: int,
        parameters: tuple[float, ...] = (),
        is_condition: bool = False,
        look_back: int = 0,
        settle: int | None = 0,
        cost: int = 1,
    ) -> int:
        """Return the place of the step, which is made only if there is none like it.

        ``look_back`` and ``settle`` are what the operation adds to its inputs': the bars until it is defined and
        those until a recursion has forgotten where it started (None = it never does).
        """
        # Whose bars a step stands on, its inputs say.
        symbol = None if inputs or operation == "constant" else self.symbol
        key = (operation, inputs, parameters, symbol)
        place = self._places.get(key)
        if place is not None:
            return place
        longest, history = 0, settle if settle is None else 0
        for each in inputs:
            before = self._steps[each]
            longest = max(longest, before.look_back)
            symbol = before.symbol if symbol is None else symbol
            history = None if history is None or before.history is None else max(history, before.history)
        if history is not None and settle is not None:
            history += look_back + settle
        step = Step(operation, inputs, parameters, is_condition, longest + look_back, history, cost, symbol)
        return self._put(key, step)

    def taken_over(self, place: int) -> int:
        """Return the place of another symbol's value as the traded symbol sees it."""
        step = self._steps[place]
        key = ("of", (place,), (), None)
        known = self._places.get(key)
        if known is not None:
            return known
        # The other symbol may have bars from long before, so it needs none of the traded symbol's.
        return self._put(key, Step("of", (place,), (), step.is_condition, 0, 0, 1))

    def _put(self, key: tuple[str, tuple[int, ...], tuple[float, ...], str | None], step: Step) -> int:
        place = self._places[key] = len(self._steps)
        self._steps.append(step)
        self.cost += step.cost
        return place
