"""The numbers: two round trips to Redis, three where a worker does not say what it holds."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import msgspec

from aworker.clock import parse_rfc3339
from aworker.config import Config
from aworker.keys import Keys
from aworker.queues.hand.look import ask, end_commands, look_command, next_payload
from aworker.queues.pauses import Pauses, read_pauses
from aworker.queues.presence import (
    REMEMBERED_S,
    EndedTask,
    Minute,
    Presence,
    RunningTask,
    TypeCounts,
    decode_presence,
    percentile,
    read_minutes,
)
from aworker.queues.scripts import LOOK

WORKERS_MOST = 1_000
SILENT_S = 15.0
"""Three beats missed."""
LAG_S = 5.0
"""A loop that has not turned for longer is blocked."""
RATE_MINUTES = 5
AGE_MOST_S = 86_400.0
"""A task that says it is older counts as one that does not say when it was made."""
_PER_LEVEL = 4


class Level(msgspec.Struct):
    """One level of the queues."""

    label: str
    name: str
    length: int
    oldest_s: float | None
    paused_since_s: float | None
    minutes: list[Minute | None]
    in_per_minute: float | None
    out_per_minute: float | None


class Worker(msgspec.Struct):
    """One worker; ``said`` is None for one that says nothing of itself: of another version, or gone."""

    worker_id: str
    silent_s: float
    said: Presence | None
    leases: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether it has missed three beats."""
        return self.silent_s > SILENT_S

    @property
    def state(self) -> Literal["serves", "drains", "blocked", "silent"]:
        """What it does, in a word."""
        if self.is_gone:
            return "silent"
        if self.said is not None and self.said.loop_lag_s > LAG_S:
            return "blocked"
        return "drains" if self.said is not None and self.said.is_draining else "serves"


class TypeRow(msgspec.Struct):
    """One task type over all live workers, since each of them started."""

    name: str
    running: int
    limit: int
    completed: int
    failed: int
    others: int
    wait: tuple[float | None, float | None]
    """p50 and p95."""
    run: tuple[float | None, float | None]
    paused_since_s: float | None

    @property
    def failure_share(self) -> float | None:
        """Of those that completed or failed."""
        ended = self.completed + self.failed
        return self.failed / ended if ended else None


class Snapshot(msgspec.Struct):
    """All of it, at the server's ``now_s``."""

    now_s: float
    levels: list[Level]
    workers: list[Worker]
    delayed: int
    dead: int
    last_dead_s: float | None
    """Since the newest dead letter."""
    types: list[TypeRow]
    recent: list[tuple[str, EndedTask]]
    """Worker and task, the newest first."""
    pauses: Pauses

    @property
    def alive(self) -> list[Worker]:
        """Workers that beat."""
        return [worker for worker in self.workers if not worker.is_gone]

    @property
    def running(self) -> list[tuple[str, RunningTask]]:
        """What runs, the longest first; at most 50 of each worker."""
        found = [(w.worker_id, task) for w in self.alive if w.said for task in w.said.running]
        return sorted(found, key=lambda one: one[1].started_at_s)

    @property
    def busy(self) -> int:
        """Slots that run a task, on all live workers."""
        return sum(worker.said.busy if worker.said else worker.leases for worker in self.alive)

    @property
    def slots(self) -> int:
        """Slots of all live workers."""
        return sum(worker.said.slots for worker in self.alive if worker.said)

    @property
    def limits(self) -> dict[str, int]:
        """The most tasks of a type that one worker runs, as the workers say."""
        return {name: limit for w in self.alive if w.said for name, limit in w.said.limits.items()}


async def take(client: Any, config: Config) -> Snapshot:
    """Ask Redis for the overview."""
    keys = Keys(config.redis.key_prefix)
    commands: list[tuple[Any, ...]] = [
        ("TIME",),
        ("ZCARD", keys.delayed),
        look_command(keys.dead, "dead", "+", 1, 1),
        ("HGETALL", keys.paused),
        ("HGETALL", keys.minutes),
        ("ZREVRANGE", keys.beats, 0, WORKERS_MOST - 1, "WITHSCORES"),
        ("ZREVRANGE", keys.workers, 0, WORKERS_MOST - 1, "WITHSCORES"),
    ]
    for level in config.queues:
        commands += [("LLEN", level.name), *end_commands(keys, level.name)]
    time, delayed, dead, paused, minutes, beats, leased, *ends = await ask(client, commands, LOOK)
    now_s = float(time[0]) + float(time[1]) / 1e6
    pauses = read_pauses(_pairs(paused))
    workers = await _workers(client, keys, now_s, _pairs(beats), _pairs(leased))
    table = read_minutes(dict(_pairs(minutes)), now_s)
    levels = []
    for index, level in enumerate(config.queues):
        length, *replies = ends[index * _PER_LEVEL : (index + 1) * _PER_LEVEL]
        row = table.get(level.label, [None] * 60)
        age_s = _age_s(next_payload(config, level.name, replies), now_s)
        since_s = pauses.queues.get(level.name)
        levels.append(Level(level.label, level.name, length, age_s, since_s, row, *_rates(row)))
    last_dead_s = now_s - int(dead[1].partition(b"-")[0]) / 1000 if len(dead) > 1 else None
    alive = [worker.said for worker in workers if worker.said is not None and not worker.is_gone]
    recent = [(said.worker_id, task) for said in alive for task in said.recent]
    recent.sort(key=lambda one: -one[1].ended_at_s)
    rows = _types(alive, pauses)
    return Snapshot(now_s, levels, workers, delayed, int(dead[0]), last_dead_s, rows, recent[:12], pauses)


async def _workers(
    client: Any, keys: Keys, now_s: float, beats: list[tuple[bytes, bytes]], leased: list[tuple[bytes, bytes]]
) -> list[Worker]:
    silent = {name.decode("utf-8", "replace"): max(0.0, now_s - float(at)) for name, at in beats}
    for name, deadline_ms in leased:
        # One of a version that says nothing of itself, or whose tasks nobody has reclaimed.
        silent.setdefault(name.decode("utf-8", "replace"), max(0.0, now_s - float(deadline_ms) / 1000))
    names = [name for name, silent_s in silent.items() if silent_s <= REMEMBERED_S]
    if not names:
        return []
    (texts,) = await ask(client, [("MGET", *(keys.presence(name) for name in names))])
    found = [Worker(name, silent[name], decode_presence(text)) for name, text in zip(names, texts, strict=True)]
    mute = [worker for worker in found if worker.said is None or worker.is_gone]
    if mute:
        counts = await ask(client, [("HLEN", keys.leases(worker.worker_id)) for worker in mute])
        for worker, count in zip(mute, counts, strict=True):
            worker.leases = count
    return sorted(found, key=lambda one: (one.is_gone, one.said.host if one.said else "~", one.worker_id))


def _types(alive: list[Presence], pauses: Pauses) -> list[TypeRow]:
    totals: dict[str, TypeCounts] = {}
    limits: dict[str, int] = {}
    running: Counter[str] = Counter()
    for said in alive:
        running.update(task.task_type for task in said.running)
        for name, limit in said.limits.items():
            limits[name] = limits.get(name, 0) + limit
        for name, counts in said.types.items():
            total = totals.setdefault(name, TypeCounts({}, {}, {}))
            _add(total.ended, counts.ended)
            _add(total.wait, counts.wait)
            _add(total.run, counts.run)
    rows = []
    for name in sorted({*totals, *running, *pauses.task_types}):
        total = totals.get(name, TypeCounts())
        completed = total.ended.get("completed", 0)
        failed = total.ended.get("failed", 0) + total.ended.get("rejected", 0)
        rows.append(
            TypeRow(
                name,
                running[name],
                limits.get(name, 0),
                completed,
                failed,
                sum(total.ended.values()) - completed - failed,
                (percentile(total.wait, 0.5), percentile(total.wait, 0.95)),
                (percentile(total.run, 0.5), percentile(total.run, 0.95)),
                pauses.task_types.get(name),
            )
        )
    return rows[:100]


def _add(total: dict[Any, int], more: dict[Any, int]) -> None:
    for key, count in more.items():
        total[key] = total.get(key, 0) + count


def _rates(row: list[Minute | None]) -> tuple[float | None, float | None]:
    # Whole minutes alone: the one that runs is not over. What came in is what was taken and what there is more of than
    # at the end of the minute before.
    known = [minute for minute in row[-RATE_MINUTES - 2 : -1] if minute is not None]
    if len(known) < 2:
        return None, (float(known[0].taken) if known else None)
    taken = sum(minute.taken for minute in known[1:])
    grown = known[-1].waiting - known[0].waiting
    return max(0.0, (taken + grown) / (len(known) - 1)), taken / (len(known) - 1)


def _age_s(payload: bytes | None, now_s: float) -> float | None:
    try:
        task = msgspec.json.decode(payload or b"")
        created_at_s = parse_rfc3339(task["created_at"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError, AttributeError):
        return None
    age_s = None if created_at_s is None else now_s - created_at_s
    return age_s if age_s is not None and 0 <= age_s <= AGE_MOST_S else None


def _pairs(reply: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(reply, dict):
        return list(reply.items())
    if reply and isinstance(reply[0], tuple):
        return list(reply)
    return list(zip(reply[::2], reply[1::2], strict=True))
