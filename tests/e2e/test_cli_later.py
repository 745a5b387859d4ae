"""Tasks for later from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from tests.kit.commands import Here, aworker

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("delay", "ms"),
    [("90", 90_000), ("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0.5h", 1_800_000)],
)
def test_a_delay_is_said_in_seconds_or_with_units(here: Here, redis_url: str, delay: str, ms: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        seconds, _ = client.time()

        ended = here("enqueue", "alert", "--in", delay, "--redis-url", redis_url)

        ((_, due_ms),) = client.zrange("aworker:delayed", 0, -1, withscores=True)
    assert ended.returncode == 0, ended.stderr
    assert 0 <= due_ms - seconds * 1000 - ms < 60_000


@pytest.mark.parametrize(
    ("at", "instant"),
    [
        ("2030-06-01T07:30:00Z", "2030-06-01T07:30:00+00:00"),
        ("2030-06-01T09:30+02:00", "2030-06-01T07:30:00+00:00"),
        ("2030-06-01 09:30", "2030-06-01T07:30:00+00:00"),
        ("2030-01-01T09:30", "2030-01-01T08:30:00+00:00"),
        ("2030-06-02", "2030-06-01T22:00:00+00:00"),
    ],
)
def test_an_instant_without_a_zone_is_this_hosts(tmp_path: Path, redis_url: str, at: str, instant: str) -> None:
    ended = aworker("enqueue", "alert", "--at", at, "--redis-url", redis_url, cwd=tmp_path, TZ="Europe/Berlin")

    with redis.Redis.from_url(redis_url) as client:
        ((_, due_ms),) = client.zrange("aworker:delayed", 0, -1, withscores=True)
    assert ended.returncode == 0, ended.stderr
    assert datetime.fromtimestamp(due_ms / 1000, UTC).isoformat() == instant


@pytest.mark.parametrize(
    "words",
    [
        ("--in", "soon"),
        ("--in", "-5"),
        ("--in", ""),
        ("--in", "5 m"),
        ("--in", "1h30"),
        ("--in", "1e3"),
        ("--in", "400000000"),
        ("--at", "noon"),
        ("--at", "2030-13-01T00:00"),
        ("--at", "2100-01-01T00:00Z"),
        ("--in", "5m", "--at", "2030-06-01T07:30:00Z"),
    ],
)
def test_what_is_no_time_is_wrong_use(here: Here, redis_url: str, words: tuple[str, ...]) -> None:
    ended = here("enqueue", "alert", *words, "--redis-url", redis_url)

    assert ended.returncode == 2
    assert "must" in ended.stderr
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []


def test_what_is_delayed_is_seen_explained_hurried_and_cancelled(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url)
    for name in ("first", "second"):
        here("enqueue", "alert", "--in", "2h", "--task-id", name, *at)

    peeked = json.loads(here("peek", "delayed", "--json", *at).stdout)
    words = here("peek", "delayed", *at).stdout
    why = here("why", "first", *at)
    hurried = here("promote", "first", *at)
    cancelled = here("cancel", "second", *at)
    nothing = here("peek", "delayed", *at).stdout

    assert [(task["task_id"], task["queue"]) for task in peeked] == [("first", "normal"), ("second", "normal")]
    assert words.startswith("first  alert  due 2")
    assert "is delayed until" in why.stdout
    assert (hurried.returncode, "waits on the normal queue now" in hurried.stdout) == (0, True), hurried
    assert (cancelled.returncode, nothing) == (0, "Nothing is delayed\n")
