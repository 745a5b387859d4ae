"""The settle and requeue scripts on a real server: before, call, after."""

from __future__ import annotations

import pytest

from aworker.keys import CHANNEL
from tests.kit.queue_scripts import NORMAL, NOW_MS, PRIORITY, Claimed, Item, Level, New, QueueScripts, task

REASON = ("queue", NORMAL, "reason", "test")


def lease(queue: QueueScripts, payload: bytes, *, worker: str = "w1", name: str = NORMAL) -> Claimed:
    queue.client.rpush(name, payload)
    (claim,) = queue.claim(worker, levels=(Level(name, take_from="right"),)).claims
    return claim


def item(kind: str, claim: Claimed, task_id: str = "a", *extras: object, record: bytes = b"record") -> Item:
    return Item(kind, claim.lease_id, task_id, claim.registered, record, extras=extras)


# Ends.


def test_an_end_stores_the_record_and_leaves_nothing_else(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("running", claim, "a", "assigned", record=b"running"))

    fallen, flags = queue.settle(item("end", claim))

    assert (fallen, flags) == (0, [1])
    assert queue.client.get("task_result:a") == b"record"
    assert 86_000 < queue.client.ttl("task_result:a") <= 86_400
    assert queue.left_behind() == ["aworker:commits:w1", "aworker:workers"]


def test_what_an_ended_task_enqueued_is_put_where_it_waits_in_the_same_step(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.client.set("no list", "x")
    news = (
        New("now", 0, NORMAL, task("b")),
        New("in", 5_000, PRIORITY, task("c")),
        New("now", 0, "no list", task("d"), "d"),
    )

    for _ in range(2):
        _, flags = queue.settle(item("end", claim)._replace(news=news), number=7)
        assert flags == [1]

    assert queue.waiting(NORMAL) == [task("b")]
    assert queue.delayed() == [task("c")]
    ((_, letter),) = queue.client.xrange("aworker:dead")
    assert (letter[b"payload"], letter[b"reason"], letter[b"task_id"]) == (task("d"), b"queue_is_no_list", b"d")


def test_a_task_whose_lease_is_gone_enqueues_nothing(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.reclaim()

    _, flags = queue.settle(item("end", claim)._replace(news=(New("now", 0, NORMAL, task("b")),)))

    assert flags == [0]
    assert queue.waiting(NORMAL) == []


def test_running_stores_record_and_assignment_while_the_lease_stands(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))

    _, flags = queue.settle(item("running", claim, "a", "assigned"))

    assert flags == [1]
    assert queue.client.get("task_result:a") == b"record"
    assert queue.client.get("task_assignment:a") == b"assigned"
    assert 7_000 < queue.client.ttl("task_assignment:a") <= 7_200
    assert queue.leased() == [task("a")]


@pytest.mark.parametrize("kind", ["running", "message", "end", "dead", "back", "delay"])
def test_without_a_lease_nothing_is_written(queue: QueueScripts, kind: str) -> None:
    claim = lease(queue, task("a"))
    queue.reclaim("w2")
    before = {name: queue.client.dump(name) for name in queue.client.scan_iter()}
    extras = {"running": ("assigned",), "dead": REASON, "back": ("1", "auto"), "delay": (1_000,), "end": ("1",)}
    heard = queue.client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(CHANNEL)
    heard.get_message(timeout=1)

    _, flags = queue.settle(
        Item(kind, claim.lease_id, "a", "a", b"stale", (b"stale",), extras.get(kind, ())), worker="w1"
    )

    after = {name: queue.client.dump(name) for name in queue.client.scan_iter() if b"commits" not in name}
    assert flags == [0]
    assert after == {name: text for name, text in before.items() if b"commits" not in name}
    assert heard.get_message(timeout=0.05) is None
    heard.close()


def test_a_lease_of_another_worker_does_not_count(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"), worker="w2")

    _, flags = queue.settle(item("end", claim), worker="w1")

    assert flags == [0]
    assert queue.leased("w2") == [task("a")]
    assert queue.client.get("task_result:a") is None


def test_each_item_is_judged_by_its_own_lease(queue: QueueScripts) -> None:
    claims = [lease(queue, task(name)) for name in "abc"]
    queue.settle(item("end", claims[1], "b"))

    _, flags = queue.settle(*(item("end", claim, name) for name, claim in zip("abc", claims, strict=True)))

    assert flags == [1, 0, 1]


def test_messages_are_published_in_order(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    heard = queue.client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(CHANNEL)
    heard.get_message(timeout=1)

    queue.settle(
        Item("message", claim.lease_id, messages=(b"1", b"2")),
        Item("end", claim.lease_id, "a", "a", b"record", (b"3", b"4")),
        Item("publish", 0, messages=(b"5",)),
    )

    texts = [message["data"] for _ in range(5) if (message := heard.get_message(timeout=1))]
    heard.close()
    assert texts == [b"1", b"2", b"3", b"4", b"5"]


def test_an_end_of_a_second_delivery_forgets_the_count(queue: QueueScripts) -> None:
    first = lease(queue, task("a"))
    queue.settle(item("back", first, "a", "1", "auto"))
    (second,) = queue.claim().claims
    assert queue.client.hlen("aworker:deliveries") == 1

    queue.settle(item("end", second, "a", "1"))

    assert second.delivery == 2
    assert queue.client.exists("aworker:deliveries") == 0


def test_an_end_frees_the_id_in_the_register(queue: QueueScripts) -> None:
    first = lease(queue, task("a"))
    queue.settle(item("end", first))

    second = lease(queue, task("a"))

    assert (second.suspicion, second.registered) == ("record", "a")


def test_an_end_of_a_duplicate_keeps_the_register_of_the_first(queue: QueueScripts) -> None:
    first, second = lease(queue, task("a")), lease(queue, task("a"))

    queue.settle(Item("end", second.lease_id))

    assert queue.client.hget("aworker:claimed", "a") == b"%d" % first.lease_id


def test_an_end_by_a_worker_that_did_not_know_what_it_held_frees_the_id(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))

    queue.settle(Item("back", claim.lease_id, extras=("", "auto")))

    assert queue.client.exists("aworker:claimed") == 0
    assert queue.waiting() == [task("a")]


# Sent again.


def test_settle_sent_twice_acts_once_and_answers_alike(queue: QueueScripts) -> None:
    kept, gone = lease(queue, task("a")), lease(queue, task("b"))
    queue.settle(item("end", gone, "b"))
    items = (item("dead", kept, "a", *REASON), item("end", gone, "b"))
    first = queue.settle(*items, number=50)

    again = queue.settle(*items, number=50)

    assert first == (0, [1, 0])
    assert again == first
    assert queue.dead() == [task("a")]


@pytest.mark.parametrize("kind", ["back", "delay", "dead", "end"])
def test_a_task_goes_to_one_place_however_often_it_is_sent(queue: QueueScripts, kind: str) -> None:
    claim = lease(queue, task("a"))
    extras = {"back": ("1", "auto"), "delay": (1_000,), "dead": REASON, "end": ("",)}[kind]

    flags = [queue.settle(item(kind, claim, "a", *extras), number=number)[1] for number in (50, 50, 51)]

    assert flags == [[1], [1], [0]]
    assert queue.everywhere().total() == (kind != "end")


def test_a_late_copy_of_an_older_settle_writes_and_publishes_nothing(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(Item("publish", 0, messages=(b"1",)), number=50)
    queue.settle(Item("message", claim.lease_id, messages=(b"2",)), number=51)
    heard = queue.client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(CHANNEL)
    heard.get_message(timeout=1)

    late = queue.settle(Item("publish", 0, messages=(b"1",)), item("end", claim), number=50)

    assert late == (0, [0, 0])
    assert heard.get_message(timeout=0.05) is None
    heard.close()
    assert queue.settle(Item("message", claim.lease_id, messages=(b"2",)), number=51) == (0, [1])
    assert queue.leased() == [task("a")]


# Back.


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_a_task_that_goes_back_is_taken_next(queue: QueueScripts, side: str) -> None:
    payloads = [task(f"t{index}", f"2026-09-21T14:13:0{index}Z") for index in range(4)]
    getattr(queue.client, side)(NORMAL, *payloads)
    claims = queue.claim(want=2).claims

    for claim in reversed(claims):
        queue.settle(Item("back", claim.lease_id, extras=("", "auto")))

    assert queue.claim(want=4, now_ms=NOW_MS + 100).payloads == payloads


@pytest.mark.parametrize(("side", "at"), [("left", 0), ("right", -1)])
def test_a_fixed_end_decides_where_a_task_goes_back(queue: QueueScripts, side: str, at: int) -> None:
    claim = lease(queue, task("a"))
    queue.client.rpush(NORMAL, task("x"), task("y"))

    queue.settle(item("back", claim, "a", "", side))

    assert queue.waiting()[at] == task("a")


def test_a_task_goes_back_onto_the_list_it_came_from(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"), name=PRIORITY)

    queue.settle(item("back", claim, "a", "", "auto"))

    assert queue.waiting(PRIORITY) == [task("a")]


def test_a_release_does_not_count_the_delivery(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))

    queue.settle(item("back", claim, "a", "", "auto"))

    assert queue.client.exists("aworker:deliveries") == 0
    assert queue.claim().claims[0].delivery == 1


def test_the_bytes_of_a_payload_never_change(queue: QueueScripts) -> None:
    payload = b'\n\x00\xff{"task_id":"a"}\n"\n'
    claim = lease(queue, payload)
    queue.settle(Item("back", claim.lease_id, extras=("1", "auto")))
    (claim,) = queue.claim().claims
    queue.settle(Item("delay", claim.lease_id, extras=(0,)))
    queue.due()
    (claim,) = queue.claim().claims
    queue.reclaim("w2")
    (claim,) = [Claimed(int(field), 1, 0, "", "", b"") for field in queue.client.hkeys("aworker:leases:w2")]

    queue.settle(Item("dead", claim.lease_id, extras=REASON), worker="w2")

    assert queue.dead() == [payload]


def test_a_task_whose_list_became_another_type_is_kept_in_the_dead_letters(queue: QueueScripts) -> None:
    claim, other = lease(queue, task("a")), lease(queue, task("b"))
    queue.client.set(NORMAL, "not a list")

    _, flags = queue.settle(item("back", claim, "a", "", "auto"), item("end", other, "b"))

    assert flags == [1, 1]
    assert queue.dead() == [task("a")]
    ((_, letter),) = queue.client.xrange("aworker:dead")
    assert letter[b"queue"] == NORMAL.encode()
    assert letter[b"reason"] == b"queue_is_no_list"
    assert letter[b"task_id"] == b"a"


# Dead letters.


def test_a_dead_letter_holds_payload_and_fields(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))

    queue.settle(item("dead", claim, "a", *REASON))

    ((_, letter),) = queue.client.xrange("aworker:dead")
    assert letter == {b"payload": task("a"), b"queue": NORMAL.encode(), b"reason": b"test"}
    assert int(queue.client.get("aworker:dead_bytes")) == len(task("a"))
    assert queue.client.get("task_result:a") == b"record"


def test_the_oldest_dead_letters_fall_off_over_the_number_allowed(queue: QueueScripts) -> None:
    queue.max_entries = 3
    claims = [lease(queue, task(f"t{index}")) for index in range(5)]

    fallen, _ = queue.settle(*(item("dead", claim, "", *REASON) for claim in claims))

    assert fallen == 2
    assert queue.dead() == [task("t2"), task("t3"), task("t4")]
    assert int(queue.client.get("aworker:dead_bytes")) == sum(map(len, queue.dead()))


def test_the_oldest_dead_letters_fall_off_over_the_bytes_allowed(queue: QueueScripts) -> None:
    queue.max_bytes = 250
    claims = [lease(queue, bytes([index]) * 100) for index in range(5)]

    fallen, _ = queue.settle(*(item("dead", claim, "", *REASON) for claim in claims))

    assert fallen == 3
    assert queue.dead() == [b"\x03" * 100, b"\x04" * 100]
    assert int(queue.client.get("aworker:dead_bytes")) == 200


def test_one_dead_letter_larger_than_allowed_is_kept(queue: QueueScripts) -> None:
    queue.max_bytes = 50
    small, large = lease(queue, b"small"), lease(queue, b"x" * 100)

    fallen, _ = queue.settle(item("dead", small, "", *REASON), item("dead", large, "", *REASON))

    assert fallen == 1
    assert queue.dead() == [b"x" * 100]


def test_a_dead_letter_forgets_the_count(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("back", claim, "a", "1", "auto"))
    (claim,) = queue.claim().claims

    queue.settle(item("dead", claim, "a", *REASON))

    assert queue.client.exists("aworker:deliveries", "aworker:claimed", "task_assignment:a") == 0


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_a_dead_letter_goes_back_behind_all_that_waits(queue: QueueScripts, side: str) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("dead", claim, "a", *REASON))
    payloads = [task(f"t{index}", f"2026-09-21T14:13:2{index}Z") for index in range(3)]
    getattr(queue.client, side)(NORMAL, *payloads)
    queue.client.hset("aworker:ends", NORMAL, f"{'left' if side == 'rpush' else 'right'} {NOW_MS}")
    ((entry_id, _),) = queue.client.xrange("aworker:dead")

    moved = queue.requeue(entry_id)

    assert moved == 1
    assert queue.claim(want=4).payloads == [*payloads, task("a")]
    assert queue.dead() == []
    assert int(queue.client.get("aworker:dead_bytes")) == 0


def test_a_dead_letter_is_put_back_once(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("dead", claim, "a", *REASON))
    ((entry_id, _),) = queue.client.xrange("aworker:dead")

    moved = [queue.requeue(entry_id), queue.requeue(entry_id)]

    assert moved == [1, 0]
    assert queue.everywhere() == {task("a"): 1}


def test_a_dropped_dead_letter_is_gone(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("dead", claim, "a", *REASON))
    ((entry_id, _),) = queue.client.xrange("aworker:dead")

    queue.requeue(entry_id, "drop")

    assert queue.everywhere().total() == 0


def test_a_dead_letter_stays_when_its_list_became_another_type(queue: QueueScripts) -> None:
    claim = lease(queue, task("a"))
    queue.settle(item("dead", claim, "a", *REASON))
    queue.client.set(NORMAL, "not a list")
    ((entry_id, _),) = queue.client.xrange("aworker:dead")

    moved = queue.requeue(entry_id)

    assert moved == 0
    assert queue.dead() == [task("a")]
    assert int(queue.client.get("aworker:dead_bytes")) == len(task("a"))


# A full server.


@pytest.mark.parametrize("kind", ["running", "message", "end", "dead", "back", "delay"])
def test_a_full_server_takes_every_kind_of_write(full_queue: QueueScripts, kind: str) -> None:
    queue = full_queue
    claim = lease(queue, task("a"))
    extras = {"running": ("assigned",), "dead": REASON, "back": ("1", "auto"), "delay": (1_000,), "end": ("1",)}
    queue.fill_server()

    _, flags = queue.settle(
        Item(kind, claim.lease_id, "a", claim.registered, b"record", (b"message",), extras.get(kind, ()))
    )

    assert flags == [1]
    assert queue.everywhere().total() == (kind != "end")


def test_a_full_server_gives_a_dead_letter_back(full_queue: QueueScripts) -> None:
    queue = full_queue
    claim = lease(queue, task("a"))
    queue.settle(item("dead", claim, "a", *REASON))
    ((entry_id, _),) = queue.client.xrange("aworker:dead")
    queue.fill_server()

    assert queue.requeue(entry_id) == 1
    assert queue.waiting() == [task("a")]
