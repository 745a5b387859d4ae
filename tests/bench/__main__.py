"""Compare aworker with the bare lossy loop: ``python -m tests.bench``. Prints ratios from one run, asserts nothing.

The bare loop is what the mission shows: each slot does ``BRPOP strategy_queue_priority strategy_queue``, decodes the
task, stores a result and publishes a message. aworker does its whole work: leases, duplicates, running and completed
records, assignments, messages. Both have the same slots, the same server and no-op handlers.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import redis.asyncio

from aworker.config import Config, LiveConfig, LoggingConfig, RedisConfig, ResultsConfig, TaskConfig, WorkerConfig
from aworker.execution.registry import Handler, Registry
from aworker.logs import configure_logs
from aworker.queues.connection import connect
from aworker.worker.supervisor import Supervisor
from tests.kit.servers import Server

TASKS = 20_000
ROUNDS = 3


def payloads(count: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            {
                "task_id": f"noop_{index}_{time.time_ns()}",
                "task_type": "noop",
                "args": {"user_id": index % 100, "symbols": ["AAPL", "MSFT"]},
                "created_at": "2026-01-01T00:00:00Z",
                "priority": "normal",
            }
        )
        for index in range(count)
    ]


async def fill(url: str, count: int) -> None:
    async with connect(url) as client:
        await client.flushall()
        texts = payloads(count)
        for at in range(0, count, 1000):
            await client.lpush("strategy_queue", *texts[at : at + 1000])


async def bare_loop(url: str, slots: int, count: int, store: bool) -> float:
    """Tasks a second of the bare loop."""
    left = count

    async def slot(client: redis.asyncio.Redis) -> None:
        nonlocal left
        while left > 0:
            popped = await client.brpop(["strategy_queue_priority", "strategy_queue"], timeout=1)
            if popped is None:
                return
            task = json.loads(popped[1])
            if store:
                record = {"task_id": task["task_id"], "status": "completed", "data": {"success": True}}
                text = json.dumps(record)
                await client.set(f"task_result:{task['task_id']}", text, ex=86400)
                await client.publish("worker_task_updates", text)
            left -= 1

    clients = [redis.asyncio.Redis.from_url(url, protocol=2, single_connection_client=True) for _ in range(slots)]
    for client in clients:
        await client.ping()
    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(slot, client)
    elapsed = time.perf_counter() - started
    for client in clients:
        await client.aclose()
    return count / elapsed


async def worker(url: str, slots: int, count: int, store: bool) -> tuple[float, float]:
    """Tasks a second of aworker, and its round trips a task."""
    done = asyncio.Event()
    handled = 0

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()
        return {"success": True}

    registry = Registry()
    registry.add(Handler("noop", noop))
    registry.add(Handler("backtest", noop))
    config = msgspec.structs.replace(
        Config(),
        redis=RedisConfig(url=url),
        worker=WorkerConfig(slots=slots),
        tasks={"backtest": TaskConfig(max_concurrent=2)},
        results=ResultsConfig(publish=store, repeat_fast_after_s=0),
    )
    started = 0.0

    def ready() -> None:
        nonlocal started
        started = time.perf_counter()

    supervisor = Supervisor(LiveConfig(config), registry, on_ready=ready)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await done.wait()
        elapsed = time.perf_counter() - started
        supervisor.drain()
    return count / elapsed, supervisor.round_trips / count


async def compare(url: str, name: str, slots: int, level: str, bare_slots: int | None = None) -> None:
    configure_logs(LoggingConfig(level=level, file="/dev/null"))  # type: ignore[arg-type]
    ours, theirs, trips = [], [], []
    for _ in range(ROUNDS):
        await fill(url, TASKS)
        theirs.append(await bare_loop(url, bare_slots or slots, TASKS, store=True))
        await fill(url, TASKS)
        rate, trip = await worker(url, slots, TASKS, store=True)
        ours.append(rate)
        trips.append(trip)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    print(
        f"{name:<40} {statistics.median(ours):>9,.0f}/s  bare {statistics.median(theirs):>9,.0f}/s  "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})  "
        f"round trips a task {statistics.median(trips):.3f}",
        flush=True,
    )


async def latency(url: str) -> None:
    """Push to handler start on an idle worker."""
    configure_logs(LoggingConfig(level="WARNING", file="/dev/null"))
    started_at: list[float] = []
    seen = asyncio.Event()

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        started_at.append(time.perf_counter())
        seen.set()
        return {}

    registry = Registry()
    registry.add(Handler("noop", noop))
    registry.add(Handler("backtest", noop))
    config = msgspec.structs.replace(Config(), redis=RedisConfig(url=url))
    ready = asyncio.Event()
    supervisor = Supervisor(LiveConfig(config), registry, on_ready=ready.set)
    waits: list[float] = []
    async with anyio.create_task_group() as group, connect(url) as client:
        await client.flushall()
        group.start_soon(supervisor.run)
        await ready.wait()
        await anyio.sleep(0.2)
        for text in payloads(200):
            seen.clear()
            pushed_at = time.perf_counter()
            await client.rpush("strategy_queue_priority", text)
            await seen.wait()
            waits.append(started_at[-1] - pushed_at)
            await anyio.sleep(0.005)
        supervisor.drain()
    waits.sort()
    print(
        f"push to handler start, idle: p50 {waits[100] * 1e3:.2f} ms, p99 {waits[197] * 1e3:.2f} ms, "
        f"longest {waits[-1] * 1e3:.2f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder, Server(Path(folder)) as server:
        jobs: list[Callable[[], Awaitable[None]]] = [
            lambda: compare(server.url, "100 slots, WARNING", 100, "WARNING"),
            lambda: compare(server.url, "100 slots, INFO (two lines a task)", 100, "INFO"),
            lambda: compare(server.url, "10 slots, WARNING", 10, "WARNING"),
            lambda: compare(server.url, "1 slot, WARNING", 1, "WARNING"),
            lambda: latency(server.url),
        ]
        for job in jobs:
            anyio.run(job, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
