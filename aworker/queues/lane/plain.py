"""At-most-once delivery: the literal ``BRPOP priority normal 60`` of each slot.

No lease, no recovery: what a dying worker had taken is gone. For servers without scripting, and as the reference in
benchmarks. A pending ``BRPOP`` is never cancelled: the drain ends it with ``CLIENT UNBLOCK``, so what it pops is run.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from itertools import islice
from typing import Any

import anyio
from loguru import logger

from aworker.clock import rfc3339
from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable, TaskInvalid
from aworker.keys import ASSIGNMENT_PREFIX, ASSIGNMENT_TTL_S, CHANNEL, HEARTBEAT_PREFIX, RESULT_PREFIX, Keys
from aworker.lease import Lease
from aworker.metrics import totals
from aworker.outcome import Outcome
from aworker.queues import records
from aworker.queues.connection import Backoff, Health, Link, SideLink, address_of
from aworker.queues.lane.leased import FAST_S, FLUSH_TIMEOUT_S
from aworker.queues.lane.settlement import settlement
from aworker.queues.pauses import Pauses
from aworker.queues.queue import Leases, Settled
from aworker.task import Task, decode_task

COUNTS_KEPT = 1_000
UNBLOCK_TRIES = 3
REFUSED_WITHIN_S = 0.1
"""A pop that waits for longer was not refused."""

Command = tuple[Any, ...]


class _Start:
    """What is written when a handler starts; of one that has ended before it was sent, the messages alone."""

    __slots__ = ("lease", "messages", "state")

    def __init__(self, lease: Lease, state: Callable[[], list[Command]] | None, messages: list[Command]) -> None:
        self.lease = lease
        self.state = state
        """Makes what would be in vain if an end took its place."""
        self.messages = messages


class PlainQueue:
    """The queues of a worker that pops and forgets."""

    def __init__(self, live: LiveConfig, worker_id: str) -> None:
        config = live.value
        self._live = live
        self.worker_id = worker_id
        self.keys = Keys(config.redis.key_prefix)
        self.health = Health(address_of(config.redis.url))
        self.active: dict[int, Lease] = {}
        self._url = config.redis.url
        self._side = SideLink(self._url, f"aworker-side-{worker_id}", self.health)
        self._writer = Link(self._url, f"aworker-writes-{worker_id}", "writes")
        self._writes: deque[Command | _Start] = deque()
        self._starts: dict[int, _Start] = {}
        """By lease, those of which nothing is sent yet."""
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._free: list[Link] = []
        self._popping: dict[Link, int] = {}
        self._client_ids: dict[Link, tuple[int, int]] = {}
        """Connects so far, and the server's number for the connection they made."""
        self._taken = 0
        self.round_trips = 0
        """Pops and writes answered so far."""
        self._popped_at = self._sent_at = float("-inf")
        self._delayed: dict[int, tuple[asyncio.TimerHandle, Lease]] = {}
        """Tasks that wait to be put back, by this process's number for them: a crash loses them."""
        self._deliveries: dict[bytes, int] = {}
        """How often a payload that was put back had been handed out; other workers count anew."""
        self._draining = False
        self._pauses = Pauses()
        self._resumed = asyncio.Event()

    async def claim(self) -> Lease | None:
        """Pop the next task; None when the drain has begun."""
        link = self._free.pop() if self._free else Link(self._url, f"aworker-slot-{self.worker_id}", "slot")
        backoff = Backoff()
        try:
            while not self._draining:
                try:
                    self._popping[link] = await self._client_id(link)
                    names = [queue.name for queue in self._live.value.queues if queue.name not in self._pauses.queues]
                    if self._draining:
                        return None
                    if not names:
                        del self._popping[link]
                        await self._resumed.wait()
                        continue
                    self._sent_at = time.monotonic()
                    (reply,) = await link.call([("BRPOP", *names, self._live.value.worker.block_timeout_s)])
                    if isinstance(reply, BaseException):
                        raise QueueUnavailable(f"it refuses a pop: {reply}")
                except QueueUnavailable as error:
                    self.health.down(str(error))
                    await backoff.wait()
                    continue
                finally:
                    self._popping.pop(link, None)
                self.health.up()
                self.round_trips += 1
                self._popped_at = time.monotonic()
                if reply is not None:
                    return self._lease(reply[0].decode(), reply[1])
            return None
        finally:
            self._free.append(link)

    async def _client_id(self, link: Link) -> int:
        connects, client_id = self._client_ids.get(link, (0, 0))
        if connects != link.connects or not connects or not link.is_connected:
            (client_id,) = await link.call([("CLIENT", "ID")])
            self._client_ids[link] = link.connects, client_id
        return client_id

    async def duplicate_reason(self, lease: Lease, task: Task) -> str | None:
        """Never: without leases nothing tells what runs."""
        return None

    async def tries(self, lease: Lease) -> list[bytes]:
        """None: they are kept with leases."""
        return []

    async def holds(self, lease: Lease) -> bool:
        """Always: what was popped is nobody else's."""
        return True

    def started(self, lease: Lease, task: Task) -> None:
        """Write that a handler starts."""
        started_at = rfc3339()
        change = records.running(self.worker_id, task, lease, started_at)

        def state() -> list[Command]:
            text = records.assignment(self.worker_id, task, started_at)
            return [
                self._storing(task.task_id, change.record),
                ("SET", ASSIGNMENT_PREFIX + task.task_id, text, "EX", ASSIGNMENT_TTL_S),
            ]

        self._starts[lease.lease_id] = start = _Start(lease, state, self._publishing(change.messages))
        self._write(start)

    def progress(self, lease: Lease, task: Task, stage: str, message: str, data: Any, fraction: float | None) -> None:
        """Publish progress; raises TypeError or ValueError for data that is no JSON."""
        self._write(*self._publishing((records.progress(task.task_id, stage, message, data, fraction),)))

    def settle(self, lease: Lease, outcome: Outcome, execution_time_s: float, then: Settled | None = None) -> None:
        """Write an outcome down, whoever else may have written one."""
        plan = settlement(self._live.value, self.worker_id, lease, outcome, execution_time_s)
        self.active.pop(lease.lease_id, None)
        if plan.kind == "dead":
            totals.dead_letter(plan.reason)
            fields = ("payload", lease.payload, *plan.dead_fields)
            limit = self._live.value.dead_letters.max_entries
            self._write(("XADD", self.keys.dead, "MAXLEN", "~", limit, "*", *fields))
            self._write(("INCRBY", self.keys.dead_bytes, len(lease.payload)))
        elif plan.kind in ("back", "delay"):
            if plan.counted:
                if len(self._deliveries) >= COUNTS_KEPT:
                    self._deliveries.clear()  # most are of tasks that other workers have taken since
                self._deliveries[sha1(lease.payload).digest()] = lease.delivery
            timer = asyncio.get_running_loop().call_later(plan.delay_ms / 1000, self._put_back, lease)
            self._delayed[lease.lease_id] = timer, lease
            if self._draining or plan.kind == "back":
                timer.cancel()
                self._put_back(lease)
        start = self._starts.pop(lease.lease_id, None)
        if start is not None:
            start.state = None
        if plan.task_id:
            self._write(self._storing(plan.task_id, plan.record))
            if start is None:
                self._write(("DEL", ASSIGNMENT_PREFIX + plan.task_id))
        messages = self._publishing(plan.messages)
        self._write(*messages)
        self._write(*(("RPUSH", one.queue, one.payload) for one in plan.enqueued))
        wait_s = self._live.value.results.repeat_fast_after_s
        if plan.is_final and plan.messages and wait_s and lease.age_s < FAST_S:
            asyncio.get_running_loop().call_later(wait_s, self._write, *messages)
        if then is not None:
            then(True, plan.outcome)

    async def ask(self, commands: list[Command]) -> list[Any]:
        """Run plain commands on the side connection until they are answered."""
        return await self._side.ask(commands)

    async def ask_for_advice(self, commands: list[Command]) -> list[Any]:
        """Run plain commands that work does not need; one that is refused has its error for a reply."""
        return await self._side.ask_for_advice(commands)

    async def lengths(self) -> dict[str, int]:
        """Return each level's length by label, and ``leased``, ``delayed`` and ``dead``."""
        levels = self._live.value.queues
        lengths = await self._side.lengths([queue.name for queue in levels])
        (dead,) = await self.ask([("XLEN", self.keys.dead)])
        return {
            **dict(zip((queue.label for queue in levels), lengths, strict=True)),
            "leased": len(self.active),
            "delayed": len(self._delayed),
            "dead": dead,
        }

    @property
    def held_back(self) -> dict[str, int]:
        """Nothing: what is popped is run."""
        return {}

    @property
    def claim_age_s(self) -> float:
        """Seconds since a pop was last answered: up to ``worker.block_timeout_s`` while nothing comes."""
        return time.monotonic() - self._popped_at

    def prove_claims(self, heard_at: float) -> None:
        """Take note that a pop waits: it is answered at the end of its time, but one that is refused is so at once."""
        if self.health.is_up is False and self._popping and heard_at > self._sent_at + REFUSED_WITHIN_S:
            self.health.up()

    @property
    def leases(self) -> Leases | None:
        """None: what is popped is gone from Redis."""
        return None

    async def is_idle(self) -> bool:
        """Ask whether every list is empty or paused, and say whether nothing runs either."""
        queues = self._live.value.queues
        lengths = await self._side.lengths([queue.name for queue in queues])
        found = any(
            length for queue, length in zip(queues, lengths, strict=True) if queue.name not in self._pauses.queues
        )
        return not found and not self.active and not self._writes

    async def drain(self) -> None:
        """Pop nothing more; what is delayed goes back at once, for other workers.

        Pops that wait are ended; what one has popped already is still handed to its slot.
        """
        self._draining = True
        for timer, lease in list(self._delayed.values()):
            timer.cancel()
            self._put_back(lease)
        self._resumed.set()
        while self._popping:
            await self.ask([("CLIENT", "UNBLOCK", client_id) for client_id in self._popping.values()])
            await anyio.sleep(0.02)

    async def hold_back(self, pauses: Pauses) -> None:
        """Pop nothing from paused levels. What was popped is run, so a task type cannot be held back here."""
        self._pauses = pauses
        if pauses.task_types:
            logger.warning("A task type is paused, which delivery at-most-once cannot heed: what it pops it must run")
        self._resumed.set()
        self._resumed = asyncio.Event()
        for _ in range(UNBLOCK_TRIES):
            # More than once: a pop that is just being sent is not there to be ended yet.
            if self._popping:
                await self.ask([("CLIENT", "UNBLOCK", client_id) for client_id in self._popping.values()])
            await anyio.sleep(0.05)

    async def drop_connections(self) -> None:
        """Do nothing: a pop that is cut may lose its task, so a half-open connection is left to TCP's keepalive."""

    def audit(self) -> None:
        """Do nothing: there are no leases."""

    def resize(self, surplus: int) -> None:
        """Do nothing: a slot too many ends when its pop does."""

    async def run(self) -> None:
        """Send what is written, in order, until cancelled."""
        backoff = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._writes:
                count = min(len(self._writes), 1000)
                batch = self._taken_out(count)
                try:
                    replies = await self._writer.call(batch) if batch else []
                except QueueUnavailable as error:
                    self.health.down(str(error))
                    await backoff.wait()
                    continue
                self.round_trips += 1
                for _ in range(count):
                    self._writes.popleft()
                for reply in replies:
                    if isinstance(reply, BaseException):
                        logger.error(f"Redis refused a result: {reply}")
            self._written.set()

    def _taken_out(self, count: int) -> list[Command]:
        # They stay where they are until they are answered: after a cut they go out again.
        batch: list[Command] = []
        for write in islice(self._writes, count):
            if isinstance(write, _Start):
                self._starts.pop(write.lease.lease_id, None)
                if write.state is not None:
                    batch += write.state()
                batch += write.messages
            else:
                batch.append(write)
        return batch

    async def flushed(self) -> None:
        """Wait until everything written so far is sent."""
        self._wake.set()
        await self._written.wait()

    async def leave(self) -> None:
        """Write what is left to write, and take this worker's heartbeat away; bounded in time."""
        with anyio.move_on_after(FLUSH_TIMEOUT_S):
            await self.flushed()
            await self.ask([("DEL", HEARTBEAT_PREFIX + self.worker_id, self.keys.presence(self.worker_id))])
            await self.ask_for_advice([("ZREM", self.keys.beats, self.worker_id)])

    async def close(self) -> None:
        """Close every connection."""
        for link in (*self._free, self._side.link, self._writer):
            await link.close()

    def _lease(self, name: str, payload: bytes) -> Lease:
        index, queue = next((i, q) for i, q in enumerate(self._live.value.queues) if q.name == name)
        self._taken += 1
        delivery = 1
        if self._deliveries:
            delivery += self._deliveries.pop(sha1(payload).digest(), 0)
        lease = Lease(self._taken, payload, queue=name, label=queue.label, level=index, delivery=delivery)
        try:
            lease.task = decode_task(payload, self._live.value.worker.max_payload_bytes)
        except TaskInvalid as error:
            lease.task = error
        self.active[lease.lease_id] = lease
        return lease

    def _put_back(self, lease: Lease) -> None:
        del self._delayed[lease.lease_id]
        self._write(("RPUSH", lease.queue, lease.payload))

    def _storing(self, task_id: str, record: bytes) -> Command:
        return ("SET", RESULT_PREFIX + task_id, record, "EX", self._live.value.results.ttl_s)

    def _publishing(self, messages: Sequence[bytes]) -> list[Command]:
        if not self._live.value.results.publish:
            return []
        return [("PUBLISH", CHANNEL, message) for message in messages]

    def _write(self, *writes: Command | _Start) -> None:
        if writes:
            self._writes.extend(writes)
            self._written.clear()
            self._wake.set()


@asynccontextmanager
async def open_plain_queue(live: LiveConfig, worker_id: str) -> AsyncIterator[PlainQueue]:
    """Send writes while the block runs; what was written in it is flushed before the connections close."""
    queue = PlainQueue(live, worker_id)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(queue.run)
            try:
                yield queue
                await queue.leave()
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await queue.close()
