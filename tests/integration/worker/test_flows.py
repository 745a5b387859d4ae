"""Chains and groups on a real server, with a worker in the loop and its children."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from aworker import NewTask
from aworker.client.client import Client
from aworker.client.flows import GroupState
from aworker.config import DeadLettersConfig, PoolConfig, TaskConfig, WorkerConfig
from aworker.errors import ConfigError, PayloadInvalid
from aworker.execution.context import Context
from aworker.execution.policy import RetryPolicy
from aworker.execution.retry import Retry
from tests.kit import outbox_handlers
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    record = await client.result(task_id, wait_s=60)
    assert record is not None
    return record


async def add(args: dict[str, Any], context: Context) -> dict[str, Any]:
    if args.get("fails"):
        raise ValueError("told to fail")
    previous = args.get("previous") or {"sum": 0}
    return {"sum": previous["sum"] + args["n"], "parent": context.parent_id}


async def collect(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"group": args["group"], "more": args.get("more")}


HANDLERS: dict[str, Callable[[dict[str, Any], Context], Awaitable[Any]]] = {"add": add, "collect": collect}


def added(n: int, task_id: str, **more: Any) -> NewTask:
    return NewTask(task_type="add", args={"n": n}, task_id=task_id, **more)


async def test_a_chain_goes_on_and_hands_results_over(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), HANDLERS):
        steps = [
            added(2, "two", result_as="previous"),
            added(3, "three", result_as="previous", delay_s=0.01, queue="priority"),
            added(4, "four"),
        ]
        await client.enqueue("add", {"n": 1}, task_id="one", then=steps)

        four = await ended(client, "four")

    records = {name: json.loads(queue.client.get(f"task_result:{name}"))["data"] for name in ("one", "two", "three")}
    assert [records[name]["sum"] for name in ("one", "two", "three")] == [1, 3, 6]
    assert (four["data"]["sum"], four["data"]["parent"]) == (4, "three")
    assert records["three"]["queue_type"] == "priority"
    assert queue.unsettled() == []


async def test_a_chain_ends_with_the_first_that_does_not_complete(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), HANDLERS):
        then = [NewTask(task_type="add", args={"n": 2, "fails": True}, task_id="two"), added(3, "three")]
        await client.enqueue("add", {"n": 1}, task_id="one", then=then)

        assert (await ended(client, "two"))["status"] == "error"
        await ended(client, await client.enqueue("add", {"n": 9}))

    assert queue.client.get("task_result:three") is None
    # Put back from the dead letters it goes on.
    ((_, letter),) = queue.client.xrange("aworker:dead")
    assert [step["id"] for step in json.loads(letter[b"payload"])["aworker"]["next"]] == ["three"]


async def test_a_result_that_makes_the_next_too_large_is_an_error(queue: QueueScripts, redis_url: str) -> None:
    async def large(args: dict[str, Any], context: Context) -> dict[str, Any]:
        return {"x": "y" * 5_000}

    config = config_of(redis_url, worker=WorkerConfig(max_payload_bytes=4_000))
    async with Client(redis_url) as client, running_worker(config, {"large": large}):
        then = [NewTask(task_type="large", result_as="previous")]
        record = await ended(client, await client.enqueue("large", then=then))

    assert record["data"]["error_type"] == "EnqueueInvalid"
    assert "the task must be <= 4000 bytes" in record["data"]["error"]


async def test_a_group_calls_back_once_when_all_have_ended(queue: QueueScripts, redis_url: str) -> None:
    config = config_of(redis_url, pool=PoolConfig(processes=1), dead_letters=DeadLettersConfig(keep_errors=False))
    policies = {"flaky": RetryPolicy(retries=3, backoff=(0.01,))}

    async def flaky(args: dict[str, Any], context: Context) -> Any:
        if context.delivery < 3:
            raise ConnectionError("not yet")
        return {}

    async def asks_again(args: dict[str, Any], context: Context) -> Any:
        return Retry(0.01) if context.delivery == 1 else {}

    handlers = {**HANDLERS, "flaky": flaky, "asks_again": asks_again, "enqueues": outbox_handlers.in_child}
    members = [
        added(1, "m0"),
        NewTask(task_type="add", args={"n": 1, "fails": True}, task_id="m1"),
        NewTask(task_type="no such type", task_id="m2"),
        NewTask(task_type="flaky", task_id="m3"),
        NewTask(task_type="asks_again", task_id="m4"),
        NewTask(task_type="enqueues", task_id="m5"),
        added(1, "m6", then=[added(2, "m6b", result_as="previous"), added(2, "m6c", result_as="previous")]),
        NewTask(task_type="add", args={"n": 1, "fails": True}, task_id="m7", then=[added(2, "never")]),
        added(1, "m8", delay_s=0.05),
    ]
    then = NewTask(task_type="collect", args={"more": 7}, task_id="callback")
    async with Client(redis_url) as client, running_worker(config, handlers, policies=policies, preload=()):
        group_id = await client.enqueue_group(members, then)
        record = await ended(client, "callback")
        state = await client.group(group_id)

    assert record["data"]["more"] == 7
    told = record["data"]["group"]
    assert told["task_ids"] == ["m0", "m1", "m2", "m3", "m4", "m5", "m6c", "never", "m8"]
    assert told["ended"]["completed"] == 6
    assert sorted(told["ended"]["failed"]) == ["m1", "m2", "m7"]
    assert state == GroupState(group_id, 0, 6, told["ended"]["failed"])
    assert queue.unsettled() == []


async def test_cancelled_expired_and_timed_out_members_count(queue: QueueScripts, redis_url: str) -> None:
    async def never(args: dict[str, Any], context: Context) -> Any:
        await anyio.sleep_forever()

    config = config_of(redis_url, tasks={"slow": TaskConfig(timeout_s=0.1), "old": TaskConfig(expires_s=0.001)})
    members = [
        NewTask(task_type="collect", task_id="waits", delay_s=3_600),
        NewTask(task_type="never", task_id="runs"),
        NewTask(task_type="slow", task_id="slow"),
        NewTask(task_type="old", task_id="old"),
    ]
    handlers = {**HANDLERS, "never": never, "slow": never, "old": never}
    async with Client(redis_url) as client:
        group_id = await client.enqueue_group(members, NewTask(task_type="collect", task_id="callback"))
        assert await client.enqueue_group(members, ("collect", None), group_id=group_id) == group_id
        async with running_worker(config, handlers):
            await ended(client, "slow")
            await ended(client, "old")
            assert await client.cancel("waits") == "waiting"
            await eventually(lambda: _is_left(client, group_id, 1))
            assert await client.cancel("runs") == "running"
            record = await ended(client, "callback")

    assert sorted(record["data"]["group"]["ended"]["failed"]) == ["old", "runs", "slow", "waits"]
    assert queue.delayed() == []


async def _is_left(client: Client, group_id: str, left: int) -> bool:
    state = await client.group(group_id)
    return state is not None and state.left == left


async def test_a_group_whose_last_waiting_member_is_cancelled_calls_back(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        await client.enqueue_group([("add", {"n": 1})], NewTask(task_type="collect", task_id="callback", delay_s=60))
        (payload,) = queue.waiting(NORMAL)

        assert await client.cancel(json.loads(payload)["task_id"]) == "waiting"

    (callback,) = map(json.loads, queue.delayed())
    assert callback["args"]["group"]["ended"] == {"completed": 0, "failed": [json.loads(payload)["task_id"]]}


async def test_a_member_that_was_pushed_twice_counts_once(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        members = [added(1, "m0", queue="priority"), added(2, "m1", delay_s=0.3)]
        await client.enqueue_group(members, NewTask(task_type="collect", task_id="callback"))
        (payload,) = queue.waiting(PRIORITY)
        queue.client.rpush(PRIORITY, payload)
        # Somebody else's task of the same id is not the member, which comes after it and is a duplicate.
        queue.client.rpush(NORMAL, task("m1", task_type="add", args={"n": 2}, created_at="2030-01-01T00:00:00Z"))
        async with running_worker(config_of(redis_url), HANDLERS):
            record = await ended(client, "callback")

    assert record["data"]["group"]["ended"] == {"completed": 2, "failed": []}


async def test_a_handler_enqueues_a_group_with_its_end(queue: QueueScripts, redis_url: str) -> None:
    async def fans_out(args: dict[str, Any], context: Context) -> Any:
        then = NewTask(task_type="collect", task_id=args["callback"], then=[added(1, args["callback"] + " end")])
        group_id = context.enqueue_group([("add", {"n": n}) for n in range(3)], then)
        if args.get("fails"):
            raise ValueError("no")
        return {"group_id": group_id}

    handlers = {**HANDLERS, "fans_out": fans_out, "in_child": outbox_handlers.fans_out}
    config = config_of(redis_url, pool=PoolConfig(processes=1))
    async with Client(redis_url) as client, running_worker(config, handlers):
        await client.enqueue("fans_out", {"callback": "first"})
        assert (await ended(client, "first"))["data"]["group"]["ended"] == {"completed": 3, "failed": []}
        assert (await ended(client, "first end"))["status"] == "completed"
        await client.enqueue("in_child", {"callback": "second"})
        assert (await ended(client, "second"))["data"]["group"]["ended"] == {"completed": 3, "failed": []}
        assert (await ended(client, "second end"))["data"]["parent"] == "second"
        record = await ended(client, await client.enqueue("fans_out", {"callback": "third", "fails": True}))
        assert record["status"] == "error"

    assert queue.client.get("task_result:third") is None
    assert queue.unsettled() == []


async def test_what_is_no_group_or_chain_is_refused_and_nothing_is_pushed(queue: QueueScripts, redis_url: str) -> None:
    keyed = NewTask(task_type="add", unique_key="k")
    async with Client(redis_url) as client:
        for tasks, then, group_id, told in (
            ([], ("collect", None), None, "a group must have 1 to 5,000 tasks"),
            ([keyed], ("collect", None), None, "must have no unique_key"),
            ([("add", None)], keyed, None, "must have no unique_key"),
            ([("add", None)], ("collect", None), 'a"b', "group_id must be"),
            ([("add", None)], ("", None), None, "task_type must be"),
        ):
            with pytest.raises(PayloadInvalid, match=told):
                await client.enqueue_group(tasks, then, group_id=group_id)
        for step, told in (
            (keyed, "a task in then must have no unique_key"),
            (NewTask(task_type="add", at=1.0), "must have delay_s"),
            (NewTask(task_type="add", delay_s=-1), "delay_s must be"),
        ):
            with pytest.raises(PayloadInvalid, match=told):
                await client.enqueue("add", then=[step])
        with pytest.raises(ConfigError, match="queue must be one of"):
            await client.enqueue("add", then=[NewTask(task_type="add", queue="nowhere")])
    plain = config_of(redis_url, worker=WorkerConfig(delivery="at-most-once"))
    async with Client(config=plain) as client:
        with pytest.raises(ConfigError, match="delivery must be leased for groups"):
            await client.enqueue_group([("add", None)], ("collect", None))

    assert list(queue.client.scan_iter()) == []


@pytest.mark.parametrize("field", [7, "x", [], {"next": 3}, {"group": 5}, {"next": [{"id": 1}]}])
async def test_a_field_of_that_name_of_somebody_elses_is_left_alone(
    queue: QueueScripts, redis_url: str, field: Any
) -> None:
    async with Client(redis_url) as client, running_worker(config_of(redis_url), HANDLERS):
        queue.client.rpush(NORMAL, task("a", task_type="add", args={"n": 1}, aworker=field))

        assert (await ended(client, "a"))["status"] == "completed"


async def test_a_chain_keeps_the_trace_and_is_no_part_of_other_payloads(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        await client.enqueue("add", {"n": 1}, task_id="one", then=[added(2, "two")])
        payload = json.loads(queue.client.lpop(NORMAL))
        assert set(payload) == {"task_id", "task_type", "args", "created_at", "priority", "aworker"}
        queue.client.rpush(NORMAL, json.dumps({**payload, "traceparent": TRACE}))
        await client.enqueue("add", {"n": 1}, task_id="alone")
        assert set(json.loads(queue.waiting(NORMAL)[-1])) == {"task_id", "task_type", "args", "created_at", "priority"}
        seen: list[bytes] = []

        async def keep(args: dict[str, Any], context: Context) -> dict[str, Any]:
            seen.extend(entry.partition(b"\n")[2] for entry in queue.client.hvals(f"aworker:leases:{worker.worker_id}"))
            return {}

        async with running_worker(config_of(redis_url), {"add": keep}) as worker:
            await ended(client, "two")

    two = next(json.loads(payload) for payload in seen if b'"two"' in payload and b'"next"' not in payload)
    assert (two["traceparent"], two["parent_id"], "aworker" in two) == (TRACE, "one", False)
