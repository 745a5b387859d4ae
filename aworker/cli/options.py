"""What commands share: their options, the configuration with its flags, and talking to Redis in words."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from aworker.errors import QueueUnavailable

if TYPE_CHECKING:
    import redis.asyncio

    from aworker.config import Config

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 10.0
"""How long a command waits for Redis to answer."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file [default: config/aworker.toml if it is there]")
]
RedisUrlOption = Annotated[str | None, typer.Option("--redis-url", help="Redis or Valkey, in place of the file's")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


def configured(path: Path | None, redis_url: str | None = None, **sections: dict[str, Any]) -> Config:
    """Return the configuration in force; ``sections`` are flags, of which None means not given.

    Raises ConfigError.
    """
    from aworker.config import load_config
    from aworker.queues.connection import connection_arguments

    if redis_url is not None:
        sections["redis"] = {"url": redis_url}
    given = {
        name: {field: value for field, value in fields.items() if value is not None}
        for name, fields in sections.items()
    }
    _look_beside(path)
    config = load_config(path, flags={name: fields for name, fields in given.items() if fields})
    variable = "AWORKER_REDIS__URL"
    given_by = "--redis-url: " if redis_url is not None else f"{variable}: " if variable in os.environ else ""
    connection_arguments(config.redis.url, f"{given_by}redis.url")
    if config.strategies.url:
        connection_arguments(config.strategies.url, "strategies.url")
    return config


def _look_beside(path: Path | None) -> None:
    # Handlers of one's own stand there; last, so that nothing in these folders hides an installed module.
    for folder in (Path(), *([path.parent] if path is not None else [])):
        place = str(folder.resolve())
        if place not in sys.path:
            sys.path.append(place)


def asked_of_redis(
    config: Config,
    question: Callable[[redis.asyncio.Redis], Awaitable[Answer]],
    *,
    timeout_s: float | None = ANSWER_TIMEOUT_S,
) -> Answer:
    """Open a client, await the question's answer, close.

    Raises QueueUnavailable, with the server's address, when Redis does not answer in time; None = whatever it takes.
    """
    import anyio

    from aworker.queues.connection import connect

    async def answered() -> Answer:
        client = connect(config.redis.url)
        try:
            with anyio.fail_after(timeout_s):
                return await question(client)
        finally:
            await client.aclose()

    return in_words(config, lambda: anyio.run(answered))


def in_words(config: Config, call: Callable[[], Answer]) -> Answer:
    """Make a call that talks to Redis. Raises QueueUnavailable with the server's address when it fails."""
    from redis.exceptions import RedisError, ResponseError

    from aworker.queues.connection import address_of

    address = address_of(config.redis.url)
    try:
        return call()
    except TimeoutError:
        reason = f"no answer within {ANSWER_TIMEOUT_S:g} s"
    except ResponseError as error:
        advice = "look what stands under the names in [[queues]] and redis.key_prefix, and what the user may do"
        raise QueueUnavailable(
            f"Redis at {address} must carry out the command, refused it ({error}); {advice}"
        ) from None
    except (RedisError, OSError, QueueUnavailable) as error:
        reason = str(error) or type(error).__name__
    if _is_of_the_user(reason):
        advice = "correct the user and password of the URL (AWORKER_REDIS__URL, --redis-url or redis.url)"
        raise QueueUnavailable(f"Redis at {address} must let this user in, did not ({reason}); {advice}")
    raise QueueUnavailable(f"Redis at {address} must answer, did not ({reason}); start it or correct --redis-url")


def _is_of_the_user(reason: str) -> bool:
    return any(word in reason.lower() for word in ("username-password", "authentication", "noauth", "wrongpass"))


def redacted(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        secret = "***@" if "@" in parts.netloc else ""
    except ValueError:
        return "***"
    return f"{parts.scheme}://{secret}{host}{parts.path}" + ("?***" if parts.query else "")


def confirm(question: str, is_confirmed: bool) -> None:
    """Ask before something is gone for good; where nobody can answer, ``--yes`` has to."""
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"it asks: {question} Give --yes where nobody can answer")
    typer.confirm(question, abort=True)
