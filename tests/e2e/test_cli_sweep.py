"""`aworker sweep`: many combinations in the terminal, in this process or in children, and through the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.commands import Here, aworker, running

RULES = """name: Cross
entry: crosses_above(sma(close, {fast}), sma(close, {slow}))
exit: crosses_below(sma(close, {fast}), sma(close, {slow}))
"""
WINDOW = ("--start", "2005-01-01", "--end", "2009-12-31")
SETS = ("--set", "fast=5..20:5", "--set", "slow=30,50")


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "cross.txt").write_text(RULES)
    return "cross.txt"


def test_the_best_is_shown_with_what_to_think_of_it(here: Here, tmp_path: Path, rules: str) -> None:
    ended = here("sweep", rules, *SETS, *WINDOW, "--walk-forward", 4, "--html", "sweep.html")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("Sweep of 8 combinations, 2005-01-03 to 2009-12-31, 4 symbols, by sharpe_ratio\n")
    assert "It is the best of 8 tries" in ended.stdout
    assert "deflated Sharpe ratio" in ended.stdout
    assert "sharpe_ratio by fast and slow" in ended.stdout
    assert "Walked forward: " in ended.stdout
    assert ended.stdout.endswith("The report is in sweep.html\n")
    assert "\x1b" not in ended.stdout
    html = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    for heading in ("The rules", "Heat map", "Walk forward", "What this assumes"):
        assert f">{heading}</h2>" in html
    assert html.count("<h1>cross</h1>") == 1


def test_children_give_what_one_process_gives(tmp_path: Path, rules: str) -> None:
    many = ("--set", "fast=3..42", "--set", "slow=50..250:5", "--json")
    alone = aworker("sweep", rules, *many, *WINDOW, "--processes", 1, cwd=tmp_path)
    together = aworker("sweep", rules, *many, *WINDOW, "--processes", 2, cwd=tmp_path)

    assert together.returncode == 0, together.stderr
    one, two = (json.loads(ended.stdout) for ended in (alone, together))
    assert one["tries"] == 1_640
    assert {**one, "execution_time_ms": 0} == {**two, "execution_time_ms": 0}


def test_a_task_gives_what_the_command_gives(here: Here, tmp_path: Path, redis_url: str, rules: str) -> None:
    at = ("--redis-url", redis_url)
    asked = {"rules": RULES, "set": {"fast": "5..20:5", "slow": [30, 50]}, "start_date": "2005-01-01",
             "end_date": "2009-12-31", "walk_forward": 2}  # fmt: skip
    here("enqueue", "sweep", "--args", json.dumps(asked), "--task-id", "s", *at)
    report = {"rules": "entry: close > sma(close, 50)\nsymbols: IBM", "end_date": "2009-12-31", "benchmark": "AAPL"}
    here("enqueue", "report", "--args", json.dumps(report), "--task-id", "r", *at)
    with running("run", "--burst", *at, cwd=tmp_path) as worker:
        assert worker.ends() == 0, worker.stderr

    swept = json.loads(here("result", "s", "--json", *at).stdout)["data"]
    ended = json.loads(here("sweep", rules, *SETS, *WINDOW, "--walk-forward", 2, "--json").stdout)
    reported = here("result", "r", *at)

    same = ("success", "execution_mode", "best", "combinations", "heat_map", "walk_forward", "deflated_sharpe_ratio")
    assert {name: swept[name] for name in same} == {name: ended[name] for name in same}
    assert "Its report_html is a file for a browser" in reported.stdout
    assert json.loads(here("result", "r", "--json", *at).stdout)["data"]["report_html"].startswith("<!doctype html>")


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (("nowhere.txt", *SETS), 2, "must be a readable text file"),
        (("cross.txt",), 2, "Missing option '--set'"),
        (("cross.txt", "--set", "fast"), 1, "--set must be NAME=VALUES, was 'fast'; write n=5..50:5"),
        (("cross.txt", "--set", "fast=5"), 1, "parameters must have slow, which the rules name as {slow}"),
        (("cross.txt", *SETS, "--set", "slow=5"), 2, "--set must be given once for each parameter"),
        (("cross.txt", *SETS, "--by", "luck"), 1, "metric must be one of sharpe_ratio"),
        (("cross.txt", *SETS, "--symbols", "NOPE"), 1, "symbols must have 1d bars in the store, was NOPE"),
        (("cross.txt", *SETS, "--html", "nowhere/a.html"), 2, "--html must be a file that can be written"),
    ],
)
def test_what_cannot_be_had_is_told_in_words(
    here: Here, rules: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = here("sweep", *arguments)

    assert ended.returncode == code
    assert told in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
