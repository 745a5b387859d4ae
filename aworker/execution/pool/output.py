"""What a child writes to its stdout and stderr, cut into lines.

The worker reads the pipe itself: a child that dies, or whose C code holds the interpreter, cannot, and its last words
(a fault's traceback, an abort message) are worth most.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_READ_BYTES = 65_536
_LINE_BYTES = 8_192
_DRAIN_READS = 64


class Allowance:
    """A bucket of ``burst`` that refills at ``per_s``: keeps a chatty child from filling the worker's day."""

    __slots__ = ("_at", "_burst", "_left", "_per_s", "refused")

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._at = time.monotonic()
        self.refused = 0
        """How often `take` said no since the caller last set this to 0."""

    def take(self) -> bool:
        """Take one; False when there is none."""
        if self._left < 1:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now
            if self._left < 1:
                self.refused += 1
                return False
        self._left -= 1
        return True


class Output:
    """The reading end of one child's output pipe; it never blocks."""

    __slots__ = ("_allowance", "_say", "_tail", "ended", "fd")

    def __init__(self, fd: int, say: Callable[[str], None]) -> None:
        """Take over ``fd`` and hand each line to ``say``."""
        os.set_blocking(fd, False)
        self.fd = fd
        self.ended = False
        """Whether the last writer has closed the pipe."""
        self._say = say
        self._tail = b""
        self._allowance = Allowance(burst=1_000, per_s=100)

    def read(self) -> bool:
        """Hand over the lines that are there, at most 64 KiB; return whether there was anything."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.ended = True
            return False
        self._take_in(data)
        return True

    def drain(self) -> None:
        """Hand over everything that was written until now, an unfinished line too."""
        for _ in range(_DRAIN_READS):
            if not self.read():
                break
        if self._tail:
            self._pass_on(self._tail)
            self._tail = b""
        if self._allowance.refused:
            self._say(f"({self._allowance.refused} more lines of output were dropped)")
            self._allowance.refused = 0

    def close(self) -> None:
        """Close the pipe; `fd` is -1 from then on."""
        os.close(self.fd)
        self.fd = -1

    def _take_in(self, data: bytes) -> None:
        *lines, self._tail = (self._tail + data).split(b"\n")
        for index, line in enumerate(lines):
            if not self._pass_on(line):
                # Cheap from here on: whoever writes a million lines must not cost the loop a million steps.
                self._allowance.refused += len(lines) - index - 1
                break
        while len(self._tail) > _LINE_BYTES:
            self._pass_on(self._tail[:_LINE_BYTES])
            self._tail = self._tail[_LINE_BYTES:]

    def _pass_on(self, line: bytes) -> bool:
        text = line[:_LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        if not text:
            return True
        if not self._allowance.take():
            return False
        self._say(text)
        return True
