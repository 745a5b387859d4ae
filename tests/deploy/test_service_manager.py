"""What systemd hears of a worker, by a socket that stands in its place, and what it makes of the unit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aworker.worker.service import ServiceManager
from tests.kit.commands import ROOT, environment

UNIT = ROOT / "config" / "systemd" / "aworker.service"


class Manager:
    """Hears what is sent to ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(30)

    def hears(self) -> str:
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "file" else f"@aworker-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.socket.close()


def test_a_worker_says_that_it_is_ready_alive_and_on_its_way_out(
    manager: Manager, address: str, redis_url: str, tmp_path: Path
) -> None:
    told = environment(NOTIFY_SOCKET=address, WATCHDOG_USEC="200000")
    argv = [sys.executable, "-m", "aworker", "run", "--redis-url", redis_url]
    with subprocess.Popen(argv, cwd=tmp_path, env=told, stderr=subprocess.DEVNULL) as process:
        heard = [manager.hears()]
        while not heard[-1].startswith("READY=1"):
            heard.append(manager.hears())
        assert "STATUS=16 slots, Redis at " in heard[-1]
        assert [manager.hears() for _ in range(3)] == ["WATCHDOG=1"] * 3

        process.send_signal(signal.SIGTERM)
        while not heard[-1].startswith("STOPPING=1"):
            heard.append(manager.hears())

        assert "STATUS=draining, 0 running tasks" in heard[-1]
        assert process.wait(30) == 0


def test_a_watchdog_of_another_process_is_not_fed(manager: Manager, address: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})

    service.alive()
    service.stopping("draining")

    assert manager.hears().startswith("STOPPING=1")


@pytest.mark.parametrize("told", [{}, {"WATCHDOG_USEC": "1"}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_a_worker_that_nobody_manages_goes_on(told: dict[str, str]) -> None:
    service = ServiceManager(told)

    service.ready("here")
    service.alive()
    service.stopping("gone")


@pytest.mark.parametrize("wanted_us", ["", "soon", "-1", "٣"])
def test_an_interval_that_is_none_is_no_watchdog(manager: Manager, address: str, wanted_us: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": wanted_us})

    service.alive()
    service.ready("here")

    assert manager.hears() == "READY=1\nSTATUS=here"


# The unit, as systemd itself reads it.


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("AWORKER_TEST_SYSTEMD") == "required":
            pytest.fail("systemd-analyze must be there, was not; install systemd")
        pytest.skip("systemd-analyze is not installed: the unit is not looked at")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def unit(tmp_path: Path, old: str = "", new: str = "") -> str:
    """Return a copy of the unit whose program is there, with one thing changed."""
    text = UNIT.read_text()
    assert old in text
    text = text.replace("/opt/aworker/bin/aworker", shutil.which("true") or "/bin/true").replace(old, new, 1)
    path = tmp_path / "aworker.service"
    path.write_text(text)
    return str(path)


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    verdict = analyze("verify", "--man=no", unit(tmp_path))

    assert "aworker.service" not in verdict.stderr
    assert verdict.returncode == 0


@pytest.mark.parametrize(
    "old, new",
    [("Type=notify", "Type=notifies"), ("KillMode=mixed", "KillModes=mixed"), ("WatchdogSec=60", "WatchdogSec=often")],
)
def test_systemd_would_find_what_is_wrong(tmp_path: Path, old: str, new: str) -> None:
    assert "aworker.service" in analyze("verify", "--man=no", unit(tmp_path, old, new)).stderr


def test_the_unit_is_exposed_to_little(tmp_path: Path) -> None:
    arguments = ("security", "--offline=true", "--threshold=20")
    bare = unit(tmp_path)
    hardened = analyze(*arguments, bare)
    kept = [line for line in UNIT.read_text().splitlines() if not line.startswith(("Protect", "SystemCallFilter"))]
    Path(bare).write_text("\n".join(kept))

    assert hardened.returncode == 0, hardened.stdout[-300:]
    assert analyze(*arguments, bare).returncode != 0


def test_the_unit_waits_longer_than_a_drain_takes() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")

    assert int(settings["TimeoutStopSec"]) >= 25 + 3 + 5
    assert (settings["Type"], settings["KillMode"]) == ("notify", "mixed")
