"""Whether the server's access list lets this user do what a worker does.

Each command is sent once within a transaction that never happens: the server looks at its access list when it takes a
command, and forgets it all when the connection ends. What is sent would do no harm if it did happen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from redis.exceptions import ResponseError

from aworker.doctor.examination import NAMELESS, Examination, Finding, Unknown, few, found, well
from aworker.keys import ASSIGNMENT_PREFIX, CHANNEL, HEARTBEAT_CHANNEL, HEARTBEAT_PREFIX, RESULT_PREFIX
from aworker.queues.connection import Link, connection_arguments

PROBE = "doctor-looks"
# On a key that nobody has: what the scripts call is looked at like what a client sends.
_ON_A_KEY: tuple[tuple[Any, ...], ...] = (
    *(
        (name,)
        for name in ("EXISTS", "TYPE", "DEL", "GET", "STRLEN", "MGET", "INCR", "LLEN", "LPOP", "RPOP", "HGETALL")
    ),
    *((name,) for name in ("HKEYS", "HLEN", "HVALS", "XLEN", "ZCARD")),
    *((name, "x") for name in ("HDEL", "HEXISTS", "HGET", "HMGET", "LPUSH", "RPUSH", "LPOS", "XDEL", "ZREM", "ZSCORE")),
    *((name, 0) for name in ("INCRBY", "DECRBY", "LINDEX")),
    *(
        (name, 0, 0)
        for name in ("GETRANGE", "LRANGE", "LTRIM", "ZRANGE", "ZRANGEBYSCORE", "ZREMRANGEBYSCORE", "ZREVRANGE")
    ),
    ("SET", "x", "EX", 1),
    ("HINCRBY", "x", 0),
    ("HSET", "x", 0),
    ("HSETNX", "x", 0),
    ("LREM", 0, "x"),
    ("XADD", "NOMKSTREAM", "*", "x", 0),
    ("XRANGE", "-", "+", "COUNT", 1),
    ("XREVRANGE", "+", "-", "COUNT", 1),
    ("ZADD", 0, "x"),
)
_WITHOUT_KEYS: tuple[tuple[Any, ...], ...] = (
    ("PING",),
    ("TIME",),
    ("CLIENT", "SETNAME", "x"),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVAL", "return 1", 0),
    ("EVALSHA", "0" * 40, 0),
)
_OF_PLAIN_DELIVERY: tuple[tuple[Any, ...], ...] = (("CLIENT", "ID"), ("CLIENT", "UNBLOCK", 0))


async def access(exam: Examination) -> list[Finding]:
    link = Link(exam.config.redis.url, NAMELESS)
    try:
        (begun,) = await link.call([("MULTI",)])
        if isinstance(begun, ResponseError):
            raise Unknown(f"MULTI is refused ({begun})")
        commands = list(_commands(exam))
        replies = await link.call(commands)
        if b"QUEUED" not in replies:
            raise Unknown("the server, or what stands before it, knows no transactions")
    finally:
        await link.close()
    missing: dict[str, None] = {}
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ResponseError) and "permission" in str(reply).lower():
            missing[_what_is_missing(command, str(reply), exam.config.redis.key_prefix)] = None
    user = str(connection_arguments(exam.config.redis.url).get("username") or "default")
    if not missing:
        return [well(f"{user} may do all that a worker does")]
    names = list(missing)
    return [
        found(
            "may-not",
            f"The user {user} may not do all that a worker does: {few(names)}",
            f"{exam.redis_cli('ACL', 'SETUSER', user, *names)}; docs/redis.md has the whole line",
        )
    ]


def _commands(exam: Examination) -> Iterator[tuple[Any, ...]]:
    config = exam.config
    yield from _WITHOUT_KEYS
    if config.worker.delivery == "at-most-once":
        yield from _OF_PLAIN_DELIVERY
    own = config.redis.key_prefix + PROBE
    for name, *rest in _ON_A_KEY:
        yield (name, own, *rest)
    yield ("BLMOVE", own, own, "RIGHT", "RIGHT", 1)
    if config.worker.delivery == "at-most-once":
        yield ("BRPOP", own, 1)
    # A key is read and written by one command that leaves it as it is.
    for level in config.queues:
        yield ("LREM", level.name, 0, PROBE)
    for prefix in (RESULT_PREFIX, ASSIGNMENT_PREFIX, HEARTBEAT_PREFIX):
        yield ("DEL", prefix + PROBE)
        yield ("GET", prefix + PROBE)
    for channel in (CHANNEL, HEARTBEAT_CHANNEL, f"{config.redis.key_prefix}control"):
        yield ("PUBLISH", channel, "")
    yield ("SUBSCRIBE", f"{config.redis.key_prefix}control")


def _what_is_missing(command: tuple[Any, ...], refusal: str, prefix: str) -> str:
    # "User u has no permissions to run the 'lpop' command", ".. to access one of the keys ..", ".. of the channels ..".
    run = re.search(r"to run the '([^']+)' command", refusal)
    if run is not None:
        return f"+{run[1]}"
    name = str(command[1])
    for start in (RESULT_PREFIX, ASSIGNMENT_PREFIX, HEARTBEAT_PREFIX, prefix):
        if start and name.startswith(start) and "channel" not in refusal:
            return f"~{start}*"
    return f"&{name}" if "channel" in refusal else f"~{name}"
