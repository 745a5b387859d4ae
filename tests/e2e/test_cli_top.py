"""`aworker top` and `workers`, for scripts and in a terminal."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
import redis

from aworker.queues.presence import RunningTask
from tests.kit.commands import Here, aworker, eventually, running
from tests.kit.pages import bury, present
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.servers import Server
from tests.kit.terminals import in_terminal


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


def test_scripts_read_the_overview_as_json(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        present(queue, "w1")
        queue.client.rpush(NORMAL, task("one"), task("two"))
        bury(queue.client, {})

    ended = here("top", "--once", "--json", "--redis-url", redis_url)

    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert {row["label"]: row["waiting"] for row in told["queues"]} == {"priority": 0, "normal": 2}
    assert (told["dead"], told["slots"], told["busy"], told["verdict"]) == (1, 16, 1, "look")
    assert [(row["task_id"], row["worker_id"]) for row in told["running"]] == [("w1-runs", "w1")]
    assert [(row["worker_id"], row["state"]) for row in told["workers"]] == [("w1", "serves")]
    assert [(row["task_type"], row["completed"], row["failed"]) for row in told["task_types"]] == [
        ("alert", 9, 1),
        ("backtest", 0, 0),
    ]


def test_one_level_and_one_type_are_shown_alone(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        runs = [RunningTask("a", "alert", "normal", 1, 0), RunningTask("b", "backtest", "priority", 1, 0)]
        present(queue, "w1", running=runs)

    def running_of(*flags: str) -> list[str]:
        told = json.loads(here("top", "--json", *flags, "--redis-url", redis_url).stdout)
        return [row["task_id"] for row in told["running"]]

    assert running_of("--queue", "strategy_queue") == ["a"]
    assert running_of("--type", "backtest") == ["b"]
    assert running_of("--queue", "normal", "--type", "backtest") == []
    wrong = here("top", "--once", "--queue", "nosuch", "--redis-url", redis_url)
    assert (wrong.returncode, "queue must be one of priority" in wrong.stderr) == (2, True)
    wrong = here("top", "--once", "--sort", "color", "--redis-url", redis_url)
    assert (wrong.returncode, "--sort must be one of time, name" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("columns", [80, 140])
def test_a_picture_for_a_pipe_is_as_wide_as_it_is_told(redis_url: str, tmp_path: Path, columns: int) -> None:
    with QueueScripts(redis_url) as queue:
        present(queue, "w1", running=[RunningTask("x" * 200, "backtest", "normal", 1, 0)])

    ended = aworker("top", "--redis-url", redis_url, cwd=tmp_path, COLUMNS=str(columns))

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) == columns
    assert ("HOST" in ended.stdout) == (columns == 140)


def test_workers_are_listed_with_those_that_fell_silent(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        present(queue, "w1", host="alpha", slots=8, busy=3)
        present(queue, "w2", is_draining=True)
        queue.client.zadd("aworker:beats", {"w3": 1})
        queue.client.zadd("aworker:beats", {"w3": queue.client.time()[0] - 60})

    table = here("workers", "--redis-url", redis_url).stdout
    told = json.loads(here("workers", "--json", "--redis-url", redis_url).stdout)

    assert re.search(r"w1 +serves +3/8 .* alpha +0\.1\.0", table)
    assert re.search(r"w3 +silent 1m 0\d", table)
    assert {row["worker_id"]: row["state"] for row in told} == {"w1": "serves", "w2": "drains", "w3": "silent"}
    assert next(row for row in told if row["worker_id"] == "w3")["slots"] is None


def test_no_worker_is_said_and_no_server_is_refused(redis_url: str, here: Here) -> None:
    assert here("workers", "--redis-url", redis_url).stdout == "No worker\n"
    assert json.loads(here("workers", "--json", "--redis-url", redis_url).stdout) == []
    for name in ("top", "workers"):
        ended = here(name, "--redis-url", "redis://127.0.0.1:1/0")
        assert (ended.returncode, "Redis at 127.0.0.1:1/0 must answer" in ended.stderr) == (69, True)


def test_it_is_live_listens_to_keys_and_leaves_the_terminal_as_it_was(redis_url: str, tmp_path: Path) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        running("run", "--redis-url", redis_url, cwd=tmp_path) as worker,
        in_terminal("top", "--interval", "0.2", "--redis-url", redis_url, cwd=tmp_path) as terminal,
    ):
        worker.logs("is ready")
        terminal.shows("1 worker serves")
        until = tmp_path / "until"
        client.rpush(NORMAL, task("held", task_type="hold", args={"began": str(tmp_path / "b"), "until": str(until)}))
        terminal.shows("held")

        terminal.press("s")
        terminal.frame_with("by name")
        terminal.press("l")
        terminal.frame_with("level priority")
        terminal.press("l")
        terminal.frame_with("level normal")
        terminal.press("t")
        terminal.frame_with("type ")
        terminal.press("?")
        terminal.frame_with("this text")
        terminal.press("\x1b")
        terminal.frame_with("RUNNING")
        terminal.press(" ")
        terminal.frame_with("PAUSED")
        terminal.press("q")

        assert terminal.ends() == 0
        assert terminal.is_as_before
        until.touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(redis_url: str, tmp_path: Path, number: signal.Signals) -> None:
    with in_terminal("top", "--redis-url", redis_url, cwd=tmp_path) as terminal:
        terminal.shows("No worker is there")
        if number == signal.SIGINT:
            terminal.press("\x03")
        else:
            terminal.process.send_signal(number)

        assert terminal.ends() == 0
        assert terminal.is_as_before


def test_it_can_be_stopped_and_goes_on(redis_url: str, tmp_path: Path) -> None:
    with in_terminal("top", "--redis-url", redis_url, cwd=tmp_path) as terminal:
        terminal.shows("No worker is there")
        terminal.process.send_signal(signal.SIGTSTP)
        stat = Path(f"/proc/{terminal.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        assert terminal.is_as_before

        terminal.process.send_signal(signal.SIGCONT)
        terminal.frame_with("No worker is there")
        terminal.press("q")

        assert terminal.ends() == 0
        assert terminal.is_as_before


def test_it_fits_a_window_that_is_resized(redis_url: str, tmp_path: Path) -> None:
    with QueueScripts(redis_url) as queue:
        for number in range(60):
            present(queue, f"w{number:02}")
    with in_terminal("top", "--redis-url", redis_url, cwd=tmp_path, columns=80, rows=24) as terminal:
        terminal.shows("of 60)")
        assert "HOST" not in terminal.text
        assert "w10-runs" not in terminal.text
        terminal.resize(140, 50)
        assert "w10-runs" in terminal.frame_with("HOST")
        terminal.resize(30, 5)
        terminal.frame_with("Redis at")
        terminal.press("q")

        assert terminal.ends() == 0


def test_it_says_that_redis_is_away_and_comes_back_with_it(tmp_path: Path) -> None:
    with (
        Server(tmp_path) as server,
        in_terminal("top", "--interval", "0.2", "--redis-url", server.url, cwd=tmp_path) as terminal,
    ):
        terminal.shows("No worker is there")
        server.stop()
        terminal.frame_with("Redis does not answer")
        server.start()
        with server.client() as client:
            client.rpush(NORMAL, *[task(str(number)) for number in range(777)])
        assert "does not answer" not in terminal.frame_with("777").rpartition("777")[2]
        server.freeze()
        terminal.frame_with("Redis does not answer")
        server.thaw()
        client.rpush(NORMAL, task("more"))
        terminal.frame_with("778")
        terminal.press("q")

        assert terminal.ends() == 0


def test_without_a_keyboard_it_is_live_until_it_is_told(redis_url: str, tmp_path: Path) -> None:
    with in_terminal("top", "--redis-url", redis_url, cwd=tmp_path) as terminal:
        terminal.shows("No worker is there")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ends() == 0
