"""Which end of a list the next task is taken from, for those who only look; a claim decides it by the same words.

What was put where its age does not belong (promoted, demoted, out of the dead letters) is noted, so that it turns no
list around when it stands at one of its ends.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from aworker.clock import parse_rfc3339
from aworker.config import Config
from aworker.keys import Keys


def questions(keys: Keys, name: str) -> list[tuple[Any, ...]]:
    """Return the commands whose replies `is_taken_from_left` wants."""
    return [
        ("HMGET", keys.ends, name, f"moved {name}"),
        ("LINDEX", name, 0),
        ("LINDEX", name, -1),
    ]


def is_taken_from_left(config: Config, name: str, noted: list[Any], left: Any, right: Any) -> bool:
    """Whether the next claim takes from a list's left end.

    ``noted`` is the reply to the first of `questions`; ``left`` and ``right`` are the payloads at the ends, or None.
    """
    take_from = next((queue.take_from for queue in config.queues if queue.name == name), "auto")
    if take_from != "auto" or config.worker.delivery == "at-most-once":
        return take_from == "left" and config.worker.delivery == "leased"
    kept, moved = (b"" if value is None else as_bytes(value) for value in noted)
    from_left = kept.startswith(b"left")
    if left is None or right is None:
        return from_left
    ends = (as_bytes(left), as_bytes(right))
    if moved and any(hashlib.sha1(end, usedforsecurity=False).hexdigest().encode() in moved for end in ends):
        return from_left
    # As the next claim will: the end that is kept may be that of an earlier filling.
    at_left, at_right = map(_created_at, ends)
    if at_left is None or at_right is None or at_left == at_right:
        return from_left
    return at_left < at_right


def as_bytes(value: Any) -> bytes:
    """Return a reply as bytes, whether the client decodes or not."""
    return value.encode() if isinstance(value, str) else bytes(value)


def _created_at(payload: bytes) -> float | None:
    try:
        task = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    created_at = task.get("created_at") if isinstance(task, dict) else None
    return parse_rfc3339(created_at) if isinstance(created_at, str) else None
