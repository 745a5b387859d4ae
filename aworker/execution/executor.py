"""Running one task and telling how it ended: a handler's exception becomes an Outcome and goes no further.

A `Run` is one delivery being worked on. Who wants it to stop says why; the reason decides the outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import msgspec
from loguru import logger

from aworker.clock import now_s
from aworker.config import LiveConfig
from aworker.encoding import as_object, encode
from aworker.errors import (
    ChildDied,
    ChildOutOfMemory,
    EnqueueInvalid,
    ExecutionFailed,
    HandlerTimedOut,
    RequestDeclined,
    ResultInvalid,
    TaskInvalid,
)
from aworker.execution.context import Context, ProgressSink
from aworker.execution.failure import leaf, told
from aworker.execution.lifespan import NOTHING_GIVEN, Given
from aworker.execution.middleware import Around, Middleware
from aworker.execution.policy import RetryPolicy, kinds_of
from aworker.execution.pool.frames import TaskInfo
from aworker.execution.pool.parent import Pool, RaisedInChild
from aworker.execution.registry import Handler
from aworker.execution.retry import Retry
from aworker.execution.state import State
from aworker.execution.steps import stepped
from aworker.lease import Lease
from aworker.logs import running_task
from aworker.metrics import tally
from aworker.outcome import Completed, Enqueued, Failed, Lost, Outcome, Rejected, Retried, Returned
from aworker.task import Task
from aworker.traceparent import Trace, carried, current_trace

ENQUEUED_MOST = 10_000
_TIMED_OUT = (*kinds_of(HandlerTimedOut), *kinds_of(TimeoutError))


class Outbox(Protocol):
    """Makes tasks of what handlers enqueue."""

    def compose(self, parent: Task, word: str, fields: Mapping[str, Any]) -> Any:
        """Return a task, or a group, with its ``task_id``, as `addressed` takes it. Raises EnqueueInvalid."""

    def next_of(self, task: Task, result: Any) -> Any:
        """Return what comes next in the chain of a task that has completed, or None. Raises EnqueueInvalid."""

    async def addressed(self, composed: Sequence[Any]) -> tuple[Enqueued, ...]:
        """Return the tasks with the lists that they go to, now that they are to go."""


class Run:
    """One task being executed; `stop` ends it with an outcome of its own.

    ``scope`` is the cancel scope that the caller runs it in, and leaves when it is cancelled.
    """

    __slots__ = (
        "composed",
        "context",
        "fields",
        "handler",
        "is_over",
        "is_stopped",
        "lease",
        "owner",
        "scope",
        "stopped_with",
        "task",
    )

    def __init__(self, task: Task, lease: Lease, handler: Handler, scope: anyio.CancelScope, slot: int = 0) -> None:
        self.task = task
        self.lease = lease
        self.handler = handler
        self.scope = scope
        self.owner: asyncio.Task[Any] | None = None
        """The loop's task that runs the handler, once it does."""
        self.stopped_with: Outcome | None = None
        self.is_stopped = False
        self.is_over = False
        self.context: Context | None = None
        """Where middleware has made one."""
        self.composed: list[Any] = []
        """What the handler has enqueued so far."""
        self.fields = log_fields(task, lease, slot)
        """What its lines in the log carry."""
        lease.on_lost = self._lost

    def stop(self, outcome: Outcome) -> None:
        """Cancel the handler; the first reason given counts, but a lost lease outdoes every other."""
        if self.stopped_with is None or isinstance(outcome, Lost):
            self.stopped_with = outcome
        self.is_stopped = True
        self.scope.cancel()

    def stopped_by(self) -> str:
        """Say in a word who stopped it, for who counts the children that had to be killed for it."""
        outcome = self.stopped_with
        if isinstance(outcome, Failed):
            return "timed_out" if outcome.error_type == HandlerTimedOut.__name__ else "cancelled"
        if isinstance(outcome, Lost):
            return "lease_lost"
        return "released" if isinstance(outcome, Returned) else "cancelled"

    def holds_loop(self, held_s: float) -> None:
        """Note that the handler held the loop for long."""
        tally.hold(self.task.task_type, held_s)

    def _lost(self) -> None:
        self.stop(Lost())


def log_fields(task: Task, lease: Lease, slot: int) -> dict[str, Any]:
    """Return what every line of the log about one delivery carries."""
    return {
        "task_id": task.task_id,
        "task_type": task.task_type,
        "queue": lease.label,
        "delivery": lease.delivery,
        "slot": slot,
        "trace_id": task.trace_id if lease.span is None else lease.span.trace_id,
        "span_id": None if lease.span is None else lease.span.span_id,
    }


class Executor:
    """Runs handlers in the loop or in the pool."""

    def __init__(self, live: LiveConfig, pool: Pool | None, outbox: Outbox | None = None) -> None:
        self._live = live
        self._pool = pool
        self._outbox = outbox
        self._middleware: tuple[Middleware, ...] = ()
        self._state: State | None = None
        self._given_to = NOTHING_GIVEN

    def surround(
        self, middleware: Sequence[Middleware], given: Given, given_to: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Run tasks in middleware, and with what lifespans yielded; ``given_to``: by task type, what by name."""
        self._middleware = tuple(middleware)
        self._state = given.state
        self._given_to = given_to

    async def execute(self, run: Run, progress: ProgressSink) -> Outcome:
        """Run a handler to its end, its timeout or its stop, inside ``run.scope``, and return the outcome.

        Whatever a handler raises or returns is an outcome; so is a fault of this code itself, which is logged.
        """
        named = running_task.set(run.fields)
        task, span = run.task, run.lease.span
        came_with = None if task.traceparent is None else Trace(task.traceparent, task.tracestate)
        passed_on = carried.set(came_with)
        entered = None if span is None else span.enter()
        try:
            outcome = await (self._around(run, progress) if self._middleware else self._ended(run, progress))
            return await self._with_enqueued(run, outcome) if run.composed or run.task.flow else outcome
        except Exception as error:  # noqa: BLE001 - the last net: no fault may end the slot
            name, message, trace = told(error)
            logger.error(f"A fault of aworker itself ends a {run.task.task_type} task, please report it:\n{trace}")
            text = f"aworker itself failed on this task: {name}: {message}"
            return Failed(text, "InternalError", dead_letter="internal_error", cause=trace)
        finally:
            run.is_over = True
            if span is not None:
                span.leave(entered)
            carried.reset(passed_on)
            running_task.reset(named)

    async def _around(self, run: Run, progress: ProgressSink) -> Outcome:
        """Run middleware, and the handler in a scope of its own, so that what stops it lets middleware end."""
        run.context = self._context(run, progress)

        async def innermost() -> Outcome:
            with anyio.CancelScope() as run.scope:
                if run.is_stopped:
                    run.scope.cancel()
                return await self._ended(run, progress)
            raise AssertionError("a stop is an outcome")

        def raised(error: BaseException) -> Outcome:
            return self._retried(run, _outcome_of(leaf(error)))

        layers = Around(
            self._middleware, run.task.args, run.context, innermost, lambda retry: self._asked_again(run, retry), raised
        )
        try:
            outcome = await layers.run()
        except asyncio.CancelledError:
            if run.stopped_with is None:
                raise
            outcome = run.stopped_with
        # What was stopped from outside stays as it is, whatever middleware makes of it.
        is_final = isinstance(run.stopped_with, Lost) or (
            isinstance(run.stopped_with, Failed) and run.stopped_with.error_type != HandlerTimedOut.__name__
        )
        return run.stopped_with if is_final and run.stopped_with is not None else outcome

    async def _ended(self, run: Run, progress: ProgressSink) -> Outcome:
        task, handler = run.task, run.handler
        run.owner = asyncio.current_task()
        timeout_s = self._timeout_s(handler)
        timer: asyncio.TimerHandle | None = None
        if timeout_s:
            timed_out = Failed(
                f"{task.task_type} must end within {timeout_s:g} s, did not; raise tasks.{task.task_type}.timeout_s",
                HandlerTimedOut.__name__,
                dead_letter="handler_timed_out",
                kinds=_TIMED_OUT,
            )
            timer = asyncio.get_running_loop().call_later(timeout_s, run.stop, timed_out)
        outcome: Outcome | None = None
        try:
            outcome = await self._call(run, progress)
        except asyncio.CancelledError:
            if not run.is_stopped:
                raise
        finally:
            if timer is not None:
                timer.cancel()
        # A result that came in spite of a stop counts only where the task would have to run again for it.
        keeps = isinstance(run.stopped_with, Returned) and outcome is not None
        if run.stopped_with is not None and not keeps:
            outcome = run.stopped_with
        assert outcome is not None
        return self._retried(run, outcome)

    async def _with_enqueued(self, run: Run, outcome: Outcome) -> Outcome:
        composed, run.composed = run.composed, []
        if not isinstance(outcome, Completed) or self._outbox is None:
            if composed:
                logger.debug(f"{len(composed)} tasks that it enqueued are dropped with it: it did not complete")
            return outcome
        flow = run.task.flow
        if flow is not None and flow.next:
            try:
                result = msgspec.Raw(encode(outcome.result)) if flow.next[0].result_as else None
                composed.append(self._outbox.next_of(run.task, result))
            except (EnqueueInvalid, ResultInvalid) as error:
                return self._retried(run, _raised(error))
        with anyio.CancelScope(shield=True):
            enqueued = await self._outbox.addressed(composed)
        return Completed(outcome.result, enqueued)

    def _enqueue(self, run: Run, into: list[Any], word: str, fields: Mapping[str, Any]) -> str:
        if run.is_over:
            raise EnqueueInvalid("context.enqueue must be called while its task runs, was called afterwards")
        if self._outbox is None:
            raise EnqueueInvalid("context.enqueue must be called in a worker, was called where there is none")
        if len(run.composed) + len(into) >= ENQUEUED_MOST:
            raise EnqueueInvalid(f"a task must enqueue at most {ENQUEUED_MOST:,} tasks; let one of them go on with it")
        composed = self._outbox.compose(run.task, word, fields)
        into.append(composed)
        return str(composed.task_id)

    def _timeout_s(self, handler: Handler) -> float:
        timeout_s = self._live.value.task(handler.task_type).timeout_s
        return (handler.timeout_s or 0.0) if timeout_s is None else timeout_s

    async def _call(self, run: Run, progress: ProgressSink) -> Outcome:
        task, handler = run.task, run.handler
        try:
            if handler.runs_in == "process":
                result = await self._in_child(run, handler.reference, (task.args,), progress, is_handler=True)
            else:
                context = run.context or self._context(run, progress)
                given = self._given_to.get(task.task_type)
                called = handler.invoke(task.args, context, given) if given else handler.invoke(task.args, context)
                result = await stepped(called, run.holds_loop)
            if isinstance(result, Retry):
                return self._asked_again(run, result)
            return Completed(as_object(result))
        except asyncio.CancelledError as error:
            if run.is_stopped:
                raise
            # Raised by the handler, or by a cancel of its own task: that must not end the slot. A cancel from outside
            # comes by a scope and is raised here again.
            await anyio.lowlevel.checkpoint_if_cancelled()
            _forget_cancels()
            return _raised(error)
        except GeneratorExit as error:
            if not _runs(run.owner):
                raise  # nobody raised it: the loop is closed with this coroutine in it
            return _raised(error)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            told_most = leaf(error)
            if isinstance(told_most, Retry):
                return self._asked_again(run, told_most)
            if isinstance(told_most, ChildDied) and not isinstance(told_most, ChildOutOfMemory):
                # What crashed at once would crash again at once.
                return Returned(str(told_most), counted=True, delay_s=RetryPolicy().wait_s(run.lease.delivery))
            return _outcome_of(told_most)

    def _asked_again(self, run: Run, retry: Retry) -> Outcome:
        worker = self._live.value.worker
        delay_s = run.handler.policy.wait_s(run.lease.delivery) if retry.delay_s is None else retry.delay_s
        if delay_s > worker.max_retry_delay_s:
            text = f"Retry.delay_s must be <= worker.max_retry_delay_s ({worker.max_retry_delay_s:g}), was {delay_s:g}"
            return Failed(f"{text}; ask for less or raise it", "ValueError", dead_letter="handler_raised")
        if run.lease.delivery > worker.max_retries:
            text = f"gave up after {run.lease.delivery} deliveries (worker.max_retries): {retry.reason}"
            return Failed(text, "DeliveriesExhausted", dead_letter="deliveries_exhausted", cause=retry.reason)
        if _is_too_late(run, delay_s):
            text = f"gave up after {run.handler.policy.give_up_after_s:g} s (give_up_after_s): {retry.reason}"
            return Failed(text, "DeliveriesExhausted", dead_letter="deliveries_exhausted", cause=retry.reason)
        return Retried(retry.reason, delay_s)

    def _context(self, run: Run, progress: ProgressSink) -> Context:
        async def offload(function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any:
            return await self._in_child(run, function, args, progress, chunk=chunk)

        def enqueue(word: str, fields: dict[str, Any]) -> str:
            return self._enqueue(run, run.composed, word, fields)

        return Context(
            task_id=run.task.task_id,
            task_type=run.task.task_type,
            delivery=run.lease.delivery,
            lease_id=run.lease.lease_id,
            last_error=run.lease.last_error,
            logger=logger,
            progress=progress,
            is_cancelled=lambda: run.is_stopped,
            offload=offload,
            enqueue=enqueue,
            parent_id=run.task.parent_id,
            state=self._state,
            bind=run.fields.update,
        )

    async def _in_child(
        self,
        run: Run,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        progress: ProgressSink,
        *,
        chunk: bool = False,
        is_handler: bool = False,
    ) -> Any:
        if self._pool is None:
            raise ChildDied("there is no process pool: no handler was declared to use it")
        lease, task = run.lease, run.task
        info = TaskInfo(
            task.task_id,
            task.task_type,
            lease.delivery,
            lease.lease_id,
            lease.last_error,
            task.parent_id,
            current_trace(),
        )
        composed: list[Any] = []

        def answer(word: str, fields: dict[str, Any]) -> Any:
            if word in ("enqueue", "enqueue_group"):
                return self._enqueue(run, composed, word, fields)
            if word == "bind":
                return run.fields.update(fields)
            raise ExecutionFailed(f"a child must ask what there is an answer to, asked {word!r}")

        result = await self._pool.call(
            function,
            args,
            task=info,
            level=run.lease.level,
            chunk=chunk,
            is_handler=is_handler,
            on_progress=progress,
            on_ask=answer,
            stopped_by=run.stopped_by,
        )
        run.composed += composed  # of a call that failed nothing counts
        return result

    def _retried(self, run: Run, outcome: Outcome) -> Outcome:
        if run.lease.span is not None:
            run.lease.span.note(outcome)
        if not isinstance(outcome, Failed) or not outcome.dead_letter:
            return outcome
        policy = run.handler.policy
        retries = self._live.value.task(run.task.task_type).retries
        if run.lease.delivery > (policy.retries if retries is None else retries) or not policy.covers(outcome.kinds):
            return outcome
        wait_s = policy.wait_s(run.lease.delivery)
        if _is_too_late(run, wait_s):
            return outcome
        return Retried(outcome.error, wait_s, outcome.error_type, why=outcome.dead_letter, exception=outcome.exception)


def _is_too_late(run: Run, wait_s: float) -> bool:
    give_up_after_s, now = run.handler.policy.give_up_after_s, now_s()
    first_failed_s = now if run.lease.first_failed_s is None else run.lease.first_failed_s
    return give_up_after_s > 0 and now + wait_s > first_failed_s + give_up_after_s


def _forget_cancels() -> None:
    current = asyncio.current_task()
    while current is not None and current.cancelling():
        current.uncancel()


def _runs(owner: asyncio.Task[Any] | None) -> bool:
    try:
        return owner is not None and asyncio.current_task() is owner
    except RuntimeError:
        return False  # no loop runs


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, ChildOutOfMemory):
        return Failed(
            str(error),
            type(error).__name__,
            dead_letter="child_out_of_memory",
            cause=str(error),
            kinds=(*kinds_of(type(error)), *kinds_of(MemoryError)),
        )
    if isinstance(error, RequestDeclined):
        return Failed(str(error), type(error).__name__)
    if isinstance(error, TaskInvalid):
        return Rejected(str(error), type(error).__name__)
    if isinstance(error, ResultInvalid):
        return Failed(str(error), type(error).__name__, dead_letter="result_invalid", kinds=kinds_of(type(error)))
    if isinstance(error, HandlerTimedOut):
        return Failed(str(error), type(error).__name__, dead_letter="handler_timed_out", kinds=_TIMED_OUT)
    if isinstance(error, RaisedInChild):
        return Failed(
            str(error), error.type_name, dead_letter="handler_raised", cause=error.traceback_text, kinds=error.kinds
        )
    return _raised(error)


def _raised(error: BaseException) -> Failed:
    name, text, trace = told(error)
    return Failed(
        f"{name}: {text}" if text else name,
        name,
        dead_letter="handler_raised",
        cause=trace,
        kinds=kinds_of(type(error)),
        exception=error,
    )
