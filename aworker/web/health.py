"""Whether a worker lives and whether it can consume, with the reasons why not.

Ready is: Redis answered a claim and took a renewal within the last seconds and takes new tasks, a child process is
alive, and the drain has not begun. A level that is paused and slots that are all busy are no reasons: that is as it
should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aworker.worker.state import WorkerState

CLAIM_MOST_S = 5.0
"""A claim is asked every other second at the least, with nothing to claim too."""
RENEWAL_MOST_S = 5.0
"""Of the default interval; with a longer one two of them."""
CHILDLESS_MOST_S = 5.0
"""A child that ended is replaced within a second."""


def reasons_against(state: WorkerState) -> list[str]:
    """Return why this worker cannot consume; nothing when it can."""
    return list(_reasons(state))


def _reasons(state: WorkerState) -> Iterator[str]:
    where = f"Redis at {state.redis}"
    trouble = f" ({state.trouble})" if state.trouble else ""
    if not state.is_started:
        yield "the worker is starting" if state.is_up else f"the worker is starting: {where} does not serve{trouble}"
        return
    if state.is_draining:
        yield "the worker drains: it takes nothing more"
    if state.fullness:
        yield f"{where} is full and takes no new task ({state.fullness})"
    if state.delivery == "leased" and state.claim_age_s > CLAIM_MOST_S:
        yield f"{where} has answered no claim for {state.claim_age_s:.1f} s{trouble}"
    elif state.renewal_age_s > max(RENEWAL_MOST_S, 2 * state.renew_interval_s):
        yield f"{where} has taken no write for {state.renewal_age_s:.1f} s{trouble}"
    elif not state.is_up:
        yield f"{where} did not serve the last command{trouble}"
    if state.childless_s > CHILDLESS_MOST_S:
        yield f"no child process has been alive for {state.childless_s:.1f} s"


def readiness(state: WorkerState) -> tuple[int, dict[str, Any]]:
    """Return the status code and the body of ``/readyz``."""
    reasons = reasons_against(state)
    return (503 if reasons else 200), {"ready": not reasons, "worker_id": state.worker_id, "reasons": reasons}
