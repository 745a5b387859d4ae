"""Which levels may give a task now: reserved slots, limits by type and user, and what is known of each list.

Counts are of this process. Everything here is arithmetic; the lane asks it before a claim and tells it what came.

How long aging lets a task wait. Let A be the ``promote_after_s`` of the level at position p (1 = the highest), and let
no other level age faster (theirs is 0, or at least A). The claim script ranks a level by its oldest task, the lowest
rank first:

    a task of level p that has waited w has a rank of at most    p - floor(w / A)   <   p + 1 - w / A
    one that came to level q at least p * A later has at least   q - (w - p * A) / A  >=  p + 1 - w / A

So nothing that comes p * A or more after a task is claimed before it. Where the levels above do not age, their ranks
are 1 or more and its own is 0 or less from w = p * A on: then only what is older on its own list goes before it, and
with k such tasks and a claim that its level may have every c seconds it waits at most

    p * A + (k + 1) * c

With two levels and A = 60: two minutes, and its turn among those that waited as long. Reserved slots are not its
level's to have; a task that a limit holds back waits for that limit; a level where all are held back is looked at
again when its list grows, and after 0.25 s at the latest. An age counts from ``created_at`` up to a day, else from
when the task came to the end of its list. Without aging there is no bound: a level that is never empty lets nothing
below it through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from aworker.config import Config, LiveConfig, TaskConfig, every_ms
from aworker.keys import Keys
from aworker.lease import Lease
from aworker.queues.pauses import Pauses
from aworker.task import Task

PASSED_FIRST_S = 0.02
PASSED_LONGEST_S = 0.25
NEWEST = 80
"""As many as one claim looks at beyond the tasks next to the taking end."""

Known = Literal["more", "empty", "passed"]


def total_limits(config: Config) -> dict[str, dict[str, Any]]:
    """Return by task type the limits over all workers, as the claim script reads them."""
    return {task_type: total for task_type, one in config.tasks.items() if (total := _total(one))}


def _total(one: TaskConfig) -> dict[str, Any]:
    total: dict[str, Any] = {}
    if one.max_concurrent_total:
        total["most"] = one.max_concurrent_total
    if one.max_concurrent_total_per_user:
        total["user_most"] = one.max_concurrent_total_per_user
    for name, rate in (("rate", one.rate), ("user_rate", one.rate_per_user)):
        if rate:
            total[name] = {"every": every_ms(rate), "burst": one.burst}
    return total


class Level:
    """One list, as the last claim found it."""

    __slots__ = (
        "cursor",
        "held_back",
        "index",
        "is_wrong",
        "known",
        "label",
        "looked_at_newest",
        "name",
        "passed_s",
        "running",
        "walk_at",
    )

    def __init__(self, index: int, name: str, label: str) -> None:
        self.index = index
        self.name = name
        self.label = label
        self.known: Known = "more"
        """``more``: may hold a task; ``empty``: its bell tells; ``passed``: all looked at is held back by a limit."""
        self.cursor = 0
        """Where the next look past held-back tasks goes on, counted from the taking end."""
        self.held_back = 0
        """Tasks that the last look at it passed over because of a limit."""
        self.passed_s = PASSED_FIRST_S
        """How long a passed level is left alone next: longer after each walk from end to end that found nothing."""
        self.walk_at: int | None = None
        """Where the walk goes on, while the next claim looks at the newest tasks instead."""
        self.looked_at_newest = False
        self.running = 0
        self.is_wrong = False
        """Whether its key was found to be no list."""

    def grew(self, before: int, length: int) -> None:
        """Let the next claim look at what was pushed last; every other time the walk goes on, and so it ends."""
        self.looked_at_newest = not self.looked_at_newest
        if self.looked_at_newest and self.walk_at is None:
            self.walk_at, self.cursor = self.cursor, max(0, min(before, length - NEWEST))

    def asked(self, cursor: int) -> None:
        """Note where a claim that looked at this list got to."""
        self.cursor = cursor if self.walk_at is None else self.walk_at
        self.walk_at = None


class Admission:
    """The levels, what runs, and how many more may start where."""

    def __init__(self, live: LiveConfig, type_limits: Callable[[], Mapping[str, int]]) -> None:
        self._live = live
        self._type_limits = type_limits
        self.levels = [Level(index, queue.name, queue.label) for index, queue in enumerate(live.value.queues)]
        self.by_name = {level.name: level for level in self.levels}
        self.pauses = Pauses()
        self._reserved: tuple[Config | None, tuple[int, ...]] = (None, ())
        """The reserved slots of one configuration: the same for as long as it holds."""
        self._types: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    def below(self, config: Config) -> list[int]:
        """Return for each level how many more tasks may start in all levels below it; -1 = no limit."""
        known, in_effect = self._reserved
        if known is not config:
            in_effect = config.reserved_slots
            self._reserved = (config, in_effect)
        rooms: list[int] = []
        running_below = 0
        for level in self.levels:
            running_below += level.running
        for level, reserved in zip(self.levels, in_effect, strict=True):
            running_below -= level.running
            rooms.append(max(0, config.worker.slots - reserved - running_below) if reserved else -1)
        return rooms

    def open_levels(self, below: list[int]) -> list[bool]:
        """Return for each level whether it is not paused and the room below the levels above it lets it give a task."""
        still_open, levels, paused = True, [], self.pauses.queues
        for level, room in zip(self.levels, below, strict=True):
            levels.append(still_open and level.name not in paused)
            still_open = still_open and room != 0
        return levels

    def is_paused(self, level: Level) -> bool:
        """Whether a level is not to be asked."""
        return level.name in self.pauses.queues

    def limits(self, want: int) -> bytes:
        """Return the limits that a claim of ``want`` tasks could reach, as JSON; empty when it can reach none.

        A paused task type is a limit of 0.
        """
        types = {
            task_type: max(0, limit - self._types[task_type])
            for task_type, limit in self._type_limits().items()
            if limit > 0 and limit - self._types[task_type] < want
        }
        types.update(dict.fromkeys(self.pauses.task_types, 0))
        per_user = self._live.value.worker.max_per_user
        near_user = per_user > 0 and max(self._users.values(), default=0) + want > per_user
        totals = total_limits(self._live.value)
        if not types and not near_user and not totals:
            return b""
        limits: dict[str, Any] = {"types": types, "users": {}}
        if totals:
            keys = Keys(self._live.value.redis.key_prefix)
            limits.update(totals=totals, prefix=keys.limit(""), leases=keys.leases(""))
        if near_user:
            limits["user_room"] = per_user
            limits["users"] = {user: max(0, per_user - count) for user, count in self._users.items()}
        return msgspec.json.encode(limits)

    def started(self, lease: Lease) -> None:
        """Count a claimed task."""
        self.levels[lease.level].running += 1
        if isinstance(lease.task, Task):
            self._types[lease.task.task_type] += 1
            if self._live.value.worker.max_per_user and (user := lease.task.user_id) is not None:
                self._users[user] += 1
                lease.user = user

    def ended(self, lease: Lease) -> None:
        """Take a task's count back; a level passed over because of its limit may be asked again."""
        self.levels[lease.level].running -= 1
        limited = lease.user is not None
        if isinstance(lease.task, Task):
            task_type = lease.task.task_type
            self._types[task_type] -= 1
            limited = limited or task_type in self._type_limits() or bool(_total(self._live.value.task(task_type)))
            if not self._types[task_type]:
                del self._types[task_type]
            if lease.user is not None:
                self._users[lease.user] -= 1
                if not self._users[lease.user]:
                    del self._users[lease.user]
        if limited:
            for level in self.levels:
                if level.known == "passed":
                    level.known = "more"
                    level.passed_s = PASSED_FIRST_S
