"""Where lines end up: stderr, a file, or whatever else stands under the path.

Each of these blocks for as long as the disk or the reader takes; only the writer's thread calls them.

Why stderr is written by its number and not as ``sys.stderr``: a thread that hangs in a stream's write holds its lock,
and Python aborts when it wants to flush that stream on its way out.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import os
import select
import stat
import sys
import time
from typing import Protocol

from loguru import logger

from aworker.config import LoggingConfig

STDERR = 2
LOOK_INTERVAL_S = 1.0


class Target(Protocol):
    """Takes lines as bytes; raises OSError or ValueError when it cannot have them."""

    def write(self, data: bytes) -> int:
        """Write, for as long as it takes, and return how many bytes were."""

    def complain(self, reason: str) -> None:
        """Say on stderr, if that can be, that nothing can be written."""

    def close(self) -> None:
        """Close what was opened for it."""


def open_target(config: LoggingConfig) -> Target:
    """Return where a configuration sends its lines. Raises OSError when the file cannot be opened."""
    if not config.file:
        return Descriptor(STDERR, "stderr") if _is_stderr() else Stream()
    try:
        is_pipe = stat.S_ISFIFO(os.stat(config.file).st_mode)
    except FileNotFoundError:
        is_pipe = False
    if is_pipe and not os.access(config.file, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), config.file)
    # A pipe is opened when there is something to write: that waits for its reader.
    number = None if is_pipe else _open(config.file)
    if config.rotation and number is not None and stat.S_ISREG(os.fstat(number).st_mode):
        return Rotated(config.file, number, config.rotation, config.retention)
    return Opened(config.file, number)


def _is_stderr() -> bool:
    try:
        return type(sys.stderr) is io.TextIOWrapper and sys.stderr.fileno() == STDERR
    except (OSError, ValueError):
        return False


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


class Descriptor:
    """An open file, pipe or terminal by its number."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name

    def write(self, data: bytes) -> int:
        """Write; a number that does not block is waited for."""
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()

    def complain(self, reason: str) -> None:
        """Say so on stderr, unless that is what cannot be written or its reader sleeps."""
        poll = select.poll()
        poll.register(STDERR, select.POLLOUT)
        if self._number != STDERR and any(event == select.POLLOUT for _, event in poll.poll(0)):
            text = (
                f"aworker: logging.file must take lines, {self._name} does not ({reason}); they wait, then are dropped"
            )
            with contextlib.suppress(OSError):
                os.write(STDERR, f"{text}\n".encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Leave it to its owner."""


class Opened(Descriptor):
    """A file of its own, opened again where somebody moved it away."""

    def __init__(self, path: str, number: int | None) -> None:
        super().__init__(-1 if number is None else number, path)
        self._looked_at = time.monotonic()

    def write(self, data: bytes) -> int:
        """Write to what stands under the path now."""
        now = time.monotonic()
        if self._number < 0:
            self._number = _open(self._name)
        elif now - self._looked_at > LOOK_INTERVAL_S:
            self._looked_at = now
            if self._is_moved():
                Opened.close(self)
                self._number = _open(self._name)
        return super().write(data)

    def close(self) -> None:
        """Close it."""
        if self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)

    def _is_moved(self) -> bool:
        try:
            return not os.path.samestat(os.stat(self._name), os.fstat(self._number))
        except FileNotFoundError:
            return True


class Rotated(Opened):
    """A file that loguru renames when it is full or old, and of which it keeps the newest.

    loguru's own sink never writes: it keeps what a full disk refused in a buffer and writes it twice.
    """

    def __init__(self, path: str, number: int, rotation: str, retention: str | int) -> None:
        super().__init__(path, number)
        self._rotator = copy.deepcopy(_without_sinks)
        self._rotator.add(
            path.replace("{", "{{").replace("}", "}}"),
            format="{message}",
            rotation=rotation,
            retention=retention or None,
            watch=True,
            catch=False,
        )
        self._looked_at = float("-inf")

    def write(self, data: bytes) -> int:
        """Rotate where it is time, and write."""
        try:
            self._rotator.opt(raw=True).info("")
        except OSError as error:
            self.complain(f"it cannot be rotated: {error}")
        self._looked_at = float("-inf")
        return super().write(data)

    def close(self) -> None:
        """Close it, and what rotates it."""
        super().close()
        self._rotator.remove()


def keep_a_logger() -> None:
    """Keep a copy of loguru's logger for `Rotated`: before it has sinks, which cannot be copied."""
    global _without_sinks
    _without_sinks = copy.deepcopy(logger)


_without_sinks = logger


class Stream:
    """``sys.stderr`` where it is something else than the process's own: a terminal shared with a bar, a test's."""

    is_shared = True

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, data: bytes) -> int:
        """Write and flush; what is closed takes nothing more."""
        if self._stream is not None and not self._stream.closed:
            self._stream.write(data.decode("utf-8", "replace"))
            self._stream.flush()
        return len(data)

    def complain(self, reason: str) -> None:
        """There is nowhere else to say it."""

    def close(self) -> None:
        """Leave it to its owner."""
