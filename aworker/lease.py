"""The right to work on one task for a limited time.

A lease stands as long as its entry does in Redis; the worker's one deadline covers all of its leases.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aworker.errors import TaskInvalid
from aworker.metrics import totals
from aworker.task import Task


class Lease:
    """One delivery of one payload to this worker."""

    __slots__ = (
        "claimed_at",
        "delivery",
        "duplicate_of",
        "first_failed_s",
        "label",
        "last_error",
        "lease_id",
        "level",
        "lost",
        "on_lost",
        "payload",
        "queue",
        "registered",
        "running_write",
        "span",
        "task",
        "user",
    )

    def __init__(
        self,
        lease_id: int,
        payload: bytes,
        *,
        queue: str,
        label: str,
        level: int,
        delivery: int = 1,
        registered: bytes = b"",
        duplicate_of: str = "",
    ) -> None:
        self.lease_id = lease_id
        """Fencing token: larger than that of every earlier delivery. 0 in at-most-once delivery."""
        self.payload = payload
        self.queue = queue
        self.label = label
        self.level = level
        self.delivery = delivery
        """Times this payload was handed out, from 1."""
        self.registered = registered
        """The task_id this lease holds in the register of claimed tasks, as it stands in the payload (which may be no
        UTF-8); empty when it holds none."""
        self.duplicate_of = duplicate_of
        """Why the claim suspects a duplicate: ``lease``, ``record``, ``unread`` or empty."""
        self.claimed_at = time.monotonic()
        self.task: Task | TaskInvalid | None = None
        """The payload decoded, or why it is no task."""
        self.last_error: str | None = None
        """What the try before this one ended with."""
        self.first_failed_s: float | None = None
        """When the first try ended, epoch seconds, where this is not the first."""
        self.user: str | None = None
        """The user whose limit counts it, while one is set."""
        self.lost = False
        """Set when a write was refused: every further write would be."""
        self.on_lost: Callable[[], None] | None = None
        """Called once when the lease is found lost: stops the handler."""
        self.running_write: Any = None
        """The ``running`` write while it is not sent, so that a fast task's end can take its place."""
        self.span: Any = None
        """Its span (aworker.tracing), where there are any."""

    @property
    def age_s(self) -> float:
        """Seconds since the claim."""
        return time.monotonic() - self.claimed_at

    def lose(self) -> None:
        """Note that the lease is gone and stop its handler."""
        if not self.lost:
            self.lost = True
            totals.leases_lost += 1
            if self.on_lost is not None:
                self.on_lost()

    def __repr__(self) -> str:
        return f"Lease({self.lease_id}, {self.queue!r}, delivery={self.delivery}, {len(self.payload)} bytes)"
