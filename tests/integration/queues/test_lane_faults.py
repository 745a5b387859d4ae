"""Faults of the hot path that lose nothing at once and show only later: each test fails with its fault planted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from aworker.lease import Lease
from tests.integration.queues.test_lane import DONE, claim, lane_of, settings_of, settled
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import eventually


async def test_a_lease_is_as_old_as_its_claim_however_late_the_reply(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.client.lpush(NORMAL, task("a"))
    async with lane_of(settings_of(redis_url)) as lane:
        answered = lane.lane._answered

        async def answered_late(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
            replies = await answered(list(commands))
            await anyio.sleep(0.3)  # the process was stopped: the lease runs all the same
            return replies

        monkeypatch.setattr(lane.lane, "_answered", answered_late)
        lease = await claim(lane)

        assert lease.age_s >= 0.3
        assert await settled(lane, lease)


async def test_a_claim_that_is_cancelled_after_it_was_won_gives_its_task_back(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lane_of(settings_of(redis_url)) as lane:
        hand_over = lane.lane._hand_over
        waiting = asyncio.ensure_future(lane.claim())

        def hand_over_and_cancel(lease: Lease) -> None:
            hand_over(lease)
            waiting.cancel()

        monkeypatch.setattr(lane.lane, "_hand_over", hand_over_and_cancel)
        queue.client.lpush(NORMAL, task("a"))
        with pytest.raises(asyncio.CancelledError):
            await waiting

        monkeypatch.setattr(lane.lane, "_hand_over", hand_over)
        lease = await claim(lane)
        assert (lease.payload, lease.delivery) == (task("a"), 1)
        assert await settled(lane, lease)


async def test_after_a_reconnect_leases_that_nobody_heard_of_go_back(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("first"), task("unheard"), task("last"))
    async with lane_of(settings_of(redis_url)) as lane:
        assert await settled(lane, await claim(lane))
        # A claim of this worker that was carried out and whose reply never came.
        assert queue.claim(worker=lane.worker_id, number=10**9).payloads == [task("unheard")]
        queue.client.hdel(queue.keys.commits(lane.worker_id), "claim")
        for entry in queue.client.client_list():
            if entry["name"].startswith("aworker-lane"):
                queue.client.client_kill_filter(_id=entry["id"])

        taken = await claim(lane)
        again = await claim(lane)

        assert {taken.payload, again.payload} == {task("last"), task("unheard")}
        for lease in (taken, again):
            assert await settled(lane, lease, DONE)


async def test_what_comes_behind_tasks_that_are_held_back_is_noticed(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("b1"), task("b2"))
    async with lane_of(settings_of(redis_url), limits=lambda: {"backtest": 1}) as lane:
        held = await claim(lane)
        lane.lane.admission.levels[1].passed_s = 3_600.0  # no timer helps

        async with anyio.create_task_group() as group:
            found: list[Lease] = []

            async def wait() -> None:
                found.append(await claim(lane))

            group.start_soon(wait)
            await eventually(lambda: _is(lane.lane.admission.levels[1].known == "passed"))
            await anyio.sleep(0.05)
            queue.client.lpush(NORMAL, task("a", task_type="alert"))

        assert found[0].payload == task("a", task_type="alert")
        for lease in (*found, held):
            assert await settled(lane, lease)
        assert await settled(lane, await claim(lane))


async def _is(value: bool) -> bool:
    return value
