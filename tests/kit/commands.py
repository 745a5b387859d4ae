"""The command line as processes: run one to its end, keep one running, read what it wrote."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aworker.cli.program import run_program

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0


def eventually(holds: Callable[[], bool], *, timeout_s: float = 30.0, told: Callable[[], str] = lambda: "") -> None:
    """Wait until something holds; fail with what ``told`` says when it does not come."""
    give_up_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up_at, told()
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """Return an environment without configuration of its own, in which the tests' handlers are found."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWORKER_", "COLUMNS"))}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "AWORKER_HANDLERS__MODULES": '["tests.kit.task_handlers"]',
        "AWORKER_POOL__PROCESSES": "1",
        **more,
    }


def aworker(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return run_to_end(command(*arguments), cwd, environment(**more))


def run_to_end(
    argv: list[str], cwd: Path, env: dict[str, str], *, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end and return what it wrote."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )


class Here:
    """Runs commands in this process: the same arguments and answers, without the time that starting one takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object, typed: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        argv = ["aworker", *map(str, arguments)]
        stdin = io.TextIOWrapper(io.BytesIO(typed.encode("utf-8", "surrogateescape")))
        stdout, stderr = io.StringIO(), io.StringIO()
        with self._monkeypatch.context() as patch:
            for name in os.environ:
                if name.startswith("AWORKER_"):
                    patch.delenv(name)
            for name, value in more.items():
                patch.setenv(name, value)
            for name, stand_in in (("argv", argv), ("stdout", stdout), ("stderr", stderr), ("stdin", stdin)):
                patch.setattr(sys, name, stand_in)
            with pytest.raises(SystemExit) as left:
                run_program()
        code = left.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(argv, code, stdout.getvalue(), stderr.getvalue())


def command(*arguments: object) -> list[str]:
    """Return the argv of a command."""
    return [sys.executable, "-m", "aworker", *map(str, arguments)]


class Running:
    """A command that runs, with its output in files."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self._folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return (self._folder / "stderr").read_text(encoding="utf-8")

    def logs(self, text: str) -> None:
        """Wait for words in its log."""
        eventually(lambda: text in self.stderr or self.process.poll() is not None, told=lambda: self.stderr)
        assert text in self.stderr

    def prints(self, text: str) -> None:
        """Wait for words in its output."""
        eventually(lambda: text in self.stdout or self.process.poll() is not None, told=lambda: self.stderr)
        assert text in self.stdout

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(timeout=TIMEOUT_S)


@contextmanager
def running(*arguments: object, cwd: Path, **more: str) -> Iterator[Running]:
    """Keep a command running; what is left of it at the end is killed."""
    number = sum(1 for _ in cwd.glob("output-*"))
    folder = cwd / f"output-{number}"
    folder.mkdir()
    with open(folder / "stdout", "wb") as stdout, open(folder / "stderr", "wb") as stderr:
        process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield Running(process, folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
