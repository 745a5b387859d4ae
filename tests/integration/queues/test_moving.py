"""Promoting and demoting what waits, and what stays first-in first-out around it."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import anyio
import pytest

from aworker.client.client import Client
from aworker.clock import rfc3339
from aworker.config import Config, QueueConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.queues.hand.dead_letters import DeadLetters
from tests.kit.queue_scripts import BOTH, NORMAL, PRIORITY, Item, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

NOW_S = time.time()
NOW_MS = int(NOW_S * 1000)


def aged(task_id: str, age_s: float) -> bytes:
    return task(task_id, rfc3339(NOW_S - age_s))


def push(queue: QueueScripts, side: str, name: str, *payloads: bytes) -> None:
    getattr(queue.client, side)(name, *payloads)


def taken(queue: QueueScripts, want: int, *, one_by_one: bool = True) -> list[str]:
    """Claim with so much time in between that the ends are compared each time."""
    payloads = [
        payload
        for step in range(want if one_by_one else 1)
        for payload in queue.claim(
            want=1 if one_by_one else want, levels=BOTH, now_ms=int(time.time() * 1000) + 2_000 * (step + 1)
        ).payloads
    ]
    return [json.loads(payload)["task_id"] for payload in payloads]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
@pytest.mark.parametrize("age_s", [95.0, 55.0, 5.0])
async def test_a_promoted_task_is_the_next_one_and_the_others_keep_their_order(
    queue: QueueScripts, redis_url: str, side: str, age_s: float
) -> None:
    push(queue, side, PRIORITY, *(aged(f"p{index}", 90 - index * 10) for index in range(5)))
    push(queue, side, NORMAL, aged("n0", 99), aged("n1", age_s), aged("n2", 1))

    async with Client(redis_url) as client:
        moved = await client.promote("n1")

    assert (moved.found, moved.queue) == ("moved", "priority")
    assert taken(queue, 8) == ["n1", "p0", "p1", "p2", "p3", "p4", "n0", "n2"]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
@pytest.mark.parametrize("age_s", [99.0, 55.0, 1.0])
async def test_a_demoted_task_goes_behind_all_that_waits_and_turns_nothing_around(
    queue: QueueScripts, redis_url: str, side: str, age_s: float
) -> None:
    push(queue, side, NORMAL, *(aged(f"n{index}", 90 - index * 10) for index in range(5)))
    push(queue, side, PRIORITY, aged("p0", 100), aged("p1", age_s), aged("p2", 0.5))

    async with Client(redis_url) as client:
        moved = await client.demote("p1")

    assert (moved.found, moved.queue) == ("moved", "normal")
    assert taken(queue, 8) == ["p0", "p2", "n0", "n1", "n2", "n3", "n4", "p1"]


async def test_several_promotions_stand_in_the_reverse_order_of_their_asking(
    queue: QueueScripts, redis_url: str
) -> None:
    push(queue, "rpush", PRIORITY, aged("p0", 50), aged("p1", 40))
    push(queue, "rpush", NORMAL, *(aged(f"n{index}", 30 - index) for index in range(3)))

    async with Client(redis_url) as client:
        for name in ("n0", "n2", "n1"):
            await client.promote(name)

    assert taken(queue, 5) == ["n1", "n2", "n0", "p0", "p1"]


async def test_notes_of_what_was_moved_go_with_the_list(queue: QueueScripts, redis_url: str) -> None:
    push(queue, "rpush", PRIORITY, aged("p0", 50), aged("p1", 40))
    push(queue, "rpush", NORMAL, aged("n0", 9))
    async with Client(redis_url) as client:
        await client.promote("n0")
    assert f"moved {PRIORITY}".encode() in queue.client.hkeys("aworker:ends")

    taken(queue, 9, one_by_one=False)

    assert f"moved {PRIORITY}".encode() not in queue.client.hkeys("aworker:ends")


@pytest.mark.parametrize("take_from", ["left", "right"])
async def test_a_fixed_end_is_kept_to(queue: QueueScripts, redis_url: str, take_from: str) -> None:
    config = Config(
        queues=(
            QueueConfig(name=PRIORITY, label="priority", take_from=take_from),  # type: ignore[arg-type]
            QueueConfig(name=NORMAL, label="normal"),
        )
    )
    push(queue, "rpush", PRIORITY, aged("p0", 5), aged("p1", 4))
    push(queue, "rpush", NORMAL, aged("n0", 9))

    async with Client(redis_url, config=config) as client:
        await client.promote("n0")

    at_end = queue.waiting(PRIORITY)[0 if take_from == "left" else -1]
    assert at_end == aged("n0", 9)
    assert queue.client.hkeys("aworker:ends") == []


async def test_what_cannot_be_moved_is_said(queue: QueueScripts, redis_url: str) -> None:
    push(queue, "rpush", PRIORITY, aged("top", 5))
    push(queue, "rpush", NORMAL, aged("bottom", 4))
    queue.client.zadd("aworker:delayed", {b'7 "strategy_queue"\n' + aged("later", 3): 9e15})
    queue.client.set("task_result:done", b'{"status": "completed"}')
    push(queue, "lpush", "other", aged("runs", 2))
    queue.client.hset("aworker:claimed", "runs", 5)

    async with Client(redis_url) as client:
        answers = {
            name: await getattr(client, direction)(name)
            for direction, name in (
                ("promote", "top"),
                ("demote", "bottom"),
                ("demote", "later"),
                ("promote", "done"),
                ("demote", "runs"),
                ("promote", "nobody"),
            )
        }

    assert {name: (moved.found, moved.queue) for name, moved in answers.items()} == {
        "top": ("outermost", "priority"),
        "bottom": ("outermost", "normal"),
        "later": ("delayed", "normal"),
        "done": ("ended", ""),
        "runs": ("running", ""),
        "nobody": ("unknown", ""),
    }
    assert len(queue.waiting(PRIORITY)) == len(queue.waiting(NORMAL)) == 1


async def test_a_moved_payload_keeps_its_bytes(queue: QueueScripts, redis_url: str) -> None:
    payload = b'{ "args":{"x":1e400,"task_id":"inner"},"extra":[],  "task_id":"a\\/b","task_type":"t"}'
    push(queue, "rpush", NORMAL, task("inner"), payload, payload)

    async with Client(redis_url) as client:
        await client.promote("a/b")

    assert queue.waiting(PRIORITY) == [payload]
    assert queue.waiting(NORMAL) == [task("inner"), payload]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
async def test_a_dead_letter_that_was_put_back_turns_no_list_around(
    queue: QueueScripts, redis_url: str, side: str
) -> None:
    push(queue, side, NORMAL, aged("dead", 500))
    (claim,) = queue.claim(levels=BOTH, now_ms=NOW_MS).claims
    queue.settle(Item("dead", claim.lease_id, "dead", "dead", extras=("queue", NORMAL)), now_ms=NOW_MS)
    push(queue, side, NORMAL, *(aged(f"n{index}", 90 - index * 10) for index in range(4)))
    queue.claim(want=1, levels=BOTH, now_ms=NOW_MS + 1_000)

    async with Client(redis_url) as client:
        assert await DeadLetters(client._redis, Config()).requeue() == 1

    assert taken(queue, 4) == ["n1", "n2", "n3", "dead"]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
async def test_a_lone_task_is_passed_by_a_promoted_one_and_later_pushes_stand_behind_both(
    queue: QueueScripts, redis_url: str, side: str
) -> None:
    push(queue, side, PRIORITY, aged("p0", 50))
    push(queue, side, NORMAL, aged("n0", 40), aged("n1", 30), aged("n2", 20))

    async with Client(redis_url) as client:
        await client.promote("n1")
    push(queue, side, PRIORITY, aged("p1", 10))

    assert taken(queue, 3) == ["n1", "p0", "p1"]


async def test_moving_while_workers_claim_loses_and_doubles_nothing(redis_url: str) -> None:
    ran: Counter[str] = Counter()

    async def count(args: dict[str, Any], context: Context) -> dict[str, Any]:
        ran[context.task_id] += 1
        await anyio.sleep(0.005)
        return {}

    config = config_of(redis_url, worker=WorkerConfig(slots=2, reserved={}))
    async with Client(config=config) as client:
        task_ids = [await client.enqueue("backtest", task_id=f"t{index}") for index in range(300)]
        async with running_worker(config, {"backtest": count}), running_worker(config, {"backtest": count}):
            found: Counter[str] = Counter()
            for index in range(0, 300, 3):
                found[(await client.promote(task_ids[-1 - index])).found] += 1
                found[(await client.demote(task_ids[-1 - index // 2])).found] += 1

            async def all_ran() -> bool:
                return len(ran) == 300

            await eventually(all_ran)

        assert set(ran.values()) == {1}
        assert found["moved"] > 0
        assert await client._redis.llen(PRIORITY) == await client._redis.llen(NORMAL) == 0
