"""A worker's numbers as Prometheus reads them.

What the process counts by itself is read when somebody asks; lengths and ages are asked of Redis then, once for each
scrape. Names and units follow Prometheus's conventions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from aworker.clock import now_s, parse_rfc3339
from aworker.config import Config
from aworker.errors import AworkerError
from aworker.metrics import Histogram, Tally
from aworker.queues.hand.ends import is_taken_from_left, questions
from aworker.queues.queue import Queue
from aworker.web.health import reasons_against
from aworker.worker.state import WorkerState


class Lists(msgspec.Struct, frozen=True):
    """What Redis holds, by level; empty where it did not answer."""

    lengths: dict[str, int] = {}
    """By label, and ``leased``, ``delayed``, ``dead``."""
    ages_s: dict[str, float] = {}
    """How long the next task of a level has waited since its ``created_at``."""


async def look(queue: Queue, config: Config) -> Lists:
    """Ask Redis for lengths and ages. Raises AworkerError and RedisError."""
    lengths = await queue.lengths()
    ages: dict[str, float] = {}
    for level in config.queues:
        if lengths.get(level.label):
            ends, left, right = await queue.ask(questions(queue.keys, level.name))
            payload = left if is_taken_from_left(config, level.name, ends, left, right) else right
            if (age_s := _age_s(payload)) is not None:
                ages[level.label] = age_s
    return Lists(lengths, ages)


def _age_s(payload: bytes | None) -> float | None:
    try:
        task = msgspec.json.decode(payload or b"")
        created_at = parse_rfc3339(task["created_at"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError):
        return None
    return None if created_at is None else max(0.0, now_s() - created_at)


class WorkerCollector(Collector):
    """One scrape: a worker's state and tally, and what Redis said."""

    def __init__(self, state: WorkerState, tally: Tally, lists: Lists | None) -> None:
        self._state = state
        self._tally = tally
        self._lists = lists

    def collect(self) -> Iterator[Metric]:
        """Return every series."""
        yield from self._of_redis()
        yield from self._of_tasks()
        yield from self._of_worker()
        if self._state.pool is not None:
            yield from self._of_pool()

    def _of_redis(self) -> Iterator[Metric]:
        lists = self._lists
        yield _gauge("aworker_redis_up", "Whether Redis answered this scrape.", float(lists is not None))
        if lists is None:
            return
        others = ("leased", "delayed", "dead")
        lengths = {label: count for label, count in lists.lengths.items() if label not in others}
        yield _by_label("aworker_queue_length", "Tasks that wait, by level.", "queue", lengths)
        yield _by_label("aworker_queue_oldest_age_seconds", "Age of the next task of a level.", "queue", lists.ages_s)
        yield _gauge("aworker_leased_tasks", "Tasks that this worker holds.", lists.lengths["leased"])
        yield _gauge("aworker_delayed_tasks", "Tasks that wait for their time.", lists.lengths["delayed"])
        yield _gauge("aworker_dead_letters", "Dead letters kept.", lists.lengths["dead"])

    def _of_tasks(self) -> Iterator[Metric]:
        ended = CounterMetricFamily("aworker_tasks", "Deliveries that ended.", labels=("task_type", "queue", "outcome"))
        for labels, count in self._tally.ended.items():
            ended.add_metric(labels, count)
        yield ended
        yield _histograms("aworker_task_wait_seconds", "From created_at to the handler's start.", self._tally.wait_s)
        yield _histograms("aworker_task_run_seconds", "From the handler's start to its end.", self._tally.run_s)

    def _of_worker(self) -> Iterator[Metric]:
        state = self._state
        yield _gauge("aworker_slots", "Slots configured.", state.slots)
        yield _gauge("aworker_slots_busy", "Slots that run a task.", state.busy)
        yield _by_label("aworker_slots_reserved", "Slots kept for a level, in effect.", "queue", state.reserved)
        yield _gauge("aworker_ready", "Whether the worker can consume.", float(_is_ready(state)))
        age_s = min(state.renewal_age_s, 1e9)
        yield _gauge("aworker_renewal_age_seconds", "Since Redis last took a renewal of the leases.", age_s)
        claim_age_s = min(state.claim_age_s, 1e9)
        yield _gauge("aworker_claim_age_seconds", "Since Redis last answered a claim.", claim_age_s)
        yield _gauge("aworker_loop_lag_seconds", "Since the event loop last turned.", state.loop_lag_s)
        trips = CounterMetricFamily("aworker_redis_round_trips", "Claims and settles answered.")
        trips.add_metric((), state.round_trips)
        yield trips
        reloads = CounterMetricFamily("aworker_config_reloads", "Reloads of the configuration.", labels=("result",))
        reloads.add_metric(("applied",), state.reloads)
        reloads.add_metric(("refused",), state.failed_reloads)
        yield reloads
        info = InfoMetricFamily("aworker_worker", "This worker.")
        info.add_metric((), {"version": version("aworker"), "worker_id": state.worker_id, "delivery": state.delivery})
        yield info

    def _of_pool(self) -> Iterator[Metric]:
        pool = self._state.pool
        assert pool is not None
        now = {"busy": pool.busy, "idle": pool.idle, "spare": pool.spare}
        yield _by_label("aworker_children", "Child processes, by what they do.", "state", now)
        yield _gauge("aworker_pool_calls_waiting", "Calls that wait for a child.", pool.waiting)
        ends = CounterMetricFamily("aworker_children_ended", "Child processes that ended.", labels=("cause",))
        for cause, count in (("died", pool.died), ("killed", pool.killed), ("recycled", pool.recycled)):
            ends.add_metric((cause,), count)
        yield ends
        started = CounterMetricFamily("aworker_children_started", "Child processes started.")
        started.add_metric((), pool.started)
        yield started


def exposition(state: WorkerState, tally: Tally, lists: Lists | None, accept: str) -> tuple[bytes, str]:
    """Return a scrape's body and its content type, as text or as OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(state, tally, lists))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


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


def _is_ready(state: WorkerState) -> bool:
    return not reasons_against(state)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _histograms(name: str, text: str, table: dict[tuple[str, str], Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=("task_type", "queue"))
    for labels, histogram in table.items():
        buckets: list[Any] = histogram.cumulative()
        family.add_metric(labels, buckets, sum_value=histogram.sum_s)
    return family
