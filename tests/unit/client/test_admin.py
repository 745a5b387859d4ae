"""The operators' functions on synchronous and asyncio clients; plain commands only, so fakeredis will do."""

import json
from typing import Any

import fakeredis
import pytest

from aworker import clear_queue, get_queue_stats, peek_queue

PRIORITY, NORMAL = "strategy_queue_priority", "strategy_queue"


def task(task_id: str) -> str:
    return json.dumps({"task_id": task_id, "task_type": "backtest", "args": {}})


@pytest.fixture
def client() -> Any:
    client = fakeredis.FakeRedis()
    client.rpush(PRIORITY, task("p1"), task("p2"))
    client.lpush(NORMAL, *(task(f"n{number}") for number in range(15)))
    return client


def test_stats_count_each_level_and_the_total(client: Any) -> None:
    stats = get_queue_stats(client, "worker_123")

    assert stats.pop("timestamp").endswith("Z")
    assert stats == {
        "priority_queue_length": 2,
        "normal_queue_length": 15,
        "total_pending_tasks": 17,
        "worker_id": "worker_123",
    }


def test_clear_returns_the_number_removed_as_the_mission_prints_it(client: Any) -> None:
    cleared_count = clear_queue(client, "strategy_queue_priority")

    assert cleared_count == 2
    assert client.llen(PRIORITY) == 0
    assert client.llen(NORMAL) == 15
    assert clear_queue(client, "strategy_queue_priority") == 0


def test_peek_shows_the_next_first_and_takes_nothing(client: Any) -> None:
    shown = peek_queue(client, NORMAL, 3)

    assert [one["task_id"] for one in shown] == ["n0", "n1", "n2"]
    assert client.llen(NORMAL) == 15
    assert peek_queue(client, NORMAL, 0) == []
    assert peek_queue(client, "no_such_list") == []


def test_peek_follows_the_taking_end(client: Any) -> None:
    client.hset("aworker:ends", PRIORITY, "left 1700000000000")

    assert [one["task_id"] for one in peek_queue(client, PRIORITY)] == ["p1", "p2"]


def test_peek_shows_payloads_that_are_no_task(client: Any) -> None:
    client.delete(NORMAL)
    client.lpush(NORMAL, b"\xff{", "3")

    assert peek_queue(client, NORMAL) == [{"payload": "\\xff{"}, {"payload": "3"}]


def test_a_client_that_decodes_serves_as_well() -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    client.lpush(NORMAL, task("a"))

    assert peek_queue(client, NORMAL)[0]["task_id"] == "a"


async def test_with_an_asyncio_client_the_functions_are_awaited() -> None:
    client = fakeredis.FakeAsyncRedis()
    await client.lpush(NORMAL, task("a"), task("b"))

    assert (await get_queue_stats(client))["normal_queue_length"] == 2
    assert (await peek_queue(client, NORMAL, 1))[0]["task_id"] == "a"
    assert await clear_queue(client, NORMAL) == 2
    await client.aclose()
