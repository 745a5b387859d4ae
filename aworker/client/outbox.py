"""What handlers enqueue with their own end: composed at once, so that what is wrong is told where it is written.

The script that settles the task puts it where it waits. Which list that is is decided last, since a rule of
``[[routing]]`` may ask how long a list is.
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
from aworker.client.flows import Composed, ComposedGroup, compose_group, enqueued_group, flow_fields, new_of_step
from aworker.client.pushing import checked_unique, enqueued
from aworker.client.routing import Router, level_named
from aworker.config import Config, LiveConfig
from aworker.errors import AworkerError, ConfigError, EnqueueInvalid
from aworker.outcome import Enqueued
from aworker.queues.connection import connect
from aworker.task import Flow, Task

LOOK_S = 2.0


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

    def compose(self, parent: Task, word: str, fields: Mapping[str, Any]) -> Composed | ComposedGroup:
        """Return what ``enqueue`` or ``enqueue_group`` was given as tasks that carry their parent's id and trace.

        Raises EnqueueInvalid.
        """
        config, carried = self._live.value, _carried(parent)
        try:
            if word == "enqueue":
                return _composed(config, _new(fields), carried)
            tasks, then = map(_new, fields["tasks"]), _new(fields["then"])
            return compose_group(config, tasks, then, fields.get("group_id"), carried)
        except (AworkerError, TypeError) as error:
            raise EnqueueInvalid(f"what is enqueued is no task: {error}") from None

    def next_of(self, task: Task, result: Any) -> Composed | None:
        """Return what comes next in the chain of a task that has completed. Raises EnqueueInvalid."""
        if task.flow is None or not task.flow.next:
            return None
        step, *rest = task.flow.next
        flow = msgspec.structs.replace(task.flow, next=tuple(rest))
        more = _carried(task) if flow == Flow() else {**_carried(task), "aworker": flow}
        try:
            return _composed(self._live.value, new_of_step(step, result), more)
        except AworkerError as error:
            raise EnqueueInvalid(f"what comes next is no task: {error}") from None

    async def addressed(self, composed: Sequence[Composed | ComposedGroup]) -> tuple[Enqueued, ...]:
        """Return the tasks with the lists that they go to."""
        all_of_them: list[Enqueued] = []
        for one in composed:
            if isinstance(one, ComposedGroup):
                levels = [await self._level_of(each) for each in (one.callback, *one.members)]
                all_of_them += enqueued_group(one, levels)
            else:
                all_of_them.append(enqueued(one.task_id, await self._level_of(one), one.payload, one.due, one.unique))
        return tuple(all_of_them)

    async def _level_of(self, one: Composed) -> str:
        config = self._live.value
        wanted = one.new.queue
        try:
            return (await self._routed(config, one) if wanted is None else level_named(config, wanted)).name
        except ConfigError:  # there was one of that name when the handler named it
            return config.queues[-1].name

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


def _carried(parent: Task) -> dict[str, str]:
    carried = {"parent_id": parent.task_id, "traceparent": parent.traceparent, "tracestate": parent.tracestate}
    return {name: value for name, value in carried.items() if value is not None}


def _new(given: Any) -> NewTask:
    """Read a task as a handler gives it, or as it comes from a child: as JSON."""
    if isinstance(given, NewTask):
        return given
    if not isinstance(given, Mapping):
        task_type, args = given
        return NewTask(task_type=task_type, args=args)
    known = {name: value for name, value in given.items() if name in NewTask.__struct_fields__}
    return NewTask(**{**known, "then": tuple(map(_new, given.get("then") or ()))})


def _composed(config: Config, new: NewTask, more: Mapping[str, Any]) -> Composed:
    due = _due(new)
    unique = _unique(new, due)
    if (due or unique) and config.worker.delivery != "leased":
        raise EnqueueInvalid(
            "worker.delivery must be leased for what is delayed or has a unique_key, was at-most-once; change it"
        )
    task_id, priority, payload = compose(
        config,
        new.task_type,
        args_of(new),
        task_id=new.task_id,
        priority=new.priority,
        created_at_s=None if due is None else due.at_s,
        more={**more, **flow_fields(config, new)},
    )
    if new.queue is not None:
        level_named(config, new.queue)
    return Composed(task_id, payload, new, priority, due, None if unique is None else checked_unique(unique, task_id))
