"""What a worker is doing at one moment, for those who watch it."""

from __future__ import annotations

import msgspec

from aworker.execution.pool.parent import PoolStats


class WorkerState(msgspec.Struct, frozen=True):
    """Plain numbers, read from the loop without asking Redis."""

    worker_id: str
    delivery: str
    redis: str
    """The server's address, without user and password."""
    is_started: bool
    is_draining: bool
    is_up: bool
    """Whether the last command was answered."""
    trouble: str
    """Why it was not."""
    fullness: str
    """Why Redis takes nothing new, in its words; empty when it takes it."""
    slots: int
    busy: int
    reserved: dict[str, int]
    """In effect, by level."""
    renewal_age_s: float
    """Since Redis last took a renewal of the leases; without leases: since it last answered."""
    renew_interval_s: float
    """How often it is asked to."""
    loop_lag_s: float
    round_trips: int
    reloads: int
    failed_reloads: int
    pool: PoolStats | None
    childless_s: float
    """For how long no child process has been alive; 0 without a pool."""
    claim_age_s: float = 0.0
    """Since Redis last answered a claim; a worker that need not claim asks for nothing every other second."""
    held: int = 0
    """Leases that this worker holds."""
    running: dict[tuple[str, str], int] = {}
    """(task type, level) to tasks that run."""
    task_types: tuple[str, ...] = ()
    """Those with a handler."""
    limits: dict[str, int] = {}
    """Most tasks of a type that run at once; 0 while the type is paused."""
    max_per_user: int = 0
    """Most tasks of a user; 0 = no limit."""
    held_back: dict[str, int] = {}
    """By level, the tasks that the last look passed over because of a limit."""
    paused: tuple[str, ...] = ()
    """Labels of the levels that are paused."""
    config_hash: str = ""
    """Of the configuration in force: the same for workers that are configured alike."""
