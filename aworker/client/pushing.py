"""Tasks that are more than a plain push: for later, once for a key, for a tick of a schedule. One script does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from aworker.client.later import Due
from aworker.config import Config
from aworker.errors import PayloadInvalid, QueueUnavailable
from aworker.keys import ASSIGNMENT_PREFIX, CHANNEL, RESULT_PREFIX, Keys
from aworker.outcome import Enqueued
from aworker.queues import records
from aworker.queues.hand.find import run_script
from aworker.queues.scripts import ENQUEUE

AT_ONCE = 500
KEY_LONGEST = 512
TASK_ID_LONGEST = 200
FOR_LONGEST_S = 315_360_000.0
UNTIL_S = 604_800.0
"""How long a key stands at most that is held until its task has started or ended: a net, a week wide."""

Until = Literal["started", "ended", "time"]
Conflict = Literal["keep", "replace", "stop"]
Status = Literal["new", "kept", "ticked", "paused"]


class Unique(msgspec.Struct, frozen=True):
    """A key that at most one task has."""

    key: str
    until: Until = "ended"
    for_s: float = UNTIL_S
    on_conflict: Conflict = "keep"
    """``keep``: the task that is there; ``replace``: a waiting one by the new one; ``stop``: a running one too."""


class Tick(msgspec.Struct, frozen=True):
    """One instant of a schedule."""

    schedule: str
    at_ms: int


class Push(msgspec.Struct, frozen=True):
    """One task to be put onto its list, now or later."""

    task_id: str
    queue: str
    payload: bytes
    due: Due | None = None
    unique: Unique | None = None
    tick: Tick | None = None


class Pushed(msgspec.Struct, frozen=True):
    """What became of it."""

    status: Status
    task_id: str
    """Of the new task, or of the one that its key has."""


async def push(client: Any, config: Config, pushes: Sequence[Push]) -> list[Pushed]:
    """Enqueue tasks, each in one step. Raises RedisError, OSError, and QueueUnavailable for a list that is none."""
    pushed: list[Pushed] = []
    for start in range(0, len(pushes), AT_ONCE):
        some = pushes[start : start + AT_ONCE]
        reply = await _run(client, config, [value for one in some for value in _item(one)])
        for one, status, task_id in zip(some, reply[::2], reply[1::2], strict=True):
            if status == b"wrong":
                raise QueueUnavailable(f"{one.queue} must be a list, is a key of another type; rename or delete it")
            pushed.append(Pushed(status.decode(), task_id.decode("utf-8", "replace")))
    return pushed


async def push_at_once(client: Any, config: Config, tasks: Sequence[Enqueued]) -> list[str]:
    """Enqueue tasks, all in one step; what became of each. Raises RedisError and OSError."""
    reply = await _run(client, config, [value for one in tasks for value in (*one.arguments(), "", 0)])
    return [status.decode() for status in reply[::2]]


async def _run(client: Any, config: Config, items: list[Any]) -> list[Any]:
    keys = Keys(config.redis.key_prefix)
    names = [
        keys.delayed,
        keys.lease_id,
        keys.schedules,
        keys.claimed,
        keys.deliveries,
        keys.cancelled,
        keys.paused,
    ]
    reply: list[Any] = await run_script(client, ENQUEUE, names, [*_head(config, keys), *items])
    return reply


def checked_unique(unique: Unique, task_id: str) -> Unique:
    """Return a key that can be had. Raises PayloadInvalid."""
    key, for_s = unique.key, unique.for_s
    if not isinstance(key, str) or not key or len(key.encode("utf-8", "replace")) > KEY_LONGEST:
        raise PayloadInvalid(f"unique_key must be a text of 1 to {KEY_LONGEST} bytes, was {key!r}; shorten it")
    if isinstance(for_s, bool) or not isinstance(for_s, (int, float)) or not 0.001 <= for_s <= FOR_LONGEST_S:
        raise PayloadInvalid(f"unique_for_s must be 0.001 to {FOR_LONGEST_S:,.0f} seconds, was {for_s!r}; correct it")
    if len(task_id.encode("utf-8", "replace")) > TASK_ID_LONGEST or any(c in '"\\' or ord(c) < 32 for c in task_id):
        raise PayloadInvalid(
            f"task_id must be at most {TASK_ID_LONGEST} bytes without quote, backslash and control character "
            f"where there is a unique_key, was {task_id!r}; name it otherwise"
        )
    return unique


def _head(config: Config, keys: Keys) -> list[Any]:
    replaced = records.replaced(config.queues[-1].label, also_failed=config.results.publish_failed)
    messages = replaced.messages if config.results.publish else ()
    return [
        "",
        keys.control,
        keys.unique(""),
        RESULT_PREFIX,
        ASSIGNMENT_PREFIX,
        config.results.ttl_s,
        CHANNEL,
        replaced.record,
        *messages,
        *[b""] * (2 - len(messages)),
        keys.groups,
    ]


def enqueued(task_id: str, queue: str, payload: bytes, due: Due | None, unique: Unique | None) -> Enqueued:
    """Return a task as it is put where it waits."""
    how, ms = ("now", 0) if due is None else (due.how, due.ms)
    if unique is None:
        return Enqueued(task_id, queue, payload, how, ms)
    key_ms = _ms(unique.for_s)
    return Enqueued(task_id, queue, payload, how, ms, unique.key, unique.until, key_ms, unique.on_conflict)


def _item(one: Push) -> list[Any]:
    tick = one.tick
    return [
        *enqueued(one.task_id, one.queue, one.payload, one.due, one.unique).arguments(),
        *(("", 0) if tick is None else (tick.schedule, tick.at_ms)),
    ]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
