"""A worker to be killed: opens a pool, keeps its children busy in three ways, prints their pids and waits.

Run as ``python -m tests.fault.orphan_maker FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from tests.kit import pool_functions as functions
from tests.kit.pools import children_of, eventually, exists, pool_of, server_pid


async def main(folder: Path) -> None:
    async with pool_of(3, stop_grace_s=60.0) as opened, anyio.create_task_group() as tasks:
        for function in (functions.spin, functions.sleep, functions.hold_the_interpreter):
            tasks.start_soon(opened.run, function, str(folder / function.__name__))
            await exists(folder / function.__name__)
        await eventually(lambda: len(children_of(server_pid())) == 4)
        print(server_pid(), *children_of(server_pid()), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]))
