"""The one way in which values of handlers become JSON, whether they ran in the loop or in a child.

What becomes what stands as a table in ``docs/handlers.md``. Invariant: `encode` gives JSON or raises ResultInvalid,
whatever the value is or does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from aworker.errors import PayloadInvalid, ResultInvalid

_KNOWN = frozenset({type(None), bool, list, tuple, dict, set, frozenset})


def plain(value: Any) -> Any:
    """Return as a plainer value what msgspec does not know; raises TypeError for what nobody knows.

    The type is asked, not the object, which may lie.
    """
    kind = type(value)
    if kind in _KNOWN:
        # msgspec knows these, but as a value only.
        raise TypeError(f"keys must be texts or numbers, held a {kind.__name__}")
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__index__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    # Asked for by name, so that a process without numpy does not import it.
    if kind.__module__ == "numpy" and hasattr(kind, "tolist"):
        return value.tolist()
    if issubclass(kind, os.PathLike):
        return os.fspath(value)
    if hasattr(kind, "model_dump"):
        return value.model_dump(mode="json")
    if issubclass(kind, Mapping):
        return dict(value)
    if issubclass(kind, (Sequence, Set)):
        return list(value)
    raise TypeError(f"held a {kind.__module__}.{kind.__qualname__}")


def as_builtins(args: Any) -> Any:
    """Return a producer's arguments as mappings, lists, texts and numbers. Raises PayloadInvalid."""
    try:
        return msgspec.to_builtins(args, enc_hook=plain, str_keys=True)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadInvalid(f"args must be encodable as JSON, were not: {error}; pass JSON values") from None


def made(kind: Any, value: Any) -> Any:
    """Make of decoded JSON what msgspec does not know: a model as pydantic has them, a path."""
    if hasattr(kind, "model_validate"):
        try:
            return kind.model_validate(value)
        except Exception as error:  # noqa: BLE001 - the model's own code
            raise ValueError(str(error)) from None
    if isinstance(kind, type) and issubclass(kind, os.PathLike) and isinstance(value, str):
        return kind(value)  # type: ignore[call-arg]
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise TypeError(f"Expected `{getattr(kind, '__name__', kind)}`, got `{type(value).__name__}`")


_encoder = msgspec.json.Encoder(enc_hook=plain)
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode(value: Any) -> bytes:
    """Return a value as JSON. Raises ResultInvalid."""
    try:
        return _encoder.encode(value)
    except BaseException as error:  # noqa: BLE001 - the value's own code runs here
        raise ResultInvalid(
            f"result must be encodable as JSON, was not: {text_of(error)}; return JSON values"
        ) from None


def as_object(value: Any) -> dict[str, Any]:
    """Return a handler's value as the fields of its result: an object's own, anything else under ``result``.

    A value in it may be encoded JSON (`msgspec.Raw`). Raises ResultInvalid.
    """
    if type(value) is dict and all(type(key) is str for key in value):
        return value
    text = bytes(value) if type(value) is msgspec.Raw else encode(value)
    return _decode_object(text) if text.startswith(b"{") else {"result": msgspec.Raw(text)}


def text_of(error: BaseException) -> str:
    """Return the text of an exception, whatever its own code does."""
    try:
        text = str(error)
    except BaseException as inner:  # noqa: BLE001 - an exception's own text may raise
        return f"(its text raised {name_of(inner)})"
    return str.__str__(text)


def name_of(error: BaseException) -> str:
    """Return the name of an exception's class, whatever its metaclass says."""
    return str(type.__dict__["__name__"].__get__(type(error)))
