"""Real worker processes and producers on a real server, and everything that can be done to them.

The schedule comes from a seed. The server keeps every write (AOF, synced each time), so what a producer was
acknowledged must be there whatever was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.chaos.history import Fault, Report, judge, read_effects, read_stored
from tests.chaos.proxy import Proxy
from tests.chaos.worker import LEASE_TTL_S
from tests.kit.servers import Server
from tests.kit.workers import eventually

WORKERS = 3
PRIORITY, NORMAL = "strategy_queue_priority", "strategy_queue"
SETTLED_WITHIN_S = 60.0
POISON = (
    b"",
    b"not json",
    b"3",
    b"null",
    b"[]",
    b'{"task_type": "work"}',
    b'{"task_id": 7, "task_type": "work"}',
    b"\xff\xfe\x00",
    b"[" * 100_000,
)


class Event(NamedTuple):
    """One fault of the schedule."""

    at_s: float
    kind: str
    pick: int
    length_s: float


def schedule(seed: int, seconds: float) -> list[Event]:
    """Return the faults of a run, in order."""
    chance = random.Random(seed)
    kinds = ["kill"] * 3 + ["stop"] * 2 + ["child"] * 3 + ["drain"] * 2 + ["cut"] * 5
    kinds += ["cut all", "restart", "freeze", "full", "forget scripts"]
    events, at_s = [], 1.0
    while at_s < seconds - 1:
        length_s = chance.uniform(1.3, 2.0) * LEASE_TTL_S
        events.append(Event(at_s, chance.choice(kinds), chance.randrange(1_000), length_s))
        at_s += chance.uniform(0.5, 2.0)
    return events


class WorkerProcess:
    """One worker, started and watched from outside."""

    def __init__(self, url: str, folder: Path, number: int, **options: Any) -> None:
        self.log = folder / f"worker-{number}.log"
        environment = {**os.environ, "AWORKER_CHAOS_EFFECTS": str(folder / "effects")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker", url, json.dumps(options)],
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.pid = self.process.pid
        self.is_stopped = False
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        return self.process.poll() is None and b" is ready" in self.log.read_bytes()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


def pids_of(folder: Path) -> Iterator[int]:
    """Return the pids of every process of this run's workers, children included."""
    mark = f"AWORKER_CHAOS_EFFECTS={folder / 'effects'}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes():
                    yield int(name)


class Run:
    """One run."""

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self._seed = seed
        self._server = Server(
            folder, "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"
        )
        self._proxy = Proxy(self._server.port)
        self._workers: list[WorkerProcess] = []
        self._started = 0
        self._faults: list[Fault] = []
        self._pushes: Counter[str] = Counter()
        self._doubtful: Counter[str] = Counter()
        self._poison: list[bytes] = []
        self._background: set[asyncio.Task[None]] = set()
        self._client: Any = None

    async def run(self) -> Report:
        self._server.start()
        self._client = redis.asyncio.Redis(
            host="127.0.0.1", port=self._server.port, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=10
        )
        try:
            await self._proxy.start()
            for _ in range(WORKERS):
                self._start_worker()
            await eventually(self._all_ready)
            producers = [asyncio.create_task(self._produce(index)) for index in range(2)]
            await self._do_faults()
            await asyncio.gather(*producers, *self._background)
            await self._settle_down()
            return await self._report()
        finally:
            for pid in pids_of(self._folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for worker in self._workers:
                worker.process.wait(timeout=10)
            await self._client.aclose()
            await self._proxy.stop()
            self._server.stop(signal.SIGKILL)

    async def _all_ready(self) -> bool:
        return all(worker.is_ready for worker in self._workers)

    def _start_worker(self) -> None:
        self._started += 1
        self._workers.append(WorkerProcess(f"redis://127.0.0.1:{self._proxy.port}/0", self._folder, self._started))

    # Producers.

    async def _produce(self, index: int) -> None:
        chance = random.Random(self._seed * 1_000 + index)
        until = time.monotonic() + self._seconds
        number = 0
        last: tuple[str, str, bytes] | None = None
        while time.monotonic() < until:
            await asyncio.sleep(chance.expovariate(40))
            if chance.random() < 0.03:
                await self._push(NORMAL, "", chance.choice(POISON))
                continue
            if last is not None and chance.random() < 0.03:
                await self._push(*last)
                continue
            number += 1
            kind = chance.choices(["work", "heavy", "again", "fails", "dies", "blocks"], [160, 24, 8, 6, 2, 1])[0]
            task_id = f"{kind}_{index}_{number}"
            sleep_s = {"heavy": chance.uniform(0, 0.2), "blocks": chance.uniform(0, 1.5 * LEASE_TTL_S)}.get(
                kind, chance.expovariate(10)
            )
            task = {
                "task_id": task_id,
                "task_type": kind,
                "args": {"sleep_s": round(sleep_s, 3)},
                "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            push = (PRIORITY if chance.random() < 0.2 else NORMAL, task_id, json.dumps(task).encode())
            if kind == "work":
                last = push
            await self._push(*push)

    async def _push(self, queue: str, task_id: str, payload: bytes) -> None:
        try:
            await self._client.rpush(queue, payload)
        except (RedisError, OSError):
            if task_id:
                self._doubtful[task_id] += 1
        else:
            if task_id:
                self._pushes[task_id] += 1
            else:
                self._poison.append(payload)

    # Faults.

    async def _do_faults(self) -> None:
        started = time.monotonic()
        for event in schedule(self._seed, self._seconds):
            await asyncio.sleep(max(0.0, started + event.at_s - time.monotonic()))
            await self._do(event)
        await asyncio.sleep(max(0.0, started + self._seconds - time.monotonic()))

    async def _do(self, event: Event) -> None:
        workers = [worker for worker in self._workers if worker.is_ready and not worker.is_draining]
        running = [worker for worker in workers if not worker.is_stopped]
        if event.kind in ("cut", "cut all", "restart", "freeze", "full", "forget scripts"):
            self._faults.append(Fault(event.kind, time.time()))
        if event.kind == "cut":
            self._proxy.cut_replies(1 + event.pick % 4)
        elif event.kind == "cut all":
            self._proxy.cut_all()
        elif event.kind == "restart":
            await asyncio.to_thread(self._server.stop, signal.SIGKILL)
            await asyncio.sleep(event.length_s / 4)
            await asyncio.to_thread(self._server.start)
        elif event.kind == "freeze":
            self._server.freeze()
            await asyncio.sleep(event.length_s / 4)
            self._server.thaw()
        elif event.kind == "full":
            await self._client.config_set("maxmemory", 1)
            await asyncio.sleep(event.length_s / 4)
            await self._client.config_set("maxmemory", 0)
        elif event.kind == "forget scripts":
            await self._client.script_flush()
        elif not running:
            return
        elif event.kind == "kill":
            self._hurt(running[event.pick % len(running)], "kill", signal.SIGKILL)
        elif event.kind == "drain":
            worker = running[event.pick % len(running)]
            worker.is_draining = True
            self._hurt(worker, "drain", signal.SIGTERM)
        elif event.kind == "stop":
            worker = running[event.pick % len(running)]
            worker.is_stopped = True
            self._hurt(worker, "stop", signal.SIGSTOP)
            self._in_background(self._continue(worker, event.length_s))
        elif event.kind == "child":
            worker = running[event.pick % len(running)]
            children = [pid for pid in pids_of(self._folder) if _is_child_of(pid, worker.pid)]
            if children:
                self._faults.append(Fault("child", time.time(), worker.pid))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(children[event.pick % len(children)], signal.SIGKILL)

    def _hurt(self, worker: WorkerProcess, kind: str, number: int) -> None:
        self._faults.append(Fault(kind, time.time(), worker.pid))
        worker.send(number)
        if kind != "stop":
            self._in_background(self._replace(worker))

    async def _replace(self, worker: WorkerProcess) -> None:
        await asyncio.to_thread(worker.process.wait, 60)
        if worker.is_draining and worker.process.returncode != 0:
            raise AssertionError(f"{worker.log} ended with {worker.process.returncode} when it was drained")
        self._start_worker()

    async def _continue(self, worker: WorkerProcess, after_s: float) -> None:
        await asyncio.sleep(after_s)
        worker.send(signal.SIGCONT)
        worker.is_stopped = False

    def _in_background(self, job: Any) -> None:
        self._background.add(asyncio.create_task(job))

    # The end.

    async def _settle_down(self) -> None:
        with contextlib.suppress(AssertionError):
            await eventually(self._is_quiet, within_s=SETTLED_WITHIN_S)
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        for worker in self._workers:
            await asyncio.to_thread(worker.process.wait, 30)

    async def _is_quiet(self) -> bool:
        names = [name.decode() async for name in self._client.scan_iter(match="aworker:leases:*")]
        waiting = await self._client.llen(PRIORITY) + await self._client.llen(NORMAL)
        workers = await self._client.zcard("aworker:workers")
        living = sum(worker.process.poll() is None for worker in self._workers)
        return not names and not waiting and not await self._client.zcard("aworker:delayed") and workers <= living

    async def _is_alone(self) -> bool:
        return not list(pids_of(self._folder))

    async def _report(self) -> Report:
        with contextlib.suppress(AssertionError):
            await eventually(self._is_alone, within_s=5)
        orphans = list(pids_of(self._folder))
        stays = re.compile(
            r"aworker:(lease_id|ends|dead|dead_bytes|minutes|beats|presence:.*)|task_result:.*|worker_heartbeat:.*"
        )
        names = [name.decode() async for name in self._client.scan_iter(count=1_000)]
        dead = [fields[b"payload"] for _, fields in await self._client.xrange("aworker:dead")]
        logs = b"".join(worker.log.read_bytes() for worker in self._workers)
        report = judge(
            pushes=self._pushes,
            doubtful=self._doubtful,
            poison=self._poison,
            effects=read_effects(self._folder / "effects"),
            faults=self._faults,
            stored=read_stored(self._folder),
            dead=dead,
            refused=logs.count(b"Dropped the outcome of"),
            left_behind=[name for name in names if not stays.fullmatch(name)],
            orphans=orphans,
            cuts=self._proxy.cuts,
        )
        tracebacks = logs.count(b"Traceback")
        if tracebacks:
            report.violations.append(f"{tracebacks} tracebacks in the workers' logs under {self._folder}")
        return report


def _is_child_of(pid: int, ancestor: int) -> bool:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return f"AWORKER_CHAOS_WORKER={ancestor}".encode() in _environment(pid) and b"tests.chaos.worker" not in command
    return False


def _environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def run_chaos(seconds: float, seed: int, folder: Path | None = None) -> Report:
    """Run for so long and return what it showed."""
    if folder is not None:
        return await Run(folder, seconds, seed).run()
    with tempfile.TemporaryDirectory(prefix="aworker-chaos-") as made:
        return await Run(Path(made), seconds, seed).run()
