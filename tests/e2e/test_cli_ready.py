"""``aworker check --ready``: what a container's health check gets, as exit code and words."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.commands import Here, eventually, running
from tests.kit.servers import Server, free_port


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer one connection, whatever it asks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def test_it_says_whether_the_worker_can_consume(here: Here, tmp_path: Path) -> None:
    # A proxy is for other hosts.
    variables = {"AWORKER_HTTP__PORT": str(free_port()), "http_proxy": "http://127.0.0.1:1"}
    with Server(tmp_path) as server, running("run", "--redis-url", server.url, cwd=tmp_path, **variables) as worker:
        worker.logs("is ready")
        eventually(lambda: here("check", "--ready", **variables).returncode == 0)
        assert here("check", "--ready", **variables).stdout == "ready\n"
        server.stop()
        eventually(lambda: here("check", "--ready", **variables).returncode == 1)
        assert here("check", "--ready", **variables).stdout.startswith(
            f"not ready: Redis at 127.0.0.1:{server.port}/0 "
        )
        told = json.loads(here("check", "--ready", "--json", **variables).stdout)
        assert (told["ready"], len(told["reasons"])) == (False, 1)
        server.start()
        eventually(lambda: here("check", "--ready", **variables).returncode == 0)

        os.kill(worker.process.pid, signal.SIGKILL)
        worker.ends()
        gone = here("check", "--ready", **variables)
        assert gone.returncode == 1
        assert "no worker answers at http://127.0.0.1:" in gone.stdout


def test_a_worker_that_waits_for_its_server_says_so(here: Here, tmp_path: Path) -> None:
    variables = {"AWORKER_HTTP__PORT": str(free_port())}
    url = f"redis://127.0.0.1:{free_port()}"
    with running("run", "--redis-url", url, cwd=tmp_path, **variables) as worker:
        worker.logs("is unavailable")
        told = here("check", "--ready", **variables)
        assert told.returncode == 1
        assert "the worker is starting: Redis at 127.0.0.1" in told.stdout
        assert "Connection refused" in told.stdout


def test_without_a_port_nobody_can_be_asked(here: Here) -> None:
    asked = here("check", "--ready")

    assert asked.returncode == 2
    assert "http.port must be set" in asked.stderr


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\n[]"]
)
def test_what_is_no_worker_is_not_ready(here: Here, answer: bytes) -> None:
    with answering(answer) as port:
        asked = here("check", "--ready", AWORKER_HTTP__PORT=str(port))

    assert asked.returncode == 1
    assert asked.stdout.startswith("not ready: ")
