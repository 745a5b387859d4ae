"""The queue's scripts, called one by one with a clock of the caller's, and where every payload is afterwards."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from aworker.keys import ASSIGNMENT_PREFIX, ASSIGNMENT_TTL_S, CHANNEL, HEARTBEAT_CHANNEL, RESULT_PREFIX, Keys
from aworker.queues import scripts

PRIORITY = "strategy_queue_priority"
NORMAL = "strategy_queue"
NOW_MS = 1_790_000_000_000
TTL_MS = 5_000


class Level(NamedTuple):
    """One level as a claim names it."""

    name: str
    promote_ms: int = 0
    take_from: str = "auto"
    below: int = -1
    asked: bool = True
    cursor: int = 0


BOTH = (Level(PRIORITY), Level(NORMAL))
ONE = (Level(NORMAL),)


class Claimed(NamedTuple):
    """One lease of a claim's reply."""

    lease_id: int
    level: int
    delivery: int
    suspicion: str
    registered: str
    payload: bytes


class ClaimReply(NamedTuple):
    """A claim's reply."""

    claims: list[Claimed]
    states: list[str]
    cursors: list[int]
    passed: list[int]

    @property
    def payloads(self) -> list[bytes]:
        """What was claimed, in order."""
        return [claim.payload for claim in self.claims]


class Reclaimed(NamedTuple):
    """One lease of a reclaim's reply."""

    lease_id: int
    delivery: int
    queue: str
    registered: str
    payload: bytes


class New(NamedTuple):
    """One task of an enqueue, as the script reads it."""

    how: str
    ms: int
    queue: str
    payload: bytes
    task_id: str = ""
    key: str = ""
    until: str = "ended"
    key_ms: int = 604_800_000
    conflict: str = "keep"
    schedule: str = ""
    tick_ms: int = 0


REPLACED = b'{"task_id":"$TASK$","status":"error"}'


def also(task_id: str = "", *news: New, member: tuple[str, int, str] | None = None) -> tuple[Any, ...]:
    """Return what goes with an ended task in the same step, as the settle script reads it."""
    head = ("aworker:lease_id", "aworker:cancelled", "aworker:control", "aworker:unique:", "aworker:group")
    extras = (*head, REPLACED, b"", b"", *(member or ("", "", "")), *(value for new in news for value in new[:9]))
    return ("also", 0, task_id, "", b"", 0, len(extras), *extras)


class Item(NamedTuple):
    """One item of a settle."""

    kind: str
    lease_id: int
    task_id: str = ""
    registered: str = ""
    record: bytes = b""
    messages: tuple[bytes, ...] = ()
    extras: tuple[Any, ...] = ()
    news: tuple[New, ...] = ()
    """What it enqueued."""
    member: tuple[str, int, str] | None = None
    """Group, number and status of the member of a group that ended with it."""


def task(task_id: str, created_at: str = "2026-09-21T14:13:20Z", **fields: Any) -> bytes:
    """Return a payload in the field order of the Python producers."""
    whole = {"task_id": task_id, "task_type": "backtest", "args": {}, "created_at": created_at, "priority": "normal"}
    return json.dumps({**whole, **fields}).encode()


class QueueScripts:
    """A server's queues, spoken to by hand."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self.keys = Keys("aworker:")
        self.max_entries = 10_000
        self.max_bytes = 268_435_456
        self._numbers: Counter[str] = Counter()

    def __enter__(self) -> QueueScripts:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def fill_server(self) -> None:
        """Let the server refuse every plain write: it may use less memory than it does."""
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", 1)

    def claim(
        self,
        worker: str = "w1",
        want: int = 1,
        levels: Sequence[Level] = BOTH,
        *,
        limits: dict[str, Any] | None = None,
        now_ms: int = NOW_MS,
        number: int | None = None,
    ) -> ClaimReply:
        arguments: list[Any] = [worker, TTL_MS, now_ms, self._number(worker, number), RESULT_PREFIX, want]
        arguments.append(json.dumps(limits) if limits else "")
        for level in levels:
            arguments += (level.promote_ms, level.take_from, level.below, "1" if level.asked else "0", level.cursor)
        keys = self.keys
        names = [
            keys.workers,
            keys.leases(worker),
            keys.deliveries,
            keys.lease_id,
            keys.ends,
            keys.commits(worker),
            keys.claimed,
            *(level.name for level in levels),
        ]
        reply = self._run(scripts.CLAIM, names, arguments)
        count = reply[0]
        claims = [
            Claimed(
                int(reply[at]),
                int(reply[at + 1]),
                int(reply[at + 2]),
                reply[at + 3].decode(),
                reply[at + 4].decode(),
                reply[at + 5],
            )
            for at in range(1, 1 + 6 * count, 6)
        ]
        states = reply[1 + 6 * count :]
        cursors = [int(cursor) for cursor in states[1::3]]
        return ClaimReply(claims, [state.decode() for state in states[::3]], cursors, states[2::3])

    def settle(
        self, *items: Item, worker: str = "w1", now_ms: int = NOW_MS, number: int | None = None
    ) -> tuple[int, list[int]]:
        """Return how many dead letters fell off, and a flag for each item."""
        arguments: list[Any] = [
            worker,
            now_ms,
            self._number(worker, number),
            86_400,
            CHANNEL,
            self.max_entries,
            self.max_bytes,
            ASSIGNMENT_TTL_S,
            RESULT_PREFIX,
            ASSIGNMENT_PREFIX,
        ]
        for item in items:
            arguments += (item.kind, item.lease_id, item.task_id, item.registered, item.record)
            arguments += (len(item.messages), *item.messages, len(item.extras), *item.extras)
            if item.news or item.member:
                arguments += also(item.task_id, *item.news, member=item.member)
        keys = self.keys
        names = [
            keys.leases(worker),
            keys.deliveries,
            keys.claimed,
            keys.ends,
            keys.commits(worker),
            keys.dead,
            keys.dead_bytes,
            keys.delayed,
        ]
        fallen, *flags = self._run(scripts.SETTLE, names, arguments)
        return fallen, flags

    def reclaim(
        self, worker: str = "w2", *, now_ms: int = NOW_MS + TTL_MS + 1, most: int = 100
    ) -> tuple[str, list[Reclaimed]]:
        """Return the dead worker's name and its leases."""
        keys = self.keys
        names = [keys.workers, keys.leases(worker), keys.deliveries, keys.lease_id, keys.claimed]
        reply = self._run(scripts.RECLAIM, names, [worker, TTL_MS, now_ms, most, keys.leases(""), keys.commits("")])
        leases = [
            Reclaimed(int(reply[at]), int(reply[at + 1]), reply[at + 2].decode(), reply[at + 3].decode(), reply[at + 4])
            for at in range(1, len(reply), 5)
        ]
        return reply[0].decode(), leases

    def renew(self, worker: str = "w1", *, now_ms: int = NOW_MS, heartbeat: bytes = b"") -> list[float]:
        """Return now, whether the deadline stood, leases held, the earliest other deadline, the earliest due time."""
        keys = self.keys
        names = [keys.workers, keys.leases(worker), keys.delayed, f"worker_heartbeat:{worker}"]
        reply = self._run(scripts.RENEW, names, [worker, TTL_MS, now_ms, HEARTBEAT_CHANNEL, 30, heartbeat])
        return [float(value) for value in reply]

    def enqueue(self, *tasks: New, now_ms: int = NOW_MS) -> list[tuple[str, str]]:
        """Enqueue by the script; return for each what became of it and the task_id in effect."""
        keys = self.keys
        names = [
            keys.delayed,
            keys.lease_id,
            keys.schedules,
            keys.claimed,
            keys.deliveries,
            keys.cancelled,
            keys.paused,
        ]
        head = [now_ms, keys.control, keys.unique(""), RESULT_PREFIX, ASSIGNMENT_PREFIX, 86_400, CHANNEL]
        arguments = [*head, REPLACED, b"", b"", keys.groups, *(value for task in tasks for value in task)]
        reply = self._run(scripts.ENQUEUE, names, arguments)
        return [(status.decode(), task_id.decode()) for status, task_id in zip(reply[::2], reply[1::2], strict=True)]

    def due(self, *, now_ms: int = NOW_MS, most: int = 1000, levels: Sequence[Level] = ()) -> int:
        """Return how many delayed tasks went onto their lists."""
        return self.due_and_next(now_ms=now_ms, most=most, levels=levels)[0]

    def due_and_next(self, *, now_ms: int = NOW_MS, most: int = 1000, levels: Sequence[Level] = ()) -> tuple[int, int]:
        """Return how many went onto their lists, and in how many ms the next one is due."""
        names = [self.keys.delayed, self.keys.ends, self.keys.dead, self.keys.dead_bytes]
        fixed = [value for level in levels if level.take_from != "auto" for value in (level.name, level.take_from)]
        moved, next_ms = self._run(scripts.DUE, names, [now_ms, most, NORMAL, *fixed])
        return int(moved), int(next_ms)

    def hurry(self, member: bytes, name: str, side: str) -> int:
        payload = member.partition(b"\n")[2]
        return int(self._run(scripts.HURRY, [self.keys.delayed, name, self.keys.ends], [member, payload, side, "", ""]))

    def requeue(self, entry_id: bytes, what: str = "requeue") -> int:
        keys = self.keys
        return int(
            self._run(scripts.REQUEUE, [keys.dead, keys.dead_bytes, keys.ends, keys.deliveries], [entry_id, what])
        )

    # Looking.

    def waiting(self, name: str = NORMAL) -> list[bytes]:
        """Return a list from left to right."""
        found: list[bytes] = self.client.lrange(name, 0, -1)
        return found

    def leased(self, worker: str = "w1") -> list[bytes]:
        """Return the payloads of a worker's leases, oldest lease first."""
        entries = self.client.hgetall(self.keys.leases(worker))
        return [entries[field].partition(b"\n")[2] for field in sorted(entries, key=int)]

    def delayed(self) -> list[bytes]:
        """Return the delayed payloads, the next due first."""
        return [entry.partition(b"\n")[2] for entry in self.client.zrange(self.keys.delayed, 0, -1)]

    def dead(self) -> list[bytes]:
        """Return the dead letters' payloads, oldest first."""
        return [fields[b"payload"] for _, fields in self.client.xrange(self.keys.dead)]

    def everywhere(self) -> Counter[bytes]:
        """Count each payload over all keys: lists, leases, delayed, dead letters."""
        names = list(self.client.scan_iter(count=1000))
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.type(name)
        kinds = pipeline.execute()
        is_lease = self.keys.leases("").encode()
        for name, kind in zip(names, kinds, strict=True):
            if kind == b"list":
                pipeline.lrange(name, 0, -1)
            elif name.startswith(is_lease):
                pipeline.hvals(name)
            elif name == self.keys.delayed.encode():
                pipeline.zrange(name, 0, -1)
            elif name == self.keys.dead.encode():
                pipeline.xrange(name)
            else:
                pipeline.exists(name)
        places: Counter[bytes] = Counter()
        for name, kind, value in zip(names, kinds, pipeline.execute(), strict=True):
            if kind == b"list":
                places.update(value)
            elif name == self.keys.dead.encode():
                places.update(fields[b"payload"] for _, fields in value)
            elif isinstance(value, list):
                places.update(entry.partition(b"\n")[2] for entry in value)
        return places

    def left_behind(self) -> list[str]:
        """Return the keys that are there beside those that stay for ever and the results."""
        stays = re.compile(r"aworker:(lease_id|ends|minutes|schedules|limit:.*)|task_result:.*")
        return sorted(name for name in map(bytes.decode, self.client.scan_iter()) if not stays.fullmatch(name))

    def unsettled(self) -> list[str]:
        """Return the keys that hold tasks which have not ended, or groups whose members have not."""
        holds = re.compile(
            r"strategy_queue.*|aworker:(leases:.*|claimed|deliveries|delayed|cancelled|group:.*)|task_assignment:.*"
        )
        return sorted(name for name in map(bytes.decode, self.client.scan_iter()) if holds.fullmatch(name))

    def _number(self, worker: str, number: int | None) -> int:
        if number is None:
            self._numbers[worker] += 1
            return self._numbers[worker]
        self._numbers[worker] = max(self._numbers[worker], number)
        return number

    def _run(self, script: scripts.Script, keys: list[str], arguments: list[Any]) -> Any:
        return self.client.eval(script.text, len(keys), *keys, *arguments)
