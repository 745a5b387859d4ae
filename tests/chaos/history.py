"""What happened, read afterwards: handlers' effects, everything the server ever stored, and whether it was right.

The server's append-only file holds each write of each script in order, across its restarts: so an outcome that was
stored twice shows even where the second took the place of the first.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

RECOVERY_BOUND_S = 15.0
FINAL = ("completed", "error")


class Effect(NamedTuple):
    """A line that a handler wrote."""

    what: str
    task_id: str
    lease_id: int
    delivery: int
    worker_pid: int
    at: float

    @property
    def claimed_at(self) -> float:
        """When its lease was given: lease ids follow the server's clock."""
        return self.lease_id / 1e6


class Fault(NamedTuple):
    """Something that was done to one worker (or, pid 0, to all)."""

    kind: str
    at: float
    worker_pid: int = 0


class Stored(NamedTuple):
    """A task_result record, in the order in which they were stored."""

    task_id: str
    status: str
    data: dict[str, Any]
    worker_id: str


class Report(NamedTuple):
    """What a run showed."""

    lines: list[str]
    violations: list[str]


def read_effects(path: Path) -> list[Effect]:
    if not path.exists():
        return []
    return [Effect(**json.loads(line)) for line in path.read_text().splitlines()]


def read_stored(folder: Path) -> list[Stored]:
    """Return every result record in the server's append-only file."""
    files = sorted(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
    stored = []
    for file in files:
        for command in commands_in(file.read_bytes()):
            if command[0].upper() == b"SET" and command[1].startswith(b"task_result:"):
                record = json.loads(command[2])
                stored.append(Stored(record["task_id"], record["status"], record["data"], record["worker_id"]))
    return stored


def commands_in(text: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(text):
        end = text.index(b"\r\n", at)
        head, at = text[at:end], end + 2
        if not head.startswith(b"*"):
            continue
        words = []
        for _ in range(int(head[1:])):
            end = text.index(b"\r\n", at)
            size = int(text[at + 1 : end])
            words.append(text[end + 2 : end + 2 + size])
            at = end + 2 + size + 2
        yield words


def judge(
    *,
    pushes: Counter[str],
    doubtful: Counter[str],
    poison: Sequence[bytes],
    effects: Sequence[Effect],
    faults: Sequence[Fault],
    stored: Sequence[Stored],
    dead: Sequence[bytes],
    refused: int,
    left_behind: Sequence[str],
    orphans: Sequence[int],
    cuts: int,
) -> Report:
    """Hold what happened against what was promised.

    ``pushes`` counts acknowledged pushes by task_id, ``doubtful`` those whose acknowledgement was lost with the
    server.
    """
    violations: list[str] = []
    finals: dict[str, list[Stored]] = defaultdict(list)
    for record in stored:
        if record.status in FINAL:
            finals[record.task_id].append(record)
        elif finals[record.task_id] and pushes[record.task_id] + doubtful[record.task_id] == 1:
            violations.append(f"{record.task_id}: {record.status} was stored after its end")

    lost = [task_id for task_id in pushes if not finals[task_id]]
    violations += [f"{task_id}: acknowledged and never settled" for task_id in lost]
    violations += [
        f"{task_id}: {len(ends)} outcomes for {pushes[task_id] + doubtful[task_id]} pushes"
        for task_id, ends in finals.items()
        if len(ends) > pushes[task_id] + doubtful[task_id]
    ]
    ended = {effect.lease_id for effect in effects if effect.what == "end"}
    leases = Counter(end.data["lease_id"] for ends in finals.values() for end in ends if end.status == "completed")
    violations += [f"lease {lease_id}: {count} outcomes" for lease_id, count in leases.items() if count > 1]
    violations += [f"lease {lease_id}: an outcome without an end" for lease_id in leases if lease_id not in ended]

    missing = Counter(poison) - Counter(dead)
    violations += [f"{payload[:60]!r}: not in the dead letters" for payload in missing.elements()]

    explained, unexplained = _executed_again(effects, faults)
    violations += [f"{task_id}: executed again without a fault" for task_id in unexplained]
    recoveries = _recoveries(effects, faults)
    violations += [
        f"{task_id}: recovered after {wait_s:.1f} s" for task_id, wait_s in recoveries if wait_s > RECOVERY_BOUND_S
    ]
    violations += [f"key {name} is left behind" for name in left_behind]
    violations += [f"process {pid} is left behind" for pid in orphans]

    statuses = Counter(ends[-1].status for ends in finals.values() if ends)
    waits = sorted(wait_s for _, wait_s in recoveries)
    kinds = Counter(fault.kind for fault in faults)
    lines = [
        f"tasks acknowledged    {pushes.total()} ({len(pushes)} ids, {len(poison)} poison payloads beside them)",
        f"completed             {statuses['completed']}",
        f"ended in error        {statuses['error']}, dead letters {len(dead)}",
        f"lost                  {len(lost)}",
        f"refused writes        {refused}",
        f"faults                {_counted(kinds)}; replies swallowed {cuts}",
        f"executed again        {_counted(explained)}; without a fault {len(unexplained)}",
        f"recoveries            {len(waits)}, slowest {waits[-1] if waits else 0:.1f} s",
        f"left behind           {len(left_behind)} keys, {len(orphans)} processes",
    ]
    return Report(lines, violations)


def _executed_again(effects: Sequence[Effect], faults: Sequence[Fault]) -> tuple[Counter[str], list[str]]:
    starts: dict[str, list[Effect]] = defaultdict(list)
    asked_again = {(effect.task_id, effect.lease_id) for effect in effects if effect.what == "retry"}
    for effect in effects:
        if effect.what == "start":
            starts[effect.task_id].append(effect)
    explained: Counter[str] = Counter()
    unexplained = []
    for task_id, runs in starts.items():
        for run, following in pairwise(sorted(runs, key=lambda one: one.lease_id)):
            if (task_id, run.lease_id) in asked_again or task_id.startswith(("dies", "fails")):
                continue
            # Only what was done to the worker that ran it, and after it was claimed: cut connections and a server that
            # was restarted explain nothing.
            causes = [
                fault.kind
                for fault in faults
                if fault.worker_pid == run.worker_pid and run.claimed_at - 0.05 <= fault.at <= following.at
            ]
            if causes:
                explained[causes[0]] += 1
            else:
                unexplained.append(task_id)
    return explained, unexplained


def _recoveries(effects: Sequence[Effect], faults: Sequence[Fault]) -> list[tuple[str, float]]:
    found = []
    for fault in faults:
        if fault.kind not in ("kill", "stop"):
            continue
        running: dict[str, Effect] = {}
        for effect in effects:
            if effect.worker_pid == fault.worker_pid and effect.at <= fault.at:
                if effect.what == "start":
                    running[effect.task_id] = effect
                else:
                    running.pop(effect.task_id, None)
        for task_id, run in running.items():
            next_at = [
                effect.at
                for effect in effects
                if effect.task_id == task_id and effect.what == "start" and effect.lease_id > run.lease_id
            ]
            if next_at:
                found.append((task_id, min(next_at) - fault.at))
    return found


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"
