"""The fork server: a small process that has imported what handlers need and forks children on request.

It does nothing but import, fork and reap, in one thread, so that a fork is always safe. A request is 8 bytes (the
child's number) that carry two descriptors: the child's socket and the writing end of its output pipe. It ends when
the worker closes the control socket or dies, and then takes its children along.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from typing import NoReturn

import msgspec

from aworker.execution.pool.child import serve
from aworker.execution.pool.frames import Kind, encode_frame
from aworker.execution.pool.surroundings import adopt_orphans

REQUEST_BYTES = 8


def main(settings_json: str) -> NoReturn:
    """Serve until the control socket closes; the worker starts this in a fresh interpreter."""
    settings = json.loads(settings_json)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    control = socket.socket(fileno=settings["control_fd"])
    server = _Server(control, settings["life_fd"], settings["log_level"], settings["nice"], settings["recorder"])
    for name in (*settings["preload"], *filter(None, (settings["recorder"],))):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a module may raise anything while it is imported
            server.tell(Kind.PRELOAD_FAILED, 0, f"{name}: {type(error).__name__}: {error}")
            os._exit(1)
    gc.collect()
    gc.freeze()
    server.tell(Kind.WARM, 0, None)
    server.run()
    os._exit(0)


class _Server:
    def __init__(self, control: socket.socket, life_fd: int, log_level: str, nice: int, recorder: str) -> None:
        self._control = control
        self._life_fd = life_fd
        self._log_level = log_level
        self._nice = nice
        self._recorder = recorder
        self._numbers: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)

    def tell(self, kind: Kind, number: int, value: int | str | None) -> None:
        with contextlib.suppress(OSError):  # the worker is gone: the next read says so
            self._control.sendall(encode_frame(kind, number, msgspec.msgpack.encode(value)))

    def run(self) -> None:
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    try:
                        request, descriptors, _, _ = socket.recv_fds(self._control, REQUEST_BYTES, 2)
                    except ConnectionResetError:  # the worker closed it with something unread
                        request, descriptors = b"", []
                    if len(request) < REQUEST_BYTES or len(descriptors) != 2:
                        self._end()
                        return
                    self._fork(int.from_bytes(request, "big"), *descriptors)
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                    self._reap()

    def _fork(self, number: int, connection_fd: int, output_fd: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(Kind.FORK_FAILED, number, str(error))
            pid = -1
        if pid == 0:
            self._become_child(connection_fd, output_fd)
        os.close(connection_fd)
        os.close(output_fd)
        if pid > 0:
            self._numbers[pid] = number
            self.tell(Kind.FORKED, number, pid)

    def _become_child(self, connection_fd: int, output_fd: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            os.close(self._woken)
            os.close(self._waker)
            os.nice(self._nice)
            serve(socket.socket(fileno=connection_fd), output_fd, self._life_fd, self._log_level, self._recorder)
        except BaseException:  # noqa: BLE001 - a child must never go on as a second fork server
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(70)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if (number := self._numbers.pop(pid, None)) is not None:
                self.tell(Kind.EXITED, number, status)
        # What a child had started and left is this process's own now; each that ends leaves its own in turn.
        for pid in _children() - self._numbers.keys():
            os.kill(pid, signal.SIGKILL)

    def _end(self) -> None:
        for pid in self._numbers:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
                for pid in _children():
                    os.kill(pid, signal.SIGKILL)


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            return set(map(int, children.read().split()))
    except OSError:
        return set()
