"""The Lua scripts, one transition each, and how they are sent.

They are sent by digest; what the server does not know (after SCRIPT FLUSH or a restart) is loaded, and sent again.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from aworker.queues.connection import Link, raise_if_unavailable


class Script:
    """One script's text and digest, read when first used: a producer needs none for claiming."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def text(self) -> str:
        """The Lua, with the part that it shares with others in the place of its line ``--@name``."""
        folder = files(__package__)
        text = folder.joinpath(f"{self.name}.lua").read_text(encoding="utf-8")
        for mark in re.findall(r"^--@(\w+)$", text, re.MULTILINE):
            text = text.replace(f"--@{mark}\n", folder.joinpath(f"{mark}.lua").read_text(encoding="utf-8"))
        return text

    @cached_property
    def digest(self) -> str:
        """Its SHA-1, by which the server knows it."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: list[str], arguments: list[Any]) -> tuple[Any, ...]:
        """Return the EVALSHA command."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


CLAIM = Script("claim")
SETTLE = Script("settle")
RENEW = Script("renew")
RECLAIM = Script("reclaim")
DUE = Script("due")
ENQUEUE = Script("enqueue")
HURRY = Script("hurry")
REQUEUE = Script("requeue")
FIND = Script("find")
CANCEL = Script("cancel")
MOVE = Script("move")
BEAT = Script("beat")
LOOK = Script("look")
FIND_DEAD = Script("find_dead")
ALL = (CLAIM, SETTLE, RENEW, RECLAIM, DUE, ENQUEUE, HURRY, REQUEUE, FIND, CANCEL, MOVE, BEAT, LOOK, FIND_DEAD)


async def load_scripts(link: Link) -> None:
    """Make the server know every script. Raises QueueUnavailable, and ResponseError if it refuses one."""
    for reply in await link.call([("SCRIPT", "LOAD", script.text) for script in ALL]):
        if isinstance(reply, BaseException):
            raise_if_unavailable(reply)
            raise reply


async def run_scripts(link: Link, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Send script commands together; load the scripts and send all again when the server knew one of them not.

    The commands must be safe to send twice: claim and settle are, by their commit number.
    Raises QueueUnavailable, and ResponseError for an error that waiting does not mend.
    """
    replies = await link.call(commands)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        await load_scripts(link)
        replies = await link.call(commands)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise_if_unavailable(reply)
            raise reply
    return replies
