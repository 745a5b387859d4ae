"""Looking at what waits, is delayed or dead, page by page, at a cost that does not depend on how much there is."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from aworker.config import Config, QueueConfig
from aworker.keys import Keys
from aworker.queues.hand.dead_letters import DeadLetter
from aworker.queues.hand.ends import is_taken_from_left
from aworker.queues.scripts import LOOK, Script
from aworker.task import salvage_identity

PAGE = 25
CUT_BYTES = 2_048
NEWEST = "+"


class Entry(msgspec.Struct, frozen=True):
    """One payload, perhaps cut."""

    task_id: str | None
    task_type: str
    payload: bytes
    payload_bytes: int
    """Of the whole."""
    queue: str = ""
    """Label of the level that it waits on or goes back to."""
    due_s: float | None = None


class Shelf(msgspec.Struct, frozen=True):
    """One page of something."""

    total: int
    entries: list[Entry]


class DeadShelf(msgspec.Struct, frozen=True):
    """One page of dead letters, the newest first."""

    total: int
    letters: list[DeadLetter]
    payload_bytes: list[int]
    """Of each letter's whole payload."""
    older: str
    """Where the next page begins; empty on the last."""


async def ask(client: Any, commands: list[tuple[Any, ...]], *needed: Script) -> list[Any]:
    """Send commands in one round trip; load the scripts they need where the server does not know them."""
    for is_last in (False, True):
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        missing = any(isinstance(reply, NoScriptError) for reply in replies)
        if not missing or is_last:
            break
        for script in needed:
            await client.script_load(script.text)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return replies


def look_command(key: str, kind: str, start: int | str, count: int, cut_bytes: int = CUT_BYTES) -> tuple[Any, ...]:
    """Return the command that looks at a few entries."""
    return LOOK.command([key], [kind, start, count, cut_bytes])


async def look_at_waiting(client: Any, config: Config, level: QueueConfig, start: int, count: int = PAGE) -> Shelf:
    """Return tasks of a level, the next one first."""
    keys = Keys(config.redis.key_prefix)
    length, *ends = await ask(client, [("LLEN", level.name), *end_commands(keys, level.name)], LOOK)
    from_left = taken_from_left(config, level.name, ends)
    first = start if from_left else max(0, length - start - count)
    most = count if from_left else max(0, min(count, length - start))
    (reply,) = await ask(client, [look_command(level.name, "list", first, most)], LOOK)
    entries = [_entry(payload, size, level.label) for _, size, payload in _rows(reply, 3)]
    return Shelf(int(reply[0]), entries if from_left else entries[::-1])


async def look_at_delayed(client: Any, config: Config, start: int, count: int = PAGE) -> Shelf:
    """Return delayed tasks, the next due first."""
    key = Keys(config.redis.key_prefix).delayed
    (reply,) = await ask(client, [look_command(key, "delayed", start, count)], LOOK)
    entries = []
    for due_ms, size, member in _rows(reply, 3):
        head, _, payload = member.partition(b"\n")
        queue = head.decode("utf-8", "replace").partition('"')[2].partition('"')[0]
        entries.append(_entry(payload, size - len(head) - 1, config.label_of(queue), float(due_ms) / 1000))
    return Shelf(int(reply[0]), entries)


async def look_at_dead(
    client: Any, config: Config, start: str = NEWEST, count: int = PAGE, cut_bytes: int = CUT_BYTES
) -> DeadShelf:
    """Return dead letters from an entry's id on, going back in time, each payload cut."""
    key = Keys(config.redis.key_prefix).dead
    # One more than is shown: where the next page begins.
    (reply,) = await ask(client, [look_command(key, "dead", start, count + 1, cut_bytes)], LOOK)
    rows = _rows(reply, 4)
    letters = [_letter(entry_id, payload, rest) for entry_id, _, payload, rest in rows[:count]]
    older = rows[count][0].decode() if len(rows) > count else ""
    return DeadShelf(int(reply[0]), letters, [size for _, size, _, _ in rows[:count]], older)


def end_commands(keys: Keys, name: str, cut_bytes: int = 16_384) -> list[tuple[Any, ...]]:
    """Return the commands that `taken_from_left` wants the replies of."""
    return [
        ("HMGET", keys.ends, name, f"moved {name}"),
        look_command(name, "list", 0, 1, cut_bytes),
        look_command(name, "list", -1, 1, cut_bytes),
    ]


def taken_from_left(config: Config, name: str, replies: list[Any]) -> bool:
    """Whether the next claim takes from a list's left end."""
    noted, left, right = replies
    return is_taken_from_left(config, name, noted, _whole(left), _whole(right))


def next_payload(config: Config, name: str, replies: list[Any]) -> bytes | None:
    """Return the payload that is taken next; None where there is none or it is too large to look at."""
    return _whole(replies[1] if taken_from_left(config, name, replies) else replies[2])


def _whole(reply: list[Any]) -> bytes | None:
    if len(reply) < 4 or reply[2] != len(reply[3]):
        return None
    payload: bytes = reply[3]
    return payload


def _rows(reply: list[Any], width: int) -> list[Any]:
    return [reply[at : at + width] for at in range(1, len(reply), width)]


def _entry(payload: bytes, size: int, label: str, due_s: float | None = None) -> Entry:
    task_id, task_type, _ = salvage_identity(payload)
    return Entry(task_id, task_type, payload, size, label, due_s)


def _letter(entry_id: bytes, payload: bytes, rest: list[bytes]) -> DeadLetter:
    fields = dict(zip(rest[::2], rest[1::2], strict=True))
    return DeadLetter.of(entry_id, {**fields, b"payload": payload})
