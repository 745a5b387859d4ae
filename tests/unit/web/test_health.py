from typing import Any

import msgspec
import pytest

from aworker.execution.pool.parent import PoolStats
from aworker.web.health import readiness, reasons_against
from aworker.worker.state import WorkerState

POOL = PoolStats(2, 1, 1, 1, 0, 3, 0, 0, 0)
WELL = WorkerState(
    "w", "leased", "127.0.0.1:6379/0", True, False, True, 16, 2, {"priority": 2}, 0.5, 0.1, 9, 0, 0, POOL
)


def test_a_worker_that_renews_and_has_children_is_ready() -> None:
    assert readiness(WELL) == (200, {"ready": True, "worker_id": "w", "reasons": []})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_started": False}, "starting"),
        ({"is_draining": True}, "drains"),
        ({"renewal_age_s": 7.0}, "has taken no write for 7.0 s"),
        ({"renewal_age_s": float("inf")}, "has taken no write"),
        ({"is_up": False}, "did not answer"),
        ({"pool": PoolStats(2, 0, 0, 0, 0, 3, 3, 0, 0)}, "no child process is alive"),
        ({"delivery": "at-most-once", "renewal_age_s": 13.0}, "has taken no write"),
    ],
)
def test_a_worker_that_cannot_consume_says_why(change: dict[str, Any], reason: str) -> None:
    status, body = readiness(msgspec.structs.replace(WELL, **change))

    assert (status, body["ready"]) == (503, False)
    assert reason in " ".join(body["reasons"])


def test_a_paused_level_and_full_slots_are_ready() -> None:
    assert reasons_against(msgspec.structs.replace(WELL, busy=16)) == []


def test_children_that_no_task_has_needed_are_not_missed() -> None:
    cold = PoolStats(2, 0, 0, 0, 0, 0, 0, 0, 0, is_cold=True)

    assert reasons_against(msgspec.structs.replace(WELL, pool=cold)) == []


def test_without_a_pool_no_child_is_missed() -> None:
    assert reasons_against(msgspec.structs.replace(WELL, pool=None)) == []
