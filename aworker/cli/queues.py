"""``aworker stats``, ``peek`` and ``clear``: what waits, and taking it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, YesOption, asked_of_redis, configured, confirm

if TYPE_CHECKING:
    from aworker.config import Config

DELAYED = "delayed"
QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE_OR_LABEL", help="Such as priority or strategy_queue")]


def stats(as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Show the queues, the workers and what they hold."""
    settings = configured(config, redis_url)
    from aworker.cli.screen.show import print_json
    from aworker.client.admin import overview

    found = asked_of_redis(settings, lambda client: overview(client, settings))
    if as_json:
        print_json(found)
    else:
        _show_overview(found)


def peek(
    queue: QueueArgument,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="At most so many")] = 10,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show the tasks that wait, the next one first.

    They stay where they are. ``delayed`` in place of a queue shows those that wait for their time.
    """
    settings = configured(config, redis_url)
    from aworker.client.routing import level_named

    if queue == DELAYED and DELAYED not in {level.label for level in settings.queues}:
        _peek_delayed(settings, count, as_json)
        return
    name = level_named(settings, queue).name
    from aworker.cli.screen.show import line, open_console, print_json
    from aworker.client.admin import peek_queue

    tasks: list[dict[str, Any]] = asked_of_redis(
        settings, lambda client: peek_queue(client, name, count, config=settings)
    )
    if as_json:
        print_json(tasks)
        return
    import msgspec

    console = open_console()
    if not tasks:
        console.print(f"Nothing waits on {name}")
    for task in tasks:
        if "task_id" in task:
            words = f"{task.get('task_id')}  {task.get('task_type')}  {task.get('created_at', '')}"
            args = msgspec.json.encode(task.get("args")).decode()
            console.print(f"{line(words)}  {line(args)}", soft_wrap=True)
        else:
            console.print(line(msgspec.json.encode(task).decode()), soft_wrap=True)


def _peek_delayed(settings: Config, count: int, as_json: bool) -> None:
    from aworker.cli.screen.show import line, open_console, print_json
    from aworker.clock import rfc3339
    from aworker.queues.hand.look import look_at_delayed

    shelf = asked_of_redis(settings, lambda client: look_at_delayed(client, settings, 0, count))
    if as_json:
        print_json(
            [
                {
                    "task_id": entry.task_id,
                    "task_type": entry.task_type,
                    "queue": entry.queue,
                    "due_at": rfc3339(entry.due_s),
                    "payload": entry.payload.decode("utf-8", "backslashreplace"),
                    "payload_bytes": entry.payload_bytes,
                }
                for entry in shelf.entries
            ]
        )
        return
    console = open_console()
    if not shelf.entries:
        console.print("Nothing is delayed")
    for entry in shelf.entries:
        words = f"{entry.task_id}  {entry.task_type}  due {rfc3339(entry.due_s)} on {entry.queue}"
        console.print(line(words), soft_wrap=True)


def clear(
    queue: QueueArgument,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Remove every waiting task of a list.

    Prints how many there were.
    """
    settings = configured(config, redis_url)
    from aworker.client.admin import clear_queue
    from aworker.client.routing import level_named

    name = level_named(settings, queue).name

    confirm(f"Remove every task that waits on {name}, for good?", yes)
    removed: int = asked_of_redis(settings, lambda client: clear_queue(client, name))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"queue": name, "removed": removed})
    else:
        print(removed)


def _show_overview(found: dict[str, Any]) -> None:
    from rich.table import Table

    from aworker.cli.screen.show import open_console, plain

    console = open_console()
    table = Table("queue", "list", box=None, padding=(0, 2, 0, 0))
    table.add_column("waiting", justify="right")
    table.add_column("")
    for queue in found["queues"]:
        table.add_row(
            plain(queue["label"]), plain(queue["name"]), f"{queue['length']:,}", "paused" if queue["paused"] else ""
        )
    console.print(table)
    console.print(
        f"{found['total_pending_tasks']:,} waiting, {found['leased']:,} leased, "
        f"{found['delayed']:,} delayed, {found['dead']:,} dead"
    )
    if found["paused_task_types"]:
        console.print(f"Paused: {plain(', '.join(found['paused_task_types']))} tasks", soft_wrap=True)
    if not found["workers"]:
        console.print("No worker")
        return
    table = Table("worker", box=None, padding=(0, 2, 0, 0))
    table.add_column("running", justify="right")
    table.add_column("lease ends in", justify="right")
    for worker in found["workers"]:
        left_s = worker["lease_deadline_in_s"]
        table.add_row(
            plain(worker["worker_id"]), f"{worker['leases']:,}", f"{left_s:.1f} s" if left_s > 0 else "lapsed"
        )
    console.print(table)
