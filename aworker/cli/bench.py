"""``aworker bench``: what this machine does, beside the loops that it is compared with, in one run.

Every figure of aworker stands beside the same work done by a bare loop on the same server, turn and turn about, so that
a ratio holds where the machine does not. The bare loop that keeps nothing is the harder one: it pops, decodes and
forgets, and loses what it holds when it dies.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.options import JsonOption

if TYPE_CHECKING:
    from aworker.worker.supervisor import Supervisor

ROUNDS = 3
TASKS = {1: 2_000, 10: 8_000, 100: 20_000, 1_000: 20_000}
QUEUE = "strategy_queue"
PRIORITY = "strategy_queue_priority"
WAITING = 5_000

Row = dict[str, Any]


def bench(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="A twentieth of the tasks, one round.")] = False,
) -> None:
    """Measure this machine against the bare BRPOP loop.

    Runs a server of its own for about a minute; leave the machine alone meanwhile.
    """
    from aworker.app import collect_less_often
    from aworker.cli.serving.embedded import embedded_server
    from aworker.config import LoggingConfig
    from aworker.logs import configure_logs

    configure_logs(LoggingConfig(level="ERROR"))
    collect_less_often()
    with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder)) as server:
        rows = _run(_measured(server.url, 20 if quick else 1, 1 if quick else ROUNDS))
        rows.append({"what": "own memory, idle, all processes", **_memory(server.url)})
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"cores": len(os.sched_getaffinity(0)), "rows": rows})
    else:
        _show(rows)


def _run(work: Any) -> list[Row]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


async def _measured(url: str, less: int, rounds: int) -> list[Row]:
    rows: list[Row] = []
    for slots, tasks in TASKS.items():
        count = tasks // less
        ours, forgets, keeps = [], [], []
        for _ in range(rounds):
            await _fill(url, count)
            ours.append(await _worker_rate(url, slots, count))
            await _fill(url, count)
            forgets.append(await _bare_rate(url, slots, count, keeps=False))
            await _fill(url, count)
            keeps.append(await _bare_rate(url, slots, count, keeps=True))
        rows.append(_compared(f"tasks a second, {slots} slot{'s' * (slots > 1)}", ours, forgets, keeps))
    rows.append(await _two_step(url))
    rows.append(await _enqueued(url, 2_000 // less))
    rows.append(await _latency(url, 200 // less))
    rows.append(await _behind_a_backlog(url))
    return rows


def _compared(what: str, ours: list[float], forgets: list[float], keeps: list[float]) -> Row:
    return {
        "what": what,
        "aworker": round(statistics.median(ours)),
        "bare loop, keeps nothing": round(statistics.median(forgets)),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, forgets, strict=True)), 2),
        "bare loop, stores and publishes": round(statistics.median(keeps)),
    }


def _payload(number: int) -> bytes:
    import msgspec

    return msgspec.json.encode(
        {
            "task_id": f"bench_{number}_{time.time_ns()}",
            "task_type": "noop",
            "args": {"user_id": number % 100, "symbols": ["AAPL", "MSFT"]},
            "created_at": "2026-01-01T00:00:00Z",
            "priority": "normal",
        }
    )


async def _fill(url: str, count: int) -> None:
    from aworker.queues.connection import connect

    async with connect(url) as client:
        await client.flushall()
        for at in range(0, count, 1_000):
            await client.lpush(QUEUE, *map(_payload, range(at, min(count, at + 1_000))))


async def _bare_rate(url: str, slots: int, count: int, *, keeps: bool) -> float:
    """Pop, decode and, if it keeps something, store and publish: each slot on a connection of its own."""
    import anyio
    import msgspec

    from aworker.queues.connection import Link

    left = count
    slots = min(slots, 1_000)

    async def slot(link: Link) -> None:
        nonlocal left
        while left > 0:
            (popped,) = await link.call([("BRPOP", PRIORITY, QUEUE, 1)])
            if popped is None:
                return
            task = msgspec.json.decode(popped[1])
            left -= 1
            if keeps:
                text = msgspec.json.encode({"task_id": task["task_id"], "status": "completed", "data": {}})
                await link.call([("SET", f"task_result:{task['task_id']}", text, "EX", 86_400)])
                await link.call([("PUBLISH", "worker_task_updates", text)])

    links = [Link(url, f"bench-{number}") for number in range(slots)]
    for link in links:
        await link.call([("PING",)])
    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for link in links:
            group.start_soon(slot, link)
    elapsed = time.perf_counter() - started
    for link in links:
        await link.close()
    return count / elapsed


def _supervisor(url: str, slots: int, handler: Callable[..., Awaitable[Any]], ready: Callable[[], Any]) -> Supervisor:
    import msgspec

    from aworker.config import Config, LiveConfig, RedisConfig, ResultsConfig, TaskConfig, WorkerConfig
    from aworker.execution.registry import Handler, Registry
    from aworker.worker.supervisor import Supervisor

    registry = Registry()
    registry.add(Handler("noop", handler))
    config = msgspec.structs.replace(
        Config(),
        redis=RedisConfig(url=url),
        worker=WorkerConfig(slots=slots),
        results=ResultsConfig(repeat_fast_after_s=0),
        tasks={"backtest": TaskConfig(max_concurrent=2)},
    )
    return Supervisor(LiveConfig(config), registry, on_ready=ready)


async def _worker_rate(url: str, slots: int, count: int) -> float:
    import anyio

    done = asyncio.Event()
    handled, started = 0, 0.0

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()
        return {"success": True}

    def ready() -> None:
        nonlocal started
        started = time.perf_counter()

    supervisor = _supervisor(url, slots, noop, ready)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await done.wait()
        elapsed = time.perf_counter() - started
        supervisor.drain()
    return count / elapsed


async def _two_step(url: str) -> Row:
    """The cycle as the mission prints it: the priority list for a second, then the normal one, with one slot."""
    from aworker.queues.connection import connect

    count = 3
    await _fill(url, count)
    async with connect(url) as client:
        started = time.perf_counter()
        for _ in range(count):
            if await client.brpop([PRIORITY], timeout=1) is None:
                await client.brpop([QUEUE], timeout=60)
        rate = count / (time.perf_counter() - started)
    await _fill(url, 2_000)
    ours = await _worker_rate(url, 1, 2_000)
    return {"what": "the literal two-step cycle, 1 slot, a second", "aworker": round(ours), "two-step": round(rate, 1)}


async def _enqueued(url: str, count: int) -> Row:
    from aworker.client.client import Client
    from aworker.queues.connection import connect

    async with Client(url) as client, connect(url) as bare:
        started = time.perf_counter()
        for number in range(count):
            await client.enqueue("noop", {"n": number})
        ours = count / (time.perf_counter() - started)
        payload = _payload(1)
        started = time.perf_counter()
        for _ in range(count):
            await bare.rpush(QUEUE, payload)
        theirs = count / (time.perf_counter() - started)
    return {
        "what": "enqueued a second, one by one",
        "aworker": round(ours),
        "bare RPUSH": round(theirs),
        "ratio": round(ours / theirs, 2),
    }


async def _latency(url: str, count: int) -> Row:
    import anyio

    from aworker.queues.connection import connect

    starts: list[float] = []
    ready = anyio.Event()

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        starts.append(time.perf_counter())
        return {}

    supervisor = _supervisor(url, 16, noop, ready.set)
    waits: list[float] = []
    async with connect(url) as client, anyio.create_task_group() as group:
        await client.flushall()
        group.start_soon(supervisor.run)
        await ready.wait()
        await anyio.sleep(0.2)
        for number in range(count):
            payload, pushed = _payload(number), time.perf_counter()
            await client.rpush(QUEUE, payload)
            while len(starts) <= number:  # noqa: ASYNC110 - an event would cost what is measured
                await anyio.sleep(0.0005)
            waits.append(starts[number] - pushed)
            await anyio.sleep(0.002)
        supervisor.drain()
    waits.sort()
    return {
        "what": "push to start, idle, ms",
        "p50": round(waits[len(waits) // 2] * 1e3, 2),
        "p99": round(waits[int(len(waits) * 0.99)] * 1e3, 2),
    }


async def _behind_a_backlog(url: str) -> Row:
    import anyio

    from aworker.queues.connection import connect

    started: dict[str, float] = {}
    ready = anyio.Event()

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        started[context.task_id] = time.perf_counter()
        await anyio.sleep(0.01)
        return {}

    await _fill(url, WAITING)
    supervisor = _supervisor(url, 16, noop, ready.set)
    waits: list[float] = []
    async with connect(url) as client, anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await ready.wait()
        for number in range(50):
            task_id, pushed = f"first_{number}", time.perf_counter()
            await client.rpush(PRIORITY, b'{"task_id":"%s","task_type":"noop","args":{}}' % task_id.encode())
            while task_id not in started:  # noqa: ASYNC110 - an event would cost what is measured
                await anyio.sleep(0.0005)
            waits.append(started[task_id] - pushed)
            await anyio.sleep(0.005)
        supervisor.drain()
    waits.sort()
    return {
        "what": f"priority task under {WAITING:,} waiting ones, ms",
        "p50": round(waits[len(waits) // 2] * 1e3, 2),
        "p99": round(waits[-1] * 1e3, 2),
    }


def _memory(url: str) -> Row:
    """Proportional set size of an idle ``aworker run`` and all its children, MB."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "aworker", "run", "--redis-url", url]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "AWORKER_HTTP__PORT": "0"}
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "is ready" in line:
                break
        time.sleep(0.5)
        return {"MB": round(sum(map(_pss_kb, _family(process.pid))) / 1_024)}
    finally:
        process.terminate()
        process.communicate()


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


def _show(rows: list[Row]) -> None:
    from rich.table import Table

    from aworker.cli.screen.show import open_console

    table = Table(box=None)
    table.add_column("what")
    table.add_column("aworker", justify="right")
    table.add_column("beside it", justify="right")
    table.add_column("ratio", justify="right")
    for row in rows:
        others = [f"{name} {value:,}" for name, value in row.items() if name not in ("what", "aworker", "ratio")]
        table.add_row(
            row["what"],
            f"{row['aworker']:,}" if "aworker" in row else "",
            "\n".join(others),
            f"{row['ratio']:.2f}" if "ratio" in row else "",
        )
    open_console().print(table)
