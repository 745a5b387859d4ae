"""The package without `aworker.trading`: a worker for other people's handlers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import redis

from tests.kit.commands import ROOT, environment, run_to_end


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package but for trading, and the tests' handlers."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(ROOT / "aworker", folder / "aworker", ignore=shutil.ignore_patterns("trading", "__pycache__"))
    (folder / "tests" / "kit").mkdir(parents=True)
    for name in ("__init__.py", "kit/__init__.py", "kit/task_handlers.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests" / name)
    return folder


def bare_aworker(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -S: an installation of the whole package must not lend its trading to this one.
    path = f"{bare}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"
    return run_to_end([sys.executable, "-S", "-m", "aworker", *arguments], bare, environment(PYTHONPATH=path))


def test_the_worker_runs_other_peoples_handlers(bare: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.rpush("strategy_queue", '{"task_id": "a", "task_type": "echo", "args": {"x": 1}}')

        ended = bare_aworker(bare, "run", "--burst", "--redis-url", redis_url)

        record = json.loads(client.get("task_result:a") or "{}")
    assert ended.returncode == 0, ended.stderr
    assert "Completed echo task a from normal queue" in ended.stderr
    assert record["status"] == "completed"


@pytest.mark.parametrize("command", ["strategy schema", "bars list"])
def test_a_command_that_needs_trading_says_so(bare: Path, command: str) -> None:
    ended = bare_aworker(bare, *command.split())

    assert ended.returncode == 1
    assert ended.stderr == "aworker: this command needs the package aworker.trading, which is not there\n"
