"""The order in which waiting calls get a child.

Highest level first (0 is the highest); inside a level round-robin between tasks, so that one with a thousand chunks
holds up no other; inside a task oldest first.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What decides over a call's turn."""

    level: int
    chunk: bool

    @property
    def task_id(self) -> str: ...


Q = TypeVar("Q", bound=Queued)


class Waiting(Generic[Q]):
    """The calls that wait for a child."""

    def __init__(self) -> None:
        # A task's chunks and its other calls are two lanes: when chunks may not run now, the rest still may.
        self._levels: dict[int, dict[tuple[str, bool], deque[Q]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, call: Q) -> None:
        """Let a call wait behind the others of its task."""
        lanes = self._levels.setdefault(call.level, {})
        lanes.setdefault((call.task_id, call.chunk), deque()).append(call)
        self._count += 1

    def add_first(self, call: Q) -> None:
        """Put back a call that had its turn in vain: it is the next of its level."""
        lanes = self._levels.setdefault(call.level, {})
        lane = lanes.pop((call.task_id, call.chunk), deque())
        lane.appendleft(call)
        self._levels[call.level] = {(call.task_id, call.chunk): lane, **lanes}
        self._count += 1

    def discard(self, call: Q) -> bool:
        """Take a call out; return whether it waited."""
        lanes = self._levels.get(call.level, {})
        lane = lanes.get((call.task_id, call.chunk))
        if lane is None or call not in lane:
            return False
        lane.remove(call)
        self._count -= 1
        self._tidy(call.level, (call.task_id, call.chunk))
        return True

    def take(self, *, chunks: bool) -> Q | None:
        """Take the call whose turn it is, or None; without ``chunks`` the first that is no chunk."""
        for level in sorted(self._levels):
            lanes = self._levels[level]
            key = next((key for key in lanes if chunks or not key[1]), None)
            if key is None:
                continue
            lane = lanes.pop(key)
            call = lane.popleft()
            self._count -= 1
            lanes[key] = lane
            self._tidy(level, key)
            return call
        return None

    def drain(self) -> list[Q]:
        """Take all calls."""
        calls = [call for lanes in self._levels.values() for lane in lanes.values() for call in lane]
        self._levels.clear()
        self._count = 0
        return calls

    def _tidy(self, level: int, key: tuple[str, bool]) -> None:
        lanes = self._levels[level]
        if not lanes[key]:
            del lanes[key]
        if not lanes:
            del self._levels[level]
