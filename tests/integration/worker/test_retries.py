"""Handlers that are tried again: when, how often, and what is kept of each try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from aworker.client.client import Client
from aworker.config import Config, TaskConfig
from aworker.errors import ConfigError, HandlerTimedOut, PermanentFailure
from aworker.execution.context import Context
from aworker.execution.policy import Backoff, RetryPolicy, kinds_of, policy_of
from aworker.execution.retry import Retry
from aworker.queues.hand.dead_letters import DeadLetters
from tests.kit.queue_scripts import QueueScripts
from tests.kit.workers import config_of, running_worker

AT_ONCE = [0.01]


class Flaky(ConnectionError):
    """What comes and goes."""


def policy(**words: Any) -> RetryPolicy:
    whole: dict[str, Any] = {"retries": 0, "retry_on": (), "backoff": AT_ONCE, "jitter": 0.0, "give_up_after_s": 0.0}
    return policy_of("t", **{**whole, **words})


class Tried:
    """A handler that ends each delivery as told, and notes what it was handed."""

    def __init__(self, *ends: Exception | Retry | None) -> None:
        self._ends = ends
        self.seen: list[tuple[int, str | None]] = []

    @property
    def handler(self) -> Callable[..., Any]:
        async def tried(args: dict[str, Any], context: Context) -> Any:
            self.seen.append((context.delivery, context.last_error))
            end = self._ends[min(context.delivery, len(self._ends)) - 1]
            if isinstance(end, Retry):
                return end
            if end is not None:
                raise end
            return {"delivery": context.delivery}

        return tried


async def ended(redis_url: str, tried: Tried, how: RetryPolicy, **sections: Any) -> dict[str, Any]:
    config = config_of(redis_url, **sections)
    with anyio.fail_after(60):
        async with Client(config=config) as client, running_worker(config, {"t": tried.handler}, policies={"t": how}):
            record = await client.result(await client.enqueue("t", task_id="one"), wait_s=50)
    assert record is not None
    return record


async def test_what_it_failed_with_is_told_to_the_next_try_and_gone_with_success(
    queue: QueueScripts, redis_url: str
) -> None:
    tried = Tried(Flaky("first"), ValueError("second"), None)

    record = await ended(redis_url, tried, policy(retries=5))

    assert (record["status"], record["data"]["delivery"]) == ("completed", 3)
    assert tried.seen == [(1, None), (2, "Flaky: first"), (3, "ValueError: second")]
    assert queue.client.exists("aworker:deliveries") == 0


async def test_a_dead_letter_keeps_the_errors_of_every_try(queue: QueueScripts, redis_url: str) -> None:
    tried = Tried(Flaky("one"), Retry(0.01, "not yet"), ValueError("three"))

    record = await ended(redis_url, tried, policy(retries=2))

    assert (record["status"], record["data"]["error"], record["data"]["attempts"]) == ("error", "ValueError: three", 3)
    async with Client(redis_url) as client:
        (letter,) = await DeadLetters(client._redis, Config()).newest()
        told = [(one["delivery"], one["error_type"], one["error"]) for one in letter.errors]
        assert told == [(1, "Flaky", "Flaky: one"), (2, "Retry", "not yet")]
        assert letter.error == "ValueError: three"

        assert await DeadLetters(client._redis, Config()).requeue() == 1
    assert queue.client.exists("aworker:deliveries") == 0


@pytest.mark.parametrize(
    ("error", "retry_on", "tries"),
    [
        (Flaky("x"), (), 3),
        (Flaky("x"), (Flaky,), 3),
        (Flaky("x"), ConnectionError, 3),
        (Flaky("x"), (KeyError, OSError), 3),
        (ValueError("x"), (ConnectionError,), 1),
        (PermanentFailure("x"), (), 1),
        (PermanentFailure("x"), (Exception,), 1),
        (type("Gone", (PermanentFailure,), {})("x"), (), 1),
        (HandlerTimedOut("x"), (TimeoutError,), 3),
    ],
)
async def test_only_what_it_is_told_to_is_tried_again(
    redis_url: str, error: Exception, retry_on: Any, tries: int
) -> None:
    tried = Tried(error)

    record = await ended(redis_url, tried, policy(retries=2, retry_on=retry_on))

    assert (record["status"], len(tried.seen)) == ("error", tries)


@pytest.mark.parametrize(("in_file", "tries"), [(None, 2), (0, 1), (3, 4)])
async def test_the_file_outdoes_the_handler(redis_url: str, in_file: int | None, tries: int) -> None:
    tried = Tried(ValueError("x"))

    await ended(redis_url, tried, policy(retries=1), tasks={"t": TaskConfig(retries=in_file)})

    assert len(tried.seen) == tries


async def test_no_try_begins_later_than_it_is_told_to_give_up(redis_url: str) -> None:
    tried = Tried(ValueError("x"))

    record = await ended(redis_url, tried, policy(retries=1_000, backoff=[0.01, 3_600], give_up_after_s=60))

    assert (record["data"]["error"], len(tried.seen)) == ("ValueError: x", 2)


async def test_a_returned_retry_is_capped_by_the_same_bounds(redis_url: str) -> None:
    for_ever = Tried(Retry(0.01, "again"))

    by_time = await ended(redis_url, for_ever, policy(give_up_after_s=0.0001))

    assert len(for_ever.seen) == 1
    assert by_time["data"]["error"] == "gave up after 0.0001 s (give_up_after_s): again"


async def test_the_newest_errors_are_kept_where_there_are_many(redis_url: str) -> None:
    tried = Tried(*(ValueError(str(number)) for number in range(1, 26)))

    await ended(redis_url, tried, policy(retries=24))

    async with Client(redis_url) as client:
        (letter,) = await DeadLetters(client._redis, Config()).newest()
    assert [one["delivery"] for one in letter.errors] == list(range(5, 25))


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        ("exponential", [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        ("linear", [10, 20, 30, 40]),
        ([5, 60, 600], [5, 60, 600, 600, 600]),
        ((0,), [0, 0]),
    ],
)
def test_waits_grow_as_told(backoff: Backoff, expected: list[float]) -> None:
    without = policy(backoff=backoff)
    shortened = policy(backoff=backoff, jitter=1)

    assert [without.wait_s(delivery) for delivery in range(1, len(expected) + 1)] == expected
    assert all(0 <= shortened.wait_s(at + 1) <= most for at, most in enumerate(expected))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ({"retries": -1}, "retries must be >= 0"),
        ({"retries": True}, "retries must be >= 0"),
        ({"retry_on": (ValueError("x"),)}, "retry_on must be classes"),
        ({"retry_on": (int,)}, "retry_on must be classes"),
        ({"backoff": "quadratic"}, "backoff must be exponential, linear or a list"),
        ({"backoff": []}, "backoff must be exponential"),
        ({"backoff": [5, -1]}, "backoff must be exponential"),
        ({"jitter": 1.5}, "jitter must be a fraction"),
        ({"jitter": float("nan")}, "jitter must be a fraction"),
        ({"give_up_after_s": -1}, "give_up_after_s must be seconds"),
    ],
)
def test_what_is_no_policy_is_refused(words: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        policy(**words)


def test_classes_are_named_alike_in_the_loop_and_in_a_child() -> None:
    assert kinds_of(Flaky)[:2] == (f"{__name__}.Flaky", "builtins.ConnectionError")
