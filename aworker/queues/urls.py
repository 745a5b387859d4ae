"""What a Redis URL says: one server, by TCP, TLS or a socket, or a service whose primary sentinels name."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry as RetryInThread

from aworker.errors import ConfigError
from aworker.queues.primary import (
    SENTINEL_PORT,
    SENTINEL_TIMEOUT_S,
    Address,
    Primary,
    PrimaryConnection,
    PrimaryTlsConnection,
    SocketConnection,
    TcpConnection,
    TlsConnection,
)

CONNECT_TIMEOUT_S = 2.0
FOLLOW_TIMEOUT_S = 1.0
"""The same where sentinels may name another primary meanwhile."""

FORMS = "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
_KINDS: Mapping[str, Any] = {"redis": TcpConnection, "rediss": TlsConnection, "unix": SocketConnection}
_SENTINEL = "+sentinel"
# What a URL may say of the server and the way to it; the TLS options belong to rediss:// alone.
_OF_THE_SERVER = frozenset({"db", "username", "password", "socket_connect_timeout"})
_OF_THE_SENTINELS = frozenset({"sentinel_username", "sentinel_password"})
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
_TLS_OPTIONS = frozenset(name for name in inspect.signature(SSLConnection).parameters if name.startswith("ssl_"))

Wrong = Callable[[str, str], ConfigError]


def connection_arguments(url: str, field: str = "redis.url") -> dict[str, Any]:
    """Return the keyword arguments of a Redis URL, with no retry and no time-out of the library's own.

    What the URL says of the server holds: host, port, path, database, user, password, TLS, time to connect. What it
    says of how a client behaves (``decode_responses``, ``protocol``, ``socket_timeout``, ..) is aworker's to decide and
    is set aside. Raises ConfigError, naming ``field``, for anything else, and for certificates that cannot be read.
    """
    arguments = _read_url(url, field)
    is_local = arguments.get("connection_class") is SocketConnection
    return {
        "socket_connect_timeout": FOLLOW_TIMEOUT_S if "primary" in arguments else CONNECT_TIMEOUT_S,
        **arguments,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "protocol": 2,
        "health_check_interval": 0,
        **({} if is_local else {"socket_keepalive": True}),
    }


def primary_of(url: str) -> Primary | None:
    """Return what follows the primary, one for all connections of a URL; None where it is a single server's."""
    primary: Primary | None = connection_arguments(url).get("primary")
    return primary


def address_of(url: str) -> str:
    """Return where a URL points, without its password."""
    arguments = connection_arguments(url)
    if "path" in arguments:
        return f"unix:{arguments['path']}"
    primary: Primary | None = arguments.get("primary")
    if primary is not None:
        sentinels = ",".join(f"{host}:{port}" for host, port in primary.sentinels)
        return f"{primary.service} of {sentinels}/{arguments.get('db', 0)}"
    host, port = arguments.get("host", "localhost"), arguments.get("port", 6379)
    return f"{host}:{port}/{arguments.get('db', 0)}"


def server_address_of(url: str) -> Address | None:
    """Return host and port of the server that is spoken to; None for a socket on this host.

    Of a service it is the primary that was named last; before that it is None too.
    """
    arguments = connection_arguments(url)
    if "path" in arguments:
        return None
    if "primary" in arguments:
        known: Address | None = arguments["primary"].known
        return known
    return arguments.get("host", "127.0.0.1"), arguments.get("port", 6379)


@functools.lru_cache(maxsize=16)
def _read_url(url: str, field: str) -> Mapping[str, Any]:
    def wrong(rule: str, advice: str) -> ConfigError:
        return ConfigError(f"{field} must {rule}; {advice}")

    scheme = url.partition("://")[0]
    if scheme.endswith(_SENTINEL) and scheme.removesuffix(_SENTINEL) in ("redis", "rediss"):
        return _read_service(url, wrong)
    return _read_server(url, wrong)


def _read_service(url: str, wrong: Wrong) -> Mapping[str, Any]:
    scheme, _, rest = url.partition("://")
    scheme = scheme.removesuffix(_SENTINEL)
    if "#" in rest:
        raise wrong("have no # and no ? in its password", "write them as %23 and %3F")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    sentinels = tuple(_host_and_port(host, wrong) for host in hosts.split(","))
    service, _, database = path.strip("/").partition("/")
    if not service or service.isdigit():
        raise wrong(
            f"name the service after the sentinels, as in {scheme}{_SENTINEL}://host:26379,host:26379/mymaster/0",
            "put the name there that the sentinels monitor",
        )
    options = parse_qs(query, keep_blank_values=True)
    own = {name: options.pop(name) for name in list(options) if name in _OF_THE_SENTINELS}
    for name, values in own.items():
        if len(values) != 1 or not values[0]:
            raise wrong(f"have one value for {name}, has {'none' if len(values) == 1 else len(values)}", "correct it")
    server = f"{scheme}://{userinfo}{at}host/{database}?{urlencode(options, doseq=True)}".rstrip("?")
    arguments = dict(_read_server(server, wrong))
    del arguments["host"]
    tls = tuple(sorted((name, value) for name, value in arguments.items() if name.startswith("ssl_")))
    user, password = (own.get(name, [None])[0] for name in ("sentinel_username", "sentinel_password"))
    kind = PrimaryTlsConnection if scheme == "rediss" else PrimaryConnection
    primary = _primary(unquote(service), sentinels, user, password, scheme == "rediss", tls)
    return MappingProxyType({**arguments, "connection_class": kind, "primary": primary})


def _host_and_port(text: str, wrong: Wrong) -> Address:
    # Not quoted when it is wrong: it may be the end of a password with a slash or an @ in it.
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:@]+))(?::(\d{1,5}))?", text)
    if found is None or not 0 < int(found[3] or SENTINEL_PORT) < 65536:
        raise wrong(
            "name sentinels as host:port,host:port,host:port",
            "correct them; write / and @ in a password as %2F and %40",
        )
    return found[1] or unquote(found[2]), int(found[3] or SENTINEL_PORT)


@functools.lru_cache(maxsize=16)
def _primary(
    service: str,
    sentinels: tuple[Address, ...],
    user: str | None,
    password: str | None,
    is_tls: bool,
    tls: tuple[tuple[str, Any], ...],
) -> Primary:
    options = {
        "username": user,
        "password": password,
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "protocol": 2,
        "retry": RetryInThread(NoBackoff(), 0),
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **dict(tls),
    }
    return Primary(service, sentinels, options, is_tls=is_tls)


def _read_server(url: str, wrong: Wrong) -> Mapping[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qs(parts.query, keep_blank_values=True)
        arguments: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        # What is said of a bad port quotes it, and it may be the beginning of a password with a slash in it.
        reason = "its port is no port; write / and @ in a password as %2F and %40" if "Port" in str(error) else error
        raise wrong(f"be a {FORMS} URL ({reason})", "correct it") from None
    if parts.scheme not in _KINDS:
        raise wrong(f"be a {FORMS} URL", "correct it")
    if "#" in url or ("@" in parts.query and "@" not in parts.netloc):
        raise wrong("have no # and no ? in its password", "write them as %23 and %3F")
    if port == 0:
        raise wrong("have a port from 1 to 65535, was 0", "correct it")
    _check_options(parts.scheme, options, wrong)
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
    return MappingProxyType({**arguments, "connection_class": _KINDS[parts.scheme]})


def _check_options(scheme: str, options: Mapping[str, list[str]], wrong: Wrong) -> None:
    allowed = _OF_THE_SERVER | _OF_THE_CLIENT
    for name, values in options.items():
        if name.startswith("ssl_") and scheme != "rediss":
            raise wrong(f"be a rediss:// URL to have {name}, was {scheme}://", "correct one of them")
        if name not in allowed and name not in _TLS_OPTIONS:
            known = ", ".join(sorted(allowed | (_TLS_OPTIONS if scheme == "rediss" else set())))
            raise wrong(f"have options of {known}, has {name}", "take it out")
        if len(values) != 1 or not values[0]:
            raise wrong(f"have one value for {name}, has {'none' if len(values) == 1 else len(values)}", "correct it")


def _load_certificates(arguments: Mapping[str, Any], wrong: Wrong) -> None:
    # Now, in words: at every attempt to connect it would look like a server that is away.
    options = {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        if name in options and not os.access(options[name], os.R_OK):
            raise wrong(f"name a readable {name}, was {options[name]!r}", "check the path")
    try:
        SSLConnection(**options).ssl_context.get()
    except (RedisError, OSError, ValueError, TypeError) as error:
        raise wrong(f"have TLS options that work ({error})", "correct them") from None
