"""What a worker needs of its queues, whichever way tasks are delivered.

Each kind says what it can: what only leases make possible is behind `Queue.leases`, which is None without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aworker.keys import Keys
from aworker.lease import Lease
from aworker.outcome import Outcome
from aworker.queues.connection import Health
from aworker.queues.pauses import Pauses
from aworker.task import Task

RUNS_NOW = "it is running now"
Settled = Callable[[bool, Outcome], None]
"""Called with whether the outcome was written, and the outcome in effect."""


class Leases(Protocol):
    """What the reaper and the heartbeat do with leases."""

    health: Health
    on_delayed: Callable[[float], None]
    """Told when a task of this worker was delayed, and by how many seconds."""

    @property
    def active(self) -> Mapping[int, Lease]:
        """Leases of this worker, by id."""

    def audit(self) -> None:
        """Compare this worker's leases in Redis with what it runs."""

    async def reclaim(self) -> int:
        """Put back the tasks of one worker whose lease deadline has passed; how many. Raises QueueUnavailable."""

    async def put_back_due(self) -> tuple[int, float | None]:
        """Put a batch of delayed tasks whose time has come onto their lists.

        Returns how many, and in how many seconds the next one is due, None = there is none. Raises QueueUnavailable.
        """

    def give_back_command(self, leases: list[Lease]) -> tuple[Any, ...]:
        """Return the command that puts tasks back uncounted, for a process whose loop cannot do it any more."""


class Queue(Protocol):
    """What a worker claims from and settles to."""

    worker_id: str
    keys: Keys
    health: Health

    @property
    def leases(self) -> Leases | None:
        """What there is to do for leases; None where tasks are popped and forgotten."""

    @property
    def active(self) -> Mapping[int, Lease]:
        """Tasks of this worker, by the id of their lease."""

    @property
    def round_trips(self) -> int:
        """Round trips answered so far."""

    @property
    def claim_age_s(self) -> float:
        """Seconds since a claim was last answered; infinite before the first."""

    @property
    def held_back(self) -> Mapping[str, int]:
        """By label, the tasks that the last look at a level passed over because of a limit."""

    def prove_claims(self, heard_at: float) -> None:
        """Make sure that `claim_age_s` speaks of Redis and not of having nothing to claim.

        ``heard_at``: when another connection was last answered, on this host's monotonic clock.
        """

    async def claim(self) -> Lease | None:
        """Wait for the oldest task of the highest level; None when the drain has begun."""

    async def duplicate_reason(self, lease: Lease, task: Task) -> str | None:
        """Say why a task is a duplicate; None when it is none."""

    async def tries(self, lease: Lease) -> list[bytes]:
        """Return what earlier tries of a task ended with, the oldest first, each one line of JSON."""

    async def holds(self, lease: Lease) -> bool:
        """Say whether a lease still stands."""

    def started(self, lease: Lease, task: Task) -> None:
        """Write that a handler starts."""

    def progress(self, lease: Lease, task: Task, stage: str, message: str, data: Any, fraction: float | None) -> None:
        """Publish progress; raises TypeError or ValueError for data that is no JSON."""

    def settle(self, lease: Lease, outcome: Outcome, execution_time_s: float, then: Settled | None = None) -> None:
        """Write an outcome down; ``then`` hears whether it was written."""

    async def is_idle(self) -> bool:
        """Say whether every list is empty or paused, and nothing runs."""

    def resize(self, surplus: int) -> None:
        """Look again: slots or limits have changed; ``surplus`` of the slots that wait get None."""

    async def hold_back(self, pauses: Pauses) -> None:
        """Claim nothing of what is paused."""

    async def ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run plain commands until they are answered. Raises ResponseError for what waiting does not mend."""

    async def ask_for_advice(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run plain commands that work does not need; one that is refused has its error for a reply."""

    async def lengths(self) -> dict[str, int]:
        """Return each level's length by label, and ``leased``, ``delayed`` and ``dead``."""

    async def drain(self) -> None:
        """Claim nothing more; a claim that waits ends."""

    async def drop_connections(self) -> None:
        """Cut every connection that may be cut without losing a task."""

    async def leave(self) -> None:
        """Write what is left to write, and take this worker's own keys away; bounded in time."""
