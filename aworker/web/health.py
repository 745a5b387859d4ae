"""Whether a worker lives and whether it can consume, with the reasons why not."""

from __future__ import annotations

from typing import Any

from aworker.worker.state import WorkerState

RENEWAL_MOST_S = 5.0
"""A renewal is tried every second: one that is older says that Redis is away, frozen, or takes no writes."""
BEAT_MOST_S = 12.0
"""Without leases only the heartbeat is written, every 5 s."""


def reasons_against(state: WorkerState) -> list[str]:
    """Return why this worker cannot consume; nothing when it can."""
    if not state.is_started:
        return ["the worker is starting"]
    reasons = []
    if state.is_draining:
        reasons.append("the worker drains: it takes nothing more")
    most_s = RENEWAL_MOST_S if state.delivery == "leased" else BEAT_MOST_S
    if state.renewal_age_s > most_s:
        reasons.append(f"Redis at {state.redis} has taken no write for {state.renewal_age_s:.1f} s")
    elif not state.is_up:
        reasons.append(f"Redis at {state.redis} did not answer the last command")
    pool = state.pool
    if pool is not None and not pool.is_cold and not pool.idle + pool.busy + pool.spare:
        reasons.append("no child process is alive")
    return reasons


def readiness(state: WorkerState) -> tuple[int, dict[str, Any]]:
    """Return the status code and the body of ``/readyz``."""
    reasons = reasons_against(state)
    return (503 if reasons else 200), {"ready": not reasons, "worker_id": state.worker_id, "reasons": reasons}
