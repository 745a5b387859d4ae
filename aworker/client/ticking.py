"""Ticks of schedules: which are due, and enqueuing them, each exactly once whoever tries.

What was enqueued last stands in Redis, by the schedule's name, and only grows, in the same step that enqueues. So there
is no leader: every worker tries every tick. The clock is the server's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from aworker.client.composing import compose
from aworker.client.later import Due
from aworker.client.pushing import Conflict, Push, Pushed, Tick, Unique, push
from aworker.client.routing import Router, level_named
from aworker.clock import rfc3339
from aworker.config import Config, ScheduleConfig
from aworker.errors import QueueUnavailable
from aworker.keys import Keys
from aworker.queues.connection import connect
from aworker.ticks import Ticks

LATE_MS = 10_000
"""A tick that could not be enqueued for so long is late: then ``catch_up`` decides."""
_CONFLICT: dict[str, Conflict] = {"skip": "keep", "replace": "stop"}


class Known(msgspec.Struct, frozen=True):
    """What Redis says of schedules."""

    now_ms: int
    """The server's clock."""
    last_ms: dict[str, int]
    """By name, the last tick that was enqueued or left out; where there was none, when the schedule was first seen."""


class Ticker:
    """A connection for enqueuing ticks."""

    def __init__(self, config: Config) -> None:
        self._client: Any = connect(config.redis.url)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def look(self, config: Config, names: Sequence[str], *, begin: bool = True) -> Known:
        """Ask for the time and the last ticks; a schedule that is new begins now. Raises QueueUnavailable."""
        key = Keys(config.redis.key_prefix).schedules
        pipeline = self._client.pipeline(transaction=True)
        pipeline.time()
        pipeline.hmget(key, list(names))
        try:
            (seconds, micros), found = await pipeline.execute()
            now_ms = seconds * 1000 + micros // 1000
            last = {name: int(at) for name, at in zip(names, found, strict=True) if at is not None}
            for name in names:
                if begin and name not in last:
                    await self._client.hsetnx(key, name, now_ms)
                    last[name] = now_ms
        except (RedisError, OSError) as error:
            raise QueueUnavailable(str(error) or type(error).__name__) from None
        return Known(now_ms, last)

    async def enqueue(self, config: Config, due: Sequence[tuple[ScheduleConfig, int]]) -> list[Pushed]:
        """Enqueue ticks, the oldest first, unless somebody has. Raises QueueUnavailable, PayloadInvalid."""
        try:
            router = Router(config, self._client)
            pushes = [
                await _push_of(config, router, one, tick_ms) for one, tick_ms in sorted(due, key=lambda item: item[1])
            ]
            return await push(self._client, config, pushes)
        except (RedisError, OSError) as error:
            raise QueueUnavailable(str(error) or type(error).__name__) from None

    async def run_now(self, config: Config, one: ScheduleConfig) -> Pushed:
        """Enqueue a schedule's task once, beside its ticks, whatever its overlap. Raises as `enqueue` does."""
        try:
            seconds, micros = await self._client.time()
            router = Router(config, self._client)
            planned = await _push_of(config, router, one, seconds * 1000 + micros // 1000, is_by_hand=True)
            return (await push(self._client, config, [planned]))[0]
        except (RedisError, OSError) as error:
            raise QueueUnavailable(str(error) or type(error).__name__) from None


def ticks_of(one: ScheduleConfig) -> Ticks:
    """Return when a schedule is due."""
    return Ticks(one.cron, one.every_s, one.timezone, one.start, one.end)


def due_ticks(one: ScheduleConfig, ticks: Ticks, last_ms: int, now_ms: int) -> list[int]:
    """Return the ticks after the last one that are to be enqueued now, in order."""
    late_ms = now_ms - LATE_MS
    in_time = list(ticks.between(max(last_ms, late_ms), now_ms))
    if last_ms >= late_ms or one.catch_up == "none":
        return in_time
    if one.catch_up == "all":
        return [*ticks.newest(last_ms, late_ms, one.catch_up_most), *in_time]
    return in_time or ticks.newest(last_ms, late_ms, 1)


async def _push_of(
    config: Config, router: Router, one: ScheduleConfig, tick_ms: int, *, is_by_hand: bool = False
) -> Push:
    seconds, ms = divmod(tick_ms, 1000)
    instant = rfc3339(seconds)[:19] + (f".{ms:03d}" if ms else "") + "Z"
    task_id = f"{one.name}@{'run-' if is_by_hand else ''}{instant}"
    jitter_ms = 0 if is_by_hand else _jitter_ms(one, task_id)
    at_s = (tick_ms + jitter_ms) / 1000
    _, priority, payload = compose(
        config, one.task_type, one.args, task_id=task_id, priority=one.priority, created_at_s=at_s
    )
    level = level_named(config, one.queue) if one.queue else await router.route(one.task_type, one.args, priority)
    if is_by_hand:
        return Push(task_id, level.name, payload)
    conflict = _CONFLICT.get(one.overlap)
    return Push(
        task_id,
        level.name,
        payload,
        due=Due("at", tick_ms + jitter_ms, at_s) if jitter_ms else None,
        unique=None if conflict is None else Unique(f"schedule:{one.name}", on_conflict=conflict),
        tick=Tick(one.name, tick_ms),
    )


def _jitter_ms(one: ScheduleConfig, task_id: str) -> int:
    # The same for every worker, else a tick that is sent again would be another one.
    share = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:4], "big") / 2**32
    return int(share * one.jitter_s * 1000)
