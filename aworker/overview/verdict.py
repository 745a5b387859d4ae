"""Whether all is well, in a word and with the reasons."""

from __future__ import annotations

from typing import Literal

import msgspec

from aworker.overview.snapshot import LAG_S, Snapshot

Word = Literal["well", "look", "trouble"]

OLD_S = 300.0
FAILURE_SHARE = 0.2
FAILURES_LEAST = 5
RECENT_DEAD_S = 3_600.0
_MINUTES = 10


class Verdict(msgspec.Struct, frozen=True):
    """The worst of what was found, and each reason, the worst first."""

    word: Word
    reasons: list[str]

    @property
    def title(self) -> str:
        """What the page says first."""
        return {"well": "All is well", "look": "Worth a look", "trouble": "Trouble"}[self.word]


def judge(snapshot: Snapshot) -> Verdict:
    """Say what is wrong and what is worth a look."""
    trouble, look = _of_workers(snapshot)
    look += _of_levels(snapshot) + _of_ends(snapshot)
    if trouble:
        return Verdict("trouble", trouble + look)
    if look:
        return Verdict("look", look)
    return Verdict("well", [_calm(snapshot)])


def unreachable() -> Verdict:
    """What is said when Redis does not answer."""
    return Verdict("trouble", ["Redis does not answer, or refuses the question: nothing can be said of the queues"])


def _of_workers(snapshot: Snapshot) -> tuple[list[str], list[str]]:
    trouble: list[str] = []
    look: list[str] = []
    waiting = sum(level.length for level in snapshot.levels)
    if not snapshot.alive:
        trouble.append("No worker is there" + (f": {_tasks(waiting)} for one" if waiting else ""))
    for worker in snapshot.workers:
        said = worker.said
        if worker.is_gone:
            held = f" and holds {_count(worker.leases, 'task')}" if worker.leases else ""
            (trouble if worker.leases else look).append(
                f"Worker {worker.worker_id} has said nothing for {worker.silent_s:.0f} s{held}"
            )
        elif said is not None and said.loop_lag_s > LAG_S:
            trouble.append(f"The loop of worker {worker.worker_id} is blocked for {said.loop_lag_s:.0f} s")
        elif said is not None and said.children and not said.alive_children:
            trouble.append(f"Worker {worker.worker_id} has no child process")
    versions = {worker.said.version for worker in snapshot.alive if worker.said}
    if len(versions) > 1:
        look.append(f"Workers of different versions: {', '.join(sorted(versions))}")
    return _few(trouble), _few(look)


def _of_levels(snapshot: Snapshot) -> list[str]:
    look = []
    for level in snapshot.levels:
        if level.paused_since_s is not None:
            look.append(f"The {level.label} queue is paused, {_tasks(level.length)}")
        elif level.oldest_s is not None and level.oldest_s > OLD_S and level.length:
            look.append(f"The next task of the {level.label} queue has waited {level.oldest_s / 60:.0f} min")
    paused = sorted(snapshot.pauses.task_types)
    if paused:
        look.append(f"Paused: {', '.join(paused[:5])} tasks{' and more' if len(paused) > 5 else ''}")
    return look


def _of_ends(snapshot: Snapshot) -> list[str]:
    look = []
    recent = [minute for level in snapshot.levels for minute in level.minutes[-_MINUTES:] if minute]
    failed = sum(minute.failed for minute in recent)
    ended = failed + sum(minute.completed for minute in recent)
    if failed >= FAILURES_LEAST and failed / ended > FAILURE_SHARE:
        look.append(f"{failed:,} of {ended:,} tasks failed in the last {_MINUTES} minutes")
    if snapshot.last_dead_s is not None and snapshot.last_dead_s < RECENT_DEAD_S:
        minutes = int(snapshot.last_dead_s // 60)
        ago = f"{minutes} min ago" if minutes else "just now"
        look.append(f"{_count(snapshot.dead, 'dead letter')}, the newest {ago}")
    return look


def _calm(snapshot: Snapshot) -> str:
    waiting = sum(level.length for level in snapshot.levels)
    alive = len(snapshot.alive)
    return (
        f"{_count(alive, 'worker')} {'serves' if alive == 1 else 'serve'}, {snapshot.busy:,} of {snapshot.slots:,} "
        f"slots busy, {waiting:,} waiting"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _tasks(number: int) -> str:
    return f"{_count(number, 'task')} {'waits' if number == 1 else 'wait'}"


def _few(reasons: list[str]) -> list[str]:
    return reasons if len(reasons) <= 4 else [*reasons[:3], f"and {len(reasons) - 3} more like these"]
