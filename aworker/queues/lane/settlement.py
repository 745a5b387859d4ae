"""What an outcome means in Redis: which transition, which record, which messages.

One function, pure: both ways of delivery write down what it says.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aworker.clock import rfc3339
from aworker.config import Config
from aworker.errors import ResultInvalid
from aworker.lease import Lease
from aworker.outcome import Completed, Duplicate, Enqueued, Failed, Outcome, Rejected, Retried, Returned
from aworker.queues import records
from aworker.task import Flow, Task, salvage_identity

CAUSE_BYTES = 8_192


class Settlement(msgspec.Struct):
    """One end of one delivery."""

    kind: str
    """``end``, ``dead``, ``back`` or ``delay``."""
    outcome: Outcome
    """The outcome in effect: a result that cannot be encoded has become a failure."""
    task_id: str = ""
    record: bytes = b""
    messages: tuple[bytes, ...] = ()
    dead_fields: tuple[Any, ...] = ()
    """Field, value, .. of the dead letter, without its payload."""
    reason: str = ""
    """Why it is a dead letter."""
    delay_ms: int = 0
    counted: bool = False
    tried: bytes = b""
    """What this try ended with, one line of JSON, where another one follows that it counts for."""
    enqueued: tuple[Enqueued, ...] = ()
    """What is put where it waits in the same step."""
    group: tuple[str, int, str] | None = None
    """Group, number and status, ``completed`` or ``error``, of a member that has ended."""
    is_final: bool = False
    """Whether the messages are the last ones about this task."""


def settlement(config: Config, worker_id: str, lease: Lease, outcome: Outcome, execution_time_s: float) -> Settlement:
    """Return what is to be written for ``outcome``."""
    task = lease.task
    if isinstance(outcome, Returned) and outcome.counted and lease.delivery >= config.worker.max_deliveries:
        outcome = exhausted(lease, outcome.reason)
    if isinstance(outcome, Completed) and isinstance(task, Task):
        enqueued = outcome.enqueued
        outcome, change = _encoded(config, worker_id, task, lease, outcome, execution_time_s)
        if change is not None:
            plan = Settlement("end", outcome, task.task_id, enqueued=enqueued, is_final=True)
            if task.flow is not None:
                plan.group = _membership(task.flow, "completed")
            return _with(config, plan, change)
    if isinstance(outcome, Duplicate):
        flow = task.flow if isinstance(task, Task) else None
        return Settlement("end", outcome, group=None if flow is None else _membership(flow, "completed"))
    if isinstance(outcome, (Returned, Retried)):
        return _again(config, worker_id, lease, outcome)
    if isinstance(outcome, (Failed, Rejected)):
        return _ended(config, worker_id, lease, outcome)
    raise TypeError(f"outcome must be one that can be written, was {outcome!r}")


def _membership(flow: Flow, status: str) -> tuple[str, int, str] | None:
    if flow.group is None or (status == "completed" and flow.next):
        return None  # of a chain that goes on the last task is the member's end
    return flow.group, flow.member, status


def exhausted(lease: Lease, reason: str) -> Failed:
    """Return the end of a task that was handed out as often as it may be."""
    return Failed(
        error=f"gave up after {lease.delivery} deliveries: {reason}",
        error_type="DeliveriesExhausted",
        dead_letter="deliveries_exhausted",
        cause=reason,
    )


def _encoded(
    config: Config, worker_id: str, task: Task, lease: Lease, outcome: Completed, execution_time_s: float
) -> tuple[Outcome, records.Change | None]:
    try:
        change = records.completed(worker_id, task, lease, outcome, execution_time_s)
    except ResultInvalid as error:
        return Failed(str(error), "ResultInvalid", dead_letter="result_invalid"), None
    size, most = len(change.record), config.results.max_bytes
    if size > most:
        text = f"result must be <= {most} bytes, was {size}; return less or raise results.max_bytes"
        return Failed(text, "ResultInvalid", dead_letter="result_invalid"), None
    return outcome, change


def _again(config: Config, worker_id: str, lease: Lease, outcome: Returned | Retried) -> Settlement:
    counted = isinstance(outcome, Retried) or outcome.counted
    plan = Settlement("back", outcome, counted=counted)
    if outcome.delay_s or isinstance(outcome, Retried):
        plan.kind = "delay"
        plan.delay_ms = int(outcome.delay_s * 1000)
    if counted:
        error_type = outcome.error_type if isinstance(outcome, Retried) else "Returned"
        plan.tried = records.tried(lease.delivery, error_type, outcome.reason)
    if isinstance(lease.task, Task):
        plan.task_id = lease.task.task_id
        count = lease.delivery if counted else lease.delivery - 1
        change = records.queued(worker_id, plan.task_id, retry_count=count, retry_reason=outcome.reason)
        return _with(config, plan, change)
    return plan


def _ended(config: Config, worker_id: str, lease: Lease, outcome: Failed | Rejected) -> Settlement:
    task = lease.task
    task_id: str | None
    if isinstance(task, Task):
        task_id, task_type, priority = task.task_id, task.task_type, task.priority
    else:
        task_id, task_type, priority = salvage_identity(lease.payload)
    reason = outcome.dead_letter if isinstance(outcome, Failed) else outcome.error_type
    keep = bool(reason) and (
        isinstance(outcome, Rejected) or reason == "deliveries_exhausted" or config.dead_letters.keep_errors
    )
    plan = Settlement("dead" if keep else "end", outcome, is_final=True)
    if isinstance(task, Task) and task.flow is not None:
        plan.group = _membership(task.flow, "error")
    if keep:
        plan.reason = reason
        cause = outcome.cause if isinstance(outcome, Failed) else ""
        plan.dead_fields = (
            "queue",
            lease.queue,
            "reason",
            reason,
            "error",
            _clipped(outcome.error),
            "cause",
            _clipped(cause),
            "deliveries",
            lease.delivery,
            "worker_id",
            worker_id,
            "task_id",
            task_id or "",
            "task_type",
            task_type,
            "died_at",
            rfc3339(),
        )
    if task_id is not None:
        change = records.error(
            worker_id,
            task_id,
            text=outcome.error,
            error_type=outcome.error_type,
            queue_type=lease.label,
            priority=priority,
            attempts=lease.delivery,
            also_failed=config.results.publish_failed,
        )
        plan.task_id = task_id
        return _with(config, plan, change)
    return plan


def _with(config: Config, plan: Settlement, change: records.Change) -> Settlement:
    plan.record = change.record
    plan.messages = change.messages if config.results.publish else ()
    return plan


def _clipped(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= CAUSE_BYTES else raw[:CAUSE_BYTES] + b"..."
