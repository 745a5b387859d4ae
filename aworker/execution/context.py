"""What a handler is handed beside its arguments.

`Context` is the same to a coroutine in the loop and to a function in a child process, but for `offload`, which only
the loop has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aworker.errors import ExecutionFailed

if TYPE_CHECKING:
    import loguru

ProgressSink = Callable[[str, str, Any, "float | None"], None]
"""Takes (stage, message, data, fraction): publishes it, or sends it to the parent. Never blocks."""


class Offload(Protocol):
    """Runs ``function(*args, context)`` in a child process and returns its decoded result."""

    async def __call__(self, function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any: ...


class Context:
    """One delivery of one task, seen by its handler."""

    __slots__ = (
        "_is_cancelled",
        "_logger",
        "_offload",
        "_progress",
        "delivery",
        "last_error",
        "lease_id",
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

    @property
    def logger(self) -> loguru.Logger:
        """A logger whose lines carry the task's id."""
        return self._logger.bind(task_id=self.task_id, task_type=self.task_type)

    @property
    def cancelled(self) -> bool:
        """Whether the task was asked to stop: return early, the result is dropped."""
        return self._is_cancelled()

    def progress(self, stage: str, message: str, data: Any = None, fraction: float | None = None) -> None:
        """Publish how far the task is; ``fraction`` runs from 0 to 1.

        Raises TypeError when ``data`` is nothing that JSON can say.
        """
        self._progress(stage, message, data, fraction)

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
