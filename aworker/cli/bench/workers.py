"""Tasks without work, and a worker for them in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from aworker.config import Config, LiveConfig, RedisConfig, ResultsConfig, TaskConfig, WorkerConfig
from aworker.execution.registry import Handler, Registry
from aworker.queues.connection import connect
from aworker.worker.supervisor import Supervisor

NORMAL = "strategy_queue"
PRIORITY = "strategy_queue_priority"
LIMITED = {"backtest": TaskConfig(max_concurrent=2)}
"""As in every worker that ships: some type has a limit, the tasks that are measured have none."""


def payload(number: int) -> bytes:
    """Return a task of a hundred users, 200 bytes."""
    return msgspec.json.encode(
        {
            "task_id": f"bench_{number}_{time.time_ns()}",
            "task_type": "noop",
            "args": {"user_id": number % 100, "symbols": ["AAPL", "MSFT"]},
            "created_at": "2026-01-01T00:00:00Z",
            "priority": "normal",
        }
    )


async def fill(url: str, count: int, name: str = NORMAL) -> None:
    """Empty the server and push tasks."""
    async with connect(url) as client:
        await client.flushall()
        for at in range(0, count, 1_000):
            await client.lpush(name, *map(payload, range(at, min(count, at + 1_000))))


def config_of(url: str, slots: int = 16, **sections: Any) -> Config:
    """Return a worker's configuration: whole work, no message twice."""
    given = {
        "redis": RedisConfig(url=url),
        "worker": WorkerConfig(slots=slots),
        "results": ResultsConfig(repeat_fast_after_s=0),
        "tasks": LIMITED,
        **sections,
    }
    return msgspec.structs.replace(Config(), **given)


@asynccontextmanager
async def worker(
    config: Config, handlers: dict[str, Callable[..., Any]], on_ready: Callable[[], Any] = bool
) -> AsyncIterator[Supervisor]:
    """Run a worker while the block runs; what runs then is not waited for."""
    registry = Registry()
    for task_type, function in handlers.items():
        registry.add(Handler(task_type, function))
    ready = anyio.Event()

    def tell() -> None:
        on_ready()
        ready.set()

    supervisor = Supervisor(LiveConfig(config), registry, on_ready=tell)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await ready.wait()
        yield supervisor
        supervisor.drain()
        supervisor.drain()


async def worker_rate(config: Config, count: int) -> float:
    """Run ``count`` tasks without work; how many a second."""
    done = anyio.Event()
    handled, started_at = 0, 0.0

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()
        return {"success": True}

    def start() -> None:
        nonlocal started_at
        started_at = time.perf_counter()

    async with worker(config, {"noop": noop}, start):
        await done.wait()
        elapsed = time.perf_counter() - started_at
    return count / elapsed


Measure = Callable[[str, int, int, Path], Coroutine[Any, Any, list[dict[str, Any]]]]
"""Takes the server, by how much less to do, how often, and a folder of its own."""
