"""What this process has done, in plain numbers: counted where it happens, read when somebody asks.

Invariant: every label is one of a bounded set: a registered task type or ``unknown``, a level's label, an outcome.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from typing import NamedTuple

BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0),
)
"""Upper bounds of durations, from a millisecond to an hour."""

RECENT_MOST = 10
HELD_REMEMBERED_S = 3_600.0

CONNECTIONS = ("lane", "bell", "side", "heartbeat", "slot", "writes", "control", "other")
REDIS_ERRORS = ("connection", "timeout", "read_only", "out_of_memory", "loading", "permission", "other")
RENEWALS = ("renewed", "late", "failed")
DEAD_LETTERS = (
    *("PayloadInvalid", "UnknownTaskType", "ArgumentsInvalid", "handler_raised", "handler_timed_out"),
    *("deliveries_exhausted", "child_out_of_memory", "result_invalid", "internal_error", "other"),
)
WRITES = ("running", "message", "end", "dead", "back", "delay")
RETRIES = ("asked", "child_died", "handler_raised", "handler_timed_out", "child_out_of_memory", "result_invalid")


class Histogram:
    """Durations by bucket, their sum and their number."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, duration_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self.sum_s += duration_s


class Held(NamedTuple):
    """How a task type held the loop within the last hour or so, when a step of its handler took long."""

    longest_s: float
    times: int
    at_s: float
    """Epoch second of the last time."""


class Tally:
    """Tasks of this process, by type and level."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str, str]] = Counter()
        """(task type, level, outcome) to number."""
        self.taken: Counter[str] = Counter()
        """Level to tasks claimed."""
        self.retried: Counter[tuple[str, str]] = Counter()
        """(task type, one of `RETRIES`) to number."""
        self.recent: deque[tuple[str, str, str, str, float, float]] = deque(maxlen=RECENT_MOST)
        """Task id, type, level, outcome, seconds it ran, epoch second of its end; the newest last."""
        self.wait_s: dict[tuple[str, str], Histogram] = {}
        """From ``created_at`` to the handler's start."""
        self.run_s: dict[tuple[str, str], Histogram] = {}
        self.held: dict[str, Held] = {}
        """By task type."""

    def hold(self, task_type: str, held_s: float) -> None:
        """Note that a handler held the loop for long."""
        now_s = time.time()
        known = self.held.get(task_type)
        if known is None or now_s - known.at_s > HELD_REMEMBERED_S:
            known = Held(0.0, 0, now_s)
        self.held[task_type] = Held(max(known.longest_s, held_s), known.times + 1, now_s)

    def started(self, task_type: str, label: str, wait_s: float | None) -> None:
        """Note that a handler starts; ``wait_s`` is None where the payload does not say when it was made."""
        if wait_s is not None and wait_s >= 0:
            self._of(self.wait_s, task_type, label).observe(wait_s)

    def end(
        self, task_type: str, label: str, outcome: str, run_s: float | None = None, task_id: str | None = None
    ) -> None:
        """Note how a delivery ended; ``run_s`` is None where no handler ran."""
        self.ended[task_type, label, outcome] += 1
        if task_id is not None:
            self.recent.append((task_id, task_type, label, outcome, run_s or 0.0, time.time()))
        if run_s is not None:
            self._of(self.run_s, task_type, label).observe(run_s)

    @staticmethod
    def _of(table: dict[tuple[str, str], Histogram], task_type: str, label: str) -> Histogram:
        key = task_type, label
        found = table.get(key)
        if found is None:
            found = table[key] = Histogram()
        return found


class Totals:
    """What this process did beside its tasks; every label is one of a set that stands above."""

    def __init__(self) -> None:
        self.round_trips = _zeros(CONNECTIONS)
        """Answered, by connection."""
        self.redis_errors = Counter({(connection, "connection"): 0 for connection in CONNECTIONS})
        """(connection, one of `REDIS_ERRORS`) to number."""
        self.renewals = _zeros(RENEWALS)
        """Of the lease deadline: ``late`` came after it had passed."""
        self.reclaimed = 0
        """Tasks of dead workers that this one put back."""
        self.leases_lost = 0
        self.refused = _zeros(WRITES)
        """Writes about a task whose lease was gone, by kind."""
        self.dead_letters = _zeros(DEAD_LETTERS)
        """Made, by reason."""
        self.dead_letters_dropped = 0
        """That fell off because there were too many."""
        self.log_lines_dropped = 0
        """That could not be written in time."""
        self.loop_lag = Histogram()
        """How late the event loop turned."""

    def dead_letter(self, reason: str) -> None:
        """Note a dead letter; a handler's own class of error is ``other``."""
        self.dead_letters[reason if reason in self.dead_letters else "other"] += 1


def _zeros(labels: tuple[str, ...]) -> Counter[str]:
    # From the start, so that a rate sees the first one.
    return Counter(dict.fromkeys(labels, 0))


tally = Tally()
totals = Totals()
"""Both of this process, since it started."""
