"""Whatever a handler raises or returns ends its own task, with the same answer in the loop and in a child."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio
import pytest

from aworker.config import PoolConfig, ResultsConfig, WorkerConfig
from tests.kit.odd_handlers import CASES, in_a_child, in_the_loop
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of, running_worker

PLACES = ("loop", "child")


@pytest.fixture(scope="module")
def answers(redis_server_url: str) -> dict[str, dict[str, Any]]:
    """All cases through one worker: its record by ``place case``."""
    config = config_of(
        redis_server_url,
        worker=WorkerConfig(slots=4),
        results=ResultsConfig(repeat_fast_after_s=0),
        pool=PoolConfig(processes=1),
    )
    with QueueScripts(redis_server_url) as queue:
        queue.client.flushall()
        wanted = [f"{place} {name}" for name in CASES for place in PLACES]
        queue.client.lpush(
            NORMAL,
            *(task(name, task_type=name.split(" ")[0], args={"case": name.partition(" ")[2]}) for name in wanted),
        )

        async def ended() -> dict[str, dict[str, Any]]:
            handlers = {"loop": in_the_loop, "child": in_a_child}
            async with running_worker(config, handlers, preload=("tests.kit.odd_handlers",)):
                while True:
                    texts = queue.client.mget([f"task_result:{name}" for name in wanted])
                    records = [json.loads(text) if text else {"status": "lost"} for text in texts]
                    if all(record["status"] in ("completed", "error") for record in records):
                        assert queue.client.hlen("aworker:claimed") == 0
                        return dict(zip(wanted, records, strict=True))
                    await anyio.sleep(0.02)

        found: dict[str, dict[str, Any]] = anyio.run(ended)
        queue.client.flushall()
        return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CASES)
def test_a_handler_costs_its_own_task_only(answers: dict[str, dict[str, Any]], name: str, place: str) -> None:
    case, record = CASES[name], answers[f"{place} {name}"]

    data = record["data"]
    if case.data is not None:
        assert record["status"] == "completed", data
        assert {key: data.get(key) for key in case.data} == case.data
        assert set(data) - set(case.data) == {
            "execution_time_seconds",
            "worker_id",
            "queue_type",
            "priority",
            "completed_at",
        } - set(case.data)
    else:
        assert record["status"] == "error", data
        assert data["error_type"] in case.error.split("|")
        assert case.text in data["error"]
        assert len(data["error"]) < 70_000


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.error and "|" not in case.error])
def test_the_loop_and_a_child_answer_alike(answers: dict[str, dict[str, Any]], name: str) -> None:
    loop, child = (answers[f"{place} {name}"]["data"] for place in PLACES)

    assert loop["error_type"] == child["error_type"]
    # The record of 9 MB is a byte longer where its times are.
    assert re.sub(r"was \d+", "was", loop["error"]) == re.sub(r"was \d+", "was", child["error"])
