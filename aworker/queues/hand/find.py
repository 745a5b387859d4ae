"""Finding a task that waits by its id, in the lists and among the delayed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal, NamedTuple

import msgspec
import redis.asyncio
from redis.exceptions import NoScriptError

from aworker.config import Config
from aworker.keys import Keys
from aworker.queues.scripts import FIND, Script
from aworker.task import salvage_identity

MOST = 100


class Waiting(NamedTuple):
    """One payload of the task, where it was a moment ago."""

    kind: Literal["list", "delayed"]
    place: str
    """The key it is in."""
    member: bytes
    """What is in the key: the payload, for a delayed one behind its head."""
    payload: bytes
    queue: str
    """The list it is in or goes to."""
    is_new: bool = False
    """Whether it is delayed without ever having been leased: it was enqueued for later."""


async def waiting(client: redis.asyncio.Redis, config: Config, task_id: str) -> AsyncIterator[Waiting]:
    """Look through one place after the other, the lowest level first, so that what is promoted meanwhile is met."""
    delayed = Keys(config.redis.key_prefix).delayed
    texts = list(dict.fromkeys(_spellings(task_id)))
    for queue in reversed(config.queues):
        for payload in await run_script(client, FIND, [queue.name], ["list", MOST, *texts]):
            if salvage_identity(payload)[0] == task_id:
                yield Waiting("list", queue.name, payload, payload, queue.name)
    for member in await run_script(client, FIND, [delayed], ["delayed", MOST, *texts]):
        head, _, payload = member.partition(b"\n")
        if salvage_identity(payload)[0] == task_id:
            queue = head.decode("utf-8", "replace").partition('"')[2].partition('"')[0]
            yield Waiting("delayed", delayed, member, payload, queue, is_new=head.startswith(b"0"))


async def run_script(client: Any, script: Script, names: list[str], arguments: list[Any]) -> Any:
    """Run a script by its digest, loading it where the server does not know it."""
    command = script.command(names, arguments)
    try:
        return await client.execute_command(*command)
    except NoScriptError:
        await client.script_load(script.text)
        return await client.execute_command(*command)


def _spellings(task_id: str) -> list[bytes]:
    # As a JSON string may be written: as it is, in ASCII, or with the slashes escaped.
    raw, ascii_only = msgspec.json.encode(task_id), json.dumps(task_id).encode()
    return [raw, ascii_only, raw.replace(b"/", b"\\/"), ascii_only.replace(b"/", b"\\/")]
