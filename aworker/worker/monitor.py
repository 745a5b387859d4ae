"""The queue lines in the log: how long each list is, and what is leased, delayed and dead."""

from __future__ import annotations

from loguru import logger

from aworker.config import LiveConfig
from aworker.queues.queue import Queue


class Monitor:
    """Logs the queues' state; run at the start and then every ``monitor.interval_s``."""

    def __init__(self, live: LiveConfig, queue: Queue, worker_id: str) -> None:
        self._live = live
        self._queue = queue
        self._worker_id = worker_id

    async def log_status(self) -> None:
        """Write the two lines."""
        lengths = await self._queue.lengths()
        labels = [queue.label for queue in self._live.value.queues]
        words = ", ".join(f"{label.title()} Queue: {lengths[label]} tasks" for label in labels)
        total = sum(lengths[label] for label in labels)
        log = logger.bind(repeats=True)  # the same at every turn while nothing happens
        log.info(f"[QUEUE STATUS] Worker {self._worker_id}: {words}, Total: {total} tasks")
        log.info(
            f"[QUEUE STATUS] Worker {self._worker_id}: "
            f"Leased: {lengths['leased']}, Delayed: {lengths['delayed']}, Dead: {lengths['dead']}"
        )
