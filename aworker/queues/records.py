"""The JSON that workers store and publish for a task: result records and messages, as the wire protocol has them.

Composed here and only here. A record and its message share one encoded ``data``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aworker.clock import rfc3339
from aworker.encoding import encode as encode_value
from aworker.lease import Lease
from aworker.outcome import Completed
from aworker.task import Task

ARGS_SHOWN_BYTES = 65_536
REPLACED_TYPE = "TaskReplaced"
REPLACED_TEXT = "replaced by a newer task of the same unique_key"
TRY_CHARACTERS = 1_000


class Record(msgspec.Struct):
    """What ``task_result:{task_id}`` holds."""

    task_id: str
    status: str
    data: msgspec.Raw
    updated_at: str
    worker_id: str


class Message(msgspec.Struct, omit_defaults=True):
    """What the channel carries for a change of state."""

    task_id: str
    status: str
    result: msgspec.Raw
    updated_at: str
    worker_id: str
    error_message: str | None = None


class Progress(msgspec.Struct):
    """What the channel carries for progress."""

    task_id: str
    status: str
    stage: str
    message: str
    data: Any
    updated_at: str


class Change:
    """One change of state: the record to store and the messages to publish, encoded."""

    __slots__ = ("_encoded", "_record", "messages")

    def __init__(self, record: Record, messages: tuple[bytes, ...]) -> None:
        self._record = record
        self._encoded = b""
        self.messages = messages

    @property
    def record(self) -> bytes:
        """The record as it is stored; made when asked for, since a fast task's first one never is."""
        if not self._encoded:
            self._encoded = encode(self._record)
        return self._encoded


class StoredRecord(msgspec.Struct):
    """What is read back of a record."""

    status: str
    updated_at: str
    data: Any = None


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
decode_stored = msgspec.json.Decoder(StoredRecord).decode


def assignment(worker_id: str, task: Task, started_at: str) -> bytes:
    """Return what ``task_assignment:{task_id}`` holds."""
    return encode({"worker_id": worker_id, "task_id": task.task_id, "started_at": started_at, "status": "running"})


def running(worker_id: str, task: Task, lease: Lease, started_at: str) -> Change:
    """A handler starts."""
    args = encode(task.args)
    original: dict[str, Any] = {"task_type": task.task_type, "args": msgspec.Raw(args)}
    if len(args) > ARGS_SHOWN_BYTES:
        original.update(args=None, args_bytes=len(args))
    original.update(priority=task.priority, queue_type=lease.label)
    data = {
        "worker_id": worker_id,
        "queue_type": lease.label,
        "priority": task.priority,
        "started_at": started_at,
        "original_task": original,
    }
    return _change(worker_id, task.task_id, "running", data, started_at)


def queued(worker_id: str, task_id: str, *, retry_count: int, retry_reason: str) -> Change:
    """A task goes back: retried, released or reclaimed."""
    at = rfc3339()
    data = {"retry_count": retry_count, "retry_reason": retry_reason, "requeued_at": at}
    return _change(worker_id, task_id, "queued", data, at)


def completed(worker_id: str, task: Task, lease: Lease, outcome: Completed, execution_time_s: float) -> Change:
    """A handler returned. Raises ResultInvalid for a value that cannot be encoded."""
    at = rfc3339()
    data = {
        **outcome.result,
        "execution_time_seconds": float(execution_time_s),
        "worker_id": worker_id,
        "queue_type": lease.label,
        "priority": task.priority,
        "completed_at": at,
    }
    return _encoded(worker_id, task.task_id, "completed", encode_value(data), at)


def tried(delivery: int, error_type: str, error: str) -> bytes:
    """What a try ended with that was not the last: one line."""
    text = error.encode("utf-8", "replace").decode()[:TRY_CHARACTERS]
    return encode({"at": rfc3339(), "delivery": delivery, "error_type": error_type, "error": text})


def error(
    worker_id: str,
    task_id: str,
    *,
    text: str,
    error_type: str,
    queue_type: str,
    priority: str,
    attempts: int,
    also_failed: bool,
) -> Change:
    """A task ended without a result: an ``error``, and the same again as ``failed`` for waiters that know only that."""
    at = rfc3339()
    text = text.encode("utf-8", "replace").decode()
    data = {
        "error": text,
        "error_type": error_type,
        "queue_type": queue_type,
        "priority": priority,
        "completed_at": at,
        "attempts": attempts,
    }
    change = _change(worker_id, task_id, "error", data, at, error_message=text)
    if also_failed:
        failed = _change(worker_id, task_id, "failed", data, at, error_message=text)
        change.messages += failed.messages
    return change


def replaced(queue_type: str, *, also_failed: bool) -> Change:
    """A waiting task gave its unique key to a newer one: a template with ``$TASK$`` for its task_id."""
    return error(
        "",
        "$TASK$",
        text=REPLACED_TEXT,
        error_type=REPLACED_TYPE,
        queue_type=queue_type,
        priority="normal",
        attempts=0,
        also_failed=also_failed,
    )


def progress(task_id: str, stage: str, message: str, data: Any, fraction: float | None) -> bytes:
    """How far a task is; raises as `completed` does for data that cannot be encoded."""
    if fraction is not None:
        fields = data if isinstance(data, dict) else {} if data is None else {"value": data}
        data = {**fields, "fraction": fraction}
    return encode(Progress(task_id, "progress", stage, message, data, rfc3339()))


def _change(
    worker_id: str, task_id: str, status: str, data: dict[str, Any], at: str, *, error_message: str | None = None
) -> Change:
    return _encoded(worker_id, task_id, status, encode(data), at, error_message)


def _encoded(
    worker_id: str, task_id: str, status: str, data: bytes, at: str, error_message: str | None = None
) -> Change:
    raw = msgspec.Raw(data)
    return Change(
        Record(task_id, status, raw, at, worker_id),
        (encode(Message(task_id, status, raw, at, worker_id, error_message)),),
    )
