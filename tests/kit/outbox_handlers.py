"""Handlers that enqueue from a child process."""

from __future__ import annotations

from typing import Any

from aworker import NewTask
from aworker.errors import EnqueueInvalid
from aworker.execution.context import Context


def enqueues(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"second": context.enqueue("second", {"n": 5}, task_id="s1")}


def fails(args: dict[str, Any], context: Context) -> dict[str, Any]:
    context.enqueue("second", {"n": 6})
    raise ValueError("no")


def wrong(args: dict[str, Any], context: Context) -> dict[str, Any]:
    told = {}
    for name, task in (("told", {"task_type": "x", "queue": "nowhere"}), ("also", {"task_type": "x", "args": {1j: 2}})):
        try:
            context.enqueue(**task)
        except EnqueueInvalid as error:
            told[name] = type(error).__name__
    return told


def part(n: int, context: Context) -> int:
    context.enqueue("second", {"n": n})
    return n


def broken_part(n: int, context: Context) -> int:
    context.enqueue("second", {"n": n})
    raise ValueError("part is broken")


def in_child(args: dict[str, Any], context: Context) -> dict[str, Any]:
    return {}


def fans_out(args: dict[str, Any], context: Context) -> dict[str, Any]:
    then = NewTask(
        task_type="collect",
        task_id=args["callback"],
        then=[NewTask(task_type="add", args={"n": 1}, task_id=args["callback"] + " end")],
    )
    return {"group_id": context.enqueue_group([("add", {"n": n}) for n in range(3)], then)}
