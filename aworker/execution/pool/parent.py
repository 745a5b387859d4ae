"""The worker's side of the pool: who runs what, who waits, and that there are always enough children.

1. The first call starts the fork server; there are as many children as calls have ever been there at once, at most
   ``processes``, and one spare; with ``warm`` `open_pool` starts them all.
2. `Pool.call` queues a call; whenever a child is idle, the call whose turn it is goes to it.
3. A child that ends, for whatever reason, fails its own call alone; the spare takes its place at once and the keeper,
   the pool's only task, starts a new spare.

Invariant: at most ``processes`` children are busy, each with one call; a call ends when its child has answered or is
gone, never earlier, so that nobody is told "cancelled" while the work goes on.

Why ours: no pool that exists survives a segfault, kills on timeout and leaves nothing behind after kill -9;
considered: ProcessPoolExecutor, loky, pebble, anyio.to_process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from aworker import errors
from aworker.clock import now_s
from aworker.errors import (
    ArgumentsInvalid,
    AworkerError,
    ChildDied,
    ChildOutOfMemory,
    ConfigError,
    ExecutionFailed,
    HandlerRaised,
    HandlerTimedOut,
    RequestDeclined,
    ResultInvalid,
    TaskInvalid,
)
from aworker.execution.context import ProgressSink
from aworker.execution.lifespan import END_S
from aworker.execution.pool.frames import (
    Answer,
    Ask,
    Call,
    Failure,
    FrameError,
    Kind,
    Line,
    Progress,
    TaskInfo,
    encode_frame,
)
from aworker.execution.pool.links import ChildLink, ServerLink
from aworker.execution.pool.waiting import Waiting
from aworker.execution.retry import Retry
from aworker.traceparent import carried

KILLS = ("timed_out", "cancelled", "released", "lease_lost", "memory", "nonsense", "not_ready")
"""Why the pool kills a child: its call was to stop and did not (the first four), it grew too large, wrote what is no
frame, or did not become ready."""

_MEMORY_INTERVAL_S = 0.1
_RECYCLE_FRACTION = 0.75
_KILL_S = 0.2
_START_S = 60.0
_LONGEST_PAUSE_S = 5.0
_NOT_READY = "the pool's children end before they are ready; the log says why"


class PoolSettings(msgspec.Struct, frozen=True):
    """How many children there are and when one has to go."""

    processes: int
    """Children that may be busy at once, >= 1; one more is kept warm as a spare."""
    max_tasks_per_child: int = 0
    """Calls after which a child is replaced; 0 = never."""
    max_child_memory_bytes: int = 0
    """Resident bytes at which a busy child is killed, looked at every 100 ms (needs /proc); 0 = off.

    A child that is above three quarters of it after a call is replaced then.
    """
    stop_grace_s: float = 0.5
    """Time between the soft stop of a call and the kill of its child."""
    preload: tuple[str, ...] = ()
    """Modules that the fork server imports before it forks."""
    log_level: str = "DEBUG"
    """Log records of children below it are not sent."""
    warm: bool = True
    """Start the children when the pool opens; else with the first call, so that a pool without work costs nothing."""
    has_lifespans: bool = False
    """Whether children have something open that they are to end before they go."""
    nice: int = 0
    """How far children step back behind other processes, 0 to 19: so that heavy work does not hold up the loop."""
    recorder: str = ""
    """The module that records spans in children; empty = none are."""


class PoolStats(msgspec.Struct, frozen=True):
    """The pool at one moment, and totals since it was opened."""

    size: int
    idle: int
    """Children that could take a call now, without the spare."""
    spare: int
    """Children that wait to take the place of another."""
    busy: int
    waiting: int
    started: int
    died: int
    """Children that ended by themselves or were killed from outside."""
    killed: int
    """Children that the pool killed: timeout, cancel, memory, nonsense on the socket."""
    recycled: int
    """Children that the pool let go after their last call."""
    killed_by: dict[str, int] = {}
    """One of `KILLS` to number."""
    resident_bytes: tuple[int, ...] = ()
    """Of each child, shared pages included."""
    is_cold: bool = False
    """Whether no child has been ready yet, and nothing is wrong: none was needed, or the first are on their way."""


AskSink = Callable[[str, dict[str, Any]], Any]
"""Answers what a function asks of the worker. Never blocks; an AworkerError is raised again in the child."""


def _answer_nothing(word: str, fields: dict[str, Any]) -> Any:
    raise ExecutionFailed(f"nobody answers what the call asks: {word}")


class LogRecord(msgspec.Struct, frozen=True):
    """One line for the worker's log, from a child or about one."""

    level: str
    message: str
    task_id: str = ""
    """Empty when no task was running."""
    task_type: str = ""
    lease_id: int = 0
    """Of that task's delivery."""
    pid: int = 0
    """The child's."""
    logged_at: float = 0.0
    """Epoch seconds."""
    source: str = "pool"
    """``pool``, ``logger`` (a log record) or ``output`` (stdout or stderr)."""
    span: tuple[str, str] | None = None
    """The ids of the trace and the span that was open in the child."""


LogSink = Callable[[LogRecord], None]
"""Takes a record; never blocks."""
SpanSink = Callable[[bytes], None]
"""Takes a span of a child, as it was sent; never blocks."""


class RaisedInChild(HandlerRaised):
    """The function raised in its child; the message is ``<type>: <text>``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.type_name}: {failure.message}" if failure.message else failure.type_name)
        self.type_name = failure.type_name
        """Class name of the exception."""
        self.traceback_text = failure.traceback
        """Its traceback, from the function on."""
        self.kinds = failure.kinds
        """Its classes, its own first."""


@contextlib.asynccontextmanager
async def open_pool(settings: PoolSettings, *, log: LogSink, on_span: SpanSink | None = None) -> AsyncIterator[Pool]:
    """Run a pool; its children are gone when it ends, and with ``warm`` they are ready when it yields.

    Raises ConfigError when a module of ``preload`` cannot be imported, ExecutionFailed when the children do not become
    ready; where the first call starts them, the calls raise that.
    """
    pool = Pool(settings, log=log, on_span=on_span)
    failure: Exception | None = None
    try:
        if settings.warm:
            await pool._open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool._keep_whole)
            try:
                if settings.warm:
                    await pool._warm()
                yield pool
            except Exception as error:  # noqa: BLE001 - raised again below, outside the group, which would wrap it
                failure = error
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await pool._close()
    if failure is not None:
        raise failure


class _PendingCall:
    """A call from `Pool.call` on until its child has answered or is gone."""

    def __init__(
        self,
        number: int,
        frame: bytes,
        task: TaskInfo,
        *,
        level: int,
        chunk: bool,
        timeout_s: float | None,
        on_progress: ProgressSink,
        on_ask: AskSink,
    ) -> None:
        self.number = number
        self.frame = frame
        self.task = task
        self.level = level
        self.chunk = chunk
        self.timeout_s = timeout_s
        self.on_progress = on_progress
        self.on_ask = on_ask
        self.child: ChildLink[_PendingCall] | None = None
        self.ended = asyncio.Event()
        self.result: bytes = b""
        self.error: AworkerError | Retry | None = None
        self.started = False
        """Whether the child has read it."""
        self.moves = 0
        """How many children have died before they had read the call."""
        self.stopping = False
        self.timer: asyncio.TimerHandle | None = None

    @property
    def task_id(self) -> str:
        return self.task.task_id

    def end(self, error: AworkerError | Retry | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.child = None
        self.error = self.error or error
        self.ended.set()


class Pool:
    """Warm child processes that run functions; made by `open_pool`."""

    def __init__(self, settings: PoolSettings, *, log: LogSink, on_span: SpanSink | None = None) -> None:
        _check_size(settings.processes)
        self._settings = settings
        self._size = settings.processes
        self._log_sink = log
        self._span_sink = on_span
        self._loop = asyncio.get_running_loop()
        self._life_fd, self._life_end_fd = os.pipe()
        """A pipe whose second end only this process has: the kernel ends every child when it closes."""
        self._server: ServerLink | None = None
        self._children: dict[int, ChildLink[_PendingCall]] = {}
        """Every child that is not yet known to be gone, by number."""
        self._leaving: set[ChildLink[_PendingCall]] = set()
        """Children that were let go and have not ended yet."""
        self._lost_servers: list[ServerLink] = []
        """Fork servers that have died and are not reaped yet."""
        self._unreaped: list[ChildLink[_PendingCall]] = []
        """Children that outlived their fork server."""
        self._idle: list[ChildLink[_PendingCall]] = []
        self._waiting: Waiting[_PendingCall] = Waiting()
        self._busy = 0
        self._busy_with_chunks = 0
        self._numbers = 0
        self._is_needed = settings.warm
        self._most_at_once = 0
        """Calls that were there at the same moment, at most: so many children have been needed."""
        self._was_ready = False
        self._is_broken = False
        """Whether the children never became ready and the calls were told so."""
        self._closed = False
        self._changed = asyncio.Event()
        self._failed_starts = 0
        self._start_trouble = ""
        """What a child said last that did not become ready."""
        self._memory_timer: asyncio.TimerHandle | None = None
        self._started = self._died = self._recycled = 0
        self._killed = Counter(dict.fromkeys(KILLS, 0))

    async def call(
        self,
        function: Callable[..., Any] | str,
        args: Sequence[Any],
        *,
        task: TaskInfo,
        level: int = 0,
        chunk: bool = False,
        is_handler: bool = False,
        on_progress: ProgressSink,
        on_ask: AskSink = _answer_nothing,
        timeout_s: float | None = None,
        stopped_by: Callable[[], str] = lambda: "cancelled",
    ) -> Any:
        """Run ``function(*args, context)`` in a child and return its result, decoded.

        ``function`` is a module-level function or ``"package.module:qualname"``, never taken from a task. Level 0 goes
        first. A function that ``is_handler`` takes a task's args as its signature wants them, and the result is
        the JSON of what it returned. ``timeout_s`` counts from when a
        child has the call. Progress beyond 100 at once and 50 a second is dropped, log records and lines beyond 1,000
        and 100 a second too.

        When the awaiting coroutine is cancelled or the time is up, the context says ``cancelled``; ``stop_grace_s``
        later the child is killed. Only then, or when the function has returned, does this return.

        ``on_ask`` answers what the function asks while it runs: ``enqueue``.

        ``stopped_by`` says then, as one of `KILLS`, why.

        Raises RequestDeclined and TaskInvalid (of the class name that the function raised), ResultInvalid, Retry where
        it returned or raised one, RaisedInChild for all else that it raised, HandlerTimedOut, ChildDied,
        ChildOutOfMemory, ExecutionFailed when the pool is closed.
        """
        if self._closed:
            raise ExecutionFailed("the pool is closed")
        self._numbers += 1
        call = _PendingCall(
            self._numbers,
            _encode_call(self._numbers, Call(_reference(function), list(args), is_handler, task)),
            task,
            level=level,
            chunk=chunk,
            timeout_s=timeout_s,
            on_progress=on_progress,
            on_ask=on_ask,
        )
        self._waiting.add(call)
        self._need_children()
        self._dispatch()
        try:
            await call.ended.wait()
        except asyncio.CancelledError:
            if not self._waiting.discard(call):
                self._stop(call, stopped_by())
                with anyio.CancelScope(shield=True):
                    await call.ended.wait()
            raise
        if call.error is not None:
            raise call.error
        if is_handler:
            return msgspec.Raw(call.result)
        try:
            return msgspec.msgpack.decode(call.result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise HandlerRaised(f"the result cannot be read: {error}") from error

    def resize(self, processes: int) -> None:
        """Allow ``processes`` busy children from now on; busy ones that are too many go after their call.

        Raises ConfigError when it is below 1.
        """
        _check_size(processes)
        self._size = processes
        self._changed.set()
        self._dispatch()

    def reconfigure(self, settings: PoolSettings) -> None:
        """Take new settings: sizes and limits hold from now on, ``preload`` and ``log_level`` for later children.

        Raises ConfigError when there is not at least one process.
        """
        _check_size(settings.processes)
        self._settings = settings
        if settings.warm:
            self._need_children()
        self.resize(settings.processes)

    def stats(self) -> PoolStats:
        """Return the numbers of this moment."""
        idle = min(len(self._idle), max(0, self._size - self._busy))
        return PoolStats(
            size=self._size,
            idle=idle,
            spare=len(self._idle) - idle,
            busy=self._busy,
            waiting=len(self._waiting),
            started=self._started,
            died=self._died,
            killed=self._killed.total(),
            recycled=self._recycled,
            killed_by=dict(self._killed),
            resident_bytes=tuple(child.resident_bytes() for child in self._children.values() if child.ready),
            is_cold=not self._was_ready and not self._is_broken,
        )

    # -- opening and closing

    async def _open(self) -> None:
        self._server = await self._start_server()

    async def _warm(self) -> None:
        self._changed.set()
        with anyio.move_on_after(_START_S):
            while len(self._idle) < self._size:
                if self._is_broken:
                    raise ExecutionFailed(f"{_NOT_READY}: {self._start_trouble}" if self._start_trouble else _NOT_READY)
                await anyio.sleep(0.005)
            return
        raise ExecutionFailed(f"the pool's children were not ready after {_START_S:.0f} s; the log may say why")

    async def _close(self) -> None:
        self._closed = True
        if self._memory_timer is not None:
            self._memory_timer.cancel()
        for call in self._waiting.drain():
            call.end(ExecutionFailed("the pool was closed before the call had its turn"))
        children = [*self._children.values(), *self._leaving]
        if self._settings.has_lifespans:
            await self._let_lifespans_end(children)
        for child in children:
            if (running := self._take_back(child)) is not None:
                running.end(ExecutionFailed("the pool was closed while the call ran"))
            child.cause = child.cause or "was let go"
            child.kill()
        for server in [*self._lost_servers, self._server]:
            if server is not None:
                await server.end()
        os.close(self._life_fd)
        os.close(self._life_end_fd)
        for child in children:
            child.finish()
        for child in children:
            await child.closed.wait()
        for child in self._unreaped:
            await anyio.to_thread.run_sync(child.reap)

    async def _let_lifespans_end(self, children: list[ChildLink[_PendingCall]]) -> None:
        for child in children:
            if child.call is None and not child.is_leaving:
                child.cause = child.cause or "was let go"
                child.ask_to_leave(END_S)
        with anyio.move_on_after(END_S):
            while any(not child.gone for child in children if child.is_leaving):  # noqa: ASYNC110
                await anyio.sleep(0.01)

    # -- calls

    def _dispatch(self) -> None:
        while self._idle and self._busy < self._size:
            alive = min(self._size, len(self._idle) + self._busy)
            chunks = self._size == 1 or self._busy_with_chunks < alive - 1
            call = self._waiting.take(chunks=chunks)
            if call is None:
                return
            self._give(self._idle.pop(), call)

    def _give(self, child: ChildLink[_PendingCall], call: _PendingCall) -> None:
        self._busy += 1
        self._busy_with_chunks += call.chunk
        call.child, child.call = child, call
        child.send(call.frame)
        if call.timeout_s is not None:
            call.timer = self._loop.call_later(call.timeout_s, self._time_out, call)
        if self._settings.max_child_memory_bytes and self._memory_timer is None:
            self._memory_timer = self._loop.call_later(_MEMORY_INTERVAL_S, self._look_at_memory)

    def _take_back(self, child: ChildLink[_PendingCall]) -> _PendingCall | None:
        call, child.call = child.call, None
        if call is not None:
            self._busy -= 1
            self._busy_with_chunks -= call.chunk
        return call

    def _time_out(self, call: _PendingCall) -> None:
        call.error = HandlerTimedOut(f"the call of {call.task.task_type} ran longer than {call.timeout_s:g} s")
        self._stop(call, "timed_out")

    def _stop(self, call: _PendingCall, cause: str) -> None:
        child = call.child
        if child is None or call.stopping:
            return
        call.stopping = True
        if call.timer is not None:
            call.timer.cancel()
        child.send(encode_frame(Kind.STOP, call.number))
        why = "did not stop in time"
        call.timer = self._loop.call_later(self._settings.stop_grace_s, self._kill, child, cause, why, None)

    def _kill(self, child: ChildLink[_PendingCall], cause: str, why: str, error: ChildDied | None) -> None:
        if child.gone or child.cause:
            return
        child.cause = why
        if child.call is not None:
            child.call.error = child.call.error or error
        self._killed[cause] += 1
        self._say("WARNING", f"child process {child.pid} {why} and is killed", child)
        child.kill()
        child.after(_KILL_S, child.finish)

    def _look_at_memory(self) -> None:
        self._memory_timer = None
        limit = self._settings.max_child_memory_bytes
        for child in list(self._children.values()):
            if child.call is not None and (size := child.resident_bytes()) > limit:
                why = f"held {size >> 20} MiB, over pool.max_child_memory_bytes of {limit >> 20} MiB,"
                error = ChildOutOfMemory(f"the child process {why} and was ended; give the task less")
                self._kill(child, "memory", why, error)
        if self._busy:
            self._memory_timer = self._loop.call_later(_MEMORY_INTERVAL_S, self._look_at_memory)

    # -- what children say

    def on_frame(self, child: ChildLink[_PendingCall], kind: Kind, number: int, body: bytes) -> None:
        """Take a frame from a child.

        Raises FrameError (or msgspec's DecodeError) for one that cannot come from a child of ours.
        """
        call = child.call
        if kind is Kind.LOG:
            line = msgspec.msgpack.decode(body, type=Line)
            if not child.ready and line.level == "ERROR":
                self._start_trouble = line.message
            self._say(line.level, line.message, child, source="logger", logged_at=line.logged_at, span=line.span)
        elif kind is Kind.SPAN:
            if self._span_sink is not None:
                self._loop.call_soon(self._span_sink, body)
        elif kind is Kind.READY and not child.ready:
            child.ready = self._was_ready = True
            child.pid = number
            child.forget_timer()
            self._failed_starts = 0
            self._idle.insert(0, child)  # those that have worked go first: their caches are warm
            self._changed.set()
            self._dispatch()
        elif call is None or call.number != number:
            if kind is not Kind.PROGRESS:
                raise FrameError(f"frame.number must be of the running call, was {number}")
        elif kind is Kind.PROGRESS:
            update = msgspec.msgpack.decode(body, type=Progress)
            # Called by the loop, not from here: what a sink raises must not cost the child its connection.
            self._loop.call_soon(call.on_progress, update.stage, update.message, update.data, update.fraction)
        elif kind is Kind.ASK:
            child.send(encode_frame(Kind.ANSWER, number, _answer(call, body)))
        elif kind is Kind.STARTED:
            call.started = True
        elif kind is Kind.SPOILED:
            child.spoiled = True
            left = msgspec.msgpack.decode(body, type=str)
            self._say("WARNING", f"child {child.pid} takes no other task after this one: {left}", child)
        elif kind is Kind.RESULT:
            call.result = body
            self._answer(child, None)
        elif kind is Kind.RETRY:
            self._answer(child, Retry(*msgspec.msgpack.decode(body, type=tuple[float | None, str])))
        elif kind is Kind.FAILURE:
            self._answer(child, _error(msgspec.msgpack.decode(body, type=Failure)))
        else:
            raise FrameError(f"frame.kind must be one that a child sends, was {kind!r}")

    def on_nonsense(self, child: ChildLink[_PendingCall], error: Exception) -> None:
        """Take note that a child's bytes are no frames."""
        self._kill(child, "nonsense", f"wrote what is no frame ({error})", None)

    def on_output(self, child: ChildLink[_PendingCall], text: str) -> None:
        """Take a line of a child's stdout or stderr."""
        self._say("INFO", text, child, source="output")

    def on_gone(self, child: ChildLink[_PendingCall], cause: str) -> None:
        """Take note that a child has ended; ``cause`` says how, in words."""
        self._leaving.discard(child)
        if child.orphan:
            self._unreaped.append(child)
        if self._children.get(child.number) is not child:
            return
        if not child.ready and not child.cause:
            self._failed_starts += 1
        if not child.cause:
            self._died += 1
            doing = "while it was idle" if child.call is None else f"while it ran {child.call.task.task_type}"
            self._say("WARNING", f"child process {child.pid} {cause} {doing}", child)
        call = self._take_back(child)
        self._forget(child)
        if call is None:
            pass
        elif not call.started and not call.stopping and not child.cause and call.moves <= self._size:
            call.moves += 1
            call.child = None
            if call.timer is not None:
                call.timer.cancel()
            self._waiting.add_first(call)
        else:
            call.end(ChildDied(f"the child process (pid {child.pid}) {child.cause or cause}"))
        self._changed.set()
        self._dispatch()

    def _answer(self, child: ChildLink[_PendingCall], error: AworkerError | Retry | None) -> None:
        child.output.drain()
        call = self._take_back(child)
        child.calls += 1
        if call is not None:
            call.end(error)
        self._release(child)

    def _release(self, child: ChildLink[_PendingCall]) -> None:
        settings = self._settings
        if (
            child.orphan
            or child.spoiled
            or 0 < settings.max_tasks_per_child <= child.calls
            or len(self._children) > self._size + 1
            or 0 < settings.max_child_memory_bytes * _RECYCLE_FRACTION < child.resident_bytes()
        ):
            self._let_go(child)
        else:
            self._idle.append(child)
        self._dispatch()

    def _let_go(self, child: ChildLink[_PendingCall]) -> None:
        child.cause = "was let go"
        self._recycled += 1
        self._forget(child)
        self._leaving.add(child)
        if self._settings.has_lifespans:
            child.ask_to_leave(END_S)
        else:
            child.leave()
        self._changed.set()

    def _forget(self, child: ChildLink[_PendingCall]) -> None:
        self._children.pop(child.number, None)
        if child in self._idle:
            self._idle.remove(child)

    # -- keeping the pool whole

    async def _keep_whole(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._was_ready and self._failed_starts > self._size:
                self._refuse(f"{_NOT_READY}: {self._start_trouble}" if self._start_trouble else _NOT_READY)
            if not self._is_needed:
                continue
            while len(self._children) > self._size + 1 and self._idle:
                self._let_go(self._idle[0])
            if self._failed_starts:
                await anyio.sleep(min(_LONGEST_PAUSE_S, 0.02 * 2 ** min(self._failed_starts, 10)))
            try:
                while self._lost_servers:
                    await self._lost_servers.pop().end()
                if self._server is None:
                    self._server = await self._start_server()
                while len(self._children) < self._wanted and self._server is not None:
                    await self._start_child(self._server)
            except (AworkerError, OSError) as error:
                self._failed_starts += 1
                self._changed.set()
                self._say("ERROR", f"a child process cannot be started: {error}", None)
                if not self._was_ready and isinstance(error, ConfigError):
                    self._refuse(str(error))

    @property
    def _wanted(self) -> int:
        return 1 + (self._size if self._settings.warm else min(self._size, self._most_at_once))

    def _need_children(self) -> None:
        self._most_at_once = max(self._most_at_once, self._busy + len(self._waiting))
        if not self._is_needed or len(self._children) < self._wanted:
            self._is_needed = True
            self._changed.set()

    def _refuse(self, why: str) -> None:
        # What never worked will not work a moment later: the calls say so, and the next one tries again.
        self._is_broken, self._is_needed, self._failed_starts = True, self._settings.warm, 0
        for call in self._waiting.drain():
            call.end(ExecutionFailed(why))

    async def _start_server(self) -> ServerLink:
        def say(text: str) -> None:
            self._say("INFO", text, None, source="output")

        settings = self._settings
        return await ServerLink.start(
            settings.preload,
            settings.log_level,
            settings.nice,
            settings.recorder,
            life_fd=self._life_fd,
            on_lost=self._lose_server,
            say=say,
        )

    def _lose_server(self, server: ServerLink) -> None:
        if self._server is server and not self._closed:
            self._server = None
            self._lost_servers.append(server)
            self._say("WARNING", "the fork server is gone and is started again", None)
            for child in self._children.values():
                child.orphan = True
            self._changed.set()

    async def _start_child(self, server: ServerLink) -> None:
        self._numbers += 1
        child = await ChildLink.start(self._numbers, server, self)
        self._started += 1
        self._children[child.number] = child
        child.after(_START_S, functools.partial(self._give_up_on, child, server))

    def _give_up_on(self, child: ChildLink[_PendingCall], server: ServerLink) -> None:
        if child.pid == 0:
            server.kill()  # it has not even forked: it hangs
        self._failed_starts += 1
        self._kill(child, "not_ready", f"was not ready after {_START_S:.0f} s", None)

    def _say(
        self,
        level: str,
        message: str,
        child: ChildLink[_PendingCall] | None,
        *,
        source: str = "pool",
        logged_at: float | None = None,
        span: tuple[str, str] | None = None,
    ) -> None:
        task = child.call.task if child is not None and child.call is not None else None
        record = LogRecord(
            level=level,
            message=message,
            task_id="" if task is None else task.task_id,
            task_type="" if task is None else task.task_type,
            lease_id=0 if task is None else task.lease_id,
            pid=0 if child is None else child.pid,
            logged_at=now_s() if logged_at is None else logged_at,
            source=source,
            span=span,
        )
        # Called by the loop, not from here: what a sink raises must not end a child.
        self._loop.call_soon(self._log_sink, record)


def _answer(call: _PendingCall, body: bytes) -> bytes:
    ask = msgspec.msgpack.decode(body, type=Ask)
    passed_on = carried.set(ask.trace)
    try:
        answer = Answer(call.on_ask(ask.word, msgspec.json.decode(ask.fields)))
    except AworkerError as error:
        answer = Answer(error_type=type(error).__name__, error=str(error))
    except Exception as error:  # noqa: BLE001 - whatever is wrong, the child waits for an answer
        answer = Answer(error_type=ExecutionFailed.__name__, error=f"{type(error).__name__}: {error}")
    finally:
        carried.reset(passed_on)
    return msgspec.msgpack.encode(answer)


def _check_size(processes: int) -> None:
    if processes < 1:
        raise ConfigError(f"pool.processes must be >= 1, was {processes}; use one per core")


def _reference(function: Callable[..., Any] | str) -> str:
    if isinstance(function, str):
        module, _, path = function.partition(":")
    else:
        module, path = function.__module__, function.__qualname__
    if not module or not path or module == "__main__" or "<" in path:
        raise ValueError(
            f"function must be at the top level of an importable module, was {module}:{path}; move it into one"
        )
    return f"{module}:{path}"


def _encode_call(number: int, call: Call) -> bytes:
    try:
        return encode_frame(Kind.CALL, number, msgspec.msgpack.encode(call))
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError, FrameError) as error:
        raise ArgumentsInvalid(f"args must be JSON-like values and bytes, were not: {error}") from error


def _error(failure: Failure) -> AworkerError:
    if failure.family == "raised":
        return RaisedInChild(failure)
    if failure.family == "result":
        return ResultInvalid(failure.message)
    base = RequestDeclined if failure.family == "declined" else TaskInvalid
    error = _class(base, failure.type_name)(failure.message)
    error.add_note(failure.traceback)
    return error


@functools.lru_cache(maxsize=256)
def _class(base: type[AworkerError], name: str) -> type[AworkerError]:
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, base):
        return known
    return type(name, (base,), {})
