"""Handlers that raise, return and cancel what no handler should: the task ends in an error, and the slot goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger

from aworker.config import ResultsConfig, WorkerConfig
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of, eventually, running_worker


class Unheard(BaseException):
    """What is no Exception."""


class Textless(Exception):
    """What raises when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def cancels_itself() -> dict[str, Any]:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(60)
    return {}


async def cancels_itself_twice_and_raises() -> dict[str, Any]:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    current.cancel()
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("after its own cancel")


def raises(error: BaseException) -> Callable[[], Any]:
    async def function() -> None:
        raise error

    return function


def gives(value: Any) -> Callable[[], Any]:
    async def function() -> Any:
        return value

    return function


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("function", "error_type"),
    [
        (raises(Unheard("!")), "Unheard"),
        (raises(Textless()), "Textless"),
        (raises(SystemExit(3)), "SystemExit"),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raises(asyncio.CancelledError()), "CancelledError"),
        (raises(ValueError("\ud800")), "ValueError"),
        (raises(ExceptionGroup("two", [ValueError("a"), TypeError("b")])), "ValueError"),
        (raises(BaseExceptionGroup("two", [Unheard("a"), KeyboardInterrupt()])), "Unheard"),
        (cancels_itself, "CancelledError"),
        (cancels_itself_twice_and_raises, "ValueError"),
        (gives(object()), "ResultInvalid"),
        (gives({"a": "\ud800"}), "ResultInvalid"),
        (gives({"a": nested(5_000)}), "ResultInvalid"),
        (gives({"a": 10**5_000}), "ResultInvalid"),
        (gives({"a": "x" * 9_000_000}), "ResultInvalid"),
    ],
)
async def test_a_handler_that_ends_badly_costs_its_own_task_only(
    queue: QueueScripts, redis_url: str, function: Callable[[], Any], error_type: str
) -> None:
    async def bad(args: dict[str, Any], context: Any) -> Any:
        return await function()

    async def good(args: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"success": True}

    async def good_is_completed() -> bool:
        text = queue.client.get("task_result:good")
        return text is not None and json.loads(text)["status"] == "completed"

    config = config_of(
        redis_url, worker=WorkerConfig(slots=1, reserved={}), results=ResultsConfig(repeat_fast_after_s=0)
    )
    queue.client.lpush(NORMAL, task("bad", task_type="bad"), task("good", task_type="good"))

    async with running_worker(config, {"bad": bad, "good": good}):
        # One slot: the good task runs only if the bad one has given it back.
        await eventually(good_is_completed)

    record = json.loads(queue.client.get("task_result:bad"))
    assert (record["status"], record["data"]["error_type"]) == ("error", error_type)
    assert queue.dead() == [task("bad", task_type="bad")]
    assert queue.left_behind() == ["aworker:dead", "aworker:dead_bytes"]


async def test_foreign_text_cannot_begin_a_line_of_the_log(queue: QueueScripts, redis_url: str) -> None:
    async def bad(args: dict[str, Any], context: Any) -> Any:
        raise ValueError("first\r\nsecond\x1b[2J")

    async def is_over() -> bool:
        return bool(queue.client.xlen("aworker:dead"))

    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    queue.client.lpush(NORMAL, task("a\\nCompleted b", task_type="bad"))
    try:
        async with running_worker(config_of(redis_url), {"bad": bad}):
            await eventually(is_over)
    finally:
        logger.remove(sink)

    assert "Processing bad task a\\nCompleted b from normal queue\n" in lines
    assert any(line.endswith(": ValueError: first\\r\\nsecond\\x1b[2J\n") for line in lines)
    assert all(line.count("\n") == 1 for line in lines)
