"""Chains and groups: tasks that carry what comes next, and tasks whose ends are counted until the last.

A chain is a task with the rest of it in its payload (``aworker.next``), so there is nothing to keep beside it. A group
is a hash in Redis that holds its callback until all members have ended (scripts/put.lua).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aworker.client.client import _due, _new_task
from aworker.client.composing import args_of, compose
from aworker.client.enqueued import NewTask
from aworker.client.later import Due
from aworker.client.pushing import Unique, enqueued, push_at_once
from aworker.client.routing import level_named
from aworker.config import Config
from aworker.errors import ConfigError, PayloadInvalid, QueueUnavailable
from aworker.outcome import Enqueued
from aworker.task import Flow, Step

STEPS_MOST = 100
MEMBERS_MOST = 5_000
_GROUP_ID = re.compile(r"[\w.:@/+-]{1,200}", re.ASCII)


class Composed(msgspec.Struct, frozen=True):
    """A task that has all but its list."""

    task_id: str
    payload: bytes
    new: NewTask
    priority: str
    due: Due | None
    unique: Unique | None = None


class ComposedGroup(msgspec.Struct, frozen=True):
    """A group, its callback and its members."""

    task_id: str
    """The group's id."""
    callback: Composed
    members: list[Composed]


class GroupState(msgspec.Struct, frozen=True):
    """How far a group is."""

    group_id: str
    left: int
    """Members that have not ended."""
    completed: int
    failed: list[str]
    """The task_ids of those that ended otherwise."""


def flow_fields(config: Config, new: NewTask, group: str | None = None, member: int = 0) -> dict[str, Any]:
    """Return what a task's payload says of what it is a part of, beside its other fields. Raises PayloadInvalid."""
    steps = tuple(_step(config, one) for one in _flat(new.then))
    if len(steps) > STEPS_MOST:
        raise PayloadInvalid(f"then must hold at most {STEPS_MOST} tasks, held {len(steps)}; let one enqueue the rest")
    if not steps and group is None:
        return {}
    return {"aworker": Flow(steps, group, member)}


def compose_group(
    config: Config,
    tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
    then: NewTask | tuple[str, Mapping[str, Any] | None],
    group_id: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> ComposedGroup:
    """Return a group; ``more`` fields go into each payload. Raises PayloadInvalid and ConfigError."""
    if config.worker.delivery != "leased":
        raise ConfigError("worker.delivery must be leased for groups, was at-most-once; change it")
    group_id = uuid.uuid4().hex if group_id is None else group_id
    if not isinstance(group_id, str) or not _GROUP_ID.fullmatch(group_id):
        raise PayloadInvalid(f"group_id must be 1 to 200 of A-Z a-z 0-9 _ . : @ / + -, was {group_id!r}; correct it")
    news = [one if isinstance(one, NewTask) else _new_task(one) for one in tasks]
    if not 0 < len(news) <= MEMBERS_MOST:
        raise PayloadInvalid(f"a group must have 1 to {MEMBERS_MOST:,} tasks, had {len(news)}; make several")
    flows = [flow_fields(config, new, group_id, at) for at, new in enumerate(news)]
    members = [_composed(config, new, flow, more) for new, flow in zip(news, flows, strict=True)]
    # Of a chain the last task is the one whose result is wanted.
    rests = [flow["aworker"].next for flow in flows]
    ends = [rest[-1].id if rest else one.task_id for rest, one in zip(rests, members, strict=True)]
    callback = then if isinstance(then, NewTask) else _new_task(then)
    told = {"group": {"group_id": group_id, "task_ids": ends, "ended": f"${group_id}$"}}
    callback = msgspec.structs.replace(callback, args={**told, **args_of(callback)})
    return ComposedGroup(group_id, _composed(config, callback, flow_fields(config, callback), more), members)


def enqueued_group(group: ComposedGroup, levels: Sequence[str]) -> list[Enqueued]:
    """Return a group as the scripts read it, the callback's list being the first."""
    callback = group.callback
    last = enqueued(callback.task_id, levels[0], callback.payload, callback.due, None)
    size = len(group.members)
    head = Enqueued(group.task_id, last.queue, last.payload, "group", size, last.task_id, last.how, last.ms)
    members = zip(group.members, levels[1:], strict=True)
    return [head, *(enqueued(one.task_id, level, one.payload, one.due, None) for one, level in members)]


async def push_group(client: Any, config: Config, group: ComposedGroup, levels: Sequence[str]) -> None:
    """Write a group and its members in one step. Raises RedisError, OSError, and QueueUnavailable for a list that is
    none.
    """
    statuses = await push_at_once(client, config, enqueued_group(group, levels))
    if "wrong" in statuses:
        wrong = levels[statuses.index("wrong")]
        raise QueueUnavailable(f"{wrong} must be a list, is a key of another type; rename or delete it")


def state_of(group_id: str, fields: Mapping[bytes, bytes], ended: bytes | None) -> GroupState | None:
    """Read what Redis says of a group; None where there is none, or it ended longer ago than results are kept."""
    if fields:
        ends = [value.decode("utf-8", "replace") for name, value in fields.items() if name.isdigit()]
        failed = [task_id for status, _, task_id in (one.partition(" ") for one in ends) if status != "completed"]
        return GroupState(group_id, int(fields[b"left"]), len(ends) - len(failed), failed)
    if ended is None:
        return None
    return msgspec.convert({"group_id": group_id, "left": 0, **msgspec.json.decode(ended)}, GroupState)


def new_of_step(step: Step, result: Any) -> NewTask:
    """Return the task that comes next in a chain."""
    args = dict(step.args) if step.result_as is None else {**step.args, step.result_as: result}
    return NewTask(
        task_type=step.type,
        args=args,
        task_id=step.id,
        priority=step.priority,
        queue=step.queue,
        delay_s=step.delay_s,
    )


def _composed(config: Config, new: NewTask, flow: Mapping[str, Any], more: Mapping[str, Any] | None) -> Composed:
    _refuse_keys(new, "a member or callback of a group")
    due = _due(new)
    task_id, priority, payload = compose(
        config,
        new.task_type,
        args_of(new),
        task_id=new.task_id,
        priority=new.priority,
        created_at_s=None if due is None else due.at_s,
        more={**(more or {}), **flow},
    )
    return Composed(task_id, payload, new, priority, due)


def _step(config: Config, new: NewTask) -> Step:
    _refuse_keys(new, "a task in then")
    if new.at is not None:
        raise PayloadInvalid(
            "a task in then must have delay_s, which counts from the end before it, had at; use delay_s"
        )
    task_id, _, _ = compose(config, new.task_type, args_of(new), task_id=new.task_id, priority=new.priority)
    _due(new)
    if new.queue is not None:
        level_named(config, new.queue)
    return Step(
        task_id, new.task_type, dict(args_of(new)), new.queue, new.priority, new.delay_s, result_as=new.result_as
    )


def _refuse_keys(new: NewTask, what: str) -> None:
    if new.unique_key is not None or new.debounce_s is not None:
        raise PayloadInvalid(f"{what} must have no unique_key, had {new.unique_key!r}; leave it out")


def _flat(news: Iterable[Any]) -> list[NewTask]:
    flat = []
    for one in news:
        new = one if isinstance(one, NewTask) else _new_task(one)
        flat += [new, *_flat(new.then)]
    return flat
