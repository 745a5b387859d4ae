"""What a handler is handed beside its arguments.

`Context` is the same to a coroutine in the loop and to a function in a child process, but for `offload`, which only
the loop has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aworker.errors import EnqueueInvalid, ExecutionFailed
from aworker.execution.state import State

if TYPE_CHECKING:
    import loguru

ProgressSink = Callable[[str, str, Any, "float | None"], None]
"""Takes (stage, message, data, fraction): publishes it, or sends it to the parent. Never blocks."""


class Offload(Protocol):
    """Runs ``function(*args, context)`` in a child process and returns its decoded result."""

    async def __call__(self, function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any: ...


Enqueue = Callable[[str, dict[str, Any]], str]
"""Takes ``enqueue`` or ``enqueue_group`` and what it was given by name; returns the id. Raises EnqueueInvalid."""


OWN_FIELDS = frozenset({"task_id", "task_type", "queue", "delivery", "slot", "trace_id", "worker_id", "pid"})
"""Fields of a task's lines in the log that nobody else sets."""


_NO_STATE = State()


def _bind_nothing(fields: dict[str, Any]) -> None:
    """Leave the lines as they are: they are nobody's."""


def _refuse(word: str, fields: dict[str, Any]) -> str:
    raise EnqueueInvalid("context.enqueue must be called in a worker, was called where there is none")


class Context:
    """One delivery of one task, seen by its handler."""

    __slots__ = (
        "_bind",
        "_bound",
        "_enqueue",
        "_is_cancelled",
        "_logger",
        "_offload",
        "_progress",
        "delivery",
        "last_error",
        "lease_id",
        "parent_id",
        "state",
        "task_id",
        "task_type",
    )

    def __init__(
        self,
        *,
        task_id: str,
        task_type: str,
        delivery: int,
        lease_id: int,
        logger: loguru.Logger,
        progress: ProgressSink,
        is_cancelled: Callable[[], bool],
        last_error: str | None = None,
        offload: Offload | None = None,
        enqueue: Enqueue = _refuse,
        parent_id: str | None = None,
        state: State | None = None,
        bind: Callable[[dict[str, Any]], None] = _bind_nothing,
    ) -> None:
        self.task_id = task_id
        self.task_type = task_type
        self.delivery = delivery
        """Times the task was handed out, from 1."""
        self.last_error = last_error
        """What the try before this one ended with, as ``ValueError: its text``; None on the first."""
        self.lease_id = lease_id
        """The fencing token of this delivery: larger than that of every earlier one."""
        self._logger = logger
        self._progress = progress
        self._is_cancelled = is_cancelled
        self._offload = offload
        self._enqueue = enqueue
        self.parent_id = parent_id
        """The task whose handler enqueued this one; None where it was somebody else."""
        self.state = _NO_STATE if state is None else state
        """What the process's lifespans yielded, by name."""
        self._bind = bind
        self._bound: dict[str, Any] | None = None

    @property
    def logger(self) -> loguru.Logger:
        """A logger whose lines carry the task's id, and what `bind` has added."""
        return self._logger.bind(**(self._bound or {}), task_id=self.task_id, task_type=self.task_type)

    log = logger

    def bind(self, **fields: Any) -> None:
        """Let all further lines of the log about this task carry these fields, whoever writes them.

        Raises TypeError for a field that is the task's own.
        """
        if taken := OWN_FIELDS & fields.keys():
            raise TypeError(
                f"context.bind must not set {', '.join(sorted(taken))}, which tell the task; name it otherwise"
            )
        self._bound = {**(self._bound or {}), **fields}
        self._bind(fields)

    @property
    def cancelled(self) -> bool:
        """Whether the task was asked to stop: return early, the result is dropped."""
        return self._is_cancelled()

    def progress(self, stage: str, message: str, data: Any = None, fraction: float | None = None) -> None:
        """Publish how far the task is; ``fraction`` runs from 0 to 1.

        Raises TypeError when ``data`` is nothing that JSON can say.
        """
        self._progress(stage, message, data, fraction)

    def enqueue(
        self,
        task_type: str,
        args: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        queue: str | None = None,
        delay_s: float | None = None,
        at: datetime | float | str | None = None,
        unique_key: str | None = None,
        unique_for_s: float | None = None,
        unique_until: Literal["started", "ended", "time"] | None = None,
        on_conflict: Literal["keep", "replace", "stop"] = "keep",
        debounce_s: float | None = None,
        then: Sequence[Any] = (),
    ) -> str:
        """Enqueue a task together with this one's own end, and return its task_id; nothing is sent before.

        It is written in the same step in which this task completes, so that neither is there without the other, and
        not at all where this task ends in any other way: it failed, is tried again, was cancelled, gave its lease up.
        It carries this task's id as ``parent_id``, and its trace. A delay counts from that step on. Everything else is
        as in `Client.enqueue`; where ``unique_key`` has a task already there is none of the returned id.

        Raises EnqueueInvalid for a task that no worker would take.
        """
        fields = {
            "task_type": task_type,
            "args": args,
            "task_id": task_id,
            "priority": priority,
            "queue": queue,
            "delay_s": delay_s,
            "at": at,
            "unique_key": unique_key,
            "unique_for_s": unique_for_s,
            "unique_until": unique_until,
            "on_conflict": on_conflict,
            "debounce_s": debounce_s,
            "then": then or None,
        }
        return self._enqueue("enqueue", {name: value for name, value in fields.items() if value is not None})

    def enqueue_group(self, tasks: Iterable[Any], then: Any, *, group_id: str | None = None) -> str:
        """Enqueue tasks, and ``then`` when all of them have ended, together with this task's own end.

        Each is a `NewTask` or (task_type, args). Returns the group's id; the rest is as in `enqueue` and in
        `Client.enqueue_group`. Raises EnqueueInvalid.
        """
        fields = {"tasks": list(tasks), "then": then, "group_id": group_id}
        return self._enqueue("enqueue_group", fields)

    async def offload(self, function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any:
        """Run ``function(*args, context)`` in a child process and return its result.

        ``function`` is a module-level function or its name as ``"package.module:function"`` (then its module is
        imported in the child only). Arguments and result pass as msgpack: JSON-like values and bytes. A ``chunk``
        is a part of batch work: with two or more children one of them never takes any.

        Raises HandlerRaised, RequestDeclined, ChildDied as the child's function does.
        """
        if self._offload is None:
            raise ExecutionFailed("context.offload must be called in the worker's loop, was called in a child process")
        return await self._offload(function, *args, chunk=chunk)
