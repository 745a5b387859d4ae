"""A task as producers write it, and how its bytes become one.

`decode_task` is the only door: it takes any bytes and gives a `Task` or raises PayloadInvalid, nothing else.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from aworker.clock import parse_rfc3339
from aworker.errors import PayloadInvalid


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that comes when the one before it has completed."""

    id: str
    type: str
    args: dict[str, Any] = {}
    queue: str | None = None
    """A level's label or its list; None = where the rules of routing send it."""
    priority: str | None = None
    delay_s: float | None = None
    result_as: str | None = None
    """The argument that takes the result of the task before it."""


class Flow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a task is a part of."""

    next: tuple[Step, ...] = ()
    group: str | None = None
    member: int = 0
    """Its number in the group."""


class Task(msgspec.Struct, frozen=True):
    """One unit of work."""

    task_id: str
    task_type: str
    args: dict[str, Any]
    created_at: str | None = None
    priority: str = "normal"
    traceparent: str | None = None
    """The trace it is part of (W3C Trace Context); None when absent or none of that form."""
    tracestate: str | None = None
    parent_id: str | None = None
    """The task that enqueued it; None where it was somebody else."""
    flow: Flow | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace's id, 32 hexadecimal digits."""
        return None if self.traceparent is None else self.traceparent[3:35]

    @property
    def created_at_s(self) -> float | None:
        """When it was made, epoch seconds; None when absent or no instant."""
        return None if self.created_at is None else parse_rfc3339(self.created_at)

    @property
    def user_id(self) -> str | None:
        """``args.user_id`` as text, None when there is none: what ``max_per_user`` counts by.

        A number is written as the claim script writes it, which knows doubles only.
        """
        value = self.args.get("user_id")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return f"{float(value):.0f}"
            except OverflowError:
                return "inf" if value > 0 else "-inf"
        return value if isinstance(value, str) else None


class _Wire(msgspec.Struct):
    task_id: str
    task_type: str
    args: dict[str, Any] | None = None
    created_at: str | None = None
    priority: str | None = None
    # Whatever stands there must not make a task bad input: read only where it is text.
    traceparent: msgspec.Raw = msgspec.Raw()
    tracestate: msgspec.Raw = msgspec.Raw()
    parent_id: msgspec.Raw = msgspec.Raw()
    aworker: msgspec.Raw = msgspec.Raw()


class _Identity(msgspec.Struct):
    task_id: Any = None
    task_type: Any = None
    priority: Any = None


TOKENS_READ = 100_000
TRACESTATE_MOST = 4_096

_wire = msgspec.json.Decoder(_Wire)
_identity = msgspec.json.Decoder(_Identity)
_anything = msgspec.json.Decoder()
_string = msgspec.json.Decoder(str)
_flow = msgspec.json.Decoder(Flow)
# Other versions than 00 may carry more.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*|)\Z", re.ASCII | re.DOTALL)
# A field of the identity, any other string (to the end of the text if it is not closed), a run of brackets.
_TOKEN = re.compile(
    r'"(task_id|task_type|priority)"\s*:\s*("(?:[^"\\]|\\.)*+")|"(?:[^"\\]|\\.)*+"?|([{\[]+)|([}\]]+)', re.DOTALL
)


def decode_task(payload: bytes, max_bytes: int) -> Task:
    """Read a payload, or raise PayloadInvalid naming the field, the rule and the value."""
    if len(payload) > max_bytes:
        raise PayloadInvalid(
            f"payload must be <= {max_bytes} bytes, was {len(payload)}; raise worker.max_payload_bytes or send less"
        )
    if not payload:
        raise PayloadInvalid("payload must be a JSON object, was empty; push one task per element")
    try:
        text = payload.decode()
        wire = _wire.decode(text)
    except UnicodeDecodeError as error:
        raise PayloadInvalid(f"payload must be UTF-8, was not at byte {error.start}; encode it as UTF-8") from None
    except RecursionError:
        raise PayloadInvalid("payload must nest less deeply, was nested beyond the decoder's limit") from None
    except msgspec.MsgspecError as error:
        raise PayloadInvalid(_explain(error, payload)) from None
    if not wire.task_id:
        raise PayloadInvalid("task_id must be a non-empty string, was ''; give every task its own id")
    if not wire.task_type:
        raise PayloadInvalid("task_type must be a non-empty string, was ''; name the kind of work")
    try:
        wire.task_id.encode()
        wire.task_type.encode()
    except UnicodeEncodeError:
        raise PayloadInvalid("task_id and task_type must be Unicode text, held a lone surrogate") from None
    traceparent = _traceparent(_text_of(wire.traceparent)) if wire.traceparent else None
    return Task(
        wire.task_id,
        wire.task_type,
        wire.args or {},
        wire.created_at,
        wire.priority or "normal",
        traceparent,
        _tracestate(_text_of(wire.tracestate)) if traceparent is not None and wire.tracestate else None,
        _text_of(wire.parent_id) if wire.parent_id else None,
        _flow_of(wire.aworker) if wire.aworker else None,
    )


def _text_of(raw: msgspec.Raw) -> str | None:
    try:
        return _string.decode(raw)
    except msgspec.MsgspecError:
        return None


def _flow_of(raw: msgspec.Raw) -> Flow | None:
    try:
        return _flow.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None  # somebody else's field


def _traceparent(value: str | None) -> str | None:
    if value is None or (match := _TRACEPARENT.match(value)) is None:
        return None
    version, trace_id, span_id, rest = match.groups()
    is_wrong = version == "ff" or not trace_id.strip("0") or not span_id.strip("0") or (version == "00" and rest)
    return None if is_wrong else value[:55]


def _tracestate(value: str | None) -> str | None:
    # It goes on into other payloads: nothing that could not be one, nothing that is too long for one.
    fits = value and len(value) <= TRACESTATE_MOST and value.isascii() and value.isprintable()
    return value if fits else None


def salvage_identity(payload: bytes) -> tuple[str | None, str, str]:
    """Read what can be read of a payload that is no task: (task_id or None, task_type, priority).

    Where it is no JSON, its own fields are read as far as they stand there: those of an object that nests too deeply,
    breaks off, or holds ``NaN`` or bytes that are not UTF-8 in some other place.
    """
    try:
        identity = _identity.decode(payload.decode())
    except (UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
        identity = _Identity(**_own_fields(payload))
    task_id = identity.task_id if isinstance(identity.task_id, str) and identity.task_id else None
    task_type = identity.task_type if isinstance(identity.task_type, str) and identity.task_type else "unknown"
    priority = identity.priority if isinstance(identity.priority, str) and identity.priority else "normal"
    try:
        "".join((task_id or "", task_type, priority)).encode()
    except UnicodeEncodeError:
        return None, "unknown", "normal"
    return task_id, task_type, priority


def _own_fields(payload: bytes) -> dict[str, str]:
    text = payload.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    fields: dict[str, str] = {}
    if not text.startswith("{"):
        return fields
    depth = 0
    for match in islice(_TOKEN.finditer(text), TOKENS_READ):
        name, value, opened, closed = match.groups()
        depth += len(opened or "") - len(closed or "")
        if depth < 1:
            break
        if name and depth == 1 and "\ufffd" not in value:
            with suppress(msgspec.MsgspecError):
                fields[name] = _string.decode(value)
    return fields


def _explain(error: msgspec.MsgspecError, payload: bytes) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return f"payload must be one JSON object, was not: {error}; value began with {_shown(payload)}"
    message, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".") or "payload"
    if message.startswith("Object missing required field"):
        return f"{message.split('`')[1]} must be a non-empty string, was missing; every task needs it"
    if message == "Number out of range":
        message = "a number that a double can hold"
    rule = message.removeprefix("Expected ").partition(", got ")[0].replace("`", "")
    return f"{field} must be {rule}, was {_value_at(field, payload)}; correct the producer"


def _value_at(field: str, payload: bytes) -> str:
    try:
        value = _anything.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _shown(payload)
    if field != "payload" and isinstance(value, dict):
        value = value.get(field.partition("[")[0].partition(".")[0])
    return _shown(msgspec.json.encode(value))


def _shown(raw: bytes) -> str:
    text = repr(raw[:80])[2:-1]
    return text + ("..." if len(raw) > 80 else "")
