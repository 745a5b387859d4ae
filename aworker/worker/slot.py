"""A slot: one of the worker's N cycles. Claim a task, execute it, settle it, again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from loguru import logger

from aworker.clock import now_s, parse_rfc3339
from aworker.config import LiveConfig
from aworker.errors import AworkerError, TaskInvalid, UnknownTaskType
from aworker.execution.executor import Executor, Run, log_fields
from aworker.execution.policy import Try
from aworker.execution.registry import Registry
from aworker.lease import Lease
from aworker.logs import one_line, say, says_info
from aworker.metrics import RETRIES, tally
from aworker.outcome import Completed, Duplicate, Failed, Lost, Outcome, Rejected, Retried, Returned
from aworker.queues.hand.cancel import CANCELLED_TEXT, CANCELLED_TYPE
from aworker.queues.queue import RUNS_NOW, Queue, Settled
from aworker.queues.upkeep.control import Control
from aworker.task import Task

if TYPE_CHECKING:
    from aworker.tracing.spans import Spans

DUPLICATE_WAIT_S = 1.0
CANCELLED = Failed(CANCELLED_TEXT, CANCELLED_TYPE)
LOST = Returned("its lease was lost", counted=False)
"""What a slot settles when the lease is gone: the fence refuses it, so it is written nowhere."""


class Slot:
    """Repeats the cycle until the queue says that the drain has begun.

    1. claim: the oldest task of the highest level, leased to this worker.
    2. decode, look for a handler, look for a duplicate.
    3. execute: the handler's end is an Outcome.
    4. settle: the outcome is written down with the next commit.
    """

    def __init__(
        self,
        live: LiveConfig,
        queue: Queue,
        registry: Registry,
        executor: Executor,
        runs: dict[int, Run],
        is_surplus: Callable[[], bool],
        control: Control,
        spans: Spans | None = None,
    ) -> None:
        self._live = live
        self._queue = queue
        self._registry = registry
        self._executor = executor
        self._runs = runs
        self._is_surplus = is_surplus
        self._control = control
        self._spans = spans

    async def run(self, number: int = 0) -> None:
        """Work until there is nothing more to claim, or there are more slots than configured.

        ``number`` is the slot's in the log, from 1.
        """
        is_over = False
        while not is_over:
            # One scope serves task after task until a task was stopped in it: making one for each costs 3 us.
            with anyio.CancelScope() as scope:
                is_over = await self._cycle(scope, number)

    async def _cycle(self, scope: anyio.CancelScope, number: int) -> bool:
        while not scope.cancel_called:
            if self._is_surplus():
                return True
            lease = await self._queue.claim()
            if lease is None:
                return True
            await self.work(lease, scope, number)
        return False

    async def work(self, lease: Lease, scope: anyio.CancelScope, number: int = 0) -> None:
        """Bring one leased task to its end inside ``scope``, which the caller leaves when it is cancelled."""
        tally.taken[lease.label] += 1
        if self._spans is not None:
            lease.span = self._spans.begin(lease, number)
        task = lease.task
        if not isinstance(task, Task):
            self._reject(lease, task)
            return
        handler = self._registry.get(task.task_type)
        if handler is None:
            known = ", ".join(sorted(one.task_type for one in self._registry)) or "none"
            self._reject(
                lease,
                UnknownTaskType(
                    f"task_type must be one of {known}, was {task.task_type!r}; "
                    f"{self._registry.advice.get(task.task_type, 'add a handler for it')}"
                ),
            )
            return
        refused = CANCELLED if self._control.is_cancelled(task.task_id) else self._expired(task)
        if refused is not None:
            self._settle(lease, task, refused, 0.0, log_fields(task, lease, number))
            return
        if lease.duplicate_of and self._live.value.task(task.task_type).duplicates == "drop":
            reason = await self._queue.duplicate_reason(lease, task)
            if reason is not None:
                if reason == RUNS_NOW and task.flow is not None and task.flow.group is not None:
                    # Its group waits for its end, which the one that runs may not be able to tell.
                    later = Retried("the same task_id runs now", DUPLICATE_WAIT_S)
                    self._settle(lease, task, later, 0.0, log_fields(task, lease, number))
                else:
                    self._drop(lease, task, reason, number)
                return
        if not await self._queue.holds(lease):
            self._settle(lease, task, LOST, 0.0, log_fields(task, lease, number))
            return
        if lease.delivery > 1:
            self._recall(lease, await self._queue.tries(lease))
        run = Run(task, lease, handler, scope, number)
        self._runs[lease.lease_id] = run
        if says_info():
            say(f"Processing {task.task_type} task {task.task_id} from {lease.label} queue", run.fields)
        self._queue.started(lease, task)
        created_at_s = task.created_at_s
        tally.started(task.task_type, lease.label, None if created_at_s is None else now_s() - created_at_s)
        started_at = time.monotonic()

        def progress(stage: str, message: str, data: Any, fraction: float | None) -> None:
            self._queue.progress(lease, task, stage, message, data, fraction)

        try:
            outcome = await self._executor.execute(run, progress)
        finally:
            del self._runs[lease.lease_id]
        elapsed_s = time.monotonic() - started_at
        if isinstance(outcome, Lost):
            outcome = LOST
        self._settle(lease, task, outcome, elapsed_s, run.fields)

    def _recall(self, lease: Lease, lines: list[bytes]) -> None:
        try:
            first, last = (msgspec.json.decode(lines[at], type=Try) for at in (0, -1))
        except (IndexError, msgspec.MsgspecError, UnicodeDecodeError):
            return
        lease.first_failed_s = parse_rfc3339(first.at)
        lease.last_error = last.error

    def _settle(self, lease: Lease, task: Task, outcome: Outcome, elapsed_s: float, fields: dict[str, Any]) -> None:
        def written(done: bool, final: Outcome) -> None:
            if final == CANCELLED:
                self._control.carried_out(task.task_id)
            _log_end(lease, task, final, elapsed_s, done, fields)

        self._write_down(lease, outcome, elapsed_s, written)

    def _write_down(self, lease: Lease, outcome: Outcome, elapsed_s: float, written: Settled) -> None:
        span = lease.span
        if span is None:
            self._queue.settle(lease, outcome, elapsed_s, written)
            return
        span.over()

        def ended(done: bool, final: Outcome) -> None:
            span.end(final, done)
            written(done, final)

        self._queue.settle(lease, outcome, elapsed_s, ended)

    def _expired(self, task: Task) -> Failed | None:
        expires_s = self._live.value.task(task.task_type).expires_s
        if not expires_s or (created_at_s := task.created_at_s) is None:
            return None
        waited_s = now_s() - created_at_s
        if waited_s <= expires_s:
            return None
        return Failed(
            f"{task.task_type} must start within {expires_s:g} s of its created_at, waited {waited_s:.0f} s; "
            "send it again if it is still wanted",
            "Expired",
        )

    def _reject(self, lease: Lease, error: TaskInvalid | AworkerError | None) -> None:
        outcome = Rejected(str(error), type(error).__name__)

        def written(done: bool, _: Outcome) -> None:
            tally.end("unknown", lease.label, "rejected")
            log = logger.bind(queue=lease.label, delivery=lease.delivery, error_type=outcome.error_type)
            log.warning(
                one_line(
                    f"Rejected a payload of {len(lease.payload)} bytes from {lease.label} queue into the dead letters"
                    f"{'' if done else ' (lease lost)'}: {error}"
                )
            )

        self._write_down(lease, outcome, 0.0, written)

    def _drop(self, lease: Lease, task: Task, reason: str, number: int) -> None:
        def written(done: bool, _: Outcome) -> None:
            tally.end(task.task_type, lease.label, "duplicate")
            logger.bind(**log_fields(task, lease, number)).warning(
                one_line(
                    f"Dropped {task.task_type} task {task.task_id} from {lease.label} queue as a duplicate: {reason}"
                )
            )

        self._write_down(lease, Duplicate(reason), 0.0, written)


_WORDS = {Completed: "completed", Failed: "failed", Rejected: "failed", Retried: "retried", Returned: "returned"}


def _log_end(lease: Lease, task: Task, outcome: Outcome, elapsed_s: float, done: bool, fields: dict[str, Any]) -> None:
    what = f"{task.task_type} task {task.task_id}"
    word = "lost" if not done else _WORDS.get(type(outcome), "returned")
    tally.end(task.task_type, lease.label, word, elapsed_s, task.task_id)
    if done and isinstance(outcome, Completed):
        if says_info():
            text = f"Completed {what} from {lease.label} queue in {elapsed_s:.1f}s"
            say(text, {**fields, "duration_s": round(elapsed_s, 6)})
        return
    error_type = getattr(outcome, "error_type", None)
    log = logger.bind(**fields, duration_s=round(elapsed_s, 6), error_type=error_type)
    if not done:
        log.warning(
            one_line(f"Dropped the outcome of {what}: its lease {lease.lease_id} is lost, another worker owns it")
        )
    elif isinstance(outcome, (Failed, Rejected)):
        log.error(one_line(f"Failed {what} from {lease.label} queue after {elapsed_s:.1f}s: {outcome.error}"))
    elif isinstance(outcome, Retried):
        tally.retried[task.task_type, outcome.why if outcome.why in RETRIES else "handler_raised"] += 1
        log.warning(one_line(f"Retrying {what} in {outcome.delay_s:.1f}s, delivery {lease.delivery}: {outcome.reason}"))
    elif isinstance(outcome, Returned):
        if outcome.counted:
            tally.retried[task.task_type, "child_died"] += 1
        log.warning(one_line(f"Returned {what} to {lease.label} queue, delivery {lease.delivery}: {outcome.reason}"))
