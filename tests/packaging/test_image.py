"""What the Dockerfile does: its steps in a clean folder, and the image itself where there is an engine to build it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.kit.commands import ROOT, eventually, run_to_end
from tests.kit.servers import free_port
from tests.packaging.conftest import SOURCES, Installation

pytestmark = pytest.mark.timeout(900)

DOCKERFILE = (ROOT / "Dockerfile").read_text()
BACKTEST = {
    "task_id": "a",
    "task_type": "backtest",
    "args": {"rules": "entry: close > sma(close, 50)\nexit: close < sma(close, 50)", "symbols": ["AAPL"]},
}


def state_of(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_its_steps_make_a_worker_that_serves_and_writes_nothing(
    installed: Callable[[str], Installation], redis_url: str, tmp_path: Path
) -> None:
    copied = {name for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE) for name in line.split()}
    assert copied == {*SOURCES, "constraints.txt", "config/aworker.toml"}
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)
    image = installed(extras)
    app = tmp_path / "app"
    (app / "config").mkdir(parents=True)
    shutil.copy(ROOT / "config" / "aworker.toml", app / "config")
    variables = {
        "PATH": f"{image.folder / 'bin'}",
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWORKER_REDIS__URL": redis_url,
        "AWORKER_HTTP__PORT": str(free_port()),
    }
    before = state_of(app), state_of(image.packages)

    def health() -> int:
        return run_to_end([str(image.folder / "bin" / "aworker"), "check", "--ready"], app, variables).returncode

    with (
        subprocess.Popen(
            [str(image.folder / "bin" / "aworker"), "run"], cwd=app, env=variables, stderr=subprocess.PIPE, text=True
        ) as worker,
        redis.Redis.from_url(redis_url) as client,
    ):
        eventually(lambda: health() == 0, timeout_s=60)
        client.rpush("strategy_queue", json.dumps(BACKTEST))
        eventually(lambda: b'"completed"' in (client.get("task_result:a") or b""), timeout_s=60)
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=60)

    assert worker.returncode == 0, log
    assert health() == 1
    assert (state_of(app), state_of(image.packages)) == before


def has_engine() -> bool:
    return shutil.which("docker") is not None and (
        subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    )


def test_the_image_serves_with_a_file_system_that_cannot_be_written(redis_url: str) -> None:
    if not has_engine():
        pytest.skip("no container engine answers here: the image is not built, its steps were run without one")

    def docker(*arguments: str) -> str:
        return subprocess.run(
            ["docker", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=800, check=True
        ).stdout.strip()

    docker("build", "--tag", "aworker:test", ".")
    assert int(docker("image", "inspect", "--format", "{{.Size}}", "aworker:test")) < 800e6
    container = docker(
        *("run", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "host"),
        *("--env", f"AWORKER_REDIS__URL={redis_url}", "--env", f"AWORKER_HTTP__PORT={free_port()}", "aworker:test"),
    )
    try:
        give_up_at = time.monotonic() + 60
        while docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            assert time.monotonic() < give_up_at, docker("logs", container)
            time.sleep(1)
        assert docker("exec", container, "id", "-u") == "10001"
        docker("stop", "--time", "45", container)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    finally:
        docker("rm", "--force", container)


def test_the_engine_is_told_to_leave_time_for_a_drain() -> None:
    assert "--stop-timeout 45" in DOCKERFILE
    assert os.path.exists(ROOT / ".dockerignore")
