"""Keys that at most one task has, and debouncing, on a real server."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from aworker import NewTask
from aworker.client.client import Client
from aworker.errors import PayloadInvalid, QueueUnavailable
from aworker.execution.context import Context
from aworker.execution.retry import Retry
from tests.kit.queue_scripts import NORMAL, NOW_MS, TTL_MS, Item, New, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker


def new(name: str, **fields: Any) -> New:
    return New("now", 0, NORMAL, task(name), name, "k", **fields)


def is_free(queue: QueueScripts) -> bool:
    """Whether a task of another id would be taken; it is not left behind."""
    (status, _), *_ = queue.enqueue(New("at", NOW_MS + 9_000_000, NORMAL, task("probe"), "probe", "k"))
    if status == "new":
        queue.client.zremrangebyrank("aworker:delayed", 0, -1)
        queue.client.delete("aworker:unique:k")
    return status == "new"


async def test_while_there_is_one_its_id_is_returned_and_nothing_is_pushed(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        first = await client.enqueue("alert", {"strategy_id": 1}, unique_key="alert 1")
        again = await client.enqueue("alert", {"strategy_id": 2}, unique_key="alert 1")
        other = await client.enqueue("alert", {"strategy_id": 3}, unique_key="alert 3")

    assert again == first
    assert other != first
    assert [json.loads(payload)["args"]["strategy_id"] for payload in queue.waiting()] == [1, 3]


def test_a_key_is_had_from_waiting_to_the_end(queue: QueueScripts) -> None:
    assert queue.enqueue(new("a")) == [("new", "a")]
    assert queue.enqueue(new("b")) == [("kept", "a")]

    (claim,) = queue.claim().claims
    assert queue.enqueue(new("b")) == [("kept", "a")]
    queue.settle(Item("running", claim.lease_id, "a", "a", b"running", extras=(b"assigned",)))
    queue.settle(Item("delay", claim.lease_id, "a", "a", b"queued", extras=(1_000,)))
    assert queue.enqueue(new("b")) == [("kept", "a")]
    queue.due(now_ms=NOW_MS + 1_000)
    assert queue.enqueue(new("b")) == [("kept", "a")]
    (claim,) = queue.claim().claims
    assert queue.enqueue(new("b")) == [("kept", "a")]

    queue.settle(Item("end", claim.lease_id, "a", "a", b"done", extras=("1",)))

    assert queue.enqueue(new("b")) == [("new", "b")]


def test_until_started_frees_the_key_with_the_claim(queue: QueueScripts) -> None:
    queue.enqueue(new("a", until="started"))
    assert queue.enqueue(new("b", until="started")) == [("kept", "a")]

    queue.claim()

    assert queue.enqueue(new("b", until="started")) == [("new", "b")]


def test_for_a_time_outlasts_the_task(queue: QueueScripts) -> None:
    queue.enqueue(new("a", until="time", key_ms=60_000))
    (claim,) = queue.claim().claims
    queue.settle(Item("end", claim.lease_id, "a", "a", b"done", extras=("",)))

    assert queue.enqueue(new("b")) == [("kept", "a")]
    assert 0 < queue.client.pttl("aworker:unique:k") <= 60_000


@pytest.mark.parametrize("gone", ["cleared", "dead", "removed by hand", "flushed but for the key"])
def test_no_way_for_a_task_to_go_leaves_its_key_stuck(queue: QueueScripts, gone: str) -> None:
    queue.enqueue(new("a"))
    if gone == "cleared":
        queue.client.delete(NORMAL)
    elif gone == "dead":
        (claim,) = queue.claim().claims
        queue.settle(Item("dead", claim.lease_id, "a", "a", b"error", extras=("queue", NORMAL)))
    elif gone == "removed by hand":
        queue.client.lrem(NORMAL, 1, task("a"))
    else:
        kept = queue.client.get("aworker:unique:k")
        queue.client.flushall()
        queue.client.set("aworker:unique:k", kept)

    assert is_free(queue)


def test_a_workers_death_keeps_the_key_until_its_task_has_ended_elsewhere(queue: QueueScripts) -> None:
    queue.enqueue(new("a"))
    queue.claim("w1")

    assert queue.enqueue(new("b")) == [("kept", "a")]
    _, (lease,) = queue.reclaim("w2")
    assert queue.enqueue(new("b")) == [("kept", "a")]
    queue.settle(Item("back", lease.lease_id, "a", "a", b"queued", extras=("", "auto")), worker="w2")
    assert queue.enqueue(new("b")) == [("kept", "a")]
    (claim,) = queue.claim("w2", now_ms=NOW_MS + TTL_MS).claims
    queue.settle(Item("end", claim.lease_id, "a", "a", b"done", extras=("1",)), worker="w2")

    assert is_free(queue)


def test_a_replaced_task_is_settled_and_the_new_one_stands_behind(queue: QueueScripts) -> None:
    queue.enqueue(new("a"))
    queue.client.rpush(NORMAL, task("x"))

    assert queue.enqueue(new("b", conflict="replace")) == [("new", "b")]

    assert queue.waiting() == [task("x"), task("b")]
    assert json.loads(queue.client.get("task_result:a")) == {"task_id": "a", "status": "error"}


def test_a_running_task_is_not_replaced_but_stopped_where_asked(queue: QueueScripts) -> None:
    queue.enqueue(new("a"))
    queue.claim()

    assert queue.enqueue(new("b", conflict="replace")) == [("new", "b")]
    assert queue.client.zcard("aworker:cancelled") == 0
    queue.claim()
    assert queue.enqueue(new("c", conflict="stop")) == [("new", "c")]

    assert queue.client.zrange("aworker:cancelled", 0, -1) == [b"b"]


def test_a_key_is_found_in_a_long_list_from_either_end(queue: QueueScripts) -> None:
    filler = [task(f"t{index}") for index in range(21_000)]
    queue.enqueue(new("a"))
    queue.client.rpush(NORMAL, *filler)
    assert queue.enqueue(new("b")) == [("kept", "a")]

    queue.client.lrem(NORMAL, 1, task("a"))

    assert is_free(queue)


def test_a_list_that_is_none_takes_nothing_and_keeps_its_tick(queue: QueueScripts) -> None:
    queue.client.set(NORMAL, "no list")

    assert queue.enqueue(new("a", schedule="s", tick_ms=NOW_MS)) == [("wrong", "a")]

    queue.client.delete(NORMAL)
    assert queue.enqueue(new("a", schedule="s", tick_ms=NOW_MS)) == [("new", "a")]


async def test_what_is_replaced_is_heard_of_as_an_error(redis_url: str) -> None:
    async with Client(redis_url) as client:
        first = await client.enqueue("alert", unique_key='odd "key" %1 $TASK$', task_id="one %d $TASK$")
        async with client.updates(first) as updates:
            await client.enqueue("alert", unique_key='odd "key" %1 $TASK$', on_conflict="replace")

            heard = [await updates.next(timeout_s=5) for _ in range(2)]
        record = await client.result(first)

    assert [message and message["status"] for message in heard] == ["error", "failed"]
    assert record is not None
    assert (record["task_id"], record["data"]["error_type"]) == (first, "TaskReplaced")


async def test_the_last_one_wins_after_a_quiet_time(queue: QueueScripts, redis_url: str) -> None:
    ran: list[int] = []

    async def note(args: dict[str, Any], context: Context) -> dict[str, Any]:
        ran.append(args["number"])
        return {}

    config = config_of(redis_url)
    async with Client(config=config) as client, running_worker(config, {"note": note}):
        for number in range(20):
            await client.enqueue("note", {"number": number}, unique_key="note", debounce_s=0.5)
            assert queue.client.zcard("aworker:delayed") == 1

        async def has_run() -> bool:
            return bool(ran)

        await eventually(has_run)
        assert ran == [19]

        await client.enqueue("note", {"number": 20}, unique_key="note", debounce_s=0.01)

        async def has_run_again() -> bool:
            return ran == [19, 20]

        await eventually(has_run_again)


async def test_many_who_ask_at_once_get_one_task(queue: QueueScripts, redis_url: str) -> None:
    ids: set[str] = set()

    async def ask() -> None:
        async with Client(redis_url) as client:
            ids.add(await client.enqueue("alert", unique_key="one"))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(ask)

    assert len(ids) == 1
    assert queue.client.llen(NORMAL) == 1


async def test_a_task_that_asks_to_be_tried_again_keeps_its_key(queue: QueueScripts, redis_url: str) -> None:
    async def later(args: dict[str, Any], context: Context) -> Any:
        return Retry(0.3) if context.delivery < 3 else {}

    config = config_of(redis_url)
    async with Client(config=config) as client, running_worker(config, {"later": later}):
        first = await client.enqueue("later", unique_key="k")
        seen = {first}
        while (record := await client.result(first)) is None or record["status"] != "completed":
            if (other := await client.enqueue("later", unique_key="k")) != first:
                record = await client.result(first)
                assert record is not None
                assert record["status"] == "completed"
                break
            seen.add(other)
        assert seen == {first}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unique_key": ""}, "unique_key must be a text"),
        ({"unique_key": 7}, "unique_key must be a text"),
        ({"unique_key": "x" * 513}, "unique_key must be a text"),
        ({"unique_key": "k", "unique_for_s": 0}, "unique_for_s must be"),
        ({"unique_key": "k", "unique_for_s": float("nan")}, "unique_for_s must be"),
        ({"unique_key": "k", "unique_until": "time"}, "unique_for_s must be given"),
        ({"unique_key": "k", "unique_until": "never"}, "unique_until must be one of"),
        ({"unique_key": "k", "on_conflict": "drop"}, "on_conflict must be one of"),
        ({"unique_for_s": 5}, "unique_key must be given"),
        ({"debounce_s": 5}, "unique_key must be given"),
        ({"unique_key": "k", "debounce_s": 5, "delay_s": 5}, "debounce_s must stand alone"),
        ({"unique_key": "k", "task_id": 'a"b'}, "task_id must be at most"),
        ({"unique_key": "k", "task_id": "a\nb"}, "task_id must be at most"),
        ({"unique_key": "k", "task_id": "x" * 201}, "task_id must be at most"),
    ],
)
async def test_what_is_no_key_is_refused_and_leaves_nothing(
    queue: QueueScripts, redis_url: str, settings: dict[str, Any], words: str
) -> None:
    async with Client(redis_url) as client:
        with pytest.raises(PayloadInvalid, match=words):
            await client.enqueue_many([("alert", {}), NewTask(task_type="alert", **settings)])

    assert queue.client.keys("*") == []


async def test_a_push_onto_no_list_says_so(queue: QueueScripts, redis_url: str) -> None:
    queue.client.set(NORMAL, "no list")

    async with Client(redis_url) as client:
        with pytest.raises(QueueUnavailable, match="strategy_queue must be a list"):
            await client.enqueue("alert", unique_key="k")
