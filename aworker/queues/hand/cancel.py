"""Cancelling a task by its id, wherever it is.

One that waits is taken out and settled in one step. One that runs, or that moves while it is looked for, is marked and
told to every worker: who runs it stops it, who claims it later settles it without a start.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
import redis.asyncio

from aworker.config import Config
from aworker.errors import PayloadInvalid
from aworker.keys import CHANNEL, RESULT_PREFIX, Keys
from aworker.queues import records
from aworker.queues.hand.find import Waiting, run_script, waiting
from aworker.queues.scripts import CANCEL
from aworker.task import decode_task, salvage_identity

Found = Literal["waiting", "running", "ended", "unknown"]

CANCELLED_TYPE = "TaskCancelled"
CANCELLED_TEXT = "cancelled on request"
MARK_RUNNING_S = 86_400.0
MARK_UNKNOWN_S = 60.0
FINAL = ("completed", "error")


class Cancellation(msgspec.Struct):
    """A message on the control channel."""

    cancel: str
    until_s: float
    """Epoch seconds until which the task is not to start."""


async def cancel_task(client: redis.asyncio.Redis, config: Config, task_id: str) -> Found:
    """Cancel a task and say where it was found.

    ``waiting``: it will never start, its ``error`` is stored. ``running``: its worker was told and stops it within a
    second. ``ended``: there is nothing to cancel. ``unknown``: nobody has it now; should it turn up within a minute it
    is not started.
    """
    keys = Keys(config.redis.key_prefix)
    for _ in range(3):
        if await client.hexists(keys.claimed, task_id):
            await _mark(client, keys, task_id, MARK_RUNNING_S)
            return "running"
        if await _take_out(client, config, keys, task_id):
            return "waiting"
        if not await client.hexists(keys.claimed, task_id):
            break
    stored = await client.get(RESULT_PREFIX + task_id)
    if has_ended(stored):
        return "ended"
    await _mark(client, keys, task_id, MARK_UNKNOWN_S)
    return "unknown"


def has_ended(record: bytes | str | None) -> bool:
    """Whether a stored record is that of an end; one in other words is not."""
    try:
        stored = None if record is None else msgspec.json.decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(stored, dict) and stored.get("status") in FINAL


async def _mark(client: redis.asyncio.Redis, keys: Keys, task_id: str, keep_s: float) -> None:
    now_s = time.time()
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.zremrangebyscore(keys.cancelled, "-inf", now_s)
        pipeline.zadd(keys.cancelled, {task_id: now_s + keep_s})
        pipeline.publish(keys.control, msgspec.json.encode(Cancellation(task_id, now_s + keep_s)))
        await pipeline.execute()


async def _take_out(client: redis.asyncio.Redis, config: Config, keys: Keys, task_id: str) -> bool:
    taken = False
    async for found in waiting(client, config, task_id):
        taken = await _settle(client, config, keys, task_id, found) or taken
    return taken


def _membership(config: Config, keys: Keys, payload: bytes) -> list[Any]:
    try:
        task = decode_task(payload, max(config.worker.max_payload_bytes, len(payload)))
    except PayloadInvalid:
        return []
    if task.flow is None or task.flow.group is None:
        return []
    return [
        keys.groups,
        task.flow.group,
        task.flow.member,
        task.task_id,
        "",
        keys.delayed,
        keys.lease_id,
        keys.control,
    ]


async def _settle(client: redis.asyncio.Redis, config: Config, keys: Keys, task_id: str, found: Waiting) -> bool:
    change = records.error(
        "",
        task_id,
        text=CANCELLED_TEXT,
        error_type=CANCELLED_TYPE,
        queue_type=config.label_of(found.queue),
        priority=salvage_identity(found.payload)[2],
        attempts=0,
        also_failed=config.results.publish_failed,
    )
    arguments = [
        found.kind,
        found.member,
        found.payload,
        config.results.ttl_s,
        change.record,
        CHANNEL,
        len(change.messages),
        *change.messages,
        *_membership(config, keys, found.payload),
    ]
    return bool(await run_script(client, CANCEL, [found.place, keys.deliveries, RESULT_PREFIX + task_id], arguments))
