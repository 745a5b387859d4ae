"""Checks of the workers and of what they hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from aworker.doctor.examination import Examination, Finding, count, few, found, text_of, well
from aworker.overview.snapshot import LAG_S
from aworker.queues.presence import Presence

ALIKE = "aworker check --json on each host shows what is in force; give them the same file, then kill -HUP"
HELD_S = 0.25
HOUR_S = 3_600.0
MEND_HELD = "let the heavy part run in a child: await context.offload(function, ..) (docs/handlers.md)"
LAPSED_S = 30.0
"""Any worker's reaper takes an expired lease within seconds, where there is another worker."""


async def stale(exam: Examination) -> list[Finding]:
    snapshot = await exam.snapshot()
    gone = [worker for worker in snapshot.workers if worker.is_gone]
    findings = []
    for worker in gone[:10]:
        host = f" on {worker.said.host}" if worker.said else ""
        held = f" and holds {count(worker.leases, 'task')}" if worker.leases else ""
        what = f"Worker {worker.worker_id}{host} has said nothing for {worker.silent_s:.0f} s{held}"
        findings.append(found("silent-worker", what, "look at its host and log, start it again: aworker run"))
    return findings or [well(f"{count(len(snapshot.alive), 'worker')}, none silent")]


async def leases(exam: Examination) -> list[Finding]:
    prefix = exam.keys.leases("")
    names, how_far = await exam.scan(_literally(prefix) + "*", "hash")
    workers = [text_of(name).removeprefix(prefix) for name in names]
    if not workers:
        return [well(f"no leases{how_far}")]
    time, last = await exam.ask(("TIME",), ("ZREVRANGE", exam.keys.workers, 0, 0, "WITHSCORES"))
    now_s = int(time[0]) + int(time[1]) / 1e6
    somebody_renews = bool(last) and float(last[1]) / 1000 > now_s
    patience_s = LAPSED_S if somebody_renews else 0.0
    deadlines = await exam.ask(*[("ZSCORE", exam.keys.workers, worker) for worker in workers])
    held = await exam.ask(*[("HLEN", name) for name in names])
    findings = []
    for worker, deadline, number in zip(workers, deadlines, held, strict=True):
        if deadline is None and number:
            what = f"{count(number, 'task')} leased to {worker}, which is no worker's name that is known"
            # With a deadline that has passed the next worker's reaper finds them.
            mend = exam.redis_cli("ZADD", exam.keys.workers, "NX", "0", worker)
            findings.append(found("lost-leases", what, f"{mend}; a worker takes them over within seconds"))
        elif deadline is not None and number and now_s - float(deadline) / 1000 > patience_s:
            ago_s = now_s - float(deadline) / 1000
            what = f"{count(number, 'task')} leased to {worker}, whose lease ran out {ago_s:,.0f} s ago"
            findings.append(found("lost-leases", what, "aworker run: any worker with leased delivery takes them over"))
    return findings[:10] or [well(f"{count(sum(held), 'lease')} of {count(len(workers), 'worker')}{how_far}")]


def _literally(text: str) -> str:
    return "".join(f"\\{one}" if one in "*?[]\\^" else one for one in text)


async def alike(exam: Examination) -> list[Finding]:
    said = [worker.said for worker in (await exam.snapshot()).alive if worker.said is not None]
    findings = []
    versions = _grouped(said, lambda one: one.version)
    if len(versions) > 1:
        mend = "install the same version everywhere: pip install --upgrade aworker, then restart the workers"
        findings.append(found("versions-differ", f"Workers of different versions: {_told(versions)}", mend))
    for words, of in (
        ("delivery", lambda one: one.delivery),
        ("levels", lambda one: ", ".join(sorted(one.reserved))),
        ("limits", lambda one: ", ".join(f"{name} {limit}" for name, limit in sorted(one.limits.items()))),
    ):
        groups = _grouped(said, of)
        if len(groups) > 1:
            findings.append(found("configurations-differ", f"Workers differ in {words}: {_told(groups)}", ALIKE))
    groups = _grouped(said, lambda one: one.config_hash)
    if len(groups) > 1 and not any(one.name == "configurations-differ" for one in findings):
        findings.append(found("configurations-differ", f"Workers of different configurations: {_told(groups)}", ALIKE))
    return findings or [well(f"{count(len(said), 'worker')} alike")]


def _grouped(said: list[Presence], of: Callable[[Presence], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for one in said:
        groups[of(one) or "none"].append(one.worker_id)
    return groups


def _told(groups: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} on {few(sorted(names), 2)}" for value, names in sorted(groups.items())[:4])


async def loops(exam: Examination) -> list[Finding]:
    snapshot = await exam.snapshot()
    said = [worker.said for worker in snapshot.alive if worker.said is not None]
    findings = []
    for one in said:
        if one.loop_lag_s > LAG_S:
            runs = few([f"{task.task_type} {task.task_id}" for task in one.running], 3) or "nothing"
            what = f"The loop of worker {one.worker_id} is blocked for {one.loop_lag_s:.0f} s; it runs {runs}"
            findings.append(found("loop-blocked", what, f"py-spy dump --pid {one.pid} (on {one.host})"))
        for held in one.held:
            if held.longest_s >= HELD_S and snapshot.now_s - held.at_s < HOUR_S:
                what = (
                    f"{held.task_type} tasks held the loop of worker {one.worker_id} for up to {held.longest_s:.1f} s, "
                    f"{count(held.times, 'time')} within the hour"
                )
                findings.append(found("blocking-handlers", what, MEND_HELD))
    return findings[:10] or [well(f"{count(len(said), 'loop')} turn, none held for {HELD_S:g} s within the hour")]
