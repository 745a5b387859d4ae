"""Pausing a level or a task type for all workers: kept in Redis until somebody resumes it.

What is paused keeps its place and starts nowhere; what runs goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec
import redis.asyncio

from aworker.config import Config
from aworker.queues.keys import Keys

QUEUE = "queue "
TASK_TYPE = "type "


class Pauses(msgspec.Struct, frozen=True):
    """What is paused, each with the epoch second since when."""

    queues: dict[str, float] = {}
    """By the list's name."""
    task_types: dict[str, float] = {}


class PausesChanged(msgspec.Struct):
    """A message on the control channel: look again."""

    pauses_changed: bool = True


def read_pauses(fields: Iterable[tuple[Any, Any]]) -> Pauses:
    """Return what the hash says, field by field; what it says in other words is left out."""
    pauses = Pauses({}, {})
    for field, since in fields:
        name = field.decode("utf-8", "replace")
        try:
            since_s = float(since)
        except ValueError:
            continue
        if name.startswith(QUEUE):
            pauses.queues[name.removeprefix(QUEUE)] = since_s
        elif name.startswith(TASK_TYPE):
            pauses.task_types[name.removeprefix(TASK_TYPE)] = since_s
    return pauses


async def find_pauses(client: redis.asyncio.Redis, config: Config) -> Pauses:
    """Return what is paused now."""
    return read_pauses((await client.hgetall(Keys(config.redis.key_prefix).paused)).items())


async def pause(
    client: redis.asyncio.Redis, config: Config, *, queue: str | None = None, task_type: str | None = None
) -> bool:
    """Pause a level (by its list's name) or a task type; whether it was not paused before."""
    return await _change(client, config, queue, task_type, time.time())


async def resume(
    client: redis.asyncio.Redis, config: Config, *, queue: str | None = None, task_type: str | None = None
) -> bool:
    """Let a paused level or task type go on; whether it was paused."""
    return await _change(client, config, queue, task_type, None)


async def _change(
    client: redis.asyncio.Redis, config: Config, queue: str | None, task_type: str | None, since_s: float | None
) -> bool:
    keys = Keys(config.redis.key_prefix)
    field = f"{QUEUE}{queue}" if queue is not None else f"{TASK_TYPE}{task_type}"
    async with client.pipeline(transaction=True) as pipeline:
        if since_s is None:
            pipeline.hdel(keys.paused, field)
        else:
            pipeline.hsetnx(keys.paused, field, f"{since_s:.3f}")
        pipeline.publish(keys.control, msgspec.json.encode(PausesChanged()))
        changed, _ = await pipeline.execute()
    return bool(changed)
