"""What operators ask of the queues: stats, a look at what waits, clearing a list.

The three public functions take any Redis client: with a synchronous one they return the value, with an asyncio one an
awaitable of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import redis.asyncio

from aworker.clock import rfc3339
from aworker.config import Config
from aworker.keys import Keys
from aworker.queues.hand.ends import as_bytes, is_taken_from_left, questions
from aworker.queues.pauses import read_pauses

Answer = TypeVar("Answer")


def get_queue_stats(redis_client: Any, worker_id: str = "", *, config: Config | None = None) -> Any:
    """Count what waits: ``priority_queue_length``, ``normal_queue_length`` (one for each level's label),
    ``total_pending_tasks``, ``worker_id`` and ``timestamp``.
    """
    queues = (config or Config()).queues

    def counted(replies: list[Any]) -> dict[str, Any]:
        return {
            **{f"{queue.label}_queue_length": int(length) for queue, length in zip(queues, replies, strict=True)},
            "total_pending_tasks": sum(map(int, replies)),
            "worker_id": worker_id,
            "timestamp": rfc3339(),
        }

    return _run(redis_client, [("LLEN", queue.name) for queue in queues], counted)


def peek_queue(redis_client: Any, queue_name: str, count: int = 10, *, config: Config | None = None) -> Any:
    """Return up to ``count`` waiting tasks, the next one first, and leave them where they are.

    ``queue_name`` is a list or the label of a level of ``config``. A payload that is no JSON object is shown as
    ``{"payload": <its text>}``.
    """
    queue_name = _list_of(config, queue_name)
    keys = Keys((config or Config()).redis.key_prefix)
    count = max(0, count)

    def shown(replies: list[Any]) -> list[dict[str, Any]]:
        *ends, left, right = replies
        payloads = left if is_taken_from_left(config or Config(), queue_name, *ends) else right[::-1]
        return [_shown(as_bytes(payload)) for payload in payloads[:count]]

    commands: list[tuple[Any, ...]] = [
        *questions(keys, queue_name),
        ("LRANGE", queue_name, 0, max(count - 1, 0)),
        ("LRANGE", queue_name, -max(count, 1), -1),
    ]
    return _run(redis_client, commands, shown)


def clear_queue(redis_client: Any, queue_name: str, *, config: Config | None = None) -> Any:
    """Remove every waiting task of a list (or a level's label), atomically, and return how many there were."""
    queue_name = _list_of(config, queue_name)
    return _run(redis_client, [("LLEN", queue_name), ("DEL", queue_name)], lambda replies: int(replies[0]))


async def overview(redis_client: redis.asyncio.Redis, config: Config) -> dict[str, Any]:
    """Return all that `aworker stats` shows: levels, what is paused, workers with their leases, delayed and dead."""
    keys = Keys(config.redis.key_prefix)
    pipeline = redis_client.pipeline(transaction=False)
    for queue in config.queues:
        pipeline.llen(queue.name)
    pipeline.zrange(keys.workers, 0, -1, withscores=True)
    pipeline.zcard(keys.delayed)
    pipeline.xlen(keys.dead)
    pipeline.hgetall(keys.paused)
    pipeline.time()
    *lengths, workers, delayed, dead, paused, now = await pipeline.execute()
    pipeline = redis_client.pipeline(transaction=False)
    for name, _ in workers:
        pipeline.hlen(keys.leases(name.decode()))
    leases = await pipeline.execute() if workers else []
    pauses = read_pauses(paused.items())
    now_s = now[0] + now[1] / 1e6
    return {
        "queues": [
            {"label": queue.label, "name": queue.name, "length": length, "paused": queue.name in pauses.queues}
            for queue, length in zip(config.queues, lengths, strict=True)
        ],
        "paused_task_types": sorted(pauses.task_types),
        "total_pending_tasks": sum(lengths),
        "workers": [
            {"worker_id": name.decode(), "leases": count, "lease_deadline_in_s": round(deadline / 1000 - now_s, 3)}
            for (name, deadline), count in zip(workers, leases, strict=True)
        ],
        "leased": sum(leases),
        "delayed": delayed,
        "dead": dead,
        "timestamp": rfc3339(),
    }


def _list_of(config: Config | None, queue_or_label: str) -> str:
    queues = (config or Config()).queues
    return next((queue.name for queue in queues if queue.label == queue_or_label), queue_or_label)


def _run(
    client: Any, commands: list[tuple[Any, ...]], then: Callable[[list[Any]], Answer]
) -> Answer | Awaitable[Answer]:
    pipeline = client.pipeline(transaction=True)
    for command in commands:
        pipeline.execute_command(*command)
    if isinstance(client, redis.asyncio.Redis):

        async def answered() -> Answer:
            return then(await pipeline.execute())

        return answered()
    return then(pipeline.execute())


def _shown(payload: bytes) -> dict[str, Any]:
    try:
        task = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        task = None
    return task if isinstance(task, dict) else {"payload": payload.decode("utf-8", "backslashreplace")}
