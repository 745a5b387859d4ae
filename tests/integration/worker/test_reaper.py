"""The reaper, told by renewals what to look for, on a real server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from aworker.config import LiveConfig, ResultsConfig
from aworker.queues.lane.leased import open_leased_queue
from aworker.queues.upkeep.renewal import Renewal
from aworker.worker.reaper import Reaper
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of, eventually


def renewal(
    queue: QueueScripts, *, connects: int = 1, old_s: float = 0.0, ahead_s: float = 0.0, other: bool = True
) -> Renewal:
    """Return what a heartbeat hears whose answer came ``old_s`` ago from a server ``ahead_s`` before its time."""
    seconds, microseconds = queue.client.time()
    now_ms = seconds * 1000 + microseconds // 1000 - old_s * 1000 + ahead_s * 1000
    return Renewal(
        now_ms=now_ms,
        stood=True,
        held=0,
        other_deadline_ms=now_ms - 1 if other else -1,
        due_ms=-1,
        connects=connects,
        heard_at=time.monotonic() - old_s,
    )


@asynccontextmanager
async def reaper_of(redis_url: str, lease_ttl_s: float) -> AsyncIterator[Reaper]:
    config = config_of(redis_url, results=ResultsConfig(repeat_fast_after_s=0))
    worker = type(config.worker)(lease_ttl_s=lease_ttl_s, renew_interval_s=0.2)
    live = LiveConfig(type(config)(redis=config.redis, worker=worker, results=config.results))
    async with open_leased_queue(live, "w1", dict) as leased, anyio.create_task_group() as group:
        reaper = Reaper(live, leased)
        group.start_soon(reaper.run)
        yield reaper
        group.cancel_scope.cancel()


async def is_back(queue: QueueScripts) -> bool:
    return queue.waiting() == [task("a")]


@pytest.fixture
def orphaned(queue: QueueScripts) -> QueueScripts:
    """A queue with one task leased to a worker that died long ago."""
    queue.client.rpush(NORMAL, task("a"))
    queue.claim("dead")
    return queue


async def test_tasks_of_a_dead_worker_go_back(orphaned: QueueScripts, redis_url: str) -> None:
    async with reaper_of(redis_url, lease_ttl_s=0.5) as reaper:
        reaper.hear(renewal(orphaned, other=False))
        await anyio.sleep(0.6)

        reaper.hear(renewal(orphaned))

        await eventually(lambda: is_back(orphaned))


async def test_a_reaper_that_has_just_connected_waits_one_lease_time(orphaned: QueueScripts, redis_url: str) -> None:
    async with reaper_of(redis_url, lease_ttl_s=60) as reaper:
        reaper.hear(renewal(orphaned))
        await anyio.sleep(0.3)

        assert orphaned.leased("dead") == [task("a")]


async def test_a_reaper_skips_a_round_when_the_servers_clock_jumped(orphaned: QueueScripts, redis_url: str) -> None:
    async with reaper_of(redis_url, lease_ttl_s=0.5) as reaper:
        reaper.hear(renewal(orphaned, other=False))
        await anyio.sleep(0.6)

        reaper.hear(renewal(orphaned, ahead_s=3_600))
        await anyio.sleep(0.3)

        assert orphaned.leased("dead") == [task("a")]


async def test_an_answer_that_is_read_late_is_no_jump_of_the_clock(orphaned: QueueScripts, redis_url: str) -> None:
    async with reaper_of(redis_url, lease_ttl_s=0.5) as reaper:
        reaper.hear(renewal(orphaned, other=False))
        await anyio.sleep(0.6)

        reaper.hear(renewal(orphaned, old_s=30))

        await eventually(lambda: is_back(orphaned), within_s=0.4)
