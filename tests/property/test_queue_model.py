"""The queue's scripts against a plain-Python model of them, on a real server.

Workers claim, settle, renew, reap, die, sleep past their deadline and come back; clocks jump; payloads repeat; replies
are lost and commits are sent again, at once or much later. After every step the server holds what the model says, and
every task whose push was acknowledged is in exactly one place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.kit.queue_scripts import (
    NORMAL,
    NOW_MS,
    PRIORITY,
    REPLACED,
    TTL_MS,
    Item,
    Level,
    New,
    QueueScripts,
    task,
)

LEVELS = (Level(PRIORITY, take_from="right"), Level(NORMAL, take_from="left"))
SIDES = {PRIORITY: "right", NORMAL: "left"}

# Payload, the task_id that the register can know, and whether the type limit holds it back.
KINDS: dict[bytes, tuple[str, bool]] = {
    task("a"): ("a", False),
    task("a", args={"again": True}): ("a", False),
    task("b"): ("b", False),
    task("c", task_type="screening"): ("c", True),
    task("d", args={"prompt": "x" * 20_000}): ("d", False),
    b"": ("", False),
    b'\x00\xff\n1 none 2 "x" y\n': ("", False),
}
ENDS = ["end", "dead", "back", "back counted", "delay"]
MOSTLY = st.sampled_from([True, True, True, False])
WORKERS = st.sampled_from(["one", "two", "three"])


SCHEDULES = st.sampled_from(["hourly", "daily"])
NEW = st.builds(
    New,
    how=st.sampled_from(["now", "in", "at"]),
    ms=st.sampled_from([0, 1, 1_000, 3_600_000]),
    queue=st.sampled_from([PRIORITY, NORMAL]),
    payload=st.sampled_from(sorted(KINDS)),
    task_id=st.just(""),
    key_ms=st.just(604_800_000),
    key=st.sampled_from(["", "k", "k", "l"]),
    until=st.sampled_from(["ended", "ended", "started", "time"]),
    conflict=st.sampled_from(["keep", "replace", "stop"]),
    schedule=st.just("") | SCHEDULES,
    tick_ms=st.sampled_from([-1_000, 0, 1, 1_000]),
)


GROUP_IDS = st.sampled_from(["g", "h"])
MEMBER = st.tuples(GROUP_IDS, st.integers(0, 2), st.sampled_from(["completed", "error"]))


@st.composite
def groups(draw: st.DrawFn) -> list[New]:
    """A group and its members, as the scripts read them."""
    members = draw(st.lists(NEW, min_size=1, max_size=3))
    callback = draw(NEW)
    head = callback._replace(how="group", ms=len(members), task_id=draw(GROUP_IDS), key="then")
    head = head._replace(until=draw(st.sampled_from(["now", "in"])), key_ms=draw(st.sampled_from([0, 1_000])))
    return [head, *(member._replace(key="") for member in members)]


def _sha1(payload: bytes) -> bytes:
    return hashlib.sha1(payload).hexdigest().encode()


BURST = 2


class Total(NamedTuple):
    """Limits over all workers."""

    most: int
    every_ms: int


class Held:
    """A lease in the model."""

    def __init__(self, payload: bytes, queue: str, delivery: int, suspicion: str, registered: str) -> None:
        self.payload = payload
        self.queue = queue
        self.delivery = delivery
        self.suspicion = suspicion
        self.registered = registered


class Group:
    """A group in the model."""

    def __init__(self, head: New) -> None:
        self.left = head.ms
        self.head = head
        self.ends: dict[int, str] = {}

    def fields(self) -> dict[str, str]:
        callback = {"how": self.head.until, "ms": self.head.key_ms, "queue": self.head.queue, "task_id": self.head.key}
        return {"left": str(self.left), **{name: str(value) for name, value in callback.items()}, **self._ends()}

    def summary(self) -> str:
        failed = [end.partition(" ")[2] for end in self.ends.values() if end.startswith("error")]
        told = json.dumps(failed, separators=(",", ":"))
        return f'{{"completed":{len(self.ends) - len(failed)},"failed":{told}}}'

    def _ends(self) -> dict[str, str]:
        return {str(member): end for member, end in self.ends.items()}


class Model:
    """What the scripts promise, as plain Python."""

    def __init__(self) -> None:
        self.lists: dict[str, deque[bytes]] = {PRIORITY: deque(), NORMAL: deque()}
        self.leases: dict[str, dict[int, Held]] = {}
        self.deadlines: dict[str, int] = {}
        self.deliveries: Counter[bytes] = Counter()
        self.claimed: dict[str, int] = {}
        self.delayed: dict[tuple[str, str, bytes], int] = {}
        """Lease id, or 0 and a number of its own for what was never leased; queue, payload; to when it is due."""
        self.dead: list[tuple[str, bytes, bytes]] = []
        self.records: dict[str, bytes] = {}
        self.assignments: dict[str, bytes] = {}
        self.claim_commits: dict[str, tuple[int, list[int]]] = {}
        self.settle_commits: dict[str, tuple[int, list[int]]] = {}
        self.pushed: Counter[bytes] = Counter()
        self.gone: Counter[bytes] = Counter()
        self.last_id = 0
        self.shares: dict[int, str] = {}
        """Lease id to its worker, of what was claimed under a limit over all workers."""
        self.over_at_ms = 0
        """When all that a rate let through would be over, one after the other."""
        self.tries: dict[bytes, list[bytes]] = {}
        """What earlier tries of a payload ended with."""
        self.keys: dict[str, tuple[str, str, tuple[str, str, bytes]]] = {}
        """Unique key to until, task_id, and its task as in ``delayed``; ``-`` for its id where it was pushed."""
        self.groups: dict[str, Group] = {}
        self.ended_groups: dict[str, str] = {}
        self.ticks: dict[str, int] = {}
        self.paused: set[str] = set()
        self.cancelled: set[str] = set()

    def put(self, queue: str, payload: bytes, *, next_one: bool) -> None:
        if (SIDES[queue] == "right") == next_one:
            self.lists[queue].append(payload)
        else:
            self.lists[queue].appendleft(payload)

    def claim(
        self, worker: str, number: int, want: int, room: int | None, total: Total | None, now_ms: int
    ) -> list[tuple[Any, ...]]:
        self.deadlines[worker] = now_ms + TTL_MS
        leases = self.leases.setdefault(worker, {})
        claim_number, ids = self.claim_commits.get(worker, (0, []))
        settle_number, _ = self.settle_commits.get(worker, (0, []))
        if claim_number == number:
            return [self._told(id_, leases[id_]) for id_ in ids if id_ in leases]
        if max(claim_number, settle_number) > number:
            return []
        taken: list[tuple[str, bytes]] = []
        for queue in (PRIORITY, NORMAL):
            waiting = list(self.lists[queue])
            if SIDES[queue] == "right":
                waiting.reverse()
            kept: list[bytes] = []
            for payload in waiting:
                limited = KINDS[payload][1]
                if len(taken) == want or (limited and room == 0):
                    kept.append(payload)
                    continue
                if limited and total is not None and not self._lets_through(total, taken, now_ms):
                    kept.append(payload)
                    continue
                if limited and room is not None:
                    room -= 1
                taken.append((queue, payload))
            self.lists[queue] = deque(kept[::-1] if SIDES[queue] == "right" else kept)
        if not taken:
            return []
        self.last_id = max(self.last_id, now_ms * 1000)
        told = []
        for queue, payload in taken:
            self.last_id += 1
            known = KINDS[payload][0]
            suspicion, registered = "unread", ""
            if known and known in self.claimed:
                suspicion = "lease"
            elif known:
                self.claimed[known] = self.last_id
                suspicion, registered = "record" if known in self.records else "none", known
            held = Held(payload, queue, 1 + self.deliveries[payload], suspicion, registered)
            leases[self.last_id] = held
            if KINDS[payload][1] and total is not None:
                self.shares[self.last_id] = worker
            told.append(self._told(self.last_id, held))
        self.claim_commits[worker] = (number, [id_ for id_, *_ in told])
        return told

    def _lets_through(self, total: Total, taken: list[tuple[str, bytes]], now_ms: int) -> bool:
        running = sum(id_ in self.leases.get(worker, {}) for id_, worker in self.shares.items())
        if running + sum(KINDS[payload][1] for _, payload in taken) >= total.most:
            return False
        if total.every_ms:
            ahead_ms = min(max(self.over_at_ms - now_ms, 0), BURST * total.every_ms)
            if ahead_ms > (BURST - 1) * total.every_ms:
                return False
            self.over_at_ms = now_ms + ahead_ms + total.every_ms
        return True

    def settle(self, worker: str, number: int, items: list[Item], now_ms: int) -> list[int]:
        done_number, done_flags = self.settle_commits.get(worker, (0, []))
        if done_number == number:
            return done_flags
        if done_number > number:
            return [0] * len(items)
        flags = [int(self._settle(worker, item, now_ms)) for item in items]
        self.settle_commits[worker] = (number, flags)
        return flags

    def _settle(self, worker: str, item: Item, now_ms: int) -> bool:
        leases = self.leases.get(worker, {})
        held = leases.get(item.lease_id)
        if held is None:
            return False
        if item.kind == "running":
            self.records[item.task_id] = item.record
            self.assignments[item.task_id] = item.extras[0]
            return True
        del leases[item.lease_id]
        if held.registered:
            self.claimed.pop(held.registered, None)
        if item.kind == "end":
            self.gone[held.payload] += 1
        elif item.kind == "dead":
            tries = self.tries.get(held.payload, []) if held.delivery > 1 else []
            self.dead.append((held.queue, held.payload, b",".join(tries)))
        elif item.kind == "back":
            self.put(held.queue, held.payload, next_one=True)
        elif item.kind == "delay":
            self.delayed[str(item.lease_id), held.queue, held.payload] = now_ms + item.extras[0]
        if item.kind == "dead" or (item.kind == "end" and item.extras[0] == "1"):
            del self.deliveries[held.payload]
            self.tries.pop(held.payload, None)
        elif item.kind == "delay" or (item.kind == "back" and item.extras[0] == "1"):
            self.deliveries[held.payload] += 1
        if item.kind in ("back", "delay") and (line := item.extras[-1]) not in ("", "auto"):
            self.tries[held.payload] = [*self.tries.get(held.payload, []), line][-20:]
        if item.task_id:
            self.assignments.pop(item.task_id, None)
            if item.record:
                self.records[item.task_id] = item.record
        self.enqueue_all(item.news, now_ms)
        if item.member:
            self.end_member(*item.member, item.task_id, now_ms)
        return True

    def reclaim(self, worker: str, most: int, now_ms: int) -> tuple[str, list[tuple[int, int, str, str, bytes]]]:
        expired = sorted((at, name) for name, at in self.deadlines.items() if at < now_ms and name != worker)
        if not expired:
            return "", []
        _, dead = expired[0]
        theirs = self.leases.get(dead, {})
        complete = len(theirs) <= most
        self.last_id = max(self.last_id, now_ms * 1000)
        moved = []
        for old_id in sorted(theirs)[:most]:
            held = theirs.pop(old_id)
            if held.suspicion != "reclaimed":
                self.deliveries[held.payload] += 1
            held.suspicion = "reclaimed"
            self.last_id += 1
            self.leases.setdefault(worker, {})[self.last_id] = held
            if held.registered:
                self.claimed[held.registered] = self.last_id
            moved.append((self.last_id, held.delivery, held.queue, held.registered, held.payload))
        if complete:
            del self.deadlines[dead]
            self.claim_commits.pop(dead, None)
            self.settle_commits.pop(dead, None)
        self.deadlines[worker] = now_ms + TTL_MS
        return dead, moved

    def due(self, now_ms: int) -> int:
        # As the server orders a sorted set: by time, then by bytes.
        ready = sorted(
            (at, f'{entry[0]} "{entry[1]}"\n'.encode() + entry[2], entry)
            for entry, at in self.delayed.items()
            if at <= now_ms
        )
        for _, _, entry in ready:
            del self.delayed[entry]
            self.put(entry[1], entry[2], next_one=not entry[0].startswith("0"))
        return len(ready)

    def enqueue(self, new: New, now_ms: int) -> tuple[str, str]:
        if new.schedule:
            if new.tick_ms <= self.ticks.get(new.schedule, 0):
                return "ticked", new.task_id
            self.ticks[new.schedule] = new.tick_ms
            if new.schedule in self.paused:
                return "paused", new.task_id
        if new.key in self.keys:
            until, task_id, entry = self.keys[new.key]
            place = self._place_of(until, task_id, entry)
            if place or until == "time":
                if new.conflict == "keep":
                    return "kept", task_id
                if place in ("delayed", "list"):
                    self._replace(place, task_id, entry)
                elif place and new.conflict == "stop":
                    self.cancelled.add(task_id)
        mark = self._place(new, now_ms)
        if new.key:
            self.keys[new.key] = (new.until, new.task_id, (mark, new.queue, new.payload))
        return "new", new.task_id

    def _place(self, new: New, now_ms: int) -> str:
        mark = "-"
        if new.how == "now":
            self.lists[new.queue].append(new.payload)
        else:
            self.last_id = max(self.last_id, now_ms * 1000) + 1
            mark = f"0{self.last_id}"
            self.delayed[mark, new.queue, new.payload] = new.ms + (now_ms if new.how == "in" else 0)
        self.pushed[new.payload] += 1
        return mark

    def enqueue_all(self, news: Sequence[New], now_ms: int) -> list[tuple[str, str]]:
        """Enqueue in one step; a group's head stands before its members."""
        results = []
        kept = 0
        for new in news:
            if new.how == "group":
                is_there = new.task_id in self.groups or new.task_id in self.ended_groups
                if is_there:
                    kept = new.ms
                else:
                    self.groups[new.task_id] = Group(new)
                results.append(("kept" if is_there else "new", new.task_id))
            elif kept:
                kept -= 1
                results.append(("kept", new.task_id))
            else:
                results.append(self.enqueue(new, now_ms))
        return results

    def end_member(self, group_id: str, member: int, status: str, task_id: str, now_ms: int) -> None:
        group = self.groups.get(group_id)
        if group is None or member in group.ends:
            return
        group.ends[member] = f"{status} {task_id}"
        group.left -= 1
        if not group.left:
            del self.groups[group_id]
            self.ended_groups[group_id] = group.summary()
            self._place(group.head._replace(how=group.head.until, ms=group.head.key_ms), now_ms)

    def _place_of(self, until: str, task_id: str, entry: tuple[str, str, bytes]) -> str:
        _, queue, payload = entry
        if entry in self.delayed:
            return "delayed"
        if payload in self.lists[queue]:
            return "list"
        runs = task_id in self.claimed or task_id in self.assignments or self.deliveries[payload]
        return "running" if runs and until != "started" else ""

    def _replace(self, place: str, task_id: str, entry: tuple[str, str, bytes]) -> None:
        _, queue, payload = entry
        if place == "delayed":
            del self.delayed[entry]
        else:
            waiting = list(self.lists[queue])
            del waiting[len(waiting) - 1 - waiting[::-1].index(payload)]
            self.lists[queue] = deque(waiting)
        del self.deliveries[payload]
        self.tries.pop(payload, None)
        self.gone[payload] += 1
        self.records[task_id] = REPLACED.replace(b"$TASK$", task_id.encode())

    def _told(self, lease_id: int, held: Held) -> tuple[Any, ...]:
        level = 0 if held.queue == PRIORITY else 1
        return (lease_id, level, held.delivery, held.suspicion, held.registered, held.payload)


class Process:
    """What one worker process believes."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        self.number = 0
        self.believes: dict[int, tuple[str, int]] = {}
        """Lease id to the registered task_id and the delivery."""


class Queues(RuleBasedStateMachine):
    """The scripts and the model, step by step."""

    url: ClassVar[str] = ""
    commits = Bundle("commits")

    def __init__(self) -> None:
        super().__init__()
        self.real = QueueScripts(self.url)
        self.real.client.flushall()
        self.model = Model()
        self.now_ms = NOW_MS
        self.starts = 0
        self.processes: dict[str, Process] = {}
        self.writes = 0

    @initialize(payloads=st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=6))
    def start(self, payloads: list[bytes]) -> None:
        for name in ("one", "two", "three"):
            self._start(name)
        for index, payload in enumerate(payloads):
            self.push((PRIORITY, NORMAL)[index % 2], payload, True)

    def _start(self, name: str) -> None:
        self.starts += 1
        self.processes[name] = Process(f"{name}.{self.starts}")

    # Producers.

    @rule(queue=st.sampled_from([PRIORITY, NORMAL]), payload=st.sampled_from(sorted(KINDS)), right=st.booleans())
    def push(self, queue: str, payload: bytes, right: bool) -> None:
        (self.real.client.rpush if right else self.real.client.lpush)(queue, payload)
        if right:
            self.model.lists[queue].append(payload)
        else:
            self.model.lists[queue].appendleft(payload)
        self.model.pushed[payload] += 1

    @rule(tasks=st.lists(NEW, min_size=1, max_size=3), is_sent_again=st.booleans())
    def enqueue(self, tasks: list[New], is_sent_again: bool) -> None:
        given = [self._given(task) for task in tasks]
        for _ in range(1 + is_sent_again):
            expected = self.model.enqueue_all(given, self.now_ms)

            assert self.real.enqueue(*given, now_ms=self.now_ms) == expected

    @rule(group=groups(), is_sent_again=st.booleans())
    def enqueue_a_group(self, group: list[New], is_sent_again: bool) -> None:
        given = self._given_group(group)
        for _ in range(1 + is_sent_again):
            expected = self.model.enqueue_all(given, self.now_ms)

            assert self.real.enqueue(*given, now_ms=self.now_ms) == expected

    @rule(name=SCHEDULES)
    def pause_or_resume_a_schedule(self, name: str) -> None:
        field = f"schedule {name}"
        if name in self.model.paused:
            self.model.paused.remove(name)
            self.real.client.hdel(self.real.keys.paused, field)
        else:
            self.model.paused.add(name)
            self.real.client.hset(self.real.keys.paused, field, 1)

    # Workers.

    @rule(
        target=commits,
        name=WORKERS,
        want=st.integers(1, 4),
        room=st.none() | st.integers(0, 2),
        total=st.none() | st.builds(Total, most=st.integers(1, 3), every_ms=st.sampled_from([0, 0, 1_000])),
        copies=st.integers(1, 2),
        heard=MOSTLY,
    )
    def claim(
        self, name: str, want: int, room: int | None, total: Total | None, copies: int, heard: bool
    ) -> tuple[Any, ...]:
        process = self.processes[name]
        process.number += 1
        commit = (process.worker_id, process.number, want, room, total)
        for _ in range(copies):
            told = self._claim(*commit)
        if heard:
            self._believe(process, told)
        return ("claim", *commit)

    @precondition(lambda self: any(process.believes for process in self.processes.values()))
    @rule(
        target=commits,
        data=st.data(),
        kinds=st.lists(st.sampled_from(["running", "end", *ENDS]), min_size=1),
        enqueued=st.lists(NEW, max_size=2),
        group=st.just([]) | groups(),
        member=st.none() | MEMBER,
        copies=st.integers(1, 2),
    )
    def settle(
        self,
        data: st.DataObject,
        kinds: list[str],
        enqueued: list[New],
        group: list[New],
        member: tuple[str, int, str] | None,
        copies: int,
    ) -> tuple[Any, ...]:
        process = self._a_holder(data)
        leases = sorted(process.believes)
        items = []
        for kind in kinds[: len(leases)]:
            lease_id = data.draw(st.sampled_from(leases))
            item = self._item(process, kind, lease_id)
            if kind == "end" and (enqueued or group):
                # In the same step as the end: what the task enqueued.
                news = [self._given(new._replace(schedule="")) for new in enqueued] + self._given_group(group)
                item = item._replace(news=tuple(news))
            if kind in ("end", "dead") and member is not None:
                item = item._replace(member=member)
            items.append(item)
            if kind != "running":
                leases.remove(lease_id)
        process.number += 1
        commit = (process.worker_id, process.number, items)
        for _ in range(copies):
            self._settle(*commit)
        for item in items:
            if item.kind != "running":
                del process.believes[item.lease_id]
        return ("settle", *commit)

    @rule(commit=commits)
    def send_a_commit_again(self, commit: tuple[Any, ...]) -> None:
        what, worker_id, number, *rest = commit
        if what == "settle":
            self._settle(worker_id, number, *rest)
            return
        told = self._claim(worker_id, number, *rest)
        for process in self.processes.values():
            if process.worker_id == worker_id:
                self._believe(process, told)

    @rule(name=WORKERS)
    def renew(self, name: str) -> None:
        worker_id = self.processes[name].worker_id
        stood = worker_id in self.model.deadlines
        others = [at for other, at in self.model.deadlines.items() if other != worker_id]
        self.model.deadlines[worker_id] = self.now_ms + TTL_MS

        reply = self.real.renew(worker_id, now_ms=self.now_ms)

        held = len(self.model.leases.get(worker_id, {}))
        due = min(self.model.delayed.values(), default=-1)
        assert reply == [self.now_ms, stood, held, min(others, default=-1), due]

    @rule(name=WORKERS, most=st.integers(1, 3), heard=MOSTLY)
    def reclaim(self, name: str, most: int, heard: bool) -> None:
        process = self.processes[name]
        expected = self.model.reclaim(process.worker_id, most, self.now_ms)

        dead, leases = self.real.reclaim(process.worker_id, now_ms=self.now_ms, most=most)

        assert (dead, [tuple(lease) for lease in leases]) == expected
        if heard:
            for lease in leases:
                process.believes[lease.lease_id] = (lease.registered, lease.delivery)

    @precondition(lambda self: any(process.believes for process in self.processes.values()))
    @rule(data=st.data(), reaper=WORKERS)
    def oversleep(self, data: st.DataObject, reaper: str) -> None:
        sleeper = self._a_holder(data)
        self.now_ms = max(self.now_ms, self.model.deadlines.get(sleeper.worker_id, 0) + 1)
        for _ in range(4):
            self.reclaim(reaper, 3, True)
        lease_id = data.draw(st.sampled_from(sorted(sleeper.believes)))
        items = [self._item(sleeper, kind, lease_id) for kind in ("running", data.draw(st.sampled_from(ENDS)))]
        sleeper.number += 1
        self._settle(sleeper.worker_id, sleeper.number, items)
        del sleeper.believes[lease_id]

    @rule(name=WORKERS)
    def compare_leases(self, name: str) -> None:
        process = self.processes[name]
        held = {int(field) for field in self.real.client.hkeys(self.real.keys.leases(process.worker_id))}
        strangers = sorted(held - process.believes.keys(), reverse=True)
        process.believes = {id_: known for id_, known in process.believes.items() if id_ in held}
        process.number += 1
        self._settle(process.worker_id, process.number, [Item("back", id_, extras=("", "auto")) for id_ in strangers])

    @rule(name=WORKERS)
    def die_and_start_anew(self, name: str) -> None:
        self._start(name)

    @precondition(lambda self: self.model.delayed)
    @rule(wait=st.booleans())
    def put_back_due(self, wait: bool) -> None:
        if wait:
            self.now_ms = max(self.now_ms, min(self.model.delayed.values()))
        expected = self.model.due(self.now_ms)
        next_ms = max(0, min(self.model.delayed.values()) - self.now_ms) if self.model.delayed else -1

        assert self.real.due_and_next(now_ms=self.now_ms, levels=LEVELS) == (expected, next_ms)

    # People and clocks.

    @precondition(lambda self: self.model.delayed)
    @rule(data=st.data())
    def hurry(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(sorted(self.model.delayed)))
        del self.model.delayed[entry]
        self.model.put(entry[1], entry[2], next_one=True)

        moved = self.real.hurry(f'{entry[0]} "{entry[1]}"\n'.encode() + entry[2], entry[1], SIDES[entry[1]])

        assert moved == 1

    @precondition(lambda self: self.model.dead)
    @rule(data=st.data(), drop=st.booleans())
    def handle_a_dead_letter(self, data: st.DataObject, drop: bool) -> None:
        at = data.draw(st.integers(0, len(self.model.dead) - 1))
        queue, payload, _ = self.model.dead.pop(at)
        if drop:
            self.model.gone[payload] += 1
        else:
            del self.model.deliveries[payload]
            self.model.tries.pop(payload, None)
            self.model.put(queue, payload, next_one=False)
        entry_id, _ = self.real.client.xrange(self.real.keys.dead)[at]

        moved = self.real.requeue(entry_id, "drop" if drop else "requeue")

        assert moved == 1

    @rule(step_ms=st.sampled_from([1, 10, 1_000, TTL_MS, TTL_MS + 1, 3_600_000, -1, -2_000, -3_600_000]))
    def let_time_pass(self, step_ms: int) -> None:
        self.now_ms += step_ms

    # What must hold.

    @invariant()
    def every_acknowledged_task_is_in_exactly_one_place(self) -> None:
        places = self.real.everywhere() + self.model.gone

        assert places == self.model.pushed

    @invariant()
    def the_server_holds_what_the_model_says(self) -> None:
        client, keys, model = self.real.client, self.real.keys, self.model
        pipeline = client.pipeline()
        for queue in (PRIORITY, NORMAL):
            pipeline.lrange(queue, 0, -1)
        pipeline.hgetall(keys.deliveries)
        pipeline.hgetall(keys.claimed)
        pipeline.zrange(keys.workers, 0, -1, withscores=True)
        pipeline.zrange(keys.delayed, 0, -1, withscores=True)
        pipeline.xrange(keys.dead)
        pipeline.hgetall(keys.schedules)
        pipeline.zrange(keys.cancelled, 0, -1)
        for group_id in ("g", "h"):
            pipeline.hgetall(f"{keys.groups}:{group_id}")
            pipeline.get(f"{keys.groups}_ended:{group_id}")
        priority, normal, deliveries, claimed, workers, delayed, dead, ticks, cancelled, *of_groups = pipeline.execute()

        assert priority == list(model.lists[PRIORITY])
        assert normal == list(model.lists[NORMAL])
        assert deliveries == {
            **{_sha1(payload): b"%d" % count for payload, count in model.deliveries.items() if count},
            **{b"!" + _sha1(payload): b"\n".join(lines) for payload, lines in model.tries.items()},
        }
        assert {name.decode(): int(id_) for name, id_ in claimed.items()} == model.claimed
        assert {name.decode(): at for name, at in workers} == model.deadlines
        assert dict(delayed) == {
            f'{id_} "{queue}"\n'.encode() + payload: at for (id_, queue, payload), at in model.delayed.items()
        }
        assert [
            (fields[b"queue"].decode(), fields[b"payload"], fields.get(b"errors", b"[]")[1:-1]) for _, fields in dead
        ] == model.dead
        assert {name.decode(): int(at) for name, at in ticks.items()} == model.ticks
        assert {task_id.decode() for task_id in cancelled} == model.cancelled
        for group_id, fields, ended in zip(("g", "h"), of_groups[::2], of_groups[1::2], strict=True):
            group = model.groups.get(group_id)
            assert fields.pop(b"payload", None) == (group and group.head.payload)
            assert {name.decode(): value.decode() for name, value in fields.items()} == (
                group.fields() if group else {}
            )
            assert ended == (model.ended_groups.get(group_id, "").encode() or None)

    @invariant()
    def leases_and_records_are_what_the_model_says(self) -> None:
        client, keys, model = self.real.client, self.real.keys, self.model
        names = [name.decode() for name in client.scan_iter(count=1000)]
        pipeline = client.pipeline(transaction=False)
        for name in names:
            if name.startswith(keys.leases("")):
                pipeline.hgetall(name)
            elif name.startswith(("task_result:", "task_assignment:")):
                pipeline.get(name)
            else:
                pipeline.exists(name)
        found = dict(zip(names, pipeline.execute(), strict=True))
        leases = {
            name: {int(field): entry.partition(b"\n")[2] for field, entry in entries.items()}
            for name, entries in found.items()
            if name.startswith(keys.leases(""))
        }

        assert leases == {
            keys.leases(worker): {id_: held.payload for id_, held in held_by.items()}
            for worker, held_by in model.leases.items()
            if held_by
        }
        assert {name: text for name, text in found.items() if name.startswith("task_")} == {
            **{f"task_result:{task_id}": text for task_id, text in model.records.items()},
            **{f"task_assignment:{task_id}": text for task_id, text in model.assignments.items()},
        }

    def teardown(self) -> None:
        # Whoever is left reaps the rest: nothing is stuck for ever.
        self.now_ms = max([self.now_ms, *self.model.deadlines.values(), *self.model.delayed.values()]) + 1
        last = Process("last")
        while self.real.reclaim(last.worker_id, now_ms=self.now_ms)[0]:
            pass
        held = self.real.client.hkeys(self.real.keys.leases(last.worker_id))
        self.real.settle(*(Item("back", int(id_), extras=("", "auto")) for id_ in held), worker=last.worker_id)
        last_due = self.real.client.zrange(self.real.keys.delayed, -1, -1, withscores=True)
        self.real.due(now_ms=int(last_due[0][1]) if last_due else self.now_ms, levels=LEVELS)
        waiting = Counter(self.real.waiting(PRIORITY)) + Counter(self.real.waiting(NORMAL))
        try:
            assert waiting + Counter(self.real.dead()) + self.model.gone == self.model.pushed
            assert self.real.client.exists(self.real.keys.claimed) == 0
        finally:
            self.real.client.close()

    # The two commits.

    def _claim(
        self, worker_id: str, number: int, want: int, room: int | None, total: Total | None
    ) -> list[tuple[Any, ...]]:
        limits: dict[str, Any] | None = None
        if room is not None or total is not None:
            limits = {"types": {} if room is None else {"screening": room}, "users": {}}
        if limits is not None and total is not None:
            rate = {"rate": {"every": total.every_ms, "burst": BURST}} if total.every_ms else {}
            limits["totals"] = {"screening": {"most": total.most, **rate}}
            limits.update(prefix=self.real.keys.limit(""), leases=self.real.keys.leases(""))
        expected = self.model.claim(worker_id, number, want, room, total, self.now_ms)

        reply = self.real.claim(worker_id, want, LEVELS, limits=limits, now_ms=self.now_ms, number=number)

        told = [tuple(claim) for claim in reply.claims]
        assert told == expected
        return told

    def _settle(self, worker_id: str, number: int, items: list[Item]) -> None:
        expected = self.model.settle(worker_id, number, items, self.now_ms)

        _, flags = self.real.settle(*items, worker=worker_id, now_ms=self.now_ms, number=number)

        assert flags == expected

    def _believe(self, process: Process, told: list[tuple[Any, ...]]) -> None:
        for lease_id, _, delivery, _, registered, _ in told:
            process.believes[lease_id] = (registered, delivery)

    def _a_holder(self, data: st.DataObject) -> Process:
        return data.draw(st.sampled_from([process for process in self.processes.values() if process.believes]))

    def _item(self, process: Process, kind: str, lease_id: int) -> Item:
        registered, delivery = process.believes[lease_id]
        self.writes += 1
        record = b"record %d" % self.writes
        extras: tuple[Any, ...] = {
            "running": (b"assigned %d" % self.writes,),
            "end": ("1" if delivery > 1 else "",),
            "dead": ("queue", self._queue_of(process, lease_id)),
            "back": ("", "auto"),
            "back counted": ("1", "auto", b"try %d" % self.writes),
            "delay": (self.writes * 10, b"try %d" % self.writes),
        }[kind]
        return Item(kind.split()[0], lease_id, registered, registered, record, extras=extras)

    def _given(self, new: New) -> New:
        return new._replace(
            task_id=KINDS[new.payload][0],
            key=new.key if KINDS[new.payload][0] else "",
            ms=new.ms + (self.now_ms - 1 if new.how == "at" else 0),
            tick_ms=self.now_ms + new.tick_ms,
        )

    def _given_group(self, group: list[New]) -> list[New]:
        return [new if new.how == "group" else self._given(new._replace(schedule="")) for new in group]

    def _queue_of(self, process: Process, lease_id: int) -> str:
        held = self.model.leases.get(process.worker_id, {}).get(lease_id)
        return held.queue if held else NORMAL


@pytest.mark.timeout(300)
def test_the_scripts_do_what_the_model_says_and_lose_nothing(redis_url: str) -> None:
    Queues.url = redis_url

    run_state_machine_as_test(
        Queues,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
