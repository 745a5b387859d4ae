"""How long a handler holds the loop at a time: from one await to the next, nobody else's turn comes."""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

LEAST_S = 0.1
"""Shorter steps are nobody's concern."""


@types.coroutine
def stepped(handler: Coroutine[Any, Any, Any], note: Callable[[float], None]) -> Generator[Any, None, Any]:
    """Drive a handler as ``await`` would, and note each step that holds the loop for long."""
    error: BaseException | None = None
    while True:
        began_at = time.monotonic()
        try:
            waits_for = handler.send(None) if error is None else handler.throw(error)
        except StopIteration as ended:
            return ended.value
        finally:
            held_s = time.monotonic() - began_at
            if held_s >= LEAST_S:
                note(held_s)
        error = None
        try:
            yield waits_for
        except GeneratorExit:
            handler.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - it is the handler's: a cancel, mostly
            error = raised
