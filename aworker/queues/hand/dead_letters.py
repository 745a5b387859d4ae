"""Dead letters: payloads that could not become a task or that gave up, with their exact bytes and their reason."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import redis.asyncio

from aworker.config import Config
from aworker.keys import Keys
from aworker.queues.hand.find import run_script
from aworker.queues.scripts import FIND_DEAD, REQUEUE

PAGE = 200
STEP = 1_000
ENTRY_ID = re.compile(r"\d{1,20}-\d{1,20}")


class DeadLetter(msgspec.Struct, frozen=True):
    """One entry of the stream."""

    entry_id: str
    payload: bytes
    queue: str
    reason: str
    error: str
    cause: str
    deliveries: int
    worker_id: str
    task_id: str
    """Empty when none could be read."""
    task_type: str
    died_at: str
    errors: list[dict[str, Any]] = []
    """What the tries before the last one ended with: ``at``, ``delivery``, ``error_type``, ``error``."""

    @classmethod
    def of(cls, entry_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
        """Read one entry of the stream."""

        def text(name: str) -> str:
            return fields.get(name.encode(), b"").decode("utf-8", "replace")

        deliveries = text("deliveries")
        return cls(
            entry_id=entry_id.decode(),
            payload=fields.get(b"payload", b""),
            queue=text("queue"),
            reason=text("reason"),
            error=text("error"),
            cause=text("cause"),
            deliveries=int(deliveries) if deliveries.isdecimal() else 0,
            worker_id=text("worker_id"),
            task_id=text("task_id"),
            task_type=text("task_type"),
            died_at=text("died_at"),
            errors=_tries(fields.get(b"errors", b"[]")),
        )

    def shown(self) -> dict[str, Any]:
        """Return it as JSON values; a payload that is not UTF-8 is shown with its bytes escaped."""
        fields: dict[str, Any] = msgspec.structs.asdict(self)
        fields["payload"] = self.payload.decode("utf-8", "backslashreplace")
        fields["payload_bytes"] = len(self.payload)
        return fields


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, client: redis.asyncio.Redis, config: Config) -> None:
        self._client: Any = client
        self._keys = Keys(config.redis.key_prefix)

    async def newest(
        self, *, limit: int = 100, reason: str | None = None, task_type: str | None = None
    ) -> list[DeadLetter]:
        """Return up to ``limit`` entries, newest first."""
        found: list[DeadLetter] = []
        async for letter in self._all(reason, task_type):
            found.append(letter)
            if len(found) >= limit:
                break
        return found

    async def get(self, entry_id: str, *, look_at_most: int | None = None) -> DeadLetter | None:
        """Return one entry, by its id or its task_id: the newest of that task, among the newest ``look_at_most``."""
        if ENTRY_ID.fullmatch(entry_id) and (letter := await self._entry(entry_id)) is not None:
            return letter
        found = await self.find(entry_id, look_at_most=look_at_most)
        return await self._entry(found) if found else None

    async def _entry(self, entry_id: str) -> DeadLetter | None:
        entries = await self._client.xrange(self._keys.dead, entry_id, entry_id)
        return DeadLetter.of(*entries[0]) if entries else None

    async def find(self, task_id: str, *, look_at_most: int | None = None) -> str:
        """Return the id of a task's newest entry; empty when there is none among the newest ``look_at_most``.

        The server looks, a thousand entries a step, so that no payload travels.
        """
        start, looked_at = "+", 0
        while start and (look_at_most is None or looked_at < look_at_most):
            found, last = await run_script(self._client, FIND_DEAD, [self._keys.dead], [task_id, start, STEP])
            if found:
                return str(found.decode())
            start, looked_at = f"({last.decode()}" if last else "", looked_at + STEP
        return ""

    async def requeue(
        self, entry_id: str | None = None, *, reason: str | None = None, task_type: str | None = None
    ) -> int:
        """Put entries back onto their lists, behind all that waits; one, or all that match; how many."""
        return await self._each("requeue", entry_id, reason, task_type)

    async def drop(
        self, entry_id: str | None = None, *, reason: str | None = None, task_type: str | None = None
    ) -> int:
        """Delete entries for good; one, or all that match; how many."""
        return await self._each("drop", entry_id, reason, task_type)

    async def _each(self, what: str, entry_id: str | None, reason: str | None, task_type: str | None) -> int:
        if entry_id is not None:
            letter = await self.get(entry_id)
            return 0 if letter is None else await self._moved(letter.entry_id, what)
        # Collected first: what is put back may die again meanwhile, and is not to go round for ever.
        entry_ids = [letter.entry_id async for letter in self._all(reason, task_type)]
        return sum([await self._moved(one, what) for one in reversed(entry_ids)])

    async def _moved(self, entry_id: str, what: str) -> int:
        keys = self._keys
        names = [keys.dead, keys.dead_bytes, keys.ends, keys.deliveries]
        return int(await run_script(self._client, REQUEUE, names, [entry_id, what]))

    async def _all(self, reason: str | None, task_type: str | None) -> AsyncIterator[DeadLetter]:
        before = "+"
        while True:
            page = await self._client.xrevrange(self._keys.dead, max=before, count=PAGE)
            for entry_id, fields in page:
                letter = DeadLetter.of(entry_id, fields)
                if reason in (None, letter.reason) and task_type in (None, letter.task_type):
                    yield letter
            if len(page) < PAGE:
                return
            before = f"({page[-1][0].decode()}"


def _tries(text: bytes) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []  # written in other words, or cut
