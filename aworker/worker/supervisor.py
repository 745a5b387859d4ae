"""The supervisor: brings the worker up, keeps N slots running, and takes it down in reverse order.

Start: queue (server looked at), pool, heartbeat thread, side loops, slots. A signal drains: slots claim
nothing more and finish what they run; after ``drain_timeout_s``, or on a second signal, the rest is cancelled and goes
back onto its list. Slots live in an inner task group, side loops in the outer one, so that leases are renewed until the
last slot has ended.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.lowlevel
from loguru import logger

from aworker.client.outbox import Outbox
from aworker.clock import now_s
from aworker.config import Config, LiveConfig, ScheduleConfig, configuration_hash
from aworker.errors import ConfigError, LifespanFailed
from aworker.execution.executor import Executor, Run
from aworker.execution.lifespan import Given, open_lifespans
from aworker.execution.pool.parent import LogRecord, Pool, PoolSettings, open_pool
from aworker.execution.registry import Registry
from aworker.logs import configure_logs, flush_logs, known_secrets, name_worker
from aworker.outcome import Returned
from aworker.queues.connection import Health, moved, primary_of
from aworker.queues.lane.leased import open_leased_queue
from aworker.queues.lane.plain import open_plain_queue
from aworker.queues.pauses import Pauses
from aworker.queues.queue import Queue
from aworker.queues.upkeep.control import Control
from aworker.queues.upkeep.renewal import Renewal
from aworker.tracing import CHILD_MODULE, open_spans
from aworker.worker.delayed import DelayedTasks
from aworker.worker.heartbeat import Heartbeat
from aworker.worker.monitor import Monitor
from aworker.worker.periodic import every
from aworker.worker.presence import describe
from aworker.worker.reaper import Reaper
from aworker.worker.reload import LOOK_INTERVAL_S, Reload
from aworker.worker.scheduler import Scheduler
from aworker.worker.service import ServiceManager
from aworker.worker.slot import CANCELLED, Slot
from aworker.worker.state import WorkerState

if TYPE_CHECKING:
    from aworker.tracing.spans import Spans

TICK_S = 0.25
PROOF_INTERVAL_S = 0.5
FOLLOW_INTERVAL_S = 1.0
"""How often sentinels are asked whether the primary is still the primary: one that was cut off goes on answering."""
PROVEN_S = 1.5
"""A claim answered so lately needs no other to prove that Redis lets this worker claim."""
LOOK_TIMEOUT_S = 5.0
OLDEST_SERVER = (7, 0)
STUBBORN_S = 3.0
END_FLUSH_S = 2.0
RELEASED = Returned("released: its worker drains", counted=False)


def new_worker_id() -> str:
    """Return an id that is unique for each process start: host, pid and chance, no colon in it."""
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname()) or "host"
    return f"worker_{host}_{os.getpid()}_{secrets.token_hex(4)}"


class Supervisor:
    """One worker process."""

    def __init__(
        self,
        live: LiveConfig,
        registry: Registry,
        *,
        preload: tuple[str, ...] = (),
        burst: bool = False,
        on_ready: Callable[[], Any] | None = None,
        expects_more: Callable[[], bool] = lambda: False,
        config_path: Path | None = None,
        load: Callable[[], Config] | None = None,
        schedules: tuple[ScheduleConfig, ...] = (),
        service: ServiceManager | None = None,
    ) -> None:
        self._live = live
        self._registry = registry
        self._service = service or ServiceManager({})
        self._config_hash = configuration_hash(live.value)
        self._preload = preload
        self._burst = burst
        self._on_ready = on_ready
        self._expects_more = expects_more
        self._schedules = schedules
        self._reload = Reload(live, config_path, load or (lambda: live.value), self._apply)
        self.worker_id = new_worker_id()
        name_worker(self.worker_id)
        self._runs: dict[int, Run] = {}
        self._draining = anyio.Event()
        self._hurry = anyio.Event()
        self._started = False
        self.round_trips = 0
        """Commits answered, known after `run`."""
        self._pauses = Pauses()
        self._type_limits: dict[str, int] = {}
        self._slots = 0
        self._given = Given()
        self._given_to: dict[str, dict[str, Any]] = {}
        self._free_numbers: list[int] = []
        """Of slots that have ended: the lowest is given first, so that the log counts slots from 1."""
        self._start_slot: Callable[[], None] = lambda: None
        self._queue: Queue | None = None
        self._pool: Pool | None = None
        self._spans: Spans | None = None
        self._heartbeat: Heartbeat | None = None
        self._health: Health | None = None
        self._had_children_at = time.monotonic()

    async def run(self) -> None:
        """Serve until drained. Raises ConfigError when the server cannot be used."""
        async with anyio.create_task_group() as outermost:
            outermost.start_soon(self._watch_signals)
            serving = anyio.CancelScope()
            outermost.start_soon(self._cancel_start, serving)
            with serving:
                await self._serve()
            outermost.cancel_scope.cancel()

    def drain(self) -> None:
        """Claim nothing more and end when what runs has ended; called again: do not wait for it."""
        if self._draining.is_set():
            self._hurry.set()
        else:
            self._service.stopping(f"draining, {len(self._runs)} running tasks")
        self._draining.set()

    def state(self) -> WorkerState:
        """Say what this worker is doing."""
        config, queue, heartbeat, health = self._live.value, self._queue, self._heartbeat, self._health
        labels = [level.label for level in config.queues]
        pool = self._pool.stats() if self._pool else None
        if pool is None or pool.is_cold or pool.idle + pool.busy + pool.spare:
            self._had_children_at = time.monotonic()
        return WorkerState(
            worker_id=self.worker_id,
            delivery=config.worker.delivery,
            redis=health.address if health else "",
            is_started=heartbeat is not None and heartbeat.is_ready,
            is_draining=self._draining.is_set(),
            is_up=health is None or health.is_up is not False,
            trouble=health.reason if health else "",
            fullness=heartbeat.fullness if heartbeat else "",
            slots=config.worker.slots,
            busy=len(self._runs),
            reserved=dict(zip(labels, config.reserved_slots, strict=True)),
            renewal_age_s=heartbeat.renewal_age_s if heartbeat else float("inf"),
            renew_interval_s=config.worker.renew_interval_s,
            loop_lag_s=heartbeat.loop_lag_s if heartbeat else 0.0,
            round_trips=queue.round_trips if queue else 0,
            reloads=self._reload.succeeded,
            failed_reloads=self._reload.failed,
            pool=pool,
            childless_s=time.monotonic() - self._had_children_at if pool else 0.0,
            claim_age_s=queue.claim_age_s if queue else float("inf"),
            held=len(queue.active) if queue else 0,
            running=Counter((run.task.task_type, run.lease.label) for run in self._runs.values()),
            task_types=tuple(handler.task_type for handler in self._registry),
            limits={**self._type_limits, **{name: 0 for name in self._pauses.task_types if self._registry.get(name)}},
            max_per_user=config.worker.max_per_user,
            held_back=dict(queue.held_back) if queue else {},
            paused=tuple(level.label for level in config.queues if level.name in self._pauses.queues),
            config_hash=self._config_hash,
        )

    @property
    def queue(self) -> Queue | None:
        """The queues, while the worker serves."""
        return self._queue

    async def _serve(self) -> None:
        config = self._live.value
        self._set_limits()
        async with AsyncExitStack() as stack:
            queue = await stack.enter_async_context(self._open_queue())
            self._health = queue.health
            await _check_server(queue, config)
            self._spans = await stack.enter_async_context(
                open_spans(config.otel.enabled, self.worker_id, queue.health.address)
            )
            pool = None
            if any(handler.uses_pool for handler in self._registry):
                settings = self._pool_settings(config)
                take = None if self._spans is None else self._spans.take
                pool = await stack.enter_async_context(open_pool(settings, log=self._log_record, on_span=take))
            self._given = await stack.enter_async_context(open_lifespans(self._registry.lifespans))
            self._given_to = _given_to(self._registry, self._given)
            self._started = True
            await self._work(queue, pool)

    async def _work(self, queue: Queue, pool: Pool | None) -> None:
        self._queue, self._pool = queue, pool
        outbox = Outbox(self._live)
        executor = Executor(self._live, pool, outbox)
        control = Control(self._live, queue.health)
        reaper = Reaper(self._live, queue.leases) if queue.leases is not None else None
        delayed = DelayedTasks(queue.leases) if queue.leases is not None else None
        started_at_s = now_s()
        executor.surround(self._registry.middleware, self._given, self._given_to)
        async with anyio.create_task_group() as side:

            def drop_connections() -> None:
                side.start_soon(queue.drop_connections)
                control.drop()

            def hold_back(pauses: Pauses) -> None:
                self._pauses = pauses
                side.start_soon(queue.hold_back, pauses)

            def hear(renewal: Renewal) -> None:
                if reaper is not None and delayed is not None:
                    reaper.hear(renewal)
                    delayed.hear(renewal)

            heartbeat = Heartbeat(
                self._live,
                queue,
                self._runs,
                on_renewal=hear,
                on_cut=drop_connections,
                on_turn=self._service.alive,
                describe=lambda: describe(self.state(), self._live.value, self._runs, self._type_limits, started_at_s),
                tick_s=TICK_S,
            )
            heartbeat.start()
            self._heartbeat = heartbeat
            try:
                side.start_soon(every, lambda: TICK_S, heartbeat.tick)
                side.start_soon(self._follow_primary, drop_connections)
                side.start_soon(every, lambda: PROOF_INTERVAL_S, self._prove_claims)
                monitor = Monitor(self._live, queue, self.worker_id)
                side.start_soon(every, lambda: self._live.value.monitor.interval_s, monitor.log_status)
                if reaper is not None and delayed is not None:
                    side.start_soon(reaper.run)
                    side.start_soon(delayed.run)
                    control.on_due = delayed.expect
                side.start_soon(control.listen, self._cancel, hold_back)
                side.start_soon(control.clean, queue.ask)
                side.start_soon(self._drain_when_told, queue)
                side.start_soon(every, lambda: LOOK_INTERVAL_S, self._reload.look)
                if self._burst:
                    side.start_soon(self._drain_when_idle, queue)
                elif queue.leases is not None:
                    side.start_soon(Scheduler(self._live, self._schedules, queue.health).run)
                with anyio.move_on_after(LOOK_TIMEOUT_S):
                    await control.look(queue.ask, hold_back)
                async with anyio.create_task_group() as slots:
                    slot = Slot(
                        self._live, queue, self._registry, executor, self._runs, self._is_surplus, control, self._spans
                    )

                    def start_slot() -> None:
                        number = heappop(self._free_numbers) if self._free_numbers else self._slots
                        slots.start_soon(self._run_slot, slot, number)

                    self._start_slot = start_slot
                    self._top_up()
                    await anyio.lowlevel.checkpoint()
                    heartbeat.ready()
                    logger.info(
                        f"Worker {self.worker_id} is ready: {self._live.value.worker.slots} slots, "
                        f"{_children(pool)}, Redis at {queue.health.address}"
                    )
                    self._service.ready(f"{self._live.value.worker.slots} slots, Redis at {queue.health.address}")
                    if self._on_ready is not None:
                        self._on_ready()
                logger.info(f"Worker {self.worker_id} has drained")
                self.round_trips = queue.round_trips
                side.cancel_scope.cancel()
            finally:
                heartbeat.note()
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(heartbeat.stop)
                    await outbox.close()

    @asynccontextmanager
    async def _open_queue(self) -> AsyncIterator[Queue]:
        if self._live.value.worker.delivery == "leased":
            async with open_leased_queue(self._live, self.worker_id, self._limits) as leased:
                yield leased
        else:
            async with open_plain_queue(self._live, self.worker_id) as plain:
                yield plain

    async def _prove_claims(self) -> None:
        if self._queue is not None and self._queue.claim_age_s > PROVEN_S:
            self._queue.prove_claims(time.monotonic() - self._heartbeat.renewal_age_s if self._heartbeat else 0.0)

    async def _follow_primary(self, drop_connections: Callable[[], None]) -> None:
        primary = primary_of(self._live.value.redis.url)
        if primary is None:
            return
        while True:
            await moved(primary, FOLLOW_INTERVAL_S)
            drop_connections()

    # Slots, as many as configured.

    async def _run_slot(self, slot: Slot, number: int) -> None:
        try:
            await slot.run(number)
        finally:
            self._slots -= 1
            heappush(self._free_numbers, number)
        self._top_up()

    def _top_up(self) -> None:
        while self._slots < self._live.value.worker.slots and not self._draining.is_set():
            self._slots += 1
            self._start_slot()

    def _is_surplus(self) -> bool:
        return self._slots > self._live.value.worker.slots

    def _apply(self, old: Config, new: Config) -> None:
        if new.logging != old.logging:
            try:
                configure_logs(new.logging, known_secrets(new))
            except ConfigError as error:
                logger.error(f"The log goes on where it went: {error}")
        self._config_hash = configuration_hash(new)
        self._set_limits()
        if self._pool is not None:
            self._pool.reconfigure(self._pool_settings(new))
        if self._queue is not None:
            self._queue.resize(max(0, self._slots - new.worker.slots))
            self._top_up()

    def _cancel(self, task_id: str) -> None:
        for run in self._runs.values():
            if run.task.task_id == task_id:
                run.stop(CANCELLED)

    # Ending.

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload.reload()
                    continue
                if self._draining.is_set():
                    logger.info(f"{signal.Signals(number).name} again: not waiting for {len(self._runs)} running tasks")
                else:
                    logger.info(
                        f"{signal.Signals(number).name}: draining, {len(self._runs)} running tasks have "
                        f"{self._live.value.worker.drain_timeout_s:g} s to end"
                    )
                self.drain()

    async def _cancel_start(self, serving: anyio.CancelScope) -> None:
        # Told to end before it served: there is nothing to drain.
        await self._draining.wait()
        if not self._started:
            serving.cancel()

    async def _drain_when_told(self, queue: Queue) -> None:
        await self._draining.wait()
        await queue.drain()
        with anyio.move_on_after(self._live.value.worker.drain_timeout_s):
            await self._hurry.wait()
        for lease_id in sorted(self._runs, reverse=True):
            self._runs[lease_id].stop(RELEASED)
        with anyio.move_on_after(self._live.value.pool.stop_grace_s + STUBBORN_S):
            while self._runs:  # noqa: ASYNC110 - a slot tells nobody that its run has ended
                await anyio.sleep(0.05)
            return
        await self._end_process(queue)

    async def _end_process(self, queue: Queue) -> NoReturn:
        # A handler that catches its cancellation and goes on would hold the process up for ever.
        for run in self._runs.values():
            logger.error(
                f"{run.task.task_type} task {run.task.task_id} does not stop when it is cancelled; "
                "it is put back and the process ends"
            )
            queue.settle(run.lease, RELEASED, 0.0)
        await queue.leave()
        flush_logs(END_FLUSH_S)
        os._exit(0)

    async def _drain_when_idle(self, queue: Queue) -> None:
        idle_before = False
        while True:
            is_idle = await queue.is_idle() and not self._runs and not self._expects_more()
            if is_idle and idle_before:
                self.drain()
                return
            idle_before = is_idle
            await anyio.sleep(0.05)

    # Children, and what they say.

    def _pool_settings(self, config: Config) -> PoolSettings:
        return PoolSettings(
            processes=_processes(config),
            max_tasks_per_child=config.pool.max_tasks_per_child,
            max_child_memory_bytes=config.pool.max_child_memory_bytes,
            stop_grace_s=config.pool.stop_grace_s,
            preload=self._preload,
            log_level=config.logging.level,
            warm=config.pool.warm,
            nice=config.pool.nice,
            recorder="" if self._spans is None else CHILD_MODULE,
            has_lifespans=any(not one.is_async for one in self._registry.lifespans),
        )

    def _log_record(self, record: LogRecord) -> None:
        run = self._runs.get(record.lease_id)
        fields = {"task_id": record.task_id or None, "task_type": record.task_type or None}
        of_task = f"[{record.task_type} task {record.task_id}] " if record.task_id else ""
        spans = {} if record.span is None else dict(zip(("trace_id", "span_id"), record.span, strict=True))
        bound = logger.bind(**{**(fields if run is None else run.fields), **spans}, pid=record.pid)
        try:
            bound.log(record.level, "{}{}", of_task, record.message)
        except ValueError:  # a level that was made in the child
            bound.info("{}{}: {}", of_task, record.level, record.message)

    # Limits.

    def _limits(self) -> Mapping[str, int]:
        return self._type_limits

    def _set_limits(self) -> None:
        self._type_limits = type_limits(self._live.value, self._registry)


def _given_to(registry: Registry, given: Given) -> dict[str, dict[str, Any]]:
    """Return by task type what a handler of the loop is given by name. Raises LifespanFailed."""
    given_to = {}
    for handler in registry:
        wanted = handler.signature.injected
        if wanted and handler.runs_in == "loop":
            given_to[handler.task_type] = given.by_type(f"handler {handler.task_type}", wanted)
        elif wanted and all(one.is_async for one in registry.lifespans):
            raise LifespanFailed(
                f"handler {handler.task_type} must be given {', '.join(wanted)} by a @lifespan of its child process, "
                "there is none; a plain generator function is one"
            )
    return given_to


def type_limits(config: Config, registry: Registry) -> dict[str, int]:
    """Return the most tasks of a type that run at once in one worker, for the types that have a limit."""
    limits: dict[str, int] = {}
    for handler in registry:
        limit = config.task(handler.task_type).max_concurrent
        if limit is None:
            limit = _processes(config) if handler.uses_pool else 0
        if limit:
            limits[handler.task_type] = limit
    return limits


def _processes(config: Config) -> int:
    return config.pool.processes or len(os.sched_getaffinity(0))


def _children(pool: Pool | None) -> str:
    if pool is None:
        return "no child processes"
    stats = pool.stats()
    return f"{stats.size} child processes" + (" from the first task on that needs one" if stats.is_cold else "")


async def _check_server(queue: Queue, config: Config) -> None:
    fields = await _look_at_server(queue)
    # Redis says redis_mode:cluster as well, Valkey does not.
    if fields.get("cluster_enabled") == "1":
        raise ConfigError(
            f"redis.url must be a single server, {queue.health.address} is a cluster; "
            "the fixed list names lie in different slots: use one server with replicas"
        )
    version = tuple(int(part) for part in fields.get("redis_version", "0.0").split(".")[:2])
    if version < OLDEST_SERVER and config.worker.delivery == "leased":
        raise ConfigError(
            f"redis.url must be Redis >= 7.0 or Valkey for leased delivery, {queue.health.address} is "
            f"{fields.get('redis_version')}; upgrade it or set worker.delivery to at-most-once"
        )
    policy = fields.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and fields.get("maxmemory", "0") != "0":
        logger.warning(
            f"Redis at {queue.health.address} evicts keys when full (maxmemory-policy {policy}): "
            "tasks can be lost; set it to noeviction"
        )


async def _look_at_server(queue: Queue) -> dict[str, str]:
    info, hello = await queue.ask_for_advice([("INFO",), ("HELLO",)])
    if isinstance(info, bytes):
        return dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    logger.info(f"Redis at {queue.health.address} withholds INFO: whether it evicts keys when full is not known")
    if not isinstance(hello, list):
        return {"redis_version": "9.0"}  # nothing is known: the scripts tell
    fields = dict(zip(hello[::2], hello[1::2], strict=False))
    is_cluster = fields.get(b"mode") == b"cluster"
    return {
        "redis_version": fields.get(b"version", b"9.0").decode(),
        "cluster_enabled": "1" if is_cluster else "0",
    }
