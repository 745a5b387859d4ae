from typing import Any

import msgspec
import pytest

from aworker.execution.pool.parent import PoolStats
from aworker.web.health import readiness, reasons_against
from aworker.worker.state import WorkerState

WELL = WorkerState(
    worker_id="w",
    delivery="leased",
    redis="127.0.0.1:6379/0",
    is_started=True,
    is_draining=False,
    is_up=True,
    trouble="",
    fullness="",
    slots=16,
    busy=2,
    reserved={"priority": 2},
    renewal_age_s=0.5,
    renew_interval_s=1.0,
    loop_lag_s=0.1,
    round_trips=9,
    reloads=0,
    failed_reloads=0,
    pool=PoolStats(2, 1, 1, 1, 0, 3, 0, 0, 0),
    childless_s=0.0,
    claim_age_s=1.2,
)


def test_a_worker_that_renews_and_has_children_is_ready() -> None:
    assert readiness(WELL) == (200, {"ready": True, "worker_id": "w", "reasons": []})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_started": False}, "starting"),
        (
            {"is_started": False, "is_up": False, "trouble": "Error 111"},
            "the worker is starting: Redis at 127.0.0.1:6379/0 does not serve (Error 111)",
        ),
        ({"is_draining": True}, "drains"),
        ({"renewal_age_s": 7.0}, "has taken no write for 7.0 s"),
        ({"renewal_age_s": float("inf")}, "has taken no write"),
        ({"claim_age_s": 5.5, "trouble": "READONLY"}, "has answered no claim for 5.5 s (READONLY)"),
        ({"is_up": False, "trouble": "Connection refused"}, "did not serve the last command (Connection refused)"),
        ({"fullness": "command not allowed"}, "is full and takes no new task (command not allowed)"),
        ({"childless_s": 6.0}, "no child process has been alive for 6.0 s"),
        ({"delivery": "at-most-once", "renewal_age_s": 7.0}, "has taken no write"),
    ],
)
def test_a_worker_that_cannot_consume_says_why(change: dict[str, Any], reason: str) -> None:
    status, body = readiness(msgspec.structs.replace(WELL, **change))

    assert (status, body["ready"]) == (503, False)
    assert reason in " ".join(body["reasons"])


@pytest.mark.parametrize(
    "change",
    [
        {"busy": 16},
        {"childless_s": 0.4, "pool": PoolStats(1, 0, 0, 0, 0, 3, 3, 0, 0)},
        {"pool": None},
        {"pool": PoolStats(2, 0, 0, 0, 0, 0, 0, 0, 0, is_cold=True)},
        {"renew_interval_s": 5.0, "renewal_age_s": 6.0},
        {"delivery": "at-most-once", "claim_age_s": 50.0},
    ],
)
def test_what_is_as_it_should_be_is_no_reason(change: dict[str, Any]) -> None:
    assert reasons_against(msgspec.structs.replace(WELL, **change)) == []
