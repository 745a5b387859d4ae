"""Pausing levels and task types: what is paused keeps its place on every worker until it is resumed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import redis.asyncio

from aworker.client.admin import overview
from aworker.client.client import Client
from aworker.config import Config, LiveConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.queues.connection import Health
from aworker.queues.hand.pause import pause, resume
from aworker.queues.lane.leased import LeasedQueue
from aworker.queues.lane.plain import PlainQueue
from aworker.queues.pauses import find_pauses
from aworker.queues.upkeep.control import Control
from aworker.worker.supervisor import Supervisor
from tests.kit.queue_scripts import NORMAL, PRIORITY, task
from tests.kit.workers import config_of, eventually, running_worker


class Began:
    """Handlers that note which task began, and one that runs until told."""

    def __init__(self) -> None:
        self.task_ids: list[str] = []
        self.goes_on = anyio.Event()

    async def note(self, args: dict[str, Any], context: Context) -> dict[str, Any]:
        self.task_ids.append(context.task_id)
        return {}

    async def hold(self, args: dict[str, Any], context: Context) -> dict[str, Any]:
        self.task_ids.append(context.task_id)
        await self.goes_on.wait()
        return {}

    @property
    def handlers(self) -> dict[str, Any]:
        return {"backtest": self.note, "alert": self.note, "hold": self.hold}

    async def all_of(self, *task_ids: str) -> None:
        async def are_there() -> bool:
            return set(task_ids) <= set(self.task_ids)

        await eventually(are_there)


def configured(url: str, delivery: str = "leased") -> Config:
    return config_of(url, worker=WorkerConfig(slots=4, delivery=delivery))  # type: ignore[arg-type]


async def waits_at_both_levels(client: redis.asyncio.Redis) -> bool:
    waiting = [entry["cmd"] for entry in await client.client_list()]
    return waiting.count("blmove") == 2 or waiting.count("brpop") == 4


async def heeds(supervisor: Supervisor, *names: str) -> bool:
    """Whether a worker knows that just these levels are paused."""
    queue = supervisor._queue
    if isinstance(queue, LeasedQueue):
        return set(queue.lane.admission.pauses.queues) == set(names)
    return isinstance(queue, PlainQueue) and set(queue._pauses.queues) == set(names)


async def pops(client: redis.asyncio.Redis) -> int:
    """How many blocking pops have ended so far."""
    stats = await client.info("commandstats")
    return int(stats.get("cmdstat_brpop", {}).get("calls", 0))


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
async def test_a_paused_level_keeps_what_waits_while_the_other_goes_on(redis_url: str, delivery: str) -> None:
    config, began = configured(redis_url, delivery), Began()
    async with Client(config=config) as client, running_worker(config, began.handlers) as supervisor:
        redis_client = client._redis
        await eventually(lambda: waits_at_both_levels(redis_client))
        popped = await pops(redis_client)
        assert await pause(redis_client, config, queue=NORMAL)
        await eventually(lambda: heeds(supervisor, NORMAL))
        if delivery == "at-most-once":
            await eventually(lambda: _has_popped(redis_client, popped + 4))
        await redis_client.rpush(NORMAL, task("n1"), task("n2"))
        for index in range(5):
            await client.enqueue("backtest", task_id=f"p{index}", priority="high")
            await began.all_of(f"p{index}")

        assert not {"n1", "n2"} & set(began.task_ids)
        assert await redis_client.llen(NORMAL) == 2

        assert await resume(redis_client, config, queue=NORMAL)
        await began.all_of("n1", "n2")


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
async def test_with_every_level_paused_nothing_starts_and_the_worker_still_drains(
    redis_url: str, delivery: str
) -> None:
    config, began = configured(redis_url, delivery), Began()
    async with Client(config=config) as client:
        redis_client = client._redis
        for name in (PRIORITY, NORMAL):
            await pause(redis_client, config, queue=name)
            await redis_client.rpush(name, task(name))

        async with running_worker(config, began.handlers) as supervisor:
            await eventually(lambda: heeds(supervisor, PRIORITY, NORMAL))

        assert began.task_ids == []
        assert await redis_client.llen(PRIORITY) == await redis_client.llen(NORMAL) == 1


async def test_a_paused_type_is_passed_over_and_keeps_its_place(redis_url: str) -> None:
    config, began = configured(redis_url), Began()
    async with Client(config=config) as client:
        redis_client = client._redis
        await pause(redis_client, config, task_type="backtest")
        async with running_worker(config, began.handlers):
            await redis_client.lpush(NORMAL, task("b1"), task("a1", task_type="alert"), task("b2"))
            await redis_client.lpush(NORMAL, task("a2", task_type="alert"))
            await began.all_of("a1", "a2")

            assert await redis_client.lrange(NORMAL, 0, -1) == [task("b2"), task("b1")]

            await resume(redis_client, config, task_type="backtest")
            await began.all_of("b1", "b2")
        assert began.task_ids.index("b1") < began.task_ids.index("b2")


async def test_running_tasks_go_on(redis_url: str) -> None:
    config, began = configured(redis_url), Began()
    async with Client(config=config) as client, running_worker(config, began.handlers):
        await client.enqueue("hold", task_id="runs")
        await began.all_of("runs")
        await pause(client._redis, config, task_type="hold")
        await pause(client._redis, config, queue=NORMAL)
        began.goes_on.set()

        record = await client.result("runs", wait_s=20)

    assert record is not None
    assert record["status"] == "completed"


async def test_every_worker_heeds_a_pause_also_after_its_connections_were_cut(redis_url: str) -> None:
    config, first, second = configured(redis_url), Began(), Began()
    async with (
        Client(config=config) as client,
        running_worker(config, first.handlers) as one,
        running_worker(config, second.handlers) as other,
    ):
        redis_client = client._redis
        await pause(redis_client, config, queue=NORMAL)
        await eventually(lambda: heeds(one, NORMAL))
        await eventually(lambda: heeds(other, NORMAL))
        await redis_client.client_kill_filter(_type="normal", skipme=True)
        await redis_client.client_kill_filter(_type="pubsub", skipme=True)
        await redis_client.rpush(NORMAL, task("n"))
        for index in range(5):
            await client.enqueue("alert", task_id=f"p{index}", queue=PRIORITY)
            await client.result(f"p{index}", wait_s=20)

        assert await redis_client.lrange(NORMAL, 0, -1) == [task("n")]

        await resume(redis_client, config, queue=NORMAL)
        record = await client.result("n", wait_s=20)

    assert record is not None
    assert record["status"] == "completed"


async def test_a_pause_is_heard_of_at_the_next_connect_where_its_message_was_missed(redis_url: str) -> None:
    config, began = configured(redis_url), Began()
    async with Client(config=config) as client, running_worker(config, began.handlers) as supervisor:
        redis_client = client._redis
        await eventually(lambda: redis_client.pubsub_channels())
        # As pause does, but without its message.
        await redis_client.hset("aworker:paused", f"queue {NORMAL}", "1.5")
        await redis_client.client_kill_filter(_type="pubsub", skipme=True)
        await eventually(lambda: heeds(supervisor, NORMAL))
        await redis_client.rpush(NORMAL, task("n"))
        await client.enqueue("alert", task_id="p", queue=PRIORITY)
        await began.all_of("p")

        assert await redis_client.llen(NORMAL) == 1


async def test_pausing_twice_keeps_the_first_instant_and_stats_show_it(redis_url: str) -> None:
    config = config_of(redis_url)
    async with Client(config=config) as client:
        redis_client = client._redis
        assert await pause(redis_client, config, queue=NORMAL)
        before = await find_pauses(redis_client, config)

        assert not await pause(redis_client, config, queue=NORMAL)
        assert await pause(redis_client, config, task_type="alert")
        await redis_client.hset("aworker:paused", mapping={"queue x": "nonsense", "something": "1"})

        after = await find_pauses(redis_client, config)
        assert after.queues == before.queues == {NORMAL: before.queues[NORMAL]}
        assert list(after.task_types) == ["alert"]
        found = await overview(redis_client, config)
        assert [queue["paused"] for queue in found["queues"]] == [False, True]
        assert found["paused_task_types"] == ["alert"]
        assert not await resume(redis_client, config, queue=PRIORITY)


async def _has_popped(client: redis.asyncio.Redis, count: int) -> bool:
    return await pops(client) >= count


async def test_a_control_connection_that_is_cut_looks_at_once(redis_url: str) -> None:
    config = config_of(redis_url)
    control = Control(LiveConfig(config), Health("the server"))
    heard: list[set[str]] = []
    async with Client(config=config) as client, anyio.create_task_group() as group:
        group.start_soon(control.listen, lambda task_id: None, lambda pauses: heard.append(set(pauses.queues)))
        await eventually(lambda: client._redis.pubsub_channels())
        await client._redis.hset("aworker:paused", f"queue {NORMAL}", "1.5")

        control.drop()

        async def is_heard() -> bool:
            return heard == [{NORMAL}]

        await eventually(is_heard)
        group.cancel_scope.cancel()
