"""Pushing by a level's label or list, one task or many."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aworker import NewTask
from aworker.client.client import Client
from aworker.errors import ConfigError, PayloadInvalid
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts


@pytest.mark.parametrize("word", ["priority", "strategy_queue_priority"])
async def test_a_queue_is_named_by_its_label_or_its_list(queue: QueueScripts, redis_url: str, word: str) -> None:
    async with Client(redis_url) as client:
        await client.enqueue("alert", queue=word)

    assert queue.client.llen(PRIORITY) == 1


@pytest.mark.parametrize("word", ["nosuch", "", "PRIORITY", 3])
async def test_any_other_word_is_refused_with_those_that_there_are(
    queue: QueueScripts, redis_url: str, word: Any
) -> None:
    async with Client(redis_url) as client:
        with pytest.raises(ConfigError, match=r"priority \(strategy_queue_priority\), normal \(strategy_queue\), was"):
            await client.enqueue("alert", queue=word)

    assert queue.client.keys("*") == []


async def test_many_take_what_one_takes_each_or_all(queue: QueueScripts, redis_url: str) -> None:
    async with Client(redis_url) as client:
        task_ids = await client.enqueue_many(
            [
                ("alert", {"strategy_id": 1}),
                NewTask(task_type="alert", task_id="mine", priority="high"),
                NewTask(task_type="alert", task_id="there", queue="normal"),
                ("create_strategy", None),
            ],
            queue="priority",
        )

    first = [json.loads(payload) for payload in queue.client.lrange(PRIORITY, 0, -1)]
    (second,) = (json.loads(payload) for payload in queue.client.lrange(NORMAL, 0, -1))
    assert [task["task_id"] for task in first] == [task_ids[0], "mine", task_ids[3]]
    assert first[1]["priority"] == "high"
    assert second["task_id"] == "there"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NewTask(task_type=""), PayloadInvalid),
        (NewTask(task_type="alert", queue="nosuch"), ConfigError),
        (NewTask(task_type="alert", priority="urgent"), PayloadInvalid),
        (("alert",), PayloadInvalid),
        (None, PayloadInvalid),
        (("alert", {"x": object()}), PayloadInvalid),
    ],
)
async def test_one_that_is_refused_leaves_all_unpushed(
    queue: QueueScripts, redis_url: str, bad: Any, error: type[Exception]
) -> None:
    async with Client(redis_url) as client:
        with pytest.raises(error):
            await client.enqueue_many([("alert", {}), bad, ("alert", {})])

    assert queue.client.keys("*") == []
