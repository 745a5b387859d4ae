"""Schedules on a real server: every tick once, whoever enqueues it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest

from aworker.client.client import Client
from aworker.client.ticking import LATE_MS, Ticker, due_ticks, ticks_of
from aworker.config import Config, ScheduleConfig
from aworker.execution.context import Context
from aworker.queues.hand.pause import pause, resume
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts
from tests.kit.workers import config_of, eventually, running_worker

EVERY_SECOND = ScheduleConfig(name="tick", task_type="note", every_s=1)
NOW_MS = 1_800_000_000_000


def ids(queue: QueueScripts, name: str = NORMAL) -> list[str]:
    return [json.loads(payload)["task_id"] for payload in queue.waiting(name)]


async def enqueue(config: Config, one: ScheduleConfig, *ticks_ms: int) -> list[str]:
    ticker = Ticker(config)
    try:
        return [pushed.status for pushed in await ticker.enqueue(config, [(one, tick) for tick in ticks_ms])]
    finally:
        await ticker.close()


async def test_a_tick_is_enqueued_once_and_its_id_names_it(queue: QueueScripts, redis_url: str) -> None:
    config = config_of(redis_url)
    one = ScheduleConfig(
        name="open", task_type="screening", every_s=60, args={"strategy_ids": [7]}, priority="high", overlap="queue"
    )

    assert await enqueue(config, one, NOW_MS, NOW_MS) == ["new", "ticked"]
    assert await enqueue(config, one, NOW_MS - 60_000, NOW_MS, NOW_MS + 60_500) == ["ticked", "ticked", "new"]

    first, second = (json.loads(payload) for payload in queue.waiting(PRIORITY))
    assert first == {
        "task_id": "open@2027-01-15T08:00:00Z",
        "task_type": "screening",
        "args": {"strategy_ids": [7]},
        "created_at": "2027-01-15T08:00:00.000000Z",
        "priority": "high",
    }
    assert second["task_id"] == "open@2027-01-15T08:01:00.500Z"


@pytest.mark.parametrize(("overlap", "waiting"), [("skip", [0]), ("queue", [0, 1, 2]), ("replace", [2])])
async def test_an_overlap_is_left_out_queued_or_replaced(
    queue: QueueScripts, redis_url: str, overlap: Any, waiting: list[int]
) -> None:
    one = ScheduleConfig(name="s", task_type="note", every_s=1, overlap=overlap)

    await enqueue(config_of(redis_url), one, *(NOW_MS + 1000 * at for at in range(3)))

    assert ids(queue) == [f"s@2027-01-15T08:00:0{at}Z" for at in waiting]


async def test_jitter_delays_each_tick_by_a_share_that_the_tick_decides(queue: QueueScripts, redis_url: str) -> None:
    one = ScheduleConfig(name="s", task_type="note", every_s=1, overlap="queue", jitter_s=30)

    await enqueue(config_of(redis_url), one, *(NOW_MS + 60_000 * at for at in range(20)))

    due = {
        member.split(b"s@")[1][:20]: at for member, at in queue.client.zrange("aworker:delayed", 0, -1, withscores=True)
    }
    shares = [due_ms - NOW_MS - 60_000 * at for at, (_, due_ms) in enumerate(sorted(due.items()))]
    assert len(set(shares)) > 10
    assert all(0 <= share < 30_000 for share in shares)


@pytest.mark.parametrize("catch_up", ["none", "last", "all"])
def test_what_was_missed_for_some_seconds_is_always_made_up_for(catch_up: Any) -> None:
    one = ScheduleConfig(name="s", task_type="note", every_s=1, catch_up=catch_up)

    due = due_ticks(one, ticks_of(one), NOW_MS - 3_000, NOW_MS)

    assert due == [NOW_MS - 2_000, NOW_MS - 1_000, NOW_MS]


@pytest.mark.parametrize(("catch_up", "late"), [("none", 0), ("last", 0), ("all", 100)])
def test_after_an_hour_no_more_than_a_bounded_number_is_made_up_for(catch_up: Any, late: int) -> None:
    one = ScheduleConfig(name="s", task_type="note", every_s=1, catch_up=catch_up)

    due = due_ticks(one, ticks_of(one), NOW_MS - 3_600_000, NOW_MS)

    assert due == [NOW_MS - 1_000 * back for back in range(late + 9, -1, -1)]


@pytest.mark.parametrize(("catch_up", "expected"), [("none", []), ("last", [9]), ("all", [6, 7, 8, 9])])
def test_ticks_that_are_late_are_dropped_or_made_up_for(catch_up: Any, expected: list[int]) -> None:
    one = ScheduleConfig(name="s", task_type="note", cron="0 * * * *", catch_up=catch_up)
    midnight = NOW_MS - 8 * 3_600_000

    due = due_ticks(one, ticks_of(one), midnight + 5 * 3_600_000, midnight + 9 * 3_600_000 + LATE_MS + 1_001)

    assert [(tick - midnight) // 3_600_000 for tick in due] == expected


async def test_a_paused_schedule_leaves_its_ticks_out_for_good(queue: QueueScripts, redis_url: str) -> None:
    config = config_of(redis_url)
    async with Client(config=config) as client:
        await pause(client._redis, config, schedule="tick")
        assert await enqueue(config, EVERY_SECOND, NOW_MS, NOW_MS + 1000) == ["paused", "paused"]
        await resume(client._redis, config, schedule="tick")

    assert await enqueue(config, EVERY_SECOND, NOW_MS + 1000, NOW_MS + 2000) == ["ticked", "new"]
    assert ids(queue) == ["tick@2027-01-15T08:00:02Z"]


async def test_three_workers_enqueue_every_tick_once(queue: QueueScripts, redis_url: str) -> None:
    ran: list[str] = []

    async def note(args: dict[str, Any], context: Context) -> dict[str, Any]:
        ran.append(context.task_id)
        return {}

    config = config_of(redis_url, schedule=(msgspec.structs.replace(EVERY_SECOND, overlap="queue"),))
    handlers = {"note": note}
    async with (
        running_worker(config, handlers),
        running_worker(config, handlers),
        running_worker(config, handlers),
    ):

        async def some_ran() -> bool:
            return len(ran) >= 4

        await eventually(some_ran)

    last = int(queue.client.hget("aworker:schedules", "tick"))
    expected = [f"tick@{_instant(at)}" for at in range(_seconds(ran[0]), last // 1000 + 1)]
    assert sorted(ran + ids(queue)) == expected


async def test_a_schedule_that_cannot_be_enqueued_stops_no_other(redis_url: str) -> None:
    ran = anyio.Event()

    async def note(args: dict[str, Any], context: Context) -> dict[str, Any]:
        ran.set()
        return {}

    too_large = ScheduleConfig(name="large", task_type="note", every_s=1, args={"x": "x" * 2_000_000})
    config = config_of(redis_url, schedule=(too_large, EVERY_SECOND))
    async with running_worker(config, {"note": note}):
        with anyio.fail_after(20):
            await ran.wait()


def _seconds(task_id: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(task_id.partition("@")[2]).timestamp())


def _instant(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
