"""Delayed tasks, retried or enqueued for later: onto their lists when their time has come.

When that is, this worker hears from the renewals of its leases, from what it delays itself, and from producers, who
tell all workers of a task that is due before all others. Every worker acts on it; the script moves each task once. What
is due at once by the thousand goes in batches with a breath between, so that claims and other commands come in between.
"""

from __future__ import annotations

import time

import anyio

from aworker.errors import QueueUnavailable
from aworker.queues.queue import Leases
from aworker.queues.upkeep.renewal import Renewal

AFTER_S = 0.001
"""So much later than announced, since instants are whole milliseconds."""
BREATH_S = 0.005
LONGEST_S = 86_400.0


class DelayedTasks:
    """Sleeps until the next one is due, and puts it onto its list."""

    def __init__(self, queue: Leases) -> None:
        self._queue = queue
        self._due_at: float | None = None
        """On this host's monotonic clock."""
        self._sooner = anyio.Event()
        queue.on_delayed = self.expect

    def hear(self, renewal: Renewal) -> None:
        """Take a renewal from the heartbeat."""
        if renewal.due_ms >= 0:
            since_s = time.monotonic() - renewal.heard_at
            self.expect((renewal.due_ms - renewal.now_ms) / 1000 - since_s)

    def expect(self, due_in_s: float) -> None:
        """Note that a task is due in so many seconds, perhaps before all others."""
        due_at = time.monotonic() + due_in_s + AFTER_S
        if self._due_at is None or due_at < self._due_at:
            self._due_at = due_at
            self._sooner.set()

    async def run(self) -> None:
        """Put back what is due, until cancelled."""
        while True:
            await self._until_due()
            self._due_at = None
            try:
                moved, next_in_s = await self._queue.put_back_due()
            except QueueUnavailable as error:
                self._queue.health.down(str(error))  # the next renewal tells of it again
                continue
            if next_in_s is not None:
                self.expect(next_in_s)
            if moved:
                await anyio.sleep(BREATH_S)

    async def _until_due(self) -> None:
        while (left_s := LONGEST_S if self._due_at is None else self._due_at - time.monotonic()) > 0:
            with anyio.move_on_after(left_s):
                await self._sooner.wait()
            self._sooner = anyio.Event()
