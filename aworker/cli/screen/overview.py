"""The overview drawn for a terminal of some width and height: one line a row, the rows that matter most first.

Invariant: nothing that came from a task or a worker can steer the terminal or break a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aworker.cli.screen.show import line
from aworker.overview.snapshot import Level, Snapshot, TypeRow, Worker
from aworker.overview.verdict import Verdict
from aworker.queues.presence import Minute, RunningTask

Order = Literal["time", "name", "busy", "failed"]
Part = Literal["all", "running", "workers", "types"]

ORDERS: tuple[Order, ...] = get_args(Order)
PARTS: tuple[Part, ...] = get_args(Part)
WIDE = 120
"""Columns from which on there is room for everything."""
ROWS_MOST = 25
"""Of each table where no height bounds them."""
REASONS_MOST = 3
LAG_SHOWN_S = 1.0
"""A loop that turns is up to a quarter of a second late by the way it is asked."""
_STYLES = {"well": "green", "look": "yellow", "trouble": "bold red"}
_MARKS = {"well": "✓", "look": "!", "trouble": "✗"}
_STATES = {"serves": "green", "drains": "yellow", "blocked": "bold red", "silent": "bold red"}
_BLOCKS = (" ▁▂▃▄▅▆▇█", " .:-=+*%#")


class View(msgspec.Struct):
    """What is shown of it, and how."""

    order: Order = "time"
    part: Part = "all"
    queue: str | None = None
    """One level's label; None = all."""
    task_type: str | None = None
    offset: int = 0
    """Rows scrolled past, where one part is shown alone."""
    is_paused: bool = False


class Frame(msgspec.Struct, frozen=True):
    """Where it is drawn."""

    width: int
    height: int | None = None
    """None = as many lines as there are, within reason."""
    unicode: bool = True

    @property
    def is_wide(self) -> bool:
        """Whether there is room for everything."""
        return self.width >= WIDE


class _Section(msgspec.Struct):
    """A table that may have to be cut."""

    rows: int
    draw: Callable[[int, int], Table]
    """From the first row to be shown and how many."""


def draw_overview(snapshot: Snapshot, verdict: Verdict, view: View, frame: Frame) -> RenderableType:
    """Return all of it, at most ``frame.height`` lines."""
    reasons = verdict.reasons[:REASONS_MOST]
    mark = _MARKS[verdict.word] if frame.unicode else "*"
    head: list[RenderableType] = [
        _fitting(f"{mark} {verdict.title}: {line(reasons[0])}", _STYLES[verdict.word]),
        *[_fitting(f"  {line(reason)}", _STYLES[verdict.word]) for reason in reasons[1:]],
        Text(),
    ]
    levels = [level for level in snapshot.levels if view.queue in (None, level.label)]
    sections = _sections(snapshot, view, frame)
    if view.part == "all":
        head += [_levels(levels, frame), _fitting(_elsewhere(snapshot), "dim"), Text()]
    used = len(head) + (len(levels) if view.part == "all" else 0)
    shares = _shares([section.rows for section in sections], frame, used)
    body: list[RenderableType] = []
    for section, share in zip(sections, shares, strict=True):
        if share > 0 or section.rows == 0:
            first = min(view.offset, max(0, section.rows - share)) if view.part != "all" else 0
            body += [section.draw(first, share), Text()]
    return Group(*head, *body[:-1])


def _sections(snapshot: Snapshot, view: View, frame: Frame) -> list[_Section]:
    running = [
        (worker_id, task)
        for worker_id, task in snapshot.running
        if view.queue in (None, task.queue) and view.task_type in (None, task.task_type)
    ]
    running.sort(key=_running_order(view.order))
    types = [row for row in snapshot.types if view.task_type in (None, row.name)]
    types.sort(key=_type_order(view.order))
    workers = sorted(snapshot.workers, key=_worker_order(view.order))
    is_whole = view.queue is None and view.task_type is None
    of_running = snapshot.busy if is_whole else len(running)
    found: dict[str, _Section] = {
        "running": _Section(
            len(running), lambda first, count: _running(running, first, count, of_running, snapshot.now_s, frame)
        ),
        "workers": _Section(len(workers), lambda first, count: _workers(workers, first, count, snapshot.now_s, frame)),
        "types": _Section(len(types), lambda first, count: _types(types, first, count, frame)),
    }
    return [section for name, section in found.items() if view.part in ("all", name)]


def _shares(wanted: list[int], frame: Frame, used: int) -> list[int]:
    # Row by row to each table that wants one more, so that a long one starves no other.
    if frame.height is None:
        return [min(rows, ROWS_MOST) for rows in wanted]
    left = frame.height - used - 2 * len(wanted) + 1
    shares = [0] * len(wanted)
    while left > 0 and (hungry := [at for at, rows in enumerate(wanted) if shares[at] < rows]):
        for at in hungry[:left]:
            shares[at] += 1
            left -= 1
    return shares


# The tables.


def _levels(levels: Sequence[Level], frame: Frame) -> Table:
    table = _table("QUEUE", ("WAITING", 9), ("NEXT", 8), ("IN/MIN", 8), ("OUT/MIN", 8), wide=frame.is_wide)
    hour = 60 if frame.is_wide else 20
    table.add_column("ENDED, LAST HOUR", width=hour, no_wrap=True)
    for level in levels:
        name = Text(line(level.label))
        if frame.is_wide and level.name != level.label:
            name.append(f"  {line(level.name)}", "dim")
        if level.paused_since_s is not None:
            name.append("  paused", "bold yellow")
        table.add_row(
            name,
            _number(level.length),
            compact(level.oldest_s),
            _rate(level.in_per_minute),
            _rate(level.out_per_minute),
            Text(_sparkline(level.minutes, hour, frame.unicode), "cyan"),
        )
    return table


def _elsewhere(snapshot: Snapshot) -> str:
    newest = "" if snapshot.last_dead_s is None else f", the newest {compact(snapshot.last_dead_s)} ago"
    return (
        f"{snapshot.delayed:,} delayed, {snapshot.dead:,} dead letter{'' if snapshot.dead == 1 else 's'}{newest}; "
        f"{snapshot.busy:,} of {snapshot.slots:,} slots busy"
    )


def _running(
    rows: list[tuple[str, RunningTask]], first: int, count: int, total: int, now_s: float, frame: Frame
) -> Table:
    wide = [("RUN", 4), ("WORKER", -44)] if frame.is_wide else []
    title = _counted("RUNNING", first, min(count, len(rows)), total)
    table = _table(title, ("TYPE", -18), ("QUEUE", -10), ("FOR", 8), *wide, wide=frame.is_wide)
    for worker_id, task in rows[first : first + count]:
        more = (str(task.delivery), line(worker_id)) if frame.is_wide else ()
        cells = line(task.task_id), line(task.task_type), line(task.queue), compact(now_s - task.started_at_s)
        table.add_row(*map(Text, (*cells, *more)))
    return table


def _workers(workers: list[Worker], first: int, count: int, now_s: float, frame: Frame) -> Table:
    wide: list[tuple[str, int]] = [("HOST", -20), ("VERSION", -10), ("LOOP", 8)] if frame.is_wide else []
    title = _counted("WORKER", first, min(count, len(workers)), len(workers))
    table = _table(title, ("STATE", -10), ("BUSY", 9), ("CHILDREN", -10), ("UP", 8), *wide, wide=frame.is_wide)
    for worker in workers[first : first + count]:
        table.add_row(Text(line(worker.worker_id)), *worker_cells(worker, now_s, wide=frame.is_wide))
    return table


def worker_cells(worker: Worker, now_s: float, *, wide: bool) -> list[Text]:
    """Return state, slots, children and age of a worker; with ``wide`` host, version and what its loop lags too."""
    said = worker.said
    state = f"silent {compact(worker.silent_s)}" if worker.is_gone else worker.state
    cells = [Text(state, _STATES[worker.state])]
    if said is None:
        return [*cells, Text(_number(worker.leases)), *[Text("-")] * (5 if wide else 2)]
    busy, idle = said.children.get("busy", 0), said.children.get("idle", 0)
    cells += [
        Text(f"{said.busy:,}/{said.slots:,}"),
        Text(f"{busy} of {busy + idle}" if said.children else "none"),
        Text(compact(now_s - said.started_at_s)),
    ]
    if wide:
        cells += [
            Text(line(said.host)),
            Text(line(said.version)),
            Text(compact(said.loop_lag_s) if said.loop_lag_s >= LAG_SHOWN_S else "-"),
        ]
    return cells


def _types(rows: list[TypeRow], first: int, count: int, frame: Frame) -> Table:
    wide = [("OTHERS", 8)] if frame.is_wide else []
    columns = [("RUNS", 6), ("DONE", 8), ("FAILED", 7), ("SHARE", 6), *wide]
    durations = [("WAIT p50", 8), ("p95", 7), ("RUN p50", 7), ("p95", 7)]
    title = _counted("TYPE", first, min(count, len(rows)), len(rows))
    table = _table(title, *columns, *durations, wide=frame.is_wide)
    for row in rows[first : first + count]:
        name = Text(line(row.name))
        if row.paused_since_s is not None:
            name.append(" paused", "bold yellow")
        runs = f"{row.running}/{row.limit}" if row.limit else str(row.running)
        failed = Text(_number(row.failed), "red" if row.failed else "")
        share = "-" if row.failure_share is None else f"{row.failure_share:.0%}"
        others = (_number(row.others),) if frame.is_wide else ()
        table.add_row(name, runs, _number(row.completed), failed, share, *others, *map(compact, (*row.wait, *row.run)))
    return table


def _table(title: str, *columns: tuple[str, int], wide: bool) -> Table:
    # A column's width is negative where its text stands on the left.
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), expand=True, header_style="bold")
    table.add_column(title, ratio=1, no_wrap=True, overflow="ellipsis")
    for heading, width in columns:
        is_text = width < 0
        table.add_column(
            heading, width=abs(width), no_wrap=True, overflow="ellipsis", justify="left" if is_text else "right"
        )
    return table


# The order of rows.


def _running_order(order: Order) -> Callable[[tuple[str, RunningTask]], tuple[object, ...]]:
    def key(row: tuple[str, RunningTask]) -> tuple[object, ...]:
        worker_id, task = row
        if order == "name":
            return task.task_type, task.started_at_s
        if order == "busy":
            return worker_id, task.started_at_s
        return (-task.delivery, task.started_at_s) if order == "failed" else (task.started_at_s,)

    return key


def _type_order(order: Order) -> Callable[[TypeRow], tuple[object, ...]]:
    def key(row: TypeRow) -> tuple[object, ...]:
        if order == "time":
            return -(row.run[1] or 0.0), row.name
        if order == "busy":
            return -row.running, row.name
        return (-row.failed, row.name) if order == "failed" else (row.name,)

    return key


def _worker_order(order: Order) -> Callable[[Worker], tuple[object, ...]]:
    def key(worker: Worker) -> tuple[object, ...]:
        said = worker.said
        if order == "busy":
            return -(said.busy if said else worker.leases), worker.worker_id
        if order == "failed":
            return -(said.children_ended if said else 0), worker.worker_id
        if order == "time":
            return said.started_at_s if said else 0.0, worker.worker_id
        return said.host if said else "~", worker.worker_id

    return key


# Words and figures.


def compact(seconds: float | None) -> str:
    """Return a duration in at most eight characters."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f}ms" if seconds >= 0.001 else "0s"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(int(min(seconds, 1e12)), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 48 else f"{min(hours // 24, 9_999_999)}d"


def clock(at_s: float) -> str:
    """Return the time of day, UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S UTC")


def _sparkline(minutes: Sequence[Minute | None], width: int, unicode: bool) -> str:
    blocks = _BLOCKS[0 if unicode else 1]
    step = len(minutes) // width
    ended = [
        sum(minute.completed + minute.failed for minute in minutes[at : at + step] if minute)
        for at in range(0, len(minutes), step)
    ]
    most = max(ended, default=0) or 1
    return "".join(blocks[-(-count * (len(blocks) - 1) // most)] for count in ended)


def _counted(noun: str, first: int, shown: int, total: int) -> str:
    if shown >= total:
        return f"{noun} ({total:,})"
    return f"{noun} ({first + 1 if shown else 0:,}-{first + shown:,} of {total:,})"


def _fitting(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _number(value: int) -> str:
    return f"{value:,}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
