"""The worker's ends of what it has started: one `ServerLink`, and a `ChildLink` for each child.

A child counts as gone when its socket has closed and its wait status is known, or a moment after one of the two: a
process of its own may hold the socket open, and a fork server that was killed reports nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

import anyio
import anyio.to_thread
import msgspec

from aworker.errors import ConfigError, ExecutionFailed
from aworker.execution.pool.frames import FrameError, FrameReader, Kind, encode_frame
from aworker.execution.pool.output import Output

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from aworker.execution.pool.server import main"
_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_WARM_S = 60.0
_END_S = 2.0
_STATUS_S = 0.2
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

C = TypeVar("C")


class Owner(Protocol[C]):
    """Who is told what happens to a child."""

    def on_frame(self, child: ChildLink[C], kind: Kind, number: int, body: bytes) -> None: ...

    def on_nonsense(self, child: ChildLink[C], error: Exception) -> None: ...

    def on_output(self, child: ChildLink[C], text: str) -> None: ...

    def on_gone(self, child: ChildLink[C], cause: str) -> None: ...


class ChildLink(asyncio.Protocol, Generic[C]):
    """The worker's end of one child, from its start until it is gone."""

    def __init__(self, number: int, owner: Owner[C], output_fd: int) -> None:
        self.number = number
        self.pid = 0
        """0 until the fork server has told."""
        self.ready = False
        self.call: C | None = None
        """What it runs."""
        self.calls = 0
        """How many it has answered."""
        self.cause = ""
        """Why the pool ended it, in words; empty when it did not."""
        self.orphan = False
        """Whether its fork server is gone, so that nobody reports its wait status."""
        self.spoiled = False
        """Whether its call left something behind, so that it takes no other."""
        self.is_leaving = False
        """Whether it was asked to end what it has open: what it says until then is still heard."""
        self.gone = False
        self.closed = asyncio.Event()
        """Set when the socket's descriptor is closed."""
        self.output = Output(output_fd, lambda text: owner.on_output(self, text))
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._status: int | None = None
        self._start_failure = ""
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, number: int, server: ServerLink, owner: Owner[C]) -> ChildLink[C]:
        """Ask the fork server for a child; its READY frame comes later.

        Raises OSError when the fork server cannot be asked or descriptors run out.
        """
        output_fd, writing_fd = os.pipe()
        ours, theirs = socket.socketpair()
        child: ChildLink[C] = cls(number, owner, output_fd)
        try:
            await child._loop.create_unix_connection(lambda: child, sock=ours)
            server.fork(child, theirs.fileno(), writing_fd)
        except BaseException:
            child.gone = True
            if child._transport is None:
                ours.close()
            else:
                child._transport.abort()
            child.output.close()
            raise
        finally:
            theirs.close()
            os.close(writing_fd)
        child._loop.add_reader(output_fd, child._read_output)
        return child

    def send(self, frame: bytes) -> None:
        """Send a frame; what a child does not read waits in memory."""
        if self._transport is not None:
            self._transport.write(frame)

    def kill(self) -> None:
        """Send SIGKILL, if the child has not been reaped yet."""
        if self.pid > 0 and self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def ask_to_leave(self, within_s: float) -> None:
        """Let an idle child end what it has open and exit; it is killed when it has not in time."""
        self.is_leaving = True
        self.send(encode_frame(Kind.LEAVE, 0))
        self.after(within_s, self.finish)

    def leave(self) -> None:
        """Let an idle child end; it is killed when it has not in a moment."""
        if self._transport is not None:
            self._transport.close()

    def after(self, seconds: float, then: Callable[[], object]) -> None:
        """Call ``then`` in ``seconds`` instead of what was to be called before."""
        self.forget_timer()
        if not self.gone:
            self._timer = self._loop.call_later(seconds, then)

    def forget_timer(self) -> None:
        """Do not call what `after` was to call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resident_bytes(self) -> int:
        """Return the child's resident memory, shared pages included; 0 when it cannot be read."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:
                return int(statm.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def finish(self) -> None:
        """Count the child as gone, whatever is known, and tell the owner; kill what may be left of it."""
        if self.gone:
            return
        self.gone = True
        self.forget_timer()
        if self.orphan:
            self.reap(os.WNOHANG)
        self.kill()
        if self._transport is not None:
            self._transport.abort()
        self._loop.remove_reader(self.output.fd)
        self.output.drain()
        self.output.close()
        self._owner.on_gone(self, self._how())

    def reap(self, options: int = 0) -> None:
        """Take the wait status of a dead orphan, if it has become this process's child; blocks without ``WNOHANG``.

        Orphans of a fork server go to process 1, which the worker is in many a container.
        """
        if self.pid > 0 and self._status is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, options)
                if pid:
                    self._status = status

    # -- from the fork server

    def on_forked(self, pid: int) -> None:
        """Take note of the pid; a child that was ended before it was forked is killed now."""
        self.pid = pid
        if self.cause:
            self.kill()

    def on_not_forked(self, why: str) -> None:
        """Take note that there is no process."""
        self._start_failure = why
        self.finish()

    def on_exit(self, status: int) -> None:
        """Take note of the wait status."""
        self._status = status
        if self._transport is None:
            self.finish()
        else:
            self.after(_STATUS_S, self.finish)  # what it has written may still be on its way

    # -- from the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        if self.gone or (self.cause and not self.is_leaving):
            return
        try:
            for kind, number, body in self._frames.feed(data):
                self._owner.on_frame(self, kind, number, body)
        except (FrameError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._owner.on_nonsense(self, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        if self._status is not None:
            self.finish()
        elif not self.gone:
            self.after(_STATUS_S, self.finish)

    def _read_output(self) -> None:
        self.output.read()
        if self.output.ended:
            self._loop.remove_reader(self.output.fd)

    def _how(self) -> str:
        if self._start_failure:
            return f"could not be forked: {self._start_failure}"
        if self._status is None:
            return "closed its connection" if not self.orphan else "ended (how is not known: its fork server was gone)"
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", by someone else or by the kernel for want of memory" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"


class ServerLink:
    """The worker's end of one fork server."""

    def __init__(self, control: socket.socket, output_fd: int, say: Callable[[str], None]) -> None:
        control.setblocking(False)
        self._control = control
        self._output = Output(output_fd, say)
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._children: dict[int, ChildLink[Any]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._warm: asyncio.Future[None] = self._loop.create_future()
        self._on_lost: Callable[[ServerLink], None] | None = None
        self._open = True

    @classmethod
    async def start(
        cls,
        preload: tuple[str, ...],
        log_level: str,
        nice: int,
        recorder: str,
        *,
        life_fd: int,
        on_lost: Callable[[ServerLink], None],
        say: Callable[[str], None],
    ) -> ServerLink:
        """Start a fork server and wait until its imports are done.

        Raises ConfigError when a module cannot be imported, ExecutionFailed when the process ends or takes over 60 s.
        """
        ours, theirs = socket.socketpair()
        output_fd, writing_fd = os.pipe()
        server = cls(ours, output_fd, say)
        settings = {
            "control_fd": theirs.fileno(),
            "life_fd": life_fd,
            "preload": preload,
            "log_level": log_level,
            "nice": nice,
            "recorder": recorder,
        }
        command = [sys.executable, "-c", f"{_BOOT}; main(sys.argv[2])", json.dumps(sys.path), json.dumps(settings)]

        def run() -> None:
            server._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing_fd,
                stderr=writing_fd,
                pass_fds=(theirs.fileno(), life_fd),
                env={**_ONE_THREAD, **os.environ},
            )

        try:
            try:
                await anyio.to_thread.run_sync(run)
            finally:
                theirs.close()
                os.close(writing_fd)
            server._loop.add_reader(ours, server._read)
            server._loop.add_reader(output_fd, server._read_output)
            with anyio.move_on_after(_WARM_S):
                await server._warm
            if not server._warm.done() or server._warm.cancelled():
                raise ExecutionFailed(f"the fork server was not ready after {_WARM_S:.0f} s; the log may say why")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await server.end()
            raise
        server._on_lost = on_lost
        return server

    def fork(self, child: ChildLink[Any], connection_fd: int, output_fd: int) -> None:
        """Ask for a child with these descriptors.

        Raises OSError when the fork server is gone or does not read.
        """
        if not self._open:
            raise BrokenPipeError("the fork server is gone")
        self._children[child.number] = child
        try:
            socket.send_fds(self._control, [child.number.to_bytes(8, "big")], [connection_fd, output_fd])
        except OSError:
            del self._children[child.number]
            raise

    def kill(self) -> None:
        """Kill the process; its children go on."""
        if self._process is not None:
            self._process.kill()

    async def end(self) -> None:
        """End the process and its children, and reap it."""
        self._on_lost = None
        self._close()
        if self._process is not None:
            await anyio.to_thread.run_sync(self._wait)
        if self._output.fd >= 0:
            self._loop.remove_reader(self._output.fd)
            self._output.drain()
            self._output.close()

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._control)
            self._control.close()
            self._children.clear()
            if not self._warm.done():
                self._warm.set_exception(ExecutionFailed("the fork server ended while it started; the log says why"))
                self._warm.exception()  # marks it as seen: nobody may be waiting

    def _read(self) -> None:
        try:
            data = self._control.recv(65_536)
            frames = self._frames.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, FrameError):
            data, frames = b"", []
        for kind, number, body in frames:
            self._take(kind, number, msgspec.msgpack.decode(body))
        if not data:
            on_lost = self._on_lost
            self._close()
            if on_lost is not None:
                on_lost(self)

    def _take(self, kind: Kind, number: int, value: Any) -> None:
        if kind is Kind.WARM:
            if not self._warm.done():
                self._warm.set_result(None)
        elif kind is Kind.PRELOAD_FAILED:
            text = f"pool.preload must name modules that can be imported, was {value}; install it or take it out"
            if not self._warm.done():
                self._warm.set_exception(ConfigError(text))
        elif kind is Kind.FORKED:
            if (child := self._children.get(number)) is not None:
                child.on_forked(value)
        elif (child := self._children.pop(number, None)) is not None:
            if kind is Kind.EXITED:
                child.on_exit(value)
            else:
                child.on_not_forked(value)

    def _read_output(self) -> None:
        self._output.read()
        if self._output.ended:
            self._loop.remove_reader(self._output.fd)
