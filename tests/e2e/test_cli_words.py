"""What a person is told who mistypes: which flag, variable or file is wrong, and what is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kit.commands import Here, environment, run_to_end


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.mark.parametrize(
    ("file", "flags", "variables", "words"),
    [
        ("", ("run", "--slots", 0), {}, "--slots: worker.slots must be 1 to 10000, was 0"),
        ("", ("run", "--log-level", "loud"), {}, "--log-level: logging.level must be one of"),
        ("", ("check",), {"AWORKER_WORKER__SLOT": "3"}, "AWORKER_WORKER__SLOT: worker.slot must be a known field"),
        ("", ("check",), {"AWORKER_WROKER__SLOTS": "3"}, "AWORKER_WROKER__SLOTS: wroker must be a known field"),
        ("", ("check",), {"AWORKER_WORKER__SLOTS": "many"}, "AWORKER_WORKER__SLOTS: worker.slots must be `int`"),
        ("", ("check",), {"AWORKER_TASKS__X__RETRIES": "-1"}, "AWORKER_TASKS__X__RETRIES: tasks.x.retries must be"),
        (
            "[worker]\nlease_ttl_s = 5",
            ("check",),
            {"AWORKER_WORKER__RENEW_INTERVAL_S": "4"},
            "AWORKER_WORKER__RENEW_INTERVAL_S: worker.lease_ttl_s must be > 2 * renew_interval_s, was 5",
        ),
        ("[worker]\nslots = 0", ("check",), {}, "mine.toml: worker.slots must be 1 to 10000, was 0"),
        (
            "[worker]\ndrain_timeout_s = -1",
            ("run", "--slots", 3),
            {"AWORKER_WORKER__MAX_DELIVERIES": "2"},
            "mine.toml: worker.drain_timeout_s must be >= 0, was -1",
        ),
        ("[worker]\nslots = 0", ("run", "--slots", -1), {}, "--slots: worker.slots must be 1 to 10000, was -1"),
        ("[queues]\n", ("check",), {"AWORKER_WORKER__SLOTS": "3"}, "mine.toml: queues must be"),
    ],
)
def test_what_is_wrong_is_blamed_on_where_it_stands(
    here: Here, tmp_path: Path, file: str, flags: tuple[Any, ...], variables: dict[str, str], words: str
) -> None:
    (tmp_path / "mine.toml").write_text(file, encoding="utf-8")

    ended = here(*flags, "--config", "mine.toml", **variables)

    assert ended.returncode == 2
    assert words in ended.stderr


@pytest.mark.parametrize("group", [(), ("dead",), ("strategy",), ("bars",)], ids=str)
def test_no_summary_of_a_command_is_cut(here: Here, group: tuple[str, ...]) -> None:
    shown = here(*group, "--help", COLUMNS="80").stdout

    assert [line for line in shown.splitlines() if line.endswith("...") and "Usage" not in line] == []


def test_the_version_has_the_programs_name(here: Here) -> None:
    assert here("--version").stdout.startswith("aworker 0.")


def test_check_names_the_file_that_it_read_and_types_without_a_handler(
    here: Here, tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "mine.toml").write_text("[tasks.backtst]\nretries = 1\n", encoding="utf-8")

    without = here("check", "--redis-url", redis_url)
    ended = here("check", "--config", "mine.toml", "--redis-url", redis_url)
    as_json = json.loads(here("check", "--config", "mine.toml", "--json", "--redis-url", redis_url).stdout)

    assert without.stdout.startswith("# no file: config/aworker.toml is not there")
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "# mine.toml")
    assert "tasks.backtst must be a task type with a handler, has none; did you mean backtest?" in ended.stderr
    assert as_json["file"] == "mine.toml"


def test_an_unknown_type_is_pushed_with_a_word_and_an_unknown_priority_is_not(
    here: Here, redis_url: str, client: redis.Redis
) -> None:
    at = ("--redis-url", redis_url)

    typed = here("enqueue", "backtst", *at)
    urgent = here("enqueue", "backtest", "--priority", "urgent", *at)
    nowhere = here("enqueue", "backtest", "--queue", "fast", *at)

    assert (typed.returncode, "did you mean backtest?" in typed.stderr) == (0, True)
    assert (urgent.returncode, "priority must be one of high, normal, was 'urgent'" in urgent.stderr) == (2, True)
    assert nowhere.returncode == 2
    assert "priority (strategy_queue_priority), normal (strategy_queue), was 'fast'" in nowhere.stderr
    assert client.llen("strategy_queue") == 1


def test_who_waits_without_a_worker_is_told_soon(here: Here, redis_url: str) -> None:
    pushed = here("enqueue", "alert", "--task-id", "a", "--wait", 1.1, "--redis-url", redis_url)
    asked = here("result", "a", "--wait", 0.1, "--redis-url", redis_url)

    for ended in (pushed, asked):
        assert (ended.returncode, ended.stderr.count("no worker serves now")) == (3, 1)


def test_a_wrong_url_is_blamed_on_where_it_stands(here: Here, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[redis]\nurl = 'http://h'\n", encoding="utf-8")

    ended = [
        here("stats", "--redis-url", "redis://h/abc"),
        here("stats", AWORKER_REDIS__URL="redis://h/abc"),
        here("stats", "--config", "mine.toml"),
    ]

    assert [each.returncode for each in ended] == [2, 2, 2]
    assert [each.stderr.split(" must ")[0].removeprefix("aworker: ") for each in ended] == [
        "--redis-url: redis.url",
        "AWORKER_REDIS__URL: redis.url",
        "redis.url",
    ]


def test_a_wrong_password_is_no_server_that_is_away(here: Here, redis_url: str) -> None:
    ended = here("stats", "--redis-url", redis_url.replace("redis://", "redis://nobody:hidden@"))

    assert ended.returncode == 69
    assert "correct the user and password" in ended.stderr
    assert "start it" not in ended.stderr
    assert "hidden" not in ended.stderr


def test_what_changes_something_can_say_so_in_json(here: Here, redis_url: str, client: redis.Redis) -> None:
    at = ("--json", "--redis-url", redis_url)
    client.rpush("strategy_queue", "x", "y")

    def said(*arguments: object, typed: str = "") -> Any:
        return json.loads(here(*arguments, *at, typed=typed).stdout)

    assert said("pause", "normal") == {"queue": "strategy_queue", "paused": True, "changed": True}
    assert said("pause", "alert") == {"task_type": "alert", "paused": True, "changed": True}
    assert said("resume", "normal") == {"queue": "strategy_queue", "paused": False, "changed": True}
    assert said("clear", "normal", "--yes") == {"queue": "strategy_queue", "removed": 2}
    assert said("dead", "requeue", "--all", "--yes") == {"requeued": 0}
    assert said("dead", "drop", "--all", "--yes") == {"dropped": 0}
    strategy_id = said("strategy", "create", "-", typed="entry: rsi(close, 14) < 30")["strategy_id"]
    assert said("strategy", "delete", strategy_id) == {"strategy_id": strategy_id, "deleted": True}


@pytest.mark.parametrize("place", ["current", "beside the file"])
def test_the_console_script_finds_handlers_of_ones_own(tmp_path: Path, redis_url: str, place: str) -> None:
    there = tmp_path if place == "current" else tmp_path / "etc"
    (there / "mycompany").mkdir(parents=True)
    (there / "mycompany" / "tasks.py").write_text(
        "from aworker import handler\n\n"
        "@handler('in_loop')\nasync def in_loop(args: dict, context):\n    return {'here': True}\n\n"
        "@handler('in_child')\ndef in_child(args: dict, context):\n    return {'here': True}\n",
        encoding="utf-8",
    )
    (there / "own.toml").write_text('[handlers]\nmodules = ["mycompany.tasks"]\n', encoding="utf-8")
    script = Path(sys.executable).parent / "aworker"
    at = ["--config", str(there / "own.toml"), "--redis-url", redis_url]
    env = {
        name: value for name, value in environment().items() if name not in ("PYTHONPATH", "AWORKER_HANDLERS__MODULES")
    }

    def aworker(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_to_end([os.fspath(script), *arguments, *at], tmp_path, env)

    pushed = [aworker("enqueue", name, "--task-id", name) for name in ("in_loop", "in_child")]
    ran = aworker("run", "--burst")
    results = [json.loads(aworker("result", name, "--json").stdout) for name in ("in_loop", "in_child")]

    assert [each.stderr for each in pushed] == ["", ""]
    assert ran.returncode == 0, ran.stderr
    assert [each["data"]["here"] for each in results] == [True, True]
