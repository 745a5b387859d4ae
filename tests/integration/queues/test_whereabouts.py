"""Where a task is and what it waits for, from leases and lists as workers leave them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aworker.client.client import Client
from aworker.config import Config, QueueConfig, WorkerConfig
from aworker.queues.hand.pause import pause
from aworker.queues.hand.why import Reason, Whereabouts, find_task
from tests.kit.queue_scripts import NORMAL, PRIORITY, TTL_MS, Item, Level, QueueScripts, task


def now_ms() -> int:
    return int(time.time() * 1000) + 60_000


async def found(url: str, task_id: str, limits: dict[str, int] | None = None, **worker: Any) -> Whereabouts:
    config = Config(worker=WorkerConfig(**worker))
    async with Client(url, config=config) as client:
        return await find_task(client._redis, client.config, task_id, limits or {})


def words(whereabouts: Whereabouts) -> list[tuple[str, str]]:
    return [(reason.what, reason.worker_id) for reason in whereabouts.waits_for]


def run(queue: QueueScripts, worker: str, *payloads: bytes, name: str = NORMAL) -> None:
    """Let a worker that lives run these."""
    queue.client.lpush(name, *payloads)
    queue.claim(worker, want=len(payloads), levels=(Level(name),), now_ms=now_ms())


async def test_a_free_worker_is_about_to_take_it(queue: QueueScripts, redis_url: str) -> None:
    run(queue, "w1", task("other"))
    queue.client.lpush(NORMAL, task("it"))

    it = await found(redis_url, "it")

    assert (it.place, it.task_type, it.queue, it.before, it.length) == ("waiting", "backtest", "normal", 0, 1)
    assert it.waits_for == []


@pytest.mark.parametrize("side", ["lpush", "rpush"])
async def test_those_before_it_are_counted_from_the_taking_end(queue: QueueScripts, redis_url: str, side: str) -> None:
    queue.claim("w1", now_ms=now_ms())
    payloads = [task(f"t{index}", f"2026-09-21T14:13:2{index}Z") for index in range(5)]
    getattr(queue.client, side)(NORMAL, *payloads)
    queue.client.lpush(PRIORITY, task("p"))

    it = await found(redis_url, "t1")

    assert (it.before, it.length) == (1, 5)
    assert it.waits_for == [Reason("order", "its turn: 1 before it on its own level, 1 on priority, which goes first")]


async def test_no_worker_is_a_reason_and_one_that_lapsed_is_none(queue: QueueScripts, redis_url: str) -> None:
    queue.claim("gone", now_ms=1)
    queue.client.lpush(NORMAL, task("it"))

    it = await found(redis_url, "it")

    assert words(it) == [("no worker", "")]


async def test_slots_reservations_and_limits_are_named_for_each_worker(queue: QueueScripts, redis_url: str) -> None:
    run(queue, "full", *(task(f"f{index}", task_type="alert") for index in range(8)))
    run(queue, "reserving", *(task(f"r{index}", task_type="alert") for index in range(6)))
    run(queue, "limited", *(task(f"l{index}", args={"user_id": 7}) for index in range(3)))
    run(queue, "free", task("x", args={"user_id": 8}))
    queue.client.lpush(NORMAL, task("it", args={"user_id": "7"}))

    it = await found(redis_url, "it", {"backtest": 3}, slots=8, max_per_user=2)

    assert sorted(words(it)) == [
        ("reserved", "reserving"),
        ("slots", "full"),
        ("type limit", "limited"),
        ("user limit", "limited"),
    ]
    texts = {reason.worker_id: reason.text for reason in it.waits_for}
    assert texts["reserving"] == "a slot that is not reserved: 2 of 8 are kept for priority, the others are taken"
    assert texts["limited"] == "another task of user 7 to end: 3 run, the limit is 2"


async def test_a_task_of_the_level_that_slots_are_reserved_for_does_not_wait_for_them(
    queue: QueueScripts, redis_url: str
) -> None:
    run(queue, "w1", *(task(f"r{index}") for index in range(6)))
    queue.client.lpush(PRIORITY, task("it"))

    it = await found(redis_url, "it", slots=8)

    assert (it.queue, it.waits_for) == ("priority", [])


async def test_pauses_are_reasons(queue: QueueScripts, redis_url: str) -> None:
    queue.claim("w1", now_ms=now_ms())
    queue.client.lpush(NORMAL, task("it"))
    config = Config()
    async with Client(redis_url) as client:
        await pause(client._redis, config, queue=NORMAL)
        await pause(client._redis, config, task_type="backtest")

    it = await found(redis_url, "it")

    assert [reason.text.partition(" since")[0] for reason in it.waits_for] == [
        "the normal queue is paused",
        "backtest tasks are paused",
    ]


async def test_a_running_task_is_found_with_its_worker(queue: QueueScripts, redis_url: str) -> None:
    run(queue, "w1", task("other"))
    run(queue, "w2", task("it"), name=PRIORITY)

    it = await found(redis_url, "it")

    assert (it.place, it.worker_id, it.queue, it.delivery) == ("running", "w2", "priority", 1)
    assert it.since is not None


async def test_a_delayed_task_waits_for_its_time(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("it"))
    (claim,) = queue.claim("w1", now_ms=now_ms()).claims
    queue.settle(Item("delay", claim.lease_id, "it", "it", extras=(TTL_MS,)), now_ms=1_790_000_000_000)

    it = await found(redis_url, "it")

    assert (it.place, it.queue, it.due_at) == ("delayed", "normal", "2026-09-21T14:13:25.000000Z")
    assert words(it) == [("delay", "")]


async def test_dead_ended_and_unknown(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("dead"))
    (claim,) = queue.claim("w1", now_ms=now_ms()).claims
    fields = ("queue", NORMAL, "reason", "HandlerRaised", "task_id", "dead", "error", "no luck")
    queue.settle(Item("dead", claim.lease_id, "dead", "dead", extras=fields), now_ms=now_ms())
    queue.client.set("task_result:done", b'{"status": "completed", "data": {"queue_type": "normal"}}')
    queue.client.set("task_result:odd", b'{"status": "queued", "data": 3}')

    places = {name: await found(redis_url, name) for name in ("dead", "done", "odd", "nobody")}

    assert {name: (it.place, it.status) for name, it in places.items()} == {
        "dead": ("dead", "HandlerRaised"),
        "done": ("ended", "completed"),
        "odd": ("unknown", "queued"),
        "nobody": ("unknown", None),
    }
    assert places["dead"].error == "no luck"


async def test_what_is_no_task_does_not_hinder_looking(queue: QueueScripts, redis_url: str) -> None:
    run(queue, "w1", b"\xff\x00", b"")
    queue.client.lpush(NORMAL, b'"it"', b"\xff", task("it"))
    config = Config(queues=(QueueConfig(name="x", label="x"), QueueConfig(name=NORMAL, label="normal")))

    async with Client(redis_url, config=config) as client:
        it = await find_task(client._redis, client.config, "it", {})

    assert (it.place, it.before) == ("waiting", 2)
