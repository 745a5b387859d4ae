"""Leased delivery: a task leaves Redis only when its outcome is stored.

`LeasedQueue` is what a worker knows of Redis: claim, started, progress, settle, and the side loops' questions.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from loguru import logger
from redis.exceptions import ResponseError

from aworker.clock import parse_rfc3339, rfc3339
from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable, TaskInvalid
from aworker.keys import HEARTBEAT_PREFIX, RESULT_PREFIX, Keys
from aworker.lease import Lease
from aworker.metrics import totals
from aworker.outcome import Outcome, Rejected, Returned
from aworker.queues import records, scripts
from aworker.queues.connection import Health, SideLink, address_of
from aworker.queues.lane.admission import Admission
from aworker.queues.lane.lane import Lane, Write
from aworker.queues.lane.settlement import Settlement, exhausted, settlement
from aworker.queues.pauses import Pauses
from aworker.queues.queue import RUNS_NOW, Leases, Settled
from aworker.task import Task, decode_task

RECLAIM_BATCH = 100
DUE_BATCH = 500
FAST_S = 1.0
FLUSH_TIMEOUT_S = 5.0
LEAVE_TIMEOUT_S = 2.0


class LeasedQueue:
    """The queues as one worker sees them, every write fenced by its lease."""

    def __init__(self, live: LiveConfig, worker_id: str, type_limits: Callable[[], Mapping[str, int]]) -> None:
        config = live.value
        self._live = live
        self.worker_id = worker_id
        self.keys = Keys(config.redis.key_prefix)
        self.health = Health(address_of(config.redis.url))
        self.lane = Lane(live, worker_id, Admission(live, type_limits), self.health)
        self._side = SideLink(config.redis.url, f"aworker-side-{worker_id}", self.health)
        self._repeats: deque[tuple[float, tuple[bytes, ...]]] = deque()
        self._repeats_wake = asyncio.Event()
        self._repeats_gone = asyncio.Event()
        self._repeats_gone.set()
        self.on_delayed: Callable[[float], None] = lambda delay_s: None
        """Told when a task of this worker was delayed, so that it is looked for in time."""

    # For slots.

    async def claim(self) -> Lease | None:
        """Wait for the oldest task of the highest level; None when the drain has begun."""
        return await self.lane.claim()

    async def duplicate_reason(self, lease: Lease, task: Task) -> str | None:
        """Say why a task is a duplicate: its task_id is leased now, or has completed since it was made."""
        suspicion = lease.duplicate_of
        if lease.registered != task.task_id.encode() and suspicion not in ("lease", "unread"):
            suspicion = "unread"
        if not suspicion or suspicion == "reclaimed":
            return None
        if suspicion == "lease" and await self._is_leased(lease, task.task_id):
            return RUNS_NOW
        if suspicion == "unread" and any(
            other is not lease and isinstance(other.task, Task) and other.task.task_id == task.task_id
            for other in self.lane.active.values()
        ):
            return RUNS_NOW
        created_at_s = task.created_at_s
        if created_at_s is None:
            return None
        # Anything may stand under that name: what is no record of ours says nothing, and must not stop a worker.
        try:
            (stored,) = await self.ask([("GET", RESULT_PREFIX + task.task_id)])
            record = None if stored is None else records.decode_stored(stored)
        except (ResponseError, ValueError, RecursionError):
            return None
        if record is None:
            return None
        stored_at_s = parse_rfc3339(record.updated_at)
        if record.status == "completed" and stored_at_s is not None and stored_at_s > created_at_s:
            return f"it completed at {record.updated_at}"
        return None

    async def tries(self, lease: Lease) -> list[bytes]:
        """Return what earlier tries of a task ended with, the oldest first, each one line of JSON."""
        field = f"!{hashlib.sha1(lease.payload, usedforsecurity=False).hexdigest()}"
        (kept,) = await self.ask([("HGET", self.keys.deliveries, field)])
        return [] if kept is None else kept.split(b"\n")

    async def holds(self, lease: Lease) -> bool:
        """Say whether a lease still stands: one that was claimed so long ago that it may be another worker's by now."""
        if lease.age_s < self._live.value.worker.lease_ttl_s / 2:
            return True
        (stands,) = await self.ask([("HEXISTS", self.keys.leases(self.worker_id), lease.lease_id)])
        return bool(stands)

    def started(self, lease: Lease, task: Task) -> None:
        """Write that a handler starts: record, message and assignment."""
        started_at = rfc3339()
        change = records.running(self.worker_id, task, lease, started_at)

        def complete(write: Write) -> None:
            write.record = change.record
            write.extras = (records.assignment(self.worker_id, task, started_at),)

        write = Write(
            "running",
            lease,
            task_id=task.task_id,
            messages=change.messages if self._live.value.results.publish else (),
            complete=complete,
        )
        lease.running_write = write
        self.lane.write(write)

    def progress(self, lease: Lease, task: Task, stage: str, message: str, data: Any, fraction: float | None) -> None:
        """Publish progress; raises TypeError or ValueError for data that is no JSON."""
        if self._live.value.results.publish:
            text = records.progress(task.task_id, stage, message, data, fraction)
            self.lane.write(Write("message", lease, messages=(text,)))

    def settle(self, lease: Lease, outcome: Outcome, execution_time_s: float, then: Settled | None = None) -> None:
        """Write an outcome down with the next commit; ``then`` hears whether the lease still stood."""
        plan = settlement(self._live.value, self.worker_id, lease, outcome, execution_time_s)
        self.lane.write(self._write(lease, plan, then))

    @property
    def active(self) -> dict[int, Lease]:
        """Leases of this worker, by id."""
        return self.lane.active

    @property
    def leases(self) -> Leases:
        """What there is to do for leases: this object does it."""
        return self

    async def is_idle(self) -> bool:
        """Say whether every list was found empty and nothing runs."""
        return self.lane.is_idle

    @property
    def round_trips(self) -> int:
        """Commits answered so far."""
        return self.lane.round_trips

    @property
    def held_back(self) -> dict[str, int]:
        """By label, the tasks that the last look at a level passed over because of a limit."""
        return {level.label: level.held_back for level in self.lane.admission.levels}

    @property
    def claim_age_s(self) -> float:
        """Seconds since a claim was last answered."""
        return time.monotonic() - self.lane.claim_answered_at

    def prove_claims(self, heard_at: float) -> None:
        """Claim nothing, if nothing else was claimed: the answer says that this worker could."""
        self.lane.prove()

    def audit(self) -> None:
        """Compare this worker's leases in Redis with what it runs."""
        self.lane.audit()

    def resize(self, surplus: int) -> None:
        """Look again: slots or limits have changed; ``surplus`` of the slots that wait get None."""
        self.lane.resize(surplus)

    async def hold_back(self, pauses: Pauses) -> None:
        """Claim nothing of what is paused."""
        self.lane.hold_back(pauses)

    # For the side loops.

    async def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run plain commands on the side connection until they are answered.

        Raises ResponseError for an error reply that waiting does not mend.
        """
        return await self._side.ask(commands)

    async def ask_for_advice(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run plain commands that work does not need; one that is refused has its error for a reply."""
        return await self._side.ask_for_advice(commands)

    async def reclaim(self) -> int:
        """Put back the tasks of one worker whose lease deadline has passed; how many there were.

        Raises QueueUnavailable.
        """
        config = self._live.value
        command = scripts.RECLAIM.command(
            [
                self.keys.workers,
                self.keys.leases(self.worker_id),
                self.keys.deliveries,
                self.keys.lease_id,
                self.keys.claimed,
            ],
            [
                self.worker_id,
                int(config.worker.lease_ttl_s * 1000),
                "",
                RECLAIM_BATCH,
                self.keys.leases(""),
                self.keys.commits(""),
            ],
        )
        reply = await self._transition(command)
        dead_worker = reply[0].decode()
        if not dead_worker:
            return 0
        leases = [self._reclaimed(*reply[at : at + 5]) for at in range(1, len(reply), 5)]
        totals.reclaimed += len(leases)
        logger.warning(f"Worker {dead_worker} is gone: {len(leases)} of its tasks are reclaimed")
        # The youngest first: each goes onto the taking end, so the oldest is taken first again.
        for lease in reversed(leases):
            reason = f"its worker {dead_worker} died"
            if lease.delivery >= config.worker.max_deliveries:
                self.settle(lease, exhausted(lease, reason), 0.0)
            else:
                plan = settlement(config, self.worker_id, lease, Returned(reason, counted=True), 0.0)
                plan.counted = False  # the script has counted it
                self.lane.write(self._write(lease, plan, None))
        return len(leases) or 1

    async def put_back_due(self) -> tuple[int, float | None]:
        """Put a batch of delayed tasks whose time has come onto their lists.

        Returns how many, and in how many seconds the next one is due, None = there is none. Raises QueueUnavailable.
        """
        keys, levels = self.keys, self._live.value.queues
        fixed = [word for level in levels if level.take_from != "auto" for word in (level.name, level.take_from)]
        command = scripts.DUE.command(
            [keys.delayed, keys.ends, keys.dead, keys.dead_bytes], ["", DUE_BATCH, levels[-1].name, *fixed]
        )
        moved, next_ms = await self._transition(command)
        return int(moved), int(next_ms) / 1000 if int(next_ms) >= 0 else None

    async def lengths(self) -> dict[str, int]:
        """Return each level's length by label, and ``leased``, ``delayed`` and ``dead``."""
        levels = self._live.value.queues
        lengths = await self._side.lengths([queue.name for queue in levels])
        others = await self.ask(
            [
                ("HLEN", self.keys.leases(self.worker_id)),
                ("ZCARD", self.keys.delayed),
                ("XLEN", self.keys.dead),
            ]
        )
        names = [*(queue.label for queue in levels), "leased", "delayed", "dead"]
        return dict(zip(names, [*lengths, *others], strict=True))

    async def drain(self) -> None:
        """Claim nothing more."""
        self.lane.drain()

    async def drop_connections(self) -> None:
        """Cut every connection: no renewal went through for too long."""
        self._side.link.drop()
        await self.lane.drop()

    async def leave(self) -> None:
        """Write what is left to write, and take this worker's own keys away; bounded in time."""
        with anyio.move_on_after(FLUSH_TIMEOUT_S) as scope:
            await self.lane.flushed()
        if scope.cancelled_caught:
            logger.warning("Redis did not take the last outcomes in time; their tasks will be reclaimed")
        await _leave(self)

    def give_back_command(self, leases: list[Lease]) -> tuple[Any, ...]:
        """Return the command that puts tasks back uncounted, for a process whose loop cannot do it any more."""
        config = self._live.value
        outcome = Returned("released: its worker ends", counted=False)
        plans = [(lease, settlement(config, self.worker_id, lease, outcome, 0.0)) for lease in leases]
        return self.lane.last_command([self._write(lease, plan, None) for lease, plan in plans])

    # Within.

    async def _transition(self, command: tuple[Any, ...]) -> Any:
        try:
            async with self._side.lock:
                (reply,) = await scripts.run_scripts(self._side.link, [command])
        except ResponseError as error:
            raise QueueUnavailable(f"it refuses a script: {error}") from None
        return reply

    def _write(self, lease: Lease, plan: Settlement, then: Settled | None) -> Write:
        extras: tuple[Any, ...]
        if plan.kind == "dead":
            extras = plan.dead_fields
        elif plan.kind == "delay":
            extras = (plan.delay_ms, plan.tried)
        elif plan.kind == "back":
            extras = ("1" if plan.counted else "", self._live.value.queues[lease.level].take_from, plan.tried)
        else:
            extras = ("1" if lease.delivery > 1 else "",)

        def written(done: bool) -> None:
            if done:
                self._after(lease, plan)
            if then is not None:
                then(done, plan.outcome)

        return Write(
            plan.kind,
            lease,
            task_id=plan.task_id,
            record=plan.record,
            messages=plan.messages,
            extras=extras,
            then=written,
            also=self._also(lease, plan) if plan.enqueued or plan.group else (),
        )

    def _also(self, lease: Lease, plan: Settlement) -> tuple[Any, ...]:
        config, keys = self._live.value, self.keys
        change = records.replaced(config.queues[-1].label, also_failed=config.results.publish_failed)
        messages = change.messages if config.results.publish else ()
        extras = (
            keys.lease_id,
            keys.cancelled,
            keys.control,
            keys.unique(""),
            keys.groups,
            change.record,
            *messages,
            *[b""] * (2 - len(messages)),
            *(plan.group or ("", "", "")),
            *(value for one in plan.enqueued for value in one.arguments()),
        )
        task_id = lease.task.task_id if isinstance(lease.task, Task) else ""
        return ("also", 0, task_id, b"", b"", 0, len(extras), *extras)

    def _after(self, lease: Lease, plan: Settlement) -> None:
        if plan.kind == "dead":
            totals.dead_letter(plan.reason)
        wait_s = self._live.value.results.repeat_fast_after_s
        if plan.is_final and plan.messages and wait_s and lease.age_s < FAST_S:
            self._repeats.append((asyncio.get_running_loop().time() + wait_s, plan.messages))
            self._repeats_gone.clear()
            self._repeats_wake.set()
        if plan.kind == "delay":
            self.on_delayed(plan.delay_ms / 1000)

    async def _repeat(self) -> None:
        # A producer subscribes after it has pushed: the end of a fast task is said a second time.
        loop = asyncio.get_running_loop()
        while True:
            await self._repeats_wake.wait()
            self._repeats_wake.clear()
            while self._repeats:
                await anyio.sleep(max(0.0, self._repeats[0][0] - loop.time()))
                while self._repeats and self._repeats[0][0] <= loop.time():
                    _, messages = self._repeats.popleft()
                    self.lane.write(Write("publish", None, messages=messages))
            self._repeats_gone.set()

    def _reclaimed(self, lease_id: bytes, delivery: bytes, queue: bytes, registered: bytes, payload: bytes) -> Lease:
        levels = self.lane.admission.by_name
        name = queue.decode()
        level = levels.get(name) or self.lane.admission.levels[-1]
        lease = Lease(
            int(lease_id),
            payload,
            queue=name,
            label=level.label,
            level=level.index,
            delivery=int(delivery),
            registered=registered,
            duplicate_of="reclaimed",
        )
        try:
            lease.task = decode_task(payload, self._live.value.worker.max_payload_bytes)
        except TaskInvalid as error:
            lease.task = error
        self.lane.hold(lease)
        return lease

    async def _is_leased(self, lease: Lease, task_id: str) -> bool:
        (holder,) = await self.ask([("HGET", self.keys.claimed, task_id)])
        if holder is None or int(holder) == lease.lease_id:
            return False
        (workers,) = await self.ask([("ZRANGE", self.keys.workers, 0, -1)])
        if not workers:
            return False
        found = await self.ask([("HEXISTS", self.keys.leases(worker.decode()), holder) for worker in workers])
        return any(found)


def rejection(error: TaskInvalid) -> Rejected:
    """Return the outcome of a payload that cannot become a running task."""
    return Rejected(str(error), type(error).__name__)


@asynccontextmanager
async def open_leased_queue(
    live: LiveConfig, worker_id: str, type_limits: Callable[[], Mapping[str, int]]
) -> AsyncIterator[LeasedQueue]:
    """Run the lane while the block runs; what was written in it is flushed before the connections close."""
    queue = LeasedQueue(live, worker_id, type_limits)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(queue.lane.run, group)
            group.start_soon(queue._repeat)
            try:
                yield queue
                with anyio.move_on_after(live.value.results.repeat_fast_after_s + 1):
                    await queue._repeats_gone.wait()
                await queue.leave()
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await queue.lane.close()
            await queue._side.link.close()


async def _leave(queue: LeasedQueue) -> None:
    keys, worker_id = queue.keys, queue.worker_id
    with anyio.move_on_after(LEAVE_TIMEOUT_S) as scope:
        (leases,) = await queue.ask([("HLEN", keys.leases(worker_id))])
        commands: list[tuple[Any, ...]] = [("DEL", HEARTBEAT_PREFIX + worker_id, keys.presence(worker_id))]
        if leases == 0:
            commands += [("ZREM", keys.workers, worker_id), ("DEL", keys.commits(worker_id))]
        await queue.ask(commands)
        await queue.ask_for_advice([("ZREM", keys.beats, worker_id)])
    if scope.cancelled_caught:
        logger.warning("Redis was not told that this worker leaves: its heartbeat key will expire")
