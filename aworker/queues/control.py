"""What operators tell running workers: a subscription of its own, and the marks that outlive a missed message."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from redis.exceptions import RedisError

from aworker.config import LiveConfig
from aworker.queues.connection import Backoff, Health, connect
from aworker.queues.keys import Keys


class Cancellation(msgspec.Struct):
    """A message on the control channel."""

    cancel: str
    until_s: float
    """Epoch seconds until which the task is not to start."""


class Control:
    """The tasks that were cancelled, as this worker knows them."""

    def __init__(self, live: LiveConfig, health: Health) -> None:
        self._live = live
        self._health = health
        self._keys = Keys(live.value.redis.key_prefix)
        self._cancelled: dict[str, float] = {}
        self._done: list[str] = []
        self._has_done = anyio.Event()

    def is_cancelled(self, task_id: str) -> bool:
        """Whether a task was cancelled and is not to start."""
        return bool(self._cancelled) and self._cancelled.get(task_id, 0.0) > time.time()

    async def listen(self, on_cancel: Callable[[str], None]) -> None:
        """Tell of each task that is cancelled from now on, and at every (re)connect of all that stand."""
        backoff = Backoff()
        while True:
            client: Any = connect(self._live.value.redis.url)
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(self._keys.control)
                marks = await client.zrangebyscore(self._keys.cancelled, time.time(), "+inf", withscores=True)
                for task_id, until_s in marks:
                    self._note(Cancellation(task_id.decode("utf-8", "replace"), until_s), on_cancel)
                backoff.reset()
                async for message in pubsub.listen():
                    try:
                        told = msgspec.json.decode(message["data"], type=Cancellation)
                    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                        continue  # somebody else's words
                    self._note(told, on_cancel)
            except (RedisError, OSError) as error:
                self._health.down(str(error))
            finally:
                with anyio.CancelScope(shield=True):
                    await pubsub.aclose()
                    await client.aclose()
            await backoff.wait()

    def carried_out(self, task_id: str) -> None:
        """Forget a mark: the task's end is written, and the same id may be used again."""
        self._cancelled.pop(task_id, None)
        self._done.append(task_id)
        self._has_done.set()

    async def clean(self, ask: Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]) -> None:
        """Take marks that were carried out away from Redis, until cancelled."""
        while True:
            await self._has_done.wait()
            self._has_done = anyio.Event()
            done, self._done = self._done, []
            await ask([("ZREM", self._keys.cancelled, *done)])

    def _note(self, told: Cancellation, on_cancel: Callable[[str], None]) -> None:
        now_s = time.time()
        self._cancelled = {task_id: until_s for task_id, until_s in self._cancelled.items() if until_s > now_s}
        self._cancelled[told.cancel] = told.until_s
        on_cancel(told.cancel)
