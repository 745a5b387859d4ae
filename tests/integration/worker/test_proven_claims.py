"""A worker that need not claim still shows that it could: idle, full, or with every level paused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from aworker.config import PoolConfig, ResultsConfig, WorkerConfig
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

FAST: dict[str, Any] = {"pool": PoolConfig(processes=1), "results": ResultsConfig(repeat_fast_after_s=0)}


@pytest.mark.parametrize("state", ["idle", "full", "paused"])
async def test_the_age_of_the_last_claim_is_not_that_of_the_last_task(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr("aworker.worker.supervisor.PROOF_INTERVAL_S", 0.02)
    monkeypatch.setattr("aworker.worker.supervisor.PROVEN_S", 0.1)
    go_on = anyio.Event()

    async def hold(args: dict[str, Any], context: Any) -> None:
        await go_on.wait()

    if state == "full":
        queue.client.lpush(NORMAL, task("h", task_type="hold"), task("waits", task_type="hold"))
    if state == "paused":
        queue.client.hset(queue.keys.paused, mapping={"queue " + NORMAL: "1", "queue " + PRIORITY: "1"})
    async with running_worker(config_of(redis_url, worker=WorkerConfig(slots=1), **FAST), {"hold": hold}) as supervisor:
        ages_s: list[float] = []

        async def renewed_twice() -> bool:
            # The age falls only when another claim was answered.
            ages_s.append(supervisor.state().claim_age_s)
            return sum(later < earlier for earlier, later in pairwise(ages_s)) >= 3

        await eventually(renewed_twice)
        assert queue.client.llen(NORMAL) == (state == "full")
        go_on.set()
