"""What one task in a child must not leave to the next: looked at after each, put back or given up.

Put back: working directory, environment, recursion limit, mask, signal handlers and timers, standard streams, module
path, garbage collection. Given up, child and all: closed or replaced descriptors, threads that still run, processes of
its own, a loop that is still set running. A task that left all as it was costs about 15 us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
from typing import Any

_LOOKED_AT = tuple(
    number
    for number in (
        signal.SIGALRM,
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGPIPE,
        signal.SIGPROF,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGVTALRM,
    )
)
_PR_SET_CHILD_SUBREAPER = 36
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Surroundings:
    """The state of this process that its tasks share, as it was when this was made."""

    def __init__(self) -> None:
        self._files = _files()
        self._folder = os.getcwd()
        self._environment = dict(os.environ)
        self._recursion_limit = sys.getrecursionlimit()
        self._mask = _mask()
        self._handlers = {number: signal.getsignal(number) for number in _LOOKED_AT}
        self._streams = sys.stdin, sys.stdout, sys.stderr
        self._hook = sys.excepthook
        self._path = list(sys.path)
        self._threads = threading.active_count()

    def restore(self) -> str:
        """Put back what can be put back; return why this process is no place for a next task, or nothing."""
        with contextlib.suppress(OSError):
            if _folder() != self._folder:
                os.chdir(self._folder)
        if os.environ != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if _mask() != self._mask:
            os.umask(self._mask)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
        for timer in _TIMERS:
            if signal.getitimer(timer) != (0.0, 0.0):
                signal.setitimer(timer, 0.0)
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.excepthook = self._hook
        if sys.path != self._path:
            sys.path[:] = self._path
        if not gc.isenabled():
            gc.enable()
        return self._left_behind()

    def _left_behind(self) -> str:
        if _folder() != self._folder:
            return "its working directory is gone"
        if _files() != self._files or any(stream is None or stream.closed for stream in self._streams):
            return "it closed or replaced its standard descriptors"
        if threading.active_count() > self._threads:
            names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
            return f"it left threads running ({', '.join(names)[:200]})"
        if _has_processes():
            return "it left processes behind"
        if asyncio._get_running_loop() is not None:
            return "it left an event loop running"
        return ""


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, so that none of a task's gets out of sight.

    On Linux; elsewhere what a task leaves running goes on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _files() -> list[tuple[int, int]]:
    found = []
    for descriptor in (0, 1, 2):
        try:
            stat = os.fstat(descriptor)
            found.append((stat.st_dev, stat.st_ino))
        except OSError:
            found.append((-1, -1))
    return found


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _has_processes() -> bool:
    # Zombies that nobody waited for are reaped on the way: they are no processes any more.
    while True:
        try:
            ended: Any = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return False
        if ended is None:
            return True
