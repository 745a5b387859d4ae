"""A worker's lane on a real server: group commit, bells, lost replies, limits, and what is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from loguru import logger

from aworker.config import Config, LiveConfig, QueueConfig, ResultsConfig, WorkerConfig
from aworker.lease import Lease
from aworker.outcome import Completed, Failed, Rejected, Retried, Returned
from aworker.queues.lane.leased import LeasedQueue, open_leased_queue
from aworker.task import Task
from tests.chaos.proxy import Proxy
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.workers import config_of, eventually

DEEP = b'{"status": "completed", "updated_at": "2999-01-01T00:00:00Z", "data": ' + b"[" * 9_999 + b"]" * 9_999 + b"}"
DONE = Completed({"success": True})


def settings_of(url: str, *, slots: int = 8, **worker: Any) -> Config:
    return config_of(
        url,
        worker=WorkerConfig(slots=slots, **{"reserved": {}, **worker}),
        results=ResultsConfig(repeat_fast_after_s=0),
    )


@asynccontextmanager
async def lane_of(
    config: Config, worker_id: str = "w1", limits: Callable[[], Mapping[str, int]] = dict
) -> AsyncIterator[LeasedQueue]:
    async with open_leased_queue(LiveConfig(config), worker_id, limits) as queue:
        yield queue


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    opened = Proxy(int(redis_url.rsplit(":", 1)[1].split("/")[0]))
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def log() -> Any:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="DEBUG")
    yield lines
    logger.remove(sink)


async def claim(queue: LeasedQueue) -> Lease:
    with anyio.fail_after(10):
        lease = await queue.claim()
    assert lease is not None
    return lease


async def claim_many(queue: LeasedQueue, count: int) -> list[Lease]:
    with anyio.fail_after(10):
        leases = await asyncio.gather(*(queue.claim() for _ in range(count)))
    return [lease for lease in leases if lease is not None]


async def settled(queue: LeasedQueue, lease: Lease, outcome: Any = DONE) -> bool:
    done: list[bool] = []
    queue.settle(lease, outcome, 0.1, lambda flag, _: done.append(flag))
    await eventually(lambda: _value(done))
    return done[0]


async def _value(value: Any) -> Any:
    return value


# Round trips.


async def test_slots_that_wait_at_the_same_moment_share_one_round_trip(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(8)))
    async with lane_of(settings_of(redis_url)) as lane:
        leases = await claim_many(lane, 8)

        assert [lease.payload for lease in leases] == [task(f"t{index}") for index in range(8)]
        assert lane.round_trips == 1
        for lease in leases:
            lane.settle(lease, DONE, 0.0)


async def test_an_idle_lane_sends_nothing_but_its_bells(queue: QueueScripts, redis_url: str) -> None:
    async with lane_of(settings_of(redis_url)) as lane, anyio.create_task_group() as group:
        group.start_soon(lane.claim)
        await eventually(lambda: _bells(queue, 2))
        queue.client.config_resetstat()
        await anyio.sleep(0.3)
        stats = queue.client.info("commandstats")

        await lane.drain()

    assert set(stats) <= {"cmdstat_config|resetstat", "cmdstat_info"}


async def _bells(queue: QueueScripts, count: int) -> bool:
    return [client["cmd"] for client in queue.client.client_list()].count("blmove") == count


@pytest.mark.parametrize("waits", [True, False])
async def test_a_claim_can_be_proven_without_claiming(queue: QueueScripts, redis_url: str, waits: bool) -> None:
    async with lane_of(settings_of(redis_url)) as lane, anyio.create_task_group() as group:
        if waits:
            group.start_soon(lane.claim)
            await eventually(lambda: _bells(queue, 2))
        else:
            queue.client.lpush(NORMAL, task("stays"))
            assert lane.claim_age_s == float("inf")
        before = lane.lane.claim_answered_at
        lane.prove_claims(0)
        await eventually(lambda: _value(lane.lane.claim_answered_at > before))

        assert queue.client.zscore(queue.keys.workers, "w1") is not None
        assert queue.client.hlen(queue.keys.leases("w1")) == 0
        assert queue.client.llen(NORMAL) == (not waits)
        await lane.drain()


async def test_a_server_that_takes_no_writes_proves_nothing(queue: QueueScripts, redis_url: str) -> None:
    async with lane_of(settings_of(redis_url)) as lane:
        lane.prove_claims(0)
        await eventually(lambda: _value(lane.claim_age_s < 5))
        queue.client.replicaof("127.0.0.1", 1)
        try:
            asked_at = time.monotonic()
            lane.prove_claims(0)
            await eventually(lambda: _value(lane.health.is_up is False))
            assert lane.claim_age_s > time.monotonic() - asked_at
        finally:
            queue.client.replicaof("NO", "ONE")
        await eventually(lambda: _value(lane.claim_age_s < time.monotonic() - asked_at))


@pytest.mark.parametrize("name", [PRIORITY, NORMAL])
@pytest.mark.parametrize("side", ["rpush", "lpush"])
async def test_a_push_wakes_an_idle_lane(queue: QueueScripts, redis_url: str, name: str, side: str) -> None:
    async with lane_of(settings_of(redis_url)) as lane, anyio.create_task_group() as group:
        found: list[Lease] = []

        async def wait() -> None:
            found.append(await claim(lane))

        group.start_soon(wait)
        await eventually(lambda: _bells(queue, 2))

        getattr(queue.client, side)(name, task("a"))

        await eventually(lambda: _value(found))
        assert (found[0].queue, found[0].payload) == (name, task("a"))
        assert await settled(lane, found[0])


async def test_an_idle_lane_wakes_for_every_push(queue: QueueScripts, redis_url: str) -> None:
    async with lane_of(settings_of(redis_url)) as lane:
        for index in range(50):
            queue.client.rpush(NORMAL, task(f"t{index}"))
            assert await settled(lane, await claim(lane))

    assert queue.left_behind() == []


async def test_a_full_server_serves_an_idle_lane(full_queue: QueueScripts, redis_url: str) -> None:
    queue = full_queue
    queue.client.rpush(NORMAL, task("a"))
    queue.fill_server()
    async with lane_of(settings_of(redis_url)) as lane:
        first = await claim(lane)
        assert await settled(lane, first)
        async with anyio.create_task_group() as group:
            group.start_soon(lane.claim)
            await eventually(lane.is_idle)
            await lane.drain()

    assert queue.client.get("task_result:a") is not None


# Lost replies.


async def test_a_claim_whose_reply_is_lost_is_answered_with_the_same_leases(
    queue: QueueScripts, proxy: Proxy, log: list[str]
) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(8)))
    proxy.cut_replies(1)
    async with lane_of(settings_of(f"redis://127.0.0.1:{proxy.port}/0")) as lane:
        leases = await claim_many(lane, 3)

        assert proxy.cuts == 1
        assert [lease.payload for lease in leases] == [task("t0"), task("t1"), task("t2")]
        assert queue.leased() == [lease.payload for lease in leases]
        for lease in leases:
            assert await settled(lane, lease)

    assert sum("is unavailable" in line for line in log) == 1
    assert sum("is back" in line and "unavailable" not in line for line in log) == 1
    assert queue.left_behind() == [NORMAL]


async def test_a_settle_whose_reply_is_lost_is_known_to_have_been_done(queue: QueueScripts, proxy: Proxy) -> None:
    queue.client.lpush(NORMAL, task("a"))
    async with lane_of(settings_of(f"redis://127.0.0.1:{proxy.port}/0")) as lane:
        lease = await claim(lane)
        heard = queue.client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("worker_task_updates")
        heard.get_message(timeout=1)
        proxy.cut_replies(1)

        done = await settled(lane, lease)

        assert proxy.cuts == 1
        assert done
        assert heard.get_message(timeout=1) is not None
        assert heard.get_message(timeout=0.1) is None
        heard.close()
    assert queue.left_behind() == []


async def test_replies_lost_again_and_again_lose_and_double_nothing(queue: QueueScripts, proxy: Proxy) -> None:
    payloads = [task(f"t{index}") for index in range(60)]
    queue.client.lpush(NORMAL, *payloads)
    taken: list[bytes] = []

    async def slot(lane: LeasedQueue) -> None:
        while lease := await lane.claim():
            taken.append(lease.payload)
            if len(taken) % 7 == 0:
                proxy.cut_replies(1)
            lane.settle(lease, DONE, 0.0)
            if len(taken) >= 60:
                await lane.drain()

    async with lane_of(settings_of(f"redis://127.0.0.1:{proxy.port}/0")) as lane:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(slot, lane)

    assert sorted(taken) == sorted(payloads)
    assert queue.everywhere().total() == 0
    assert len(queue.client.keys("task_result:*")) == 60


async def test_leases_that_were_never_heard_of_go_back(queue: QueueScripts, redis_url: str, log: list[str]) -> None:
    queue.client.lpush(NORMAL, task("a"), task("b"), task("c"))
    queue.claim("w1", want=2)
    async with lane_of(settings_of(redis_url)) as lane:
        lane.audit()

        await eventually(lambda: _value(len(queue.waiting()) == 3))

        assert queue.leased("w1") == []
        assert [lease.payload for lease in await claim_many(lane, 3)] == [task("a"), task("b"), task("c")]
    assert any("claimed unheard" in line for line in log)


async def test_a_lease_that_is_gone_stops_its_handler_and_writes_nothing(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        lease = await claim(lane)
        stopped: list[bool] = []
        lease.on_lost = lambda: stopped.append(True)
        queue.reclaim("w2", now_ms=queue.client.time()[0] * 1000 + 60_000)

        lane.audit()
        await eventually(lambda: _value(stopped))

        assert not await settled(lane, lease)
    assert queue.client.get("task_result:a") is None
    assert queue.leased("w2") == [task("a")]


async def test_the_first_refused_write_stops_the_handlers_beside_it(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("a"), task("b"))
    async with lane_of(settings_of(redis_url)) as lane:
        ended, running = await claim_many(lane, 2)
        stopped: list[bool] = []
        running.on_lost = lambda: stopped.append(True)
        queue.reclaim("w2", now_ms=queue.client.time()[0] * 1000 + 60_000)

        assert not await settled(lane, ended)

        await eventually(lambda: _value(stopped))


async def test_the_first_refused_write_stops_the_handler(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        lease = await claim(lane)
        queue.reclaim("w2", now_ms=queue.client.time()[0] * 1000 + 60_000)
        assert isinstance(lease.task, Task)

        lane.started(lease, lease.task)

        await eventually(lambda: _value(lease.lost))
        assert queue.client.get("task_result:a") is None
        assert queue.client.get("task_assignment:a") is None
        assert not await settled(lane, lease)


async def test_a_server_that_forgot_its_scripts_is_told_them_again(queue: QueueScripts, redis_url: str) -> None:
    async with lane_of(settings_of(redis_url)) as lane:
        for index in range(5):
            queue.client.script_flush()
            queue.client.rpush(NORMAL, task(f"t{index}"))
            lease = await claim(lane)
            queue.client.script_flush()
            assert await settled(lane, lease)

    assert queue.left_behind() == []


async def test_connections_that_are_dropped_lose_nothing(queue: QueueScripts, redis_url: str) -> None:
    taken: list[bytes] = []

    async def slot(lane: LeasedQueue) -> None:
        while lease := await lane.claim():
            taken.append(lease.payload)
            lane.settle(lease, DONE, 0.0)

    async with lane_of(settings_of(redis_url)) as lane, anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(slot, lane)
        for index in range(60):
            queue.client.rpush(NORMAL, task(f"t{index}"))
            await lane.drop_connections()
            await anyio.sleep(0.005)
        await eventually(lambda: _value(len(taken) >= 60))
        await lane.drain()

    assert sorted(taken) == sorted(task(f"t{index}") for index in range(60))
    assert queue.left_behind() == []


@pytest.mark.parametrize(
    "stored", [None, b"", b"\xff", b"[]", b"{}", b'{"status": "completed", "updated_at": 5}', b"[" * 100_000, DEEP]
)
async def test_whatever_stands_under_the_name_of_a_record_harms_nobody(
    queue: QueueScripts, redis_url: str, stored: bytes | None
) -> None:
    if stored is None:
        queue.client.hset("task_result:a", "field", "no record")
    else:
        queue.client.set("task_result:a", stored)
    queue.client.rpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        lease = await claim(lane)
        assert isinstance(lease.task, Task)

        reason = await lane.duplicate_reason(lease, lease.task)

        assert lease.duplicate_of == "record"
        assert reason is None
        assert await settled(lane, lease)


# Who may start.


async def test_reserved_slots_take_only_from_their_level(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, *(task(f"n{index}") for index in range(10)))
    async with lane_of(settings_of(redis_url, reserved={"priority": 2})) as lane, anyio.create_task_group() as group:
        found: list[Lease] = []

        async def wait() -> None:
            if lease := await lane.claim():
                found.append(lease)

        for _ in range(8):
            group.start_soon(wait)
        await eventually(lambda: _value(len(found) == 6))
        await anyio.sleep(0.05)
        assert len(found) == 6

        queue.client.lpush(PRIORITY, task("p1"), task("p2"))

        await eventually(lambda: _value(len(found) == 8))
        assert [lease.payload for lease in found[6:]] == [task("p1"), task("p2")]
        await lane.drain()


async def test_a_type_at_its_limit_is_left_until_one_of_its_tasks_ends(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("b1"), task("b2"), task("s", task_type="screening"))
    async with (
        lane_of(settings_of(redis_url), limits=lambda: {"backtest": 1}) as lane,
        anyio.create_task_group() as group,
    ):
        first, second = await claim_many(lane, 2)
        found: list[Lease] = []

        async def wait() -> None:
            if lease := await lane.claim():
                found.append(lease)

        group.start_soon(wait)
        await anyio.sleep(0.1)

        assert [first.payload, second.payload] == [task("b1"), task("s", task_type="screening")]
        assert found == []
        assert queue.waiting() == [task("b2")]
        lane.settle(first, DONE, 0.0)
        await eventually(lambda: _value(found))
        assert found[0].payload == task("b2")


@pytest.mark.parametrize("side", ["lpush", "rpush"])
async def test_a_task_pushed_behind_a_long_held_back_backlog_is_found_in_a_few_asks(
    queue: QueueScripts, redis_url: str, side: str
) -> None:
    def push(*payloads: bytes) -> None:
        getattr(queue.client, side)(NORMAL, *payloads)

    push(
        *(
            task(f"b{number:05}", created_at=f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z")
            for number in range(5_000)
        )
    )
    async with (
        lane_of(settings_of(redis_url), limits=lambda: {"backtest": 1}) as lane,
        anyio.create_task_group() as group,
    ):
        await claim(lane)
        found: list[Lease] = []

        async def wait() -> None:
            found.append(await claim(lane))

        group.start_soon(wait)
        watched = _calls(queue, "llen")
        await eventually(lambda: _value(_calls(queue, "llen") > watched + 20))  # its length is looked at
        before = lane.round_trips
        push(task("s", "2026-01-02T00:00:00Z", task_type="screening"))
        await eventually(lambda: _value(found))

        assert found[0].payload == task("s", "2026-01-02T00:00:00Z", task_type="screening")
        assert lane.round_trips - before < 30, "it was not met by walking all of them, 80 a round trip"


def _calls(queue: QueueScripts, command: str) -> int:
    return int(queue.client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_a_user_at_the_limit_holds_up_no_other(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, *(task(f"a{index}", args={"user_id": 2**60 + 1}) for index in range(5)))
    queue.client.lpush(NORMAL, task("b", args={"user_id": 2}))
    async with lane_of(settings_of(redis_url, max_per_user=2)) as lane:
        leases = await claim_many(lane, 3)

        assert [lease.task.task_id for lease in leases if isinstance(lease.task, Task)] == ["a0", "a1", "b"]


async def test_a_level_that_is_no_list_is_named_once_and_holds_up_no_other(
    queue: QueueScripts, redis_url: str, log: list[str]
) -> None:
    queue.client.set(PRIORITY, "not a list")
    async with lane_of(settings_of(redis_url)) as lane:
        for index in range(4):
            queue.client.rpush(NORMAL, task(f"t{index}"))
            assert await settled(lane, await claim(lane))
            await anyio.sleep(0.1)
        queue.client.delete(PRIORITY)
        queue.client.rpush(PRIORITY, task("p"))
        assert (await claim(lane)).payload == task("p")

    assert sum(f"{PRIORITY} must be a list" in line for line in log) == 1


# Ends.


@pytest.mark.parametrize(
    "outcome",
    [
        DONE,
        Failed("broken", "ValueError", dead_letter="handler_raised"),
        Failed("declined", "RequestDeclined"),
        Returned("released", counted=False),
        Returned("child died", counted=True),
        Retried("later", 60.0),
    ],
)
async def test_an_end_puts_a_task_in_exactly_one_place(queue: QueueScripts, redis_url: str, outcome: Any) -> None:
    queue.client.rpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        lease = await claim(lane)
        assert isinstance(lease.task, Task)
        lane.started(lease, lease.task)
        await lane.lane.flushed()

        assert await settled(lane, lease, outcome)

    ended = outcome is DONE or (isinstance(outcome, Failed) and not outcome.dead_letter)
    assert queue.everywhere().total() == (not ended)
    kept = {"aworker:dead", "aworker:dead_bytes", "aworker:delayed", "aworker:deliveries", NORMAL}
    assert set(queue.left_behind()) <= kept


async def test_a_task_that_is_never_well_ends_in_the_dead_letters(queue: QueueScripts, redis_url: str) -> None:
    queue.client.rpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        for _ in range(3):
            assert await settled(lane, await claim(lane), Returned("its child died", counted=True))

    assert queue.dead() == [task("a")]
    assert queue.left_behind() == ["aworker:dead", "aworker:dead_bytes"]


async def test_an_id_that_is_not_utf8_is_claimed_and_reclaimed_like_any_other(
    queue: QueueScripts, redis_url: str
) -> None:
    payload = b'{"task_id":"caf\xc3","task_type":"t"}'
    queue.client.rpush(NORMAL, payload)
    async with lane_of(settings_of(redis_url), "w1") as lane:
        lease = await claim(lane)
        assert (lease.payload, lease.registered) == (payload, b"caf\xc3")
        queue.client.zadd("aworker:workers", {"w1": 1})
        async with lane_of(settings_of(redis_url), "w2") as other:
            assert await other.reclaim() == 1
            back = await claim(other)
            assert (back.payload, back.registered, back.delivery) == (payload, b"caf\xc3", 2)

            assert await settled(other, back, Rejected("payload must be UTF-8", "PayloadInvalid"))

    assert queue.client.xrange("aworker:dead")[0][1][b"payload"] == payload
    assert queue.client.exists("aworker:claimed") == 0


async def test_a_drained_lane_leaves_nothing_behind(queue: QueueScripts, redis_url: str) -> None:
    queue.client.rpush(NORMAL, task("a"), task("b"))
    async with lane_of(settings_of(redis_url)) as lane:
        lease = await claim(lane)
        async with anyio.create_task_group() as group:
            group.start_soon(lane.claim)
            group.start_soon(lane.claim)
            await anyio.sleep(0.05)
            await lane.drain()
        assert await lane.claim() is None
        for other in list(lane.active.values()):
            lane.settle(other, DONE if other is lease else Returned("released", counted=False), 0.0)

    assert queue.left_behind() == [NORMAL]


async def test_a_slot_that_is_cancelled_while_it_waits_gives_its_task_back(queue: QueueScripts, redis_url: str) -> None:
    returned: list[Lease] = []
    async with lane_of(settings_of(redis_url)) as lane:

        async def wait() -> None:
            if lease := await lane.claim():
                returned.append(lease)

        for index in range(30):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    await anyio.lowlevel.checkpoint()
                    queue.client.rpush(NORMAL, task(f"t{index}"))
                    for _ in range(index % 5):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

        # What a call had returned before it was cancelled is held; all the rest goes back, once no claim is in flight.
        # The lane hears of it after Redis has done it.
        async def is_settled() -> bool:
            held = sorted(lease.payload for lease in returned)
            ids = {lease.lease_id for lease in returned}
            is_done = len(queue.waiting()) + len(returned) == 30 and sorted(queue.leased()) == held
            return is_done and lane.active.keys() == ids

        await eventually(is_settled)


async def test_a_level_with_a_fixed_end_is_taken_from_there(queue: QueueScripts, redis_url: str) -> None:
    levels = (QueueConfig(name=NORMAL, label="normal", take_from="left"),)
    queue.client.rpush(NORMAL, task("b"), task("c"))
    queue.client.lpush(NORMAL, task("a"))
    async with lane_of(msgspec.structs.replace(settings_of(redis_url), queues=levels)) as lane:
        first = await claim(lane)
        assert await settled(lane, first, Returned("released", counted=False))

        leases = await claim_many(lane, 3)

        assert [lease.payload for lease in leases] == [task("a"), task("b"), task("c")]
