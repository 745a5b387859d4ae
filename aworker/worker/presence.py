"""What this worker says of itself, composed once a second in its loop: the heartbeat's thread sends it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from aworker.clock import now_s
from aworker.config import Config
from aworker.execution.executor import Run
from aworker.metrics import Histogram, Tally, tally
from aworker.queues.presence import (
    HELD_MOST,
    ID_MOST,
    RUNNING_MOST,
    TYPES_MOST,
    EndedTask,
    HeldLoop,
    Minute,
    Presence,
    RunningTask,
    TypeCounts,
)
from aworker.worker.state import WorkerState

FAILURES = ("failed", "rejected")


def describe(
    state: WorkerState, config: Config, runs: Mapping[int, Run], limits: dict[str, int], started_at_s: float
) -> tuple[Presence, dict[str, Minute]]:
    """Return what to show, and each level's totals since the process started."""
    pool = state.pool
    presence = Presence(
        worker_id=state.worker_id,
        at_s=now_s(),
        version=_version(),
        host=socket.gethostname(),
        pid=os.getpid(),
        delivery=state.delivery,
        config_hash=state.config_hash,
        claim_age_s=min(round(state.claim_age_s, 3), 1e9),
        started_at_s=started_at_s,
        slots=state.slots,
        busy=state.busy,
        reserved=state.reserved,
        limits=limits,
        children={}
        if pool is None or pool.is_cold
        else {
            "busy": pool.busy,
            "idle": pool.idle,
            "spare": pool.spare,
            "died": pool.died,
            "killed": pool.killed,
        },
        is_draining=state.is_draining,
        running=_running(runs),
        recent=[
            EndedTask(_cut(task_id), _cut(task_type), label, outcome, round(run_s, 4), round(ended_at_s, 3))
            for task_id, task_type, label, outcome, run_s, ended_at_s in list(tally.recent)
        ],
        types=_types(tally),
        held=[
            HeldLoop(_cut(task_type), round(held.longest_s, 3), held.times, round(held.at_s, 3))
            for task_type, held in sorted(tally.held.items(), key=lambda one: -one[1].longest_s)[:HELD_MOST]
        ],
    )
    return presence, _levels(tally, [level.label for level in config.queues])


@cache
def _version() -> str:
    return version("aworker")


def _running(runs: Mapping[int, Run]) -> list[RunningTask]:
    # By lease id, which is the order of the claims.
    monotonic, now = time.monotonic(), now_s()
    return [
        RunningTask(
            _cut(run.task.task_id),
            _cut(run.task.task_type),
            run.lease.label,
            run.lease.delivery,
            round(now - (monotonic - run.lease.claimed_at), 3),
        )
        for _, run in sorted(runs.items())[:RUNNING_MOST]
    ]


def _types(counted: Tally) -> dict[str, TypeCounts]:
    found: dict[str, TypeCounts] = {}
    for (task_type, _, outcome), count in counted.ended.items():
        ended = found.setdefault(task_type, TypeCounts({}, {}, {})).ended
        ended[outcome] = ended.get(outcome, 0) + count
    for (task_type, _), table in counted.wait_s.items():
        _add(found.setdefault(task_type, TypeCounts({}, {}, {})).wait, table)
    for (task_type, _), table in counted.run_s.items():
        _add(found.setdefault(task_type, TypeCounts({}, {}, {})).run, table)
    busiest = sorted(found, key=lambda name: -sum(found[name].ended.values()))[:TYPES_MOST]
    return {_cut(name): found[name] for name in busiest}


def _add(total: dict[int, int], histogram: Histogram) -> None:
    for index, count in enumerate(histogram.counts):
        if count:
            total[index] = total.get(index, 0) + count


def _levels(counted: Tally, labels: list[str]) -> dict[str, Minute]:
    totals = {label: Minute(taken=counted.taken[label]) for label in labels}
    for (_, label, outcome), count in counted.ended.items():
        if (total := totals.get(label)) is not None:
            if outcome == "completed":
                total.completed += count
            elif outcome in FAILURES:
                total.failed += count
    return totals


def _cut(text: str) -> str:
    return text if len(text) <= ID_MOST else text[:ID_MOST]
