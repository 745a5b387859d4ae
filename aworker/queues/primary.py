"""Where the primary is, as its sentinels say, and connections that follow it.

Why not redis-py's Sentinel: it believes the first sentinel that answers, so one that was cut off with the old primary
sends every client there; each of its connections asks for itself, so that a worker's eight ask in turn, round after
round, while the sentinels still name what is gone; and they learn of a new primary only when the old one refuses a
write, which one that was frozen, or cut off, does not do. Here a majority is asked and the answer with the newest epoch
holds, all connections of a process share one answer, and it is asked for again every second as long as they are used.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import redis
import redis.connection
from loguru import logger
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

SENTINEL_PORT = 26379
SENTINEL_TIMEOUT_S = 0.5
FRESH_S = 0.25
"""An answer is everybody's for so long, also that there is none."""
STALE_S = 1.0
"""An answer that is older is asked for again before a connection is used, and while a reply does not come."""

Address = tuple[str, int]


class Demoted(redis.ConnectionError):
    """The server takes no writes: it was the primary, or never was. The next connection is a new one."""


class Primary:
    """The primary of one service. Threads and loops share it."""

    def __init__(self, service: str, sentinels: Sequence[Address], options: Mapping[str, Any], *, is_tls: bool) -> None:
        self.service = service
        self.sentinels = tuple(sentinels)
        self._order = list(sentinels)
        """The last that answered first: what is away costs its time once."""
        self._kind: Any = redis.connection.SSLConnection if is_tls else redis.connection.Connection
        self._options = dict(options)
        self._connections: dict[Address, Any] = {}
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._trouble = ""
        self.known: Address | None = None
        """The last answer."""

    def find(self) -> Address:
        """Ask the sentinels, which blocks. Raises redis.ConnectionError when none names a primary."""
        with self._lock:
            if self.age_s >= FRESH_S:
                self._ask_all()
                self._asked_at = time.monotonic()
            if self._trouble or self.known is None:
                raise redis.ConnectionError(self._trouble)
            return self.known

    @property
    def age_s(self) -> float:
        """Seconds since the sentinels were last asked."""
        return time.monotonic() - self._asked_at

    def _ask_all(self) -> None:
        answers: list[tuple[int, Address]] = []
        troubles: list[str] = []
        silent: list[Address] = []
        for at in self._order:
            try:
                answers.append(self._ask(at))
            except (RedisError, OSError) as error:
                troubles.append(f"{_name(at)}: {str(error) or type(error).__name__}")
                silent.append(at)
            if len(answers) > len(self.sentinels) // 2:
                break
        self._order = [at for at in self._order if at not in silent] + silent
        self._trouble = "" if answers else f"no sentinel names the primary of {self.service} ({'; '.join(troubles)})"
        if not answers:
            return
        _, found = max(answers)
        if found != self.known:
            if self.known is not None:
                logger.info(f"The primary of {self.service} is now {_name(found)}, before it was {_name(self.known)}")
            self.known = found

    def _ask(self, sentinel: Address) -> tuple[int, Address]:
        connection = self._connections.get(sentinel)
        if connection is not None:
            try:
                return self._answer(connection)
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                del self._connections[sentinel]
                connection.disconnect()
        host, port = sentinel
        connection = self._kind(host=host, port=port, **self._options)
        try:
            answer = self._answer(connection)
        except BaseException:
            connection.disconnect()
            raise
        self._connections[sentinel] = connection
        return answer

    def _answer(self, connection: Any) -> tuple[int, Address]:
        connection.connect()
        connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        named = connection.read_response()
        if named is None:
            raise ResponseError(f"it knows no {self.service}")
        # The number of the failover that made it the primary: one that a cut off sentinel names has an older one.
        connection.send_command("SENTINEL", "MASTER", self.service)
        try:
            told = connection.read_response()
            epoch = int(dict(zip(told[::2], told[1::2], strict=False)).get(b"config-epoch", -1))
        except ResponseError:
            epoch = -1  # not permitted
        return epoch, (named[0].decode(), int(named[1]))


def _name(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


# Connections. Each kind of the library's, with what it lacks.


class _Careful:
    """A server that accepts and then says nothing is away; one that takes no writes is left."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        timeout_s: float | None = self.socket_connect_timeout  # type: ignore[attr-defined]
        try:
            async with asyncio.timeout(timeout_s):
                await super().on_connect_check_health(check_health)  # type: ignore[misc]
        except TimeoutError:
            raise redis.TimeoutError(f"no answer within {timeout_s:g} s of connecting") from None

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ReadOnlyError as error:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise Demoted(str(error)) from None


class _Following(_Careful):
    """Connects to the primary, wherever it is by then."""

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self.primary = primary
        self._suspicion: asyncio.TimerHandle | None = None
        super().__init__(**options)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        # A primary that was frozen and replaced never answers: then to wait for its time to run out is in vain.
        self._suspicion = asyncio.get_running_loop().call_later(STALE_S, self._suspect)
        try:
            return await super().read_response(*arguments, **options)
        finally:
            self._suspicion.cancel()
            self._suspicion = None

    def _suspect(self) -> None:
        loop = asyncio.get_running_loop()

        def found(asked: asyncio.Future[None]) -> None:
            if asked.cancelled() or asked.exception() is not None or self._suspicion is None:
                return
            if is_left_behind(self):
                self._writer.transport.abort()  # type: ignore[attr-defined]
            else:
                self._suspicion = loop.call_later(STALE_S, self._suspect)

        loop.run_in_executor(None, _look, self.primary).add_done_callback(found)

    async def connect(self) -> None:
        # A pool calls this before each use.
        if self.is_connected:  # type: ignore[attr-defined]
            if self.primary.age_s >= STALE_S:
                await look_again(self.primary)
            if is_left_behind(self):
                await self.disconnect(nowait=True)  # type: ignore[attr-defined]
        await super().connect()  # type: ignore[misc]

    async def _connect(self) -> None:
        self.host, self.port = await anyio.to_thread.run_sync(self.primary.find, abandon_on_cancel=True)
        await super()._connect()  # type: ignore[misc]


class _CarefulInThread:
    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ReadOnlyError as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise Demoted(str(error)) from None


class _FollowingInThread(_CarefulInThread):
    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self.primary = primary
        super().__init__(**options)

    def connect(self) -> None:
        if self._sock:  # type: ignore[attr-defined]
            _look(self.primary)
            if is_left_behind(self):
                self.disconnect()  # type: ignore[attr-defined]
        super().connect()  # type: ignore[misc]

    def _connect(self) -> Any:
        self.host, self.port = self.primary.find()
        return super()._connect()  # type: ignore[misc]


class TcpConnection(_Careful, Connection):
    """To one address, whose name is looked up at each connect."""


class TlsConnection(_Careful, SSLConnection):
    """The same by TLS."""


class SocketConnection(_Careful, UnixDomainSocketConnection):
    """By a socket on this host."""


class PrimaryConnection(_Following, Connection):
    """To the primary that the sentinels name."""


class PrimaryTlsConnection(_Following, SSLConnection):
    """The same by TLS."""


class _TcpInThread(_CarefulInThread, redis.connection.Connection):
    pass


class _TlsInThread(_CarefulInThread, redis.connection.SSLConnection):
    pass


class _SocketInThread(_CarefulInThread, redis.connection.UnixDomainSocketConnection):
    pass


class _PrimaryInThread(_FollowingInThread, redis.connection.Connection):
    pass


class _PrimaryTlsInThread(_FollowingInThread, redis.connection.SSLConnection):
    pass


SYNCHRONOUS: Mapping[type[AbstractConnection], Any] = {
    TcpConnection: _TcpInThread,
    TlsConnection: _TlsInThread,
    SocketConnection: _SocketInThread,
    PrimaryConnection: _PrimaryInThread,
    PrimaryTlsConnection: _PrimaryTlsInThread,
}
"""The same kind of connection for a thread of its own."""


async def moved(primary: Primary, interval_s: float) -> None:
    """Return when the sentinels name another primary than now."""
    before = primary.known
    while before in (None, primary.known):
        before = primary.known
        await anyio.sleep(interval_s)
        await look_again(primary)


async def look_again(primary: Primary) -> None:
    """Ask where the primary is; where no sentinel answers, what is known holds."""
    await anyio.to_thread.run_sync(_look, primary, abandon_on_cancel=True)


def _look(primary: Primary) -> None:
    if primary.age_s >= STALE_S:
        try:
            primary.find()
        except redis.ConnectionError:
            return  # the primary may serve all the same


def is_left_behind(connection: Any) -> bool:
    """Whether a connection leads to what is the primary no longer."""
    primary: Primary | None = getattr(connection, "primary", None)
    return primary is not None and primary.known not in (None, (connection.host, connection.port))
