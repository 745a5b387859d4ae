"""What a scrape each second costs at full load: ``python -m tests.bench.scraping [rounds [tasks]]``.

One worker of 100 slots, short tasks of ten types on both levels, with and without another process that asks for
``/metrics`` once a second, turn and turn about on one server; then the processor time of one scrape, which holds on a
machine that does other things as well. Prints figures, asserts nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import uvloop

from aworker.app import collect_less_often
from aworker.config import HttpConfig, LiveConfig, LoggingConfig, ResultsConfig, WorkerConfig
from aworker.execution.registry import Handler, Registry
from aworker.logs import configure_logs
from aworker.queues.connection import connect
from aworker.web.server import Listener, application, site_of
from aworker.worker.supervisor import Supervisor
from tests.kit.queue_scripts import NORMAL, PRIORITY, task
from tests.kit.servers import Server, free_port
from tests.kit.workers import config_of

ROUNDS, TASKS, SLOTS = 5, 100_000, 100
ALONE = 200
"""Scrapes one after the other of a worker that is idle."""
TYPES = [f"type_{number}" for number in range(10)]
SCRAPER = """
import sys, time, urllib.request
at = time.monotonic()
for _ in range(int(sys.argv[2])):
    with urllib.request.urlopen(sys.argv[1], timeout=10) as reply:
        print(len(reply.read()), time.monotonic() - at, flush=True)
    at += float(sys.argv[3])
    time.sleep(max(0.0, at - time.monotonic()))
"""


class Run(NamedTuple):
    """One measurement."""

    rate: float
    """Tasks a second."""
    processor_us: float
    """Of the worker's process, a task."""
    scrapes: list[tuple[int, float]]
    """Bytes and seconds of each."""
    alone_ms: float
    """Of the worker's process, a scrape, with nothing else to do."""


async def measured(url: str, tasks: int, is_scraped: bool) -> Run:
    """Run all tasks through one worker."""
    async with connect(url) as client:
        await client.flushall()
        for name in (PRIORITY, NORMAL):
            for at in range(0, tasks // 2, 1_000):
                payloads = (task(f"{name}_{n}", task_type=TYPES[n % 10]) for n in range(at, at + 1_000))
                await client.lpush(name, *payloads)
    done = asyncio.Event()
    handled = 0

    async def noop(args: dict[str, Any], context: Any) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        if handled == tasks:
            done.set()
        return {"success": True}

    port = free_port()
    live = LiveConfig(
        config_of(
            url,
            worker=WorkerConfig(slots=SLOTS),
            results=ResultsConfig(repeat_fast_after_s=0),
            http=HttpConfig(port=port),
        )
    )
    registry = Registry()
    for task_type in TYPES:
        registry.add(Handler(task_type, noop))
    ready = anyio.Event()
    supervisor = Supervisor(live, registry, on_ready=ready.set)
    site = site_of(live)
    listener = Listener(application(live, supervisor.state, lambda: supervisor.queue, site), "127.0.0.1", port, site)
    scraper: subprocess.Popen[str] | None = None
    command = [sys.executable, "-c", SCRAPER, f"http://127.0.0.1:{port}/metrics"]
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve)
        group.start_soon(supervisor.run)
        await ready.wait()
        if is_scraped:
            scraper = subprocess.Popen([*command, "1000", "1"], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        started_at, processor_s = time.perf_counter(), time.process_time()
        await done.wait()
        elapsed_s, used_s = time.perf_counter() - started_at, time.process_time() - processor_s
        said = ""
        if scraper is not None:
            scraper.kill()
            said = scraper.communicate()[0]
        processor_s = time.process_time()
        await anyio.run_process([*command, str(ALONE), "0"])
        alone_ms = (time.process_time() - processor_s) / ALONE * 1e3
        await listener.stop()
        supervisor.drain()
    scrapes = [(int(line.split()[0]), float(line.split()[1])) for line in said.splitlines()]
    return Run(tasks / elapsed_s, used_s / tasks * 1e6, scrapes, alone_ms)


async def main(rounds: int = ROUNDS, tasks: int = TASKS) -> None:
    """Measure turn and turn about, and print medians."""
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        without, scraped = [], []
        for _ in range(rounds):
            without.append(await measured(server.url, tasks, False))
            scraped.append(await measured(server.url, tasks, True))
    ratio = statistics.median(b.rate / a.rate for a, b in zip(without, scraped, strict=True))
    dearer = statistics.median(b.processor_us / a.processor_us for a, b in zip(without, scraped, strict=True))
    scrapes = [scrape for run in scraped for scrape in run.scrapes]
    for what, runs in (("without", without), ("a scrape each second", scraped)):
        rate = statistics.median(run.rate for run in runs)
        used = statistics.median(run.processor_us for run in runs)
        print(f"{what}: {rate:,.0f} tasks a second, {used:.1f} us of the worker's processor a task")
    print(f"ratio of rates {ratio:.3f}, of processor time a task {dearer:.3f} (medians of {rounds} pairs)")
    alone_ms = statistics.median(run.alone_ms for run in [*without, *scraped])
    print(f"a scrape takes {alone_ms:.1f} ms of the worker's processor: {alone_ms / 10:.2f} % of it, one each second")
    print(
        f"{len(scrapes)} scrapes of {max((size for size, _ in scrapes), default=0):,} bytes, "
        f"{statistics.median(took for _, took in scrapes) * 1e3:.0f} ms at the median"
    )


if __name__ == "__main__":
    configure_logs(LoggingConfig(level="ERROR"))
    collect_less_often()
    uvloop.run(main(*map(int, sys.argv[1:])))
