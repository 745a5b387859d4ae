"""What operators tell running workers: a subscription of its own, and what is kept in Redis beside it, so that a missed
message is made up for at the next connect.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from loguru import logger
from redis.exceptions import RedisError

from aworker.config import LiveConfig
from aworker.keys import Keys
from aworker.queues.connection import Backoff, Health, connect, note_error
from aworker.queues.pauses import Pauses, find_pauses, read_pauses

Ask = Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]


class _Told(msgspec.Struct):
    cancel: str | None = None
    until_s: float = 0.0
    pauses_changed: bool = False
    due_in_ms: float | None = None
    """A delayed task is due before all others, in so many ms."""


class Control:
    """The tasks that were cancelled and what is paused, as this worker knows them."""

    def __init__(self, live: LiveConfig, health: Health) -> None:
        self._live = live
        self._health = health
        self._keys = Keys(live.value.redis.key_prefix)
        self._cancelled: dict[str, float] = {}
        self._done: list[str] = []
        self._has_done = anyio.Event()
        self._listening: anyio.CancelScope | None = None
        self.pauses = Pauses()
        self.on_due: Callable[[float], None] = lambda due_in_s: None
        """Told in how many seconds a task is due that somebody delayed."""

    def is_cancelled(self, task_id: str) -> bool:
        """Whether a task was cancelled and is not to start."""
        return bool(self._cancelled) and self._cancelled.get(task_id, 0.0) > time.time()

    async def look(self, ask: Ask, on_pauses: Callable[[Pauses], None]) -> None:
        """Tell what is paused, before anything is claimed."""
        (reply,) = await ask([("HGETALL", self._keys.paused)])
        self._note_pauses(read_pauses(zip(reply[::2], reply[1::2], strict=True)), on_pauses)

    async def listen(self, on_cancel: Callable[[str], None], on_pauses: Callable[[Pauses], None]) -> None:
        """Tell of each task that is cancelled from now on and of each change of what is paused, and at every
        (re)connect of all that stands.
        """
        backoff = Backoff()
        while True:
            with anyio.CancelScope() as self._listening:
                await self._listen_once(on_cancel, on_pauses, backoff)
            await backoff.wait()

    def drop(self) -> None:
        """Cut the connection, which may be half open; the next one is made at once."""
        if self._listening is not None:
            self._listening.cancel()

    def carried_out(self, task_id: str) -> None:
        """Forget a mark: the task's end is written, and the same id may be used again."""
        self._cancelled.pop(task_id, None)
        self._done.append(task_id)
        self._has_done.set()

    async def clean(self, ask: Ask) -> None:
        """Take marks that were carried out away from Redis, until cancelled."""
        while True:
            await self._has_done.wait()
            self._has_done = anyio.Event()
            done, self._done = self._done, []
            await ask([("ZREM", self._keys.cancelled, *done)])

    async def _listen_once(
        self, on_cancel: Callable[[str], None], on_pauses: Callable[[Pauses], None], backoff: Backoff
    ) -> None:
        client: Any = connect(self._live.value.redis.url)
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(self._keys.control)
            marks = await client.zrangebyscore(self._keys.cancelled, time.time(), "+inf", withscores=True)
            for task_id, until_s in marks:
                self._note_cancelled(task_id.decode("utf-8", "replace"), until_s, on_cancel)
            self._note_pauses(await find_pauses(client, self._live.value), on_pauses)
            backoff.reset()
            async for message in pubsub.listen():
                try:
                    told = msgspec.json.decode(message["data"], type=_Told)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue  # somebody else's words
                if told.cancel is not None:
                    self._note_cancelled(told.cancel, told.until_s, on_cancel)
                if told.due_in_ms is not None:
                    self.on_due(told.due_in_ms / 1000)
                if told.pauses_changed:
                    self._note_pauses(await find_pauses(client, self._live.value), on_pauses)
        except (RedisError, OSError) as error:
            note_error("control", error)
            self._health.down(str(error))
        finally:
            with anyio.CancelScope(shield=True):
                await pubsub.aclose()
                await client.aclose()

    def _note_cancelled(self, task_id: str, until_s: float, on_cancel: Callable[[str], None]) -> None:
        now_s = time.time()
        self._cancelled = {known: until for known, until in self._cancelled.items() if until > now_s}
        self._cancelled[task_id] = until_s
        on_cancel(task_id)

    def _note_pauses(self, pauses: Pauses, on_pauses: Callable[[Pauses], None]) -> None:
        if pauses == self.pauses:
            return
        self.pauses = pauses
        words = [f"{self._live.value.label_of(name)} queue" for name in sorted(pauses.queues)]
        words += [f"{task_type} tasks" for task_type in sorted(pauses.task_types)]
        words += [f"schedule {name}" for name in sorted(pauses.schedules)]
        logger.info(f"Paused: {', '.join(words)}" if words else "Nothing is paused any more")
        on_pauses(pauses)
