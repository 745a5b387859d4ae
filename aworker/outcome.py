"""How a task ended, as a value: the executor makes one, the queue writes it down."""

from __future__ import annotations

from typing import Any

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """Base of all ends."""


class Enqueued(msgspec.Struct, frozen=True):
    """A new task as it is put where it waits (scripts/put.lua)."""

    task_id: str
    queue: str
    payload: bytes
    how: str = "now"
    """``now``, ``in`` (``ms`` from now) or ``at`` (``ms`` since the epoch)."""
    ms: int = 0
    unique_key: str = ""
    unique_until: str = ""
    unique_ms: int = 0
    on_conflict: str = ""

    def arguments(self) -> tuple[Any, ...]:
        """Return it as the scripts read it."""
        return (
            self.how,
            self.ms,
            self.queue,
            self.payload,
            self.task_id,
            self.unique_key,
            self.unique_until,
            self.unique_ms,
            self.on_conflict,
        )


class Completed(Outcome, frozen=True):
    """The handler returned; its result is a JSON object, encoded."""

    result: dict[str, Any]
    """Field name to value; a value may be encoded JSON (msgspec.Raw)."""
    enqueued: tuple[Enqueued, ...] = ()
    """What the task enqueued: written in the same step as its end, and never where it ends otherwise."""


class Failed(Outcome, frozen=True):
    """The task is over without a result; the caller gets an ``error``."""

    error: str
    error_type: str
    dead_letter: str = ""
    """The reason under which its payload is kept in the dead letters; empty = it is not kept."""
    cause: str = ""
    """Traceback, signal or exit code, for the dead letter."""
    kinds: tuple[str, ...] = ()
    """The exception's classes, its own first, as ``module.name``."""
    exception: BaseException | None = None
    """What the handler raised, where it ran in the loop."""


class Rejected(Outcome, frozen=True):
    """The payload cannot become a running task: dead letter, and an ``error`` where a task_id can be read."""

    error: str
    error_type: str


class Returned(Outcome, frozen=True):
    """The task goes back onto its queue's taking end."""

    reason: str
    """``released`` (drain), ``reclaimed`` (its worker died), ``child died``, or a handler's own words."""
    counted: bool
    """Whether this delivery counts against ``max_deliveries``."""
    delay_s: float = 0.0
    """How long it waits first, in the delayed set; only what counts can wait."""


class Retried(Outcome, frozen=True):
    """The task waits ``delay_s`` in the delayed set and then goes back onto its queue."""

    reason: str
    delay_s: float
    error_type: str = "Retry"
    """The class of what it ended with; ``Retry`` where the handler asked for another run."""
    why: str = "asked"
    """``asked`` by the handler, or what would be the reason of its dead letter without ``retries``."""
    exception: BaseException | None = None
    """What the handler raised, where it ran in the loop."""


class Duplicate(Outcome, frozen=True):
    """The same task_id runs already or has completed: settled without a message."""

    reason: str


class Lost(Outcome, frozen=True):
    """The lease is gone; nothing is written."""
