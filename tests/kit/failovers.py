"""One failover under load, by command, by a kill or by freezing the primary, and what became of every task.

Servers keep all that they are told in append-only files, so that the file of the one that became the primary says what
had reached it: what is not in there, replication lost, and nobody behind it could know.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from redis.exceptions import RedisError

from aworker.queues.connection import connect
from tests.chaos.driver import WorkerProcess, pids_of
from tests.chaos.history import Effect, commands_in, read_effects
from tests.kit.sentinels import Watched
from tests.kit.servers import Server
from tests.kit.workers import eventually

NORMAL = "strategy_queue"
KINDS = ("command", "kill -9", "freeze")
COORDINATED = "coordinated"
"""A command that waits until the replica has everything; Valkey 9 has it."""
WORKERS = 2
PAUSE_S = 0.02


class Case(NamedTuple):
    """A task that was lost or run twice, and why."""

    task_id: str
    why: str
    is_of_replication: bool


class Failover(NamedTuple):
    """What one failover did."""

    kind: str
    without_claim_s: float
    pushed: int
    refused: int
    """Pushes that were not acknowledged."""
    lost: list[Case]
    twice: list[Case]
    starts_after: Counter[int]
    """By worker process, tasks that it started after the fault."""
    sentinel_connects_a_second: float
    """That the sentinels took from all workers and producers together while they named the old primary."""
    to_the_old: int
    """Tasks that were acknowledged by the old primary after it was replaced."""

    @property
    def row(self) -> str:
        return (
            f"{self.kind:<11} {self.without_claim_s:>10.1f} {self.pushed:>8} {self.refused:>8} "
            f"{len(self.lost):>5} {len(self.twice):>5} {self.sentinel_connects_a_second:>9.1f}"
        )


HEAD = "kind         s w/o claim   pushed  refused  lost  twice  sentinel connects/s"


class _Load:
    """Producers that push without a break and note what was acknowledged, and by which server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.acknowledged: dict[str, tuple[float, int]] = {}
        self.refused = 0
        self.is_over = False

    async def push(self, number: int) -> None:
        count = 0
        client: Any
        async with connect(self.url) as client:
            while not self.is_over:
                task_id, count = f"work_{number}_{count}", count + 1
                task = {"task_id": task_id, "task_type": "work", "args": {"sleep_s": 0.01}}
                try:
                    connection = await client.connection_pool.get_connection()
                    try:
                        await connection.send_command("RPUSH", NORMAL, json.dumps(task))
                        await connection.read_response()
                        self.acknowledged[task_id] = time.time(), connection.port
                    finally:
                        await client.connection_pool.release(connection)
                except (RedisError, OSError):
                    self.refused += 1
                await anyio.sleep(PAUSE_S)


async def fail_over(folder: Path, kind: str, *options: str, before_s: float = 1.5, after_s: float = 1.5) -> Failover:
    """Replace the primary under load and wait until all that is left is done."""
    with Watched(folder, "--appendonly", "yes", "--appendfsync", "no", *options) as watched:
        old = watched.primary()
        workers = [WorkerProcess(watched.url, folder, number, slots=8, reserved={}) for number in range(WORKERS)]
        try:
            await _until(lambda: all(worker.is_ready for worker in workers))
            load = _Load(watched.url)
            async with anyio.create_task_group() as group:
                for number in range(WORKERS):
                    group.start_soon(load.push, number)
                await anyio.sleep(before_s)
                connects, fault_at = _connects(watched), time.time()
                _hurt(watched, old, kind)
                await _until(lambda: watched.primary_port() != old.port)
                new, connects = watched.primary(), _connects(watched) - connects
                switched_at = time.time()
                await _until(lambda: len(_starters(folder, switched_at)) == WORKERS)
                await _bring_back(old, kind)
                await anyio.sleep(after_s)
                load.is_over = True
            await _until(lambda: _is_done(new))
            return _told(
                folder, kind, load, new, old, fault_at, switched_at, connects / max(0.5, switched_at - fault_at)
            )
        finally:
            for pid in pids_of(folder):
                os.kill(pid, signal.SIGKILL)
            for worker in workers:
                worker.process.wait(timeout=10)


def _hurt(watched: Watched, old: Server, kind: str) -> None:
    if kind in ("command", COORDINATED):
        watched.fail_over(*(["COORDINATED"] if kind == COORDINATED else []))
    elif kind == "kill -9":
        old.stop(signal.SIGKILL)
    else:
        old.freeze()


async def _bring_back(old: Server, kind: str) -> None:
    if kind == "kill -9":
        await anyio.to_thread.run_sync(old.start)
    elif kind == "freeze":
        old.thaw()
    # Until the sentinels have told it, it takes itself for the primary.
    await _until(lambda: _role(old) == b"slave")


def _role(server: Server) -> bytes:
    try:
        with server.client() as client:
            return bytes(client.execute_command("ROLE")[0])
    except RedisError:
        return b""


def _connects(watched: Watched) -> int:
    total = 0
    for sentinel in watched.sentinels:
        with sentinel.client() as client:
            total += int(client.info("stats")["total_connections_received"])
    return total - watched.asked


def _starters(folder: Path, since: float) -> Counter[int]:
    effects = read_effects(folder / "effects")
    return Counter(one.worker_pid for one in effects if one.what == "start" and one.at > since)


def _is_done(server: Server) -> bool:
    with server.client() as client:
        leases = [name for name in client.scan_iter("aworker:leases:*") if client.hlen(name)]
        return not leases and not client.llen(NORMAL)


async def _until(holds: Callable[[], Any], within_s: float = 120.0) -> None:
    async def asked() -> Any:
        return holds()

    await eventually(asked, within_s=within_s)


class _Reached(NamedTuple):
    """What the new primary was ever told."""

    pushed: set[str]
    leases: bytes
    ended: Counter[str]

    @classmethod
    def read(cls, server: Server) -> _Reached:
        pushed: set[str] = set()
        ended: Counter[str] = Counter()
        text = b"".join(file.read_bytes() for file in sorted(server.folder.glob("appendonlydir/*.incr.aof")))
        for command in commands_in(text):
            name = command[0].upper()
            if name == b"RPUSH" and command[1] == NORMAL.encode():
                pushed |= {json.loads(payload)["task_id"] for payload in command[2:]}
            elif name == b"SET" and command[1].startswith(b"task_result:"):
                record = json.loads(command[2])
                ended[record["task_id"]] += record["status"] == "completed"
        return cls(pushed, text, ended)


def _told(
    folder: Path,
    kind: str,
    load: _Load,
    new: Server,
    old: Server,
    fault_at: float,
    switched_at: float,
    sentinel_connects: float,
) -> Failover:
    effects = read_effects(folder / "effects")
    starts = sorted(one.at for one in effects if one.what == "start")
    reached = _Reached.read(new)
    gaps = [after - before for before, after in pairwise(starts) if after >= fault_at]
    return Failover(
        kind,
        max(gaps),
        len(load.acknowledged),
        load.refused,
        [_lost(task_id, at, reached) for task_id, (at, _) in load.acknowledged.items() if not reached.ended[task_id]],
        _twice(effects, reached),
        _starters(folder, switched_at),
        sentinel_connects,
        sum(at > switched_at + 0.1 and port == old.port for at, port in load.acknowledged.values()),
    )


def _lost(task_id: str, at: float, reached: _Reached) -> Case:
    if task_id in reached.pushed:
        return Case(task_id, "was there and never ended", False)
    return Case(task_id, f"acknowledged at {at:.3f}, never reached the server that became the primary", True)


def _twice(effects: list[Effect], reached: _Reached) -> list[Case]:
    runs: dict[str, list[Effect]] = {}
    for one in effects:
        if one.what == "start":
            runs.setdefault(one.task_id, []).append(one)
    ends = Counter(one.task_id for one in effects if one.what == "end")
    cases = []
    for task_id, times in runs.items():
        if ends[task_id] < 2:
            continue
        if reached.ended[task_id] > 1:
            cases.append(Case(task_id, f"{reached.ended[task_id]} outcomes were stored", False))
        elif str(times[0].lease_id).encode() not in reached.leases:
            cases.append(Case(task_id, "neither its first claim nor its end reached the new primary", True))
        else:
            cases.append(Case(task_id, "its first end did not reach the new primary, which gave it out again", True))
    return cases
