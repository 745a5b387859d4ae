"""Single connections to Redis, each with one owner, and what is known of the server's health.

Why not the client's pool and retries: a retry by the library runs a claim twice, a pool hands a half-dead connection to
the next caller. Here every command goes out once; who sent it decides what a lost reply means.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
import redis.retry
from hiredis import Reader, pack_command
from loguru import logger
from redis.asyncio.connection import AbstractConnection
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.maint_notifications import MaintNotificationsConfig

from aworker.errors import QueueUnavailable
from aworker.metrics import totals
from aworker.queues.primary import SYNCHRONOUS, Demoted, TcpConnection, is_left_behind
from aworker.queues.primary import moved as moved
from aworker.queues.urls import address_of as address_of
from aworker.queues.urls import connection_arguments as connection_arguments
from aworker.queues.urls import primary_of as primary_of
from aworker.queues.urls import server_address_of as server_address_of

Command = Sequence[Any]

READ_BYTES = 65_536
BACKOFF_FIRST_S = 0.05
BACKOFF_LONGEST_S = 0.5
ANSWER_TIMEOUT_S = 10.0
"""A shared client's longest wait for a reply: a server that was frozen is never heard of again where it is replaced."""

# Replies that mean "not now" rather than "never": a restarting, full, failed-over or locked server.
_NOT_NOW = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "BUSY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "UNBLOCKED",
    "NOAUTH",
    "TRYAGAIN",
)


# Replies of a server that is the primary no longer: the connection is left, the next leads to where the primary is.
_NOT_HERE = ("READONLY", "UNBLOCKED", "MASTERDOWN")

_MORE = object()
"""What a reader gives while a reply has not come whole."""


def connect(url: str, field: str = "redis.url") -> redis.asyncio.Redis:
    """Return an asyncio client for a URL, without retries of its own. Raises ConfigError for what is no URL."""
    arguments = connection_arguments(url, field)
    arguments["socket_timeout"] = ANSWER_TIMEOUT_S
    pool_class = redis.asyncio.BlockingConnectionPool
    # from_pool: closing the client closes the pool too.
    return redis.asyncio.Redis.from_pool(pool_class(max_connections=32, timeout=5, **arguments))


def adopt(client: Any) -> tuple[Any, bool]:
    """Return a client that gives bytes over a host program's own, and whether it has to be closed."""
    pool = client.connection_pool
    if not pool.connection_kwargs.get("decode_responses"):
        return client, False
    arguments = {**pool.connection_kwargs, "decode_responses": False}
    return type(client).from_pool(type(pool)(connection_class=pool.connection_class, **arguments)), True


def connect_blocking(url: str) -> redis.Redis:
    """Return a synchronous client for a program's threads, without retries. Raises ConfigError."""
    arguments = connection_arguments(url)
    kind = SYNCHRONOUS[arguments.pop("connection_class")]
    arguments.update(retry=redis.retry.Retry(NoBackoff(), 0), socket_timeout=ANSWER_TIMEOUT_S)
    pool_class: Any = redis.BlockingConnectionPool
    return redis.Redis.from_pool(pool_class(connection_class=kind, max_connections=32, timeout=5, **arguments))


def connect_synchronously(url: str, *, name: str, timeout_s: float) -> redis.Redis:
    """Return a client of one connection for a thread of its own, without retries. Raises ConfigError."""
    arguments = connection_arguments(url)
    kind = SYNCHRONOUS[arguments.pop("connection_class")]
    arguments.update(
        retry=redis.retry.Retry(NoBackoff(), 0),
        client_name=name,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(1.0, arguments["socket_connect_timeout"]),
        max_connections=1,
    )
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **arguments))


_ERROR_KINDS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("loading", (BusyLoadingError,)),
    ("permission", (NoPermissionError, AuthenticationError, AuthorizationError)),
    ("read_only", (ReadOnlyError, Demoted)),
    ("out_of_memory", (OutOfMemoryError,)),
    ("timeout", (redis.exceptions.TimeoutError, TimeoutError)),
    ("connection", (redis.exceptions.ConnectionError, OSError, EOFError)),
)


def note_answer(connection: str, replies: Sequence[Any]) -> None:
    """Count a round trip and the errors among its replies."""
    totals.round_trips[connection] += 1
    for reply in replies:
        if isinstance(reply, BaseException):
            note_error(connection, reply)


def note_error(connection: str, error: BaseException) -> None:
    """Count an error by its kind; a script that the server does not know yet is none."""
    if not isinstance(error, NoScriptError):
        kind = next((kind for kind, classes in _ERROR_KINDS if isinstance(error, classes)), "other")
        totals.redis_errors[connection, kind] += 1


class Health:
    """Whether Redis serves, as this process sees it: one log line when it goes and one when it is back."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_up: bool | None = None
        self.reason = ""
        """Why the last command failed; empty when it did not."""

    def down(self, reason: str) -> None:
        """Note that a command failed."""
        self.reason = reason
        if self.is_up is not False:
            self.is_up = False
            logger.warning(f"Redis at {self.address} is unavailable: {reason}; trying again until it is back")

    def up(self) -> None:
        """Note that a command was answered."""
        if self.is_up is False:
            logger.info(f"Redis at {self.address} is back")
            self.reason = ""
        self.is_up = True


class Link:
    """One connection with one owner: commands go out together and every reply is read, in order."""

    def __init__(self, url: str, name: str, kind: str = "other") -> None:
        self._kind = kind
        arguments = connection_arguments(url)
        connection_class: type[AbstractConnection] = arguments.pop("connection_class", TcpConnection)
        self._connection = connection_class(
            **arguments, client_name=name, maint_notifications_config=MaintNotificationsConfig(enabled=False)
        )
        self._reading: asyncio.Task[Any] | None = None
        self._dropped = False
        self._replies = Reader()
        self.connects = 0
        """Connections made so far: a change means that a reply may have been lost."""

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and return a reply for each; an error reply stands in its place.

        Raises QueueUnavailable when the connection fails: any of the commands may have been carried out.
        """
        connection = self._connection
        try:
            if connection.is_connected and connection._reader is not None and connection._reader.at_eof():
                # Closed by the server while it was idle: nothing is lost and nothing new is wrong.
                await self.close()
            elif connection.is_connected and is_left_behind(connection):
                await self.close()
            if not connection.is_connected:
                await connection.connect()  # type: ignore[no-untyped-call]
                self._replies = Reader(InvalidResponse, connection._parser.parse_error, notEnoughData=_MORE)
                self.connects += 1
            self._dropped = False
            self._reading = asyncio.current_task()
            packed = [pack_command(tuple(command)) for command in commands]
            await connection.send_packed_command(packed, check_health=False)
            replies = await self._read(len(packed))
            totals.round_trips[self._kind] += 1
            if any(isinstance(reply, ResponseError) and _is_elsewhere(reply) for reply in replies):
                await self.close()
            return replies
        except (RedisError, OSError, EOFError) as error:
            note_error(self._kind, error)
            await self.close()
            raise QueueUnavailable(_in_words(error)) from None
        except asyncio.CancelledError:
            await self.close()
            if self._dropped and (task := asyncio.current_task()) is not None and task.uncancel() == 0:
                totals.redis_errors[self._kind, "timeout"] += 1
                raise QueueUnavailable("no renewal for too long, the connection was dropped") from None
            raise
        finally:
            self._reading = None

    async def _read(self, count: int) -> list[Any]:
        # As the library reads, without the four coroutines that it has for each reply.
        stream, reader = self._connection._reader, self._replies
        assert stream is not None
        replies: list[Any] = []
        while len(replies) < count:
            reply = reader.gets()
            if reply is _MORE:
                data = await stream.read(READ_BYTES)
                if not data:
                    raise redis.ConnectionError("Connection closed by server.")
                reader.feed(data)
            elif isinstance(reply, redis.ConnectionError):
                raise reply
            else:
                if isinstance(reply, ResponseError):
                    note_error(self._kind, reply)
                replies.append(reply)
        return replies

    @property
    def is_connected(self) -> bool:
        """Whether a connection stands, as far as is known here."""
        return bool(self._connection.is_connected)

    def drop(self) -> None:
        """Cut a connection that may be half open, whoever waits on it: its owner sees QueueUnavailable."""
        if self._reading is not None and not self._dropped:
            self._dropped = True
            self._reading.cancel()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        try:
            await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            return


class SideLink:
    """A connection that several coroutines share for plain questions, one after the other."""

    def __init__(self, url: str, name: str, health: Health) -> None:
        self.link = Link(url, name, "side")
        self.lock = asyncio.Lock()
        self._health = health

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands until they are answered: safe to carry out twice.

        Raises ResponseError for an error reply that waiting does not mend.
        """
        replies = await self._answered(commands)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    async def ask_for_advice(self, commands: Sequence[Command]) -> list[Any]:
        """Run plain commands that work does not need: one that is not permitted has its error for a reply."""
        return await self._answered(commands, may_be_refused=True)

    async def lengths(self, names: Sequence[str]) -> list[int]:
        """Return the lengths of lists; a key that is no list holds no task."""
        replies = await self._answered([("LLEN", name) for name in names])
        return [0 if isinstance(reply, BaseException) else int(reply) for reply in replies]

    async def _answered(self, commands: Sequence[Command], *, may_be_refused: bool = False) -> list[Any]:
        backoff = Backoff()
        while True:
            try:
                async with self.lock:
                    replies = await self.link.call(commands)
                for reply in replies:
                    is_refused = may_be_refused and isinstance(reply, NoPermissionError)
                    if isinstance(reply, BaseException) and not is_refused:
                        raise_if_unavailable(reply)
                self._health.up()
                return replies
            except QueueUnavailable as error:
                self._health.down(str(error))
            await backoff.wait()


class Backoff:
    """Waits between tries: 50 ms doubling to half a second, with jitter."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_FIRST_S

    async def wait(self) -> None:
        """Sleep once, longer than the time before."""
        await asyncio.sleep(self._next_s * random.uniform(0.75, 1.25))
        self._next_s = min(self._next_s * 2, BACKOFF_LONGEST_S)

    def reset(self) -> None:
        """Start over: the last try worked."""
        self._next_s = BACKOFF_FIRST_S


def raise_if_unavailable(error: BaseException) -> None:
    """Raise QueueUnavailable for an error reply that means "not now"; return for any other."""
    if isinstance(
        error,
        (
            BusyLoadingError,
            ReadOnlyError,
            AuthenticationError,
            AuthorizationError,
            NoPermissionError,
        ),
    ) or str(error).startswith(_NOT_NOW):
        advice = "; docs/redis.md has what it needs" if isinstance(error, NoPermissionError) else ""
        raise QueueUnavailable(_in_words(error) + advice) from None


def _is_elsewhere(reply: ResponseError) -> bool:
    return isinstance(reply, ReadOnlyError) or str(reply).startswith(_NOT_HERE)


def _in_words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 300 else text[:300] + "..."
