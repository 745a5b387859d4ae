"""The producer's side: push tasks, wait for what became of them.

A waiter subscribes first and then reads the record, so that no end is missed however fast it comes.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import msgspec
from redis.exceptions import RedisError

from aworker.client.later import Due, Instant, due_of
from aworker.client.routing import Router, check_priority, level_named
from aworker.clock import rfc3339
from aworker.config import Config, QueueConfig, RedisConfig
from aworker.errors import ConfigError, PayloadInvalid, QueueUnavailable
from aworker.keys import CHANNEL, RESULT_PREFIX, Keys
from aworker.queues.connection import connect
from aworker.queues.hand.cancel import Found, cancel_task
from aworker.queues.hand.find import run_script
from aworker.queues.hand.move import Moved, move_task
from aworker.queues.scripts import ENQUEUE

FINAL = frozenset({"completed", "error", "failed"})
RECORD_INTERVAL_S = 1.0
DELAYED_AT_ONCE = 500


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task for `Client.enqueue_many`, with what `Client.enqueue` takes."""

    task_type: str
    args: Mapping[str, Any] | None = None
    task_id: str | None = None
    priority: str | None = None
    queue: str | None = None
    """A level's label or its list."""
    delay_s: float | None = None
    at: Instant | None = None


class Client:
    """Pushes tasks and reads results; use it as an asynchronous context manager.

    Every method raises QueueUnavailable when Redis cannot be reached: what was asked for may then have happened, so
    push again with the same ``task_id``, which a worker runs once.
    """

    def __init__(self, url: str | None = None, *, config: Config | None = None) -> None:
        config = config or Config()
        if url is not None:
            config = msgspec.structs.replace(config, redis=RedisConfig(url=url, key_prefix=config.redis.key_prefix))
        self.config = config
        self._redis = connect(config.redis.url)
        self._router = Router(config, self._redis)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def enqueue(
        self,
        task_type: str,
        args: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        queue: str | None = None,
        delay_s: float | None = None,
        at: Instant | None = None,
    ) -> str:
        """Push one task and return its task_id.

        With ``delay_s`` (seconds) or ``at`` (a datetime with a time zone, epoch seconds, RFC 3339 with ``Z`` or an
        offset) it waits among the delayed tasks until then; ``created_at`` is then the instant at which it is due.

        ``queue`` is a level's label or its list; without it the rules of ``[[routing]]`` decide: as shipped,
        ``create_strategy`` and ``priority="high"`` go to the priority list, the rest to the normal one. Raises
        PayloadInvalid for a task that no worker would take and for an unknown priority, ConfigError for an unknown
        queue.
        """
        new = NewTask(
            task_type=task_type, args=args, task_id=task_id, priority=priority, queue=queue, delay_s=delay_s, at=at
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
        delayed: list[tuple[Due, str, bytes]] = []
        task_ids: list[str] = []
        for one in tasks:
            new = one if isinstance(one, NewTask) else _new_task(one)
            due = due_of(new.delay_s, new.at)
            task_id, marked, payload = self._composed(
                new.task_type, new.args, new.task_id, priority if new.priority is None else new.priority, due
            )
            wanted = queue if new.queue is None else new.queue
            if wanted is not None:
                name = level_named(self.config, wanted).name
            else:
                name = await self._routed(new.task_type, new.args, marked)
            if due is None:
                lists.setdefault(name, []).append(payload)
            else:
                delayed.append((due, name, payload))
            task_ids.append(task_id)
        if delayed and self.config.worker.delivery != "leased":
            raise ConfigError("worker.delivery must be leased for tasks to be delayed, was at-most-once; change it")
        if lists:
            await self._pushed(lists)
        for start in range(0, len(delayed), DELAYED_AT_ONCE):
            await self._delayed(delayed[start : start + DELAYED_AT_ONCE])
        return task_ids

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
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _composed(
        self,
        task_type: str,
        args: Mapping[str, Any] | None,
        task_id: str | None,
        priority: str | None,
        due: Due | None,
    ) -> tuple[str, str, bytes]:
        task_id = task_id if task_id is not None else f"{task_type}_{uuid.uuid4().hex}"
        for name, value in (("task_type", task_type), ("task_id", task_id)):
            if not isinstance(value, str) or not value:
                raise PayloadInvalid(f"{name} must be a non-empty string, was {value!r}; name it")
        if priority is None:
            priority = "high" if task_type == "create_strategy" else "normal"
        check_priority(self.config, priority)
        task = {
            "task_id": task_id,
            "task_type": task_type,
            "args": dict(args or {}),
            "created_at": rfc3339(None if due is None else due.at_s),
            "priority": priority,
        }
        try:
            payload = msgspec.json.encode(task)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise PayloadInvalid(f"args must be encodable as JSON, were not: {error}; pass JSON values") from None
        most = self.config.worker.max_payload_bytes
        if len(payload) > most:
            raise PayloadInvalid(f"the task must be <= {most} bytes, was {len(payload)}; send less")
        return task_id, priority, payload

    async def _routed(self, task_type: str, args: Mapping[str, Any] | None, priority: str) -> str:
        level: QueueConfig = await _answered(self._router.route(task_type, args or {}, priority))
        return level.name

    async def _pushed(self, lists: Mapping[str, list[bytes]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for name, payloads in lists.items():
            pipeline.rpush(name, *payloads)
        await _answered(pipeline.execute())

    async def _delayed(self, tasks: Sequence[tuple[Due, str, bytes]]) -> None:
        keys = Keys(self.config.redis.key_prefix)
        items = [value for due, queue, payload in tasks for value in (due.how, due.ms, queue, payload)]
        arguments = ["", keys.control, *items]
        await _answered(run_script(self._redis, ENQUEUE, [keys.delayed, keys.lease_id], arguments))

    async def _record(self, task_id: str) -> dict[str, Any] | None:
        text = await _answered(self._redis.get(RESULT_PREFIX + task_id))
        if text is None:
            return None
        record: dict[str, Any] = msgspec.json.decode(text)
        return record


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
