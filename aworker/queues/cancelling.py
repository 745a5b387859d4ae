"""Cancelling a task by its id, wherever it is.

One that waits is taken out and settled in one step. One that runs, or that moves while it is looked for, is marked and
told to every worker: who runs it stops it, who claims it later settles it without a start.
"""

from __future__ import annotations

import json
import time
from typing import Any, Literal

import msgspec
import redis.asyncio
from redis.exceptions import NoScriptError

from aworker.config import Config
from aworker.queues import records
from aworker.queues.control import Cancellation
from aworker.queues.keys import CHANNEL, RESULT_PREFIX, Keys
from aworker.queues.scripts import CANCEL, FIND, Script
from aworker.task import salvage_identity

Found = Literal["waiting", "running", "ended", "unknown"]

CANCELLED_TYPE = "TaskCancelled"
CANCELLED_TEXT = "cancelled on request"
MARK_RUNNING_S = 86_400.0
MARK_UNKNOWN_S = 60.0
FINAL = ("completed", "error")


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
    if stored is not None and msgspec.json.decode(stored).get("status") in FINAL:
        return "ended"
    await _mark(client, keys, task_id, MARK_UNKNOWN_S)
    return "unknown"


async def _mark(client: redis.asyncio.Redis, keys: Keys, task_id: str, keep_s: float) -> None:
    now_s = time.time()
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.zremrangebyscore(keys.cancelled, "-inf", now_s)
        pipeline.zadd(keys.cancelled, {task_id: now_s + keep_s})
        pipeline.publish(keys.control, msgspec.json.encode(Cancellation(task_id, now_s + keep_s)))
        await pipeline.execute()


async def _take_out(client: redis.asyncio.Redis, config: Config, keys: Keys, task_id: str) -> bool:
    texts = list(dict.fromkeys(_spellings(task_id)))
    taken = False
    for queue in config.queues:
        for payload in await _run(client, FIND, [queue.name], ["list", 100, *texts]):
            taken = await _settle(client, config, keys, task_id, queue.name, "list", payload, queue.label) or taken
    for member in await _run(client, FIND, [keys.delayed], ["delayed", 100, *texts]):
        taken = await _settle(client, config, keys, task_id, keys.delayed, "delayed", member, "") or taken
    return taken


async def _settle(
    client: redis.asyncio.Redis,
    config: Config,
    keys: Keys,
    task_id: str,
    place: str,
    kind: str,
    member: bytes,
    label: str,
) -> bool:
    payload = member
    if kind == "delayed":
        head, _, payload = member.partition(b"\n")
        name = head.decode().split('"')[1]
        label = next((queue.label for queue in config.queues if queue.name == name), name)
    found_id, _, priority = salvage_identity(payload)
    if found_id != task_id:
        return False
    change = records.error(
        "",
        task_id,
        text=CANCELLED_TEXT,
        error_type=CANCELLED_TYPE,
        queue_type=label,
        priority=priority,
        attempts=0,
        also_failed=config.results.publish_failed,
    )
    arguments = [kind, member, payload, config.results.ttl_s, change.record, CHANNEL, *change.messages]
    return bool(await _run(client, CANCEL, [place, keys.deliveries, RESULT_PREFIX + task_id], arguments))


async def _run(client: Any, script: Script, names: list[str], arguments: list[Any]) -> Any:
    command = script.command(names, arguments)
    try:
        return await client.execute_command(*command)
    except NoScriptError:
        await client.script_load(script.text)
        return await client.execute_command(*command)


def _spellings(task_id: str) -> list[bytes]:
    # As a JSON string may be written: as it is, in ASCII, or with the slashes escaped.
    raw, ascii_only = msgspec.json.encode(task_id), json.dumps(task_id).encode()
    return [raw, ascii_only, raw.replace(b"/", b"\\/"), ascii_only.replace(b"/", b"\\/")]


__all__ = ["CANCELLED_TEXT", "CANCELLED_TYPE", "Found", "cancel_task"]
