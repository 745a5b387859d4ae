"""What is paused, as Redis keeps it: read by every worker and by everybody who shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import redis.asyncio

from aworker.config import Config
from aworker.keys import Keys

QUEUE = "queue "
TASK_TYPE = "type "
SCHEDULE = "schedule "


class Pauses(msgspec.Struct, frozen=True):
    """What is paused, each with the epoch second since when."""

    queues: dict[str, float] = {}
    """By the list's name."""
    task_types: dict[str, float] = {}
    schedules: dict[str, float] = {}


def read_pauses(fields: Iterable[tuple[Any, Any]]) -> Pauses:
    """Return what the hash says, field by field; what it says in other words is left out."""
    pauses = Pauses({}, {}, {})
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
        elif name.startswith(SCHEDULE):
            pauses.schedules[name.removeprefix(SCHEDULE)] = since_s
    return pauses


async def find_pauses(client: redis.asyncio.Redis, config: Config) -> Pauses:
    """Return what is paused now."""
    return read_pauses((await client.hgetall(Keys(config.redis.key_prefix).paused)).items())
