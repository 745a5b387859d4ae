"""The due script on a real server, and the delay that leads to it."""

from __future__ import annotations

import pytest

from tests.kit.queue_scripts import NORMAL, NOW_MS, PRIORITY, Item, Level, QueueScripts, task


def delay(queue: QueueScripts, payload: bytes, delay_ms: int, name: str = NORMAL) -> None:
    queue.client.rpush(name, payload)
    (claim,) = queue.claim().claims
    queue.settle(Item("delay", claim.lease_id, claim.registered, claim.registered, b"queued", extras=(delay_ms,)))


def test_a_delayed_task_waits_for_its_time(queue: QueueScripts) -> None:
    delay(queue, task("a"), 1_000)

    moved = queue.due(now_ms=NOW_MS + 999)

    assert moved == 0
    assert queue.delayed() == [task("a")]


def test_a_due_task_goes_back_onto_its_own_list(queue: QueueScripts) -> None:
    delay(queue, task("a"), 1_000, PRIORITY)

    moved = queue.due(now_ms=NOW_MS + 1_000)

    assert moved == 1
    assert queue.waiting(PRIORITY) == [task("a")]
    assert queue.delayed() == []


def test_a_due_task_goes_onto_the_taking_end(queue: QueueScripts) -> None:
    delay(queue, task("a"), 1_000)
    queue.client.rpush(NORMAL, task("x", "2026-09-21T10:00:00Z"), task("y", "2026-09-21T11:00:00Z"))
    queue.claim(want=0)
    queue.client.hset("aworker:ends", NORMAL, f"left {NOW_MS}")

    queue.due(now_ms=NOW_MS + 1_000)

    assert queue.waiting()[0] == task("a")


def test_a_due_task_goes_onto_the_end_that_the_configuration_fixes(queue: QueueScripts) -> None:
    left = Level(NORMAL, take_from="left")
    queue.client.rpush(NORMAL, task("a"), task("b"))
    (claim,) = queue.claim(levels=(left,)).claims
    queue.settle(Item("delay", claim.lease_id, "a", "a", extras=(0,)))

    queue.due()

    assert queue.claim(levels=(left,)).payloads == [task("a")]


def test_equal_payloads_are_delayed_each_for_itself(queue: QueueScripts) -> None:
    delay(queue, task("a"), 1_000)
    delay(queue, task("a"), 1_000)

    assert queue.delayed() == [task("a")] * 2
    assert queue.due(now_ms=NOW_MS + 1_000) == 2
    assert queue.waiting() == [task("a")] * 2


def test_no_more_are_moved_than_asked_for(queue: QueueScripts) -> None:
    for index in range(5):
        delay(queue, task(f"t{index}"), 1_000 + index)

    moved = queue.due(now_ms=NOW_MS + 9_000, most=3)

    assert moved == 3
    assert queue.delayed() == [task("t3"), task("t4")]


def test_a_delay_counts_the_delivery(queue: QueueScripts) -> None:
    delay(queue, task("a"), 0)
    queue.due()

    (claim,) = queue.claim().claims

    assert claim.delivery == 2


@pytest.mark.parametrize("payload", [b"", b"\n", b'1 "x"\n', b"\x00\xff\n\n"])
def test_any_bytes_survive_a_delay(queue: QueueScripts, payload: bytes) -> None:
    delay(queue, payload, 0)

    queue.due()

    assert queue.waiting() == [payload]


def test_a_due_task_whose_list_became_another_type_waits_on(queue: QueueScripts) -> None:
    delay(queue, task("a"), 0, PRIORITY)
    delay(queue, task("b"), 1)
    queue.client.set(PRIORITY, "not a list")

    moved = queue.due(now_ms=NOW_MS + 10)

    assert moved == 1
    assert queue.delayed() == [task("a")]
    assert queue.waiting() == [task("b")]


def test_due_tasks_are_moved_on_a_full_server(full_queue: QueueScripts) -> None:
    queue = full_queue
    delay(queue, task("a"), 0)
    queue.fill_server()

    assert queue.due() == 1
    assert queue.waiting() == [task("a")]
