"""A declared handler: the function that it was, and what enqueues its tasks."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import fakeredis
import msgspec
import pytest
from loguru import logger

from aworker import Client, Context, NewTask, Retry, SyncClient, TaskFailed, TaskUnfinished, handler
from aworker.client.enqueued import value_of
from aworker.errors import PayloadInvalid, ResultInvalid


class ReportArgs(msgspec.Struct, rename="camel"):
    user_id: int
    month: str = "2026-01"


@dataclasses.dataclass
class Order:
    symbol: str
    quantity: int = 1


@handler("declared_whole")
async def whole(args: ReportArgs, context: Context) -> ReportArgs:
    """Say what was asked."""
    return args


@handler("declared_names")
async def names(context: Context, user_id: int, month: str = "2026-01") -> int | Retry:
    return user_id


@handler("declared_more")
async def more(user_id: int, **others: int) -> None:
    pass


@handler("declared_orders")
def orders(order: Order, others: list[Order] | None = None) -> list[Order]:
    return [order, *(others or [])]


@pytest.fixture
def server() -> fakeredis.FakeAsyncRedis:
    return fakeredis.FakeAsyncRedis()


async def pushed(server: fakeredis.FakeAsyncRedis) -> list[dict[str, Any]]:
    return [msgspec.json.decode(one) for one in await server.lrange("strategy_queue", 0, -1)]


def test_it_is_called_and_looks_as_the_function() -> None:
    assert orders(Order("A"), others=[Order("B")]) == [Order("A"), Order("B")]
    assert whole.__name__ == "whole"
    assert whole.__doc__ == "Say what was asked."
    assert whole.task_type == "declared_whole"
    assert list(inspect.signature(names).parameters) == ["context", "user_id", "month"]
    assert repr(whole).startswith("<handler declared_whole of <function whole")


async def test_a_call_becomes_the_tasks_args(server: fakeredis.FakeAsyncRedis) -> None:
    client = Client(redis=server)

    await whole.enqueue(client, ReportArgs(1, month="2026-02"))
    await names.enqueue(client, 1)
    await more.enqueue(client, user_id=1, a=2)
    await orders.enqueue(client, Order("A", 2), others=[Order("B")])

    assert [one["args"] for one in await pushed(server)] == [
        {"userId": 1, "month": "2026-02"},
        {"user_id": 1},
        {"user_id": 1, "a": 2},
        {"order": {"symbol": "A", "quantity": 2}, "others": [{"symbol": "B", "quantity": 1}]},
    ]
    assert all(list(one) == ["task_id", "task_type", "args", "created_at", "priority"] for one in await pushed(server))


@pytest.mark.parametrize(
    ("positions", "keywords"),
    [((), {}), ((1, "m", 2), {}), ((), {"month": "m"}), ((1,), {"user_id": 1})],
)
async def test_a_call_that_the_function_would_refuse_is_refused(
    server: fakeredis.FakeAsyncRedis, positions: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        await names.enqueue(Client(redis=server), *positions, **keywords)

    assert await pushed(server) == []


async def test_args_that_are_no_object_are_refused(server: fakeredis.FakeAsyncRedis) -> None:
    with pytest.raises(PayloadInvalid, match="args must be an object"):
        await whole.enqueue(Client(redis=server), 5)  # type: ignore[call-overload]


async def test_options_are_those_of_enqueue_and_stay_with_their_own_handler(server: fakeredis.FakeAsyncRedis) -> None:
    client = Client(redis=server)

    task = await names.options(task_id="mine", queue="priority").enqueue(client, user_id=1)
    await names.enqueue(client, user_id=2)

    assert task.task_id == "mine"
    assert [msgspec.json.decode(one)["task_id"] for one in await server.lrange("strategy_queue_priority", 0, -1)] == [
        "mine"
    ]
    assert [one["args"] for one in await pushed(server)] == [{"user_id": 2}]


async def test_many_calls_of_several_handlers_are_pushed_at_once(server: fakeredis.FakeAsyncRedis) -> None:
    calls: list[NewTask] = [names.task(user_id=1), whole.task(ReportArgs(2)), NewTask(task_type="other", args={"a": 1})]

    ids = await Client(redis=server).enqueue_many(calls)

    assert [one["task_id"] for one in await pushed(server)] == ids
    assert [one["task_type"] for one in await pushed(server)] == ["declared_names", "declared_whole", "other"]


def test_with_a_context_it_is_enqueued_with_the_end_of_the_running_task() -> None:
    asked: list[dict[str, Any]] = []

    def enqueue(word: str, fields: dict[str, Any]) -> str:
        asked.append(fields)
        return "t2"

    context = Context(
        task_id="t1",
        task_type="parent",
        delivery=1,
        lease_id=1,
        logger=logger,
        progress=lambda *_: None,
        is_cancelled=lambda: False,
        enqueue=enqueue,
    )

    assert orders.options(delay_s=5).enqueue(context, Order("A"), others=[Order("B", 2)]) == "t2"
    assert asked == [
        {
            "task_type": "declared_orders",
            "args": {"order": {"symbol": "A", "quantity": 1}, "others": [{"symbol": "B", "quantity": 2}]},
            "delay_s": 5,
            "on_conflict": "keep",
        }
    ]


OWN = {
    "execution_time_seconds": 0.1,
    "worker_id": "w",
    "queue_type": "normal",
    "priority": "normal",
    "completed_at": "",
}


class Report(msgspec.Struct):
    rows: int
    priority: str = "mine"


class Placed(msgspec.Struct):
    worker_id: str


@pytest.mark.parametrize(
    ("data", "returns", "value"),
    [
        ({"rows": 3}, Report, Report(3)),
        ({"rows": 3}, Report | None, Report(3)),
        ({"result": None}, Report | None, None),
        ({"result": None}, None, None),
        ({"result": [1, 2]}, list[int], [1, 2]),
        ({"result": [1, 2]}, set[int], {1, 2}),
        ({"result": [1, 2]}, list[int] | dict[str, int], [1, 2]),
        ({"symbol": "A"}, Order, Order("A")),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"result": {"a": 1}}, dict[str, Any], {"result": {"a": 1}}),
        ({"a": 1}, Any, {"a": 1}),
        ({"result": 5}, Any, 5),
        ({"result": 5}, int, 5),
        ({"result": 5}, float, 5.0),
        ({}, Placed, Placed("w")),
        ({}, dict[str, Any], {}),
    ],
)
def test_a_result_is_what_the_handler_returned_as_its_type(data: dict[str, Any], returns: Any, value: Any) -> None:
    record = {"status": "completed", "data": {**data, **OWN}}

    assert value_of("t", record, returns) == value


def test_what_has_no_result_says_why() -> None:
    failed = {"status": "error", "data": {"error": "ValueError: no", "error_type": "ValueError"}}

    with pytest.raises(TaskFailed, match="ValueError: no") as raised:
        value_of("t", failed, int)
    assert (raised.value.task_id, raised.value.error_type) == ("t", "ValueError")
    with pytest.raises(TaskUnfinished, match="task t must have ended, was running; wait longer for it"):
        value_of("t", {"status": "running", "data": {}}, int)
    with pytest.raises(TimeoutError, match="without a record"):
        value_of("t", None, int)
    with pytest.raises(ResultInvalid, match="Expected `int`, got `str`"):
        value_of("t", {"status": "completed", "data": {"result": "x", **OWN}}, int)


def test_the_type_of_a_result_leaves_retries_out() -> None:
    assert names.signature.returns is int
    assert orders.signature.returns == list[Order]


def test_a_synchronous_client_pushes_the_same_bytes() -> None:
    server = fakeredis.FakeServer()
    redis = fakeredis.FakeRedis(server=server)
    with SyncClient(redis=redis) as client:
        task = names.options(task_id="t1").enqueue(client, user_id=1)
        many = client.enqueue_many([names.task(user_id=2), ("other", {"a": 1})])
        one = client.enqueue("report", {"a": 1}, priority="high")

    tasks = [msgspec.json.decode(each) for each in redis.lrange("strategy_queue", 0, -1)]
    assert [each["task_id"] for each in tasks] == [task.task_id, *many]
    assert tasks[0]["args"] == {"user_id": 1}
    assert [msgspec.json.decode(each)["task_id"] for each in redis.lrange("strategy_queue_priority", 0, -1)] == [one]
    assert redis.ping()  # a client that was given stays open
