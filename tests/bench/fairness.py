"""Measure who goes first: ``python -m tests.bench.fairness [reserved|aging|users|claims]``.

Prints figures of one run on a private server and asserts nothing. Tasks sleep in place of working, so that what is
measured is waiting.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import redis.asyncio

from aworker.clock import rfc3339
from aworker.config import Config, LiveConfig, LoggingConfig, QueueConfig, RedisConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.execution.registry import Handler, Registry
from aworker.logs import configure_logs
from aworker.queues.connection import connect
from aworker.queues.scripts import ALL, Script
from aworker.worker.supervisor import Supervisor
from tests.kit.queue_scripts import NORMAL, NOW_MS, PRIORITY, Item, Level, QueueScripts, task
from tests.kit.servers import Server

RUN_S = 25.0


class Seen:
    """When each task began and ended, by its id: monotonic seconds."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    async def all_of(self, task_ids: Iterable[str]) -> None:
        """Wait until each of these has begun."""
        missing = set(task_ids)
        while not missing <= self.began.keys():  # noqa: ASYNC110 - many events may make it true
            await anyio.sleep(0.005)

    async def sleep(self, args: dict[str, Any], context: Context) -> dict[str, Any]:
        """Take ``args.for_s`` seconds."""
        self.began[context.task_id] = time.perf_counter()
        await anyio.sleep(args["for_s"])
        self.ended[context.task_id] = time.perf_counter()
        return {}


@asynccontextmanager
async def worker(
    url: str, seen: Seen, *, queues: tuple[QueueConfig, ...] | None = None, **fields: Any
) -> AsyncIterator[None]:
    """Run a worker while the block runs, and end what it runs then at once."""
    config = Config(redis=RedisConfig(url=url), worker=WorkerConfig(drain_timeout_s=0, **fields))
    if queues is not None:
        config = msgspec.structs.replace(config, queues=queues)
    registry = Registry()
    for task_type in ("create_strategy", "backtest"):
        registry.add(Handler(task_type, seen.sleep))
    ready = asyncio.Event()
    supervisor = Supervisor(LiveConfig(config), registry, on_ready=ready.set)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await ready.wait()
        yield
        supervisor.drain()


def sleeping(task_id: str, task_type: str, for_s: float, user_id: int = 1) -> bytes:
    return task(task_id, rfc3339(), task_type=task_type, args={"for_s": for_s, "user_id": user_id})


async def push(client: redis.asyncio.Redis, name: str, *payloads: bytes) -> float:
    await client.rpush(name, *payloads)
    return time.perf_counter()


def in_ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def spread(waits: list[float]) -> str:
    ordered = sorted(waits)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {in_ms(statistics.median(ordered))}, p99 {in_ms(p99)}, longest {in_ms(ordered[-1])} ({len(waits)})"


async def reserved(url: str) -> None:
    """A create_strategy every second while 200 normal tasks of 5 s hold every slot that they may have."""
    for slots in (2, 0):
        async with connect(url) as client:
            await client.flushall()
            seen = Seen()
            pushed: dict[str, float] = {}
            await push(client, NORMAL, *(sleeping(f"n{index}", "backtest", 5.0) for index in range(200)))
            async with worker(url, seen, slots=16, reserved={"priority": slots}):
                await anyio.sleep(0.5)
                until = time.perf_counter() + RUN_S
                while time.perf_counter() < until:
                    name = f"p{len(pushed)}"
                    pushed[name] = await push(client, PRIORITY, sleeping(name, "create_strategy", 0.2))
                    await anyio.sleep(1.0)
                with anyio.move_on_after(10):
                    await seen.all_of(pushed)
        waits = [seen.began[name] - at for name, at in pushed.items() if name in seen.began]
        print(f"  16 slots, {slots} reserved: create_strategy starts after {spread(waits)}", flush=True)


async def aging(url: str) -> None:
    """The priority level is kept full for a while; how long the longest of the normal tasks waited in it."""
    for promote_after_s in (5.0, 0.0):
        queues = (
            QueueConfig(name=PRIORITY, label="priority"),
            QueueConfig(name=NORMAL, label="normal", promote_after_s=promote_after_s),
        )
        async with connect(url) as client:
            await client.flushall()
            seen = Seen()
            pushed: dict[str, float] = {}
            total = 0
            async with worker(url, seen, queues=queues, slots=4, reserved={}):
                until = time.perf_counter() + RUN_S
                while (now := time.perf_counter()) < until:
                    missing = 20 - int(await client.llen(PRIORITY))
                    if missing > 0:
                        names = [f"p{total + index}" for index in range(missing)]
                        total += missing
                        await push(client, PRIORITY, *(sleeping(name, "create_strategy", 0.1) for name in names))
                    if len(pushed) < (now - until + RUN_S) / 2 and now < until - 11:
                        name = f"n{len(pushed)}"
                        pushed[name] = await push(client, NORMAL, sleeping(name, "backtest", 0.1))
                    await anyio.sleep(0.05)
                done_at = time.perf_counter()
        waits = [seen.began.get(name, done_at) - at for name, at in pushed.items()]
        started = sum(name in seen.began for name in pushed)
        what = f"promote_after_s = {promote_after_s:g}" if promote_after_s else "aging off"
        print(
            f"  priority kept full for {RUN_S:g} s, {what}: {started} of {len(pushed)} normal tasks started, "
            f"longest wait {in_ms(max(waits))}{'' if started == len(pushed) else ' (until the end)'}",
            flush=True,
        )


async def users(url: str) -> None:
    """User 1 pushes 1,000 tasks, then user 2 pushes 10; when those of user 2 are done."""
    for most in (12, 0):
        async with connect(url) as client:
            await client.flushall()
            seen = Seen()
            theirs = [f"u2_{index}" for index in range(10)]
            async with worker(url, seen, slots=16, reserved={}, max_per_user=most):
                await push(client, NORMAL, *(sleeping(f"u1_{index}", "backtest", 0.1, 1) for index in range(1_000)))
                at = await push(client, NORMAL, *(sleeping(name, "backtest", 0.1, 2) for name in theirs))
                await seen.all_of([*(f"u1_{index}" for index in range(1_000)), *theirs])
                await anyio.sleep(0.2)
        done = max(seen.ended[name] for name in theirs) - at
        whole = max(seen.ended.values()) - at
        what = f"max_per_user = {most}" if most else "no limit by user"
        print(f"  {what}: user 2's 10 tasks are done after {in_ms(done)}, all 1,010 after {in_ms(whole)}", flush=True)


class ByDigest(QueueScripts):
    """Scripts sent as workers send them."""

    def _run(self, script: Script, keys: list[str], arguments: list[Any]) -> Any:
        return self.client.evalsha(script.digest, len(keys), *keys, *arguments)


async def claims(url: str) -> None:
    """Server time of one claim with 100,000 tasks waiting, as the server counts it."""
    backtests = [task(f"b{index}", args={"user_id": index % 50}) for index in range(100_000)]
    empty, one, two = Level(PRIORITY), (Level(NORMAL),), (Level(PRIORITY), Level(NORMAL))
    aged = (empty, Level(NORMAL, promote_ms=60_000))
    at_limit = {"types": {"backtest": 0}, "users": {}}
    near = {"types": {"alert": 0}, "users": {}}
    cases: list[tuple[str, tuple[Level, ...], dict[str, Any] | None, int]] = [
        ("one level", one, None, 1),
        ("two levels", two, None, 1),
        ("two levels with aging", aged, None, 1),
        ("two levels, another type at its limit", two, near, 1),
        ("two levels, the type at its limit", two, at_limit, 1),
        ("one level, 16 tasks a claim", one, None, 16),
        ("two levels, 16 tasks a claim", two, None, 16),
    ]
    medians: dict[str, float] = {}
    with ByDigest(url) as queue:
        queue.client.flushall()
        for script in ALL:
            queue.client.script_load(script.text)
        for at in range(0, len(backtests), 1_000):
            queue.client.lpush(NORMAL, *backtests[at : at + 1_000])
        # Turn by turn, so that what else the machine does falls on all alike.
        times: dict[str, list[float]] = {name: [] for name, *_ in cases}
        for turn in range(60):
            for name, levels, limits, want in cases:
                times[name].append(_claim_us(queue, levels, limits, want, NOW_MS + turn))
        medians = {name: statistics.median(values) for name, values in times.items()}
        waiting = queue.client.llen(NORMAL)
    print(f"  {waiting:,} tasks wait; server time of one claim:")
    for name, median in medians.items():
        base = medians["one level, 16 tasks a claim" if "16" in name else "one level"]
        print(f"    {name:<40} {median:>7.1f} us   {median / base:.2f} x one level", flush=True)


def _claim_us(
    queue: QueueScripts, levels: tuple[Level, ...], limits: dict[str, Any] | None, want: int, now_ms: int
) -> float:
    rounds, cursor = 50, 0
    payloads: list[tuple[int, bytes]] = []
    queue.client.config_resetstat()
    for _ in range(rounds):
        asked = (*levels[:-1], levels[-1]._replace(cursor=cursor))
        reply = queue.claim("w1", want, asked, limits=limits, now_ms=now_ms)
        cursor = reply.cursors[-1]
        payloads += [(claim.lease_id, claim.payload) for claim in reply.claims]
    spent: float = queue.client.info("commandstats")["cmdstat_evalsha"]["usec"] / rounds
    if payloads:
        items = [Item("back", lease_id, extras=("", "auto")) for lease_id, _ in reversed(payloads)]
        queue.settle(*items, worker="w1", now_ms=now_ms)
    return spent


MEASURES: dict[str, Callable[[str], Awaitable[None]]] = {
    "reserved": reserved,
    "aging": aging,
    "users": users,
    "claims": claims,
}


def main() -> None:
    names = sys.argv[1:] or list(MEASURES)
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        sys.exit(f"name must be one of {', '.join(MEASURES)}, was {unknown[0]!r}")
    configure_logs(LoggingConfig(level="ERROR", file="/dev/null"))
    with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder, Server(Path(folder)) as server:
        for name in names:
            print(f"{name}: {(MEASURES[name].__doc__ or '').strip()}", flush=True)
            anyio.run(MEASURES[name], server.url, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
