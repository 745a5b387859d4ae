"""The producer's and the operator's commands against a worker and its server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.kit.commands import Here, aworker, eventually, running


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def test_enqueue_peek_stats_and_clear(here: Here, tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    at = ("--redis-url", redis_url)

    first = here("enqueue", "backtest", "--arg", "strategy_id=1000001", "--task-id", "one", *at)
    second = here("enqueue", "create_strategy", "-a", "user_id=1", "-a", "prompt=Buy dips", *at)
    here("enqueue", "alert", "--args", '{"strategy_id": 5}', "--queue", "priority", *at)
    stats = here("stats", "--json", *at)
    peeked = here("peek", "priority", "--json", *at)
    words = here("peek", "strategy_queue", *at)
    cleared = here("clear", "priority", "--yes", *at)

    assert (first.returncode, first.stdout) == (0, "one\n")
    tasks = json.loads(peeked.stdout)
    assert [task["task_type"] for task in tasks] == ["create_strategy", "alert"]
    assert tasks[0]["task_id"] == second.stdout.strip()
    assert tasks[0]["args"] == {"user_id": 1, "prompt": "Buy dips"}
    assert [queue["length"] for queue in json.loads(stats.stdout)["queues"]] == [2, 1]
    assert words.stdout.startswith("one  backtest  ")
    assert '{"strategy_id":1000001}' in words.stdout
    assert cleared.stdout == "2\n"
    assert client.llen("strategy_queue_priority") == 0
    assert client.llen("strategy_queue") == 1


def test_clear_removes_nothing_unless_somebody_says_yes(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    client.rpush("strategy_queue", "x")

    ended = here("clear", "normal", "--redis-url", redis_url)

    assert ended.returncode == 2
    assert client.llen("strategy_queue") == 1


def test_results_and_dead_letters_of_a_worker(here: Here, tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    at = ("--redis-url", redis_url)
    with running("run", *at, cwd=tmp_path) as worker:
        worker.logs("is ready")

        done = here("enqueue", "echo", "-a", "x=1", "-a", "steps=2", "--wait", 20, *at)
        failed = here("enqueue", "fail", "--task-id", "bad", "--wait", 20, "--json", *at)
        shown = here("result", "bad", *at)
        waited = here("result", done.stdout.splitlines()[-1], "--wait", 1, "--json", *at)
        none = here("result", "nobody", "--wait", 0.1, *at)
        listed = here("dead", "list", "--json", *at)
        letter = json.loads(listed.stdout)[0]
        one = here("dead", "show", "bad", *at)

    assert done.returncode == 0, done.stderr
    assert '"echo": {' in done.stdout
    assert "echo: step 1 of 2 (50%)" in done.stdout
    assert waited.returncode == 3, "the last line is no task id"
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["data"]["error_type"] == "ValueError"
    assert shown.returncode == 1
    assert shown.stdout == "Failed, ValueError: told to fail\n"
    assert none.returncode == 3
    assert (letter["task_id"], letter["task_type"]) == ("bad", "fail")
    assert "told to fail" in one.stdout

    requeued = here("dead", "requeue", letter["entry_id"], *at)
    again = here("dead", "requeue", letter["entry_id"], *at)

    assert requeued.stdout == "1\n"
    assert client.llen("strategy_queue") == 1
    assert again.returncode == 3
    assert "must be a dead letter's" in again.stderr


def test_cancel_says_where_it_found_the_task(here: Here, tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    at = ("--redis-url", redis_url)
    began = tmp_path / "began"
    hold = ("--arg", f"began={began}", "--arg", f"until={tmp_path / 'never'}")
    here("enqueue", "hold", "--task-id", "waits", *hold, *at)

    waiting = here("cancel", "waits", *at)
    ended = here("cancel", "waits", *at)
    unknown = here("cancel", "nobody", "--json", *at)
    with running("run", *at, cwd=tmp_path) as worker:
        here("enqueue", "hold", "--task-id", "runs", *hold, *at)
        eventually(began.exists, told=lambda: worker.stderr)
        stopped = here("cancel", "runs", *at)
        end = here("result", "runs", "--wait", 20, *at)

    assert (waiting.returncode, waiting.stdout) == (0, "It was waiting and will never start\n")
    assert client.llen("strategy_queue") == 0
    assert ended.returncode == 1
    assert unknown.returncode == 3
    assert json.loads(unknown.stdout) == {"task_id": "nobody", "found": "unknown"}
    assert (stopped.returncode, stopped.stdout) == (0, "It was running; its worker stops it\n")
    assert end.returncode == 1
    assert "TaskCancelled" in end.stdout


def test_dead_letters_are_chosen_by_reason_and_type(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    at = ("--redis-url", redis_url)
    client.rpush("strategy_queue", "nonsense", '{"task_id": "a", "task_type": "fail"}')
    aworker("run", "--burst", *at, cwd=tmp_path)

    undecided = here("dead", "drop", *at)
    dropped = here("dead", "drop", "--task-type", "fail", "--yes", *at)
    listed = here("dead", "list", *at)
    unasked = here("dead", "drop", "--all", *at)
    rest = here("dead", "drop", "--all", "--yes", *at)
    empty = here("dead", "list", *at)

    assert undecided.returncode == unasked.returncode == 2
    assert "Delete every dead letter, for good?" in unasked.stderr
    assert dropped.stdout == "1\n"
    assert len(listed.stdout.splitlines()) == 1
    assert rest.stdout == "1\n"
    assert empty.stdout == "No dead letters\n"


def test_a_payload_cannot_steer_the_terminal(here: Here, tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    client.rpush("strategy_queue", '{"task_id": "a\\u001b[2J", "task_type": "t", "args": {}}', b"\x1b[31m\xff")

    ended = here("peek", "normal", "--redis-url", redis_url)

    assert ended.returncode == 0
    assert "\x1b" not in ended.stdout
    assert "\\x1b[2J" in ended.stdout


def test_an_id_with_a_line_break_takes_one_line(
    here: Here, tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    at = ("--redis-url", redis_url)
    client.rpush("strategy_queue", '{"task_id": "a\\nb", "task_type": "t\\nu", "args": {}}')

    waiting = here("peek", "normal", *at)
    placed = here("why", "a\nb", *at)
    aworker("run", "--burst", *at, cwd=tmp_path)
    dead = here("dead", "list", *at)

    for ended in (waiting, dead):
        assert len(ended.stdout.splitlines()) == 1
        assert "a\\nb" in ended.stdout
    assert "T\\nu task a\\nb waits on the normal queue" in placed.stdout


def test_a_list_that_is_none_is_told_as_the_servers_refusal(here: Here, redis_url: str, client: redis.Redis) -> None:
    client.set("strategy_queue", "no list")

    ended = here("stats", "--redis-url", redis_url)

    assert ended.returncode == 69
    assert len(ended.stderr.splitlines()) == 1
    assert "must carry out the command, refused it (" in ended.stderr
    assert "LLEN strategy_queue" in ended.stderr
    assert "WRONGTYPE" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("strategy", "list"),
        ("alerts",),
        ("enqueue", "alert"),
        ("enqueue", "alert", "--wait", "5"),
        ("result", "x"),
        ("result", "x", "--wait", "5"),
        ("stats",),
        ("peek", "normal"),
        ("clear", "normal", "--yes"),
        ("dead", "list"),
        ("check",),
    ],
    ids=" ".join,
)
def test_redis_away_is_one_line_and_69(here: Here, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}/0"

        ended = here(*arguments, "--redis-url", f"redis://:hidden@{address}")

    assert ended.returncode == 69
    assert len(ended.stderr.splitlines()) == 1
    assert f"Redis at {address} must answer, did not" in ended.stderr
    assert "hidden" not in ended.stdout + ended.stderr


def test_what_cannot_be_a_task_is_refused_with_2(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url)

    empty = here("enqueue", "", *at)
    unknown = here("enqueue", "echo", "--queue", "nowhere", *at)

    assert (empty.returncode, unknown.returncode) == (2, 2)
    assert "task_type must be a non-empty string" in empty.stderr
    assert "queue must be one of priority (strategy_queue_priority)" in unknown.stderr


def test_check_shows_what_is_in_force(here: Here, tmp_path: Path, redis_url: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[worker]\nslots = 3\n")

    words = here("check", "--config", config, "--redis-url", redis_url)
    values = aworker("check", "--json", "--redis-url", redis_url, cwd=tmp_path)
    wrong = here("check", "--config", config, AWORKER_WORKER__SLOTS="0")

    assert words.returncode == 0, words.stderr
    assert "slots = 3" in words.stdout.splitlines()
    assert words.stdout.splitlines().count("[[queues]]") == 2
    assert "answers, version" in words.stdout
    shown = json.loads(values.stdout)
    assert shown["config"]["worker"]["slots"] == 16
    assert shown["redis"]["answers"] is True
    assert "echo" in shown["task_types"]
    assert wrong.returncode == 2
    assert "worker.slots must be 1 to 10000, was 0" in wrong.stderr


def test_version_and_help(tmp_path: Path) -> None:
    version = aworker("--version", cwd=tmp_path)
    words = aworker("--help", cwd=tmp_path)

    assert version.stdout.strip()
    assert all(
        name in words.stdout
        for name in ("run", "enqueue", "result", "cancel", "stats", "peek", "clear", "dead", "check")
    )
