"""The overview as it is drawn: it fits, it shows what matters, and nothing in it can steer a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from aworker.cli.screen.overview import Frame, View, compact, draw_overview
from aworker.cli.screen.terminal import keys_in
from aworker.cli.watching.live import Screen
from aworker.overview.snapshot import Level, Snapshot, TypeRow, Worker
from aworker.overview.verdict import judge
from aworker.queues.pauses import Pauses
from aworker.queues.presence import MINUTES, Minute, Presence, RunningTask

NOW_S = 1_790_000_000.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07\nnext\u202eline\u200b" + "x" * 300


def snapshot_of(workers: int = 2, running: int = 3, types: int = 4, **fields: Any) -> Snapshot:
    said = [
        Presence(
            f"worker_{at:03}",
            NOW_S,
            host=f"host-{at % 7}",
            version="0.1.0",
            started_at_s=NOW_S - 60 * at,
            slots=16,
            busy=running,
            running=[
                RunningTask(f"task-{at:03}-{number}", "backtest", "normal", 1, NOW_S - 10 * number - at)
                for number in range(running)
            ],
        )
        for at in range(workers)
    ]
    minutes: list[Minute | None] = [Minute(3, 2, at % 5, 0) for at in range(MINUTES)]
    whole: dict[str, Any] = {
        "now_s": NOW_S,
        "levels": [
            Level("priority", "strategy_queue_priority", 0, None, None, [None] * MINUTES, None, None),
            Level("normal", "strategy_queue", 1_234_567, 12.3, None, minutes, 17.0, 16.5),
        ],
        "workers": [Worker(one.worker_id, 1.0, one) for one in said],
        "delayed": 3,
        "dead": 12,
        "last_dead_s": 300.0,
        "types": [
            TypeRow(f"type_{at}", at, 2, 100 * at, at, 0, (0.1, 2.0), (0.01 * at, 1.5 * at), None)
            for at in range(types)
        ],
        "recent": [],
        "pauses": Pauses(),
    }
    return Snapshot(**{**whole, **fields})


def drawn(snapshot: Snapshot, width: int, height: int | None = None, view: View | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(draw_overview(snapshot, judge(snapshot), view or View(), Frame(width, height)))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 140, 250])
@pytest.mark.parametrize("height", [None, 20, 24, 50])
@pytest.mark.parametrize(
    "snapshot",
    [
        snapshot_of(0, 0, 0),
        snapshot_of(),
        snapshot_of(200, 50, 100),
        snapshot_of(1, 0, 60),
        snapshot_of(0, 0, 0, dead=0, last_dead_s=None, levels=[]),
    ],
    ids=["nothing", "small", "huge", "many types", "no level"],
)
def test_it_fits(snapshot: Snapshot, width: int, height: int | None) -> None:
    lines = drawn(snapshot, width, height)

    assert max(map(len, lines)) <= width
    assert height is None or len(lines) <= height


@pytest.mark.parametrize("width", [80, 140])
def test_what_anybody_wrote_cannot_steer_the_terminal(width: int) -> None:
    said = Presence(
        HOSTILE,
        NOW_S,
        host=HOSTILE,
        version=HOSTILE,
        children={HOSTILE: 1},
        running=[RunningTask(HOSTILE, HOSTILE, HOSTILE, 1, -1e300)],
        started_at_s=-1e300,
    )
    types = [TypeRow(HOSTILE, 1, 0, 0, 0, 0, (None, None), (None, None), 1e300)]

    lines = drawn(snapshot_of(workers=0, types=0), width)
    hostile = drawn(_with(said, types), width)

    assert len(hostile) == len(lines) + 3
    assert all(one.isprintable() for one in hostile)


def _with(said: Presence, types: list[TypeRow]) -> Snapshot:
    whole = snapshot_of(workers=0, types=0)
    whole.workers, whole.types = [Worker(HOSTILE, 1.0, said)], types
    return whole


def test_each_order_puts_other_rows_first() -> None:
    snapshot = snapshot_of(3, 2, 4)

    def first(order: Any, part: Any) -> str:
        return drawn(snapshot, 80, None, View(order=order, part=part))[3].split()[0]

    assert first("time", "running") == "task-002-1"
    assert first("busy", "running") == "task-000-1"
    assert (first("time", "types"), first("name", "types"), first("failed", "types")) == ("type_3", "type_0", "type_3")
    assert (first("time", "workers"), first("name", "workers")) == ("worker_002", "worker_000")


def test_a_table_that_is_shown_alone_is_scrolled() -> None:
    screen = Screen("here", View(part="workers"), snapshot_of(100, 0, 0))
    for key in ("down", "down", "page down", "up"):
        screen.press(key, 10)

    lines = drawn(screen.snapshot or snapshot_of(), 80, 20, screen.view)
    assert lines[2].startswith("WORKER (12-")
    screen.press("home", 10)
    assert screen.view.offset == 0
    for _ in range(30):
        screen.press("page down", 10)
    assert "of 100)" in drawn(screen.snapshot or snapshot_of(), 80, 20, screen.view)[2]
    assert drawn(screen.snapshot or snapshot_of(), 80, 20, screen.view)[-1].split()[0] == "worker_000"


def test_level_and_type_go_round() -> None:
    screen = Screen("here", View(), snapshot_of())

    def pressed(key: str, field: str) -> list[Any]:
        found = []
        for _ in range(3):
            screen.press(key, 10)
            found.append(getattr(screen.view, field))
        return found

    assert pressed("l", "queue") == ["priority", "normal", None]
    assert pressed("t", "task_type") == ["backtest", "type_0", "type_1"]
    screen.view.task_type = "gone meanwhile"
    assert pressed("t", "task_type")[0] is None


@pytest.mark.parametrize(
    "data, names",
    [
        (b"q", ["q"]),
        (b" ps", ["space", "p", "s"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]),
        (b"\x1b[1;5Cq", ["q"]),
        (b"\x1b[M !!q", ["space", "!", "!", "q"]),
        (b"\x1b[", []),
        ("ä\x00\x7f".encode(), []),
        (b"", []),
    ],
)
def test_keys_are_read_as_terminals_send_them(data: bytes, names: list[str]) -> None:
    assert list(keys_in(data)) == names


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, "-"),
        (0, "0s"),
        (-3, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (9.94, "9.9s"),
        (59.4, "59s"),
        (61, "1m 01s"),
        (3_599, "59m 59s"),
        (3_600, "1h 00m"),
        (172_800, "2d"),
        (1e300, "9999999d"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert compact(seconds) == text
    assert len(text) <= 8
