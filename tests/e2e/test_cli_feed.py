"""`aworker run --embedded --feed`: what `make run` shows."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kit.commands import ROOT, TIMEOUT_S, aworker, command, environment, running

FEED = """
{"task_type": "echo", "args": {"steps": 2, "text": "first"}}
{"task_type": "fail", "task_id": "named"}
{"task_type": "decline"}
{"task_type": "nonsense"}
{"task_type": "echo", "args": {"strategy_id": "@create"}}
{"task_type": "echo", "args": {"text": "last"}, "priority": "high"}
"""


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.jsonl"
    path.write_text(FEED)
    return path


def test_each_task_is_shown_and_a_failure_ends_nothing(tmp_path: Path, feed: Path) -> None:
    ended = aworker("run", "--embedded", "--feed", feed, "--burst", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert '[1/6] echo {"steps":2,"text":"first"}' in lines
    assert "  echo: step 1 of 2 (50%)" in lines
    assert "Failed, ValueError: told to fail" in lines
    assert "Failed, RequestDeclined: nothing to be had" in lines
    assert any(line.startswith("Failed, UnknownTaskType: task_type must be one of ") for line in lines)
    assert "Failed: @create must stand for a strategy, none was made so far; see what failed above" in lines
    assert '    "text": "last"' in lines
    assert "Processing echo task" in ended.stderr
    assert "from priority queue" in ended.stderr
    assert "\x1b" not in ended.stdout
    assert "Ctrl-C" not in ended.stdout


def test_a_second_run_on_the_same_data_works_as_the_first(tmp_path: Path, feed: Path) -> None:
    first = aworker("run", "--embedded", "--feed", feed, "--burst", cwd=tmp_path)
    second = aworker("run", "--embedded", "--feed", feed, "--burst", cwd=tmp_path)

    def lasting(text: str) -> list[str]:
        return [line for line in text.splitlines() if not re.search(r"_seconds|worker_id|completed_at", line)]

    assert second.returncode == 0, second.stderr
    assert lasting(first.stdout) == lasting(second.stdout)


def test_it_goes_on_serving_and_says_how_to_push_more(tmp_path: Path, feed: Path) -> None:
    feed.write_text('{"task_type": "echo"}\n')
    with running("run", "--embedded", "--feed", feed, cwd=tmp_path) as worker:
        worker.prints("result mine-1")
        said = [line.strip() for line in worker.stdout.splitlines() if "mine-1" in line]
        enqueue, result = (shlex.split(line) for line in said)

        pushed = subprocess.run(
            enqueue, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        ended = subprocess.run(
            result, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        worker.signal(signal.SIGINT)

        assert worker.ends() == 0
    assert pushed.stdout == "mine-1\n"
    assert ended.returncode in (0, 1), ended.stderr
    assert "Processing create_strategy task mine-1 from priority queue" in worker.stderr


def test_in_a_terminal_the_bar_and_the_log_lines_do_not_tear_each_other(tmp_path: Path, feed: Path) -> None:
    feed.write_text('{"task_type": "echo", "args": {"steps": 60, "log": true}}\n')

    screen = on_a_terminal("run", "--embedded", "--feed", feed, "--burst", cwd=tmp_path)

    assert "\x1b[" in screen
    assert "━" in screen, "a bar"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    logged = [line for line in re.split(r"[\r\n]+", plain) if "the echo logs" in line]
    assert len(logged) == 60
    assert all(re.fullmatch(r"\d{4}-\S+ \S+ INFO     \[echo task \S+\] the echo logs \d+", line) for line in logged), (
        logged
    )


def on_a_terminal(*arguments: object, cwd: Path) -> str:
    master, terminal = pty.openpty()
    more = environment(TERM="xterm-256color", COLUMNS="120", LINES="40")
    process = subprocess.Popen(
        command(*arguments), cwd=cwd, env=more, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    read = bytearray()
    try:
        while chunk := os.read(master, 65_536):
            read += chunk
    except OSError:  # the last writer has closed it
        pass
    finally:
        os.close(master)
    assert process.wait(timeout=TIMEOUT_S) == 0, read.decode(errors="replace")
    return read.decode()


def test_the_sample_tasks_show_metrics_a_curve_a_ranking_and_an_alert(tmp_path: Path) -> None:
    sample = ROOT / "config" / "sample-tasks.jsonl"

    ended = aworker("run", "--embedded", "--feed", sample, "--burst", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    words = {" ".join(line.split()) for line in ended.stdout.splitlines()}
    assert not any(line.startswith(("Failed", "No:")) for line in words), ended.stdout
    assert "trailing_stop: 10%" in words
    assert "trailing_stop: 20%" in words
    assert any(re.fullmatch(r"Sharpe ratio -?\d+\.\d\d -?\d+\.\d\d", line) for line in words)
    assert any(re.fullmatch(r"trades \d+", line) and line != "trades 0" for line in words)
    assert "Equity curve (1 = the starting capital)" in words
    assert any(0x2800 < ord(c) < 0x2900 for c in ended.stdout)
    assert any(re.fullmatch(r"1 \w+ -?[\d.,]+ [\d.,]+ \D+", line) for line in words)
    assert any(re.match(r"Alert check of strategy \d+: [1-9]\d* new", line) for line in words)
    assert "Completed backtest task" in ended.stderr
