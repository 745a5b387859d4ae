"""From the push to the start of the handler: with nothing to do, behind a backlog, beside heavy work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from aworker.cli.bench.calls import spin
from aworker.cli.bench.loops import bare_starts
from aworker.cli.bench.rows import Row, waits
from aworker.cli.bench.workers import NORMAL, PRIORITY, config_of, fill, payload, worker
from aworker.config import PoolConfig
from aworker.queues.connection import Link, connect

if TYPE_CHECKING:
    import redis.asyncio

WAITING = 5_000
PUSHES = 200
HEAVY, HEAVY_S = 20, 0.5


class _Starts:
    """When tasks began, in order."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.began = anyio.Event()

    def note(self) -> None:
        self.at.append(time.perf_counter())
        self.began.set()


async def _waits(link: Link, starts: _Starts, count: int, pause_s: float, name: str = NORMAL) -> list[float]:
    """Push tasks one by one and wait for the start of each; how long it took."""
    found = []
    for number in range(count):
        one, known, starts.began = payload(number), len(starts.at), anyio.Event()
        pushed_at = time.perf_counter()
        await link.call([("RPUSH", name, one)])
        await starts.began.wait()
        found.append(starts.at[known] - pushed_at)
        await anyio.sleep(pause_s)
    return found


def _noting(starts: _Starts) -> Callable[..., Any]:
    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        starts.note()
        return {}

    return noop


async def idle(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """An idle worker, and a bare loop that waits in ``BRPOP``, in turns."""
    ours: list[float] = []
    theirs: list[float] = []
    link = Link(url, "bench-pushes")
    for _ in range(rounds):
        await fill(url, 0)
        starts = _Starts()
        async with worker(config_of(url), {"noop": _noting(starts)}):
            await anyio.sleep(0.2)
            ours += await _waits(link, starts, PUSHES // less, 0.002)
        starts = _Starts()
        async with anyio.create_task_group() as group:
            group.start_soon(bare_starts, url, starts.note)
            await anyio.sleep(0.2)
            theirs += await _waits(link, starts, PUSHES // less, 0.002)
            group.cancel_scope.cancel()
    await link.close()
    return [waits("push to start, idle, ms", ours, theirs)]


async def backlog(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """A priority task while 5,000 normal ones of 10 ms wait, and what a single list makes of it."""
    starts = _Starts()

    async def handle(args: dict[str, Any], context: Any) -> dict[str, Any]:
        if args.get("first"):
            starts.note()
        await anyio.sleep(0.01)
        return {}

    async def start_of(client: redis.asyncio.Redis, name: str, number: int) -> float:
        text, known, starts.began = _first(number), len(starts.at), anyio.Event()
        pushed_at = time.perf_counter()
        await (client.rpush if name == PRIORITY else client.lpush)(name, text)  # the newest end: tasks are pushed left
        await starts.began.wait()
        return starts.at[known] - pushed_at

    waiting = max(500, WAITING // less)
    await fill(url, waiting)
    found: list[float] = []
    async with connect(url) as client, worker(config_of(url), {"noop": handle}):
        for number in range(max(5, 100 // less)):
            found.append(await start_of(client, PRIORITY, number))
            await anyio.sleep(0.005)
    await fill(url, waiting)
    async with connect(url) as client, worker(config_of(url), {"noop": handle}):
        alone = await start_of(client, NORMAL, -1)
    row = waits(f"priority task under {waiting:,} waiting ones, ms", found)
    row |= {"the same on their list": round(alone * 1e3), "ratio": round(alone / statistics.median(found))}
    return [row]


def _first(number: int) -> bytes:
    return b'{"task_id":"first_%d","task_type":"noop","args":{"first":true}}' % number


async def beside_work(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """Tasks without work while as many children as cores compute for half a second each."""
    starts = _Starts()
    found: list[float] = []
    await fill(url, 0)
    link = Link(url, "bench-pushes")
    heavy = max(4, HEAVY // less)
    config = config_of(url, pool=PoolConfig(warm=True), tasks={})
    async with worker(config, {"noop": _noting(starts), "spin": spin}) as supervisor:
        text = b'{"task_id":"heavy_%d","task_type":"spin","args":{"for_s":%f}}'
        await link.call([("RPUSH", NORMAL, *(text % (number, HEAVY_S) for number in range(heavy)))])
        await anyio.sleep(0.2)
        while (pool := supervisor.state().pool) is not None and pool.busy and len(found) < 1_000:
            found += await _waits(link, starts, 1, 0.003)
    await link.close()
    return [waits(f"push to start beside {heavy} tasks of {HEAVY_S:g} s in the pool, ms", found)]
