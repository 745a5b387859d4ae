"""``aworker bench``: each measure runs, and says what it is compared with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.kit.commands import aworker


def rows_of(*words: str, cwd: Path) -> dict[str, Any]:
    ended = aworker("bench", "--quick", "--json", *words, cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said["cores"] > 0
    assert said["server"].startswith("valkey")
    return {row["what"]: row for row in said["rows"]}


def test_bench_compares_with_the_bare_loops_in_one_run(tmp_path: Path) -> None:
    rows = rows_of("slots", "two-step", cwd=tmp_path)

    for slots in ("1 slot", "10 slots", "100 slots"):
        row = rows[f"tasks a second, {slots}"]
        assert row["ratio"] > 0
        assert min(row["aworker"], row["bare loop, keeps nothing"], row["bare loop, stores and publishes"]) > 0
        assert all(len(times) == 2 for times in row["us a task, worker and server"].values())
    assert 0 < rows["normal tasks a second, 1 slot"]["literal two-step cycle"] < 1.1


def test_bench_measures_what_a_person_waits_for(tmp_path: Path) -> None:
    rows = rows_of("ways", "producing", "idle", "backlog", "recovery", cwd=tmp_path)

    assert rows["tasks a second, 100 slots, at-most-once"]["ratio"] > 0
    assert rows["enqueued a second, 1,000 at once"]["bare RPUSH of ready bytes"] > 0
    assert 0 < rows["push to start, idle, ms"]["p50"] <= rows["push to start, idle, ms"]["p99"]
    assert rows["priority task under 500 waiting ones, ms"]["ratio"] > 1
    assert rows["16 running tasks, kill -9: another worker runs them all after, s"]["longest"] > 1


def test_bench_measures_children(tmp_path: Path) -> None:
    rows = rows_of("pool", "beside-work", cwd=tmp_path)

    assert rows["an empty call in a child, ms"]["ProcessPoolExecutor, p50"] > 0
    assert rows["push to start beside 4 tasks of 0.5 s in the pool, ms"]["p99"] > 0


def test_bench_measures_backtests_and_memory(tmp_path: Path) -> None:
    rows = rows_of("backtest", "memory", cwd=tmp_path)

    assert rows["backtest of 5 x 2,520 daily bars, bars a second"]["aworker"] > 0
    idle, after = (rows[f"own memory{when}, all processes"]["MB"] for when in (", idle", " after the first backtest"))
    assert 0 < idle < after


def test_bench_leaves_out_libraries_that_are_not_there(tmp_path: Path) -> None:
    rows = rows_of("two-step", "--peers", sys.executable, cwd=tmp_path)

    assert list(rows) == ["normal tasks a second, 1 slot"]


def test_bench_names_its_measures(tmp_path: Path) -> None:
    ended = aworker("bench", "speed", cwd=tmp_path)

    assert ended.returncode == 2
    assert "measure must be one of slots, ways, rules" in ended.stderr
