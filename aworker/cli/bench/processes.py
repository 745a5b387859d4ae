"""Whole workers as processes: what becomes of one's tasks when it is killed, and what one holds in memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import redis

from aworker.cli.bench.rows import Row
from aworker.cli.bench.workers import NORMAL, fill
from aworker.client.client import Client

SLOTS = 16
HOLDING = """
import anyio
from aworker import handler

@handler("bench_hold", timeout_s=0)
async def hold(args, context):
    await anyio.sleep(600)
"""


class _Worker:
    """A process of ``aworker run`` that is ready."""

    def __init__(self, url: str, folder: Path) -> None:
        (folder / "bench_holding.py").write_text(HOLDING)
        environment = {
            **os.environ,
            "AWORKER_HTTP__PORT": "0",
            "AWORKER_HANDLERS__MODULES": '["bench_holding"]',
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
        }
        self._log = (folder / f"worker-{time.time_ns()}.log").open("w+")
        command = [sys.executable, "-m", "aworker", "run", "--redis-url", url]
        started = time.perf_counter()
        self.process = subprocess.Popen(command, stderr=self._log, cwd=folder, env=environment)
        path = Path(self._log.name)
        while " is ready:" not in path.read_text():
            if self.process.poll() is not None:
                raise RuntimeError(f"the worker ended with code {self.process.returncode}: {path.read_text()}")
            time.sleep(0.005)
        self.ready_s = time.perf_counter() - started
        line = next(line for line in path.read_text().splitlines() if " is ready:" in line)
        self.worker_id = next(word for word in line.split() if word.startswith("worker_"))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    @property
    def own_mb(self) -> float:
        """Proportional set size of the process and all its children."""
        return sum(map(_pss_kb, _family(self.process.pid))) / 1_024


@contextmanager
def _running(url: str, folder: Path) -> Iterator[_Worker]:
    worker = _Worker(url, folder)
    try:
        yield worker
    finally:
        worker.end()


async def recovery(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """``kill -9`` of a worker with 16 running tasks; when another one runs them all."""
    await fill(url, 0)
    took = await anyio.to_thread.run_sync(_recoveries, url, rounds if less == 1 else 1, folder)
    return [
        {
            "what": f"{SLOTS} running tasks, kill -9: another worker runs them all after, s",
            "p50": round(statistics.median(took), 2),
            "longest": round(max(took), 2),
            "bare loop": "lost",
        }
    ]


def _recoveries(url: str, rounds: int, folder: Path) -> list[float]:
    took = []
    with redis.Redis.from_url(url) as client:
        for _ in range(rounds):
            client.flushall()
            with _running(url, folder) as victim:
                for number in range(SLOTS):
                    task = {"task_id": f"hold_{number}", "task_type": "bench_hold", "args": {}}
                    client.rpush(NORMAL, msgspec.json.encode(task))
                _until_leased(client, victim, SLOTS - 2)  # two slots are reserved for the priority level
                with _running(url, folder) as heir:
                    # The list's last two are taken at once, the others when their lease has run out.
                    _until_leased(client, heir, 2)
                    victim.process.kill()
                    killed_at = time.perf_counter()
                    _until_leased(client, heir, SLOTS - 2)
                    took.append(time.perf_counter() - killed_at)
    return took


def _until_leased(client: redis.Redis, worker: _Worker, count: int) -> None:
    give_up_at = time.monotonic() + 60
    while client.hlen(f"aworker:leases:{worker.worker_id}") < count:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{worker.worker_id} does not run {count} tasks")
        time.sleep(0.002)


async def memory(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """Proportional set size of ``aworker run`` with all its children: idle, and after the first backtest."""
    await fill(url, 0)
    worker = await anyio.to_thread.run_sync(_Worker, url, folder)
    try:
        await anyio.sleep(0.5)
        rows: list[Row] = [
            {
                "what": "own memory, idle, all processes",
                "MB": round(worker.own_mb),
                "ready after s": round(worker.ready_s, 2),
            }
        ]
        if find_spec("aworker.trading") is not None:
            await _backtest(url)
            await anyio.sleep(0.5)
            rows.append({"what": "own memory after the first backtest, all processes", "MB": round(worker.own_mb)})
        return rows
    finally:
        worker.end()


async def _backtest(url: str) -> None:
    async with Client(url) as client:
        made = await client.result(
            await client.enqueue("create_strategy", {"user_id": 1, "prompt": "golden cross"}), wait_s=30
        )
        assert made is not None
        task_id = await client.enqueue("backtest", {"strategy_id": made["data"]["strategy"]["strategyId"]})
        assert await client.result(task_id, wait_s=30) is not None


def _family(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += map(int, task.read_text().split())
    return [pid, *(each for child in children for each in _family(child))]


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
