"""Single connections to Redis, each with one owner, and what is known of the server's health.

Why not the client's pool and retries: a retry by the library runs a claim twice, a pool hands a half-dead connection to
the next caller. Here every command goes out once; who sent it decides what a lost reply means.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
import redis.connection
import redis.retry
from hiredis import Reader, pack_command
from loguru import logger
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
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

from aworker.errors import ConfigError, QueueUnavailable
from aworker.metrics import totals

Command = Sequence[Any]

CONNECT_TIMEOUT_S = 2.0
READ_BYTES = 65_536
BACKOFF_FIRST_S = 0.05
BACKOFF_LONGEST_S = 0.5

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


_MORE = object()
"""What a reader gives while a reply has not come whole."""

_SCHEMES = ("redis", "rediss", "unix")
# What a URL may say of the server and the way to it; the TLS options belong to rediss:// alone.
_OF_THE_SERVER = frozenset({"db", "username", "password", "socket_connect_timeout"})
# How a client of the library behaves: such a URL is often shared, and here aworker decides.
_OF_THE_CLIENT = frozenset(
    [
        "client_name",
        "decode_responses",
        "encoding",
        "encoding_errors",
        "health_check_interval",
        "legacy_responses",
        "lib_name",
        "lib_version",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "timeout",
    ]
)
_SYNCHRONOUS: dict[Any, Any] = {
    Connection: redis.connection.Connection,
    SSLConnection: redis.connection.SSLConnection,
    UnixDomainSocketConnection: redis.connection.UnixDomainSocketConnection,
}


def connection_arguments(url: str, field: str = "redis.url") -> dict[str, Any]:
    """Return the keyword arguments of a Redis URL, with no retry and no time-out of the library's own.

    What the URL says of the server holds: host, port, path, database, user, password, TLS, time to connect. What it
    says of how a client behaves (``decode_responses``, ``protocol``, ``socket_timeout``, ..) is aworker's to decide and
    is set aside. Raises ConfigError, naming ``field``, for anything else, and for certificates that cannot be read.
    """
    arguments = _read_url(url, field)
    is_local = arguments.get("connection_class") is UnixDomainSocketConnection
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        **arguments,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "protocol": 2,
        "health_check_interval": 0,
        **({} if is_local else {"socket_keepalive": True}),
    }


@functools.lru_cache(maxsize=16)
def _read_url(url: str, field: str) -> Mapping[str, Any]:
    def wrong(rule: str, advice: str) -> ConfigError:
        return ConfigError(f"{field} must {rule}; {advice}")

    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qs(parts.query, keep_blank_values=True)
        arguments: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        # What is said of a bad port quotes it, and it may be the beginning of a password with a slash in it.
        reason = "its port is no port; write / and @ in a password as %2F and %40" if "Port" in str(error) else error
        raise wrong(f"be a redis://, rediss:// or unix:// URL ({reason})", "correct it") from None
    if parts.scheme not in _SCHEMES:
        raise wrong("be a redis://, rediss:// or unix:// URL", "correct it")
    if "#" in url or ("@" in parts.query and "@" not in parts.netloc):
        raise wrong("have no # and no ? in its password", "write them as %23 and %3F")
    if port == 0:
        raise wrong("have a port from 1 to 65535, was 0", "correct it")
    allowed = _OF_THE_SERVER | _OF_THE_CLIENT
    for name, values in options.items():
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise wrong(f"be a rediss:// URL to have {name}, was {parts.scheme}://", "correct one of them")
        if name not in allowed and name not in _TLS_OPTIONS:
            known = ", ".join(sorted(allowed | (_TLS_OPTIONS if parts.scheme == "rediss" else set())))
            raise wrong(f"have options of {known}, has {name}", "take it out")
        if len(values) != 1 or not values[0]:
            raise wrong(f"have one value for {name}, has {'none' if len(values) == 1 else len(values)}", "correct it")
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
            raise wrong("be unix:// and an absolute path, as in unix:///run/valkey.sock?db=0", "correct it")
    elif (path := parts.path.strip("/")) and not (path.isascii() and path.isdigit()):
        raise wrong("end in the number of a database, as in redis://host:6379/0", "correct what stands after the host")
    elif path and "db" in options and int(path) != arguments["db"]:
        raise wrong(f"name one database, names {path} and {arguments['db']}", "take one out")
    if arguments.get("db", 0) < 0:
        raise wrong(f"have a database >= 0, was {arguments['db']}", "correct it")
    if arguments.get("protocol", 2) not in (2, 3):
        raise wrong(f"have protocol=2 or 3, was {arguments['protocol']}", "take it out")
    if arguments.get("socket_connect_timeout", 1) <= 0:
        raise wrong("have a socket_connect_timeout > 0", "correct it")
    for name in _OF_THE_CLIENT:
        arguments.pop(name, None)
    if parts.scheme == "rediss":
        _load_certificates(arguments, wrong)
    return MappingProxyType(arguments)


_TLS_OPTIONS = frozenset(name for name in inspect.signature(SSLConnection).parameters if name.startswith("ssl_"))


def _load_certificates(arguments: Mapping[str, Any], wrong: Callable[[str, str], ConfigError]) -> None:
    # Now, in words: at every attempt to connect it would look like a server that is away.
    options = {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if name in options and not os.access(options[name], os.R_OK):
            raise wrong(f"name a readable {name}, was {options[name]!r}", "check the path")
    try:
        SSLConnection(**options).ssl_context.get()
    except (RedisError, OSError, ValueError, TypeError) as error:
        raise wrong(f"have TLS options that work ({error})", "correct them") from None


def address_of(url: str) -> str:
    """Return where a URL points, without its password."""
    arguments = connection_arguments(url)
    if "path" in arguments:
        return f"unix:{arguments['path']}"
    host, port = arguments.get("host", "localhost"), arguments.get("port", 6379)
    return f"{host}:{port}/{arguments.get('db', 0)}"


def connect(url: str, field: str = "redis.url") -> redis.asyncio.Redis:
    """Return an asyncio client for a URL, without retries of its own. Raises ConfigError for what is no URL."""
    arguments = connection_arguments(url, field)
    pool_class = redis.asyncio.BlockingConnectionPool
    # from_pool: closing the client closes the pool too.
    return redis.asyncio.Redis.from_pool(pool_class(max_connections=32, timeout=5, **arguments))


def connect_synchronously(url: str, *, name: str, timeout_s: float) -> redis.Redis:
    """Return a client of one connection for a thread of its own, without retries. Raises ConfigError."""
    arguments = connection_arguments(url)
    kind = _SYNCHRONOUS[arguments.pop("connection_class", Connection)]
    arguments.update(
        retry=redis.retry.Retry(NoBackoff(), 0),
        client_name=name,
        socket_timeout=timeout_s,
        socket_connect_timeout=1.0,
        max_connections=1,
    )
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **arguments))


_ERROR_KINDS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("loading", (BusyLoadingError,)),
    ("permission", (NoPermissionError, AuthenticationError, AuthorizationError)),
    ("read_only", (ReadOnlyError,)),
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
        connection_class: type[AbstractConnection] = arguments.pop("connection_class", Connection)
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


def _in_words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) < 300 else text[:300] + "..."
