"""What the process pool costs and survives: ``python -m tests.bench.pool [name ..]``.

Prints figures, asserts nothing.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from aworker.client.client import Client
from aworker.config import LoggingConfig, MarketDataConfig, PoolConfig, TaskConfig, WorkerConfig
from aworker.execution.pool import PoolSettings, TaskInfo, open_pool
from aworker.logs import configure_logs
from aworker.metrics import tally
from tests.bench import handlers
from tests.kit.pools import alive, children_of, eventually, server_pid
from tests.kit.servers import Server
from tests.kit.workers import config_of, running_worker

SYMBOLS, BARS = 500, 2_520


KILLER = """
import os, random, signal, sys, time
from tests.kit.pools import children_of
killed = 0
while os.getppid() != 1 and not os.path.exists(sys.argv[2]):
    time.sleep(0.5)
    children = children_of(int(sys.argv[1]))
    if children:
        os.kill(random.choice(children), signal.SIGKILL)
        killed += 1
print(killed)
"""


async def kills(server: Server) -> None:
    """1,000 tasks through 2 children while a second process kills a random child every 0.5 s."""
    tally.ended.clear()
    config = config_of(server.url, pool=PoolConfig(processes=2))
    async with Client(server.url) as client, running_worker(config, {"work": handlers.work}):
        task_ids = await client.enqueue_many([("work", {})] * 1000)
        stop = server.folder / "stop"
        command = [sys.executable, "-c", KILLER, str(server_pid()), str(stop)]
        async with await anyio.open_process(command, stderr=None) as killer:
            records = [await client.result(task_id, wait_s=120) for task_id in task_ids]
            stop.touch()
            assert killer.stdout is not None
            killed = int(await killer.stdout.receive())
        await eventually(lambda: len(children_of(server_pid())) >= 3)
        children = len(children_of(server_pid()))
    statuses = [record["status"] if record else "none" for record in records]
    done = statuses.count("completed")
    returned = sum(count for (*_, outcome), count in tally.ended.items() if outcome == "returned")
    print(
        f"kills: {killed} children killed, {returned} redeliveries, {done} tasks completed, "
        f"{len(statuses) - done} not; children at the end {children} (2 and a spare)"
    )


async def timeouts(server: Server) -> None:
    """A timeout of 1 s on three ways to hang."""
    names = ("spin", "sleep", "hold_the_interpreter")
    config = config_of(server.url, tasks={name: TaskConfig(timeout_s=1) for name in names})
    async with (
        Client(server.url) as client,
        running_worker(config, {name: getattr(handlers, name) for name in names}),
    ):
        for name in names:
            started = time.perf_counter()
            record = await client.result(await client.enqueue(name), wait_s=30)
            waited = time.perf_counter() - started
            print(f"timeouts: {name}: {record and record['data']['error_type']} after {waited:.2f} s")


async def overhead(server: Server) -> None:
    """What a call costs, and what 200 of them do to the loop."""
    info = TaskInfo("t", "t", 1, 1)
    settings = PoolSettings(processes=2, preload=("tests.bench.handlers",))
    async with open_pool(settings, log=lambda record: None) as pool:

        async def call(value: Any) -> Any:
            return await pool.call(handlers.echo, (value,), task=info, on_progress=lambda *_: None)

        for name, value, count in (("empty", None, 2000), ("1 MB in and out", b"x" * 1_000_000, 100)):
            waits = []
            for _ in range(count):
                started = time.perf_counter()
                await call(value)
                waits.append(time.perf_counter() - started)
            waits.sort()
            p50, p99 = waits[count // 2] * 1e3, waits[int(count * 0.99)] * 1e3
            print(f"overhead: {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")

        longest, last = 0.0, time.perf_counter()

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            async with anyio.create_task_group() as calls:
                for _ in range(200):
                    calls.start_soon(call, None)
            group.cancel_scope.cancel()
        print(f"overhead: longest pause of the loop during 200 empty tasks {longest * 1e3:.1f} ms")


async def orphans(server: Server) -> None:
    """The worker killed with -9 while children run."""
    code = (
        "import anyio, sys\n"
        "from tests.bench import handlers\n"
        "from tests.kit.workers import config_of, running_worker\n"
        "async def main():\n"
        "    async with running_worker(config_of(sys.argv[1]), {'spin': handlers.spin}):\n"
        "        print('ready', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-c", code, server.url]
    async with await anyio.open_process(command, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdout is not None
        await worker.stdout.receive()
        async with Client(server.url) as client:
            await client.enqueue_many([("spin", {})] * 2)
            await anyio.sleep(1)
        fork_server = children_of(worker.pid)[0]
        pids = [fork_server, *children_of(fork_server)]
        worker.kill()
        await worker.wait()
        await anyio.sleep(1)
    left = [pid for pid in pids if alive(pid)]
    print(f"orphans: of the fork server and its {len(pids) - 1} children, {len(left)} are left a second after kill -9")


async def memory(server: Server) -> None:
    """A child that allocates without end under 512 MB, beside neighbours."""
    config = config_of(
        server.url,
        pool=PoolConfig(processes=2, max_child_memory_bytes=512 << 20),
        tasks={"allocate": TaskConfig(timeout_s=60)},
    )
    async with (
        Client(server.url) as client,
        running_worker(config, {"work": handlers.work, "allocate": handlers.allocate}),
    ):
        greedy = await client.enqueue("allocate")
        neighbours = await client.enqueue_many([("work", {})] * 100)
        record = await client.result(greedy, wait_s=60)
        statuses = [(await client.result(one, wait_s=60) or {}).get("status") for one in neighbours]
        print(
            f"memory: {record and record['data']['error']}; neighbours completed {statuses.count('completed')} of 100"
        )


async def backtest(server: Server) -> None:
    """A backtest over many symbols with one and with two children."""
    from aworker.app import TRADING_CHILD_MODULES, build_registry
    from aworker.config import LiveConfig
    from aworker.worker.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="aworker-bars-") as folder:
        await anyio.to_thread.run_sync(_write_bars, folder)
        for processes in (1, 2):
            config = config_of(
                server.url,
                pool=PoolConfig(processes=processes),
                market_data=MarketDataConfig(path=folder),
                worker=WorkerConfig(slots=4),
            )
            ready = anyio.Event()
            supervisor = Supervisor(
                LiveConfig(config), build_registry(config), preload=TRADING_CHILD_MODULES, on_ready=ready.set
            )
            async with anyio.create_task_group() as group, Client(server.url) as client:
                group.start_soon(supervisor.run)
                await ready.wait()
                prompt = "golden cross, 10% stop loss"
                made = await client.enqueue("create_strategy", {"user_id": 1, "prompt": prompt})
                record = await client.result(made, wait_s=10)
                assert record is not None
                strategy_id = record["data"]["strategy"]["strategyId"]
                args = {"strategy_id": strategy_id, "start_date": "1990-01-01", "end_date": "2040-01-01"}
                waits = []
                for _ in range(4):
                    started = time.perf_counter()
                    record = await client.result(await client.enqueue("backtest", args), wait_s=120)
                    waits.append(time.perf_counter() - started)
                    assert record is not None
                    assert record["status"] == "completed", record
                child = max(_peak_rss_mb(pid) for pid in children_of(server_pid()))
                print(
                    f"backtest: {SYMBOLS} x {BARS} with {processes} children: first {waits[0]:.2f} s, then at best "
                    f"{min(waits[1:]):.2f} s; {record['data']['summary']['total_instances']} trades; largest child "
                    f"{child:.0f} MB, parent {_peak_rss_mb(os.getpid()):.0f} MB (with this bench in it)"
                )
                supervisor.drain()


def _write_bars(folder: str) -> None:
    code = (
        "import sys\n"
        "from aworker.trading.bars.store import BarStore\n"
        "from tests.bench.trading import random_bars\n"
        "store = BarStore(sys.argv[1])\n"
        f"store.write_many(random_bars(number, {BARS}, f'S{{number:04}}') for number in range({SYMBOLS}))\n"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)


def _peak_rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


JOBS: dict[str, Callable[[Server], Awaitable[None]]] = {
    "kills": kills,
    "timeouts": timeouts,
    "overhead": overhead,
    "orphans": orphans,
    "memory": memory,
    "backtest": backtest,
}


def main(names: list[str]) -> None:
    configure_logs(LoggingConfig(level="ERROR", file="/dev/null"))
    for name in names or list(JOBS):
        with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder, Server(Path(folder)) as server:
            anyio.run(JOBS[name], server, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main(sys.argv[1:])
