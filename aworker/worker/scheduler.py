"""Schedules: each worker enqueues every tick, and Redis takes each once.

1. ask for the server's clock and the last tick of each schedule,
2. enqueue the ticks since then; another worker may have been first,
3. sleep until the next one, at most some seconds: what a failover lost is noticed then, and made up for.
"""

from __future__ import annotations

import time

import anyio
from loguru import logger

from aworker.client.pushing import Pushed
from aworker.client.ticking import Ticker, due_ticks, ticks_of
from aworker.config import Config, LiveConfig, ScheduleConfig
from aworker.errors import AworkerError, QueueUnavailable
from aworker.logs import one_line
from aworker.queues.connection import Backoff, Health
from aworker.ticks import Ticks

LOOK_S = 5.0
AFTER_S = 0.001


class Scheduler:
    """Enqueues what is due, as long as a worker serves."""

    def __init__(self, live: LiveConfig, declared: tuple[ScheduleConfig, ...], health: Health) -> None:
        self._live = live
        self._declared = declared
        """Those beside handlers; one of the same name in the file takes its place."""
        self._health = health
        self._known: tuple[ScheduleConfig, ...] = ()
        self._ticks: dict[str, Ticks] = {}
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Enqueue ticks until cancelled."""
        ticker = Ticker(self._live.value)
        backoff = Backoff()
        try:
            while True:
                try:
                    wait_s = await self._round(ticker)
                except QueueUnavailable as error:
                    self._health.down(str(error))
                    await backoff.wait()
                else:
                    backoff.reset()
                    await anyio.sleep(wait_s)
        finally:
            with anyio.CancelScope(shield=True):
                await ticker.close()

    async def _round(self, ticker: Ticker) -> float:
        config = self._live.value
        schedules = self._schedules(config)
        if not schedules:
            return LOOK_S
        known = await ticker.look(config, [one.name for one in schedules])
        asked_at = time.monotonic()
        next_ms = known.now_ms + LOOK_S * 1000
        for one in schedules:
            ticks = self._ticks[one.name]
            due = due_ticks(one, ticks, known.last_ms[one.name], known.now_ms)
            if due:
                await self._enqueue(ticker, config, one, due)
            after_ms = ticks.after(known.now_ms)
            next_ms = next_ms if after_ms is None else min(next_ms, after_ms)
        return max(0.0, (next_ms - known.now_ms) / 1000 - (time.monotonic() - asked_at)) + AFTER_S

    async def _enqueue(self, ticker: Ticker, config: Config, one: ScheduleConfig, due: list[int]) -> None:
        try:
            pushed = await ticker.enqueue(config, [(one, tick_ms) for tick_ms in due])
        except QueueUnavailable:
            raise
        except AworkerError as error:  # args too large for a payload, and the like: it must stop no other schedule
            if one.name not in self._refused:
                self._refused.add(one.name)
                logger.error(one_line(f"Schedule {one.name} cannot be enqueued: {error}"))
            return
        for each in pushed:
            _log(one, each)

    def _schedules(self, config: Config) -> tuple[ScheduleConfig, ...]:
        named = {one.name for one in config.schedule}
        schedules = (*config.schedule, *(one for one in self._declared if one.name not in named))
        if schedules != self._known:
            self._known = schedules
            self._ticks = {one.name: ticks_of(one) for one in schedules}
            self._refused.clear()
        return schedules


def _log(one: ScheduleConfig, pushed: Pushed) -> None:
    if pushed.status == "new":
        logger.info(one_line(f"Schedule {one.name}: enqueued {one.task_type} task {pushed.task_id}"))
    elif pushed.status == "kept":
        logger.info(one_line(f"Schedule {one.name}: a tick is left out, {pushed.task_id} is not over"))
