"""What a parameter's annotation says: an object of arguments, the context, or what no JSON holds."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Union, get_args, get_origin, is_typeddict

import msgspec

from aworker.execution.context import Context

EMPTY = inspect.Parameter.empty


class Unresolved(str):
    """An annotation whose names are not there at run time."""

    __slots__ = ()


def bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def members(hint: Any) -> tuple[Any, ...]:
    hint = bare(hint)
    is_union = get_origin(hint) in (Union, types.UnionType)
    return tuple(one for one in get_args(hint) if one is not type(None)) if is_union else (hint,)


def takes_none(hint: Any) -> bool:
    hint = bare(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return type(None) in get_args(hint)
    return hint in (Any, object, None, type(None), EMPTY)


def is_context(hint: Any, is_named_so: bool) -> bool:
    """Say whether a parameter takes the context, which may be imported for type checkers alone."""
    if isinstance(hint, Unresolved):
        return is_named_so or hint.rpartition(".")[2] == Context.__name__
    if is_named_so and (hint in (EMPTY, Any, object) or is_foreign(hint)):
        return True
    return all(isinstance(one, type) and issubclass(one, Context) for one in members(hint))


def is_object(hint: Any) -> bool:
    return all(map(_is_one_object, map(bare, members(hint))))


def _is_one_object(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if not isinstance(origin, type):
        return False
    return (
        issubclass(origin, (msgspec.Struct, Mapping))
        or is_typeddict(origin)
        or any(hasattr(origin, mark) for mark in ("__dataclass_fields__", "__attrs_attrs__", "model_validate"))
    )


def may_be_object(hint: Any) -> bool:
    return isinstance(hint, Unresolved) or hint in (Any, object) or is_object(hint)


def is_foreign(hint: Any) -> bool:
    """Whether values of a type cannot come out of JSON, as those of a connection pool."""
    kind = bare(hint)
    if isinstance(kind, Unresolved) or not isinstance(kind, type) or get_origin(kind) is not None:
        return False
    if _is_one_object(kind) or issubclass(kind, PurePath):
        return False
    from msgspec.inspect import CustomType, type_info

    try:
        return isinstance(type_info(kind), CustomType)
    except Exception:  # noqa: BLE001 - what it is nobody knows: the check of all types tells
        return False


def type_name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)
