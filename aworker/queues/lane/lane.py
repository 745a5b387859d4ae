"""Group commit: slots that want a task or have something to write at the same moment share one round trip.

One commit is in flight at a time. Each carries a number; sent again after a cut, it is answered with the first reply
instead of acting twice, so a lost reply costs a round trip and never a task. Alone, a claim or a write waits
for nothing.

A list found empty gets a bell: ``BLMOVE list list RIGHT RIGHT`` wakes the lane on a push and moves the element onto its
own place, so cutting it loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from anyio.abc import TaskGroup
from loguru import logger
from redis.exceptions import ResponseError

from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable, TaskInvalid
from aworker.keys import ASSIGNMENT_PREFIX, ASSIGNMENT_TTL_S, CHANNEL, RESULT_PREFIX, Keys
from aworker.lease import Lease
from aworker.metrics import totals
from aworker.queues import scripts
from aworker.queues.connection import Backoff, Health, Link
from aworker.queues.lane.admission import PASSED_FIRST_S, PASSED_LONGEST_S, Admission, Level
from aworker.queues.pauses import Pauses
from aworker.task import decode_task

COMMIT_CLAIMS = 256
TURN_CLAIMS = 16
"""From so many slots on, half of them work while the server serves the other half."""
COMMIT_WRITES = 512
WATCH_S = 0.002
"""How often the length of a list is looked at in which every task is held back by a limit."""
COMMIT_BYTES = 8_388_608
RATE_AFTER_S = 0.001


class Write:
    """One item of a settle: what to do to a lease's task if the lease still stands."""

    __slots__ = ("also", "complete", "extras", "kind", "lease", "messages", "record", "task_id", "then")

    def __init__(
        self,
        kind: str,
        lease: Lease | None,
        *,
        task_id: str = "",
        record: bytes = b"",
        messages: Sequence[bytes] = (),
        extras: Sequence[Any] = (),
        then: Callable[[bool], None] | None = None,
        complete: Callable[[Write], None] | None = None,
        also: tuple[Any, ...] = (),
    ) -> None:
        self.kind = kind
        self.lease = lease
        self.task_id = task_id
        self.record = record
        self.messages = messages
        self.extras = extras
        self.then = then
        """Called with whether it was written down."""
        self.complete = complete
        """Called before it is sent: makes what would be in vain if an end took its place."""
        self.also = also
        """What goes with it in the same step, as the script reads it."""

    @property
    def is_final(self) -> bool:
        """Whether the lease is gone afterwards."""
        return self.kind in ("end", "dead", "back", "delay")

    @property
    def size_bytes(self) -> int:
        """About how much it sends."""
        return len(self.record) + sum(map(len, self.messages))

    def arguments(self) -> tuple[Any, ...]:
        """Return it as the settle script reads it."""
        lease = self.lease
        return (
            self.kind,
            lease.lease_id if lease else 0,
            self.task_id,
            lease.registered if lease else b"",
            self.record,
            len(self.messages),
            *self.messages,
            len(self.extras),
            *self.extras,
            *self.also,
        )


class Lane:
    """The one way of claims and writes of this worker."""

    def __init__(self, live: LiveConfig, worker_id: str, admission: Admission, health: Health) -> None:
        config = live.value
        self._live = live
        self._worker_id = worker_id
        self.admission = admission
        self._health = health
        self._keys = Keys(config.redis.key_prefix)
        self._link = Link(config.redis.url, f"aworker-lane-{worker_id}", "lane")
        keys, leases, commits = self._keys, self._keys.leases(worker_id), self._keys.commits(worker_id)
        self._settle_keys = [
            leases,
            keys.deliveries,
            keys.claimed,
            keys.ends,
            commits,
            keys.dead,
            keys.dead_bytes,
            keys.delayed,
        ]
        self._claim_keys = [
            keys.workers,
            leases,
            keys.deliveries,
            keys.lease_id,
            keys.ends,
            commits,
            keys.claimed,
            *(level.name for level in admission.levels),
        ]
        self._bells = [_Bell(self, level, config.redis.url, worker_id) for level in admission.levels]
        self._waiting: deque[asyncio.Future[Lease | None]] = deque()
        self._writes: deque[Write] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._number = 0
        self._audit = False
        self._proves = False
        self._seen_connects = 0
        self._draining = False
        self.active: dict[int, Lease] = {}
        """Leases of this worker, by id: claimed and not yet settled."""
        self.claim_answered_at = float("-inf")
        """When a claim was last answered, on this host's monotonic clock."""
        self.claims = 0
        self.round_trips = 0

    # What slots call.

    async def claim(self) -> Lease | None:
        """Wait for a task; None when the drain has begun."""
        if self._draining:
            return None
        future: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and (lease := future.result()) is not None:
                self.write(Write("back", lease, extras=("", self._side(lease))))
            raise

    def write(self, write: Write) -> None:
        """Put something to write into the next commit; writes about one task keep their order."""
        if write.is_final and write.lease is not None:
            self.admission.ended(write.lease)
            running: Write | None = write.lease.running_write
            if running is not None:
                # Not sent yet: of it only the message would ever be seen, so the end says it.
                write.messages = (*running.messages, *write.messages)
                running.kind = ""
                if write.kind == "end" and write.lease.delivery == 1:
                    write.extras = (*write.extras, "1")
                write.lease.running_write = None
        self._writes.append(write)
        self._idle.clear()
        self._wake.set()

    # What the worker's side loops call.

    def hold(self, lease: Lease) -> None:
        """Count a lease that came otherwise than by a claim."""
        self.active[lease.lease_id] = lease
        self.admission.started(lease)

    def drain(self) -> None:
        """Claim nothing more; those who wait get None."""
        self._draining = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
        self._wake.set()

    def audit(self) -> None:
        """Compare this worker's leases in Redis with what it runs, before the next commit."""
        self._audit = True
        self._wake.set()

    def prove(self) -> None:
        """Let the next commit claim nothing if it would not claim: its answer says that this worker could."""
        if not self._draining:
            self._proves = True
            self._wake.set()

    def resize(self, surplus: int) -> None:
        """Look again: the number of slots or a limit has changed; ``surplus`` of those who wait get None."""
        while surplus > 0 and self._waiting:
            future = self._waiting.pop()
            if not future.done():
                future.set_result(None)
                surplus -= 1
        for level in self.admission.levels:
            if level.known == "passed":
                level.known = "more"
        self._wake.set()

    def hold_back(self, pauses: Pauses) -> None:
        """Claim nothing of what is paused, from the next commit on."""
        self.admission.pauses = pauses
        self.resize(0)

    async def drop(self) -> None:
        """Cut every connection: they may be half open."""
        self._link.drop()
        for bell in self._bells:
            bell.link.drop()

    async def flushed(self) -> None:
        """Wait until everything written so far is answered."""
        self._wake.set()
        await self._idle.wait()

    @property
    def is_idle(self) -> bool:
        """Whether every level was found empty or is paused, and nothing is leased or waits to be written."""
        return (
            not self.active
            and not self._writes
            and all(level.known == "empty" or self.admission.is_paused(level) for level in self.admission.levels)
        )

    async def run(self, group: TaskGroup) -> None:
        """Commit until cancelled; bells ring in ``group``."""
        for bell in self._bells:
            group.start_soon(bell.run)
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._audit:
                await self._compare_leases()
            while await self._commit():
                pass
            if not self._writes:
                self._idle.set()

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()
        for bell in self._bells:
            await bell.link.close()

    def last_command(self, writes: list[Write]) -> tuple[Any, ...]:
        """Return a settle for another connection to send; the lane must send nothing after it."""
        self._number += 1
        return self._settle_command(writes)

    # The commit.

    async def _commit(self) -> bool:
        """Send one commit if there is anything to send; whether there may be more."""
        config = self._live.value
        writes = self._take_writes()
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        want = min(len(self._waiting), _at_once(config.worker.slots))
        below = self.admission.below(config)
        is_open = self.admission.open_levels(below)
        levels = self.admission.levels
        asks = want > 0 and any(level.known == "more" and open_ for level, open_ in zip(levels, is_open, strict=True))
        if not writes and not asks and not self._proves:
            self._arm_bells(want, is_open)
            return False

        claims = asks or self._proves
        self._proves = False
        self._number += 1
        commands: list[tuple[Any, ...]] = []
        if writes:
            commands.append(self._settle_command(writes))
        if claims:
            commands.append(self._claim_command(want if asks else 0, below))
        sent_at = time.monotonic()
        replies = await self._answered(commands)
        self.round_trips += 1
        if writes:
            self._settled(writes, replies[0])
        if claims:
            self.claim_answered_at = time.monotonic()
            self._claimed(replies[-1], sent_at)
        return True

    def _take_writes(self) -> list[Write]:
        writes: list[Write] = []
        size = 0
        while self._writes and len(writes) < COMMIT_WRITES and size < COMMIT_BYTES:
            write = self._writes.popleft()
            if not write.kind:
                continue  # its lease's end says it
            if write.lease is not None:
                write.lease.running_write = None
            if write.complete is not None:
                write.complete(write)
            size += write.size_bytes
            writes.append(write)
        return writes

    def _settle_command(self, writes: list[Write]) -> tuple[Any, ...]:
        config = self._live.value
        arguments: list[Any] = [
            self._worker_id,
            "",
            self._number,
            config.results.ttl_s,
            CHANNEL,
            config.dead_letters.max_entries,
            config.dead_letters.max_bytes,
            ASSIGNMENT_TTL_S,
            RESULT_PREFIX,
            ASSIGNMENT_PREFIX,
        ]
        for write in writes:
            arguments += write.arguments()
        return scripts.SETTLE.command(self._settle_keys, arguments)

    def _claim_command(self, want: int, below: list[int]) -> tuple[Any, ...]:
        config = self._live.value
        arguments: list[Any] = [
            self._worker_id,
            int(config.worker.lease_ttl_s * 1000),
            "",
            self._number,
            RESULT_PREFIX,
            want,
            self.admission.limits(want),
        ]
        for level, queue, room in zip(self.admission.levels, config.queues, below, strict=True):
            asked = "0" if not want or level.known == "passed" or self.admission.is_paused(level) else "1"
            arguments += (int(queue.promote_after_s * 1000), queue.take_from, room, asked, level.cursor)
        return scripts.CLAIM.command(self._claim_keys, arguments)

    async def _answered(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send until answered; the same numbers go out again after a cut."""
        backoff = Backoff()
        while True:
            try:
                replies = await scripts.run_scripts(self._link, commands)
            except QueueUnavailable as error:
                self._health.down(str(error))
            except ResponseError as error:
                self._health.down(f"it refuses a script: {error}")
            else:
                self._health.up()
                if self._link.connects != self._seen_connects:
                    self._audit = self._seen_connects > 0
                    self._seen_connects = self._link.connects
                    if self._audit:
                        self._wake.set()
                return replies
            await backoff.wait()

    def _settled(self, writes: list[Write], reply: list[int]) -> None:
        if reply[0]:
            totals.dead_letters_dropped += reply[0]
            logger.warning(f"{reply[0]} dead letters fell off: the dead letters are over their limit")
        for write, flag in zip(writes, reply[1:], strict=True):
            lease = write.lease
            if lease is not None:
                if write.is_final:
                    self.active.pop(lease.lease_id, None)
                if not flag:
                    totals.refused[write.kind] += 1
                if not flag and not lease.lost:
                    lease.lose()
                    # The worker may have been taken for dead, and its other leases with this one.
                    self.audit()
            if write.then is not None:
                write.then(bool(flag))

    def _claimed(self, reply: list[Any], sent_at: float) -> None:
        config = self._live.value
        count, levels = reply[0], self.admission.levels
        for at in range(1, 1 + 6 * count, 6):
            lease_id, level_index, delivery, suspicion, registered, payload = reply[at : at + 6]
            level = levels[int(level_index)]
            lease = Lease(
                int(lease_id),
                payload,
                queue=level.name,
                label=level.label,
                level=level.index,
                delivery=int(delivery),
                registered=registered,
                duplicate_of="" if suspicion == b"none" else suspicion.decode(),
            )
            lease.claimed_at = sent_at  # the reply may have waited for a process that was stopped
            try:
                lease.task = decode_task(payload, config.worker.max_payload_bytes)
            except TaskInvalid as error:
                lease.task = error
            self.hold(lease)
            level.passed_s = PASSED_FIRST_S
            self._hand_over(lease)
        self.claims += count
        states = reply[1 + 6 * count :]
        for level, state, cursor, passed in zip(levels, states[::3], states[1::3], states[2::3], strict=True):
            if passed >= 0:
                level.held_back = passed
            self._note(level, state.decode(), int(cursor))

    def _hand_over(self, lease: Lease) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(lease)
                return
        self.write(Write("back", lease, extras=("", self._side(lease))))

    def _note(self, level: Level, told: str, cursor: int) -> None:
        state, _, next_ms = told.partition(" ")
        if state != "skipped":
            level.asked(cursor)
        if state == "wrong" and not level.is_wrong:
            logger.error(f"{level.name} must be a list, is a key of another type; rename or delete it")
        level.is_wrong = state == "wrong" or (level.is_wrong and state == "skipped")
        if state in ("passed", "wrong"):
            level.known = "passed"
            if state == "passed":
                self._bells[level.index].armed.set()
            wait_s = min(level.passed_s, int(next_ms) / 1000 + RATE_AFTER_S) if next_ms else level.passed_s
            asyncio.get_running_loop().call_later(wait_s, self._ask_again, level)
            if level.cursor == 0:
                level.passed_s = min(level.passed_s * 2, PASSED_LONGEST_S)
        elif state == "empty":
            level.known = "empty"
        elif state == "more":
            level.known = "more"

    def _ask_again(self, level: Level) -> None:
        if level.known == "passed":
            level.known = "more"
            self._wake.set()

    def _arm_bells(self, want: int, is_open: list[bool]) -> None:
        if want == 0:
            return
        for level, bell, open_ in zip(self.admission.levels, self._bells, is_open, strict=True):
            if level.known == "empty" and open_:
                bell.armed.set()

    def rung(self, level: Level) -> None:
        """A bell rang: its list holds something."""
        level.known = "more"
        self._wake.set()

    @property
    def has_waiting(self) -> bool:
        """Whether a slot waits for a task."""
        return any(not future.done() for future in self._waiting)

    # Leases that this worker and Redis do not agree on.

    async def _compare_leases(self) -> None:
        """Give back leases that were claimed but never heard of; stop tasks whose lease is gone."""
        self._audit = False
        try:
            (fields,) = await self._link.call([("HKEYS", self._keys.leases(self._worker_id))])
        except QueueUnavailable as error:
            self._health.down(str(error))
            self._audit = True
            asyncio.get_running_loop().call_later(0.2, self._wake.set)
            return
        if isinstance(fields, BaseException):
            return
        held = {int(field) for field in fields}
        settling = {write.lease.lease_id for write in self._writes if write.lease and write.is_final}
        for lease_id, lease in list(self.active.items()):
            if lease_id not in held and lease_id not in settling:
                logger.warning(f"Lease {lease_id} is lost: another worker owns the task; it is stopped here")
                lease.lose()
        strangers = sorted(held - self.active.keys(), reverse=True)
        if strangers:
            logger.warning(f"{len(strangers)} leases of this worker were claimed unheard; their tasks go back")
            for lease_id in strangers:
                level = self.admission.levels[0]
                stranger = Lease(lease_id, b"", queue=level.name, label=level.label, level=0)
                self.admission.started(stranger)
                self.write(Write("back", stranger, extras=("", "auto")))

    def _side(self, lease: Lease) -> str:
        return self._live.value.queues[lease.level].take_from


def _at_once(slots: int) -> int:
    return min(slots, max(TURN_CLAIMS, -(-slots // 2)), COMMIT_CLAIMS)


class _Bell:
    """Waits on one list while no task is in it; what rings is left where it is.

    While all that is in it is held back by limits nothing can ring: then its length is looked at, so that what comes
    behind them starts within a few milliseconds and not with the next timer.
    """

    def __init__(self, lane: Lane, level: Level, url: str, worker_id: str) -> None:
        self._lane = lane
        self._level = level
        self.armed = asyncio.Event()
        self._length: int | None = None
        """Of the list when it was last looked at: what came while a claim was under way counts too."""
        self.link = Link(url, f"aworker-bell-{level.label}-{worker_id}", "bell")

    async def run(self) -> None:
        """Ring for every push while armed; poll where the server refuses the bell."""
        pause_s = PASSED_FIRST_S
        name = self._level.name
        while True:
            await self.armed.wait()
            if self._level.known == "passed":
                await self._watch()
                continue
            block_s = self._lane._live.value.worker.block_timeout_s
            try:
                (reply,) = await self.link.call([("BLMOVE", name, name, "RIGHT", "RIGHT", block_s)])
            except QueueUnavailable:
                reply = None
                refused = True
            else:
                refused = isinstance(reply, BaseException)
            if refused:
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 2, PASSED_LONGEST_S)
            else:
                pause_s = PASSED_FIRST_S
                if reply is None:
                    continue
            self.armed.clear()
            self._lane.rung(self._level)

    async def _watch(self) -> None:
        self.armed.clear()
        while self._level.known == "passed" and self._lane.has_waiting:
            try:
                (length,) = await self.link.call([("LLEN", self._level.name)])
            except QueueUnavailable:
                return  # the timer is left
            if not isinstance(length, int):
                return
            if self._level.known != "passed":
                return  # a claim is under way: what came counts when it is looked at next
            known, self._length = self._length, length
            if known is not None and length > known:
                self._level.grew(known, length)
                self._lane.rung(self._level)
                return
            await anyio.sleep(WATCH_S)
