"""Schedules from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from tests.kit.commands import Here, eventually, running

FILE = """
[[schedule]]
name = "screen-the-open"
cron = "30 9 * * mon-fri"
timezone = "America/New_York"
task_type = "screening"
args = { strategy_ids = [1000000] }

[[schedule]]
name = "often"
every_s = 1
task_type = "echo"
"""
HANDLERS = '["tests.kit.task_handlers", "tests.kit.scheduled_handlers"]'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedules.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_schedules_are_listed_run_paused_and_resumed(here: Here, file: Path, redis_url: str) -> None:
    at = ("--config", file, "--redis-url", redis_url)

    listed = here("schedule", "list", "--json", *at, AWORKER_HANDLERS__MODULES=HANDLERS)
    ran = here("schedule", "run", "screen-the-open", *at)
    paused = here("schedule", "pause", "often", *at)
    words = here("schedule", "list", "-n", 1, *at)
    resumed = [here("schedule", "resume", "often", *at).stdout for _ in range(2)]
    unknown = here("schedule", "run", "oftn", *at)

    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert set(rows) == {"screen-the-open", "often", "morning", "scheduled"}
    assert [at[11:16] for at in rows["screen-the-open"]["next"]] == ["09:30"] * 3
    assert (rows["morning"]["task_type"], rows["morning"]["when"]) == ("scheduled", "0 7 * * *")
    with redis.Redis.from_url(redis_url) as client:
        (payload,) = client.lrange("strategy_queue", 0, -1)
    assert json.loads(payload)["task_id"] == ran.stdout.strip()
    assert ran.stdout.startswith("screen-the-open@run-")
    assert json.loads(payload)["args"] == {"strategy_ids": [1000000]}
    assert paused.stdout == "often is paused\n"
    assert "paused" in words.stdout
    assert resumed == ["often goes on\n", "often is not paused\n"]
    assert (unknown.returncode, "did you mean often?" in unknown.stderr) == (3, True)


def test_a_worker_runs_what_is_due_and_hears_of_a_pause(here: Here, file: Path, tmp_path: Path, redis_url: str) -> None:
    at = ("--config", file, "--redis-url", redis_url)
    with running("run", *at, cwd=tmp_path, AWORKER_HANDLERS__MODULES=HANDLERS) as worker:
        worker.logs("Completed echo task often@2")
        worker.logs("Completed scheduled task scheduled@2")
        here("schedule", "pause", "often", *at)
        worker.logs("Paused: schedule often")
        with redis.Redis.from_url(redis_url) as client:
            last = client.hget("aworker:schedules", "often")
            eventually(lambda: client.hget("aworker:schedules", "often") != last)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('name = "a"\ntask_type = "echo"', "schedule[0] must be timed by either cron or every_s"),
        ('name = "a"\ntask_type = "echo"\ncron = "* * * *"', "schedule[0] must be timed by a cron line of 5 fields"),
        ('name = "a b"\ntask_type = "echo"\nevery_s = 5', "schedule[0].name must be 1 to 100 letters"),
        ('name = "a"\ntask_type = ""\nevery_s = 5', "schedule[0].task_type must be a task type"),
        ('name = "a"\ntask_type = "echo"\nevery_s = 5\nqueue = "no"', "schedule[0].queue must be a level's label"),
        ('name = "a"\ntask_type = "echo"\nevery_s = 5\noverlap = "drop"', "overlap must be one of 'skip', 'queue'"),
        ('name = "a"\ntask_type = "echo"\nevery_s = 5\nstart = 2026-01-01T00:00:00', "schedule[0].start must be"),
        ('name = "a"\ntask_type = "echo"\nevery_s = 5\ntimezone = "CEST"', "IANA database"),
        ('task_type = "echo"\nevery_s = 5', "name"),
    ],
)
def test_a_wrong_schedule_is_told_by_its_place(here: Here, tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"[[schedule]]\n{lines}\n", encoding="utf-8")

    ended = here("check", "--config", path)

    assert ended.returncode == 2
    assert words in ended.stderr
