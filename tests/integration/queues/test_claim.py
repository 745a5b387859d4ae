"""The claim script on a real server: before, call, after."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from aworker.keys import RESULT_PREFIX
from tests.kit.queue_scripts import BOTH, NORMAL, NOW_MS, ONE, PRIORITY, Item, Level, QueueScripts, task


def at(instant_ms: int) -> str:
    """Return an instant as producers write it."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def go_task(task_id: str, created_at: str, args: dict[str, Any]) -> bytes:
    """Return a payload as Go writes a map: keys sorted, so that args stands first."""
    whole = {"task_id": task_id, "task_type": "backtest", "args": args, "created_at": created_at}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


# Levels.


def test_claim_prefers_the_priority_queue(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("normal"))
    queue.client.rpush(PRIORITY, task("urgent"))

    reply = queue.claim(want=1)

    assert reply.payloads == [task("urgent")]
    assert queue.waiting(PRIORITY) == []
    assert queue.waiting(NORMAL) == [task("normal")]


def test_claim_goes_on_with_the_next_level_when_the_first_is_empty(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("n1"), task("n2"))
    queue.client.lpush(PRIORITY, task("p1"))

    reply = queue.claim(want=5)

    assert reply.payloads == [task("p1"), task("n1"), task("n2")]
    assert [claim.level for claim in reply.claims] == [0, 1, 1]
    assert reply.states == ["empty", "empty"]


def test_claim_says_that_a_level_may_hold_more(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("n1"), task("n2"))

    reply = queue.claim(want=1)

    assert reply.states == ["empty", "more"]


def test_claim_leaves_a_level_out_that_is_not_asked(queue: QueueScripts) -> None:
    queue.client.rpush(PRIORITY, task("urgent"))
    queue.client.rpush(NORMAL, task("normal"))

    reply = queue.claim(want=2, levels=(Level(PRIORITY, asked=False), Level(NORMAL)))

    assert reply.payloads == [task("normal")]
    assert reply.states == ["skipped", "empty"]
    assert reply.passed == [-1, 0]
    assert queue.waiting(PRIORITY) == [task("urgent")]


def test_claim_of_nothing_leaves_only_the_deadline(queue: QueueScripts) -> None:
    reply = queue.claim()

    assert reply.claims == []
    assert queue.client.keys("*") == [b"aworker:workers"]


# Leases.


def test_claim_writes_lease_and_deadline_in_the_same_step(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"), task("b"))

    reply = queue.claim(want=2)

    assert sorted(queue.leased()) == sorted(reply.payloads)
    assert queue.everywhere() == {task("a"): 1, task("b"): 1}
    assert queue.client.zscore("aworker:workers", "w1") == NOW_MS + 5_000


def test_lease_ids_grow_over_all_workers(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, *(task(f"t{index}") for index in range(4)))

    ids = [claim.lease_id for worker in ("w1", "w2", "w1") for claim in queue.claim(worker).claims]

    assert ids == sorted(set(ids))
    assert len(ids) == 3


def test_lease_ids_grow_though_the_server_lost_the_last_second(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"))
    before = queue.claim(now_ms=NOW_MS)
    queue.client.flushall()
    queue.client.rpush(NORMAL, task("b"))

    after = queue.claim(now_ms=NOW_MS + 1)

    assert after.claims[0].lease_id > before.claims[0].lease_id


def test_lease_ids_grow_though_the_clock_jumps_back(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a"), task("b"))
    before = queue.claim(now_ms=NOW_MS)

    after = queue.claim(now_ms=NOW_MS - 3_600_000)

    assert after.claims[0].lease_id > before.claims[0].lease_id


def test_lease_ids_are_whole_numbers_that_json_readers_keep(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, *(task(f"t{index}") for index in range(100)))

    ids = [claim.lease_id for claim in queue.claim(want=100, now_ms=4_000_000_000_000).claims]

    assert len(set(ids)) == 100
    assert max(ids) < 2**53


def test_one_claim_takes_hundreds(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(2_500)))

    reply = queue.claim(want=2_400)

    assert reply.payloads == [task(f"t{index}") for index in range(2_400)]
    assert len(queue.leased()) == 2_400


# Sent again.


def test_claim_sent_twice_answers_with_the_same_leases(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, task("p"))
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(5)))
    first = queue.claim(want=3, number=7)

    again = queue.claim(want=3, number=7)

    assert again.claims == first.claims
    assert again.states == ["more", "more"]
    assert len(queue.waiting()) == 3


def test_claim_with_a_new_number_takes_the_next_tasks(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(5)))
    queue.claim(want=3, number=7)

    reply = queue.claim(want=3, number=8)

    assert reply.payloads == [task("t3"), task("t4")]


def test_claim_sent_again_leaves_out_what_was_settled_meanwhile(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("a"), task("b"))
    first = queue.claim(want=2, number=1)
    queue.settle(Item("end", first.claims[0].lease_id, "a", "a"), number=2)

    again = queue.claim(want=2, number=1)

    assert again.claims == first.claims[1:]


def test_a_late_copy_of_an_older_claim_takes_nothing(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(5)))
    queue.claim(number=1)
    newer = queue.claim(number=2)

    late = queue.claim(number=1)

    assert late.claims == []
    assert len(queue.waiting()) == 3
    assert queue.claim(number=2).claims == newer.claims


def test_claim_sent_again_after_the_worker_was_reaped_takes_anew(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("a"), task("b"))
    queue.claim(number=1)
    queue.reclaim("w2")

    again = queue.claim(number=1)

    assert again.payloads == [task("b")]
    assert queue.everywhere() == {task("a"): 1, task("b"): 1}


def test_claim_that_is_sent_again_keeps_binary_payloads(queue: QueueScripts) -> None:
    payload = b'\x00\xff\n"\n{"task_id": "a"\x00}\n'
    queue.client.lpush(NORMAL, payload)
    first = queue.claim(number=1)

    again = queue.claim(number=1)

    assert again.claims == first.claims
    assert again.payloads == [payload]


# The taking end.


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_a_list_is_first_in_first_out_whichever_side_producers_push(queue: QueueScripts, side: str) -> None:
    payloads = [task(f"t{index}", at(NOW_MS - 60_000 + index * 1_000)) for index in range(6)]
    getattr(queue.client, side)(NORMAL, *payloads)

    reply = queue.claim(want=6)

    assert reply.payloads == payloads


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_tasks_of_the_same_second_are_ordered_by_the_number_in_their_id(queue: QueueScripts, side: str) -> None:
    payloads = [task(f"backtest_42_{number}", "2026-09-21T14:13:20Z") for number in (8, 9, 10, 11)]
    getattr(queue.client, side)(NORMAL, *payloads)

    reply = queue.claim(want=4)

    assert reply.payloads == payloads


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_ids_of_several_users_with_a_number_each_are_ordered_by_the_last_one(queue: QueueScripts, side: str) -> None:
    payloads = [task(f"backtest_{user}_{1719240000000000000 + step}") for step, user in enumerate((7, 4200, 13))]
    getattr(queue.client, side)(NORMAL, *payloads)

    reply = queue.claim(want=3)

    assert reply.payloads == payloads


def test_a_tie_keeps_the_end_that_brpop_takes(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("first"), task("second"), task("third"))

    reply = queue.claim(want=3)

    assert reply.payloads == [task("first"), task("second"), task("third")]


def test_a_tie_keeps_the_end_found_before(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a", at(NOW_MS - 9_000)), task("b", at(NOW_MS - 8_000)))
    queue.claim(want=3)
    queue.client.rpush(NORMAL, task("c"), task("d"))

    reply = queue.claim(want=2, now_ms=NOW_MS + 5_000)

    assert reply.payloads == [task("c"), task("d")]


def test_the_end_is_compared_at_once_after_the_list_was_empty(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a", at(NOW_MS - 9_000)), task("b", at(NOW_MS - 8_000)))
    queue.claim(want=3)
    queue.client.lpush(NORMAL, task("c", at(NOW_MS - 7_000)), task("d", at(NOW_MS - 6_000)))

    reply = queue.claim(want=2, now_ms=NOW_MS + 1)

    assert reply.payloads == [task("c", at(NOW_MS - 7_000)), task("d", at(NOW_MS - 6_000))]


def test_the_end_is_compared_at_most_once_a_second(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, *(task(f"t{index}", at(NOW_MS - 9_000 + index)) for index in range(3)))
    queue.claim()
    queue.client.rpush(NORMAL, task("older", at(NOW_MS - 10_000)))

    within = queue.claim(now_ms=NOW_MS + 900)
    later = queue.claim(now_ms=NOW_MS + 1_100)

    assert [json.loads(payload)["task_id"] for payload in within.payloads + later.payloads] == ["t1", "older"]


def test_the_end_is_compared_again_when_the_clock_jumped_back(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, task("a", at(NOW_MS - 9_000)), task("b", at(NOW_MS - 8_000)))
    queue.claim()
    queue.client.rpush(NORMAL, task("older", at(NOW_MS - 10_000)))

    reply = queue.claim(now_ms=NOW_MS - 7_200_000)

    assert reply.payloads == [task("older", at(NOW_MS - 10_000))]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2026-09-21T14:13:20.000000001Z", "2026-09-21T14:13:20.5Z"),
        ("2026-09-21T16:13:19+02:00", "2026-09-21T14:13:20Z"),
        ("2026-09-21T14:13:19Z", "2026-09-21T09:43:20-04:30"),
        ("2026-09-21T14:13:19", "2026-09-21T14:13:20Z"),
        ("2026-09-21 14:13:19", "2026-09-21t14:13:20.123456789z"),
        ("2023-12-31T23:59:59Z", "2024-01-01T00:00:00Z"),
        ("2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2026-09-21T14:13:20+0200", "2026-09-21T14:13:20+00:00"),
        ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
    ],
)
@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_instants_are_compared_in_every_notation(queue: QueueScripts, side: str, older: str, newer: str) -> None:
    getattr(queue.client, side)(NORMAL, task("zz", older), task("aa", newer))

    reply = queue.claim(want=2)

    assert reply.payloads == [task("zz", older), task("aa", newer)]


@pytest.mark.parametrize("nonsense", ["", "yesterday", "2026", "2026-09-21", "99999-01-01T00:00:00Z", "\u0661"])
def test_what_is_no_instant_keeps_the_end(queue: QueueScripts, nonsense: str) -> None:
    queue.client.rpush(NORMAL, task("left", nonsense), task("right", at(NOW_MS)))

    reply = queue.claim()

    assert reply.payloads == [task("right", at(NOW_MS))]


def test_an_end_fixed_by_the_configuration_is_not_compared(queue: QueueScripts) -> None:
    payloads = [task(f"t{index}", at(NOW_MS + index)) for index in range(3)]
    queue.client.lpush(NORMAL, *payloads)

    reply = queue.claim(want=3, levels=(Level(NORMAL, take_from="left"),))

    assert reply.payloads == payloads[::-1]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_a_created_at_inside_args_is_not_taken_for_the_tasks_own(queue: QueueScripts, side: str) -> None:
    older = go_task("a", at(NOW_MS - 9_000), {"created_at": at(NOW_MS), "task_id": "x"})
    newer = go_task("b", at(NOW_MS - 8_000), {"created_at": at(NOW_MS - 99_000), "task_id": "y"})
    getattr(queue.client, side)(NORMAL, older, newer)

    reply = queue.claim(want=2)

    assert reply.payloads == [older, newer]
    assert [claim.registered for claim in reply.claims] == ["a", "b"]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
@pytest.mark.parametrize("order", ["go", "python"])
def test_large_payloads_are_compared_too(queue: QueueScripts, side: str, order: str) -> None:
    args = {"prompt": "x" * 40_000, "created_at": at(NOW_MS - 50_000)}
    make = go_task if order == "go" else lambda task_id, created_at, args: task(task_id, created_at, args=args)
    payloads = [make(f"t{index}", at(NOW_MS - 9_000 + index), args) for index in range(3)]
    getattr(queue.client, side)(NORMAL, *payloads)

    reply = queue.claim(want=3)

    assert reply.payloads == payloads


# Aging.

AGED = (Level(PRIORITY), Level(NORMAL, promote_ms=60_000))


def test_a_normal_task_that_waited_long_enough_goes_before_a_new_priority_one(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, task("urgent", at(NOW_MS)))
    queue.client.lpush(NORMAL, task("waited", at(NOW_MS - 120_000)), task("new", at(NOW_MS)))

    reply = queue.claim(want=3, levels=AGED)

    assert [json.loads(payload)["task_id"] for payload in reply.payloads] == ["waited", "urgent", "new"]


def test_equal_ranks_go_to_the_older_task(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, task("urgent", at(NOW_MS - 1_000)))
    queue.client.lpush(NORMAL, task("waited", at(NOW_MS - 60_000)))

    reply = queue.claim(want=1, levels=AGED)

    assert reply.payloads == [task("waited", at(NOW_MS - 60_000))]


def test_a_task_that_has_not_waited_long_enough_stays_behind(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, task("urgent", at(NOW_MS)))
    queue.client.lpush(NORMAL, task("waited", at(NOW_MS - 59_999)))

    reply = queue.claim(want=1, levels=AGED)

    assert reply.payloads == [task("urgent", at(NOW_MS))]


@pytest.mark.parametrize("created_ms", [NOW_MS + 3_600_000, NOW_MS - 90_000_000, None])
def test_an_implausible_instant_counts_from_when_the_task_was_first_seen(
    queue: QueueScripts, created_ms: int | None
) -> None:
    odd = task("odd", at(created_ms)) if created_ms is not None else b"no task at all"
    queue.client.lpush(NORMAL, odd)
    for second in range(3):
        queue.client.lpush(PRIORITY, task(f"urgent{second}", at(NOW_MS + second * 30_000)))

    taken = [queue.claim(levels=AGED, now_ms=NOW_MS + second * 30_000).payloads[0] for second in range(3)]

    assert taken.index(odd) == 2
    queue.client.delete(PRIORITY)
    queue.claim(want=2, levels=AGED, now_ms=NOW_MS + 99_000)
    assert not [field for field in queue.client.hkeys("aworker:ends") if field.startswith(b"seen")]


def test_aging_leaves_a_reserved_slot_free(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("n1", at(NOW_MS - 120_000)), task("n2", at(NOW_MS - 120_000)))

    reply = queue.claim(want=2, levels=(Level(PRIORITY, below=1), Level(NORMAL, promote_ms=60_000)))

    assert reply.payloads == [task("n1", at(NOW_MS - 120_000))]


def test_aging_and_limits_work_together(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"s{index}", at(NOW_MS - 120_000), task_type="screening") for index in range(30)))
    queue.client.lpush(NORMAL, task("b", at(NOW_MS - 119_000)))
    queue.client.lpush(PRIORITY, task("urgent", at(NOW_MS)))

    reply = queue.claim(want=3, levels=AGED, limits={"types": {"screening": 0}, "users": {}})

    assert [json.loads(payload)["task_id"] for payload in reply.payloads] == ["b", "urgent"]
    assert reply.states == ["empty", "passed"]
    assert reply.passed == [0, 30]
    assert len(queue.waiting()) == 30


# Reserved room.


def test_room_below_a_level_bounds_the_levels_below_it_only(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, *(task(f"p{index}") for index in range(3)))
    queue.client.lpush(NORMAL, *(task(f"n{index}") for index in range(9)))

    reply = queue.claim(want=16, levels=(Level(PRIORITY, below=4), Level(NORMAL)))

    assert [claim.level for claim in reply.claims] == [0, 0, 0, 1, 1, 1, 1]


def test_no_room_below_takes_nothing_below(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("n"))

    reply = queue.claim(want=16, levels=(Level(PRIORITY, below=0), Level(NORMAL)))

    assert reply.claims == []
    assert queue.waiting() == [task("n")]


def test_room_of_the_highest_level_bounds_all_levels_below_together(queue: QueueScripts) -> None:
    for name in ("a", "b", "c"):
        queue.client.lpush(name, *(task(f"{name}{index}") for index in range(5)))

    reply = queue.claim(want=16, levels=(Level("a", below=6), Level("b", below=4), Level("c")))

    assert [claim.level for claim in reply.claims] == [0] * 5 + [1] * 5 + [2]


# Limits.


def test_a_type_at_its_limit_keeps_its_place(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("b1"), task("b2"), task("a1", task_type="alert"), task("b3"))

    reply = queue.claim(want=3, limits={"types": {"backtest": 1}, "users": {}})

    assert reply.payloads == [task("b1"), task("a1", task_type="alert")]
    assert queue.waiting() == [task("b3"), task("b2")]
    assert reply.states[1] == "passed"
    assert reply.passed == [0, 2]


def test_a_type_without_room_lets_every_other_pass(queue: QueueScripts) -> None:
    queue.client.rpush(NORMAL, *(task(f"t{index:02}", at(NOW_MS + index)) for index in range(9)))
    queue.client.rpush(NORMAL, task("a", at(NOW_MS + 99), task_type="alert"))

    reply = queue.claim(want=9, limits={"types": {"backtest": 0}, "users": {}})

    assert reply.payloads == [task("a", at(NOW_MS + 99), task_type="alert")]


@pytest.mark.parametrize("side", ["rpush", "lpush"])
def test_a_task_behind_hundreds_of_held_back_ones_is_found_by_going_on(queue: QueueScripts, side: str) -> None:
    held = [task(f"t{index:04}", at(NOW_MS - 99_000 + index)) for index in range(700)]
    alert = task("alert", at(NOW_MS), task_type="alert")
    getattr(queue.client, side)(NORMAL, *held, alert)
    limits = {"types": {"backtest": 0}, "users": {}}

    found: list[bytes] = []
    cursor, asks = 0, 0
    while not found and asks < 20:
        reply = queue.claim(levels=(Level(NORMAL, cursor=cursor),), limits=limits)
        found, cursor, asks = reply.payloads, reply.cursors[0], asks + 1

    assert found == [alert]
    assert 700 / 100 <= asks <= 700 / 80 + 1
    assert sorted(queue.waiting()) == held


def test_the_walk_skips_nothing_while_tasks_are_claimed_from_the_taking_end(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"a{index}", args={"user_id": 1}) for index in range(600)))
    queue.client.lpush(NORMAL, *(task(f"b{index}", args={"user_id": 2}) for index in range(10)))

    theirs, cursor, asks = 0, 0, 0
    while theirs < 10 and asks < 20:
        # One of user 1 ends before each ask.
        limits = {"types": {}, "users": {"1": 1}, "user_room": 12}
        reply = queue.claim(want=5, levels=(Level(NORMAL, cursor=cursor),), limits=limits)
        theirs += sum(b'"user_id": 2' in payload for payload in reply.payloads)
        cursor, asks = reply.cursors[0], asks + 1

    assert theirs == 10
    assert asks <= 600 / 80 + 4


def test_the_cursor_starts_over_at_the_end_of_the_list(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(150)))
    limits = {"types": {"backtest": 0}, "users": {}}

    cursors, passed = [0], []
    for _ in range(4):
        reply = queue.claim(levels=(Level(NORMAL, cursor=cursors[-1]),), limits=limits)
        cursors.append(reply.cursors[0])
        passed.append(reply.passed[0])

    assert passed == [100, 70, 100, 70]
    assert cursors == [0, 100, 0, 100, 0]


def test_a_new_task_at_the_taking_end_is_found_wherever_the_cursor_stands(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(500)))
    queue.client.rpush(NORMAL, task("back again", task_type="alert"))

    reply = queue.claim(levels=(Level(NORMAL, cursor=300),), limits={"types": {"backtest": 0}, "users": {}})

    assert reply.payloads == [task("back again", task_type="alert")]


def test_a_cursor_beyond_the_list_is_no_harm(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("a"), task("b", task_type="alert"))

    reply = queue.claim(levels=(Level(NORMAL, cursor=5_000),), limits={"types": {"backtest": 0}, "users": {}})

    assert reply.payloads == [task("b", task_type="alert")]
    assert reply.cursors == [0]


def test_looking_past_limits_stops_at_its_bytes(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"t{index}", args={"prompt": "x" * 8_000}) for index in range(50)))

    reply = queue.claim(levels=ONE, limits={"types": {"backtest": 0}, "users": {}})

    assert reply.claims == []
    assert 0 < reply.cursors[0] <= 10


def test_one_user_at_the_limit_holds_up_no_other(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"a{index}", args={"user_id": 1}) for index in range(5)))
    queue.client.lpush(NORMAL, task("b", args={"user_id": "2"}), task("nobody"))

    reply = queue.claim(want=9, limits={"types": {}, "users": {"1": 1}, "user_room": 2})

    assert [json.loads(payload)["task_id"] for payload in reply.payloads] == ["a0", "b", "nobody"]


def test_a_user_not_seen_before_has_the_whole_room(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, *(task(f"a{index}", args={"user_id": 7}) for index in range(5)))

    reply = queue.claim(want=9, limits={"types": {}, "users": {}, "user_room": 2})

    assert len(reply.claims) == 2


@pytest.mark.parametrize("user", [1_700_000_000_000_000, 2**53, -5, 0])
def test_a_large_user_id_is_counted_under_its_digits(queue: QueueScripts, user: int) -> None:
    queue.client.lpush(NORMAL, task("a", args={"user_id": user}), task("b", args={"user_id": str(user)}))

    reply = queue.claim(want=9, limits={"types": {}, "users": {str(user): 0}, "user_room": 2})

    assert reply.claims == []


@pytest.mark.parametrize("user", [2**53 + 1, 1_152_921_504_606_846_977, 2**64 + 1, 10**400, -(10**400), 1.5, 1e300])
def test_a_user_id_beyond_doubles_is_counted_alike_on_both_sides(queue: QueueScripts, user: float) -> None:
    from aworker.task import decode_task

    payload = task("a", args={"user_id": user})
    queue.client.lpush(NORMAL, payload)
    counted = decode_task(payload, 1_000).user_id

    reply = queue.claim(want=9, limits={"types": {}, "users": {counted: 0}, "user_room": 2})

    assert reply.claims == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"no json",
        b"3",
        b"null",
        b"[]",
        b"true",
        b'"backtest"',
        b"\xff\xfe backtest",
        b"[" * 100_000,
        b'{"task_type": null, "args": 3}',
        b'{"task_type": ["backtest"], "args": {"user_id": {}}}',
        b'{"task_type": "backtest", "args": {"user_id": null}} trailing',
        b'{"task_id": "a\\u0000b", "task_type": "x", "created_at": 5}',
        b'{"task_id": "a\nb", "created_at": "backtest"}',
    ],
)
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("aging", [0, 60_000])
def test_what_cannot_be_read_is_claimable(queue: QueueScripts, payload: bytes, limited: bool, aging: int) -> None:
    queue.client.lpush(NORMAL, payload, task("neighbour", task_type="alert"))
    limits = {"types": {"backtest": 0}, "users": {}, "user_room": 1} if limited else None

    reply = queue.claim(want=3, levels=(Level(PRIORITY), Level(NORMAL, promote_ms=aging)), limits=limits)

    assert reply.payloads == [payload, task("neighbour", task_type="alert")]
    assert queue.leased() == reply.payloads


def test_a_payload_too_large_to_decode_here_is_claimable(queue: QueueScripts) -> None:
    payload = task("large", args={"prompt": "x" * 20_000})
    queue.client.lpush(NORMAL, payload)

    reply = queue.claim(limits={"types": {"backtest": 0}, "users": {}})

    assert reply.payloads == [payload]


# A key that is no list.


@pytest.mark.parametrize("broken", [PRIORITY, NORMAL])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("aging", [0, 60_000])
@pytest.mark.parametrize("take_from", ["auto", "left"])
def test_a_list_of_another_type_loses_no_task_of_the_other_level(
    queue: QueueScripts, broken: str, limited: bool, aging: int, take_from: str
) -> None:
    sound = NORMAL if broken == PRIORITY else PRIORITY
    queue.client.set(broken, "not a list")
    queue.client.lpush(sound, task("a"), task("b"))
    limits = {"types": {"screening": 0}, "users": {}} if limited else None
    levels = [Level(name, promote_ms=aging, take_from=take_from) for name in (PRIORITY, NORMAL)]

    reply = queue.claim(want=4, levels=levels, limits=limits)

    assert sorted(reply.payloads) == [task("a"), task("b")]
    assert queue.everywhere() == {task("a"): 1, task("b"): 1}
    assert reply.states[0 if broken == PRIORITY else 1] == "wrong"
    assert queue.client.get(broken) == b"not a list"


# The register of claimed tasks.


def test_the_second_of_two_equal_ids_is_suspected(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("a"), task("a", args={"n": 2}))

    reply = queue.claim(want=2)

    assert [claim.suspicion for claim in reply.claims] == ["none", "lease"]
    assert [claim.registered for claim in reply.claims] == ["a", ""]


def test_an_id_with_a_record_is_suspected(queue: QueueScripts) -> None:
    queue.client.set(RESULT_PREFIX + "a", "{}")
    queue.client.lpush(NORMAL, task("a"))

    (claim,) = queue.claim().claims

    assert (claim.suspicion, claim.registered) == ("record", "a")


@pytest.mark.parametrize(
    ("payload", "registered"),
    [
        (b'{"task_id":"caf\xc3\xa9"}', "café"),
        (b'{ "task_id" : "a b" }', "a b"),
        (b'{"task_id":"a\\"b"}', ""),
        (b'{"task_id":""}', ""),
        (b'{"task_id":5}', ""),
        (b'{"args":{"task_id":"inner"},"task_id":"outer"}', "outer"),
        (b'{"args":{"task_id":"inner"},"task_id":"a\\u0000b"}', ""),
        (b'{"task_id":"' + b"x" * 257 + b'"}', ""),
        (b"nothing", ""),
    ],
)
def test_the_register_holds_ids_that_can_be_read_cheaply(queue: QueueScripts, payload: bytes, registered: str) -> None:
    queue.client.lpush(NORMAL, payload)

    (claim,) = queue.claim().claims

    assert claim.registered == registered
    assert claim.suspicion == ("none" if registered else "unread")
    assert queue.client.hlen("aworker:claimed") == bool(registered)


# A full server, and one that has forgotten.


def test_a_full_server_can_be_claimed_from(full_queue: QueueScripts) -> None:
    queue = full_queue
    queue.client.lpush(NORMAL, *(task(f"t{index}") for index in range(3)))
    queue.fill_server()
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        queue.client.set("refused", 1)

    reply = queue.claim(want=3, limits={"types": {"screening": 0}, "users": {}})

    assert len(reply.claims) == 3
    assert len(queue.leased()) == 3


def test_deliveries_of_a_payload_are_counted_from_one(queue: QueueScripts) -> None:
    queue.client.lpush(NORMAL, task("a"))
    deliveries = []

    for _ in range(3):
        (claim,) = queue.claim().claims
        deliveries.append(claim.delivery)
        queue.settle(Item("back", claim.lease_id, "a", "a", extras=("1", "auto")))

    assert deliveries == [1, 2, 3]


def test_both_levels_are_named_in_one_claim(queue: QueueScripts) -> None:
    queue.client.lpush(PRIORITY, task("p"))
    queue.client.lpush(NORMAL, task("n"))

    heads = queue.claim(want=2, levels=BOTH) and [
        entry.split(b"\n")[0].split(b'"')[1].decode() for entry in queue.client.hvals("aworker:leases:w1")
    ]

    assert sorted(heads) == [NORMAL, PRIORITY]


@pytest.mark.parametrize("waiting, state", [(300, "more"), (250, "empty"), (200, "empty")])
@pytest.mark.parametrize("push", ["lpush", "rpush"])
def test_limits_that_hold_nothing_back_do_not_bound_a_claim(
    queue: QueueScripts, push: str, waiting: int, state: str
) -> None:
    payloads = [task(f"a{index}", task_type="alert", created_at=f"{index:04}") for index in range(waiting)]
    for payload in payloads:
        getattr(queue.client, push)(NORMAL, payload)
    queue.client.hset(queue.keys.ends, NORMAL, "right 0" if push == "lpush" else "left 0")

    reply = queue.claim(want=250, limits={"types": {"backtest": 1}, "users": {}})

    assert reply.payloads == payloads[:250]
    assert reply.states[1] == state


def test_equal_payloads_around_one_that_is_held_back_are_each_taken_once(queue: QueueScripts) -> None:
    same, held = task("a", task_type="alert"), task("b")
    queue.client.lpush(NORMAL, same, same, held, same, same)

    reply = queue.claim(want=3, limits={"types": {"backtest": 0}, "users": {}})

    assert reply.payloads == [same] * 3
    assert queue.waiting() == [same, held]
