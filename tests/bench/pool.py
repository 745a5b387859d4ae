"""What the process pool costs and survives: ``python -m tests.bench.pool [name ..]``.

Prints figures, asserts nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from aworker.client.client import Client
from aworker.config import LoggingConfig, PoolConfig, TaskConfig
from aworker.logs import configure_logs
from aworker.metrics import tally
from tests.bench import handlers
from tests.kit.pools import alive, children_of, eventually, server_pid
from tests.kit.servers import Server
from tests.kit.workers import config_of, running_worker

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


JOBS: dict[str, Callable[[Server], Awaitable[None]]] = {
    "kills": kills,
    "timeouts": timeouts,
    "orphans": orphans,
    "memory": memory,
}


def main(names: list[str]) -> None:
    configure_logs(LoggingConfig(level="ERROR", file="/dev/null"))
    for name in names or list(JOBS):
        with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder, Server(Path(folder)) as server:
            anyio.run(JOBS[name], server, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main(sys.argv[1:])
