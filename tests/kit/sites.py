"""A server that keeps every write, the worker processes on it, and all that their handlers and the server have seen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chaos.driver import WorkerProcess, pids_of
from tests.chaos.history import Effect, read_effects, read_stored
from tests.kit.servers import Server
from tests.kit.workers import eventually

PRIORITY, NORMAL = "strategy_queue_priority", "strategy_queue"


class Site:
    """A server that keeps every write, and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder, "--appendonly", "yes", "--appendfsync", "always")
        self.workers: list[WorkerProcess] = []

    async def worker(self, **options: Any) -> WorkerProcess:
        """Start a worker without reserved slots, and wait until it is ready."""
        defaults = {"slots": 4, "reserved": {}, "drain_timeout_s": 25.0}
        worker = WorkerProcess(self.server.url, self.folder, len(self.workers) + 1, **{**defaults, **options})
        self.workers.append(worker)
        await self.until(lambda: worker.is_ready)
        return worker

    async def until(self, holds: Callable[[], Any], *, within_s: float = 30.0) -> Any:
        async def asked() -> Any:
            return holds()

        return await eventually(asked, within_s=within_s)

    def keep_file(self) -> Path:
        """Copy the server's file as it is now."""
        kept = self.folder / "kept"
        shutil.copytree(self.folder / "appendonlydir", kept)
        return kept

    def go_back_to(self, kept: Path) -> None:
        """Kill the server and start it with what it had kept: all since then it never wrote down."""
        self.server.stop(signal.SIGKILL)
        shutil.rmtree(self.folder / "appendonlydir")
        kept.rename(self.folder / "appendonlydir")
        self.server.start()

    def push(self, *task_ids: str, task_type: str = "work", queue: str = NORMAL, **args: Any) -> list[str]:
        """Push tasks, oldest first, as the Go backend does."""
        with self.server.client() as client:
            for task_id in task_ids:
                created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                task = {"task_id": task_id, "task_type": task_type, "args": args, "created_at": created_at}
                client.rpush(queue, json.dumps(task))
        return list(task_ids)

    def effects(self, what: str, worker: WorkerProcess | None = None) -> list[Effect]:
        effects = read_effects(self.folder / "effects")
        return [one for one in effects if one.what == what and worker in (None, *self._of(one))]

    def _of(self, effect: Effect) -> Iterator[WorkerProcess]:
        yield from (worker for worker in self.workers if worker.pid == effect.worker_pid)

    def ends(self) -> Counter[str]:
        """Count the outcomes that were ever stored, by task_id."""
        return Counter(one.task_id for one in read_stored(self.folder) if one.status in ("completed", "error"))

    def record(self, task_id: str) -> dict[str, Any] | None:
        with self.server.client() as client:
            text = client.get(f"task_result:{task_id}")
        return None if text is None else json.loads(text)

    def completed(self, task_ids: list[str]) -> bool:
        return all((self.record(task_id) or {}).get("status") == "completed" for task_id in task_ids)

    def keys(self) -> set[str]:
        with self.server.client() as client:
            return {name.decode() for name in client.scan_iter() if not name.startswith(b"task_result:")}


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    """Start the server; at the end kill every process that is left."""
    opened = Site(folder)
    opened.server.start()
    try:
        yield opened
    finally:
        for pid in pids_of(folder):
            os.kill(pid, signal.SIGKILL)
        for worker in opened.workers:
            worker.process.wait(timeout=10)
        opened.server.stop(signal.SIGKILL)
