"""What handlers enqueue with their own end: composed at once, so that what is wrong is told where it is written.

The script that settles the task puts it where it waits.

Which list it goes to is decided last, since a rule of ``[[routing]]`` may ask how long a list is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from redis.exceptions import RedisError

from aworker.client.client import _due, _unique
from aworker.client.composing import args_of, compose
from aworker.client.enqueued import NewTask
from aworker.client.later import Due
from aworker.client.pushing import Unique, checked_unique, enqueued
from aworker.client.routing import Router, level_named
from aworker.config import Config, LiveConfig
from aworker.errors import AworkerError, ConfigError, EnqueueInvalid
from aworker.outcome import Enqueued
from aworker.queues.connection import connect
from aworker.task import Task

LOOK_S = 2.0


class Composed(msgspec.Struct, frozen=True):
    """A task that has all but its list."""

    task_id: str
    payload: bytes
    new: NewTask
    priority: str
    due: Due | None
    unique: Unique | None


class Outbox:
    """Composes the tasks that handlers enqueue."""

    def __init__(self, live: LiveConfig) -> None:
        self._live = live
        self._client: Any = None
        self._router: Router | None = None
        self._routed_by: Config | None = None

    async def close(self) -> None:
        """Close the connection, if a rule needed one."""
        if self._client is not None:
            await self._client.aclose()

    def compose(self, parent: Task, fields: Mapping[str, Any]) -> Composed:
        """Return a task that carries its parent's id and trace. Raises EnqueueInvalid."""
        try:
            return _composed(self._live.value, parent, NewTask(**fields))
        except EnqueueInvalid:
            raise
        except (AworkerError, TypeError) as error:
            raise EnqueueInvalid(f"what is enqueued is no task: {error}") from None

    async def addressed(self, composed: Sequence[Composed]) -> tuple[Enqueued, ...]:
        """Return the tasks with the lists that they go to."""
        return tuple([await self._addressed(one) for one in composed])

    async def _addressed(self, one: Composed) -> Enqueued:
        config = self._live.value
        wanted = one.new.queue
        try:
            name = (await self._routed(config, one) if wanted is None else level_named(config, wanted)).name
        except ConfigError:  # there was one of that name when the handler named it
            name = config.queues[-1].name
        return enqueued(one.task_id, name, one.payload, one.due, one.unique)

    async def _routed(self, config: Config, one: Composed) -> Any:
        if self._routed_by is not config:
            self._client = self._client or connect(config.redis.url)
            self._router, self._routed_by = Router(config, self._client), config
        assert self._router is not None
        args = args_of(one.new)
        with anyio.move_on_after(LOOK_S), suppress(RedisError, OSError):
            return await self._router.route(one.new.task_type, args, one.priority)
        # How long a list is cannot be had: the rules that do not ask for it decide.
        rules = [rule for rule in config.routing if rule.when is None]
        fixed = msgspec.structs.replace(config, routing=tuple(rules))
        return await Router(fixed, self._client).route(one.new.task_type, args, one.priority)


def _composed(config: Config, parent: Task, new: NewTask) -> Composed:
    due = _due(new)
    unique = _unique(new, due)
    if (due or unique) and config.worker.delivery != "leased":
        raise EnqueueInvalid(
            "worker.delivery must be leased for what is delayed or has a unique_key, was at-most-once; change it"
        )
    carried = {"parent_id": parent.task_id, "traceparent": parent.traceparent, "tracestate": parent.tracestate}
    task_id, priority, payload = compose(
        config,
        new.task_type,
        args_of(new),
        task_id=new.task_id,
        priority=new.priority,
        created_at_s=None if due is None else due.at_s,
        more={name: value for name, value in carried.items() if value is not None},
    )
    if new.queue is not None:
        level_named(config, new.queue)
    return Composed(task_id, payload, new, priority, due, None if unique is None else checked_unique(unique, task_id))
