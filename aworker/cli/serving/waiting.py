"""Push a task and hear of it until it ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aworker.client.client import FINAL, Client

_LISTEN_S = 0.5


async def run_task(
    client: Client,
    task_type: str,
    args: dict[str, Any],
    *,
    task_id: str | None = None,
    priority: str | None = None,
    queue: str | None = None,
    when: Mapping[str, Any] = MappingProxyType({}),
    wait_s: float,
    on_progress: Callable[[dict[str, Any]], None],
    on_nobody: Callable[[], None] = lambda: None,
) -> tuple[str, dict[str, Any] | None]:
    """Push a task, wait ``wait_s`` for its end, and return its id and its record.

    ``when`` is ``delay_s`` or ``at``. ``on_nobody`` is called once where nothing was heard and no worker serves.
    The record is as it is when the time is up, None when there is none. Raises QueueUnavailable, PayloadInvalid.
    """
    name = task_id if task_id is not None else f"{task_type}_{uuid.uuid4().hex}"
    # A task_id that was used before has a record of then: only a newer one is this push's.
    earlier = await client.result(name)
    async with client.updates(name) as updates:
        await client.enqueue(task_type, args, task_id=name, priority=priority, queue=queue, **when)
        until = time.monotonic() + wait_s
        has_looked = False
        while (left_s := until - time.monotonic()) > 0:
            message = await updates.next(timeout_s=min(left_s, _LISTEN_S))
            if message is not None and message.get("status") == "progress":
                on_progress(message)
            elif message is None or message.get("status") in FINAL:
                record = await client.result(name)
                if record is not None and record.get("status") in FINAL and record != earlier:
                    return name, record
                if message is None and not has_looked:
                    has_looked = True
                    if await client.workers_listening() == 0:
                        on_nobody()
    record = await client.result(name)
    return name, None if record == earlier else record
