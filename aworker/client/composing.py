"""A task's bytes, as a producer of aworker's own writes them: always all five fields, and the trace it is made in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from aworker.client.enqueued import NewTask
from aworker.client.routing import check_priority
from aworker.clock import rfc3339
from aworker.config import Config
from aworker.encoding import as_builtins, plain
from aworker.errors import PayloadInvalid
from aworker.traceparent import current_trace

_encoder = msgspec.json.Encoder(enc_hook=plain)


def args_of(new: NewTask) -> Mapping[str, Any]:
    """Return a task's args as a mapping. Raises PayloadInvalid for what is no object."""
    args = new.args
    if args is None:
        return {}
    if isinstance(args, dict):
        return args
    args = as_builtins(args)
    if not isinstance(args, dict):
        raise PayloadInvalid(f"args must be an object, were {new.args!r}; pass a mapping, a Struct, a dataclass")
    return args


def compose(
    config: Config,
    task_type: str,
    args: Mapping[str, Any],
    *,
    task_id: str | None = None,
    priority: str | None = None,
    created_at_s: float | None = None,
    more: Mapping[str, Any] | None = None,
) -> tuple[str, str, bytes]:
    """Return a task's id, its priority and its payload, with ``more`` fields behind the five.

    Raises PayloadInvalid for one that no worker would take.
    """
    task_id = task_id if task_id is not None else f"{task_type}_{uuid.uuid4().hex}"
    for name, value in (("task_type", task_type), ("task_id", task_id)):
        if not isinstance(value, str) or not value:
            raise PayloadInvalid(f"{name} must be a non-empty string, was {value!r}; name it")
    if priority is None:
        priority = "high" if task_type == "create_strategy" else "normal"
    check_priority(config, priority)
    task = {
        "task_id": task_id,
        "task_type": task_type,
        "args": args,
        "created_at": rfc3339(created_at_s),
        "priority": priority,
        **(more or {}),
    }
    trace = current_trace()
    if trace is not None:
        task.update({name: value for name, value in trace._asdict().items() if value is not None})
    try:
        payload = _encoder.encode(task)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise PayloadInvalid(f"args must be encodable as JSON, were not: {error}; pass JSON values") from None
    most = config.worker.max_payload_bytes
    if len(payload) > most:
        raise PayloadInvalid(f"the task must be <= {most} bytes, was {len(payload)}; send less")
    return task_id, priority, payload
