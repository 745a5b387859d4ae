"""The overview as JSON: every field is documented, and whatever was written in Redis can be said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from aworker.overview.snapshot import Level, Snapshot, TypeRow, Worker
from aworker.overview.values import overview_values
from aworker.queues.pauses import Pauses
from aworker.queues.presence import MINUTES, Minute, Presence, RunningTask

NOW_S = 1_790_000_000.0
PAGE = (Path(__file__).parents[3] / "docs/page.md").read_text(encoding="utf-8")


def whole(paused_since_s: float | None = None) -> Snapshot:
    said = Presence("w1", NOW_S, running=[RunningTask("one", "backtest", "normal", 2, NOW_S - 3)], slots=4, busy=1)
    minutes: list[Minute | None] = [None] * (MINUTES - 1) + [Minute(1, 2, 3, 4)]
    return Snapshot(
        now_s=NOW_S,
        levels=[Level("normal", "strategy_queue", 7, 1.23456, paused_since_s, minutes, None, 2.0)],
        workers=[Worker("w1", 0.5, said), Worker("w2", 99.0, None, 3)],
        delayed=1,
        dead=2,
        last_dead_s=None,
        types=[TypeRow("backtest", 1, 0, 9, 1, 0, (None, None), (0.1, 0.2), paused_since_s)],
        recent=[],
        pauses=Pauses(),
    )


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for one in value.values() for name in names_in(one)}
    return {name for one in value for name in names_in(one)} if isinstance(value, list) else set()


def test_every_field_is_in_the_documentation_and_no_other() -> None:
    rows = PAGE.partition("| field | holds |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`(\w+)`", rows)) - {
        "well",
        "look",
        "trouble",
        "serves",
        "drains",
        "blocked",
        "silent",
    }

    assert names_in(overview_values(whole())) == documented


def test_it_says_what_is_known_and_null_for_the_rest() -> None:
    told = msgspec.json.decode(msgspec.json.encode(overview_values(whole())))

    assert told["queues"][0]["next_waits_s"] == 1.235
    assert told["queues"][0]["last_hour"][-1] == {"waiting": 1, "taken": 2, "completed": 3, "failed": 4}
    assert [(one["worker_id"], one["state"], one["slots"], one["busy"]) for one in told["workers"]] == [
        ("w1", "serves", 4, 1),
        ("w2", "silent", None, 3),
    ]
    assert told["running"] == [
        {
            "task_id": "one",
            "task_type": "backtest",
            "queue": "normal",
            "delivery": 2,
            "running_s": 3.0,
            "worker_id": "w1",
        }
    ]
    assert told["task_types"][0]["max_concurrent"] is None


def test_an_instant_that_is_none_is_null() -> None:
    for odd in (1e300, float("inf"), float("nan"), -1e300):
        told = overview_values(whole(odd))

        assert told["queues"][0]["paused_since"] is None
        assert told["task_types"][0]["paused_since"] is None
    assert overview_values(whole(0.0))["queues"][0]["paused_since"] == "1970-01-01T00:00:00.000000Z"
