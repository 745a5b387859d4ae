"""The heartbeat: a thread with a connection of its own renews the lease deadline and tells that the worker lives.

Being a thread, it goes on while a handler blocks the event loop. It watches the loop as well: one that is blocked
longer than ``worker.max_stall_s`` is taken for dead, its stacks are logged and the process ends, so that another worker
gets its tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NoReturn

import msgspec
from loguru import logger

from aworker.clock import rfc3339
from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable
from aworker.execution.executor import Run
from aworker.logs import flush_logs
from aworker.metrics import totals
from aworker.queues.presence import Minute, Presence
from aworker.queues.queue import Queue
from aworker.queues.upkeep.renewal import Renewal, Renewer, Says
from aworker.task import Task

BEAT_INTERVAL_S = 5.0
DESCRIBE_INTERVAL_S = 1.0
MONITOR_TIMEOUT_S = 10
LATE_S = 1.0
CUT_AFTER_S = 2.0
CUT_POPS_AFTER_S = 5.0
"""Without leases: what a pop that is cut had taken is lost."""
RETRY_INTERVAL_S = 0.5
STALLED_EXIT_CODE = 70
END_FLUSH_S = 2.0


class Heartbeat:
    """Renews, beats and watches, from its own thread; what it hears is told to the loop."""

    def __init__(
        self,
        live: LiveConfig,
        queue: Queue,
        runs: Mapping[int, Run],
        *,
        on_renewal: Callable[[Renewal], None],
        on_cut: Callable[[], None],
        on_turn: Callable[[], object] = bool,
        describe: Callable[[], tuple[Presence, dict[str, Minute]]],
        tick_s: float,
    ) -> None:
        self._tick_s = tick_s
        self._live = live
        self._queue = queue
        self._runs = runs
        self._on_renewal = on_renewal
        self._on_cut = on_cut
        self._on_turn = on_turn
        self._describe = describe
        self._described = describe()
        self._described_at = float("-inf")
        self._told = self._described[1]
        self._told_news: object = None
        self._loop = asyncio.get_running_loop()
        self._renewer = Renewer(live, queue.worker_id)
        self._leased = queue.leases is not None
        self._started_at = time.monotonic()
        self._ticked_at = time.monotonic()
        self._renewed_at = float("-inf")
        self._lengths: dict[str, int] = {}
        self._is_refused = False
        self._stop = threading.Event()
        self._poke = threading.Event()
        self._ready = False
        self._thread = threading.Thread(target=self._run, name="aworker-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ready(self) -> None:
        """Let the heartbeat key stand from now on."""
        self.note()
        self._ready = True
        self._poke.set()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stop.set()
        self._poke.set()
        self._thread.join(timeout=5)

    async def tick(self) -> None:
        """Note that the loop turns, and once a second what the worker does."""
        now, before = time.monotonic(), self._ticked_at
        self._ticked_at = now
        totals.loop_lag.observe(max(0.0, now - before - self._tick_s))
        if self._ticked_at - self._described_at >= DESCRIBE_INTERVAL_S:
            self.note()

    def note(self) -> None:
        """Note what the worker does, for the next beat and for the last one."""
        self._described_at = time.monotonic()
        self._described = self._describe()

    @property
    def renewal_age_s(self) -> float:
        """Seconds since Redis last took a renewal of the leases; without leases: since it last answered."""
        return time.monotonic() - self._renewed_at

    @property
    def is_ready(self) -> bool:
        """Whether the worker serves."""
        return self._ready

    @property
    def fullness(self) -> str:
        """Why Redis takes nothing new, in its words; empty when it takes it."""
        return self._renewer.fullness

    @property
    def loop_lag_s(self) -> float:
        """Seconds since the loop last turned, beyond the interval at which it is asked to."""
        return max(0.0, time.monotonic() - self._ticked_at)

    def _run(self) -> None:
        renewed_at = time.monotonic()
        beat_at = float("-inf")
        suspected_at = float("-inf")
        is_renewed = False
        while not self._stop.is_set():
            config = self._live.value
            now = time.monotonic()
            self._on_turn()
            ticked_at = self._ticked_at
            if config.worker.max_stall_s and now - ticked_at > config.worker.max_stall_s:
                # Seen twice: where the whole process was stopped, the loop has a round in which to turn again.
                if suspected_at == ticked_at:
                    self._end_process(now - ticked_at)
                suspected_at = ticked_at
            beats = self._ready and now - beat_at >= BEAT_INTERVAL_S
            try:
                text = self._text() if beats else b""
                levels = self._described[1]
                news = self._news()
                says = self._says(levels) if beats or (self._ready and news != self._told_news) else None
                if self._leased:
                    renewal = self._renewer.renew(text, says)
                    totals.renewals["renewed" if renewal.stood or not is_renewed else "late"] += 1
                    is_renewed = True
                    self._tell(self._on_renewal, renewal)
                elif beats:
                    self._renewer.beat(text, says)
                else:
                    self._renewer.probe(says)
                self._renewed_at = renewed_at = time.monotonic()
                if beats:
                    beat_at = now
                if says is not None:
                    self._told_news = news
                    self._said(levels)
            except QueueUnavailable:
                totals.renewals["failed"] += self._leased
                if time.monotonic() - renewed_at > (CUT_AFTER_S if self._leased else CUT_POPS_AFTER_S):
                    renewed_at = time.monotonic()
                    self._tell(self._on_cut)
            is_well = self._renewed_at >= now
            self._poke.wait(min(config.worker.renew_interval_s, float("inf") if is_well else RETRY_INTERVAL_S))
            self._poke.clear()
        if self._ready and self.renewal_age_s < CUT_AFTER_S:
            with contextlib.suppress(QueueUnavailable):  # it is on its way out
                self._renewer.present(self._says(self._described[1]))
        self._renewer.close()

    def _text(self) -> bytes:
        tasks = [lease.task for lease in list(self._queue.active.values())]
        active = [task.task_id for task in tasks if isinstance(task, Task)]
        queues = self._live.value.queues
        lengths = self._lengths = dict(
            zip((queue.label for queue in queues), self._renewer.lengths([queue.name for queue in queues]), strict=True)
        )
        at = rfc3339()
        return msgspec.json.encode(
            {
                "worker_id": self._queue.worker_id,
                "status": "alive",
                "timestamp": at,
                "uptime_seconds": round(time.monotonic() - self._started_at, 3),
                "active_task": active[0] if active else None,
                "active_tasks": active,
                "queue_stats": {
                    **{f"{label}_queue_length": length for label, length in lengths.items()},
                    "total_pending_tasks": sum(lengths.values()),
                    "worker_id": self._queue.worker_id,
                    "timestamp": at,
                },
                "heartbeat_interval": int(BEAT_INTERVAL_S),
                "monitor_timeout": MONITOR_TIMEOUT_S,
            }
        )

    def _news(self) -> object:
        # What those who watch are told with the next renewal instead of the next beat: an idle worker has none.
        presence, levels = self._described
        running = [(task.task_id, task.delivery) for task in presence.running]
        return levels, running, presence.is_draining, self.loop_lag_s > LATE_S

    def _says(self, totals: dict[str, Minute]) -> Says:
        presence = msgspec.structs.replace(self._described[0], loop_lag_s=round(self.loop_lag_s, 3))
        return presence, {
            label: Minute(
                self._lengths.get(label, 0),
                total.taken - known.taken,
                total.completed - known.completed,
                total.failed - known.failed,
            )
            for label, total in totals.items()
            for known in (self._told.get(label, Minute()),)
        }

    def _said(self, totals: dict[str, Minute]) -> None:
        # For those who watch: that it is refused must not look as if leases could not be renewed.
        refusal = self._renewer.refusal
        if not refusal:
            self._told = totals
        elif not self._is_refused:
            logger.warning(f"What this worker does cannot be shown to others: {refusal}")
        self._is_refused = bool(refusal)

    def _tell(self, listener: Callable[..., None], *values: Renewal) -> None:
        try:
            self._loop.call_soon_threadsafe(listener, *values)
        except RuntimeError:
            self._stop.set()  # the loop is closed: the process is ending

    def _give_back_neighbours(self) -> None:
        # The task whose handler holds the loop is left to be reclaimed, which counts; the others are not to blame.
        current = asyncio.current_task(self._loop)
        blocker = next((run.lease for run in list(self._runs.values()) if run.owner is current), None)
        leases = self._queue.leases
        if current is None or blocker is None or leases is None:
            return
        active = self._queue.active
        neighbours = [active[lease_id] for lease_id in sorted(active, reverse=True) if lease_id != blocker.lease_id]
        if not neighbours:
            return
        try:
            self._renewer.send(leases.give_back_command(neighbours))
        except QueueUnavailable as error:
            logger.warning(f"Its other tasks could not be put back, they will be reclaimed: {error}")
        else:
            logger.warning(f"Lease {blocker.lease_id} blocks the loop; {len(neighbours)} other tasks are put back")

    def _end_process(self, stalled_s: float) -> NoReturn:
        frames = sys._current_frames()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = "\n".join(
            f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in frames.items()
        )
        logger.critical(
            f"The event loop is blocked for {stalled_s:.1f} s, longer than worker.max_stall_s; "
            f"the process ends and its tasks go to other workers. Stacks:\n{stacks}"
        )
        self._give_back_neighbours()
        flush_logs(END_FLUSH_S)
        os._exit(STALLED_EXIT_CODE)
