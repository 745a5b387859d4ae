"""Turning decoded JSON into a handler's argument type."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from aworker.errors import ArgumentsInvalid

_AT_PATH = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_SHOWN_CHARACTERS = 100


def convert_arguments(arguments: Any, args_type: Any) -> Any:
    """Return ``arguments`` as an ``args_type``.

    Raises ArgumentsInvalid, which names the path and the value that do not fit.
    """
    try:
        return msgspec.convert(arguments, args_type)
    except (msgspec.ValidationError, RecursionError) as error:
        matched = _AT_PATH.fullmatch(str(error))
        rule, path = matched.groups() if matched else (str(error), "$")
        shown = repr(_value_at(arguments, path))
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + "..."
        name = path.replace("$", "args", 1)
        raise ArgumentsInvalid(f"{name} must fit the handler's type ({rule}), was {shown}; correct the task") from None


def _value_at(value: Any, path: str) -> Any:
    for key, index in _STEP.findall(path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    return value
