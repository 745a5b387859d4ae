"""Tasks of workers that died: back onto their lists.

Each renewal says when the next deadline of another worker passes; only then is anything asked. A reaper that has just
connected waits one lease time, since every worker's deadline passed while Redis was away; it skips a round when the
server's clock jumped against its own.
"""

from __future__ import annotations

import time

import anyio
from loguru import logger

from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable
from aworker.queues.queue import Leases
from aworker.queues.upkeep.renewal import Renewal

JUMP_S = 1.0


class Reaper:
    """Waits for what the renewals announce."""

    def __init__(self, live: LiveConfig, queue: Leases) -> None:
        self._live = live
        self._queue = queue
        self._latest: Renewal | None = None
        self._heard = anyio.Event()
        self._connects = 0
        self._not_before = 0.0
        self._clock_offset_s: float | None = None
        self._mismatches = 0

    def hear(self, renewal: Renewal) -> None:
        """Take a renewal from the heartbeat."""
        if not renewal.stood and self._connects:
            logger.warning("The lease deadline had passed: other workers may have taken this worker's tasks")
            self._queue.audit()
        elif renewal.held != len(self._queue.active):
            self._mismatches += 1
            if self._mismatches >= 3:
                self._mismatches = 0
                self._queue.audit()
        else:
            self._mismatches = 0
        self._latest = renewal
        self._heard.set()

    async def run(self) -> None:
        """Reclaim what is announced, until cancelled."""
        while True:
            await self._heard.wait()
            self._heard = anyio.Event()
            try:
                if self._latest is not None:
                    await self._act(self._latest)
            except QueueUnavailable as error:
                self._queue.health.down(str(error))

    async def _act(self, renewal: Renewal) -> None:
        config = self._live.value.worker
        now = time.monotonic()
        if renewal.connects != self._connects:
            self._connects = renewal.connects
            self._not_before = now + config.lease_ttl_s
        offset_s = renewal.now_ms / 1000 - renewal.heard_at
        jumped = self._clock_offset_s is not None and abs(offset_s - self._clock_offset_s) > JUMP_S
        self._clock_offset_s = offset_s
        if jumped:
            logger.warning("The server's clock jumped against this host's: no task is reclaimed in this round")
            self._not_before = max(self._not_before, now + config.lease_ttl_s)
        soon_ms = renewal.now_ms + config.renew_interval_s * 1000
        if now >= self._not_before and -1 < renewal.other_deadline_ms <= soon_ms:
            await self._wait_until(renewal, renewal.other_deadline_ms)
            while await self._queue.reclaim():
                pass

    async def _wait_until(self, renewal: Renewal, instant_ms: float) -> None:
        wait_s = (instant_ms - renewal.now_ms) / 1000 - (time.monotonic() - renewal.heard_at) + 0.002
        if wait_s > 0:
            await anyio.sleep(wait_s)
