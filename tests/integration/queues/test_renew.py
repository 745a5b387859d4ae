"""The renew script on a real server."""

from __future__ import annotations

import pytest

from tests.kit.queue_scripts import NORMAL, NOW_MS, TTL_MS, Item, QueueScripts, task


def test_a_renewal_moves_the_deadline(queue: QueueScripts) -> None:
    queue.renew(now_ms=NOW_MS)

    now_ms, stood, held, other, due = queue.renew(now_ms=NOW_MS + 1_000)

    assert queue.client.zscore("aworker:workers", "w1") == NOW_MS + 1_000 + TTL_MS
    assert (now_ms, stood, held, other, due) == (NOW_MS + 1_000, 1, 0, -1, -1)


def test_a_renewal_takes_the_servers_clock_when_told_none(queue: QueueScripts) -> None:
    seconds, microseconds = queue.client.time()

    now_ms, *_ = queue.renew(now_ms="")  # type: ignore[arg-type]

    assert 0 <= now_ms - (seconds * 1000 + microseconds // 1000) < 60_000


def test_a_renewal_counts_the_leases_held(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"), task("b"))
    queue.claim(want=2)

    assert queue.renew()[2] == 2


def test_the_first_renewal_of_a_worker_finds_no_deadline(queue: QueueScripts) -> None:
    assert queue.renew()[1] == 0


def test_a_worker_that_overslept_but_was_not_reaped_keeps_its_leases(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"))
    queue.claim()

    _, stood, held, *_ = queue.renew(now_ms=NOW_MS + 60_000)

    assert (stood, held) == (1, 1)
    assert queue.reclaim("w2", now_ms=NOW_MS + 60_001) == ("", [])


def test_a_reaped_worker_is_told_and_holds_nothing(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"))
    (claim,) = queue.claim().claims
    queue.reclaim("w2", now_ms=NOW_MS + TTL_MS + 1)

    _, stood, held, other, _ = queue.renew("w1", now_ms=NOW_MS + TTL_MS + 2)

    assert (stood, held) == (0, 0)
    assert other == NOW_MS + TTL_MS + 1 + TTL_MS
    assert queue.settle(Item("end", claim.lease_id, "a", "a", b"stale"))[1] == [0]


@pytest.mark.parametrize("own_first", [True, False])
def test_a_renewal_names_the_earliest_deadline_of_another(queue: QueueScripts, own_first: bool) -> None:
    queue.renew("w1", now_ms=NOW_MS if own_first else NOW_MS + 500)
    queue.renew("w2", now_ms=NOW_MS + 100)
    queue.renew("w3", now_ms=NOW_MS + 200)

    *_, other, _ = queue.renew("w1", now_ms=NOW_MS if own_first else NOW_MS + 500)

    assert other == NOW_MS + 100 + TTL_MS


def test_a_renewal_names_the_first_delayed_task(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"))
    (claim,) = queue.claim().claims
    queue.settle(Item("delay", claim.lease_id, "a", "a", extras=(7_000,)))

    assert queue.renew()[4] == NOW_MS + 7_000


def test_a_heartbeat_is_stored_and_published(queue: QueueScripts) -> None:
    heard = queue.client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("worker_heartbeat")
    heard.get_message(timeout=1)

    queue.renew(heartbeat=b"alive")

    assert queue.client.get("worker_heartbeat:w1") == b"alive"
    assert 25 < queue.client.ttl("worker_heartbeat:w1") <= 30
    assert heard.get_message(timeout=1)["data"] == b"alive"
    heard.close()


def test_a_full_server_takes_renewal_and_heartbeat(full_queue: QueueScripts) -> None:
    queue = full_queue
    queue.fill_server()

    queue.renew(heartbeat=b"alive")

    assert queue.client.get("worker_heartbeat:w1") == b"alive"
    assert queue.client.zcard("aworker:workers") == 1
