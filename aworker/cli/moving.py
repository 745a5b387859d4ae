"""``aworker promote``, ``demote``, ``pause``, ``resume`` and ``why``: what waits, in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured
from aworker.errors import ConfigError

if TYPE_CHECKING:
    from aworker.config import Config
    from aworker.queues.hand.move import Direction
    from aworker.queues.hand.why import Whereabouts

UNKNOWN = 3

WhatArgument = Annotated[
    str, typer.Argument(metavar="QUEUE_OR_TYPE", help="A level's label or list, such as normal, or a task type")
]


def promote(
    task_id: str, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Move a waiting task one level up, to be taken next there.

    A delayed one goes onto its own level, now. Exit code 1: it cannot be moved, 3: unknown.
    """
    _move(task_id, "promote", as_json, configured(config, redis_url))


def demote(
    task_id: str, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Move a waiting task one level down, behind all that waits there. Exit code 1: it cannot be moved, 3: unknown."""
    _move(task_id, "demote", as_json, configured(config, redis_url))


def pause(
    what: WhatArgument, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Start no task of a level or type until it is resumed.

    On no worker; what runs goes on.
    """
    _pause_or_resume(what, as_json, configured(config, redis_url), is_pause=True)


def resume(
    what: WhatArgument, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Let a paused level or task type go on."""
    _pause_or_resume(what, as_json, configured(config, redis_url), is_pause=False)


def why(
    task_id: str, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Say where a task is and what it waits for. Exit code 3: nobody knows it."""
    settings = configured(config, redis_url)
    from aworker.app import build_registry
    from aworker.cli.screen.show import print_json
    from aworker.queues.hand.why import find_task
    from aworker.worker.supervisor import type_limits

    limits = type_limits(settings, build_registry(settings))
    found = asked_of_redis(settings, lambda client: find_task(client, settings, task_id, limits), timeout_s=None)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found.place == "unknown":
        raise typer.Exit(UNKNOWN)


def _move(task_id: str, direction: Direction, as_json: bool, settings: Config) -> None:
    from aworker.cli.screen.show import plain, print_json
    from aworker.queues.hand.move import move_task

    moved = asked_of_redis(settings, lambda client: move_task(client, settings, task_id, direction))
    if as_json:
        print_json(moved)
    else:
        print(plain(moved.in_words(direction)))
    raise typer.Exit({"moved": 0, "hurried": 0, "unknown": UNKNOWN}.get(moved.found, 1))


def _pause_or_resume(what: str, as_json: bool, settings: Config, *, is_pause: bool) -> None:
    from aworker.cli.screen.show import plain, print_json
    from aworker.queues.hand.pause import pause as pause_it
    from aworker.queues.hand.pause import resume as resume_it
    from aworker.queues.pauses import find_pauses

    names = {name: queue.name for queue in settings.queues for name in (queue.label, queue.name)}
    if what in names:
        chosen: dict[str, Any] = {"queue": names[what]}
        shown = f"The {plain(settings.label_of(names[what]))} queue"
    else:
        paused = {} if is_pause else asked_of_redis(settings, lambda client: find_pauses(client, settings)).task_types
        _check_type(what, settings, set(paused))
        chosen, shown = {"task_type": what}, f"{plain(what)} tasks"
    verb = "is" if "queue" in chosen else "are"
    change = pause_it if is_pause else resume_it
    is_changed = asked_of_redis(settings, lambda client: change(client, settings, **chosen))
    if as_json:
        print_json({**chosen, "paused": is_pause, "changed": is_changed})
    elif is_pause:
        print(f"{shown} {verb} paused" + ("" if is_changed else " already"))
    else:
        print(f"{shown} go{'es' if verb == 'is' else ''} on" if is_changed else f"{shown} {verb} not paused")


def _check_type(what: str, settings: Config, paused: set[str]) -> None:
    from aworker.app import build_registry

    types = {handler.task_type for handler in build_registry(settings)} | settings.tasks.keys() | paused
    if what not in types:
        labels = ", ".join(queue.label for queue in settings.queues)
        raise ConfigError(
            f"QUEUE_OR_TYPE must be a level ({labels}) or a task type ({', '.join(sorted(types))}), was {what!r}; "
            "check its spelling"
        )


def _show(found: Whereabouts) -> None:
    from aworker.cli.screen.show import line, open_console

    kind = f"{line(found.task_type)} task" if found.task_type else "Task"
    words = {
        "waiting": f"waits on the {found.queue} queue, {_count(found.before)} before it"
        + (f", made at {found.created_at}" if found.created_at else ""),
        "running": f"runs on {found.worker_id} since {found.since}"
        + (f", delivery {found.delivery}, from the {found.queue} queue" if found.queue else ""),
        "delayed": f"is delayed until {found.due_at} and comes to the {found.queue} queue then",
        "dead": f"is a dead letter since {found.since} ({found.status}): {found.error}",
        "ended": f"ended at {found.since}: {found.status}" + (f", {found.error}" if found.error else ""),
        "unknown": "is nowhere: not waiting, running, delayed, dead or ended"
        + (f"; its record says {found.status}" if found.status else ""),
    }[found.place]
    console = open_console()
    console.print(f"{kind[0].upper()}{kind[1:]} {line(found.task_id)} {line(words)}", soft_wrap=True)
    if found.place == "waiting":
        console.print("It waits for" if found.waits_for else "Nothing is in its way: a worker takes it next")
    for reason in found.waits_for if found.place == "waiting" else []:
        where = f"  ({line(reason.worker_id)})" if reason.worker_id else ""
        console.print(f"  {line(reason.text)}{where}", soft_wrap=True)


def _count(number: int | None) -> str:
    return "none" if not number else f"{number:,}"
