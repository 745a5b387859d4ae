"""Typed handlers and both clients, against a worker: enqueue, wait, read, cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
import redis
import redis.asyncio

from aworker import Client, Context, SyncClient, TaskFailed, TaskUnfinished, handler
from aworker.config import WorkerConfig
from tests.kit.workers import config_of, running_worker


class Report(msgspec.Struct):
    user_id: int
    rows: list[int]


@handler("results_report")
async def report(context: Context, user_id: int, rows: int = 2) -> Report:
    if user_id < 0:
        raise ValueError("no such user")
    return Report(user_id, list(range(rows)))


@handler("results_hold")
async def hold() -> None:
    await anyio.sleep_forever()


HANDLERS = {one.task_type: one.function for one in (report, hold)}


@pytest.fixture
def sync_client(redis_url: str) -> Iterator[SyncClient]:
    with SyncClient(redis_url) as client:
        yield client


async def test_a_result_comes_back_as_what_the_handler_declares(redis_url: str) -> None:
    async with running_worker(config_of(redis_url), HANDLERS):
        client = Client(redis_url)  # without "async with", as an application holds one
        task = await report.enqueue(client, user_id=1, rows=3)
        failing = await report.enqueue(client, user_id=-1)

        assert await task.result(wait_s=10) == Report(1, [0, 1, 2])
        with pytest.raises(TaskFailed, match="no such user") as raised:
            await failing.result()
        assert raised.value.error_type == "ValueError"
        await client.close()


async def test_a_task_that_does_not_end_is_told_and_can_be_cancelled(redis_url: str) -> None:
    async with running_worker(config_of(redis_url), HANDLERS), Client(redis_url) as client:
        task = await hold.enqueue(client)

        with pytest.raises(TaskUnfinished):
            await task.result(wait_s=0.2)
        assert await task.cancel() in ("running", "waiting")
        with pytest.raises(TaskFailed, match="cancelled") as raised:
            await task.result(wait_s=10)
        assert raised.value.error_type == "TaskCancelled"


async def test_the_synchronous_client_waits_reads_and_cancels_from_a_thread(
    redis_url: str, sync_client: SyncClient
) -> None:
    def work() -> tuple[Report, list[str], str, str]:
        task = report.enqueue(sync_client, user_id=7)
        with sync_client.updates() as updates:
            sync_client.enqueue("results_report", {"user_id": 8}, task_id="watched")
            record = sync_client.ended("watched", updates, wait_s=10)
            assert record is not None
        with sync_client.updates() as updates:
            sync_client.enqueue("results_report", {"user_id": 9}, task_id="heard")
            seen: list[str] = []
            while "completed" not in seen:
                message = updates.next(timeout_s=10)
                assert message is not None
                if message["task_id"] == "heard":
                    seen.append(message["status"])
        held = hold.enqueue(sync_client)
        found = held.cancel()
        with pytest.raises(TaskFailed, match="cancelled"):
            held.result(wait_s=10)
        delayed = report.options(delay_s=500).enqueue(sync_client, user_id=1)
        return task.result(wait_s=10), seen, found, sync_client.promote(delayed.task_id).found

    async with running_worker(config_of(redis_url), HANDLERS):
        value, seen, found, promoted = await anyio.to_thread.run_sync(work)

    assert value == Report(7, [0, 1])
    assert seen == ["running", "completed"]
    assert found in ("running", "waiting")
    assert promoted == "hurried"


def test_threads_share_a_synchronous_client(redis_url: str, sync_client: SyncClient) -> None:
    def push(number: int) -> None:
        for user_id in range(20):
            report.enqueue(sync_client, user_id=number * 100 + user_id)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with redis.Redis.from_url(redis_url) as server:
        found = {msgspec.json.decode(one)["args"]["user_id"] for one in server.lrange("strategy_queue", 0, -1)}
    assert found == {number * 100 + user_id for number in range(8) for user_id in range(20)}


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}])
async def test_connections_of_the_host_program_are_used_and_left_open(redis_url: str, options: dict[str, Any]) -> None:
    mine = redis.asyncio.Redis.from_url(redis_url, **options)
    theirs = redis.Redis.from_url(redis_url, **options)
    async with running_worker(config_of(redis_url, worker=WorkerConfig(slots=2)), HANDLERS):
        async with Client(redis=mine) as client:
            task = await report.options(unique_key="k").enqueue(client, user_id=1)
            assert await task.result(wait_s=10) == Report(1, [0, 1])
        with SyncClient(redis=theirs) as sync_client:
            other = report.enqueue(sync_client, user_id=2)
            waited = await anyio.to_thread.run_sync(lambda: other.result(wait_s=10))
            assert waited == Report(2, [0, 1])

    assert await mine.ping()
    assert theirs.ping()
    await mine.aclose()
    theirs.close()
