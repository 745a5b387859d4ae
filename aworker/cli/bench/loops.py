"""The loops that aworker is compared with, as people write them: redis-py's ``brpop``, hiredis, uvloop, json.

Each slot has a connection of its own. The time is taken when the last task has been handled: loops that find nothing
more wait for another second, which is none of the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import redis.asyncio

from aworker.cli.bench.workers import NORMAL, PRIORITY


def _client(url: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, protocol=2, single_connection_client=True, socket_timeout=None)


async def bare_rate(url: str, slots: int, count: int, *, keeps: bool) -> float:
    """Pop, decode and forget; if it keeps something, store a result and publish it, a round trip each."""
    left, ended_at = count, 0.0

    async def slot(client: redis.asyncio.Redis) -> None:
        nonlocal left, ended_at
        while left > 0:
            popped = await client.brpop([PRIORITY, NORMAL], timeout=1)
            if popped is None:
                return
            task = json.loads(popped[1])
            left -= 1
            if keeps:
                text = json.dumps({"task_id": task["task_id"], "status": "completed", "data": {"success": True}})
                await client.set(f"task_result:{task['task_id']}", text, ex=86_400)
                await client.publish("worker_task_updates", text)
            ended_at = time.perf_counter()

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(url)) for _ in range(slots)]
        for client in clients:
            await client.ping()
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(slot, client)
    return count / (ended_at - started)


async def two_step_rate(url: str, count: int) -> float:
    """The literal cycle: the priority list for a second, then the normal one, with one slot."""
    async with _client(url) as client:
        started = time.perf_counter()
        for _ in range(count):
            if await client.brpop([PRIORITY], timeout=1) is None:
                await client.brpop([NORMAL], timeout=60)
        return count / (time.perf_counter() - started)


async def bare_starts(url: str, on_start: Callable[[], None]) -> None:
    """Wait for tasks with one connection and say when each was decoded, until cancelled."""
    async with _client(url) as client:
        while True:
            popped = await client.brpop([PRIORITY, NORMAL], timeout=60)
            if popped is not None:
                json.loads(popped[1])
                on_start()
