"""Middleware around every task, in the loop and in a child: in order, with the outcome, whatever it does itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from loguru import logger

from aworker import Completed, Failed, Retried, Retry
from aworker.client.client import Client
from aworker.config import PoolConfig, TaskConfig
from aworker.errors import ConfigError, RequestDeclined
from aworker.execution import middleware as middleware_module
from aworker.execution.context import Context
from aworker.execution.middleware import CallNext, middleware
from aworker.execution.policy import RetryPolicy
from tests.kit import outbox_handlers
from tests.kit.queue_scripts import QueueScripts
from tests.kit.workers import config_of, eventually, running_worker


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    record = await client.result(task_id, wait_s=60)
    assert record is not None
    return record


async def works(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"n": args.get("n", 0)}


async def fails(args: dict[str, Any], context: Context) -> dict[str, Any]:
    raise ValueError("told to fail")


async def test_they_run_in_order_around_handlers_of_loop_and_children(redis_url: str) -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def layer(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
            seen.append(f"{name} before {context.task_type}")
            outcome = await call_next()
            await anyio.lowlevel.checkpoint()
            seen.append(f"{name} after {type(outcome).__name__}")
            return outcome

        return layer

    config = config_of(redis_url, pool=PoolConfig(processes=1))
    handlers = {"works": works, "fails": fails, "in_child": outbox_handlers.in_child}
    layers = (named("outer"), named("inner"))
    async with Client(redis_url) as client, running_worker(config, handlers, middleware=layers):
        for task_type in handlers:
            await ended(client, await client.enqueue(task_type))

    assert seen == [
        line
        for task_type, outcome in (("works", "Completed"), ("fails", "Failed"), ("in_child", "Completed"))
        for line in (
            f"outer before {task_type}",
            f"inner before {task_type}",
            f"inner after {outcome}",
            f"outer after {outcome}",
        )
    ]


async def test_they_see_what_ended_a_task_and_the_exception_itself(redis_url: str) -> None:
    seen: list[Any] = []

    async def watch(args: dict[str, Any], context: Context, call_next: CallNext) -> None:
        seen.append(await call_next())
        await anyio.sleep(0.001)

    async def hangs(args: dict[str, Any], context: Context) -> Any:
        await anyio.sleep_forever()

    handlers = {"fails": fails, "flaky": fails, "hangs": hangs}
    config = config_of(redis_url, tasks={"hangs": TaskConfig(timeout_s=0.1)})
    policies = {"flaky": RetryPolicy(retries=1, backoff=(0.01,))}
    async with Client(redis_url) as client, running_worker(config, handlers, policies=policies, middleware=(watch,)):
        for task_type in handlers:
            await ended(client, await client.enqueue(task_type))

    failed, retried, last, timed_out = seen
    assert isinstance(failed, Failed)
    assert (failed.error_type, repr(failed.exception)) == ("ValueError", "ValueError('told to fail')")
    assert isinstance(retried, Retried)
    assert isinstance(retried.exception, ValueError)
    assert isinstance(last, Failed)
    assert (timed_out.error_type, timed_out.exception) == ("HandlerTimedOut", None)


@pytest.mark.parametrize(
    ("gives", "status", "told"),
    [
        (lambda: Completed({"n": 9}), "completed", 9),
        (lambda: {"n": 8}, "completed", 8),
        (lambda: Failed("not today", "Refused"), "error", "not today"),
        (lambda: None, "completed", 1),
    ],
)
async def test_they_may_put_another_outcome_in_its_place(
    redis_url: str, gives: Callable[[], Any], status: str, told: Any
) -> None:
    async def replaces(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
        await call_next()
        return gives()

    async with (
        Client(redis_url) as client,
        running_worker(config_of(redis_url), {"works": works}, middleware=(replaces,)),
    ):
        record = await ended(client, await client.enqueue("works", {"n": 1}))

    assert record["status"] == status
    assert told in (record["data"].get("n"), record["data"].get("error"))


async def test_they_may_have_it_run_again_or_not_at_all(redis_url: str) -> None:
    runs: list[int] = []

    async def guards(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
        if args.get("cached"):
            return {"n": "from the cache"}
        if args.get("declined"):
            raise RequestDeclined("not you")
        await call_next()
        return Retry(0.01) if context.delivery == 1 else None

    async def counts(args: dict[str, Any], context: Context) -> dict[str, Any]:
        runs.append(context.delivery)
        return {"n": context.delivery}

    async with (
        Client(redis_url) as client,
        running_worker(config_of(redis_url), {"counts": counts}, middleware=(guards,)),
    ):
        assert (await ended(client, await client.enqueue("counts", {"cached": True})))["data"]["n"] == "from the cache"
        declined = await ended(client, await client.enqueue("counts", {"declined": True}))
        assert (declined["data"]["error"], declined["data"]["error_type"]) == ("not you", "RequestDeclined")
        assert runs == []
        assert (await ended(client, await client.enqueue("counts")))["data"]["n"] == 2

    assert runs == [1, 2]


async def raises_before(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    raise KeyError("before")


async def raises_after(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    await call_next()
    raise KeyError("after")


async def exits(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    await call_next()
    sys.exit(3)


async def forgets(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    return None


async def calls_twice(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    await call_next()
    return await call_next()


async def hangs_after(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    await call_next()
    await anyio.sleep_forever()


async def hangs_before(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("layer", "status", "told"),
    [
        (raises_before, "error", "KeyError: 'before'"),
        (forgets, "error", "must call call_next or return an outcome"),
        (hangs_before, "error", "must call call_next within"),
        (raises_after, "completed", None),
        (exits, "completed", None),
        (calls_twice, "completed", None),
        (hangs_after, "completed", None),
    ],
)
async def test_one_that_is_broken_costs_no_task_and_no_worker(
    queue: QueueScripts, redis_url: str, monkeypatch: pytest.MonkeyPatch, layer: Any, status: str, told: str | None
) -> None:
    monkeypatch.setattr(middleware_module, "AROUND_S", 0.2)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level="ERROR", format="{message}")
    try:
        async with (
            Client(redis_url) as client,
            running_worker(config_of(redis_url), {"works": works}, middleware=(layer,)),
        ):
            for _ in range(2):
                record = await ended(client, await client.enqueue("works", {"n": 1}))
                assert record["status"] == status
    finally:
        logger.remove(sink)

    if told is None:
        assert record["data"]["n"] == 1
        assert any("the outcome stands" in line for line in lines)
    else:
        assert told in record["data"]["error"]
    assert queue.unsettled() == []


async def test_a_cancelled_task_stays_cancelled_and_its_middleware_ends(redis_url: str) -> None:
    seen: list[str] = []
    runs = anyio.Event()

    async def hangs(args: dict[str, Any], context: Context) -> Any:
        runs.set()
        await anyio.sleep_forever()

    async def replaces(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
        outcome = await call_next()
        await anyio.sleep(0.01)
        seen.append(getattr(outcome, "error_type", "?"))
        return Retry(0.01)

    async with (
        Client(redis_url) as client,
        running_worker(config_of(redis_url), {"hangs": hangs, "works": works}, middleware=(replaces,)),
    ):
        task_id = await client.enqueue("hangs")
        await runs.wait()
        await client.cancel(task_id)
        record = await ended(client, task_id)

    assert record["data"]["error_type"] == "TaskCancelled"
    assert seen == ["TaskCancelled"]


async def test_what_middleware_enqueues_and_keeps_goes_with_the_task(redis_url: str) -> None:
    async def adds(args: dict[str, Any], context: Context, call_next: CallNext) -> Any:
        if context.task_type == "works":
            context.enqueue("other", task_id="other")
        context.state.started = context.task_id
        return await call_next()

    async def other(args: dict[str, Any], context: Context) -> dict[str, Any]:
        return {"parent": context.parent_id, "started": context.state.started}

    async with (
        Client(redis_url) as client,
        running_worker(config_of(redis_url), {"works": works, "other": other}, middleware=(adds,)),
    ):
        await client.enqueue("works", task_id="first")
        record = await ended(client, "other")

    assert (record["data"]["parent"], record["data"]["started"]) == ("first", "other")


async def test_bound_fields_are_in_every_later_line_of_the_task(redis_url: str) -> None:
    async def binds(args: dict[str, Any], context: Context) -> dict[str, Any]:
        context.log.info("one")
        context.bind(customer=args["customer"])
        context.log.info("two")
        logger.info("three")
        with pytest.raises(TypeError, match="must not set task_id"):
            context.bind(task_id="x")
        return {}

    found: list[tuple[str, Any, Any]] = []

    def keep(line: Any) -> None:
        extra = line.record["extra"]
        found.append((line.record["message"].rpartition("] ")[2], extra.get("customer"), extra.get("task_id")))

    sink = logger.add(keep, level="INFO")
    try:
        async with Client(redis_url) as client, running_worker(config_of(redis_url), {"binds": binds}):
            await ended(client, await client.enqueue("binds", {"customer": 7}, task_id="b1"))
            await ended(client, await client.enqueue("binds", {"customer": 8}, task_id="b2"))
            await eventually(lambda: _has(found, 8))
    finally:
        logger.remove(sink)

    for text, customer, task_id in (("one", None, "b1"), ("two", 7, "b1"), ("two", 8, "b2")):
        assert (text, customer, task_id) in found


async def _has(found: list[Any], customer: int) -> bool:
    return any(each[1] == customer for each in found)


def test_a_plain_function_is_no_middleware() -> None:
    with pytest.raises(ConfigError, match="middleware must be a coroutine function"):
        middleware(lambda args, context, call_next: None)  # type: ignore[type-var]
