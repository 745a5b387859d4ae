"""Opening a pool in a test, and looking at its processes from outside."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio

from aworker.execution.pool import LogRecord, Pool, PoolSettings, TaskInfo, open_pool


class OpenPool:
    """A pool with everything that it said."""

    def __init__(self, pool: Pool, records: list[LogRecord]) -> None:
        self.pool = pool
        self.records = records
        self.progress: list[tuple[str, str, Any, float | None]] = []

    async def run(self, function: Callable[..., Any] | str, *args: Any, task_id: str = "task-1", **options: Any) -> Any:
        """Call a function for a task of its own name."""
        options.setdefault("on_progress", lambda *update: self.progress.append(update))
        name = function if isinstance(function, str) else function.__name__
        task = TaskInfo(task_id, name, delivery=2, lease_id=77)
        return await self.pool.call(function, args, task=task, **options)

    @property
    def whole(self) -> bool:
        """Whether all children and the spare are there and idle."""
        stats = self.pool.stats()
        return stats.spare == 1 and stats.idle == stats.size and len(children_of(server_pid())) == stats.size + 1


@contextlib.asynccontextmanager
async def pool_of(processes: int = 2, **settings: Any) -> AsyncIterator[OpenPool]:
    """Open a pool with a short grace, and wait for its spare if it is to be warm."""
    records: list[LogRecord] = []
    settings.setdefault("stop_grace_s", 0.2)
    async with open_pool(PoolSettings(processes=processes, **settings), log=records.append) as pool:
        opened = OpenPool(pool, records)
        if settings.get("warm", True):
            await eventually(lambda: opened.whole)
        yield opened


async def eventually(is_so: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    give_up_at = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up_at, "it never came to be"
        await anyio.sleep(0.005)


async def exists(path: Path) -> None:
    """Wait until a file is there."""
    await eventually(path.exists)


def children_of(pid: int, *, zombies: bool = False) -> list[int]:
    """Return the pids of a process's children that are no zombies, or of those that are."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[:2]
                if int(parent) == pid and (state == "Z") is zombies:
                    found.append(int(name))
    return found


def server_pid() -> int:
    """Return the pid of this process's fork server, 0 when there is none."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            if b"aworker.execution.pool.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
