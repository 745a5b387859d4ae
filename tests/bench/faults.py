"""What becomes of tasks when workers, loops, children and the server fail: ``python -m tests.bench.faults [name ..]``.

Real worker processes with the default leases on a real server that keeps every write. Prints what was seen, asserts
nothing.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import redis

from aworker.config import WorkerConfig
from tests.chaos.driver import WorkerProcess
from tests.chaos.history import Effect, read_stored
from tests.kit.sites import NORMAL, Site, open_site

ROUNDS = 20
SLOTS = 16
WAITING = 1_000
FROZEN_S = 20.0
OUTAGE_S = 30.0
IDLE_S = 60.0
EVER_S = 1e9


async def start(site: Site, **options: Any) -> WorkerProcess:
    """Start a worker with the default times, and 16 slots that take from any level."""
    times = WorkerConfig()
    defaults = {"slots": SLOTS, "lease_ttl_s": times.lease_ttl_s, "renew_interval_s": times.renew_interval_s}
    return await site.worker(**{**defaults, **options})


async def started(site: Site, worker: WorkerProcess, task_ids: list[str], *, within_s: float = 60.0) -> list[Effect]:
    """Wait until a worker has begun all of these; return its beginnings, the first one first."""

    def begun() -> list[Effect]:
        wanted = set(task_ids)
        return [effect for effect in site.effects("start", worker) if effect.task_id in wanted]

    await site.until(lambda: {effect.task_id for effect in begun()} == set(task_ids), within_s=within_s)
    return begun()


def deliveries(site: Site, task_ids: list[str]) -> Counter[int]:
    """Count tasks by how often their handler began."""
    starts = Counter(effect.task_id for effect in site.effects("start"))
    return Counter(starts[task_id] for task_id in task_ids)


def stored_twice(site: Site) -> int:
    return sum(count > 1 for count in site.ends().values())


def finishers(site: Site, task_ids: list[str]) -> Counter[str]:
    """Count the stored outcomes of these tasks by the worker that stored each."""
    names = {f"_{worker.pid}_": f"worker {number}" for number, worker in enumerate(site.workers, 1)}
    found: Counter[str] = Counter()
    for record in read_stored(site.folder):
        if record.task_id in task_ids and record.status in ("completed", "error"):
            name = next((name for mark, name in names.items() if mark in record.worker_id), record.worker_id)
            found[f"{record.status} by {name}"] += 1
    return found


def events(worker: WorkerProcess, *, after: int = 0) -> list[str]:
    """Return a worker's log lines from an offset on, but for those of every task, of lengths and of children."""
    daily = ("Processing ", "Completed ", "INFO     [")
    lines = worker.log.read_bytes()[after:].decode().splitlines()
    return [line for line in lines if not any(word in line for word in daily)]


def show(name: str, line: str) -> None:
    print(f"{name}: {line}", flush=True)


def counted(counts: Counter[Any], word: str = "") -> str:
    return ", ".join(f"{count} {word}{what}" for what, count in sorted(counts.items())) or "none"


async def block(site: Site) -> None:
    """A handler that blocks the loop for 60 s, another worker idle."""
    first = await start(site)
    (task,) = site.push("blocks_60_s", task_type="blocks", sleep_s=60)
    await started(site, first, [task])
    await start(site)
    await site.until(lambda: site.completed([task]), within_s=90)
    (begun,), (end,) = site.effects("start"), site.effects("end")
    show(
        "block",
        f"the loop blocked for {end.at - begun.at:.1f} s, a second worker idle: {len(site.effects('start'))} "
        f"delivery; {counted(finishers(site, [task]))}",
    )


async def stall(site: Site) -> None:
    """A handler that blocks the loop for ever, tasks beside it, other workers idle."""
    workers = [await start(site, max_stall_s=10.0)]
    neighbours = site.push(*(f"neighbour_{index}" for index in range(8)), sleep_s=15)
    await started(site, workers[0], neighbours)
    (task,) = site.push("blocks_for_ever", task_type="blocks", sleep_s=EVER_S)
    await started(site, workers[0], [task])
    workers += [await start(site, max_stall_s=10.0) for _ in range(3)]
    await site.until(lambda: set(site.ends()) == {task, *neighbours}, within_s=120)
    for number, worker in enumerate(workers, 1):
        code = worker.process.poll()
        if code is not None:
            show("stall", f"worker {number} ended with exit code {code}; the end of its log:")
            lines = worker.log.read_text().rstrip().splitlines()
            blocked = next(index for index, line in enumerate(lines) if " CRITICAL " in line)
            for line in [lines[blocked], "  ..", *lines[-4:]]:
                show("stall", f"  {line}")
    begun = counted(deliveries(site, neighbours), "x")
    show("stall", f"its neighbours: {counted(finishers(site, neighbours))}; begun {begun}")
    show(
        "stall", f"the task itself: begun {counted(deliveries(site, [task]), 'x')}; {(site.record(task) or {})['data']}"
    )


async def freeze(site: Site) -> None:
    """kill -STOP for 20 s, then -CONT: tasks that end meanwhile, that end in a child, and that would go on."""
    zombie = await start(site)
    tasks = site.push(*(f"ended_{index}" for index in range(4)), sleep_s=3)
    tasks += site.push(*(f"child_{index}" for index in range(2)), task_type="heavy", sleep_s=3)
    tasks += site.push(*(f"going_on_{index}" for index in range(4)), sleep_s=FROZEN_S + 10)
    await started(site, zombie, tasks)
    await start(site)
    zombie.send(signal.SIGSTOP)
    told = zombie.log.stat().st_size
    await anyio.sleep(FROZEN_S)
    zombie.send(signal.SIGCONT)
    await site.until(lambda: site.completed(tasks))
    await anyio.sleep(2)
    for line in events(zombie, after=told):
        show("freeze", f"  {line}")
    show(
        "freeze",
        f"stopped for {FROZEN_S:g} s with {len(tasks)} running tasks: {counted(finishers(site, tasks))}; stored twice "
        f"{stored_twice(site)}; begun {counted(deliveries(site, tasks), 'x')}",
    )


async def outage(site: Site) -> None:
    """The server stopped for 30 s, 16 tasks running and 1,000 waiting."""
    worker = await start(site)
    tasks = site.push(*(f"ends_meanwhile_{index}" for index in range(SLOTS // 2)), sleep_s=10)
    tasks += site.push(*(f"goes_on_{index}" for index in range(SLOTS // 2)), sleep_s=OUTAGE_S + 10)
    await started(site, worker, tasks)
    waiting = site.push(*(f"waiting_{index}" for index in range(WAITING)), sleep_s=0.02)
    told = worker.log.stat().st_size
    await anyio.to_thread.run_sync(site.server.stop)
    await anyio.sleep(OUTAGE_S)
    await anyio.to_thread.run_sync(site.server.start)
    back_at = time.time()
    first = (await started(site, worker, waiting[:1]))[0]
    tasks += waiting
    await site.until(lambda: len(site.ends()) == len(tasks), within_s=120)
    for line in events(worker, after=told):
        show("outage", f"  {line}")
    show(
        "outage",
        f"Redis away for {OUTAGE_S:g} s: the first new task began {first.at - back_at:.2f} s after its return; of "
        f"{len(tasks)} tasks {len(tasks) - len(site.ends())} lost, {counted(finishers(site, tasks))}; stored twice "
        f"{stored_twice(site)}; begun {counted(deliveries(site, tasks), 'x')}",
    )


async def full(site: Site) -> None:
    """maxmemory at half of what is used: a worker that is there already, and one that starts then."""
    early = await start(site)
    tasks = site.push(*(f"running_{index}" for index in range(SLOTS)), sleep_s=3)
    await started(site, early, tasks)
    tasks += site.push(*(f"waiting_{index}" for index in range(WAITING)), sleep_s=0.05)
    with site.server.client() as client:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", used // 2)
        try:
            refused = f"is taken ({client.set('a_key', 'a value')})"
        except redis.RedisError as error:
            refused = f"meets {str(error)!r}"
        full_at = time.time()
        await start(site)
        await site.until(lambda: len(site.ends()) == len(tasks), within_s=120)
        waiting, memory = client.llen(NORMAL), client.info("memory")
    for number, worker in enumerate(site.workers, 1):
        for line in events(worker):
            show("full", f"  worker {number}: {line}")
    last = max(effect.at for effect in site.effects("end"))
    show(
        "full",
        f"used {used:,} bytes, maxmemory {used // 2:,}, noeviction (a plain SET {refused}): of {len(tasks)} tasks "
        f"{counted(finishers(site, tasks))} within {last - full_at:.1f} s; {waiting} wait; begun "
        f"{counted(deliveries(site, tasks), 'x')}; used at the end {memory['used_memory']:,}",
    )


async def idle(site: Site) -> None:
    """What a worker without work sends."""
    await start(site)
    await anyio.sleep(2)
    sent: Counter[str] = Counter()
    within: Counter[str] = Counter()

    def watch() -> None:
        with site.server.client() as client, client.monitor() as monitor:
            for command in monitor.listen():
                if command["command"].startswith("ECHO"):
                    return
                inside = command["client_type"] == "lua"
                (within if inside else sent)[command["command"].split()[0].upper()] += 1

    with site.server.client() as client:
        client.ping()  # what connecting sends is not to be counted
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, watch)
            await anyio.sleep(IDLE_S)
            client.echo("enough")
    show("idle", f"sent in {IDLE_S:g} s: {sent.total()} commands ({counted(sent)}); inside scripts {counted(within)}")


async def poison(site: Site) -> None:
    """A task that kills its child each time."""
    worker = await start(site)
    (task,) = site.push("kills_its_child", task_type="dies")
    neighbours = site.push(*(f"neighbour_{index}" for index in range(20)), task_type="heavy", sleep_s=0.2)
    await site.until(lambda: set(site.ends()) == {task, *neighbours})
    for line in events(worker):
        show("poison", f"  {line}")
    begun = sum(effect.task_id == task for effect in site.effects("start"))
    show(
        "poison",
        f"{begun} deliveries, then the dead letters; neighbours "
        f"{counted(finishers(site, neighbours))}, begun {counted(deliveries(site, neighbours), 'x')}",
    )
    command = [sys.executable, "-m", "aworker", "dead", "list", "--json", "--redis-url", site.server.url]
    print((await anyio.run_process(command)).stdout.decode(), end="", flush=True)


JOBS: dict[str, Callable[[Site], Awaitable[None]]] = {
    "block": block,
    "stall": stall,
    "freeze": freeze,
    "outage": outage,
    "full": full,
    "idle": idle,
    "poison": poison,
}


async def run(name: str, folder: Path) -> None:
    async with open_site(folder) as site:
        await JOBS[name](site)


def main(names: list[str]) -> None:
    for name in names or list(JOBS):
        with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder:
            anyio.run(run, name, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
