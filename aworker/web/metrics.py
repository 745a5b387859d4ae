"""A worker's numbers as Prometheus reads them.

What the process counts by itself is read when somebody asks; lengths and ages are asked of Redis then, once for each
scrape. Names and units follow Prometheus's conventions, docs/operations.md says what each means. Invariants: every
label is one of a bounded set, whatever tasks are called; a counter never falls while the process lives, and stands at
0 from the start wherever its labels are known.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from aworker.config import Config
from aworker.errors import AworkerError
from aworker.execution.pool.parent import PoolStats
from aworker.metrics import Tally, Totals, totals
from aworker.queues.queue import Queue
from aworker.web.health import reasons_against
from aworker.web.histograms import render
from aworker.web.lists import Lists, look
from aworker.worker.state import WorkerState

AGE_MOST_S = 1e9
"""What stands for "never"."""
OUTCOMES = ("completed", "failed")
"""Outcomes that stand at 0 from the start; the others appear with their first."""


class WorkerCollector(Collector):
    """One scrape: a worker's state and what the process counted, and what Redis said."""

    def __init__(self, state: WorkerState, tally: Tally, counted: Totals, lists: Lists | None) -> None:
        self._state = state
        self._tally = tally
        self._totals = counted
        self._lists = lists

    def collect(self) -> Iterator[Metric]:
        """Return every series."""
        yield from self._of_lists()
        yield from self._of_tasks()
        yield from self._of_slots()
        yield from self._of_leases()
        yield from self._of_redis()
        yield from self._of_process()
        if self._state.pool is not None:
            yield from _of_pool(self._state.pool)

    def _of_lists(self) -> Iterator[Metric]:
        state, lists = self._state, self._lists
        yield _gauge("aworker_redis_up", "Whether Redis answered this scrape.", float(lists is not None))
        text = "Tasks that the last look at a level passed over because of a limit or a pause."
        yield _gauges("aworker_queue_held_back", text, ("queue",), state.held_back)
        text = "Whether a level is paused, as this worker knows."
        paused = {label: float(label in state.paused) for label in state.reserved}
        yield _gauges("aworker_queue_paused", text, ("queue",), paused)
        if lists is None:
            return
        lengths = {label: lists.lengths[label] for label in state.reserved if label in lists.lengths}
        yield _gauges("aworker_queue_length", "Tasks that wait, by level.", ("queue",), lengths)
        text = "Since the created_at of the oldest task that waits."
        yield _gauges("aworker_queue_oldest_age_seconds", text, ("queue",), lists.ages_s)
        yield _gauge("aworker_delayed_tasks", "Tasks that wait for their time.", lists.lengths["delayed"])
        yield _gauge("aworker_dead_letters_kept", "Dead letters that are kept.", lists.lengths["dead"])

    def _of_tasks(self) -> Iterator[Metric]:
        state, tally = self._state, self._tally
        ended = dict.fromkeys(product(state.task_types, state.reserved, OUTCOMES), 0) | dict(tally.ended)
        yield _counters("aworker_tasks", "Deliveries that ended.", ("task_type", "queue", "outcome"), ended)
        text = "Deliveries that will be followed by another, by what made it necessary."
        yield _counters("aworker_task_retries", text, ("task_type", "reason"), dict(tally.retried))
        yield _gauges("aworker_tasks_running", "Tasks that run.", ("task_type", "queue"), state.running)
        reasons = self._totals.dead_letters
        yield _counters("aworker_dead_letters", "Dead letters made by this worker.", ("reason",), reasons)
        text = "Dead letters that fell off because there were too many."
        yield _counter("aworker_dead_letters_dropped", text, self._totals.dead_letters_dropped)

    def _of_slots(self) -> Iterator[Metric]:
        state = self._state
        yield _gauge("aworker_slots", "Slots configured.", state.slots)
        yield _gauge("aworker_slots_busy", "Slots that run a task.", state.busy)
        yield _gauges("aworker_slots_reserved", "Slots kept for a level, in effect.", ("queue",), state.reserved)
        text = "Most tasks of a type that this worker runs at once; 0 while the type is paused."
        yield _gauges("aworker_task_limit", text, ("task_type",), state.limits)
        text = "Most tasks of one user that this worker runs at once; 0 is no limit."
        yield _gauge("aworker_user_limit", text, state.max_per_user)

    def _of_leases(self) -> Iterator[Metric]:
        state, counted = self._state, self._totals
        yield _gauge("aworker_leases_held", "Tasks that this worker holds.", state.held)
        claimed = {label: self._tally.taken[label] for label in state.reserved}
        yield _counters("aworker_leases_claimed", "Tasks that this worker took.", ("queue",), claimed)
        text = "Renewals of the deadline that all leases of this worker share."
        yield _counters("aworker_lease_renewals", text, ("result",), counted.renewals)
        text = "Tasks of dead workers that this one put back."
        yield _counter("aworker_leases_reclaimed", text, counted.reclaimed)
        text = "Leases of this worker that were found gone: another owns the task."
        yield _counter("aworker_leases_lost", text, counted.leases_lost)
        text = "Writes about a task that were refused because its lease was gone."
        yield _counters("aworker_writes_refused", text, ("kind",), counted.refused)

    def _of_redis(self) -> Iterator[Metric]:
        state, counted = self._state, self._totals
        text = "Round trips to Redis that were answered, by connection."
        yield _counters("aworker_redis_round_trips", text, ("connection",), counted.round_trips)
        text = "Commands that failed or were refused, by connection and kind of error."
        yield _counters("aworker_redis_errors", text, ("connection", "error"), counted.redis_errors)
        text = "Since Redis last answered a claim of this worker."
        yield _gauge("aworker_claim_age_seconds", text, min(state.claim_age_s, AGE_MOST_S))
        text = "Since Redis last took a renewal of the leases."
        yield _gauge("aworker_renewal_age_seconds", text, min(state.renewal_age_s, AGE_MOST_S))

    def _of_process(self) -> Iterator[Metric]:
        state = self._state
        yield _gauge("aworker_ready", "Whether the worker can consume.", float(not reasons_against(state)))
        yield _gauge("aworker_draining", "Whether the worker takes nothing more.", float(state.is_draining))
        reloads = {"applied": state.reloads, "refused": state.failed_reloads}
        yield _counters("aworker_config_reloads", "Reloads of the configuration.", ("result",), reloads)
        text = "Lines of the log that could not be written in time."
        yield _counter("aworker_log_lines_dropped", text, self._totals.log_lines_dropped)
        build = {"version": _version(), "python_version": platform.python_version()}
        yield InfoMetricFamily("aworker_build", "What runs here.", value=build)
        text = "The configuration in force: workers that are configured alike share its hash."
        yield InfoMetricFamily("aworker_config", text, value={"hash": state.config_hash})
        worker = {"worker_id": state.worker_id, "delivery": state.delivery}
        yield InfoMetricFamily("aworker_worker", "This worker.", value=worker)


def _of_pool(pool: PoolStats) -> Iterator[Metric]:
    now = {"busy": pool.busy, "idle": pool.idle, "spare": pool.spare}
    yield _gauges("aworker_children", "Child processes, by what they do.", ("state",), now)
    yield _gauge("aworker_pool_calls_waiting", "Calls that wait for a child.", pool.waiting)
    text = "Resident memory of all child processes, what they share counted for each."
    yield _gauge("aworker_children_resident_memory_bytes", text, sum(pool.resident_bytes))
    text = "Resident memory of the largest child process."
    yield _gauge("aworker_child_resident_memory_max_bytes", text, max(pool.resident_bytes, default=0))
    yield _counter("aworker_children_started", "Child processes started.", pool.started)
    text = "Child processes that ended: died by themselves, recycled in order, or killed for the cause named."
    ends = {"died": pool.died, "recycled": pool.recycled, **pool.killed_by}
    yield _counters("aworker_children_ended", text, ("cause",), ends)


def _histograms(tally: Tally, counted: Totals) -> Iterator[str]:
    labels = ("task_type", "queue")
    text = "From created_at to the handler's start."
    yield from render("aworker_task_wait_seconds", text, labels, tally.wait_s)
    text = "From the handler's start to its end."
    yield from render("aworker_task_run_seconds", text, labels, tally.run_s)
    text = "How late the event loop turned."
    yield from render("aworker_event_loop_lag_seconds", text, (), {(): counted.loop_lag})


def exposition(state: WorkerState, tally: Tally, lists: Lists | None, accept: str) -> tuple[bytes, str]:
    """Return a scrape's body and its content type, as text or as OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(state, tally, totals, lists))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    rest = encode(registry)
    return "".join(_histograms(tally, totals)).encode() + rest, content_type


async def scrape(
    queue: Queue | None, config: Config, state: WorkerState, tally: Tally, accept: str
) -> tuple[bytes, str]:
    """Ask Redis if it answers, and return the body and its content type."""
    lists: Lists | None = None
    if queue is not None and state.is_up:
        try:
            lists = await look(queue, config)
        except (AworkerError, RedisError, OSError):
            lists = None  # aworker_redis_up says so
    return exposition(state, tally, lists, accept)


@cache
def _version() -> str:
    return version("aworker")


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(_texts(key), value)
    return family


def _counters(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in list(values.items()):  # the heartbeat's thread counts as well
        family.add_metric(_texts(key), value)
    return family


def _texts(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
