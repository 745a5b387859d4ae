"""Moving a waiting task to another level: promote it to be the next one there, or demote it behind all that waits.

A delayed task that is promoted goes onto its own list now, whatever it was delayed for.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import redis.asyncio

from aworker.config import Config, QueueConfig
from aworker.keys import RESULT_PREFIX, Keys
from aworker.queues.hand.cancel import has_ended
from aworker.queues.hand.ends import is_taken_from_left, questions
from aworker.queues.hand.find import Waiting, run_script, waiting
from aworker.queues.scripts import HURRY, MOVE

Direction = Literal["promote", "demote"]
Found = Literal["moved", "hurried", "outermost", "running", "delayed", "ended", "unknown"]


class Moved(msgspec.Struct, frozen=True):
    """What became of the wish to move a task."""

    task_id: str
    found: Found
    """``moved``; ``hurried``: it was delayed and waits on its list now; ``outermost``: there is no level
    beyond its own; else where it is instead of waiting."""
    queue: str = ""
    """Label of the level it waits on now, or goes back to."""

    def in_words(self, direction: Direction) -> str:
        """Say what became of it."""
        where = "it is taken next there" if direction == "promote" else "behind all that waits there"
        end = "highest" if direction == "promote" else "lowest"
        return {
            "moved": f"It waits on the {self.queue} queue now: {where}",
            "hurried": f"It was delayed and waits on the {self.queue} queue now: it is taken next there",
            "outermost": f"It waits on the {self.queue} queue already, the {end} level",
            "running": "It is running; there is nothing to move",
            "delayed": f"It is delayed and comes to the {self.queue} queue; move it then",
            "ended": "It has ended already; there is nothing to move",
            "unknown": "Nobody has it",
        }[self.found]


async def move_task(client: redis.asyncio.Redis, config: Config, task_id: str, direction: Direction) -> Moved:
    """Move a waiting task one level up, to be taken next there, or one level down, behind all that waits there.

    A delayed one is promoted to its own list. It keeps its bytes, so its ``created_at`` too.
    """
    keys = Keys(config.redis.key_prefix)
    levels = [queue.name for queue in config.queues]
    for _ in range(3):
        async for found in waiting(client, config, task_id):
            if found.kind == "delayed":
                if direction == "promote" and not await _hurry(client, config, found):
                    continue
                return Moved(task_id, "hurried" if direction == "promote" else "delayed", config.label_of(found.queue))
            position = levels.index(found.queue)
            target = position - 1 if direction == "promote" else position + 1
            if not 0 <= target < len(levels):
                return Moved(task_id, "outermost", config.queues[position].label)
            if await _move(client, config, found.payload, config.queues[position], config.queues[target], direction):
                return Moved(task_id, "moved", config.queues[target].label)
        if await client.hexists(keys.claimed, task_id):
            return Moved(task_id, "running")
    stored = await client.get(RESULT_PREFIX + task_id)
    if has_ended(stored):
        return Moved(task_id, "ended")
    return Moved(task_id, "unknown")


async def _hurry(client: Any, config: Config, found: Waiting) -> bool:
    keys = Keys(config.redis.key_prefix)
    pipeline = client.pipeline(transaction=True)
    for question in questions(keys, found.queue):
        pipeline.execute_command(*question)
    side = "left" if is_taken_from_left(config, found.queue, *await pipeline.execute()) else "right"
    is_by_age = all(queue.take_from == "auto" for queue in config.queues if queue.name == found.queue)
    arguments = [found.member, found.payload, side, "1" if is_by_age else "", ""]
    return int(await run_script(client, HURRY, [keys.delayed, found.queue, keys.ends], arguments)) == 1


async def _move(
    client: Any, config: Config, payload: bytes, source: QueueConfig, target: QueueConfig, direction: Direction
) -> bool:
    keys = Keys(config.redis.key_prefix)
    pipeline = client.pipeline(transaction=True)
    pipeline.llen(target.name)
    for queue in (source, target):
        for question in questions(keys, queue.name):
            pipeline.execute_command(*question)
    length, *ends = await pipeline.execute()
    if length < 2 and target.take_from == "auto":
        # It has no two ends to compare: the same producers push onto both lists.
        from_left = is_taken_from_left(config, source.name, *ends[:3])
    else:
        from_left = is_taken_from_left(config, target.name, *ends[3:])
    taking, far = ("left", "right") if from_left else ("right", "left")
    arguments = [
        payload,
        taking if direction == "promote" else far,
        taking,
        "1" if target.take_from == "auto" else "",
        "",
    ]
    return int(await run_script(client, MOVE, [source.name, target.name, keys.ends], arguments)) == 1
