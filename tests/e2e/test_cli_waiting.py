"""Waiting for a task's end, with a worker played by the test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis

from aworker.cli.serving.waiting import run_task
from aworker.client.client import Client
from aworker.config import Config, RedisConfig

CHANNEL = "worker_task_updates"


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as server:
        yield server


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client(config=Config(redis=RedisConfig(url=redis_url))) as client:
        yield client


def record(status: str, number: int) -> str:
    return json.dumps({"task_id": "t", "status": status, "data": {"n": number}, "updated_at": str(number)})


async def work(server: Redis, messages: list[Any], end: str | None) -> None:
    await server.blpop(["strategy_queue"], timeout=10)
    for message in messages:
        await server.publish(CHANNEL, message)
    if end is not None:
        await server.set("task_result:t", end)
        await server.publish(CHANNEL, end)


async def run(client: Client, wait_s: float) -> tuple[dict[str, Any] | None, list[str]]:
    heard: list[str] = []
    _, found = await run_task(
        client, "echo", {}, task_id="t", wait_s=wait_s, on_progress=lambda message: heard.append(message["stage"])
    )
    return found, heard


async def test_progress_is_heard_and_the_end_returned(server: Redis, client: Client) -> None:
    progress = json.dumps({"task_id": "t", "status": "progress", "stage": "half"})
    other = json.dumps({"task_id": "another", "status": "progress", "stage": "other"})
    async with anyio.create_task_group() as group:
        group.start_soon(work, server, [other, progress], record("completed", 1))

        found, heard = await run(client, 20)

    assert found is not None
    assert found["data"] == {"n": 1}
    assert heard == ["half"]


async def test_what_others_publish_disturbs_nothing(server: Redis, client: Client) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work, server, [b"\xff", "[", "[]", "3", "null"], record("error", 1))

        found, _ = await run(client, 20)

    assert found is not None
    assert found["status"] == "error"


async def test_the_result_of_an_earlier_push_of_the_same_task_id_is_not_taken_for_this_one(
    server: Redis, client: Client
) -> None:
    await server.set("task_result:t", record("completed", 1))
    async with anyio.create_task_group() as group:
        group.start_soon(work, server, [record("failed", 1)], record("completed", 2))

        found, _ = await run(client, 20)

    assert found is not None
    assert found["data"] == {"n": 2}


async def test_no_end_in_time_gives_the_record_as_it_is(server: Redis, client: Client) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work, server, [], record("running", 1))
        found, _ = await run(client, 0.5)

    none, _ = await run(client, 0.01)

    assert found is not None
    assert found["status"] == "running"
    assert none is None, "only the record of an earlier push is there"
