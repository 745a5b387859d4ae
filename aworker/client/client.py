"""The producer's side: push tasks, wait for what became of them.

A waiter subscribes first and then reads the record, so that no end is missed however fast it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import RedisError

from aworker.client.composing import args_of, compose
from aworker.client.enqueued import Call, EnqueuedTask, NewTask, Result
from aworker.client.later import Due, Instant, due_of
from aworker.client.pushing import UNTIL_S, Conflict, Push, Unique, Until, checked_unique, push
from aworker.client.routing import Router, level_named
from aworker.clock import now_s
from aworker.config import Config, QueueConfig, RedisConfig
from aworker.errors import ConfigError, PayloadInvalid, QueueUnavailable
from aworker.keys import CHANNEL, RESULT_PREFIX, Keys
from aworker.queues.connection import adopt, connect
from aworker.queues.hand.cancel import Found, cancel_task
from aworker.queues.hand.move import Moved, move_task

FINAL = frozenset({"completed", "error", "failed"})
RECORD_INTERVAL_S = 1.0


if TYPE_CHECKING:
    from aworker.client.flows import GroupState


class Client:
    """Pushes tasks and reads results; use it as an asynchronous context manager.

    Every method raises QueueUnavailable when Redis cannot be reached: what was asked for may then have happened, so
    push again with the same ``task_id``, which a worker runs once.
    """

    def __init__(self, url: str | None = None, *, config: Config | None = None, redis: Any = None) -> None:
        """Connect with the first call, to ``url`` or where the configuration says.

        With ``redis``, a ``redis.asyncio.Redis`` of the host program, its connections are used and left open; with one
        that decodes its replies a pool of its own is made after it.
        """
        self.config = config = _config_of(url, config)
        self._redis: Any
        self._redis, self._is_own = self._connected(config.redis.url, redis)
        self._router = Router(config, self._redis)

    def _connected(self, url: str, given: Any) -> tuple[Any, bool]:
        return (connect(url), True) if given is None else adopt(given)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless they were given."""
        if self._is_own:
            await self._redis.aclose()

    async def enqueue(
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
        """Push one task and return its task_id.

        ``then``: what comes next, one after the other, each when the one before it has completed (docs/chains.md).

        With ``delay_s`` (seconds) or ``at`` (a datetime with a time zone, epoch seconds, RFC 3339 with ``Z`` or an
        offset) it waits among the delayed tasks until then; ``created_at`` is then the instant at which it is due.

        With ``unique_key`` there is at most one task of that key ``unique_until`` it has ``"started"`` or ``"ended"``
        (the default), or for ``unique_for_s`` (``"time"``, the default where that is given). While there is one, its
        task_id is returned (``on_conflict="keep"``), or one that waits is replaced by this one (``"replace"``) and
        settled as an error. ``debounce_s`` delays the task and lets each further one of its key begin the wait anew, so
        that the last one wins.

        ``queue`` is a level's label or its list; without it the rules of ``[[routing]]`` decide: as shipped,
        ``create_strategy`` and ``priority="high"`` go to the priority list, the rest to the normal one. Raises
        PayloadInvalid for a task that no worker would take and for an unknown priority, ConfigError for an unknown
        queue.
        """
        new = NewTask(
            task_type=task_type,
            args=args,
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
        return (await self.enqueue_many([new]))[0]

    async def enqueue_many(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        *,
        priority: str | None = None,
        queue: str | None = None,
    ) -> list[str]:
        """Push many tasks at once, each a `NewTask` or (task_type, args), and return their task_ids, in order.

        ``priority`` and ``queue`` are for those that have none of their own. Nothing is pushed when one of them is
        refused; raises what `enqueue` does.
        """
        lists: dict[str, list[bytes]] = {}
        pushes: list[Push] = []
        places: list[int] = []
        task_ids: list[str] = []
        for one in tasks:
            new = one if isinstance(one, NewTask) else _new_task(one)
            args = args_of(new)
            due = _due(new)
            unique = _unique(new, due)
            task_id, marked, payload = compose(
                self.config,
                new.task_type,
                args,
                task_id=new.task_id,
                priority=priority if new.priority is None else new.priority,
                created_at_s=None if due is None else due.at_s,
                more=_flow_of(self.config, new) if new.then else None,
            )
            wanted = queue if new.queue is None else new.queue
            if wanted is not None:
                name = level_named(self.config, wanted).name
            else:
                name = await self._routed(new.task_type, args, marked)
            if due is None and unique is None:
                lists.setdefault(name, []).append(payload)
            else:
                checked = None if unique is None else checked_unique(unique, task_id)
                places.append(len(task_ids))
                pushes.append(Push(task_id, name, payload, due, checked))
            task_ids.append(task_id)
        if self.config.worker.delivery != "leased" and any(one.due for one in pushes):
            raise ConfigError("worker.delivery must be leased for tasks to be delayed, was at-most-once; change it")
        if lists:
            await self._pushed(lists)
        if pushes:
            pushed = await _answered(push(self._redis, self.config, pushes))
            for place, one_pushed in zip(places, pushed, strict=True):
                task_ids[place] = one_pushed.task_id
        return task_ids

    async def enqueue_call(self, call: Call[Result]) -> EnqueuedTask[Result]:
        """Push what ``task()`` of a typed handler returned; raises what `enqueue` does."""
        return EnqueuedTask(self, (await self.enqueue_many([call]))[0], call.returns)

    async def enqueue_group(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        then: NewTask | tuple[str, Mapping[str, Any] | None],
        *,
        group_id: str | None = None,
    ) -> str:
        """Push tasks, and ``then`` when all of them have ended, however they did; return the group's id.

        All is written in one step. ``then`` is handed ``args["group"]``: ``group_id``, ``task_ids`` in order, and
        ``ended`` with ``completed`` (a number) and ``failed`` (task_ids). A task that has a ``then`` of its own has
        ended with the last of it, or with the first that did not complete. Where there is a group of that id already,
        or was within the time that results are kept, nothing is pushed: so it can be sent again after a
        QueueUnavailable.

        Raises what `enqueue` does.
        """
        from aworker.client.flows import compose_group, push_group

        group = compose_group(self.config, tasks, then, group_id)
        levels = [await self._level_of(one.new, one.priority) for one in (group.callback, *group.members)]
        await _answered(push_group(self._redis, self.config, group, levels))
        return group.task_id

    async def group(self, group_id: str) -> GroupState | None:
        """Return how far a group is; None where there is none, or it ended longer ago than results are kept."""
        from aworker.client.flows import state_of

        key = Keys(self.config.redis.key_prefix).groups
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hgetall(f"{key}:{group_id}")
        pipeline.get(f"{key}_ended:{group_id}")
        fields, ended = await _answered(pipeline.execute())
        return state_of(group_id, fields, ended)

    async def _level_of(self, new: NewTask, priority: str) -> str:
        if new.queue is not None:
            return level_named(self.config, new.queue).name
        return await self._routed(new.task_type, args_of(new), priority)

    async def workers_listening(self) -> int:
        """Return how many workers listen for what they are told: those that serve now."""
        channel = Keys(self.config.redis.key_prefix).control
        ((_, count),) = await _answered(self._redis.pubsub_numsub(channel))
        return int(count)

    async def cancel(self, task_id: str) -> Found:
        """Cancel a task: one that waits never starts, one that runs is stopped; says where it was found."""
        return await _answered(cancel_task(self._redis, self.config, task_id))  # type: ignore[no-any-return]

    async def promote(self, task_id: str) -> Moved:
        """Move a waiting task one level up, to be taken next there; says where it was found instead."""
        return await _answered(move_task(self._redis, self.config, task_id, "promote"))  # type: ignore[no-any-return]

    async def demote(self, task_id: str) -> Moved:
        """Move a waiting task one level down, behind all that waits there; says where it was found instead."""
        return await _answered(move_task(self._redis, self.config, task_id, "demote"))  # type: ignore[no-any-return]

    async def result(self, task_id: str, *, wait_s: float = 0.0) -> dict[str, Any] | None:
        """Return a task's record (``status``, ``data``, ..), or None when there is none.

        With ``wait_s`` it waits that long for the task to end, and then returns the record as it is.
        """
        if wait_s <= 0:
            return await self._record(task_id)
        async with self.updates(task_id) as updates:
            return await self.ended(task_id, updates, wait_s=wait_s)

    async def ended(self, task_id: str, updates: Updates, *, wait_s: float) -> dict[str, Any] | None:
        """Wait on an open subscription for the task to end; the record as it is when the time is up."""
        until = time.monotonic() + wait_s
        while True:
            record = await self._record(task_id)
            if record is not None and record.get("status") in FINAL:
                return record
            left_s = until - time.monotonic()
            if left_s <= 0:
                return record
            heard_until = time.monotonic() + min(left_s, RECORD_INTERVAL_S)
            while (left_s := heard_until - time.monotonic()) > 0:
                message = await updates.next(timeout_s=left_s)
                if message is not None and message.get("status") in FINAL:
                    break

    @asynccontextmanager
    async def updates(self, task_id: str | None = None) -> AsyncIterator[Updates]:
        """Subscribe to what workers publish, about one task or all; open it before the push to miss nothing."""
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await _answered(pubsub.subscribe(CHANNEL))
            yield Updates(pubsub, task_id)
        finally:
            await pubsub.aclose()

    async def _routed(self, task_type: str, args: Mapping[str, Any] | None, priority: str) -> str:
        level: QueueConfig = await _answered(self._router.route(task_type, args or {}, priority))
        return level.name

    async def _pushed(self, lists: Mapping[str, list[bytes]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for name, payloads in lists.items():
            pipeline.rpush(name, *payloads)
        await _answered(pipeline.execute())

    async def _record(self, task_id: str) -> dict[str, Any] | None:
        text = await _answered(self._redis.get(RESULT_PREFIX + task_id))
        if text is None:
            return None
        record: dict[str, Any] = msgspec.json.decode(text)
        return record


def _config_of(url: str | None, config: Config | None) -> Config:
    config = config or Config()
    if url is None:
        return config
    return msgspec.structs.replace(config, redis=RedisConfig(url=url, key_prefix=config.redis.key_prefix))


def _flow_of(config: Config, new: NewTask) -> dict[str, Any]:
    # Flows are made of what is defined here.
    from aworker.client.flows import flow_fields

    return flow_fields(config, new)


def _due(new: NewTask) -> Due | None:
    if new.debounce_s is None:
        return due_of(new.delay_s, new.at)
    if new.delay_s is not None or new.at is not None:
        raise PayloadInvalid("debounce_s must stand alone, was given with delay_s or at; leave those out")
    return due_of(new.debounce_s, None)


def _unique(new: NewTask, due: Due | None) -> Unique | None:
    if new.unique_key is None:
        if new.debounce_s is not None or new.unique_for_s is not None or new.unique_until is not None:
            raise PayloadInvalid("unique_key must be given with debounce_s, unique_for_s or unique_until, was None")
        return None
    for name, value, known in (
        ("unique_until", new.unique_until, (None, "started", "ended", "time")),
        ("on_conflict", new.on_conflict, ("keep", "replace", "stop")),
    ):
        if value not in known:
            raise PayloadInvalid(f"{name} must be one of {', '.join(map(str, known))}, was {value!r}; correct it")
    net_s = UNTIL_S + (0.0 if due is None else max(0.0, due.at_s - now_s()))
    if new.debounce_s is not None:
        return Unique(new.unique_key, "started", net_s, "replace")
    until = new.unique_until or ("ended" if new.unique_for_s is None else "time")
    if until == "time" and new.unique_for_s is None:
        raise PayloadInvalid('unique_for_s must be given with unique_until="time", was None; say how long')
    return Unique(new.unique_key, until, net_s if new.unique_for_s is None else new.unique_for_s, new.on_conflict)


def _new_task(pair: Any) -> NewTask:
    try:
        task_type, args = pair
    except (TypeError, ValueError):
        raise PayloadInvalid(f"a task must be a NewTask or (task_type, args), was {pair!r}; correct it") from None
    return NewTask(task_type=task_type, args=args)


class Updates:
    """An open subscription."""

    def __init__(self, pubsub: Any, task_id: str | None) -> None:
        self._pubsub = pubsub
        self._task_id = task_id

    async def next(self, *, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message, decoded, or None when none came in time."""
        until = time.monotonic() + timeout_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                raw = await self._pubsub.get_message(timeout=left_s)
            except (RedisError, OSError) as error:
                raise QueueUnavailable(str(error)) from None
            if raw is None:
                await asyncio.sleep(0)
                continue
            try:
                message = msgspec.json.decode(raw["data"])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # anybody may publish there
            if isinstance(message, dict) and self._task_id in (None, message.get("task_id")):
                return message
        return None


async def _answered(awaitable: Any) -> Any:
    try:
        return await awaitable
    except (RedisError, OSError) as error:
        raise QueueUnavailable(str(error) or type(error).__name__) from None
