"""A handler that treats the worker's loop as its own costs its own task at most: its neighbours end in one delivery."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kit.commands import Running, eventually, running
from tests.kit.loop_habits import HABITS

ERRORS = {
    "closes_the_loop": "RuntimeError",
    "runs_a_loop_in_the_loop": "RuntimeError",
}
VARIABLES = {
    "AWORKER_HANDLERS__MODULES": '["tests.kit.loop_habits", "tests.kit.task_handlers"]',
    "AWORKER_WORKER__LEASE_TTL_S": "1.0",
    "AWORKER_WORKER__RENEW_INTERVAL_S": "0.2",
    "AWORKER_TASKS__HABIT__TIMEOUT_S": "0",
}


class Serving:
    """One worker for all cases, and a task that runs beside every one of them."""

    def __init__(self, worker: Running, client: redis.Redis, folder: Path) -> None:
        self.worker = worker
        self.client = client
        self.folder = folder

    def push(self, task_id: str, task_type: str, **args: Any) -> None:
        task = {"task_id": task_id, "task_type": task_type, "args": args}
        self.client.rpush("strategy_queue", json.dumps(task))

    def record(self, task_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def has_ended() -> bool:
            text = self.client.get(f"task_result:{task_id}")
            found[:] = [json.loads(text)] if text else []
            return bool(found) and found[0]["status"] in ("completed", "error")

        eventually(has_ended, told=lambda: self.worker.stderr[-5_000:])
        return found[0]


@pytest.fixture(scope="module")
def serving(redis_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("habits")
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(redis_server_url))
        client.flushall()
        worker = stack.enter_context(running("run", "--redis-url", redis_server_url, cwd=folder, **VARIABLES))
        worker.logs("is ready")
        yield Serving(worker, client, folder)
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0
        client.flushall()


@pytest.mark.parametrize("name", HABITS)
def test_a_habit_costs_its_own_task_at_most(serving: Serving, name: str) -> None:
    began, until = serving.folder / f"began {name}", serving.folder / f"until {name}"
    serving.push(f"beside {name}", "hold", began=str(began), until=str(until))
    eventually(began.exists)

    serving.push(name, "habit", name=name)
    if name == "swallows_its_cancellation":
        # It runs on past every wish to stop it, and its slot is held until it is done with that.
        eventually(lambda: f"Processing habit task {name}" in serving.worker.stderr)
        serving.client.publish("aworker:control", json.dumps({"cancel": name, "until_s": time.time() + 60}))
        assert serving.record(name)["data"]["error_type"] == "TaskCancelled"
    else:
        record = serving.record(name)
        expected = ERRORS.get(name)
        assert record["data"].get("error_type") == expected, record
        assert record["status"] == ("error" if expected else "completed")
    until.touch()

    assert serving.record(f"beside {name}")["status"] == "completed"
    assert serving.worker.stderr.count(f"Processing hold task beside {name} ") == 1
    assert serving.worker.process.poll() is None
