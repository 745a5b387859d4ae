"""What a handler enqueues is there if it completed, and else not; on a real server, in the loop and in a child."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from aworker.client.client import Client
from aworker.config import PoolConfig, ResultsConfig, TaskConfig, WorkerConfig
from aworker.errors import RequestDeclined
from aworker.execution.context import Context
from aworker.execution.policy import RetryPolicy
from aworker.execution.retry import Retry
from tests.kit import outbox_handlers
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def waiting(queue: QueueScripts, name: str = NORMAL) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in queue.waiting(name)]


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    record = await client.result(task_id, wait_s=60)
    assert record is not None
    return record


async def test_what_was_enqueued_comes_with_the_end_and_carries_parent_and_trace(
    queue: QueueScripts, redis_url: str
) -> None:
    runs, go_on = anyio.Event(), anyio.Event()
    found: list[tuple[str, str | None, dict[str, Any]]] = []

    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        second = context.enqueue("second", {"n": 1}, task_id="s1")
        runs.set()
        await go_on.wait()
        return {"second": second}

    async def second(args: dict[str, Any], context: Context) -> dict[str, Any]:
        found.append((context.task_id, context.parent_id, args))
        return {}

    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"first": first, "second": second}):
        queue.client.rpush(
            NORMAL,
            task("f1", task_type="first", traceparent=TRACE, tracestate="a=b", created_at="2026-01-01T00:00:00Z"),
        )
        await runs.wait()
        assert await client.result("s1", wait_s=0.1) is None
        go_on.set()

        assert (await ended(client, "f1"))["data"]["second"] == "s1"
        assert (await ended(client, "s1"))["status"] == "completed"

    assert found == [("s1", "f1", {"n": 1})]


async def test_a_tasks_fields_are_those_of_every_producer_and_its_parents(queue: QueueScripts, redis_url: str) -> None:
    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        context.enqueue("create_strategy", {"user_id": 1}, task_id="c1")
        context.enqueue("later", {"n": 2}, task_id="l1", delay_s=3600)
        context.enqueue("other", None, task_id="o1", queue="priority", priority="high")
        return {}

    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"first": first}) as worker:
        queue.client.rpush(NORMAL, task("f1", task_type="first", traceparent=TRACE))
        await ended(client, "f1")
        worker.drain()

    (later,) = [json.loads(payload) for payload in queue.delayed()]
    assert later["parent_id"] == "f1"
    dead = {json.loads(payload)["task_id"]: json.loads(payload) for payload in queue.dead()}
    both = {**{one["task_id"]: one for one in waiting(queue, PRIORITY)}, **dead}
    assert set(both) == {"c1", "o1"}
    assert both["c1"].pop("created_at").endswith("Z")
    assert both["c1"] == {
        "task_id": "c1",
        "task_type": "create_strategy",
        "args": {"user_id": 1},
        "priority": "high",
        "parent_id": "f1",
        "traceparent": TRACE,
    }


@pytest.mark.parametrize("how", ["raises", "declines", "retries", "no_result", "too_large", "times_out"])
async def test_a_task_that_does_not_complete_enqueues_nothing(queue: QueueScripts, redis_url: str, how: str) -> None:
    async def first(args: dict[str, Any], context: Context) -> Any:
        context.enqueue("second", {"delivery": context.delivery})
        if how == "raises":
            raise ValueError("no")
        if how == "declines":
            raise RequestDeclined("no")
        if how == "retries":
            return Retry(delay_s=3600)
        if how == "times_out":
            await anyio.sleep_forever()
        return {"x": object()} if how == "no_result" else {"x": "y" * 2_000}

    config = config_of(
        redis_url,
        results=ResultsConfig(max_bytes=1_000, repeat_fast_after_s=0),
        tasks={"first": TaskConfig(timeout_s=0.2)},
    )
    async with Client(redis_url) as client, running_worker(config, {"first": first}):
        queue.client.rpush(NORMAL, task("f1", task_type="first"))
        if how == "retries":
            await eventually(lambda: _holds(queue.delayed()))
        else:
            assert (await ended(client, "f1"))["status"] == "error"

    assert queue.waiting() == []
    assert len(queue.dead()) == (how not in ("declines", "retries"))


async def _holds(value: Any) -> Any:
    return value


async def test_of_a_task_that_is_tried_again_only_the_last_try_enqueues(queue: QueueScripts, redis_url: str) -> None:
    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        context.enqueue("second", {"delivery": context.delivery})
        if context.delivery < 3:
            raise ConnectionError("no")
        return {}

    seen: list[int] = []

    async def second(args: dict[str, Any], context: Context) -> dict[str, Any]:
        seen.append(args["delivery"])
        return {}

    policies = {"first": RetryPolicy(retries=5, backoff=(0.01,))}
    handlers = {"first": first, "second": second}
    async with Client(redis_url) as client, running_worker(config_of(redis_url), handlers, policies=policies):
        await ended(client, await client.enqueue("first"))
        await eventually(lambda: _holds(seen))

    assert seen == [3]
    assert queue.unsettled() == []


async def test_what_is_wrong_is_told_where_it_is_enqueued(queue: QueueScripts, redis_url: str) -> None:
    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        context.enqueue(**cases[args["case"]][0])
        return {}

    cases: list[tuple[dict[str, Any], str]] = [
        ({"task_type": ""}, "task_type must be a non-empty string"),
        ({"task_type": "x", "priority": "urgent"}, "priority must be one of"),
        ({"task_type": "x", "queue": "nowhere"}, "queue must be one of"),
        ({"task_type": "x", "delay_s": -1}, "delay_s must be"),
        ({"task_type": "x", "delay_s": 1, "at": 1}, "must not both be given"),
        ({"task_type": "x", "unique_for_s": 3}, "unique_key must be given"),
        ({"task_type": "x", "args": {"n": list(range(300))}}, "the task must be <= 600 bytes"),
    ]
    policies = {"first": RetryPolicy(retries=5)}
    config = config_of(redis_url, worker=WorkerConfig(max_payload_bytes=600))
    async with Client(redis_url) as client, running_worker(config, {"first": first}, policies=policies):
        for index, (_, told) in enumerate(cases):
            record = await ended(client, await client.enqueue("first", {"case": index}))
            assert record["status"] == "error"
            assert record["data"]["error_type"] == "EnqueueInvalid"
            assert told in record["data"]["error"]


async def test_a_unique_key_goes_on_to_the_next_of_the_same_task(queue: QueueScripts, redis_url: str) -> None:
    rounds: list[int] = []

    async def poll(args: dict[str, Any], context: Context) -> dict[str, Any]:
        rounds.append(args["n"])
        if args["n"] < 4:
            context.enqueue("poll", {"n": args["n"] + 1}, unique_key="poll", delay_s=0.01)
        return {}

    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"poll": poll}):
        await client.enqueue("poll", {"n": 1}, unique_key="poll")
        await eventually(lambda: _holds(len(rounds) >= 4))

    assert rounds == [1, 2, 3, 4]


async def test_a_child_enqueues_as_the_loop_does(queue: QueueScripts, redis_url: str) -> None:
    config = config_of(redis_url, pool=PoolConfig(processes=1))
    seen: list[tuple[str | None, Any]] = []

    async def second(args: dict[str, Any], context: Context) -> dict[str, Any]:
        seen.append((context.parent_id, args["n"]))
        return {}

    async def hands_on(args: dict[str, Any], context: Context) -> dict[str, Any]:
        await context.offload(outbox_handlers.part, 7)
        with pytest.raises(Exception, match="part is broken"):
            await context.offload(outbox_handlers.broken_part, 8)
        context.enqueue("second", {"n": 9})
        return {}

    handlers = {
        "enqueues": outbox_handlers.enqueues,
        "fails": outbox_handlers.fails,
        "wrong": outbox_handlers.wrong,
        "second": second,
        "hands_on": hands_on,
    }
    async with Client(redis_url) as client, running_worker(config, handlers, preload=("tests.kit.outbox_handlers",)):
        record = await ended(client, await client.enqueue("enqueues", task_id="p1"))
        assert record["data"]["second"] == "s1"
        assert (await ended(client, "s1"))["status"] == "completed"
        assert (await ended(client, await client.enqueue("fails")))["status"] == "error"
        record = await ended(client, await client.enqueue("wrong"))
        assert record["data"] == {**record["data"], "told": "EnqueueInvalid", "also": "EnqueueInvalid"}
        await ended(client, await client.enqueue("hands_on", task_id="h1"))
        await eventually(lambda: _holds(len(seen) >= 3))

    assert sorted(seen) == [("h1", 7), ("h1", 9), ("p1", 5)]


async def test_at_most_once_pushes_what_was_enqueued_after_the_end(queue: QueueScripts, redis_url: str) -> None:
    async def first(args: dict[str, Any], context: Context) -> dict[str, Any]:
        context.enqueue("second", task_id="s1")
        if args:
            context.enqueue("second", delay_s=1)
        return {}

    async def second(args: dict[str, Any], context: Context) -> dict[str, Any]:
        return {"parent": context.parent_id}

    config = config_of(redis_url, worker=WorkerConfig(delivery="at-most-once", slots=2, block_timeout_s=1))
    async with Client(redis_url) as client, running_worker(config, {"first": first, "second": second}):
        await client.enqueue("first", task_id="f1")
        assert (await ended(client, "s1"))["data"]["parent"] == "f1"
        record = await ended(client, await client.enqueue("first", {"delayed": True}))

    assert "worker.delivery must be leased" in record["data"]["error"]
