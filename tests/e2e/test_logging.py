"""Lines of handlers and of the libraries in them: time, level and task on each, in the loop and in a child alike."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import redis

from tests.kit.commands import aworker, command, environment
from tests.kit.queue_scripts import NORMAL, task

TOLD = "ValueError: told to fail"
MODULES = '["tests.kit.logging_handlers"]'
EXPECTED = [
    ("INFO", "asked https://example.org"),
    ("WARNING", "two\\nlines\\x1b[2J"),
    ("ERROR", "%d (its arguments do not fit: TypeError)"),
    ("ERROR", "Textless (its arguments do not fit: RuntimeError)"),
    ("INFO", "a level of its own"),
    ("ERROR", "it failed"),
    ("INFO", "by loguru"),
    ("INFO", "by the context"),
]


@pytest.mark.parametrize("task_type", ["logs_in_loop", "logs_in_child"])
def test_whatever_is_logged_is_one_line_with_its_task(tmp_path: Path, redis_url: str, task_type: str) -> None:
    at = ("--redis-url", redis_url)
    aworker("enqueue", task_type, "--task-id", "t1", *at, cwd=tmp_path, AWORKER_HANDLERS__MODULES=MODULES)

    ran = aworker("run", "--burst", *at, cwd=tmp_path, AWORKER_HANDLERS__MODULES=MODULES)

    assert ran.returncode == 0
    pattern = rf"(?m)^\d{{4}}-\d\d-\d\d [\d:.]+ (\w+) +\[{task_type} task t1\] (.*)$"
    lines = re.findall(pattern, ran.stderr)
    assert [line for line in lines if line in EXPECTED] == EXPECTED
    assert any(level == "WARNING" and "UserWarning: out of date" in text for level, text in lines)
    assert "ValueError: what went wrong" in ran.stderr
    assert "not at this level" not in ran.stderr
    if task_type == "logs_in_loop":
        assert {("INFO", "from a task of its own"), ("INFO", "from a thread")} <= set(lines)
        # The loop tells of a forgotten task whenever it finds it: that line must not name a task that it is not of.
        assert re.search(r"(?m)ERROR +Task exception was never retrieved", ran.stderr)
    else:
        assert ("INFO", "ODD: a level of loguru's") in lines


def test_in_json_each_line_is_an_object_with_the_task(tmp_path: Path, redis_url: str) -> None:
    more = {"AWORKER_HANDLERS__MODULES": MODULES, "AWORKER_LOGGING__FORMAT": "json"}
    aworker("enqueue", "logs_in_loop", "--task-id", "t1", "--redis-url", redis_url, cwd=tmp_path, **more)

    ran = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path, **more)

    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    (asked,) = (line for line in lines if line["message"].endswith("asked https://example.org"))
    assert (asked["level"], asked["task_id"], asked["task_type"]) == ("INFO", "t1", "logs_in_loop")
    assert asked["logger"] == "some.package"
    assert (asked["queue"], asked["delivery"], asked["slot"]) == ("normal", 1, 1)
    assert len({line["worker_id"] for line in lines if "worker_id" in line}) == 1
    (failed,) = (line for line in lines if line["message"].endswith("it failed"))
    assert "ValueError: what went wrong" in failed["exception"]


def test_a_pipe_that_nobody_reads_holds_up_no_task(tmp_path: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(NORMAL, *(task(f"t{number}", task_type="echo") for number in range(1_500)))

    with subprocess.Popen(
        command("run", "--burst", "--redis-url", redis_url), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    ) as worker:
        code = worker.wait(timeout=60)
        assert worker.stderr is not None
        logged = worker.stderr.read()

    assert code == 0
    with redis.Redis.from_url(redis_url) as client:
        assert b'"completed"' in client.get("task_result:t1499")
    assert 30_000 < len(logged) <= 1 << 16


def test_at_the_end_every_line_is_written(tmp_path: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(NORMAL, *(task(f"t{number}", task_type="echo") for number in range(300)))

    ran = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path, AWORKER_LOGGING__FILE="log")

    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sum(" Completed echo task " in line for line in lines) == 300
    assert lines[-1].endswith("has drained")


def test_the_lines_of_one_task_share_its_fields(tmp_path: Path, redis_url: str) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with redis.Redis.from_url(redis_url) as client:
        payload = json.loads(task("t1", task_type="fail"))
        client.rpush(NORMAL, json.dumps({**payload, "traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}))

    ran = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path, AWORKER_LOGGING__FORMAT="json")

    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    begun, ended = (line for line in lines if line.get("task_id") == "t1")
    shared = {"task_type": "fail", "queue": "normal", "delivery": 1, "slot": 1, "trace_id": trace_id}
    assert {name: begun[name] for name in shared} == {name: ended[name] for name in shared} == shared
    assert begun["message"] == "Processing fail task t1 from normal queue"
    assert (ended["level"], ended["error_type"]) == ("ERROR", "ValueError")
    assert ended["message"] == f"Failed fail task t1 from normal queue after {ended['duration_s']:.1f}s: {TOLD}"
    assert re.fullmatch(r"worker_[\w.-]+_\d+_[0-9a-f]{8}", ended["worker_id"])


def test_a_child_writes_the_same_fields(tmp_path: Path, redis_url: str) -> None:
    more = {"AWORKER_HANDLERS__MODULES": MODULES, "AWORKER_LOGGING__FORMAT": "json"}
    aworker("enqueue", "logs_in_child", "--task-id", "t1", "--redis-url", redis_url, cwd=tmp_path, **more)

    ran = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path, **more)

    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    (by_loguru,) = (line for line in lines if line["message"].endswith("by loguru"))
    assert (by_loguru["task_id"], by_loguru["queue"], by_loguru["delivery"], by_loguru["slot"]) == (
        "t1",
        "normal",
        1,
        1,
    )
    assert by_loguru["pid"] > 0
