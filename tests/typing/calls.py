"""Calls of typed handlers, right and wrong ones. Read by type checkers, never run.

A line that is wrong ends in ``# wrong``, and each checker must find an error in it; in the others it must find none.
``reveal(expression, "type")`` says what an expression is.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NotRequired, TypedDict, assert_type

import msgspec

from aworker import INJECTED, Client, Context, EnqueuedTask, NewTask, Retry, SyncClient, SyncEnqueuedTask, handler


class ReportArgs(msgspec.Struct):
    user_id: int
    month: str = "2026-01"


@dataclasses.dataclass
class Order:
    symbol: str
    quantity: int = 1


class Filters(TypedDict):
    symbols: list[str]
    limit: NotRequired[int]


class Pool:
    pass


@handler("whole", timeout_s=60)
async def whole(args: ReportArgs, context: Context) -> dict[str, int]:
    return {"rows": args.user_id}


@handler("dataclass_whole")
def dataclass_whole(order: Order, context: Context) -> Order | Retry:
    return order


@handler("typed_dict", retries=3, retry_on=ValueError, backoff=[1, 2])
def typed_dict(args: Filters, context: Context) -> list[str]:
    return args["symbols"]


@handler("plain_dict")
async def plain_dict(args: dict[str, Any], context: Context) -> Any:
    return args


@handler("with_pool")
async def with_pool(args: ReportArgs, context: Context, pool: Pool) -> str | None:
    return None


@handler("alone")
async def alone(args: ReportArgs) -> float:
    return 1.0


@handler("names")
async def names(user_id: int, month: str = "2026-01") -> ReportArgs:
    return ReportArgs(user_id, month)


@handler("names_behind_context")
async def names_behind_context(context: Context, user_id: int, *, month: str) -> int | Retry:
    return user_id


@handler("plain_names")
def plain_names(symbols: list[str], limit: int | None = None) -> dict[str, float]:
    return {}


@handler("injected")
async def injected(context: Context, user_id: int, pool: Pool = INJECTED) -> None:
    return None


@handler("nothing")
async def nothing() -> None:
    return None


async def awaited(client: Client, context: Context, pool: Pool) -> None:
    assert_type(await whole.enqueue(client, ReportArgs(1)), EnqueuedTask[dict[str, int]])
    assert_type(await (await whole.enqueue(client, ReportArgs(1, month="x"))).result(), dict[str, int])
    assert_type(await (await dataclass_whole.enqueue(client, Order("A"))).result(wait_s=5), Order)
    assert_type(await (await typed_dict.enqueue(client, {"symbols": ["A"]})).result(), list[str])
    assert_type(await (await plain_dict.enqueue(client, {"a": 1})).result(), Any)
    assert_type(await (await with_pool.enqueue(client, ReportArgs(1))).result(), str | None)
    assert_type(await (await alone.enqueue(client, ReportArgs(1))).result(), float)
    assert_type(await (await names.enqueue(client, user_id=1, month="2026-01")).result(), ReportArgs)
    assert_type(await (await names.enqueue(client, 1)).result(), ReportArgs)
    assert_type(await (await names_behind_context.enqueue(client, user_id=1, month="m")).result(), int)
    assert_type(await (await plain_names.enqueue(client, ["A"], limit=None)).result(), dict[str, float])
    assert_type(await (await injected.enqueue(client, user_id=1)).result(), None)
    assert_type(await (await nothing.enqueue(client)).result(), None)
    assert_type(await names.options(delay_s=5, unique_key="k").enqueue(client, user_id=1), EnqueuedTask[ReportArgs])
    ids: list[str] = await client.enqueue_many([names.task(user_id=1), whole.task(ReportArgs(2)), nothing.task()])
    one: NewTask = names.task(1, "m")
    task_id: str = (await nothing.enqueue(client)).task_id

    assert_type(names.enqueue(context, user_id=1), str)  # with the end of the task that runs

    # The function itself, as it was.
    assert_type(await whole(ReportArgs(1), context), dict[str, int])
    assert_type(await names(user_id=1), ReportArgs)
    assert_type(await names_behind_context(context, 1, month="m"), int | Retry)
    assert_type(await with_pool(ReportArgs(1), context, pool), str | None)
    assert_type(plain_names(["A"]), dict[str, float])

    await whole.enqueue(client, 1)  # wrong
    await whole.enqueue(client, Order("A"))  # wrong
    await whole.enqueue(client)  # wrong
    await whole.enqueue(client, ReportArgs(1), context)  # wrong
    await whole.enqueue(client, ReportArgs("1"))  # wrong
    await typed_dict.enqueue(client, {"symbols": "A"})  # wrong
    await typed_dict.enqueue(client, {"symbol": ["A"]})  # wrong
    await with_pool.enqueue(client, ReportArgs(1), pool)  # wrong
    await names.enqueue(client, user_id="1")  # wrong
    await names.enqueue(client, month="m")  # wrong
    await names.enqueue(client, user_id=1, mnth="m")  # wrong
    await names.enqueue(client, 1, "m", 2)  # wrong
    await names.enqueue(user_id=1)  # wrong
    names.enqueue(context, user_id="1")  # wrong
    await names.enqueue("redis://127.0.0.1", user_id=1)  # wrong
    await names_behind_context.enqueue(client, context, user_id=1, month="m")  # wrong
    await names_behind_context.enqueue(client, 1, "m")  # wrong
    await plain_names.enqueue(client, "A")  # wrong
    await nothing.enqueue(client, 1)  # wrong
    await injected.enqueue(client, user_id=1, pol=pool)  # wrong
    names.task()  # wrong
    names.options(delay=5)  # wrong
    await names.options(delay_s="5").enqueue(client, user_id=1)  # wrong
    text: str = await (await names_behind_context.enqueue(client, user_id=1, month="m")).result()  # wrong
    number = (await names.enqueue(client, 1)).user_id  # wrong
    await names(user_id="1")  # wrong
    await whole(ReportArgs(1))  # wrong
    del ids, one, task_id, text, number


def at_once(client: SyncClient) -> None:
    assert_type(whole.enqueue(client, ReportArgs(1)), SyncEnqueuedTask[dict[str, int]])
    assert_type(names.enqueue(client, user_id=1).result(wait_s=1), ReportArgs)
    assert_type(names.options(queue="priority").enqueue(client, 1).task_id, str)

    names.enqueue(client, user_id="1")  # wrong
    whole.enqueue(client, ReportArgs(1), 2)  # wrong
    number: int = names.enqueue(client, user_id=1).result()  # wrong
    del number


async def mixed(client: SyncClient) -> None:
    await names.enqueue(client, user_id=1)  # wrong
