"""What rules mean: the bars of the bundled data at which they signal, whatever words they are written in."""

from __future__ import annotations

from functools import cache

import numpy as np

from aworker.trading.bars import BarStore
from aworker.trading.bars.store import Bars
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.strategies.strategy import Rules, rules_from_source


@cache
def _bars() -> list[Bars]:
    store = BarStore()
    return [store.load(symbol, "1d") for symbol in store.symbols("1d")]


@cache
def signals(rule: str) -> bytes:
    """Return at which of the bundled daily bars of all symbols a condition signals."""
    program = compile_program(rule)
    return b"".join(np.packbits(evaluate(program, bars).entry).tobytes() for bars in _bars())


def assert_means(rules: Rules, source: str) -> None:
    """Fail unless rules signal at the same bars as others, and are the same in all other fields."""
    wanted = rules_from_source(source.replace(" | ", "\n"))
    for name in ("entry", "exit"):
        one, other = getattr(rules, name), getattr(wanted, name)
        assert (one is None) == (other is None), f"{name}: {one}"
        assert one is None or signals(one) == signals(other), f"{name}: {one}"
    fields = ("rank", "symbols", "timeframe", "risk", "reentry")
    assert [getattr(rules, name) for name in fields] == [getattr(wanted, name) for name in fields]
