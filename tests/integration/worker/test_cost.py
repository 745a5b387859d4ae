"""What a task costs, counted and not timed: commands, round trips, function calls.

The bounds are a quarter above what was measured; who breaks one has made every task dearer, and says why.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from types import FrameType
from typing import Any

import anyio
import pytest

from aworker.config import LiveConfig, LoggingConfig, ResultsConfig, TaskConfig, WorkerConfig
from aworker.execution.registry import Handler, Registry
from aworker.logs import configure_logs
from aworker.worker.supervisor import Supervisor
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of

TASKS = 1_000


async def cost_of(queue: QueueScripts, url: str, slots: int) -> tuple[float, float, float]:
    """Run tasks through one worker; commands, round trips and Python calls a task."""
    queue.client.lpush(NORMAL, *(task(f"t{index}", task_type="noop", args={"user_id": 1}) for index in range(TASKS)))
    done = asyncio.Event()
    handled = 0

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        if handled == TASKS:
            done.set()
        return {"success": True}

    registry = Registry()
    registry.add(Handler("noop", noop))
    registry.add(Handler("backtest", noop))
    config = config_of(
        url,
        worker=WorkerConfig(slots=slots),
        results=ResultsConfig(repeat_fast_after_s=0),
        tasks={"backtest": TaskConfig(max_concurrent=2)},
    )
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        calls[event] += 1

    ready = anyio.Event()
    supervisor = Supervisor(LiveConfig(config), registry, on_ready=ready.set)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await ready.wait()
        queue.client.config_resetstat()
        sys.setprofile(count)
        try:
            with anyio.fail_after(60):
                await done.wait()
        finally:
            sys.setprofile(None)
        supervisor.drain()
    stats = queue.client.info("commandstats")
    commands = sum(each["calls"] for each in stats.values())
    return commands / TASKS, supervisor.round_trips / TASKS, calls["call"] / TASKS


@pytest.mark.parametrize(
    ("slots", "commands", "round_trips", "calls"), [(1, 31, 1.25, 281), (100, 5.5, 0.03, 113), (1_000, 5, 0.008, 106)]
)
async def test_a_task_costs_no_more_than_it_did(
    queue: QueueScripts, redis_url: str, slots: int, commands: float, round_trips: float, calls: float
) -> None:
    configure_logs(LoggingConfig(level="ERROR"))

    found = await cost_of(queue, redis_url, slots)

    assert found[0] <= commands
    assert found[1] <= round_trips
    assert found[2] <= calls
