"""Limits over all workers, in the claim script on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aworker.client.client import Client
from aworker.config import Config, TaskConfig, every_ms
from aworker.queues.hand.why import find_task
from aworker.queues.lane.admission import total_limits
from tests.kit.queue_scripts import NORMAL, NOW_MS, TTL_MS, ClaimReply, Item, Level, QueueScripts, task

ONE = (Level(NORMAL, take_from="left"),)


def limited(queue: QueueScripts, name: str, user: Any = None, **args: Any) -> bytes:
    payload = task(name, task_type="call", args={**args, **({} if user is None else {"user_id": user})})
    queue.client.rpush(NORMAL, payload)
    return payload


def claim(queue: QueueScripts, worker: str = "w1", want: int = 10, *, now_ms: int = NOW_MS, **words: Any) -> ClaimReply:
    config = Config(tasks={"call": TaskConfig(**words)})
    limits = {
        "types": {},
        "users": {},
        "totals": total_limits(config),
        "prefix": queue.keys.limit(""),
        "leases": queue.keys.leases(""),
    }
    return queue.claim(worker, want, ONE, limits=limits, now_ms=now_ms)


def names(reply: ClaimReply) -> list[str]:
    return [json.loads(payload)["task_id"] for payload in reply.payloads]


def settle(queue: QueueScripts, reply: ClaimReply, worker: str = "w1") -> None:
    queue.settle(
        *(Item("end", one.lease_id, one.registered, one.registered, b"", extras=("",)) for one in reply.claims),
        worker=worker,
    )


def test_no_more_run_than_are_allowed_over_all_workers(queue: QueueScripts) -> None:
    for name in "abcde":
        limited(queue, name)
    queue.client.rpush(NORMAL, task("other"))

    first = claim(queue, "w1", max_concurrent_total=2)
    second = claim(queue, "w2", max_concurrent_total=2)

    assert (names(first), names(second)) == (["a", "b", "other"], [])
    assert second.states == ["passed"]
    assert [json.loads(payload)["task_id"] for payload in queue.waiting()] == ["c", "d", "e"]

    settle(queue, first)
    assert names(claim(queue, "w2", max_concurrent_total=2)) == ["c", "d"]


@pytest.mark.parametrize("kind", ["end", "dead", "back", "delay"])
def test_however_a_task_ends_its_share_is_free(queue: QueueScripts, kind: str) -> None:
    limited(queue, "a")
    (one,) = claim(queue, max_concurrent_total=1).claims
    limited(queue, "b")
    assert names(claim(queue, "w2", max_concurrent_total=1)) == []

    extras: dict[str, tuple[Any, ...]] = {
        "end": ("",),
        "dead": ("queue", NORMAL),
        "back": ("", "auto"),
        "delay": (1_000,),
    }
    queue.settle(Item(kind, one.lease_id, "a", "a", extras=extras[kind]))

    assert len(claim(queue, "w2", max_concurrent_total=1).claims) == 1


def test_a_dead_workers_share_is_held_until_its_tasks_were_taken_over(queue: QueueScripts) -> None:
    limited(queue, "a")
    claim(queue, "dies", max_concurrent_total=1)
    limited(queue, "b")

    assert names(claim(queue, "w2", max_concurrent_total=1, now_ms=NOW_MS + TTL_MS + 1)) == []
    _, (lease,) = queue.reclaim("w2")
    queue.settle(Item("back", lease.lease_id, "a", "a", extras=("", "auto")), worker="w2")

    assert names(claim(queue, "w2", max_concurrent_total=1, now_ms=NOW_MS + 2 * TTL_MS)) == ["a"]
    assert queue.client.hlen("aworker:limit:running:call") == 1


def test_a_claim_that_is_sent_again_takes_no_second_share(queue: QueueScripts) -> None:
    for name in "abc":
        limited(queue, name)
    words: dict[str, Any] = {"totals": {"call": {"most": 2}}, "types": {}, "users": {}}
    words.update(prefix=queue.keys.limit(""), leases=queue.keys.leases(""))

    replies = [queue.claim("w1", 1, ONE, limits=words, number=7) for _ in range(3)]

    assert [reply.payloads for reply in replies] == [[task("a", task_type="call")]] * 3
    assert names(claim(queue, "w2", max_concurrent_total=2)) == ["b"]


def test_each_user_has_a_limit_of_its_own(queue: QueueScripts) -> None:
    for name, user in (
        ("a", 1),
        ("b", 1),
        ("c", "1"),
        ("d", 2),
        ("e", 9_007_199_254_740_993),
        ("f", None),
        ("g", None),
    ):
        limited(queue, name, user)

    assert names(claim(queue, max_concurrent_total_per_user=1)) == ["a", "d", "e", "f", "g"]
    assert names(claim(queue, "w2", max_concurrent_total_per_user=1)) == []


@pytest.mark.parametrize("burst", [1, 3])
def test_a_rate_lets_through_no_more_than_it_says_in_any_span_of_time(queue: QueueScripts, burst: int) -> None:
    for index in range(100):
        limited(queue, f"t{index}")
    started: list[int] = []

    for step in range(400):
        now_ms = NOW_MS + step * 50
        reply = claim(queue, f"w{step % 4}", want=10, now_ms=now_ms, rate="60/min", burst=burst)
        started += [now_ms] * len(reply.claims)
        settle(queue, reply, f"w{step % 4}")

    for begin in started:
        for span_ms in (1, 1_000, 5_000, 15_000):
            assert sum(begin <= at < begin + span_ms for at in started) <= burst + span_ms // 1_000 - (span_ms >= 1_000)
    assert len(started) == 20 + burst - 1


def test_a_rate_says_when_the_next_one_may_start(queue: QueueScripts) -> None:
    for name in "ab":
        limited(queue, name)

    assert claim(queue, rate="10/s").states == ["passed 100"]
    assert claim(queue, "w2", rate="10/s", now_ms=NOW_MS + 60).states == ["passed 40"]
    assert names(claim(queue, "w2", rate="10/s", now_ms=NOW_MS + 100)) == ["b"]


def test_each_user_has_a_rate_of_its_own(queue: QueueScripts) -> None:
    for name, user in (("a", 1), ("b", 1), ("c", 2), ("d", None), ("e", None)):
        limited(queue, name, user)

    assert names(claim(queue, rate_per_user="1/min")) == ["a", "c", "d", "e"]


def test_a_clock_that_jumped_back_stops_nothing_for_longer_than_the_burst(queue: QueueScripts) -> None:
    for name in "ab":
        limited(queue, name)
    assert names(claim(queue, want=1, rate="1/s")) == ["a"]

    hour_before_ms = NOW_MS - 3_600_000
    assert names(claim(queue, rate="1/s", now_ms=hour_before_ms)) == []
    queue.client.set("aworker:limit:rate:call", NOW_MS)

    assert claim(queue, rate="1/s", now_ms=hour_before_ms).states == ["passed 1000"]


@pytest.mark.parametrize("bytes_", [100, 20_000, 900_000])
def test_a_large_payload_is_held_back_too(queue: QueueScripts, bytes_: int) -> None:
    limited(queue, "a", prompt="x" * bytes_)
    limited(queue, "b", prompt="x" * bytes_)

    assert names(claim(queue, max_concurrent_total=1)) == ["a"]


def test_a_task_that_only_speaks_of_a_limited_type_is_not_held_back(queue: QueueScripts) -> None:
    limited(queue, "a")
    queue.client.rpush(NORMAL, task("other", args={"task_type": "call"}))
    limited(queue, "b")

    assert names(claim(queue, max_concurrent_total=1)) == ["a", "other"]


async def test_why_names_the_limit(queue: QueueScripts, redis_url: str) -> None:
    words: dict[str, Any] = {
        "max_concurrent_total": 1,
        "max_concurrent_total_per_user": 1,
        "rate": "1/min",
        "rate_per_user": "1/h",
    }
    limited(queue, "a", 7)
    limited(queue, "b", 7)
    seconds, _ = queue.client.time()
    claim(queue, now_ms=seconds * 1000, **words)

    async with Client(redis_url) as client:
        found = await find_task(client._redis, Config(tasks={"call": TaskConfig(**words)}), "b", {})

    texts = [reason.text for reason in found.waits_for if reason.what in ("total limit", "rate")]
    assert ["(tasks.call." + word for word in ("max_concurrent_total)", "max_concurrent_total_per_user)")] == [
        "(" + text.rpartition("(")[2] for text in texts[:2]
    ]
    assert [text.partition(":")[0] for text in texts[2:]] == [
        "its rate, 1/min (tasks.call.rate)",
        "its rate, 1/h (tasks.call.rate_per_user)",
    ]


@pytest.mark.parametrize(
    ("rate", "ms"),
    [
        ("60/min", 1_000),
        ("5/s", 200),
        ("1000/d", 86_400),
        ("10/15min", 90_000),
        ("1/h", 3_600_000),
        ("", 0),
        ("0/min", 0),
        ("60", 0),
        ("60/month", 0),
        ("-1/s", 0),
        ("1.5/s", 0),
        ("60 / min", 0),
    ],
)
def test_rates_are_said_as_people_say_them(rate: str, ms: float) -> None:
    assert every_ms(rate) == ms
