"""What passes between the worker, its fork server and its children, and how it is cut into frames.

A frame is a header of 16 bytes (magic, kind, length of the body, number of the call or child) and a body of at most
`MAX_BODY_BYTES`; bodies are msgpack. Invariant: bytes that are no frame are noticed at the first header and never
interpreted; nothing that arrives is unpickled or evaluated.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any

import msgspec

from aworker.traceparent import Trace

MAX_BODY_BYTES = 256 * 1024 * 1024

_MAGIC = b"\xa7w"
_HEADER = struct.Struct(">2sBxIQ")


class FrameError(Exception):
    """The bytes are no frame, or a body is too large for one."""


class Kind(IntEnum):
    """What a frame says."""

    # to a child
    CALL = 1
    """Run a `Call`."""
    STOP = 2
    """The call of this number is to stop soon."""
    ANSWER = 3
    """An `Answer` to what the running call asked."""
    LEAVE = 4
    """End what is open and exit."""
    # from a child
    READY = 16
    """Warm and waiting for calls."""
    STARTED = 17
    """The call has been read: from here on its death is the call's."""
    PROGRESS = 18
    """A `Progress`."""
    LOG = 19
    """A `Line`."""
    RESULT = 20
    """What the function returned."""
    FAILURE = 21
    """A `Failure`: what the function raised."""
    RETRY = 22
    """Delay in seconds or None, and reason, of a `Retry` that the function returned or raised."""
    SPOILED = 23
    """Why this child is no place for another call: what the running one left behind."""
    ASK = 24
    """An `Ask`: the call waits for the answer."""
    SPAN = 25
    """A span that has ended, as `aworker.tracing.carrying` writes it."""
    # from the fork server
    WARM = 32
    """Every preloaded module is imported."""
    PRELOAD_FAILED = 33
    """A text: the module and why it cannot be imported. The fork server exits."""
    FORKED = 34
    """An integer: the pid of the child of this number."""
    FORK_FAILED = 35
    """A text: why the child of this number could not be forked."""
    EXITED = 36
    """An integer: the wait status of the child of this number."""


class TaskInfo(msgspec.Struct, frozen=True, array_like=True):
    """The delivery of a task that a call belongs to."""

    task_id: str
    task_type: str
    delivery: int = 1
    lease_id: int = 0
    last_error: str | None = None
    parent_id: str | None = None
    trace: Trace | None = None
    """Where in a trace the call is."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of a function in a child."""

    function: str
    """``package.module:qualname``"""
    arguments: list[Any]
    convert: bool
    """Whether the first argument becomes what the function's first annotation says."""
    task: TaskInfo


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """One call of ``context.progress``."""

    stage: str
    message: str
    data: Any
    fraction: float | None


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """What the function wants of the worker: ``enqueue``, ``enqueue_group`` or ``bind``."""

    word: str
    fields: bytes
    """An object in JSON."""
    trace: Trace | None = None
    """Where in a trace it is wanted."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The value, or why there is none."""

    value: Any = None
    error_type: str = ""
    error: str = ""


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One log record of a child."""

    level: str
    message: str
    logged_at: float
    span: tuple[str, str] | None = None
    """The ids of the trace and the span that was open there."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An exception of a function, without the exception object."""

    family: str
    """``declined`` (RequestDeclined), ``invalid`` (TaskInvalid), ``result`` (ResultInvalid), else ``raised``."""
    type_name: str
    message: str
    traceback: str
    kinds: tuple[str, ...] = ()
    """The exception's classes, its own first."""


Frame = tuple[Kind, int, bytes]
"""Kind, number, body."""


def encode_frame(kind: Kind, number: int, body: bytes = b"") -> bytes:
    """Put a body into a frame.

    Raises FrameError when it is longer than `MAX_BODY_BYTES`.
    """
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(
            f"frame.body must be at most {MAX_BODY_BYTES} bytes, was {len(body)}; split it or pass it by a file"
        )
    return _HEADER.pack(_MAGIC, kind, len(body), number) + body


class FrameReader:
    """Cuts a stream of bytes into frames, however the bytes arrive."""

    __slots__ = ("_buffer", "_head")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[Kind, int, int] | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that they complete.

        Raises FrameError at a header that has the wrong magic, an unknown kind or a length above `MAX_BODY_BYTES`.
        """
        frames: list[Frame] = []
        self._buffer += data
        while True:
            if self._head is None:
                if len(self._buffer) < _HEADER.size:
                    return frames
                self._head = _parse_header(self._buffer)
                del self._buffer[: _HEADER.size]
            kind, number, length = self._head
            if len(self._buffer) < length:
                return frames
            frames.append((kind, number, bytes(memoryview(self._buffer)[:length])))
            del self._buffer[:length]
            self._head = None


def _parse_header(buffer: bytearray) -> tuple[Kind, int, int]:
    magic, kind, length, number = _HEADER.unpack_from(buffer)
    if magic != _MAGIC or length > MAX_BODY_BYTES:
        raise FrameError(f"frame.header must be of this protocol, was {bytes(buffer[: _HEADER.size])!r}")
    try:
        return Kind(kind), number, length
    except ValueError:
        raise FrameError(f"frame.kind must be one of this protocol, was {kind}") from None
