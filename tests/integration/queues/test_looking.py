"""Looking at long lists page by page, and finding dead letters without carrying them over."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from aworker.config import Config
from aworker.queues.hand.dead_letters import STEP, DeadLetters
from aworker.queues.hand.look import CUT_BYTES, ask, look_at_dead, look_at_delayed, look_at_waiting, look_command
from aworker.queues.scripts import LOOK
from tests.kit.pages import bury
from tests.kit.queue_scripts import NORMAL, QueueScripts, task

CONFIG = Config()
LEVEL = CONFIG.queues[1]


async def test_pages_join_without_a_gap_from_either_end(queue: QueueScripts, redis_url: str) -> None:
    for turn in (1, -1):
        queue.client.flushall()
        payloads = [task(f"t{index:02}", f"2026-09-21T14:13:{index:02}Z") for index in range(57)]
        queue.client.rpush(NORMAL, *payloads[::turn])
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            found = [
                entry.task_id
                for start in range(0, 75, 25)
                for entry in (await look_at_waiting(client, CONFIG, LEVEL, start)).entries
            ]

        assert found == [f"t{index:02}" for index in range(57)]


async def test_a_page_after_the_last_is_empty(queue: QueueScripts, redis_url: str) -> None:
    queue.client.rpush(NORMAL, task("a"), task("b"))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        for start in (2, 25, 10**8):
            shelf = await look_at_waiting(client, CONFIG, LEVEL, start)
            assert (shelf.total, shelf.entries) == (2, [])
        assert (await look_at_delayed(client, CONFIG, 0)).entries == []
        assert (await look_at_dead(client, CONFIG)).letters == []


async def test_what_is_long_is_cut_and_still_named(queue: QueueScripts, redis_url: str) -> None:
    long = task("long", args={"prompt": "é" * 50_000})
    queue.client.rpush(NORMAL, long)
    queue.client.zadd(queue.keys.delayed, {b'7 "strategy_queue"\n' + long: 5_000, b"odd": 6_000})
    bury(queue.client, {"payload": long, "error": "e" * 50_000, "task_id": "long"})
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        (waits,) = (await look_at_waiting(client, CONFIG, LEVEL, 0)).entries
        delayed, odd = (await look_at_delayed(client, CONFIG, 0)).entries
        dead = await look_at_dead(client, CONFIG)

    assert (waits.task_id, len(waits.payload), waits.payload_bytes) == ("long", CUT_BYTES, len(long))
    assert (delayed.task_id, delayed.queue, delayed.due_s, delayed.payload_bytes) == ("long", "normal", 5.0, len(long))
    assert (odd.task_id, odd.queue) == (None, "")
    assert (len(dead.letters[0].payload), dead.payload_bytes, len(dead.letters[0].error)) == (
        CUT_BYTES,
        [len(long)],
        CUT_BYTES,
    )


async def test_a_dead_letter_is_found_however_deep_it_lies(queue: QueueScripts, redis_url: str) -> None:
    bury(queue.client, {"task_id": "deep", "error": "older"})
    (newer,) = bury(queue.client, {"task_id": "deep", "error": "newer"})
    (like_an_id,) = bury(queue.client, {"task_id": "12-34"})
    bury(queue.client, *({"task_id": f"d{index}"} for index in range(2 * STEP)))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        letters = DeadLetters(client, CONFIG)
        deep, by_entry, odd = [await letters.get(name) for name in ("deep", newer, "12-34")]

        assert deep is not None
        assert by_entry is not None
        assert odd is not None
        assert (deep.entry_id, deep.error, by_entry.task_id, odd.entry_id) == (newer, "newer", "deep", like_an_id)
        assert await letters.get("deep", look_at_most=STEP) is None
        assert await letters.get("nobody") is None
        assert await letters.get("99-99") is None
        assert await letters.get("") is None


async def test_the_oldest_of_a_list_is_found_wherever_it_stands(queue: QueueScripts, redis_url: str) -> None:
    async def created() -> list[bytes]:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            (reply,) = await ask(client, [look_command(NORMAL, "created", 0, 2)], LOOK)
        assert reply[0] == queue.client.llen(NORMAL)
        return sorted(reply[1:])

    assert await created() == []
    queue.client.rpush(NORMAL, task("one", "2026-01-01T00:00:00Z"))
    assert await created() == [b"2026-01-01T00:00:00Z"]
    queue.client.rpush(NORMAL, b"no task", b"[]", task("two", "2026-01-02T00:00:00+02:00"))
    assert await created() == [b"2026-01-01T00:00:00Z", b"2026-01-02T00:00:00+02:00"]

    queue.client.delete(NORMAL)
    queue.client.rpush(NORMAL, *(task(f"t{index}", f"2026-01-01T00:00:0{index}Z") for index in range(6)))
    assert await created() == [f"2026-01-01T00:00:0{index}Z".encode() for index in (0, 1, 4, 5)]

    queue.client.delete(NORMAL)
    queue.client.rpush(NORMAL, task("large", "2026-01-03T00:00:00Z", args={"prompt": '"created_at": "x"' * 9_000}))
    queue.client.rpush(NORMAL, task("odd", created_at=7), task("deep", args=_deep(900)))  # type: ignore[arg-type]
    assert await created() == [b"2026-01-03T00:00:00Z", b"2026-09-21T14:13:20Z"]


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value
