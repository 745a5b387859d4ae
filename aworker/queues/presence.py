"""What a worker says of itself for whoever watches, written beside its heartbeat and read by all who show workers.

Beside `Presence` stands the last hour by minute, in one hash: each worker adds what it took and ended since its last
beat. Invariant: all of it is bounded, whatever tasks are called and however many types and workers there are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aworker.keys import Keys
from aworker.metrics import BUCKETS_S

TTL_S = 30
"""As long as a heartbeat stands."""
REMEMBERED_S = 600
"""How long the name of a worker that left without a word is kept."""
MINUTES = 60
RUNNING_MOST = 50
TYPES_MOST = 50
HELD_MOST = 5
ID_MOST = 200


class RunningTask(msgspec.Struct, array_like=True):
    """A task that runs; a long id is cut."""

    task_id: str
    task_type: str
    queue: str
    delivery: int
    started_at_s: float


class EndedTask(msgspec.Struct, array_like=True):
    """A delivery that ended a moment ago."""

    task_id: str
    task_type: str
    queue: str
    outcome: str
    run_s: float
    ended_at_s: float


class HeldLoop(msgspec.Struct, array_like=True):
    """A task type whose handler held the loop for long."""

    task_type: str
    longest_s: float
    times: int
    """Within an hour or so."""
    at_s: float
    """The last time."""


class TypeCounts(msgspec.Struct):
    """What one worker did with a task type since it started; durations by the bounds of `BUCKETS_S`."""

    ended: dict[str, int] = {}
    """Outcome to number."""
    wait: dict[int, int] = {}
    """Index of the bucket to number."""
    run: dict[int, int] = {}


class Presence(msgspec.Struct, omit_defaults=True):
    """One worker, as it was at ``at_s``."""

    worker_id: str
    at_s: float
    version: str = ""
    host: str = ""
    pid: int = 0
    delivery: str = ""
    config_hash: str = ""
    """Of the configuration in force."""
    claim_age_s: float = 0.0
    """Since Redis last answered a claim of it."""
    started_at_s: float = 0.0
    slots: int = 0
    busy: int = 0
    reserved: dict[str, int] = {}
    """Slots in effect, by level."""
    limits: dict[str, int] = {}
    """Most tasks of a type that it runs at once."""
    children: dict[str, int] = {}
    """``busy``, ``idle``, ``spare``, ``died``, ``killed``; empty without a pool, or before a task has needed one."""
    is_draining: bool = False
    loop_lag_s: float = 0.0
    running: list[RunningTask] = []
    """Those that began first, at most 50."""
    recent: list[EndedTask] = []
    types: dict[str, TypeCounts] = {}
    """The 50 busiest."""
    held: list[HeldLoop] = []
    """The five that held the loop longest."""

    @property
    def alive_children(self) -> int:
        """Children that take calls or could."""
        return sum(self.children.get(name, 0) for name in ("busy", "idle", "spare"))

    @property
    def children_ended(self) -> int:
        """Children that died or were killed."""
        return self.children.get("died", 0) + self.children.get("killed", 0)


class Minute(msgspec.Struct):
    """What happened on a level within one minute, over all workers."""

    waiting: int = 0
    """As it was last counted."""
    taken: int = 0
    completed: int = 0
    failed: int = 0


_decode = msgspec.json.Decoder(Presence).decode


def decode_presence(text: bytes | None) -> Presence | None:
    """Read what a worker wrote; None where it is not there or in other words."""
    try:
        return None if text is None else _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_minutes(fields: dict[bytes, bytes], now_s: float) -> dict[str, list[Minute | None]]:
    """Return the last 60 minutes of each level, the running one last; None where nothing was counted."""
    this = int(now_s // 60)
    table: dict[str, list[Minute | None]] = {}
    for field, value in fields.items():
        label = field.decode("utf-8", "replace").partition(" ")[2]
        try:
            minute, *counts = map(int, value.split())
            ago = this - minute
            if 0 <= ago < MINUTES:
                table.setdefault(label, [None] * MINUTES)[MINUTES - 1 - ago] = Minute(*counts)
        except (ValueError, TypeError):
            continue  # somebody else's words
    return table


def beat_command_parts(keys: Keys, presence: Presence, levels: dict[str, Minute]) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of ``beat.lua``."""
    names = [keys.presence(presence.worker_id), keys.beats, keys.minutes]
    arguments: list[Any] = [presence.worker_id, msgspec.json.encode(presence), TTL_S, REMEMBERED_S, ""]
    for label, minute in levels.items():
        arguments += (label, minute.waiting, minute.taken, minute.completed, minute.failed)
    return names, arguments


def percentile(counts: dict[int, int], part: float) -> float | None:
    """Return the bound below which ``part`` of the durations lie, within its bucket in proportion; None without any."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, below = total * part, 0
    for index in sorted(counts):
        if below + counts[index] >= wanted:
            low = BUCKETS_S[index - 1] if 0 < index <= len(BUCKETS_S) else 0.0
            high = BUCKETS_S[index] if index < len(BUCKETS_S) else low
            return low + (high - low) * (wanted - below) / counts[index]
        below += counts[index]
    return BUCKETS_S[-1]
