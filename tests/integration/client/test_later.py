"""Tasks enqueued for later: what becomes of them in Redis, and when a worker starts them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from redis.exceptions import ResponseError

from aworker import NewTask
from aworker.client.client import Client
from aworker.clock import parse_rfc3339
from aworker.config import WorkerConfig
from aworker.errors import ConfigError, PayloadInvalid
from aworker.execution.context import Context
from tests.kit.queue_scripts import NORMAL, NOW_MS, PRIORITY, Level, New, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

IN_2030 = datetime(2030, 6, 1, 9, 30, tzinfo=ZoneInfo("Europe/Berlin"))


def due_s(queue: QueueScripts) -> list[float]:
    return [due_ms / 1000 for _, due_ms in queue.client.zrange("aworker:delayed", 0, -1, withscores=True)]


@pytest.mark.parametrize(
    "at",
    [
        IN_2030,
        IN_2030.astimezone(timezone(timedelta(hours=-7))),
        IN_2030.timestamp(),
        int(IN_2030.timestamp()),
        "2030-06-01T07:30:00Z",
        "2030-06-01T09:30:00+02:00",
        " 2030-06-01 07:30:00.000000 +00:00 ",
        "2030-06-01T07:30Z",
    ],
)
async def test_an_instant_is_said_in_many_ways(queue: QueueScripts, redis_url: str, at: Any) -> None:
    async with Client(redis_url) as client:
        await client.enqueue("alert", {"strategy_id": 1}, task_id="t", at=at)

    (payload,) = map(json.loads, queue.delayed())
    assert due_s(queue) == [IN_2030.timestamp()]
    assert parse_rfc3339(payload["created_at"]) == IN_2030.timestamp()
    assert {name: payload[name] for name in ("task_id", "task_type", "args", "priority")} == {
        "task_id": "t",
        "task_type": "alert",
        "args": {"strategy_id": 1},
        "priority": "normal",
    }
    assert queue.client.exists(NORMAL, PRIORITY) == 0


async def test_a_delay_counts_on_the_servers_clock(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, _ = queue.client.time()
    monkeypatch.setattr("aworker.client.later.now_s", lambda: 12.0)  # a host whose clock is far off

    async with Client(redis_url) as client:
        await client.enqueue("alert", delay_s=3_600)

    assert 3_599 <= due_s(queue)[0] - seconds <= 3_660


@pytest.mark.parametrize(
    "when",
    [
        {"delay_s": -1},
        {"delay_s": -0.001},
        {"delay_s": float("nan")},
        {"delay_s": float("inf")},
        {"delay_s": "5"},
        {"delay_s": True},
        {"delay_s": 4e8},
        {"delay_s": timedelta(seconds=3)},
        {"at": datetime(2030, 1, 1)},
        {"at": "2030-06-01T07:30:00"},
        {"at": "2030-06-01"},
        {"at": "tomorrow"},
        {"at": ""},
        {"at": "2030-02-30T07:30:00Z"},
        {"at": float("nan")},
        {"at": True},
        {"at": datetime(2099, 1, 1, tzinfo=UTC)},
        {"at": 4e12},
        {"at": IN_2030, "delay_s": 1},
    ],
)
async def test_what_is_no_time_is_refused_and_leaves_nothing(
    queue: QueueScripts, redis_url: str, when: dict[str, Any]
) -> None:
    async with Client(redis_url) as client:
        with pytest.raises(
            PayloadInvalid, match=r"^(at|delay_s)( and at)? must .*, (was|were|\S+ has none|.* has none)"
        ):
            await client.enqueue_many([("alert", {}), NewTask(task_type="alert", **when)])

    assert queue.client.keys("*") == []


async def test_no_delay_is_a_plain_push(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        await client.enqueue("alert", delay_s=0)

    assert queue.client.llen(NORMAL) == 1


async def test_many_are_delayed_each_to_its_time_and_list(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        await client.enqueue_many(
            [
                NewTask(task_type="create_strategy", task_id="b", at=IN_2030 + timedelta(seconds=1)),
                NewTask(task_type="alert", task_id="a", at=IN_2030),
                NewTask(task_type="alert", task_id="now"),
            ]
        )

    assert [json.loads(payload)["task_id"] for payload in queue.delayed()] == ["a", "b"]
    assert [json.loads(payload)["task_id"] for payload in queue.waiting()] == ["now"]
    members = queue.client.zrange("aworker:delayed", 0, -1)
    assert [member.split(b'"')[1].decode() for member in members] == [NORMAL, PRIORITY]


async def test_plain_delivery_has_nobody_who_puts_a_delayed_task_back(redis_url: str) -> None:
    config = config_of(redis_url, worker=WorkerConfig(delivery="at-most-once"))

    async with Client(config=config) as client:
        with pytest.raises(ConfigError, match=r"worker\.delivery must be leased"):
            await client.enqueue("alert", delay_s=5)


def enqueue(queue: QueueScripts, *names: str, name: str = NORMAL) -> None:
    queue.enqueue(*(New("at", NOW_MS + at, name, task(task_id)) for at, task_id in enumerate(names)))


@pytest.mark.parametrize("take_from", ["left", "right"])
def test_due_tasks_stand_behind_all_that_waits_in_the_order_of_their_times(queue: QueueScripts, take_from: str) -> None:
    levels = (Level(NORMAL, take_from=take_from),)
    push = queue.client.rpush if take_from == "left" else queue.client.lpush
    push(NORMAL, task("x"), task("y"))
    enqueue(queue, "a", "b", "c")

    queue.due(now_ms=NOW_MS + 10, levels=levels)

    assert queue.claim(want=5, levels=levels).payloads == [task(name) for name in "xyabc"]


def test_due_tasks_on_an_empty_list_keep_their_order_with_what_is_pushed_after(queue: QueueScripts) -> None:
    for second, name in enumerate("abc"):
        queue.enqueue(New("at", NOW_MS + second * 1000, NORMAL, task(name, f"2026-09-21T14:13:2{second}Z")))
    queue.due(now_ms=NOW_MS + 2_500)
    queue.client.rpush(NORMAL, task("x", "2026-09-21T14:13:23Z"))

    taken = [payload for step in range(4) for payload in queue.claim(now_ms=NOW_MS + 5_000 * (step + 1)).payloads]

    assert [json.loads(payload)["task_id"] for payload in taken] == ["a", "b", "c", "x"]


def test_a_task_whose_list_is_none_is_looked_at_again_a_second_later(queue: QueueScripts) -> None:
    enqueue(queue, "a")
    queue.client.set(NORMAL, "no list")

    assert queue.due_and_next() == (0, 1_000)

    queue.client.delete(NORMAL)
    assert queue.due_and_next(now_ms=NOW_MS + 1_000) == (1, -1)


@pytest.mark.parametrize("member", [b"", b"rubbish", b'x "strategy_queue"\n{}', b'7 "strategy_queue" {}', b"\xff\x00"])
def test_what_somebody_put_there_in_another_form_is_a_dead_letter(queue: QueueScripts, member: bytes) -> None:
    queue.client.zadd("aworker:delayed", {member: NOW_MS - 1})

    assert queue.due_and_next() == (1, -1)

    assert queue.dead() == [member]
    assert int(queue.client.get("aworker:dead_bytes")) == len(member)


def test_a_full_server_takes_no_new_task_and_loses_none(full_queue: QueueScripts) -> None:
    enqueue(full_queue, "a")
    full_queue.fill_server()

    with pytest.raises(ResponseError, match="maxmemory"):
        enqueue(full_queue, "b")

    assert full_queue.due(now_ms=NOW_MS + 10) == 1
    assert full_queue.waiting() == [task("a")]


async def test_delayed_tasks_all_start_and_none_before_its_time(redis_url: str) -> None:
    late_s: list[float] = []

    async def note(args: dict[str, Any], context: Context) -> dict[str, Any]:
        late_s.append(time.time() - args["due_s"])
        return {}

    config = config_of(redis_url)
    async with Client(config=config) as client, running_worker(config, {"note": note}):
        now_s = time.time()
        for index in range(40):
            at_s = now_s + 0.2 + 0.03 * index
            await client.enqueue("note", {"due_s": at_s}, at=at_s)

        async def all_ran() -> bool:
            return len(late_s) == 40

        await eventually(all_ran)

    assert min(late_s) >= 0


async def test_a_delayed_task_is_cancelled_and_never_starts(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        task_id = await client.enqueue("alert", delay_s=600)

        assert await client.cancel(task_id) == "waiting"

        record = await client.result(task_id)
    assert record is not None
    assert record["data"]["error_type"] == "TaskCancelled"
    assert queue.delayed() == []


@pytest.mark.parametrize("side", ["rpush", "lpush"])
async def test_a_delayed_task_that_is_promoted_is_taken_next_and_turns_nothing_around(
    queue: QueueScripts, redis_url: str, side: str
) -> None:
    getattr(queue.client, side)(NORMAL, task("x", "2026-09-21T14:00:00Z"), task("y", "2026-09-21T14:10:00Z"))
    async with Client(redis_url) as client:
        await client.enqueue("alert", task_id="soon", delay_s=600)

        moved = await client.promote("soon")

    assert (moved.found, moved.queue) == ("hurried", "normal")
    now_ms = int(time.time() * 1000)
    taken = [payload for step in range(3) for payload in queue.claim(now_ms=now_ms + 5_000 * step).payloads]
    assert [json.loads(payload)["task_id"] for payload in taken] == ["soon", "x", "y"]


async def test_more_than_a_batch_that_is_due_at_once_all_runs(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aworker.queues.lane.leased.DUE_BATCH", 5)
    ran: list[str] = []

    async def due(args: dict[str, Any], context: Context) -> dict[str, Any]:
        ran.append(context.task_id)
        return {}

    config = config_of(redis_url, worker=WorkerConfig(slots=8, reserved={}))
    async with Client(config=config) as client, running_worker(config, {"due": due}):
        at_s = time.time() + 0.3
        task_ids = await client.enqueue_many([NewTask(task_type="due", at=at_s) for _ in range(11)])

        async def all_ran() -> bool:
            return len(ran) == len(task_ids)

        await eventually(all_ran)

    assert sorted(ran) == sorted(task_ids)
