"""Series that must fire an alert and series that must not, by alert.

A value list is promtool's: ``0+1x40`` is 0, 1, .. 40, one each 15 s; ``_x9`` is ten times nothing.
"""

from __future__ import annotations

from typing import NamedTuple

A = 'job="aworker",instance="a:9464"'
B = 'job="aworker",instance="b:9464"'
OF_A = {"job": "aworker", "instance": "a:9464"}
OF_JOB = {"job": "aworker"}


class Case(NamedTuple):
    """What is scraped, and the labels of the alerts that fire then."""

    what: str
    at: str
    series: dict[str, str]
    fires: tuple[dict[str, str], ...] = ()


def _tasks(completed: str, failed: str, rejected: str = "0x80") -> dict[str, str]:
    name = f'aworker_tasks_total{{{A},queue="normal",task_type="backtest",outcome='
    return {f'{name}"completed"}}': completed, f'{name}"failed"}}': failed, f'{name}"rejected"}}': rejected}


def _lag(count: str, within: str) -> dict[str, str]:
    name = "aworker_event_loop_lag_seconds"
    return {f"{name}_count{{{A}}}": count, f'{name}_bucket{{{A},le="1.0"}}': within}


def _queue(metric: str, values: str, queue: str = "normal", instance: str = A) -> dict[str, str]:
    return {f'aworker_queue_{metric}{{{instance},queue="{queue}"}}': values}


def _slots(busy: str) -> dict[str, str]:
    return {
        f"aworker_slots{{{A}}}": "16x80",
        f'aworker_slots_reserved{{{A},queue="priority"}}': "2x80",
        f'aworker_slots_reserved{{{A},queue="normal"}}': "0x80",
        f"aworker_slots_busy{{{A}}}": busy,
    }


def _ended(cause: str, values: str) -> dict[str, str]:
    return {f'aworker_children_ended_total{{{A},cause="{cause}"}}': values}


def _info(metric: str, label: str, first: str, second: str) -> dict[str, str]:
    return {f'{metric}{{{A},{label}="{first}"}}': "1x300", f'{metric}{{{B},{label}="{second}"}}': "1x300"}


CASES: dict[str, tuple[Case, ...]] = {
    "AworkerAbsent": (
        Case("nothing at all", "3m", {}, ({},)),
        Case("the last one gone", "15m", {f"aworker_ready{{{A}}}": "1x20 _x60"}, ({},)),
        Case("one that is not ready", "15m", {f"aworker_ready{{{A}}}": "0x80"}),
    ),
    "AworkerDown": (
        Case("gone", "15m", {f"up{{{A}}}": "1x20 0x60", f"aworker_ready{{{A}}}": "1x20 _x60"}, (OF_A,)),
        Case("up", "15m", {f"up{{{A}}}": "1x80", f"aworker_ready{{{A}}}": "1x80"}),
        Case("missed one scrape", "6m", {f"up{{{A}}}": "1x20 0 1x60", f"aworker_ready{{{A}}}": "1x20 _ 1x60"}),
        Case("somebody else's target", "15m", {'up{job="node",instance="a:9100"}': "0x80"}),
        Case("retired hours ago", "2h", {f"up{{{A}}}": "0x600", f"aworker_ready{{{A}}}": "1x20"}),
    ),
    "AworkerNotReady": (
        Case(
            "not ready",
            "10m",
            {f"aworker_ready{{{A}}}": "1x20 0x40", f"aworker_draining{{{A}}}": "0x60"},
            (OF_A,),
        ),
        Case("draining", "10m", {f"aworker_ready{{{A}}}": "0x60", f"aworker_draining{{{A}}}": "1x60"}),
        Case("back within half a minute", "10m", {f"aworker_ready{{{A}}}": "1x38 0 0 1x20"}),
        Case("ready", "10m", {f"aworker_ready{{{A}}}": "1x60", f"aworker_draining{{{A}}}": "0x60"}),
    ),
    "AworkerClaimsUnanswered": (
        Case(
            "unanswered",
            "10m",
            {
                f"aworker_claim_age_seconds{{{A}}}": "1x20 0+15x40",
                f'aworker_worker_info{{{A},delivery="leased",worker_id="w"}}': "1x60",
            },
            (OF_A,),
        ),
        Case(
            "a plain pop that waits",
            "10m",
            {
                f"aworker_claim_age_seconds{{{A}}}": "59x60",
                f'aworker_worker_info{{{A},delivery="at-most-once",worker_id="w"}}': "1x60",
            },
        ),
        Case(
            "answered",
            "10m",
            {
                f"aworker_claim_age_seconds{{{A}}}": "2x60",
                f'aworker_worker_info{{{A},delivery="leased",worker_id="w"}}': "1x60",
            },
        ),
    ),
    "AworkerRenewalsFail": (
        Case("none is taken", "10m", {f"aworker_renewal_age_seconds{{{A}}}": "1x20 0+15x40"}, (OF_A,)),
        Case("beats of a plain worker", "10m", {f"aworker_renewal_age_seconds{{{A}}}": "5x60"}),
        Case("a failover of half a minute", "10m", {f"aworker_renewal_age_seconds{{{A}}}": "1x36 15 30 1x20"}),
    ),
    "AworkerRestarts": (
        Case(
            "every few minutes",
            "30m",
            {f"process_start_time_seconds{{{A}}}": "0x20 1x20 2x20 3x20 4x40", f"aworker_ready{{{A}}}": "1x130"},
            (OF_A,),
        ),
        Case(
            "two deployments",
            "30m",
            {f"process_start_time_seconds{{{A}}}": "0x40 1x40 2x60", f"aworker_ready{{{A}}}": "1x130"},
        ),
        Case(
            "somebody else's process",
            "30m",
            {'process_start_time_seconds{job="x",instance="y"}': "0x20 1 2 3 4 5 6x99"},
        ),
    ),
    "AworkerLoopBlocked": (
        Case("once for long", "5m", _lag("0+60x20", "0+60x10 659+60x9"), (OF_A,)),
        Case("late by less than a second", "5m", _lag("0+60x20", "0+60x20")),
        Case("blocked long ago", "20m", _lag("0+60x80", "0+60x10 659+60x69")),
    ),
    "AworkerChildrenEnd": (
        Case("they crash", "15m", _ended("died", "0x20 1x10 2x10 3x40"), ({**OF_A, "cause": "died"},)),
        Case("they grow too large", "15m", _ended("memory", "0x20 1x5 2x5 4x40"), ({**OF_A, "cause": "memory"},)),
        Case("one crash", "15m", _ended("died", "0x20 1x60")),
        Case("recycled in order", "15m", _ended("recycled", "0+1x80")),
        Case("time-outs", "15m", _ended("timed_out", "0+1x80")),
    ),
    "AworkerReloadRefused": (
        Case(
            "a bad file",
            "20m",
            {f'aworker_config_reloads_total{{{A},result="refused"}}': "0x20 1x60"},
            ({**OF_A, "result": "refused"},),
        ),
        Case("a good one", "20m", {f'aworker_config_reloads_total{{{A},result="applied"}}': "0x20 1x60"}),
        Case("none", "20m", {f'aworker_config_reloads_total{{{A},result="refused"}}': "0x80"}),
    ),
    "AworkerConfigsDiffer": (
        Case("two hashes", "45m", _info("aworker_config_info", "hash", "1a", "2b"), (OF_JOB,)),
        Case("one hash", "45m", _info("aworker_config_info", "hash", "1a", "1a")),
        Case(
            "while it is rolled out",
            "19m",
            {
                f'aworker_config_info{{{A},hash="1a"}}': "1x40 _x300",
                f'aworker_config_info{{{A},hash="2b"}}': "_x40 1x300",
                f'aworker_config_info{{{B},hash="1a"}}': "1x80 _x300",
                f'aworker_config_info{{{B},hash="2b"}}': "_x80 1x300",
            },
        ),
    ),
    "AworkerVersionsDiffer": (
        Case("two versions", "70m", _info("aworker_build_info", "version", "1.0", "1.1"), (OF_JOB,)),
        Case("one version", "70m", _info("aworker_build_info", "version", "1.1", "1.1")),
        Case("two for half an hour", "30m", _info("aworker_build_info", "version", "1.0", "1.1")),
    ),
    "AworkerPriorityQueueOld": (
        Case(
            "two minutes",
            "5m",
            _queue("oldest_age_seconds", "0+15x20", "priority")
            | _queue("oldest_age_seconds", "0+15x20", "priority", B),
            ({**OF_JOB, "queue": "priority"},),
        ),
        Case("half a minute", "5m", _queue("oldest_age_seconds", "30x20", "priority")),
        Case("of the normal queue", "5m", _queue("oldest_age_seconds", "0+15x20", "normal")),
    ),
    "AworkerQueueOld": (
        Case("ten minutes", "15m", _queue("oldest_age_seconds", "0+15x80"), ({**OF_JOB, "queue": "normal"},)),
        Case("taken in time", "15m", _queue("oldest_age_seconds", "200x80")),
        Case("gone after a minute", "10m", _queue("oldest_age_seconds", "0x30 400x4 0x40")),
    ),
    "AworkerQueueGrows": (
        Case("grows", "35m", _queue("length", "900+10x160"), ({**OF_JOB, "queue": "normal"},)),
        Case("long and shrinking", "35m", _queue("length", "9000-10x160")),
        Case("short and growing", "35m", _queue("length", "0+1x160")),
    ),
    "AworkerQueuePaused": (
        Case(
            "forgotten",
            "70m",
            _queue("paused", "1x300") | _queue("length", "0+1x300"),
            ({**OF_JOB, "queue": "normal"},),
        ),
        Case("for half an hour", "70m", _queue("paused", "0x160 1x140") | _queue("length", "5x300")),
        Case("and nothing waits", "70m", _queue("paused", "1x300") | _queue("length", "0x300")),
    ),
    "AworkerLimitHoldsBack": (
        Case(
            "for long",
            "30m",
            _queue("held_back", "7x140") | _queue("oldest_age_seconds", "0+15x140"),
            ({**OF_JOB, "queue": "normal"},),
        ),
        Case(
            "by one worker of two",
            "30m",
            _queue("held_back", "7x140")
            | _queue("held_back", "0x140", instance=B)
            | _queue("oldest_age_seconds", "0+15x140"),
        ),
        Case("and soon taken", "30m", _queue("held_back", "7x140") | _queue("oldest_age_seconds", "20x140")),
    ),
    "AworkerSaturated": (
        Case("all but the reserved", "20m", _slots("14x80") | _queue("length", "40x80"), (OF_JOB,)),
        Case("some are free", "20m", _slots("13x80") | _queue("length", "40x80")),
        Case("and nothing waits", "20m", _slots("16x80") | _queue("length", "0x80")),
        Case("for a moment", "20m", _slots("16x5 0x5 16x70") | _queue("length", "40x5 0x40 40x35")),
    ),
    "AworkerTasksFail": (
        Case("a third", "15m", _tasks("0+2x80", "0+1x80"), ({**OF_JOB, "task_type": "backtest"},)),
        Case(
            "payloads that cannot run",
            "15m",
            _tasks("0+2x80", "0x80", "0+1x80"),
            ({**OF_JOB, "task_type": "backtest"},),
        ),
        Case("one of twenty", "15m", _tasks("0+20x80", "0+1x80")),
        Case("a few of a few", "15m", _tasks("0x80", "0x50 3x30")),
    ),
    "AworkerDeadLetters": (
        Case(
            "one",
            "10m",
            {f'aworker_dead_letters_total{{{A},reason="handler_raised"}}': "0x20 1x60"},
            ({**OF_JOB, "reason": "handler_raised"},),
        ),
        Case("none new", "25m", {f'aworker_dead_letters_total{{{A},reason="handler_raised"}}': "9x100"}),
        Case("half an hour ago", "45m", {f'aworker_dead_letters_total{{{A},reason="handler_raised"}}': "0x20 1x160"}),
    ),
    "AworkerDeadLettersDropped": (
        Case("some", "20m", {f"aworker_dead_letters_dropped_total{{{A}}}": "0x20 30x60"}, (OF_JOB,)),
        Case("none", "20m", {f"aworker_dead_letters_dropped_total{{{A}}}": "0x80"}),
    ),
    "AworkerWorkerDied": (
        Case("its tasks are put back", "10m", {f"aworker_leases_reclaimed_total{{{A}}}": "0x20 3x60"}, (OF_JOB,)),
        Case("none died", "10m", {f"aworker_leases_reclaimed_total{{{A}}}": "3x80"}),
    ),
    "AworkerLeasesLost": (
        Case("lost", "10m", {f"aworker_leases_lost_total{{{A}}}": "0x20 1x60"}, (OF_A,)),
        Case("none", "10m", {f"aworker_leases_lost_total{{{A}}}": "0x80"}),
    ),
    "AworkerRedisErrors": (
        Case(
            "many",
            "10m",
            {f'aworker_redis_errors_total{{{A},connection="lane",error="read_only"}}': "0x20 0+1x60"},
            (OF_A,),
        ),
        Case(
            "a reconnect",
            "10m",
            {
                f'aworker_redis_errors_total{{{A},connection="lane",error="connection"}}': "0x20 1x60",
                f'aworker_redis_errors_total{{{A},connection="bell",error="connection"}}': "0x20 2x60",
            },
        ),
    ),
}
