"""What the doctor says of keys, levels and workers: with the trouble planted on a real server, and without."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aworker.clock import rfc3339
from aworker.config import Config, DeadLettersConfig, QueueConfig, WorkerConfig
from aworker.doctor import places, queues, workers
from aworker.doctor.examination import Finding
from aworker.metrics import tally
from aworker.queues.presence import HeldLoop
from tests.kit.pages import bury, counted, present, record
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.wards import found_by, names
from tests.kit.workers import config_of, eventually, running_worker

URL = "redis_url"


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


def aged(task_id: str, ago_s: float) -> bytes:
    return task(task_id, created_at=rfc3339(time.time() - ago_s))


def carried_out(queue: QueueScripts, finding: Finding) -> Any:
    """Do what a finding says mends it, as far as that is a command to the server."""
    words = shlex.split(finding.mend.partition(";")[0].partition("&&")[0])
    assert words[:2] == ["redis-cli", "-h"]
    return queue.client.execute_command(*words[5:])


# Keys.


async def test_a_key_of_another_type(queue: QueueScripts, url: str) -> None:
    queue.client.rpush(NORMAL, task("one"))
    queue.client.set("task_result:x", "{}")
    assert names(await found_by(places.types, url)) == []

    queue.client.set("aworker:dead", "what is this")
    queue.client.sadd(PRIORITY, "a")
    findings = await found_by(places.types, url)

    assert names(findings) == ["wrong-type", "wrong-type"]
    assert findings[0].what == "strategy_queue_priority is a set, must be a list"
    for finding in findings:
        carried_out(queue, finding)
    assert names(await found_by(places.types, url)) == []


@pytest.mark.parametrize(
    "name, payload",
    [
        ("strategy_queues", b"whatever"),
        ("strategy-queue", b"whatever"),
        ("STRATEGY_QUEUE_PRIORITY", b"whatever"),
        ("backtests", task("one")),
        ("backtests", task("big", args={"prompt": "x" * 200_000})),
    ],
)
async def test_a_list_that_only_producers_know(queue: QueueScripts, url: str, name: str, payload: bytes) -> None:
    queue.client.rpush(name, payload, payload)
    (finding,) = await found_by(places.strays, url)

    assert finding.name == "stray-list"
    assert finding.what.startswith(f"2 payloads on the list {name}")
    assert f"LMOVE {name} " in finding.mend


async def test_other_programs_lists_are_theirs(queue: QueueScripts, url: str) -> None:
    queue.client.rpush(NORMAL, task("one"))
    queue.client.rpush("celery", json.dumps({"body": "..", "headers": {"id": "x"}}))
    queue.client.rpush("mail", b"\x00\xff", b"text", b"[1]")
    queue.client.rpush(b"\xff\xfe", b"text")
    queue.client.set("strategy_queues", "no list")

    (finding,) = await found_by(places.strays, url)

    assert (finding.severity, finding.what) == ("well", "3 lists beside the levels, none with tasks")


async def test_results_that_never_expire(queue: QueueScripts, url: str) -> None:
    for number in range(30):
        record(queue, f"stays-{number}", "completed", {})
    findings = await found_by(places.results, url)

    assert names(findings) == ["results-stay"]
    assert "EXPIRE % 86400 NX" in findings[0].mend
    for number in range(30):
        queue.client.expire(f"task_result:stays-{number}", 60)
    assert names(await found_by(places.results, url)) == []


async def test_results_that_fill_the_server(full_queue: QueueScripts, url: str) -> None:
    queue = full_queue
    for number in range(100):
        queue.client.set(f"task_result:{number}", b"x" * 100_000, ex=60)
    assert names(await found_by(places.results, url)) == []

    queue.client.config_set("maxmemory", 16_000_000)
    (finding,) = await found_by(places.results, url)

    assert finding.name == "results-crowd"
    assert "100 results of 100,000 bytes are 10 MiB of 15 MiB" in finding.what


# Levels.


async def test_a_queue_that_nobody_consumes(queue: QueueScripts, url: str) -> None:
    assert names(await found_by(queues.consumed, url)) == []
    queue.client.rpush(NORMAL, task("one"))
    (finding,) = await found_by(queues.consumed, url)
    assert (finding.name, finding.what) == ("nobody-consumes", "1 task on the normal queue, no worker is there")

    present(queue, "w1", reserved={"priority": 2})
    (finding,) = await found_by(queues.consumed, url)
    assert (finding.name, finding.what) == (
        "nobody-consumes",
        "1 task on the normal queue, none of 1 worker serves it",
    )

    present(queue, "w2", reserved={"priority": 2, "normal": 0})
    assert names(await found_by(queues.consumed, url)) == []


async def test_what_is_paused_is_told_with_what_waits(queue: QueueScripts, url: str) -> None:
    present(queue, "w1", reserved={"priority": 2, "normal": 0})
    queue.client.hset("aworker:paused", mapping={f"queue {NORMAL}": time.time() - 600, "type backtest": 1})
    assert names(await found_by(queues.consumed, url)) == []

    queue.client.rpush(NORMAL, task("one"))
    findings = await found_by(queues.consumed, url)

    assert names(findings) == ["paused", "paused"]
    assert findings[0].what == "1 task on the normal queue, paused 10 min ago"
    assert [one.mend for one in findings] == ["aworker resume normal", "aworker resume backtest"]


@pytest.mark.parametrize("taken, expected", [(0, ["stands-still"]), (1, [])])
async def test_a_level_from_which_nothing_is_taken(
    queue: QueueScripts, url: str, taken: int, expected: list[str]
) -> None:
    queue.client.rpush(NORMAL, task("one"))
    present(queue, "w1", reserved={"priority": 2, "normal": 0})
    this = int(queue.client.time()[0] // 60)
    for minute in range(this - 10, this):
        text = f"{minute} 3 {taken} 0 0"
        queue.client.hset("aworker:minutes", f"{minute % 60} normal", text)

    assert names(await found_by(queues.consumed, url)) == expected


@pytest.mark.parametrize("length", [6, 7, 10, 50, 400])
@pytest.mark.parametrize("way", ["instants", "numbers", "one after the other"])
async def test_a_list_that_is_pushed_on_both_sides(queue: QueueScripts, url: str, length: int, way: str) -> None:
    for number in range(length):
        is_right = number % 2 if way != "one after the other" else number * 2 < length
        push = queue.client.rpush if is_right else queue.client.lpush
        push(NORMAL, task(f"backtest_7_{number:09}") if way == "numbers" else aged("x", 500 - number))

    (finding,) = await found_by(queues.order, url)

    assert finding.name == "both-ends"
    assert NORMAL in finding.what


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 30, 200])
async def test_a_list_that_is_pushed_on_one_side_is_well(queue: QueueScripts, url: str, side: str, length: int) -> None:
    push = queue.client.lpush if side == "left" else queue.client.rpush
    push(NORMAL, *[aged(str(number), 500 - number) for number in range(length)])
    push(PRIORITY, *[task(str(uuid.UUID(int=number**9))) for number in range(length)])

    assert names(await found_by(queues.order, url)) == []


async def test_tasks_that_were_put_back_or_tell_no_time_are_no_sign(queue: QueueScripts, url: str) -> None:
    same = task("same")
    queue.client.rpush(NORMAL, *[aged(str(number), 500 - number) for number in range(30)])
    queue.client.lpush(NORMAL, same, b"no task", b"{}", aged("retried", 900), b"[]")
    queue.client.hset("aworker:ends", NORMAL, "left 0")
    queue.client.rpush(PRIORITY, *[same] * 40)

    assert names(await found_by(queues.order, url)) == []


@pytest.mark.parametrize(
    "sections, words",
    [
        ({"queues": (QueueConfig(name=NORMAL, label="normal", take_from="right"),)}, 'take_from = "auto"'),
        ({"worker": WorkerConfig(delivery="at-most-once")}, 'worker.delivery = "leased"'),
    ],
)
async def test_a_list_that_is_taken_from_at_its_newer_end(
    queue: QueueScripts, url: str, sections: dict[str, Any], words: str
) -> None:
    tasks = [aged(str(number), 500 - number) for number in range(30)]
    queue.client.rpush(NORMAL, *tasks)
    (finding,) = await found_by(queues.order, url, **sections)
    assert (finding.name, words in finding.mend) == ("newest-first", True)

    queue.client.delete(NORMAL)
    queue.client.lpush(NORMAL, *tasks)
    assert names(await found_by(queues.order, url, **sections)) == []


async def test_dead_letters_that_grow(queue: QueueScripts, url: str) -> None:
    bury(queue.client, *[{"reason": "HandlerRaised"}] * 2)
    assert names(await found_by(queues.dead_letters, url)) == []

    bury(queue.client, *[{"reason": "UnknownTaskType"}] * 50)
    (finding,) = await found_by(queues.dead_letters, url)

    assert finding.name == "dead-letters-grow"
    assert finding.what == ("52 dead letters within the last hour, of 52 in all: 50 UnknownTaskType, 2 HandlerRaised")


async def test_old_dead_letters_do_not_grow(queue: QueueScripts, url: str) -> None:
    for number in range(60):
        queue.client.xadd("aworker:dead", {"payload": b"{}", "reason": "x"}, id=f"{1_000 + number}-0")
    bury(queue.client, {})

    (finding,) = await found_by(queues.dead_letters, url)

    assert (finding.severity, finding.what) == ("well", "61 dead letters, 1 within the last hour")


async def test_dead_letters_that_are_about_to_fall_off(queue: QueueScripts, url: str) -> None:
    queue.client.xadd("aworker:dead", {"payload": b"{}"}, id="1000-0")
    limits = DeadLettersConfig(max_entries=1)

    assert names(await found_by(queues.dead_letters, url, dead_letters=limits)) == ["dead-letters-full"]
    assert names(await found_by(queues.dead_letters, url)) == []


# Workers.


async def test_a_worker_that_fell_silent(queue: QueueScripts, url: str) -> None:
    present(queue, "w1")
    assert names(await found_by(workers.stale, url)) == []

    queue.client.zadd("aworker:beats", {"w2": queue.client.time()[0] - 60})
    (finding,) = await found_by(workers.stale, url)

    assert finding.name == "silent-worker"
    assert "w2 has said nothing for 6" in finding.what


async def test_leases_whose_worker_nobody_knows_are_freed_by_the_command(queue: QueueScripts, url: str) -> None:
    queue.client.rpush(NORMAL, task("orphan", task_type="echo"))
    now_ms = int(time.time() * 1000)
    queue.claim("ghost", now_ms=now_ms)
    queue.client.zrem("aworker:workers", "ghost")
    ran: list[str] = []

    async def echo(args: Any, context: Any) -> None:
        ran.append(context.task_id)

    (finding,) = await found_by(workers.leases, url)
    assert (finding.name, finding.severity) == ("lost-leases", "trouble")
    assert finding.what.startswith("1 task leased to ghost, which is no worker's name")
    config = config_of(url, worker=WorkerConfig(slots=1, lease_ttl_s=0.5, renew_interval_s=0.1))
    async with running_worker(config, {"echo": echo}):
        carried_out(queue, finding)

        async def has_run() -> bool:
            return ran == ["orphan"]

        await eventually(has_run)
    assert names(await found_by(workers.leases, url)) == []


async def test_leases_that_lapsed_long_ago(queue: QueueScripts, url: str) -> None:
    queue.client.rpush(NORMAL, task("one"), task("two"))
    queue.claim("alive", now_ms=int(time.time() * 1000))
    assert names(await found_by(workers.leases, url)) == []

    queue.claim("gone", now_ms=int(time.time() * 1000) - 60_000)
    (finding,) = await found_by(workers.leases, url)

    assert finding.what.startswith("1 task leased to gone, whose lease ran out 5")
    assert finding.mend.startswith("aworker run")


@pytest.mark.parametrize("others", [0, 1])
async def test_leases_that_lapsed_just_now_are_left_to_the_others(queue: QueueScripts, url: str, others: int) -> None:
    now_ms = int(time.time() * 1000)
    queue.client.rpush(NORMAL, task("one"))
    queue.claim("gone", now_ms=now_ms - 7_000)
    if others:
        queue.client.zadd("aworker:workers", {"alive": now_ms + 60_000})

    assert names(await found_by(workers.leases, url)) == ["lost-leases"] * (1 - others)


async def test_workers_that_differ(queue: QueueScripts, url: str) -> None:
    alike: dict[str, Any] = {"version": "1.0", "limits": {"backtest": 2}, "reserved": {"priority": 2, "normal": 0}}
    present(queue, "w1", **alike)
    present(queue, "w2", **alike, slots=64)
    assert names(await found_by(workers.alike, url)) == []

    present(queue, "w3", **{**alike, "version": "1.1"})
    present(queue, "w4", **{**alike, "limits": {"backtest": 8}})
    present(queue, "w5", **{**alike, "reserved": {"priority": 2}}, delivery="at-most-once")
    findings = await found_by(workers.alike, url)

    assert names(findings) == ["versions-differ", *["configurations-differ"] * 3]
    assert findings[0].what == "Workers of different versions: 1.0 on w1, w2 and 2 more; 1.1 on w3"


async def test_workers_that_differ_in_something_else(queue: QueueScripts, url: str) -> None:
    present(queue, "w1", config_hash="aaaa")
    present(queue, "w2", config_hash="aaaa")
    assert names(await found_by(workers.alike, url)) == []

    present(queue, "w3", config_hash="bbbb")
    (finding,) = await found_by(workers.alike, url)

    assert (finding.name, finding.what) == (
        "configurations-differ",
        "Workers of different configurations: aaaa on w1, w2; bbbb on w3",
    )


async def test_a_loop_that_is_blocked(queue: QueueScripts, url: str) -> None:
    present(queue, "w1", loop_lag_s=0.2)
    assert names(await found_by(workers.loops, url)) == []

    present(queue, "w2", loop_lag_s=42.0, pid=17)
    (finding,) = await found_by(workers.loops, url)

    assert (finding.name, finding.severity) == ("loop-blocked", "trouble")
    assert finding.what == "The loop of worker w2 is blocked for 42 s; it runs backtest w2-runs"
    assert finding.mend == "py-spy dump --pid 17 (on host-1)"


async def test_a_handler_that_held_the_loop_is_named(queue: QueueScripts, url: str) -> None:
    now_s = queue.client.time()[0]
    present(queue, "w1", held=[HeldLoop("brief", 0.2, 9, now_s), HeldLoop("long ago", 9.0, 9, now_s - 7_200)])
    assert names(await found_by(workers.loops, url)) == []

    present(queue, "w2", held=[HeldLoop("greedy", 1.24, 3, now_s)])
    (finding,) = await found_by(workers.loops, url)

    assert finding.name == "blocking-handlers"
    assert finding.what == "greedy tasks held the loop of worker w2 for up to 1.2 s, 3 times within the hour"


async def test_a_worker_says_which_handler_holds_its_loop(
    queue: QueueScripts, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "held", {})  # what other tests of this process held

    async def greedy(args: Any, context: Any) -> None:
        await anyio.lowlevel.checkpoint()
        time.sleep(0.5)  # noqa: ASYNC251 - it is what must not be done

    async def patient(args: Any, context: Any) -> None:
        await anyio.sleep(0.3)

    async with running_worker(config_of(url), {"greedy": greedy, "patient": patient}):
        queue.client.rpush(NORMAL, task("one", task_type="greedy"), task("two", task_type="patient"))

        async def told() -> list[Finding]:
            return [one for one in await found_by(workers.loops, url) if one.what.startswith("greedy tasks held")]

        (finding,) = await eventually(told)

    assert finding.name == "blocking-handlers"
    # A loaded machine may hold any step up, but none as long as what sleeps in it.
    assert max(tally.held, key=lambda name: tally.held[name].longest_s) == "greedy"


# What it costs.


async def test_a_long_list_costs_as_much_as_a_short_one(queue: QueueScripts, url: str) -> None:
    async def cost_of(length: int) -> tuple[int, int]:
        queue.client.flushdb()
        queue.client.rpush(
            NORMAL,
            *[task(f"{number:06}", created_at=f"2026-01-01T{number % 24:02}:00:00Z") for number in range(length)],
        )
        with counted(queue.client) as cost:
            for check in (queues.consumed, queues.order, places.types, places.results, places.strays):
                await found_by(check, url, config=config_of(url))
        return cost.commands, cost.answered_bytes

    await cost_of(100)
    few, many = await cost_of(100), await cost_of(20_000)

    assert many[0] == few[0]
    assert many[1] < few[1] + 2_000


def test_the_configuration_is_never_changed() -> None:
    assert config_of("redis://x") == Config(redis=config_of("redis://x").redis)
