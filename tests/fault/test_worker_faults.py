"""Whole workers as processes, and what is done to them and to their server."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.kit.sites import NORMAL, Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


# Workers.


async def test_a_killed_workers_tasks_are_all_taken_by_another(site: Site) -> None:
    victim = await site.worker(slots=16, lease_ttl_s=5.0, renew_interval_s=1.0)
    tasks = site.push(*(f"work_{index}" for index in range(16)), sleep_s=60)
    await site.until(lambda: len(site.effects("start", victim)) == 16)
    heir = await site.worker(slots=16, lease_ttl_s=5.0, renew_interval_s=1.0)

    killed_at = time.time()
    victim.send(signal.SIGKILL)
    await site.until(lambda: len(site.effects("start", heir)) == 16, within_s=15)

    starts = site.effects("start", heir)
    print(f"kill -9 with 16 running tasks: another worker had them all after {starts[-1].at - killed_at:.2f} s")
    assert [start.task_id for start in starts] == tasks
    assert {start.delivery for start in starts} == {2}
    assert site.ends() == {}


async def test_a_worker_that_slept_past_its_lease_writes_nothing(site: Site) -> None:
    sleeper = await site.worker()
    tasks = site.push(*(f"slow_{index}" for index in range(4)), task_type="slow_once", sleep_s=60)
    await site.until(lambda: len(site.effects("start", sleeper)) == 4)
    heir = await site.worker()

    sleeper.send(signal.SIGSTOP)
    await site.until(lambda: site.completed(tasks))
    sleeper.send(signal.SIGCONT)
    await site.until(lambda: sleeper.log.read_bytes().count(b"Dropped the outcome of slow_once task") == 4)

    leases = {end.lease_id for end in site.effects("end", heir)}
    assert {(site.record(task_id) or {})["data"]["lease_id"] for task_id in tasks} == leases
    assert site.ends() == dict.fromkeys(tasks, 1)
    heir.send(signal.SIGKILL)
    site.push("next", sleep_s=0)
    await site.until(lambda: site.completed(["next"]))
    assert [end.task_id for end in site.effects("end", sleeper)][-1] == "next"


async def test_a_handler_that_blocks_the_loop_past_the_lease_is_not_delivered_again(site: Site) -> None:
    await site.worker()
    site.push("blocks_1", task_type="blocks", sleep_s=5)
    await site.until(lambda: site.effects("start"))
    await site.worker()

    await site.until(lambda: site.completed(["blocks_1"]))

    (start,) = site.effects("start")
    assert start.delivery == 1
    assert site.ends() == {"blocks_1": 1}


async def test_a_loop_that_is_blocked_too_long_ends_the_process_and_frees_its_task(site: Site) -> None:
    stuck = await site.worker(max_stall_s=1.0)
    site.push("blocks_1", task_type="blocks", sleep_s=25)
    await site.until(lambda: site.effects("start"))
    heir = await site.worker()

    await site.until(lambda: stuck.process.poll() is not None)

    assert stuck.process.returncode == 70
    log = stuck.log.read_text()
    assert "longer than worker.max_stall_s" in log
    assert "in blocks" in log
    await site.until(lambda: site.effects("start", heir))


async def test_a_process_that_was_stopped_longer_than_a_loop_may_block_goes_on(site: Site) -> None:
    workers = [await site.worker(max_stall_s=1.0) for _ in range(3)]

    # Whether its loop or its heartbeat wakes up first is chance.
    for turn in range(3):
        for worker in workers:
            worker.send(signal.SIGSTOP)
        await anyio.sleep(1.5)
        for worker in workers:
            worker.send(signal.SIGCONT)
        tasks = site.push(*(f"work_{turn}_{index}" for index in range(12)), sleep_s=0.2)
        await site.until(partial(site.completed, tasks))

    assert [worker.process.poll() for worker in workers] == [None] * 3


async def test_a_drained_worker_gives_back_what_it_runs_and_leaves_nothing(site: Site) -> None:
    worker = await site.worker(drain_timeout_s=0.3)
    tasks = site.push(*(f"work_{index}" for index in range(6)), sleep_s=60)
    await site.until(lambda: len(site.effects("start")) == 4)

    worker.send(signal.SIGTERM)
    await site.until(lambda: worker.process.poll() is not None)

    assert worker.process.returncode == 0
    with site.server.client() as client:
        assert [json.loads(payload)["task_id"] for payload in client.lrange(NORMAL, 0, -1)] == tasks
    assert site.keys() == {NORMAL, "aworker:ends", "aworker:lease_id", "aworker:minutes"}
    assert (site.record("work_0") or {})["status"] == "queued"
    heir = await site.worker()
    await site.until(lambda: len(site.effects("start", heir)) == 4)
    assert {start.delivery for start in site.effects("start", heir)} == {1}


async def test_a_drain_waits_for_running_tasks_and_takes_no_more(site: Site) -> None:
    worker = await site.worker()
    site.push(*(f"work_{index}" for index in range(5)), sleep_s=1)
    await site.until(lambda: len(site.effects("start")) == 4)

    worker.send(signal.SIGTERM)
    await site.until(lambda: worker.process.poll() is not None)

    assert worker.process.returncode == 0
    assert len(site.ends()) == 4
    assert site.keys() == {NORMAL, "aworker:ends", "aworker:lease_id", "aworker:minutes"}


async def test_a_second_signal_does_not_wait(site: Site) -> None:
    worker = await site.worker(drain_timeout_s=120.0)
    site.push("work_1", sleep_s=120)
    await site.until(lambda: site.effects("start"))

    worker.send(signal.SIGTERM)
    await site.until(lambda: b"draining" in worker.log.read_bytes())
    worker.send(signal.SIGTERM)
    await site.until(lambda: worker.process.poll() is not None)

    assert worker.process.returncode == 0
    with site.server.client() as client:
        assert client.llen(NORMAL) == 1


# The server.


async def test_a_server_that_is_killed_and_started_again_costs_no_task_and_no_second_run(site: Site) -> None:
    await site.worker()
    running = site.push(*(f"running_{index}" for index in range(4)), sleep_s=2)
    waiting = site.push(*(f"waiting_{index}" for index in range(10)), sleep_s=0)
    await site.until(lambda: len(site.effects("start")) == 4)

    site.server.stop(signal.SIGKILL)
    site.server.start()
    later = site.push("later", sleep_s=0)
    await site.until(lambda: site.completed([*running, *waiting, *later]))

    assert Counter(start.task_id for start in site.effects("start")) == dict.fromkeys([*running, *waiting, *later], 1)
    assert site.ends() == dict.fromkeys([*running, *waiting, *later], 1)


async def test_a_server_that_lost_what_it_was_last_told_hands_its_tasks_out_again(site: Site) -> None:
    tasks = site.push(*(f"work_{index}" for index in range(4)), sleep_s=2)
    kept = site.keep_file()
    worker = await site.worker()
    await site.until(lambda: len(site.effects("start")) == 4)

    site.go_back_to(kept)
    await site.until(lambda: site.completed(tasks))

    # The server knew of no lease: what ran under one is stopped, and the ids of the new leases are not the old ones.
    starts = site.effects("start", worker)
    assert Counter(start.task_id for start in starts) == dict.fromkeys(tasks, 2)
    assert len({start.lease_id for start in starts}) == 8
    assert {end.lease_id for end in site.effects("end")} == {start.lease_id for start in starts[4:]}
    assert site.ends() == dict.fromkeys(tasks, 1)
    assert site.keys() & {NORMAL, "aworker:claimed", "aworker:deliveries"} == set()


async def test_a_server_that_lost_outcomes_has_their_tasks_run_again(site: Site) -> None:
    await site.worker()
    tasks = site.push(*(f"work_{index}" for index in range(4)), sleep_s=0.5)
    await site.until(lambda: len(site.effects("start")) == 4)
    kept = site.keep_file()
    await site.until(lambda: site.completed(tasks))

    site.go_back_to(kept)
    await site.until(lambda: site.completed(tasks))

    assert Counter(end.task_id for end in site.effects("end")) == dict.fromkeys(tasks, 2)
    assert site.ends() == dict.fromkeys(tasks, 1)
    assert site.keys() & {NORMAL, "aworker:claimed", "aworker:deliveries"} == set()


async def test_cut_connections_cost_no_task_and_no_second_run(site: Site) -> None:
    workers = [await site.worker(), await site.worker()]
    tasks: list[str] = []

    with site.server.client() as client:
        for burst in range(10):
            tasks += site.push(*(f"work_{burst}_{index}" for index in range(20)), sleep_s=0.01)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await anyio.sleep(0.05)
    await site.until(lambda: site.completed(tasks))

    assert Counter(start.task_id for start in site.effects("start")) == dict.fromkeys(tasks, 1)
    assert site.ends() == dict.fromkeys(tasks, 1)
    assert all(worker.process.poll() is None for worker in workers)


async def test_a_frozen_server_costs_no_task_and_no_second_run(site: Site) -> None:
    await site.worker(lease_ttl_s=5.0, renew_interval_s=1.0)
    await site.worker(lease_ttl_s=5.0, renew_interval_s=1.0)
    tasks = site.push(*(f"work_{index}" for index in range(20)), sleep_s=0.5)
    await site.until(lambda: len(site.effects("start")) == 8)

    site.server.freeze()
    await anyio.sleep(4)
    site.server.thaw()
    thawed_at = time.time()
    tasks += site.push("later", sleep_s=0)
    await site.until(lambda: site.completed(tasks))

    assert Counter(start.task_id for start in site.effects("start")) == dict.fromkeys(tasks, 1)
    assert site.ends() == dict.fromkeys(tasks, 1)
    resumed = min(start.at for start in site.effects("start") if start.at > thawed_at)
    print(f"server frozen for 4 s: claiming again {resumed - thawed_at:.2f} s after it was back")


# Poison.

POISON: list[tuple[bytes, str]] = [
    (b"", ""),
    (b"not json", ""),
    (b"3", ""),
    (b"null", ""),
    (b"[]", ""),
    (b'"work"', ""),
    (b'{"task_type": "work"}', ""),
    (b'{"task_id": 7, "task_type": "work"}', ""),
    (b'{"task_id": "", "task_type": "work"}', ""),
    (b'{"task_id": "no type"}', "no type"),
    (b'{"task_id": "empty type", "task_type": ""}', "empty type"),
    (b'{"task_id": "unknown type", "task_type": "unheard of"}', "unknown type"),
    (b'{"task_id": "args list", "task_type": "work", "args": [1]}', "args list"),
    (b'{"task_id": "args text", "task_type": "work", "args": "x"}', "args text"),
    (b'{"task_id": "args wrong", "task_type": "work", "args": {"sleep_s": "long"}}', "args wrong"),
    (b"[" * 100_000, ""),
    (b'{"task_id": "large", "task_type": "work", "args": {"prompt": "' + b"x" * 300_000 + b'"}}', "large"),
    (b'{"task_id": "a\x00b", "task_type": "work"}', ""),
    (b"\x00" * 100, ""),
    (b"\xff\xfe\xfd", ""),
    (b'{"task_id": "bad text", "task_type": "work", "args": {"prompt": "\xff"}}', ""),
    (b'{"task_id": "lone surrogate", "task_type": "work", "args": {"prompt": "\\ud800"}}', ""),
    (b'{"task_id": "two", "task_type": "work"}{"task_id": "three", "task_type": "work"}', ""),
]


async def test_poison_ends_in_the_dead_letters_and_harms_nobody(site: Site) -> None:
    worker = await site.worker(max_payload_bytes=200_000)
    neighbours = site.push("before", sleep_s=0.5)
    with site.server.client() as client:
        heard = client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("worker_task_updates")
        heard.get_message(timeout=1)

        for index, (payload, _) in enumerate(POISON):
            client.rpush(NORMAL, payload)
            neighbours += site.push(f"between_{index}", sleep_s=0)

        await site.until(lambda: client.xlen("aworker:dead") == len(POISON))
        await site.until(lambda: site.completed(neighbours))
        letters = [fields for _, fields in client.xrange("aworker:dead")]
        messages = [message for message in iter(lambda: heard.get_message(timeout=0.3), None) if message["data"]]
        heard.close()

    assert worker.process.poll() is None
    assert Counter(letter[b"payload"] for letter in letters) == Counter(payload for payload, _ in POISON)
    assert all(letter[b"reason"] and letter[b"error"] and letter[b"queue"] == NORMAL.encode() for letter in letters)
    known = [task_id for _, task_id in POISON if task_id]
    statuses: dict[str, list[str]] = {task_id: [] for task_id in known}
    for message in messages:
        update = json.loads(message["data"])
        if update["task_id"] in statuses:
            statuses[update["task_id"]].append(update["status"])
    for task_id in known:
        assert [status for status in statuses[task_id] if status != "running"][:2] == ["error", "failed"], task_id
        assert (site.record(task_id) or {})["status"] == "error", task_id
    # Where the text is no JSON its id may be read or not; an outcome of it is written once at most.
    ends = site.ends()
    assert set(ends) - {"bad text", "lone surrogate", "two"} == {*neighbours, *known}
    assert set(ends.values()) == {1}
    assert site.keys() & {"aworker:claimed", "aworker:deliveries", "aworker:delayed", NORMAL} == set()


async def test_arguments_nested_to_the_edge_of_what_can_be_read_harm_nobody(site: Site) -> None:
    worker = await site.worker()
    depths = range(900, 1_000, 3)
    with site.server.client() as client:
        for depth in depths:
            nested = b"[" * depth + b"]" * depth
            client.rpush(
                NORMAL, b'{"task_id": "%d", "task_type": "work", "args": {"sleep_s": 0, "x": %s}}' % (depth, nested)
            )
    site.push("after", sleep_s=0)

    await site.until(lambda: site.completed(["after"]))

    await site.until(lambda: all((site.record(str(depth)) or {}).get("status") != "running" for depth in depths))
    assert worker.process.poll() is None
    with site.server.client() as client:
        assert client.llen(NORMAL) == 0
