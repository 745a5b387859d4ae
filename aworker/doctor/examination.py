"""What a check may ask of the server and of the configuration, and what it finds."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import msgspec
from redis.exceptions import NoScriptError, ResponseError

from aworker.clock import now_s
from aworker.config import Config
from aworker.doctor.catalogue import KINDS, Severity
from aworker.errors import AworkerError
from aworker.keys import Keys
from aworker.overview.snapshot import Snapshot, take
from aworker.queues.connection import Link, connection_arguments, server_address_of
from aworker.queues.scripts import LOOK

NAMELESS = ""
"""Of a connection: a user who may not name one is to be told so, not turned away."""
SCAN_STEP = 1_000
SCAN_MOST = 1_000_000
"""Keys that a scan walks over."""
FOUND_MOST = 1_000


class Unknown(AworkerError):
    """It could not be looked at, and why."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    item: str = ""
    severity: Severity
    name: str = ""
    """In `catalogue`; empty where all is well or unknown."""
    what: str
    why: str = ""
    mend: str = ""
    """The command."""


def found(name: str, what: str, mend: str, severity: Severity | None = None) -> Finding:
    """Return a finding of the catalogue; ``severity`` where it is worse than usual."""
    kind = KINDS[name]
    return Finding(severity=severity or kind.severity, name=name, what=what, why=kind.why, mend=mend)


def well(what: str) -> Finding:
    """Return that an item is as it should be."""
    return Finding(severity="well", what=what)


class Examination:
    """One server and the configuration that looks at it."""

    def __init__(self, link: Link, client: Any, config: Config, clock: Callable[[], float] = now_s) -> None:
        self._link = link
        self.client = client
        self.config = config
        self.keys = Keys(config.redis.key_prefix)
        self.clock = clock
        self._answers: dict[str, Any] = {}

    async def replies(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Return a raw reply for each command; an error reply stands in its place. Raises QueueUnavailable."""
        replies = await self._link.call(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            await self._link.call([("SCRIPT", "LOAD", LOOK.text)])
            replies = await self._link.call(commands)
        return replies

    async def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Return a raw reply for each command. Raises the first error reply."""
        replies = await self.replies(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def info(self) -> dict[str, str]:
        """Return what the server says of itself. Raises Unknown where it withholds it."""
        if "info" not in self._answers:
            (self._answers["info"],) = await self.replies(("INFO",))
        reply = self._answers["info"]
        if isinstance(reply, ResponseError):
            raise Unknown(f"INFO is refused ({reply})")
        lines = text_of(reply).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    async def setting(self, name: str) -> str:
        """Return one of the server's settings. Raises Unknown where it withholds them."""
        (reply,) = await self.replies(("CONFIG", "GET", name))
        if isinstance(reply, ResponseError):
            raise Unknown(f"CONFIG GET is refused ({reply})")
        if not isinstance(reply, list) or len(reply) < 2:
            raise Unknown(f"the server has no setting {name}")
        return text_of(reply[1])

    async def snapshot(self) -> Snapshot:
        """Return the overview, the same for all checks. Raises Unknown where a key of it cannot be read."""
        if "snapshot" not in self._answers:
            try:
                self._answers["snapshot"] = await take(self.client, self.config)
            except ResponseError as error:
                self._answers["snapshot"] = error
        answer = self._answers["snapshot"]
        if isinstance(answer, ResponseError):
            raise Unknown(f"the overview is refused ({answer})")
        taken: Snapshot = answer
        return taken

    async def scan(self, pattern: str, kind: str) -> tuple[list[bytes], str]:
        """Return up to a thousand keys of a pattern and type, and in words how far was looked; empty = at all."""
        names: dict[bytes, None] = {}
        cursor, walked = b"0", 0
        while walked < SCAN_MOST and len(names) < FOUND_MOST:
            (reply,) = await self.replies(("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_STEP, "TYPE", kind))
            if isinstance(reply, ResponseError):
                raise Unknown(f"SCAN is refused ({reply})")
            cursor, page = reply
            names.update(dict.fromkeys(page))
            walked += SCAN_STEP
            if cursor == b"0":
                return list(names), ""
        return list(names)[:FOUND_MOST], f"; about {walked:,} keys were looked at, not all"

    def redis_cli(self, *words: str) -> str:
        """Return a command for the shell that speaks to this server; its user and password are left to the reader."""
        arguments = connection_arguments(self.config.redis.url)
        if "path" in arguments:
            place = ["-s", str(arguments["path"])]
        else:
            host, port = server_address_of(self.config.redis.url) or ("PRIMARY", 6379)
            place = ["-h", host, "-p", str(port)]
        if arguments.get("db"):
            place += ["-n", str(arguments["db"])]
        if self.config.redis.url.startswith(("rediss:", "rediss+")):
            place.append("--tls")
        return shlex.join(["redis-cli", *place, *words])


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: list[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number_of(fields: dict[str, str], name: str) -> float:
    """Return a field as a number; 0 where it is none or not there."""
    try:
        return float(fields.get(name, 0))
    except (TypeError, ValueError):
        return 0.0


def text_of(value: Any) -> str:
    """Return a reply as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
