"""Cancelling a task wherever it is: waiting, delayed, running in the loop or in a child, ended, unknown."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
import redis.asyncio

from aworker.client.client import Client
from aworker.config import Config, TaskConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.execution.retry import Retry
from aworker.keys import Keys
from aworker.queues.hand.cancel import cancel_task
from tests.kit.workers import config_of, eventually, running_worker

KEYS = Keys("aworker:")


async def forever(args: dict[str, Any], context: Context) -> None:
    await anyio.sleep_forever()


def spin(args: dict[str, Any], context: Context) -> None:
    while True:
        time.sleep(0.05)


async def quick(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"success": True}


async def status_of(client: Client, task_id: str) -> str | None:
    record = await client.result(task_id)
    return None if record is None else str(record["status"])


async def test_a_waiting_task_never_starts_and_its_caller_hears_of_it(redis_url: str) -> None:
    async with Client(redis_url) as client, client.updates() as updates:
        task_id = await client.enqueue("quick", task_id='odd "id" / \u00e9')
        other = await client.enqueue("quick", {"task_id": 'odd "id" / \u00e9'})

        assert await client.cancel(task_id) == "waiting"

        statuses = []
        while (message := await updates.next(timeout_s=0.2)) is not None:
            assert message["task_id"] == task_id
            statuses.append((message["status"], message["result"]["error_type"]))
        assert statuses == [("error", "TaskCancelled"), ("failed", "TaskCancelled")]
        async with running_worker(config_of(redis_url), {"quick": quick}):
            record = await client.result(other, wait_s=10)
            assert record is not None
            assert record["status"] == "completed"
        assert await status_of(client, task_id) == "error"


async def test_a_running_task_is_stopped_in_the_loop(redis_url: str) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"forever": forever}):
        task_id = await client.enqueue("forever")
        await eventually(lambda: client._redis.exists(f"task_assignment:{task_id}"))

        assert await client.cancel(task_id) == "running"

        record = await client.result(task_id, wait_s=10)
        assert record is not None
        assert record["data"]["error_type"] == "TaskCancelled"
        await eventually(lambda: _is_clean(client))


async def test_a_running_task_is_stopped_in_a_child(redis_url: str) -> None:
    config = config_of(redis_url)
    async with Client(redis_url) as client, running_worker(config, {"spin": spin, "quick": quick}):
        task_id = await client.enqueue("spin")
        await eventually(lambda: client._redis.exists(f"task_assignment:{task_id}"))

        assert await client.cancel(task_id) == "running"

        record = await client.result(task_id, wait_s=10)
        assert record is not None
        assert record["data"]["error_type"] == "TaskCancelled"


async def test_a_delayed_task_does_not_come_back(redis_url: str) -> None:
    async def later(args: dict[str, Any], context: Context) -> Retry:
        return Retry(delay_s=60)

    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"later": later}):
        task_id = await client.enqueue("later")
        await eventually(lambda: client._redis.zcard(KEYS.delayed))

        assert await client.cancel(task_id) == "waiting"

        assert await client._redis.zcard(KEYS.delayed) == 0
        assert await status_of(client, task_id) == "error"


async def test_an_ended_task_is_left_as_it_is(redis_url: str) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"quick": quick}):
        task_id = await client.enqueue("quick")
        await client.result(task_id, wait_s=10)

        assert await client.cancel(task_id) == "ended"
        assert await status_of(client, task_id) == "completed"


async def test_an_unknown_task_that_turns_up_soon_is_not_started(redis_url: str) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"quick": quick}):
        assert await client.cancel("late") == "unknown"
        await client.enqueue("quick", task_id="late")

        record = await client.result("late", wait_s=10)
        assert record is not None
        assert record["data"]["error_type"] == "TaskCancelled"
        await eventually(lambda: _is_clean(client))

        await client._redis.delete("task_result:late")
        await client.enqueue("quick", task_id="late")
        record = await client.result("late", wait_s=10)
        assert record is not None
        assert record["status"] == "completed"


async def test_a_task_cancelled_while_its_worker_was_away_is_not_started_again(redis_url: str) -> None:
    config = config_of(redis_url, worker=WorkerConfig(drain_timeout_s=0), tasks={"forever": TaskConfig()})
    async with Client(redis_url) as client:
        async with running_worker(config, {"forever": forever}):
            task_id = await client.enqueue("forever")
            await eventually(lambda: client._redis.exists(f"task_assignment:{task_id}"))
        assert await status_of(client, task_id) == "queued"

        assert await client.cancel(task_id) == "waiting"

        assert await status_of(client, task_id) == "error"


async def _is_clean(client: Client) -> bool:
    return not await client._redis.exists(KEYS.cancelled, KEYS.claimed, KEYS.deliveries)


@pytest.mark.parametrize("value", [b"no json", b"[]", b'"completed"', b'{"status": []}', b"\xff", b"{" * 5_000])
async def test_a_record_in_other_words_is_no_end(redis_url: str, value: bytes) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set("task_result:odd", value)
        assert await cancel_task(client, Config(), "odd") == "unknown"
