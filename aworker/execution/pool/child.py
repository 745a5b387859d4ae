"""The child's side: runs one call after the other in the main thread, until its socket closes.

Invariant: a child never outlives its worker. A thread of its own reads the socket and ends the process when it
closes; for C code that never lets that thread run, the kernel sends SIGIO when the worker's end of a pipe closes, and
its default action is the end.

Why SIGIO: the parent-death signal follows the fork server, not the worker, and the fork server may be killed while
its children go on; considered too: a fork server that kills its children when the worker goes, which two kills defeat.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import functools
import importlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from loguru import logger

from aworker import errors
from aworker.encoding import encode, plain
from aworker.errors import EnqueueInvalid, ExecutionFailed, LifespanFailed, RequestDeclined, ResultInvalid, TaskInvalid
from aworker.execution.context import Context
from aworker.execution.failure import TEXT_CHARACTERS, leaf, told
from aworker.execution.lifespan import NOTHING_GIVEN, ChildLifespans, Given, declared_lifespans
from aworker.execution.policy import kinds_of
from aworker.execution.pool.frames import (
    MAX_BODY_BYTES,
    Answer,
    Ask,
    Call,
    Failure,
    FrameReader,
    Kind,
    Line,
    Progress,
    encode_frame,
)
from aworker.execution.pool.output import Allowance
from aworker.execution.pool.surroundings import Surroundings, adopt_orphans
from aworker.execution.registry import Handler
from aworker.execution.retry import Retry
from aworker.logs import level_of, message_of
from aworker.traceparent import Trace, carried, current_trace, open_span

if TYPE_CHECKING:
    from loguru import Message

_RECEIVE_BYTES = 262_144
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(connection: socket.socket, output_fd: int, life_fd: int, log_level: str, recorder: str = "") -> NoReturn:
    """Be a child: answer the calls that arrive on ``connection``, with stdout and stderr going to ``output_fd``.

    ``life_fd`` is the reading end of a pipe that only the worker has the other end of. ``recorder`` is the module that
    records spans, where there are any.
    """
    _take_output(output_fd)
    _watch_life(life_fd)
    _ignore_signals()
    adopt_orphans()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # else every fork would draw the same numbers
    child = _Child(connection, importlib.import_module(recorder) if recorder else None)
    _take_logs(child, log_level)
    threading.Thread(target=child.listen, daemon=True, name="pool").start()
    try:
        child.lifespans.begin()
    except LifespanFailed as error:
        child.log("ERROR", str(error))
        os._exit(70)
    child.send(Kind.READY, os.getpid())
    while (call := child.calls.get()) is not None:
        child.run(*call)
    child.lifespans.end()
    _flush_output()
    os._exit(0)


class _Child:
    """Answers calls; ``surroundings`` is what one must leave to the next."""

    def __init__(self, connection: socket.socket, recorder: Any = None) -> None:
        self.calls: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        """What to run; None when it is to end."""
        self.lifespans = ChildLifespans(declared_lifespans)
        self._connection = connection
        self._sending = threading.Lock()
        self._running = 0
        self._stopped = 0
        self._log_allowance = Allowance(burst=1_000, per_s=100)
        self._span_allowance = Allowance(burst=1_000, per_s=100)
        self._recorder = recorder
        if recorder is not None:
            recorder.send_spans(self._send_span)
        self._surroundings: Surroundings | None = None
        self._asking = threading.Lock()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        frame = encode_frame(kind, number, body)
        try:
            with self._sending:
                self._connection.sendall(frame)
        except OSError:
            os._exit(0)

    def listen(self) -> None:
        reader = FrameReader()
        try:
            while data := self._connection.recv(_RECEIVE_BYTES):
                for kind, number, body in reader.feed(data):
                    if kind is Kind.CALL:
                        self.send(Kind.STARTED, number)
                        self.calls.put((number, body))
                    elif kind is Kind.STOP:
                        self._stopped = number
                    elif kind is Kind.ANSWER:
                        self._answers.put(body)
                    elif kind is Kind.LEAVE:
                        self.calls.put(None)
        finally:
            os._exit(0)

    def run(self, number: int, body: bytes) -> None:
        if self._surroundings is None:
            self._surroundings = Surroundings()
        self._running = number
        progress_allowance = Allowance(burst=100, per_s=50)

        def send_progress(stage: str, message: str, data: Any, fraction: float | None) -> None:
            if self._running == number and progress_allowance.take():
                update = Progress(stage, message, data, None if fraction is None else float(fraction))
                self.send(Kind.PROGRESS, number, _encode(update))

        try:
            call = msgspec.msgpack.decode(body, type=Call)
            context = Context(
                task_id=call.task.task_id,
                task_type=call.task.task_type,
                delivery=call.task.delivery,
                lease_id=call.task.lease_id,
                last_error=call.task.last_error,
                logger=logger,
                progress=send_progress,
                is_cancelled=lambda: self._stopped >= number,
                enqueue=functools.partial(self.ask, number),
                parent_id=call.task.parent_id,
                state=self.lifespans.given.state,
                bind=lambda fields: self.bind(number, fields),
            )
            with self._within(call.task.trace):
                kind, answer = _answer(call, context, self.lifespans.given)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome, SystemExit too
            kind, answer = _failure(leaf(error))
        _flush_output()
        spoiled = self._surroundings.restore()
        if spoiled:
            self.send(Kind.SPOILED, number, msgspec.msgpack.encode(spoiled))
        if self._log_allowance.refused:
            refused, self._log_allowance.refused = self._log_allowance.refused, 0
            self._send_line("WARNING", f"({refused} more log records were dropped)")
        self._running = 0
        self.send(kind, number, answer)

    def ask(self, number: int, word: str, fields: dict[str, Any]) -> str:
        """Have the worker enqueue a task or a group at the end of the running one; its id."""
        try:
            encoded = msgspec.json.encode(fields, enc_hook=_plain_task)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EnqueueInvalid(f"args must be encodable as JSON, were not: {error}; pass JSON values") from None
        with self._asking:
            if self._running != number:
                raise EnqueueInvalid("context.enqueue must be called while its task runs, was called afterwards")
            self.send(Kind.ASK, number, msgspec.msgpack.encode(Ask(word, encoded, current_trace())))
            answer = msgspec.msgpack.decode(self._answers.get(), type=Answer)
        if answer.error_type:
            raise getattr(errors, answer.error_type, ExecutionFailed)(answer.error)
        return str(answer.value)

    @contextlib.contextmanager
    def _within(self, place: Trace | None) -> Iterator[None]:
        passed_on = carried.set(place)
        try:
            with self._recorder.part_of(place) if self._recorder is not None else contextlib.nullcontext():
                yield
        finally:
            carried.reset(passed_on)

    def _send_span(self, body: bytes) -> None:
        if self._span_allowance.take():
            self.send(Kind.SPAN, self._running, body)

    def bind(self, number: int, fields: dict[str, Any]) -> None:
        """Let further lines about the running task carry these fields."""
        self.ask(number, "bind", fields)

    def log(self, level: str, message: str) -> None:
        if self._log_allowance.take():
            self._send_line(level, message)

    def _send_line(self, level: str, message: str) -> None:
        line = Line(level, message[:TEXT_CHARACTERS].encode(errors="replace").decode(), time.time(), open_span())
        self.send(Kind.LOG, self._running, msgspec.msgpack.encode(line))


def _answer(call: Call, context: Context, given: Given) -> tuple[Kind, bytes]:
    if call.convert:
        handler = _handler(call.function)
        wanted = handler.signature.injected
        named = given.by_type(f"handler {call.task.task_type}", wanted) if wanted else NOTHING_GIVEN
        result = handler.invoke(call.arguments[0], context, named)
    else:
        result = _resolve(call.function)(*call.arguments, context)
    if isinstance(result, Retry):
        raise result
    # A handler's own result goes on as the JSON that it will be; a part of one is a value to go on with.
    body = encode(result) if call.convert else _encode(result)
    if len(body) > MAX_BODY_BYTES:
        raise ResultInvalid(f"result must be at most {MAX_BODY_BYTES} bytes, was {len(body)}; return less")
    return Kind.RESULT, body


def _plain_task(value: Any) -> Any:
    # A task of a typed handler knows by a function what it returns: that is for who enqueues it, not for the task.
    return None if callable(value) else plain(value)


@functools.cache
def _resolve(name: str) -> Callable[..., Any]:
    module, _, path = name.partition(":")
    target: Any = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    if not callable(target):
        raise TypeError(f"function must be callable, {name} was {type(target).__name__}")
    return target  # type: ignore[no-any-return]


@functools.cache
def _handler(name: str) -> Handler:
    found: Any = _resolve(name)
    return found if isinstance(found, Handler) else Handler(name, found, runs_in="process")


def _encode(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value, enc_hook=plain)
    except TypeError as error:
        raise TypeError(f"a result must be JSON-like values and bytes, {error}; convert it") from None


def _failure(error: BaseException) -> tuple[Kind, bytes]:
    if isinstance(error, Retry):
        return Kind.RETRY, msgspec.msgpack.encode((error.delay_s, error.reason))
    if isinstance(error, RequestDeclined):
        family = "declined"
    elif isinstance(error, TaskInvalid):
        family = "invalid"
    elif isinstance(error, ResultInvalid):
        family = "result"
    else:
        family = "raised"
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename == __file__:
        place = place.tb_next
    return Kind.FAILURE, msgspec.msgpack.encode(Failure(family, *told(error, place), kinds_of(type(error))))


def _ignore_signals() -> None:
    # By a function, not by SIG_IGN, which would pass on to every program that a task starts: those could not be ended.
    for number in _IGNORED:
        signal.signal(number, _ignore)
    # A signal to a process that a task forks must not be met by that function.
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_heed_signals)


def _ignore(number: int, frame: object) -> None:
    """Leave signals to the worker: it says when a child is to end."""


def _heed_signals() -> None:
    for number in _IGNORED:
        if signal.getsignal(number) is _ignore:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    _let_signals()


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)


def _take_output(output_fd: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.close(nothing)
    os.close(output_fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable(all_threads=False)


_fflush = ctypes.CDLL(None).fflush


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # a handler may have closed or replaced it
    _fflush(None)


def _watch_life(life_fd: int) -> None:
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        # Opened anew: the owner of SIGIO belongs to the open file, and all children inherited one and the same.
        life = os.open(f"/proc/self/fd/{life_fd}", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except OSError:
        pass  # a system without these: the listening thread is left
    os.close(life_fd)


class _LogHandler(logging.Handler):
    def __init__(self, child: _Child) -> None:
        super().__init__()
        self._child = child

    def emit(self, record: logging.LogRecord) -> None:
        text = message_of(record)
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        self._child.log(level_of(record), text)


def _take_logs(child: _Child, log_level: str) -> None:
    def send(message: Message) -> None:
        child.log(message.record["level"].name, str(message).rstrip("\n"))

    logger.remove()
    logger.add(send, level=log_level, format="{message}", backtrace=False, diagnose=False)
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.addHandler(_LogHandler(child))
    # The standard library has neither TRACE nor SUCCESS.
    root.setLevel({"TRACE": 5, "SUCCESS": 25}.get(log_level, log_level))
