"""The names of everything in Redis.

The wire protocol's names are fixed; aworker's own carry the configured prefix.
"""

from __future__ import annotations

CHANNEL = "worker_task_updates"
HEARTBEAT_CHANNEL = "worker_heartbeat"
RESULT_PREFIX = "task_result:"
ASSIGNMENT_PREFIX = "task_assignment:"
HEARTBEAT_PREFIX = "worker_heartbeat:"
ASSIGNMENT_TTL_S = 7_200
HEARTBEAT_TTL_S = 30


class Keys:
    """aworker's own keys under one prefix."""

    __slots__ = (
        "beats",
        "cancelled",
        "claimed",
        "control",
        "dead",
        "dead_bytes",
        "delayed",
        "deliveries",
        "ends",
        "lease_id",
        "minutes",
        "paused",
        "prefix",
        "probe",
        "schedules",
        "workers",
    )

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.workers = f"{prefix}workers"
        """zset: worker_id to lease deadline in ms."""
        self.deliveries = f"{prefix}deliveries"
        """hash: sha1 of a payload to its counted deliveries, only while there is one."""
        self.lease_id = f"{prefix}lease_id"
        self.ends = f"{prefix}ends"
        """hash: a list's taking end and when it was last compared."""
        self.claimed = f"{prefix}claimed"
        """hash: task_id to the lease that runs it."""
        self.cancelled = f"{prefix}cancelled"
        """zset: task_id that is not to start, to the epoch second until which that holds."""
        self.control = f"{prefix}control"
        """channel: what operators tell running workers."""
        self.paused = f"{prefix}paused"
        """hash: ``queue <list>``, ``type <task_type>``, ``schedule <name>`` to the second when it was paused."""
        self.delayed = f"{prefix}delayed"
        """zset: lease id, queue and payload, to due time in ms."""
        self.schedules = f"{prefix}schedules"
        """hash: a schedule's name to its last tick that was enqueued, in epoch ms."""
        self.dead = f"{prefix}dead"
        """stream: dead letters, raw bytes in field ``payload``."""
        self.dead_bytes = f"{prefix}dead_bytes"

        self.probe = f"{prefix}probe"
        """never there: what is written only if it is there says whether the server takes more."""
        self.beats = f"{prefix}beats"
        """zset: worker_id to the epoch second of its last beat."""
        self.minutes = f"{prefix}minutes"
        """hash: ``<minute modulo 60> <label>`` to that minute and its counts."""

    def presence(self, worker_id: str) -> str:
        """string: what a worker says of itself, expires after 30 s."""
        return f"{self.prefix}presence:{worker_id}"

    def ended_session(self, mark: str) -> str:
        """string: somebody logged out of the page; expires when the session would have."""
        return f"{self.prefix}ended_session:{mark}"

    def unique(self, key: str) -> str:
        """string: the task that has a unique key, and where it was put; expires with the key."""
        return f"{self.prefix}unique:{key}"

    @property
    def groups(self) -> str:
        """The prefix of groups: with ``:`` and its id a hash, a group whose members have not all ended; with
        ``_ended:`` and its id a string, how those of one ended that has, until it expires.
        """
        return f"{self.prefix}group"

    def limit(self, name: str) -> str:
        """``running:TYPE``, hash: lease id to worker and user, of what counts against limits over all workers.

        ``rate:TYPE`` and ``rate:TYPE:USER``, string: when all starts so far would be over, one after the other.
        """
        return f"{self.prefix}limit:{name}"

    def leases(self, worker_id: str) -> str:
        """hash: lease id to header and payload, one entry for each running task."""
        return f"{self.prefix}leases:{worker_id}"

    def commits(self, worker_id: str) -> str:
        """hash: the last commit's number and reply, so that one sent twice acts once."""
        return f"{self.prefix}commits:{worker_id}"
