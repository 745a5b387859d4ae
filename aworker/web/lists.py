"""What Redis holds, for a scrape: three round trips, at a cost that does not depend on how much there is."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from aworker.clock import now_s, parse_rfc3339
from aworker.config import Config
from aworker.queues.hand.look import look_command
from aworker.queues.queue import Queue
from aworker.queues.scripts import LOOK

NEAR = 50
"""Tasks next to each end of a list whose age is looked at: all, where no more than twice as many wait."""


class Lists(msgspec.Struct, frozen=True):
    """Lengths and ages."""

    lengths: dict[str, int] = {}
    """By label, and ``leased``, ``delayed``, ``dead``."""
    ages_s: dict[str, float] = {}
    """By label, how long the oldest task has waited since its ``created_at``; 0 where none waits."""


async def look(queue: Queue, config: Config) -> Lists:
    """Ask Redis for lengths and ages. Raises AworkerError and RedisError."""
    lengths = await queue.lengths()
    replies = await _created(queue, [level.name for level in config.queues])
    ages_s = {}
    for level, reply in zip(config.queues, replies, strict=True):
        if not lengths.get(level.label):
            ages_s[level.label] = 0.0
        elif not isinstance(reply, BaseException) and (age_s := _oldest_s(reply[1:])) is not None:
            ages_s[level.label] = age_s
    return Lists(lengths, ages_s)


async def _created(queue: Queue, names: list[str]) -> list[Any]:
    # A server without scripts, or a key of another type, has no age.
    commands = [look_command(name, "created", 0, NEAR) for name in names]
    replies = await queue.ask_for_advice(commands)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        await queue.ask_for_advice([("SCRIPT", "LOAD", LOOK.text)])
        replies = await queue.ask_for_advice(commands)
    return replies


def _oldest_s(texts: list[bytes]) -> float | None:
    instants = [parse_rfc3339(text.decode("utf-8", "replace")) for text in texts]
    known = [instant for instant in instants if instant is not None]
    return max(0.0, now_s() - min(known)) if known else None
