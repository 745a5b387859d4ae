import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aworker.config import Config, LiveConfig, QueueConfig, WorkerConfig
from aworker.lease import Lease
from aworker.queues.lane.admission import Admission
from aworker.task import Task


def live(slots: int = 16, *, max_per_user: int = 0, reserved: dict[str, int] | None = None) -> LiveConfig:
    worker = WorkerConfig(
        slots=slots, max_per_user=max_per_user, reserved={"priority": 2} if reserved is None else reserved
    )
    return LiveConfig(Config(worker=worker))


def lease_of(level: int, task_type: str = "backtest", user_id: object = 1) -> Lease:
    lease = Lease(level + 1, b"", queue="q", label="l", level=level)
    lease.task = Task("id", task_type, {"user_id": user_id})
    return lease


def test_reserved_slots_bound_what_runs_below_by_count() -> None:
    config = live(16)
    admission = Admission(config, dict)
    leases = [lease_of(1) for _ in range(14)]
    for lease in leases:
        admission.started(lease)

    assert admission.below(config.value) == [0, -1]
    assert admission.open_levels([0, -1]) == [True, False]

    admission.ended(leases[0])

    assert admission.below(config.value) == [1, -1]
    assert admission.open_levels([1, -1]) == [True, True]


def test_tasks_of_the_upper_level_take_nothing_from_the_room_below_it() -> None:
    config = live(16)
    admission = Admission(config, dict)
    for _ in range(16):
        admission.started(lease_of(0))

    assert admission.below(config.value) == [14, -1]


def test_limits_are_sent_only_when_a_claim_could_reach_one() -> None:
    admission = Admission(live(16), lambda: {"backtest": 4})

    assert admission.limits(4) == b""
    assert msgspec.json.decode(admission.limits(5)) == {"types": {"backtest": 4}, "users": {}}

    admission.started(lease_of(1))

    assert msgspec.json.decode(admission.limits(4)) == {"types": {"backtest": 3}, "users": {}}


def test_a_user_at_the_limit_has_no_room() -> None:
    admission = Admission(live(16, max_per_user=2), dict)
    first, second = lease_of(1, user_id=7), lease_of(1, user_id="7")
    admission.started(first)
    admission.started(second)

    assert msgspec.json.decode(admission.limits(1)) == {"types": {}, "users": {"7": 0}, "user_room": 2}

    admission.ended(first)
    admission.ended(second)

    assert admission.limits(2) == b""


def test_the_end_of_a_limited_task_opens_passed_levels_again() -> None:
    admission = Admission(live(16), lambda: {"backtest": 1})
    limited, free = lease_of(1), lease_of(1, task_type="alert")
    admission.started(limited)
    admission.started(free)
    admission.levels[1].known = "passed"

    known = []
    for lease in (free, limited):
        admission.ended(lease)
        known.append(admission.levels[1].known)

    assert known == ["passed", "more"]


@given(st.integers(1, 40), st.lists(st.integers(0, 12), min_size=3, max_size=3), st.lists(st.integers(0, 2)))
def test_filling_what_is_open_never_exceeds_a_reservation(slots: int, reserved: list[int], wanted: list[int]) -> None:
    labels = ["a", "b", "c"]
    config = LiveConfig(
        Config(
            worker=WorkerConfig(slots=slots, reserved=dict(zip(labels, reserved, strict=True))),
            queues=tuple(QueueConfig(name=label, label=label) for label in labels),
        )
    )
    admission = Admission(config, dict)
    running = [0, 0, 0]
    for level in wanted:
        if sum(running) < slots and admission.open_levels(admission.below(config.value))[level]:
            admission.started(lease_of(level))
            running[level] += 1

    for level in range(3):
        kept = config.value.reserved_slots[level]
        assert sum(running[level + 1 :]) <= slots - kept
