"""The order of claims against a plain-Python scheduler that defines the policy, on a real server.

Tasks arrive, workers claim and finish, clocks move, levels and types are paused. At every claim the script (asked with
the room and the limits that `Admission` computes) takes exactly what the scheduler says, in its order. The lists stay
short enough that one ask looks at all of them: the walk over long lists has its own tests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aworker.config import Config, LiveConfig, QueueConfig, WorkerConfig
from aworker.lease import Lease
from aworker.queues.lane.admission import Admission
from aworker.queues.pauses import Pauses
from aworker.task import Task, decode_task
from tests.kit.queue_scripts import NOW_MS, Item, QueueScripts, task
from tests.kit.queue_scripts import Level as AskedLevel

LISTS = ("high", "middle", "low")
TYPES = ("create", "backtest", "alert")
USERS = ("1", "2", "3", None)
MOST_WAITING = 18
"""In one list; the claim script looks at 20 next to the taking end in every ask."""


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueScripts]:
    with QueueScripts(redis_url) as scripts:
        yield scripts


class Arrived(NamedTuple):
    """A task that waits."""

    payload: bytes
    task: Task
    arrived_ms: int


class Policy(NamedTuple):
    """What the configuration says about order."""

    slots: int
    reserved: tuple[int, ...]
    promote_ms: tuple[int, ...]
    type_limits: dict[str, int]
    max_per_user: int


class Worker:
    """One worker's running tasks, as the scheduler counts them."""

    def __init__(self) -> None:
        self.running: list[tuple[int, Arrived]] = []

    @property
    def types(self) -> Counter[str]:
        return Counter(arrived.task.task_type for _, arrived in self.running)

    @property
    def users(self) -> Counter[str | None]:
        return Counter(arrived.task.user_id for _, arrived in self.running)


class Scheduler:
    """The policy, in as many words as it takes.

    The level whose oldest task has the lowest rank goes first: its position, less one for each whole promote_after that
    this task has waited; ties go to the older one, then to the higher level. In a level the oldest task goes first that
    no pause and no limit of its type or user holds back; a level where all are held back is left out. Levels below one
    with reserved slots together run at most slots - reserved.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.levels: list[list[Arrived]] = [[] for _ in policy.reserved]
        self.paused_levels: set[int] = set()
        self.paused_types: set[str] = set()

    def claim(self, worker: Worker, want: int, now_ms: int) -> list[tuple[int, Arrived]]:
        taken: list[tuple[int, Arrived]] = []
        while len(taken) < want:
            choices = []
            for position, waiting in enumerate(self.levels):
                first = next((one for one in waiting if not self._is_held_back(one, worker)), None)
                if first is not None and self._has_room(position, worker):
                    choices.append((*self._rank(position, waiting[0], now_ms), first))
            if not choices:
                break
            _, _, position, chosen = min(choices, key=lambda choice: choice[:3])
            self.levels[position].remove(chosen)
            worker.running.append((position, chosen))
            taken.append((position, chosen))
        return taken

    def _rank(self, position: int, oldest: Arrived, now_ms: int) -> tuple[int, int, int]:
        promote_ms = self.policy.promote_ms[position]
        if not any(self.policy.promote_ms):
            return position, 0, position
        promoted = (now_ms - oldest.arrived_ms) // promote_ms if promote_ms else 0
        return position - promoted, oldest.arrived_ms, position

    def _has_room(self, position: int, worker: Worker) -> bool:
        if position in self.paused_levels:
            return False
        for above in range(position):
            below = sum(level > above for level, _ in worker.running)
            reserved = self.policy.reserved[above]
            if reserved and below >= self.policy.slots - reserved:
                return False
        return True

    def _is_held_back(self, one: Arrived, worker: Worker) -> bool:
        task_type, user = one.task.task_type, one.task.user_id
        limit = self.policy.type_limits.get(task_type)
        most = self.policy.max_per_user
        return (
            task_type in self.paused_types
            or (limit is not None and worker.types[task_type] >= limit)
            or (most > 0 and user is not None and worker.users[user] >= most)
        )


class Claimer:
    """A worker's side of the real claim: room and limits by `Admission`, the rest by the script."""

    def __init__(self, policy: Policy, sides: tuple[str, ...], worker_id: str, queue: QueueScripts) -> None:
        self.worker_id = worker_id
        self._queue = queue
        self._live = LiveConfig(
            Config(
                worker=WorkerConfig(
                    slots=policy.slots,
                    reserved=dict(zip(LISTS, policy.reserved, strict=False)),
                    max_per_user=policy.max_per_user,
                ),
                queues=tuple(
                    QueueConfig(name=name, label=name, promote_after_s=promote_ms / 1000)
                    for name, promote_ms in zip(LISTS, policy.promote_ms, strict=False)
                ),
            )
        )
        assert self._live.value.reserved_slots == policy.reserved
        self.admission = Admission(self._live, lambda: policy.type_limits)
        self._leases: dict[bytes, Lease] = {}

    def claim(self, want: int, now_ms: int) -> list[tuple[int, bytes]]:
        config, admission = self._live.value, self.admission
        below = admission.below(config)
        limits = admission.limits(want)
        levels = [
            AskedLevel(
                level.name,
                promote_ms=int(queue.promote_after_s * 1000),
                below=room,
                asked=not admission.is_paused(level),
                cursor=level.cursor,
            )
            for level, queue, room in zip(admission.levels, config.queues, below, strict=True)
        ]
        asked: dict[str, Any] | None = json.loads(limits) if limits else None
        reply = self._queue.claim(self.worker_id, want, levels, limits=asked, now_ms=now_ms)
        for level, cursor in zip(admission.levels, reply.cursors, strict=True):
            level.cursor = cursor
        for claim in reply.claims:
            lease = Lease(claim.lease_id, claim.payload, queue="", label="", level=claim.level)
            lease.task = decode_task(claim.payload, 10_000)
            admission.started(lease)
            self._leases[claim.payload] = lease
        return [(claim.level, claim.payload) for claim in reply.claims]

    def finish(self, payload: bytes) -> None:
        lease = self._leases.pop(payload)
        self._queue.settle(Item("end", lease.lease_id, extras=("",)), worker=self.worker_id)
        self.admission.ended(lease)


class Trace:
    """The scheduler and the script, driven alike."""

    def __init__(self, policy: Policy, sides: tuple[str, ...], queue: QueueScripts, workers: int) -> None:
        queue.client.flushall()
        self.queue = queue
        self.sides = sides
        self.policy = policy
        self.now_ms = NOW_MS
        self.arrivals = 0
        self.scheduler = Scheduler(policy)
        self.workers = [Worker() for _ in range(workers)]
        self.claimers = [Claimer(policy, sides, f"w{number}", queue) for number in range(workers)]

    def arrive(self, position: int, task_type: str, user: str | None) -> None:
        self.now_ms += 1
        self.arrivals += 1
        args = {} if user is None else {"user_id": int(user) if self.arrivals % 2 else user}
        created_at = datetime.fromtimestamp(self.now_ms / 1000, UTC).isoformat(timespec="milliseconds")
        payload = task(f"t{self.arrivals}", created_at, task_type=task_type, args=args)
        (self.queue.client.rpush if self.sides[position] == "right" else self.queue.client.lpush)(
            LISTS[position], payload
        )
        self.scheduler.levels[position].append(Arrived(payload, decode_task(payload, 10_000), self.now_ms))

    def claim(self, number: int, want: int) -> list[tuple[int, Arrived]]:
        worker = self.workers[number]
        want = min(want, self.policy.slots - len(worker.running))
        if want == 0:
            return []
        before = [list(level) for level in self.scheduler.levels]
        expected = self.scheduler.claim(worker, want, self.now_ms)

        taken = self.claimers[number].claim(want, self.now_ms)

        assert taken == [(position, arrived.payload) for position, arrived in expected], before
        self._keeps_its_limits(worker)
        return expected

    def finish(self, number: int, which: int) -> None:
        running = self.workers[number].running
        if running:
            _, arrived = running.pop(which % len(running))
            self.claimers[number].finish(arrived.payload)

    def pause(self, levels: set[int], types: set[str]) -> None:
        self.scheduler.paused_levels, self.scheduler.paused_types = levels, types
        pauses = Pauses({LISTS[position]: 1.0 for position in levels}, dict.fromkeys(types, 1.0))
        for claimer in self.claimers:
            claimer.admission.pauses = pauses

    def _keeps_its_limits(self, worker: Worker) -> None:
        policy = self.policy
        assert len(worker.running) <= policy.slots
        assert all(worker.types[task_type] <= limit for task_type, limit in policy.type_limits.items())
        if policy.max_per_user:
            assert all(count <= policy.max_per_user for user, count in worker.users.items() if user is not None)
        for position, reserved in enumerate(policy.reserved):
            assert sum(level > position for level, _ in worker.running) <= policy.slots - reserved


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    levels = draw(st.integers(1, 3))
    slots = draw(st.integers(1, 12))
    return Policy(
        slots,
        tuple(draw(st.lists(st.integers(0, slots // 4), min_size=levels, max_size=levels))),
        tuple(draw(st.lists(st.sampled_from([0, 50, 1_000, 2_000]), min_size=levels, max_size=levels))),
        draw(st.dictionaries(st.sampled_from(TYPES), st.integers(1, 3), max_size=2)),
        draw(st.sampled_from([0, 0, 1, 2])),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=policies(),
    sides=st.tuples(*[st.sampled_from(["left", "right"])] * 3),
    workers=st.integers(1, 2),
    steps=st.integers(20, 150),
    chance=st.randoms(use_true_random=False),
)
def test_every_claim_takes_what_the_policy_says(
    queue: QueueScripts, policy: Policy, sides: tuple[str, ...], workers: int, steps: int, chance: Random
) -> None:
    trace = Trace(policy, sides, queue, workers)
    levels = range(len(policy.reserved))

    for _ in range(steps):
        kind = chance.choice(["arrive", "claim", "claim", "claim", "finish", "finish", "wait", "wait", "pause"])
        if kind == "arrive":
            position = chance.choice(levels)
            room = MOST_WAITING - len(trace.scheduler.levels[position])
            for _ in range(min(room, chance.randint(1, 8))):
                trace.arrive(position, chance.choice(TYPES), chance.choice(USERS))
                trace.now_ms += chance.choice([0, 0, 700])
        elif kind == "claim":
            trace.claim(chance.randrange(workers), chance.choice([1, 1, 2, policy.slots]))
        elif kind == "finish":
            trace.finish(chance.randrange(workers), chance.randrange(100))
        elif kind == "wait":
            trace.now_ms += chance.choice([1, 49, 50, 999, 2_000, 30_000])
        else:
            trace.pause(
                {position for position in levels if chance.random() < 0.2},
                {task_type for task_type in TYPES if chance.random() < 0.2},
            )


@pytest.mark.parametrize("levels", [2, 3])
def test_with_aging_no_task_waits_beyond_the_bound_however_full_the_levels_above_are(
    queue: QueueScripts, levels: int
) -> None:
    # Every level above is fed faster than all slots can serve, for 40 promote_afters.
    promote_ms, interval_ms = 5_000, 100
    promote = (0,) * (levels - 1) + (promote_ms,)
    trace = Trace(Policy(1, (0,) * levels, promote, {}, 0), ("right",) * levels, queue, workers=1)
    lowest = levels - 1
    waits: list[tuple[int, int]] = []
    ahead: dict[bytes, int] = {}

    for step in range(40 * promote_ms // interval_ms):
        for position in range(lowest):
            if len(trace.scheduler.levels[position]) < MOST_WAITING:
                trace.arrive(position, "create", None)
        if step % 30 == 0:
            trace.arrive(lowest, "backtest", None)
        trace.now_ms = NOW_MS + (step + 1) * interval_ms
        for before, arrived in enumerate(trace.scheduler.levels[lowest]):
            if trace.now_ms - arrived.arrived_ms >= levels * promote_ms:
                ahead.setdefault(arrived.payload, before)
        for position, arrived in trace.claim(0, 1):
            if position == lowest:
                waits.append((trace.now_ms - arrived.arrived_ms, ahead.get(arrived.payload, 0)))
        trace.finish(0, 0)

    assert len(waits) > 50
    for waited_ms, before in waits:
        assert waited_ms <= levels * promote_ms + (before + 1) * interval_ms
    longest = max(arrived.arrived_ms for arrived in trace.scheduler.levels[lowest][:1])
    assert trace.now_ms - longest <= levels * promote_ms + interval_ms


def test_without_aging_the_order_is_strict(queue: QueueScripts) -> None:
    trace = Trace(Policy(1, (0, 0), (0, 0), {}, 0), ("right", "right"), queue, workers=1)
    trace.arrive(1, "backtest", None)

    taken = []
    for _ in range(200):
        if len(trace.scheduler.levels[0]) < 2:
            trace.arrive(0, "create", None)
        trace.now_ms += 3_600_000
        taken += [position for position, _ in trace.claim(0, 1)]
        trace.finish(0, 0)

    assert taken == [0] * 200
    assert len(trace.scheduler.levels[1]) == 1
