"""What workers say of themselves beside their heartbeat, and the last hour by minute."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest
from loguru import logger

from aworker.clock import now_s
from aworker.config import PoolConfig, ResultsConfig, WorkerConfig, configuration_hash
from aworker.metrics import tally
from aworker.queues.presence import (
    MINUTES,
    Minute,
    Presence,
    beat_command_parts,
    decode_presence,
    percentile,
    read_minutes,
)
from aworker.queues.scripts import BEAT
from aworker.worker import heartbeat
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

FAST: dict[str, Any] = {"pool": PoolConfig(processes=1), "results": ResultsConfig(repeat_fast_after_s=0)}


def beat(queue: QueueScripts, name: str, minute: Minute, at_s: float, **fields: Any) -> None:
    names, arguments = beat_command_parts(queue.keys, Presence(name, at_s, **fields), {"normal": minute})
    arguments[4] = int(at_s)
    queue.client.eval(BEAT.text, len(names), *names, *arguments)


async def shown(queue: QueueScripts, worker_id: str) -> Presence | None:
    return decode_presence(queue.client.get(queue.keys.presence(worker_id)))


async def test_a_worker_says_what_it_runs_and_leaves_no_trace(queue: QueueScripts, redis_url: str) -> None:
    go_on = anyio.Event()

    async def hold(args: dict[str, Any], context: Any) -> None:
        await go_on.wait()

    async def quick(args: dict[str, Any], context: Any) -> None:
        pass

    config = config_of(redis_url, worker=WorkerConfig(slots=3), **FAST)
    async with running_worker(config, {"hold": hold, "presence_quick": quick}) as supervisor:
        queue.client.lpush(NORMAL, task("q", task_type="presence_quick"), task("h" * 300, task_type="hold"))

        async def running() -> Presence | None:
            found = await shown(queue, supervisor.worker_id)
            return found if found is not None and found.running and "presence_quick" in found.types else None

        found = await eventually(running)
        go_on.set()

        async def ended() -> bool:
            return "hold" in [one[1] for one in tally.recent]

        await eventually(ended)

    assert [(one.task_type, one.queue, one.delivery, len(one.task_id)) for one in found.running] == [
        ("hold", "normal", 1, 200)
    ]
    assert found.config_hash == configuration_hash(config)
    assert found.claim_age_s < 60
    assert (found.slots, found.busy, found.version != "", found.host != "") == (3, 1, True, True)
    assert found.types["presence_quick"].ended["completed"] >= 1
    assert sum(found.types["presence_quick"].run.values()) >= 1
    assert "q" in [one.task_id for one in found.recent]
    assert queue.client.exists(queue.keys.presence(supervisor.worker_id), queue.keys.beats) == 0
    minutes = read_minutes(queue.client.hgetall(queue.keys.minutes), now_s())["normal"]
    assert sum(minute.taken for minute in minutes if minute) == 2
    assert sum(minute.completed for minute in minutes if minute) == 2


async def test_a_full_server_still_hears_of_its_workers(full_queue: QueueScripts, redis_url: str) -> None:
    async def quick(args: dict[str, Any], context: Any) -> None:
        pass

    async with running_worker(config_of(redis_url, **FAST), {"quick": quick}) as supervisor:
        full_queue.fill_server()
        full_queue.client.delete(full_queue.keys.presence(supervisor.worker_id))
        assert await eventually(lambda: shown(full_queue, supervisor.worker_id))


def test_a_minute_sums_all_workers_and_an_old_one_makes_room(queue: QueueScripts) -> None:
    at_s = 1_790_000_000 // 60 * 60
    beat(queue, "w1", Minute(7, 5, 4, 1), at_s)
    beat(queue, "w2", Minute(3, 2, 2, 0), at_s + 59)
    beat(queue, "w1", Minute(1, 1, 1, 0), at_s + 60)

    (table,) = read_minutes(queue.client.hgetall(queue.keys.minutes), at_s + 61).values()
    assert table[-2:] == [Minute(3, 7, 6, 1), Minute(1, 1, 1, 0)]
    assert table[:-2] == [None] * 58

    for hour in range(1, 4):
        for minute in range(MINUTES):
            beat(queue, "w1", Minute(0, 1, 0, 0), at_s + hour * 3600 + minute * 60)
    assert queue.client.hlen(queue.keys.minutes) == MINUTES
    (table,) = read_minutes(queue.client.hgetall(queue.keys.minutes), at_s + 3 * 3600 + 3599).values()
    assert table == [Minute(0, 1, 0, 0)] * MINUTES


def test_a_worker_that_left_without_a_word_is_remembered_for_a_while(queue: QueueScripts) -> None:
    beat(queue, "gone", Minute(), 1_790_000_000)
    beat(queue, "here", Minute(), 1_790_000_500)
    assert queue.client.zcard(queue.keys.beats) == 2

    beat(queue, "here", Minute(), 1_790_000_601)
    assert queue.client.zrange(queue.keys.beats, 0, -1) == [b"here"]
    assert 0 < queue.client.ttl(queue.keys.presence("here")) <= 30


def test_other_peoples_words_are_left_out() -> None:
    now = time.time()
    fields = {b"x": b"y", b"1 normal": b"a b", b"2 normal": b"1 2 3 4 5 6 7", b"3 \xff": b"1 1 1 1 1"}
    assert read_minutes(fields, now) == {}
    assert decode_presence(b"{}") is decode_presence(b"\xff") is decode_presence(None) is None


def test_percentiles_lie_within_their_bucket() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({0: 10}, 0.5) == 0.0005
    assert percentile({3: 90, 9: 10}, 0.5) == 0.005 + 0.005 * 50 / 90
    p95 = percentile({3: 90, 9: 10}, 0.95)
    assert p95 is not None
    assert 0.5 < p95 < 1.0
    assert percentile({20: 1}, 0.5) == 3600.0


async def test_a_user_who_may_not_write_it_still_works_and_is_told_of_once(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aworker.worker.heartbeat.BEAT_INTERVAL_S", 0.05)
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    # A key of the wrong type is refused as a command that is not allowed is.
    queue.client.set(queue.keys.beats, "somebody else's")
    worker = WorkerConfig(slots=1, renew_interval_s=0.05, lease_ttl_s=2)
    try:
        async with running_worker(config_of(redis_url, worker=worker, **FAST), {"backtest": _nothing}):

            async def told() -> bool:
                return any("cannot be shown to others" in line for line in lines)

            await eventually(told)
            queue.client.lpush(NORMAL, task("works"))

            async def done() -> bool:
                return b"completed" in (queue.client.get("task_result:works") or b"")

            await eventually(done)
    finally:
        logger.remove(sink)
        queue.client.delete(queue.keys.beats)

    assert sum("cannot be shown to others" in line for line in lines) == 1


async def _nothing(args: dict[str, Any], context: Any) -> None:
    pass


async def test_a_worker_without_leases_is_seen_as_well(queue: QueueScripts, redis_url: str) -> None:
    worker = WorkerConfig(slots=2, delivery="at-most-once")
    async with running_worker(config_of(redis_url, worker=worker, **FAST), {"backtest": _nothing}) as supervisor:
        found = await eventually(lambda: shown(queue, supervisor.worker_id))
        assert (found.slots, found.delivery) == (2, "at-most-once")
        assert queue.client.zscore(queue.keys.beats, supervisor.worker_id) is not None

    assert queue.client.exists(queue.keys.presence(supervisor.worker_id), queue.keys.beats) == 0


async def test_a_worker_tells_what_it_begins_with_its_next_renewal_and_says_nothing_while_it_idles(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beats are so far apart that nothing is told by them.
    monkeypatch.setattr(heartbeat, "BEAT_INTERVAL_S", 3_600.0)
    monkeypatch.setattr(heartbeat, "LATE_S", 3_600.0)
    go_on = anyio.Event()

    async def hold(args: dict[str, Any], context: Any) -> None:
        await go_on.wait()

    config = config_of(redis_url, worker=WorkerConfig(slots=3, renew_interval_s=0.1), **FAST)
    async with running_worker(config, {"hold": hold}) as supervisor:

        async def runs(*task_ids: str) -> bool:
            found = await shown(queue, supervisor.worker_id)
            return found is not None and [one.task_id for one in found.running] == list(task_ids)

        async def renewals() -> int:
            # The deadline moves with each.
            return int(queue.client.zscore(queue.keys.workers, supervisor.worker_id))

        await eventually(runs)
        queue.client.lpush(NORMAL, task("held", task_type="hold"))
        await eventually(lambda: runs("held"))

        said = queue.client.get(queue.keys.presence(supervisor.worker_id))
        for _ in range(20):
            last = await renewals()

            async def has_renewed(last: int = last) -> bool:
                return await renewals() > last

            await eventually(has_renewed)
        assert queue.client.get(queue.keys.presence(supervisor.worker_id)) == said
        go_on.set()
        await eventually(runs)
