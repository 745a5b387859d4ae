"""Pausing a level, a task type or a schedule for all workers: kept in Redis until somebody resumes it.

What is paused keeps its place and starts nowhere; what runs goes on.
"""

from __future__ import annotations

import time

import msgspec
import redis.asyncio

from aworker.config import Config
from aworker.keys import Keys
from aworker.queues.pauses import QUEUE, SCHEDULE, TASK_TYPE


class PausesChanged(msgspec.Struct):
    """A message on the control channel: look again."""

    pauses_changed: bool = True


async def pause(
    client: redis.asyncio.Redis,
    config: Config,
    *,
    queue: str | None = None,
    task_type: str | None = None,
    schedule: str | None = None,
) -> bool:
    """Pause a level (by its list's name), a task type or a schedule; whether it was not paused before."""
    return await _change(client, config, _field(queue, task_type, schedule), time.time())


async def resume(
    client: redis.asyncio.Redis,
    config: Config,
    *,
    queue: str | None = None,
    task_type: str | None = None,
    schedule: str | None = None,
) -> bool:
    """Let a paused level, task type or schedule go on; whether it was paused."""
    return await _change(client, config, _field(queue, task_type, schedule), None)


def _field(queue: str | None, task_type: str | None, schedule: str | None) -> str:
    if schedule is not None:
        return f"{SCHEDULE}{schedule}"
    return f"{QUEUE}{queue}" if queue is not None else f"{TASK_TYPE}{task_type}"


async def _change(client: redis.asyncio.Redis, config: Config, field: str, since_s: float | None) -> bool:
    keys = Keys(config.redis.key_prefix)
    async with client.pipeline(transaction=True) as pipeline:
        if since_s is None:
            pipeline.hdel(keys.paused, field)
        else:
            pipeline.hsetnx(keys.paused, field, f"{since_s:.3f}")
        pipeline.publish(keys.control, msgspec.json.encode(PausesChanged()))
        changed, _ = await pipeline.execute()
    return bool(changed)
