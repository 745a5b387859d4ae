"""Checks of the levels, what waits there, and the dead letters."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import NamedTuple

import msgspec

from aworker.clock import parse_rfc3339
from aworker.config import Config, QueueConfig
from aworker.doctor.examination import Examination, Finding, count, few, found, text_of, well
from aworker.overview.snapshot import Level, Snapshot
from aworker.queues.hand.look import end_commands, look_command, taken_from_left

SAMPLE = 20
PAIRS_LEAST = 2
STEADY = 0.8
NEWER_S = 1.0
STILL_MINUTES = 5
GROWING = 3
DEAD_PAGE, DEAD_MOST = 25, 500
NEARLY_FULL = 0.9
HOUR_S = 3_600.0


async def consumed(exam: Examination) -> list[Finding]:
    snapshot = await exam.snapshot()
    findings = []
    for level in snapshot.levels:
        if not level.length:
            continue
        serving = [worker for worker in snapshot.alive if worker.said is None or level.label in worker.said.reserved]
        waits = f"{count(level.length, 'task')} on the {level.label} queue"
        if level.paused_since_s is not None:
            what = f"{waits}, paused {_ago(snapshot.now_s - level.paused_since_s)}"
            findings.append(found("paused", what, f"aworker resume {level.label}"))
        elif not serving:
            who = (
                f"none of {count(len(snapshot.alive), 'worker')} serves it" if snapshot.alive else "no worker is there"
            )
            mend = f"aworker run (with a level for {level.name} in [[queues]])" if snapshot.alive else "aworker run"
            findings.append(found("nobody-consumes", f"{waits}, {who}", mend))
        elif _stands_still(level):
            what = f"{waits}, none taken for {STILL_MINUTES} minutes, by {count(len(serving), 'worker')}"
            findings.append(found("stands-still", what, f"aworker peek {level.label} -n 1, then aworker why TASK_ID"))
    paused = sorted(snapshot.pauses.task_types)
    if paused and any(level.length for level in snapshot.levels):
        what = (
            f"Paused task types: {few(paused)}; {count(sum(one.length for one in snapshot.levels), 'task')} wait in all"
        )
        findings.append(found("paused", what, f"aworker resume {paused[0]}"))
    return findings or [well(_served(snapshot))]


def _stands_still(level: Level) -> bool:
    known = level.minutes[-STILL_MINUTES - 1 : -1]
    return all(minute is not None and minute.waiting and not minute.taken for minute in known)


def _served(snapshot: Snapshot) -> str:
    if any(level.length for level in snapshot.levels):
        return f"{count(len(snapshot.alive), 'worker')} for what waits"
    return f"nothing waits, {count(len(snapshot.alive), 'worker')}"


def _ago(seconds: float) -> str:
    return f"{max(0.0, seconds) / 60:.0f} min ago" if seconds < 7_200 else f"{seconds / 3600:.0f} h ago"


async def order(exam: Examination) -> list[Finding]:
    findings = []
    known = 0
    for level in exam.config.queues:
        (length,) = await exam.ask(("LLEN", level.name))
        if length < 2:
            continue
        known += 1
        findings += await _of_list(exam, level, length)
    return findings or [well(f"{count(known, 'list')} with more than one task, first-in first-out")]


async def _of_list(exam: Examination, level: QueueConfig, length: int) -> list[Finding]:
    keys, config = exam.keys, exam.config
    half = min(SAMPLE, (length + 1) // 2)
    noted, left_end, right_end, left, right = await exam.ask(
        *end_commands(keys, level.name),
        look_command(level.name, "list", 0, half, 16_384),
        look_command(level.name, "list", length - half, half, 16_384),
    )
    moved = text_of(noted[1] or b"")
    at_left, at_right = _moments(left, moved), _moments(right, moved)
    producers = f"{exam.redis_cli('CLIENT', 'LIST')} | grep -Ei 'cmd=[lr]push' shows who pushes where"
    if _trend(at_left) < 0 < _trend(at_right):
        what = f"The list {level.name} is newest at both ends: some producers use LPUSH, others RPUSH"
        return [found("both-ends", what, f"let all use RPUSH: {producers}")]
    from_left = taken_from_left(config, level.name, [noted, left_end, right_end])
    if not at_left or not at_right:
        return []
    taken, kept = (at_left[0], at_right[-1]) if from_left else (at_right[-1], at_left[0])
    younger_s = taken.at_s - kept.at_s
    if younger_s > NEWER_S and _trend(at_left + at_right) == (-1 if from_left else 1):
        younger = f"the next task is {younger_s:,.0f} s younger than the oldest"
        what = f"The list {level.name} is taken from at its newer end: {younger}"
        return [found("newest-first", what, _mend_of_end(config, level, producers))]
    return []


def _mend_of_end(config: Config, level: QueueConfig, producers: str) -> str:
    if config.worker.delivery == "at-most-once":
        return f'set worker.delivery = "leased", or let producers use LPUSH: {producers}'
    return f'set take_from = "auto" for {level.name} in [[queues]], then: kill -HUP the workers'


class _Moment(NamedTuple):
    """When a task was made, and what its id says of it: Go's ids end in a number that grows."""

    at_s: float
    word: str
    number: int


def _moments(reply: list[object], moved: str) -> list[_Moment]:
    found_at = []
    for payload in reply[3::3]:
        if not isinstance(payload, bytes):
            continue
        if moved and hashlib.sha1(payload, usedforsecurity=False).hexdigest() in moved:
            continue
        try:
            task = msgspec.json.decode(payload)
            at_s = parse_rfc3339(task["created_at"])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        if at_s is not None:
            task_id = str(task.get("task_id", ""))[:200]
            word = task_id.rstrip("0123456789")
            found_at.append(_Moment(at_s, word, int(task_id[len(word) :] or 0)))
    return found_at


def _trend(moments: list[_Moment]) -> int:
    # 1: younger to the right, -1: to the left, 0: it cannot be said.
    steps = [step for pair in pairwise(moments) if (step := _step(*pair))]
    later = sum(step > 0 for step in steps)
    if len(steps) < PAIRS_LEAST or max(later, len(steps) - later) < STEADY * len(steps):
        return 0
    return 1 if later > len(steps) - later else -1


def _step(before: _Moment, after: _Moment) -> float:
    if before.at_s == after.at_s and before.word == after.word:
        return after.number - before.number
    return after.at_s - before.at_s


async def dead_letters(exam: Examination) -> list[Finding]:
    config = exam.config
    total, size = await exam.ask(("XLEN", exam.keys.dead), ("GET", exam.keys.dead_bytes))
    if not total:
        return [well("none")]
    now_s = (await exam.snapshot()).now_s
    recent, reasons, is_whole = await _recent(exam, now_s)
    findings = []
    if recent >= GROWING:
        often = few([f"{number:,} {reason}" for reason, number in sorted(reasons.items(), key=lambda one: -one[1])], 3)
        most = "" if is_whole else "At least "
        what = f"{most}{count(recent, 'dead letter')} within the last hour, of {total:,} in all: {often}"
        findings.append(found("dead-letters-grow", what, "aworker dead list, then aworker dead requeue --all or drop"))
    limits = config.dead_letters
    filled = max(total / limits.max_entries, (int(size) if size and size.isdigit() else 0) / limits.max_bytes)
    if filled >= NEARLY_FULL:
        what = f"{count(total, 'dead letter')} are {filled:.0%} of [dead_letters] max_entries or max_bytes"
        findings.append(found("dead-letters-full", what, "aworker dead list, then aworker dead drop --all --yes"))
    return findings or [well(f"{count(total, 'dead letter')}, {recent:,} within the last hour")]


async def _recent(exam: Examination, now_s: float) -> tuple[int, dict[str, int], bool]:
    reasons: dict[str, int] = {}
    start, recent = "+", 0
    while recent < DEAD_MOST:
        (reply,) = await exam.ask(look_command(exam.keys.dead, "dead", start, DEAD_PAGE, 64))
        rows = [reply[at : at + 4] for at in range(1, len(reply), 4)]
        for entry_id, _, _, fields in rows:
            if now_s - int(entry_id.partition(b"-")[0]) / 1000 > HOUR_S:
                return recent, reasons, True
            recent += 1
            reason = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"reason", b"?")
            reasons[text_of(reason)] = reasons.get(text_of(reason), 0) + 1
        if len(rows) < DEAD_PAGE:
            return recent, reasons, True
        start = f"({text_of(rows[-1][0])}"
    return recent, reasons, False
