"""Promoting, demoting, pausing and asking why from the command line, beside a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.kit.commands import Here, aworker, eventually, running


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def waiting(client: redis.Redis, name: str) -> list[str]:
    return [json.loads(payload)["task_id"] for payload in client.lrange(name, 0, -1)]


def test_promote_and_demote_move_a_task_by_a_level(here: Here, redis_url: str, client: redis.Redis) -> None:
    at = ("--redis-url", redis_url)
    for name in ("one", "two", "three"):
        here("enqueue", "echo", "--task-id", name, *at)

    up = here("promote", "two", *at)
    top = here("promote", "two", *at)
    down = here("demote", "two", "--json", *at)
    unknown = here("demote", "nobody", *at)

    assert (up.returncode, up.stdout) == (0, "It waits on the priority queue now: it is taken next there\n")
    assert (top.returncode, top.stdout) == (1, "It waits on the priority queue already, the highest level\n")
    assert json.loads(down.stdout) == {"task_id": "two", "found": "moved", "queue": "normal"}
    assert (unknown.returncode, unknown.stdout) == (3, "Nobody has it\n")
    assert waiting(client, "strategy_queue") == ["one", "three", "two"]


def test_a_paused_level_is_shown_and_starts_nothing_until_it_is_resumed(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    at = ("--redis-url", redis_url)
    with running("run", *at, cwd=tmp_path) as worker:
        worker.logs("is ready")

        first = here("pause", "normal", *at)
        second = here("pause", "strategy_queue", *at)
        of_type = here("pause", "alert", *at)
        worker.logs("Paused: normal queue, alert tasks")
        here("enqueue", "echo", "--task-id", "held", *at)
        stats = here("stats", *at)
        as_json = json.loads(here("stats", "--json", *at).stdout)
        why = here("why", "held", *at)
        other = here("enqueue", "echo", "--priority", "high", "--wait", 20, *at)
        is_held = waiting(client, "strategy_queue") == ["held"]
        resumed = here("resume", "normal", *at)
        again = here("resume", "normal", *at)
        here("resume", "alert", *at)
        done = here("result", "held", "--wait", 20, *at)
        worker.logs("Nothing is paused any more")

    assert (first.returncode, first.stdout) == (0, "The normal queue is paused\n")
    assert second.stdout == "The normal queue is paused already\n"
    assert of_type.stdout == "alert tasks are paused\n"
    assert "paused" in stats.stdout.splitlines()[2]
    assert "Paused: alert tasks" in stats.stdout
    assert [queue["paused"] for queue in as_json["queues"]] == [False, True]
    assert why.stdout.startswith("Echo task held waits on the normal queue, none before it")
    assert "the normal queue is paused since" in why.stdout
    assert other.returncode == 0
    assert is_held
    assert resumed.stdout == "The normal queue goes on\n"
    assert again.stdout == "The normal queue is not paused\n"
    assert done.returncode == 0


def test_what_is_neither_a_level_nor_a_type_is_not_paused(here: Here, redis_url: str, client: redis.Redis) -> None:
    refused = here("pause", "nomal", "--redis-url", redis_url)

    assert refused.returncode == 2
    assert "QUEUE_OR_TYPE must be a level (priority, normal) or a task type (" in refused.stderr
    assert client.keys("*") == []


def test_a_type_whose_handler_is_gone_can_be_resumed(here: Here, redis_url: str, client: redis.Redis) -> None:
    client.hset("aworker:paused", "type retired", "1.5")

    resumed = here("resume", "retired", "--redis-url", redis_url)

    assert (resumed.returncode, resumed.stdout) == (0, "retired tasks go on\n")


def test_why_follows_a_task_from_its_wait_to_its_end(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    at = ("--redis-url", redis_url)
    began, until = tmp_path / "began", tmp_path / "until"
    here("enqueue", "echo", "--task-id", "before", *at)
    here("enqueue", "hold", "--task-id", "it", "-a", f"began={began}", "-a", f"until={until}", *at)

    waits = here("why", "it", *at)
    with running("run", *at, cwd=tmp_path) as worker:
        eventually(began.exists, told=lambda: worker.stderr)
        runs = json.loads(here("why", "it", "--json", *at).stdout)
        until.touch()
        here("result", "it", "--wait", 20, *at)
        here("enqueue", "fail", "--task-id", "bad", "--wait", 20, *at)
    ended = here("why", "it", *at)
    dead = here("why", "bad", *at)
    unknown = here("why", "nobody", *at)

    assert waits.returncode == 0
    assert "Hold task it waits on the normal queue, 1 before it" in waits.stdout
    assert "  no worker is there\n" in waits.stdout
    assert (runs["place"], runs["queue"], runs["delivery"]) == ("running", "normal", 1)
    assert runs["worker_id"].startswith("worker_")
    assert ended.stdout.startswith("Task it ended at ")
    assert dead.stdout.startswith("Fail task bad is a dead letter since ")
    assert "told to fail" in dead.stdout
    assert unknown.returncode == 3


def test_why_makes_up_no_instant_for_a_task_without_one(here: Here, redis_url: str, client: redis.Redis) -> None:
    client.rpush("strategy_queue", '{"task_id":"bare","task_type":"echo"}')

    waits = here("why", "bare", "--redis-url", redis_url)

    assert waits.stdout.startswith("Echo task bare waits on the normal queue, none before it\n")


def test_enqueue_follows_the_rules_of_the_configuration(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    path = tmp_path / "aworker.toml"
    path.write_text(
        f'[redis]\nurl = "{redis_url}"\n'
        '[[routing]]\nargs = {user_tier = "gold"}\nqueue = "priority"\n'
        '[[routing]]\nqueue = "normal"\nwhen = {queue = "priority", longer_than = 0}\n'
        '[[routing]]\nqueue = "priority"\n',
        encoding="utf-8",
    )

    for task_id, tier in (("first", "free"), ("second", "free"), ("gold", "gold")):
        here("enqueue", "backtest", "--task-id", task_id, "-a", f"user_tier={tier}", "--config", path)

    assert waiting(client, "strategy_queue_priority") == ["first", "gold"]
    assert waiting(client, "strategy_queue") == ["second"]


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
def test_a_burst_worker_does_not_wait_for_a_paused_level(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis, delivery: str
) -> None:
    at = ("--redis-url", redis_url)
    here("pause", "normal", *at)
    here("enqueue", "echo", "--task-id", "held", *at)
    here("enqueue", "echo", "--task-id", "runs", "--priority", "high", *at)

    ended = aworker("run", "--burst", *at, cwd=tmp_path, AWORKER_WORKER__DELIVERY=delivery)

    assert ended.returncode == 0, ended.stderr
    assert "Completed echo task runs from priority queue" in ended.stderr
    assert waiting(client, "strategy_queue") == ["held"]
