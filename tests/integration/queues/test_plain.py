"""A worker with at-most-once delivery on a real server: pops, ends, what goes back, and foreign keys."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest

from aworker import Context, Retry
from aworker.config import Config, ResultsConfig, TaskConfig, WorkerConfig
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker


def config_for(url: str, delivery: Any, **worker: Any) -> Config:
    return config_of(
        url,
        worker=WorkerConfig(slots=2, reserved={}, delivery=delivery, **worker),
        results=ResultsConfig(repeat_fast_after_s=0),
    )


async def ended(queue: QueueScripts, task_id: str) -> dict[str, Any]:
    async def record() -> Any:
        stored = json.loads(queue.client.get(f"task_result:{task_id}") or b"{}")
        return stored if stored.get("status") in ("completed", "error") else None

    found: dict[str, Any] = await eventually(record)
    return found


async def echo(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"delivery": context.delivery}


async def test_a_task_that_asks_for_a_retry_waits_for_it_and_is_counted(queue: QueueScripts, redis_url: str) -> None:
    started_at: list[float] = []

    async def later(args: dict[str, Any], context: Context) -> Any:
        started_at.append(time.monotonic())
        return Retry(0.3) if context.delivery < 3 else {"delivery": context.delivery}

    queue.client.rpush(NORMAL, task("a", task_type="t"))
    async with running_worker(config_for(redis_url, "at-most-once"), {"t": later}):
        record = await ended(queue, "a")

    assert record["data"]["delivery"] == 3
    assert len(started_at) == 3
    assert all(later - earlier >= 0.3 for earlier, later in pairwise(started_at))


async def test_a_task_that_raises_each_time_ends_after_its_retries(queue: QueueScripts, redis_url: str) -> None:
    async def bad(args: dict[str, Any], context: Context) -> Any:
        raise ValueError("no")

    config = msgspec.structs.replace(config_for(redis_url, "at-most-once"), tasks={"t": TaskConfig(retries=1)})
    queue.client.rpush(NORMAL, task("a", task_type="t"))
    async with running_worker(config, {"t": bad}):
        record = await ended(queue, "a")

    assert (record["status"], record["data"]["attempts"]) == ("error", 2)
    assert queue.client.llen(NORMAL) == 0


async def test_a_delayed_task_goes_back_when_its_worker_drains(queue: QueueScripts, redis_url: str) -> None:
    async def later(args: dict[str, Any], context: Context) -> Any:
        return Retry(3_600)

    async def is_queued() -> bool:
        return b'"queued"' in (queue.client.get("task_result:a") or b"")

    queue.client.rpush(NORMAL, task("a", task_type="t"))
    async with running_worker(config_for(redis_url, "at-most-once"), {"t": later}):
        await eventually(is_queued)

        assert queue.client.llen(NORMAL) == 0

    assert queue.waiting() == [task("a", task_type="t")]


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
async def test_a_worker_outlives_a_level_that_is_no_list(queue: QueueScripts, redis_url: str, delivery: str) -> None:
    async def is_alive() -> bool:
        return bool(queue.client.keys("worker_heartbeat:*"))

    queue.client.set(PRIORITY, "not a list")
    config = config_for(redis_url, delivery, lease_ttl_s=1.0, renew_interval_s=0.2)
    async with running_worker(config, {"t": echo}):
        await eventually(is_alive)
        # Longer than a lease lasts: it must have been renewed.
        await anyio.sleep(1.5)
        queue.client.delete(PRIORITY)
        queue.client.rpush(PRIORITY, task("a", task_type="t"))

        record = await ended(queue, "a")

    assert record["data"]["delivery"] == 1


async def test_of_a_task_that_ends_at_once_only_the_end_is_stored(queue: QueueScripts, redis_url: str) -> None:
    with queue.client.pubsub() as heard:
        heard.subscribe("worker_task_updates")
        queue.client.config_resetstat()
        queue.client.rpush(NORMAL, *(task(f"t{number}", task_type="t") for number in range(50)))
        async with running_worker(config_for(redis_url, "at-most-once"), {"t": echo}):
            for number in range(50):
                await ended(queue, f"t{number}")
        stored = queue.client.info("commandstats")["cmdstat_set"]["calls"]
        said = [
            json.loads(one["data"])
            for one in iter(lambda: heard.get_message(timeout=0.2), None)
            if one["type"] == "message"
        ]

    assert queue.client.keys("task_assignment:*") == []
    by_task = {each["task_id"]: [one["status"] for one in said if one["task_id"] == each["task_id"]] for each in said}
    assert len(by_task) == 50
    assert set(map(tuple, by_task.values())) == {("running", "completed")}
    assert stored < 2 * 50  # of some the start had gone out before they ended, and was taken back


async def test_a_task_that_runs_for_a_while_is_seen_running(queue: QueueScripts, redis_url: str) -> None:
    may_end = anyio.Event()

    async def waits(args: dict[str, Any], context: Context) -> None:
        await may_end.wait()

    async def is_running() -> bool:
        return b'"running"' in (queue.client.get("task_result:a") or b"") and bool(
            queue.client.exists("task_assignment:a")
        )

    queue.client.rpush(NORMAL, task("a", task_type="t"))
    async with running_worker(config_for(redis_url, "at-most-once"), {"t": waits}):
        await eventually(is_running)
        may_end.set()
        await ended(queue, "a")

    assert not queue.client.exists("task_assignment:a")
