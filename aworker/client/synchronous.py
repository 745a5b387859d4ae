"""`Client` for programs without a loop: Django, Flask, scripts. The same names, each call done when it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

from aworker.client.blocking import BlockingRedis, finish
from aworker.client.client import Client, Updates
from aworker.client.enqueued import Call, NewTask, Result, SyncEnqueuedTask
from aworker.client.later import Instant
from aworker.client.pushing import Conflict, Until
from aworker.config import Config
from aworker.queues.connection import adopt, connect_blocking
from aworker.queues.hand.cancel import Found
from aworker.queues.hand.move import Moved

if TYPE_CHECKING:
    from aworker.client.flows import GroupState


class SyncClient:
    """Pushes tasks and reads results from any thread; as a context manager it closes its connections at the end.

    Threads share it, and processes that were forked after it was made: each has connections of its own. What a method
    takes, does and raises is told at the method of `Client` of the same name.
    """

    def __init__(
        self, url: str | None = None, *, config: Config | None = None, redis: redis.Redis | None = None
    ) -> None:
        """Connect with the first call, to ``url``, where the configuration says, or over a client that is there."""
        self._client = _OverBlocking(url, config=config, redis=redis)
        self.config = self._client.config

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless they were given."""
        finish(self._client.close())

    def enqueue(
        self,
        task_type: str,
        args: Any = None,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        queue: str | None = None,
        delay_s: float | None = None,
        at: Instant | None = None,
        unique_key: str | None = None,
        unique_for_s: float | None = None,
        unique_until: Until | None = None,
        on_conflict: Conflict = "keep",
        debounce_s: float | None = None,
        then: Sequence[NewTask] = (),
    ) -> str:
        """Push one task and return its task_id, as `Client.enqueue` does."""
        return finish(
            self._client.enqueue(
                task_type,
                args,
                task_id=task_id,
                priority=priority,
                queue=queue,
                delay_s=delay_s,
                at=at,
                unique_key=unique_key,
                unique_for_s=unique_for_s,
                unique_until=unique_until,
                on_conflict=on_conflict,
                debounce_s=debounce_s,
                then=then,
            )
        )

    def enqueue_many(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        *,
        priority: str | None = None,
        queue: str | None = None,
    ) -> list[str]:
        """Push many tasks at once and return their task_ids, as `Client.enqueue_many` does."""
        return finish(self._client.enqueue_many(tasks, priority=priority, queue=queue))

    def enqueue_call(self, call: Call[Result]) -> SyncEnqueuedTask[Result]:
        """Push what ``task()`` of a typed handler returned."""
        return SyncEnqueuedTask(self, self.enqueue_many([call])[0], call.returns)

    def enqueue_group(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        then: NewTask | tuple[str, Mapping[str, Any] | None],
        *,
        group_id: str | None = None,
    ) -> str:
        """Push tasks, and ``then`` when all of them have ended, as `Client.enqueue_group` does."""
        return finish(self._client.enqueue_group(tasks, then, group_id=group_id))

    def group(self, group_id: str) -> GroupState | None:
        """Return how far a group is."""
        return finish(self._client.group(group_id))

    def workers_listening(self) -> int:
        """Return how many workers serve now."""
        return finish(self._client.workers_listening())

    def cancel(self, task_id: str) -> Found:
        """Cancel a task and say where it was found."""
        return finish(self._client.cancel(task_id))

    def promote(self, task_id: str) -> Moved:
        """Move a waiting task one level up."""
        return finish(self._client.promote(task_id))

    def demote(self, task_id: str) -> Moved:
        """Move a waiting task one level down."""
        return finish(self._client.demote(task_id))

    def result(self, task_id: str, *, wait_s: float = 0.0) -> dict[str, Any] | None:
        """Return a task's record, waiting up to ``wait_s`` for its end, as `Client.result` does."""
        return finish(self._client.result(task_id, wait_s=wait_s))

    @contextmanager
    def updates(self, task_id: str | None = None) -> Iterator[SyncUpdates]:
        """Subscribe to what workers publish, about one task or all; open it before the push to miss nothing."""
        opened = self._client.updates(task_id)
        updates = SyncUpdates(finish(opened.__aenter__()))
        try:
            yield updates
        finally:
            finish(opened.__aexit__(None, None, None))

    def ended(self, task_id: str, updates: SyncUpdates, *, wait_s: float) -> dict[str, Any] | None:
        """Wait on an open subscription for the task to end; the record as it is when the time is up."""
        return finish(self._client.ended(task_id, updates.asynchronous, wait_s=wait_s))


class SyncUpdates:
    """An open subscription."""

    def __init__(self, asynchronous: Updates) -> None:
        self.asynchronous = asynchronous

    def next(self, *, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message, decoded, or None when none came in time."""
        return finish(self.asynchronous.next(timeout_s=timeout_s))


class _OverBlocking(Client):
    def _connected(self, url: str, given: Any) -> tuple[Any, bool]:
        client, is_own = (connect_blocking(url), True) if given is None else adopt(given)
        return BlockingRedis(client), is_own
