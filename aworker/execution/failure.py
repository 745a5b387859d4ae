"""What is told of an exception: the same whether it was raised in the loop or in a child."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import NamedTuple

from aworker.encoding import name_of, text_of
from aworker.errors import ChildDied, RequestDeclined
from aworker.execution.retry import Retry

TEXT_CHARACTERS = 65_536
_FRAMES = 20


class Told(NamedTuple):
    """An exception in words, each cut at TEXT_CHARACTERS."""

    type_name: str
    message: str
    traceback: str


def leaf(error: BaseException) -> BaseException:
    """Return of a group of errors the one that tells most: a dead child, a declined request, a retry, the first."""
    leaves = []
    groups = [error]
    while groups:
        group = groups.pop(0)
        if isinstance(group, BaseExceptionGroup):
            groups[:0] = group.exceptions
        else:
            leaves.append(group)
    for kind in (ChildDied, RequestDeclined, Retry):
        for each in leaves:
            if isinstance(each, kind):
                return each
    return leaves[0]


def told(error: BaseException, place: TracebackType | None = None) -> Told:
    """Say what an exception is, whatever its own code does; ``place`` is where its traceback begins."""
    try:
        trace = "".join(traceback.format_exception(type(error), error, place or error.__traceback__, limit=-_FRAMES))
    except BaseException as inner:  # noqa: BLE001 - the exception's own code runs here
        trace = f"(its traceback raised {name_of(inner)})"
    return Told(name_of(error), _cut(text_of(error)), _cut(trace))


def _cut(text: str) -> str:
    return text[:TEXT_CHARACTERS].encode(errors="replace").decode()
