"""A worker that was stopped between its claim and the handler's start does not start what is another's by now."""

from typing import Any

import anyio

from aworker.client.client import Client
from aworker.config import LiveConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.execution.executor import Executor
from aworker.execution.registry import Handler, Registry
from aworker.queues.lane.leased import open_leased_queue
from aworker.queues.upkeep.control import Control
from aworker.worker.slot import Slot
from tests.kit.workers import config_of


async def test_a_task_whose_lease_went_before_its_start_is_not_started(redis_url: str) -> None:
    started: list[str] = []

    async def note(args: dict[str, Any], context: Context) -> None:
        started.append(context.task_id)

    live = LiveConfig(config_of(redis_url, worker=WorkerConfig(lease_ttl_s=5)))
    registry = Registry()
    registry.add(Handler("note", note))
    async with Client(redis_url) as client, open_leased_queue(live, "worker_a_1_ff", dict) as queue:
        control = Control(live, queue.health)
        slot = Slot(live, queue, registry, Executor(live, None), {}, lambda: False, control)
        lost, kept = await client.enqueue("note", task_id="lost"), await client.enqueue("note", task_id="kept")
        first, second = await queue.claim(), await queue.claim()
        assert first is not None
        assert second is not None
        await client._redis.hdel(queue.keys.leases("worker_a_1_ff"), str(first.lease_id))
        for lease in (first, second):
            lease.claimed_at -= 10

        with anyio.CancelScope() as scope:
            await slot.work(first, scope)
            await slot.work(second, scope)
        with anyio.fail_after(10):
            record = await client.result(kept, wait_s=5)

        assert started == [kept]
        assert record is not None
        assert record["status"] == "completed"
        assert await client.result(lost) is None
