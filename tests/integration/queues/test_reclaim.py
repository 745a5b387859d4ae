"""The reclaim script on a real server."""

from __future__ import annotations

import pytest

from tests.kit.queue_scripts import NORMAL, NOW_MS, PRIORITY, TTL_MS, Item, QueueScripts, task

LATER_MS = NOW_MS + TTL_MS + 1


def claim_many(queue: QueueScripts, count: int, worker: str = "w1") -> list[bytes]:
    payloads = [task(f"t{index:03}") for index in range(count)]
    queue.client.lpush(NORMAL, *payloads)
    assert queue.claim(worker, want=count).payloads == payloads
    return payloads


def test_leases_of_a_dead_worker_move_to_the_reaper(queue: QueueScripts) -> None:
    payloads = claim_many(queue, 3)
    old_ids = [int(field) for field in queue.client.hkeys("aworker:leases:w1")]

    dead_worker, leases = queue.reclaim("w2")

    assert dead_worker == "w1"
    assert [lease.payload for lease in leases] == payloads
    assert queue.leased("w1") == []
    assert queue.leased("w2") == payloads
    assert min(lease.lease_id for lease in leases) > max(old_ids)
    assert queue.client.zscore("aworker:workers", "w1") is None
    assert queue.client.exists("aworker:commits:w1") == 0


@pytest.mark.parametrize("now_ms", [NOW_MS, NOW_MS + TTL_MS])
def test_leases_of_a_living_worker_stay(queue: QueueScripts, now_ms: int) -> None:
    payloads = claim_many(queue, 3)

    assert queue.reclaim("w2", now_ms=now_ms) == ("", [])
    assert queue.leased("w1") == payloads


def test_a_worker_does_not_reclaim_from_itself(queue: QueueScripts) -> None:
    claim_many(queue, 1)

    assert queue.reclaim("w1") == ("", [])
    assert queue.leased("w1") == [task("t000")]


def test_another_dead_worker_is_found_behind_the_own_expired_deadline(queue: QueueScripts) -> None:
    claim_many(queue, 1, "w1")
    queue.client.rpush(NORMAL, task("x"))
    queue.claim("w2", now_ms=NOW_MS + 1)

    dead_worker, leases = queue.reclaim("w1", now_ms=NOW_MS + 60_000)

    assert dead_worker == "w2"
    assert [lease.payload for lease in leases] == [task("x")]


def test_a_second_reclaim_finds_nothing(queue: QueueScripts) -> None:
    claim_many(queue, 3)
    queue.reclaim("w2", now_ms=LATER_MS)

    assert queue.reclaim("w3", now_ms=LATER_MS) == ("", [])
    assert queue.everywhere().total() == 3


def test_more_leases_than_fit_one_call_are_taken_in_several(queue: QueueScripts) -> None:
    payloads = claim_many(queue, 7)

    taken = [queue.reclaim(worker, most=3) for worker in ("w2", "w3", "w2", "w3")]

    assert [name for name, _ in taken] == ["w1", "w1", "w1", ""]
    assert [lease.payload for _, leases in taken for lease in leases] == payloads
    assert queue.everywhere() == dict.fromkeys(payloads, 1)
    assert queue.client.zscore("aworker:workers", "w1") is None


def test_a_worker_that_comes_back_amid_a_reclaim_keeps_the_rest(queue: QueueScripts) -> None:
    payloads = claim_many(queue, 5)
    queue.reclaim("w2", now_ms=LATER_MS, most=2)

    _, stood, held, *_ = queue.renew("w1", now_ms=LATER_MS + 1)

    assert (stood, held) == (1, 3)
    assert queue.reclaim("w2", now_ms=LATER_MS + 2) == ("", [])
    assert queue.leased("w1") == payloads[2:]


def test_a_reclaimed_delivery_is_counted_once(queue: QueueScripts) -> None:
    claim_many(queue, 1)
    ((lease,),) = [queue.reclaim("w2")[1]]
    queue.settle(Item("back", lease.lease_id, "t000", lease.registered, extras=("", "auto")), worker="w2")

    (claim,) = queue.claim("w2").claims

    assert claim.delivery == 2


def test_a_reaper_that_dies_is_reaped_itself_without_a_second_count(queue: QueueScripts) -> None:
    claim_many(queue, 1)
    queue.reclaim("w2", now_ms=LATER_MS)
    dead_worker, (lease,) = queue.reclaim("w3", now_ms=LATER_MS + TTL_MS + 1)
    queue.settle(Item("back", lease.lease_id, "t000", lease.registered, extras=("", "auto")), worker="w3")

    (claim,) = queue.claim("w3").claims

    assert (dead_worker, lease.delivery, claim.delivery) == ("w2", 1, 2)
    assert queue.everywhere() == {task("t000"): 1}


def test_the_register_follows_the_lease(queue: QueueScripts) -> None:
    claim_many(queue, 1)

    _, (lease,) = queue.reclaim("w2")

    assert lease.registered == "t000"
    assert queue.client.hget("aworker:claimed", "t000") == b"%d" % lease.lease_id
    queue.settle(Item("end", lease.lease_id, "t000", "t000", extras=("1",)), worker="w2")
    assert queue.client.exists("aworker:claimed", "aworker:deliveries") == 0


def test_a_reclaimed_task_keeps_its_list(queue: QueueScripts) -> None:
    queue.client.rpush(PRIORITY, task("p"))
    queue.claim()

    _, (lease,) = queue.reclaim("w2")
    queue.settle(Item("back", lease.lease_id, "p", "p", extras=("", "auto")), worker="w2")

    assert lease.queue == PRIORITY
    assert queue.waiting(PRIORITY) == [task("p")]


def test_reclaimed_tasks_are_taken_before_what_waits_and_in_order(queue: QueueScripts) -> None:
    payloads = claim_many(queue, 4)
    queue.client.lpush(NORMAL, task("waits"))
    _, leases = queue.reclaim("w2")

    queue.settle(*(Item("back", lease.lease_id, extras=("", "auto")) for lease in reversed(leases)), worker="w2")

    assert queue.claim("w2", want=9).payloads == [*payloads, task("waits")]


def test_a_worker_that_was_reaped_can_claim_into_leases_a_reaper_visits(queue: QueueScripts) -> None:
    claim_many(queue, 1)
    queue.reclaim("w2", now_ms=LATER_MS)
    queue.client.rpush(NORMAL, task("next"))
    queue.claim("w1", now_ms=LATER_MS)

    dead_worker, leases = queue.reclaim("w3", now_ms=LATER_MS + TTL_MS + 1)
    also_dead, more = queue.reclaim("w3", now_ms=LATER_MS + TTL_MS + 1)

    assert {dead_worker, also_dead} == {"w1", "w2"}
    assert sorted(lease.payload for lease in leases + more) == [task("next"), task("t000")]


def test_a_dead_worker_without_leases_is_forgotten(queue: QueueScripts) -> None:
    queue.renew("w1")

    assert queue.reclaim("w2") == ("w1", [])
    assert queue.left_behind() == ["aworker:workers"]


def test_a_full_server_gives_leases_of_a_dead_worker(full_queue: QueueScripts) -> None:
    queue = full_queue
    payloads = claim_many(queue, 3)
    queue.fill_server()

    _, leases = queue.reclaim("w2")

    assert [lease.payload for lease in leases] == payloads
    assert queue.leased("w2") == payloads


def test_binary_payloads_survive_a_reclaim(queue: QueueScripts) -> None:
    payload = b'\n1 none 2 "x" y\n\x00\xff'
    queue.client.rpush(NORMAL, payload)
    queue.claim()

    _, (lease,) = queue.reclaim("w2")

    assert lease.payload == payload
    assert queue.leased("w2") == [payload]
