"""The same line again and again: a few of them, then one a minute with how often.

The same are lines of one level with the same words. For warnings and errors of a handler the task does not count: a
thousand tasks that warn of one thing are a flood too. What is held back is said at the end of each minute, and at the
end of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from aworker.logs.lines import Line

WINDOW_S = 60.0
FREE = 5
"""So many of a line pass within a minute before it is a flood."""
MOST_TEXTS = 1_000
"""Different lines that are watched at once; twice as many for a while."""

Key = tuple[int, str]


class Floods:
    """Counts lines; `passes` is called by whoever logs, `due` by the writer's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._young: dict[Key, list[float]] = {}
        self._old: dict[Key, list[float]] = {}
        self._held: dict[Key, _Held] = {}

    @property
    def is_flooding(self) -> bool:
        """Whether a line is being held back."""
        return bool(self._held)

    def passes(self, key: Key, now: float) -> bool:
        """Count a line; whether it is to be written."""
        if self._held and (held := self._held.get(key)) is not None:
            held.count += 1
            return False
        seen = self._young.get(key) or self._old.get(key)
        if seen is None or now - seen[0] >= WINDOW_S:
            if len(self._young) >= MOST_TEXTS:
                self._old, self._young = self._young, {}
            self._young[key] = [now, 1]
            return True
        seen[1] += 1
        if seen[1] <= FREE or len(self._held) >= MOST_TEXTS:
            return True
        with self._lock:
            self._held[key] = _Held(now)
        return False

    def keep(self, key: Key, line: Line) -> None:
        """Keep the last line that was held back: what is said of them all is said with it."""
        if (held := self._held.get(key)) is not None:
            held.line = line

    def due(self, now: float, *, all_of_them: bool = False) -> Iterator[tuple[Line, int]]:
        """Yield what was held back for a minute, and how often; a line of which nothing more came is forgotten."""
        with self._lock:
            waiting = list(self._held.items())
        for key, held in waiting:
            if now - held.began < WINDOW_S and not all_of_them:
                continue
            count, held.count, held.began = held.count, 0, now
            if count and held.line is not None:
                yield held.line, count
            elif not all_of_them:
                with self._lock:
                    del self._held[key]
                self._young.pop(key, None)
                self._old.pop(key, None)


class _Held:
    """A flood: since when it is counted, how often, and the last of its lines."""

    __slots__ = ("began", "count", "line")

    def __init__(self, now: float) -> None:
        self.began = now
        self.count = 1
        self.line: Line | None = None
