"""The overview as JSON values, for scripts: the names stay as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from aworker.clock import rfc3339
from aworker.overview.snapshot import Snapshot, Worker
from aworker.overview.verdict import judge


def overview_values(snapshot: Snapshot, queue: str | None = None, task_type: str | None = None) -> dict[str, Any]:
    """Return all of it, or what concerns one level or one type; instants are RFC 3339, durations seconds."""
    verdict = judge(snapshot)
    return {
        "at": rfc3339(snapshot.now_s),
        "verdict": verdict.word,
        "reasons": verdict.reasons,
        "queues": [
            {
                "label": level.label,
                "name": level.name,
                "waiting": level.length,
                "next_waits_s": _rounded(level.oldest_s),
                "paused_since": _instant(level.paused_since_s),
                "in_per_minute": _rounded(level.in_per_minute),
                "out_per_minute": _rounded(level.out_per_minute),
                "last_hour": [None if minute is None else msgspec.structs.asdict(minute) for minute in level.minutes],
            }
            for level in snapshot.levels
            if queue in (None, level.label)
        ],
        "delayed": snapshot.delayed,
        "dead": snapshot.dead,
        "newest_dead_s": _rounded(snapshot.last_dead_s),
        "slots": snapshot.slots,
        "busy": snapshot.busy,
        "task_types": [
            {
                "task_type": row.name,
                "running": row.running,
                "max_concurrent": row.limit or None,
                "completed": row.completed,
                "failed": row.failed,
                "others": row.others,
                "failure_share": _rounded(row.failure_share),
                "wait_p50_s": _rounded(row.wait[0]),
                "wait_p95_s": _rounded(row.wait[1]),
                "run_p50_s": _rounded(row.run[0]),
                "run_p95_s": _rounded(row.run[1]),
                "paused_since": _instant(row.paused_since_s),
            }
            for row in snapshot.types
            if task_type in (None, row.name)
        ],
        "running": [
            {
                "task_id": task.task_id,
                "task_type": task.task_type,
                "queue": task.queue,
                "delivery": task.delivery,
                "running_s": _rounded(max(0.0, snapshot.now_s - task.started_at_s)),
                "worker_id": worker_id,
            }
            for worker_id, task in snapshot.running
            if queue in (None, task.queue) and task_type in (None, task.task_type)
        ],
        "workers": [worker_values(worker, snapshot.now_s) for worker in snapshot.workers],
    }


def worker_values(worker: Worker, now_s: float) -> dict[str, Any]:
    """Return what is known of one worker; null is what it does not say."""
    said = worker.said
    return {
        "worker_id": worker.worker_id,
        "state": worker.state,
        "silent_s": _rounded(worker.silent_s),
        "host": said and said.host,
        "pid": said and said.pid,
        "version": said and said.version,
        "delivery": said and said.delivery,
        "config_hash": said and said.config_hash,
        "up_s": said and _rounded(max(0.0, now_s - said.started_at_s)),
        "slots": said and said.slots,
        "busy": said.busy if said else worker.leases,
        "reserved": said and said.reserved,
        "max_concurrent": said and said.limits,
        "children": said and said.children,
        "loop_lag_s": said and said.loop_lag_s,
        "running": [task.task_id for task in said.running] if said else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _instant(at_s: float | None) -> str | None:
    try:
        return None if at_s is None else rfc3339(at_s)
    except (OverflowError, ValueError, OSError):
        return None  # whoever wrote it meant no instant
