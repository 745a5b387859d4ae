"""What is enqueued, and what a producer holds afterwards: a handle whose result is of the handler's own type."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_origin

import msgspec

from aworker.client.later import Instant
from aworker.client.pushing import Conflict, Until
from aworker.encoding import made
from aworker.errors import ResultInvalid, TaskFailed, TaskUnfinished

if TYPE_CHECKING:
    from aworker.client.client import Client
    from aworker.client.synchronous import SyncClient
    from aworker.queues.hand.cancel import Found

Result = TypeVar("Result")
OWN_FIELDS = frozenset({"execution_time_seconds", "worker_id", "queue_type", "priority", "completed_at"})
"""What the worker adds to the fields of a result."""


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task for `Client.enqueue_many`, with what `Client.enqueue` takes."""

    task_type: str
    args: Any = None
    """A mapping, or an object that JSON has a word for: Struct, dataclass, model."""
    task_id: str | None = None
    priority: str | None = None
    queue: str | None = None
    """A level's label or its list."""
    delay_s: float | None = None
    at: Instant | None = None
    unique_key: str | None = None
    unique_for_s: float | None = None
    unique_until: Until | None = None
    on_conflict: Conflict = "keep"
    debounce_s: float | None = None
    then: Sequence[Any] = ()
    """What comes next, each a `NewTask`, one after the other, each when the one before it has completed."""
    result_as: str | None = None
    """Where it comes next in a chain: the argument that takes the result of the task before it."""


class Call(NewTask, Generic[Result], frozen=True, kw_only=True):
    """A task of a typed handler that is not enqueued yet."""

    returns: Callable[[], Any]
    """Says the type of its result."""


class _Enqueued(Generic[Result]):
    def __init__(self, client: Any, task_id: str, returns: Callable[[], Any]) -> None:
        self._client = client
        self._returns = returns
        self.task_id = task_id

    def __repr__(self) -> str:
        return f"<task {self.task_id}>"

    def _value(self, record: dict[str, Any] | None) -> Any:
        return value_of(self.task_id, record, self._returns())


class EnqueuedTask(_Enqueued[Result]):
    """A task that a `Client` has enqueued."""

    _client: Client

    async def result(self, *, wait_s: float | None = None) -> Result:
        """Wait for the task to end, at most ``wait_s`` seconds, and return what its handler returned.

        Raises TaskFailed where it ended as an error, TaskUnfinished where it has not ended in time, ResultInvalid where
        the result is not of the declared type, QueueUnavailable.
        """
        return self._value(await self.record(wait_s=math.inf if wait_s is None else wait_s))  # type: ignore[no-any-return]

    async def record(self, *, wait_s: float = 0.0) -> dict[str, Any] | None:
        """Return the task's record, as `Client.result` does."""
        return await self._client.result(self.task_id, wait_s=wait_s)

    async def cancel(self) -> Found:
        """Cancel it, as `Client.cancel` does."""
        return await self._client.cancel(self.task_id)


class SyncEnqueuedTask(_Enqueued[Result]):
    """A task that a `SyncClient` has enqueued."""

    _client: SyncClient

    def result(self, *, wait_s: float | None = None) -> Result:
        """Wait for the task to end and return what its handler returned; raises as `EnqueuedTask.result` does."""
        return self._value(self.record(wait_s=math.inf if wait_s is None else wait_s))  # type: ignore[no-any-return]

    def record(self, *, wait_s: float = 0.0) -> dict[str, Any] | None:
        """Return the task's record, as `SyncClient.result` does."""
        return self._client.result(self.task_id, wait_s=wait_s)

    def cancel(self) -> Found:
        """Cancel it, as `SyncClient.cancel` does."""
        return self._client.cancel(self.task_id)


def value_of(task_id: str, record: dict[str, Any] | None, returns: Any) -> Any:
    """Return what the handler returned, as a type. Raises TaskFailed, TaskUnfinished, ResultInvalid."""
    status = None if record is None else record.get("status")
    data = record.get("data") if record is not None else None
    data = data if isinstance(data, dict) else {}
    if status in ("error", "failed"):
        raise TaskFailed(
            str(data.get("error", "the task failed")), task_id=task_id, error_type=str(data.get("error_type", ""))
        )
    if status != "completed":
        raise TaskUnfinished(f"task {task_id} must have ended, was {status or 'without a record'}; wait longer for it")
    fields = {name: value for name, value in data.items() if name not in OWN_FIELDS}
    candidates = [fields, data]
    meant: Any = fields
    if fields.keys() == {"result"}:
        meant = fields["result"]
        # What is no object stands under ``result``; an object may have a field of that name too.
        candidates.insert(0 if _may_be_no_object(returns) else 1, meant)
    wrong: Exception | None = None
    for candidate in candidates:
        try:
            return msgspec.convert(candidate, returns, dec_hook=made)
        except (msgspec.ValidationError, TypeError, RecursionError) as error:
            wrong = error if wrong is None or candidate is meant else wrong
    raise ResultInvalid(
        f"the result of task {task_id} must fit the type that its handler declares ({wrong}); correct one of them"
    )


def _may_be_no_object(returns: Any) -> bool:
    return returns in (Any, object) or get_origin(returns) in (Union, types.UnionType)
