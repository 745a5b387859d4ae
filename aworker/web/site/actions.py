"""What a person may do from the page: the same as with the commands, asked first, one line in the log each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from loguru import logger

from aworker.config import Config
from aworker.logs import one_line
from aworker.queues.hand.cancel import cancel_task
from aworker.queues.hand.dead_letters import DeadLetters
from aworker.queues.hand.move import move_task
from aworker.queues.hand.pause import pause, resume

Act = Callable[[Any, Config, str], Awaitable[str]]


class Action(msgspec.Struct, frozen=True):
    """One thing that can be done to a task, a dead letter, a level or a task type."""

    verb: str
    question: str
    """Before it is done; ``{}`` is what it is done to."""
    consequence: str
    act: Act
    """Does it and says in words what became of it."""


async def _requeue(client: Any, config: Config, entry: str) -> str:
    count = await DeadLetters(client, config).requeue(entry)
    return "It is back on its list, behind all that waits" if count else "There is no such dead letter any more"


async def _drop(client: Any, config: Config, entry: str) -> str:
    count = await DeadLetters(client, config).drop(entry)
    return "It is deleted" if count else "There is no such dead letter any more"


async def _cancel(client: Any, config: Config, task_id: str) -> str:
    return {
        "waiting": "It was waiting and will never start",
        "running": "Its worker was told, and stops it within a second",
        "ended": "It has ended already; there is nothing to cancel",
        "unknown": "Nobody has it now; should it turn up within a minute, it is not started",
    }[await cancel_task(client, config, task_id)]


async def _promote(client: Any, config: Config, task_id: str) -> str:
    return (await move_task(client, config, task_id, "promote")).in_words("promote")


async def _demote(client: Any, config: Config, task_id: str) -> str:
    return (await move_task(client, config, task_id, "demote")).in_words("demote")


async def _pause_queue(client: Any, config: Config, label: str) -> str:
    is_changed = await pause(client, config, queue=_list_of(config, label))
    return "Nothing of it starts any more until it is resumed" if is_changed else "It is paused already"


async def _resume_queue(client: Any, config: Config, label: str) -> str:
    return "It goes on" if await resume(client, config, queue=_list_of(config, label)) else "It is not paused"


async def _pause_type(client: Any, config: Config, task_type: str) -> str:
    is_changed = await pause(client, config, task_type=task_type)
    return "None starts any more until they are resumed" if is_changed else "They are paused already"


async def _resume_type(client: Any, config: Config, task_type: str) -> str:
    return "They go on" if await resume(client, config, task_type=task_type) else "They are not paused"


def _list_of(config: Config, label: str) -> str:
    return next((level.name for level in config.queues if level.label == label), label)


ACTIONS = {
    "requeue": Action("Run again", "Run dead letter {} again?", "It goes back onto its list, behind all.", _requeue),
    "drop": Action("Drop", "Drop dead letter {} for good?", "Its payload is gone then.", _drop),
    "cancel": Action("Cancel", "Cancel task {}?", "It does not start, or is stopped; it ends as an error.", _cancel),
    "promote": Action(
        "Promote", "Move task {} one level up, or a delayed one onto its list?", "It is taken next there.", _promote
    ),
    "demote": Action("Demote", "Move task {} one level down?", "It goes behind all that waits there.", _demote),
    "pause-queue": Action(
        "Pause", "Pause the queue {}?", "On no worker does one of its tasks start; what runs goes on.", _pause_queue
    ),
    "resume-queue": Action("Resume", "Let the queue {} go on?", "Its tasks are taken again.", _resume_queue),
    "pause-type": Action(
        "Pause", "Pause {} tasks?", "On no worker does one of them start; what runs goes on.", _pause_type
    ),
    "resume-type": Action("Resume", "Let {} tasks go on?", "They are taken again.", _resume_type),
}


async def carry_out(client: Any, config: Config, name: str, target: str, address: str) -> str:
    """Do it, write it into the log, and return what became of it. Raises RedisError."""
    outcome = await ACTIONS[name].act(client, config, target)
    told = one_line(f"From the page, by {address}: {name} {target[:300]}: {outcome}")
    logger.bind(audit=name).info("{}", told)
    return outcome


def is_known_target(config: Config, name: str, target: str, types: set[str]) -> bool:
    """Whether there is such a level or type; a task is looked for when it is done."""
    if name.endswith("-queue"):
        return target in {level.label for level in config.queues}
    if name.endswith("-type"):
        return target in types
    return bool(target)
