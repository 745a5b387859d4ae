"""Turning decoded JSON into a handler's argument type."""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

from aworker.encoding import made
from aworker.errors import ArgumentsInvalid

_AT_PATH = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_SHOWN_CHARACTERS = 100


def convert_arguments(arguments: Any, args_type: Any, path: str = "args") -> Any:
    """Return ``arguments``, which stand at ``path`` in the task, as an ``args_type``.

    Raises ArgumentsInvalid, which names the path and the value that do not fit.
    """
    try:
        converted = msgspec.convert(arguments, args_type, dec_hook=made)
    except (msgspec.ValidationError, RecursionError) as error:
        matched = _AT_PATH.fullmatch(str(error))
        rule, place = matched.groups() if matched else (str(error), "$")
        shown = repr(_value_at(arguments, place))
        if len(shown) > _SHOWN_CHARACTERS:
            shown = shown[:_SHOWN_CHARACTERS] + "..."
        name = place.replace("$", path, 1)
        raise ArgumentsInvalid(f"{name} must fit the handler's type ({rule}), was {shown}; correct the task") from None

    if _holds_dataclass(args_type):
        _fill_in(converted)
    return converted


@functools.lru_cache(maxsize=1024)
def _holds_dataclass(args_type: Any) -> bool:
    from msgspec.inspect import type_info

    try:
        return "DataclassType(" in repr(type_info(args_type))
    except Exception:  # noqa: BLE001 - a type that refers to itself, or is none that msgspec knows
        return True


def _fill_in(value: Any) -> None:
    # msgspec leaves defaults to the class, and then leaves out what is not in the instance when it encodes it.
    if isinstance(value, (list, tuple)):
        for one in value:
            _fill_in(one)
    elif hasattr(type(value), "__dataclass_fields__"):
        for name in type(value).__dataclass_fields__:
            if hasattr(value, name):
                object.__setattr__(value, name, getattr(value, name))
                _fill_in(getattr(value, name))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _fill_in(getattr(value, name))


def _value_at(value: Any, path: str) -> Any:
    for key, index in _STEP.findall(path):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, IndexError, TypeError):
            break
    return value
