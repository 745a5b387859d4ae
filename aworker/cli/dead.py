"""``aworker dead``: list, show, put back or drop dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, YesOption, asked_of_redis, configured, confirm

if TYPE_CHECKING:
    from aworker.config import Config
    from aworker.queues.hand.dead_letters import DeadLetters

Answer = TypeVar("Answer")

UNKNOWN = 3

program = typer.Typer(
    help="Dead letters: what became no task, and tasks that gave up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EntryArgument = Annotated[str, typer.Argument(metavar="ID", help="An entry's id, or its task's (the newest)")]
OptionalEntry = Annotated[str | None, typer.Argument(metavar="[ID]", help="An entry's id, or its task's (the newest)")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only those with this reason")]
TypeOption = Annotated[str | None, typer.Option("--task-type", help="Only those of this type")]
AllOption = Annotated[bool, typer.Option("--all", help="Every one")]


@program.command("list")
def list_entries(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many")] = 20,
    reason: ReasonOption = None,
    task_type: TypeOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """List dead letters, the newest first."""
    settings = configured(config, redis_url)
    letters = _asked(settings, lambda dead: dead.newest(limit=limit, reason=reason, task_type=task_type))
    from aworker.cli.screen.show import line, open_console, print_json

    if as_json:
        print_json([letter.shown() for letter in letters])
        return
    console = open_console()
    if not letters:
        console.print("No dead letters")
    for letter in letters:
        console.print(
            f"{letter.entry_id}  {line(letter.died_at)}  {line(letter.reason)}  "
            f"{line(letter.task_type or '-')}  {line(letter.task_id or '-')}  {line(letter.error)}",
            soft_wrap=True,
        )


@program.command()
def show(
    entry: EntryArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show one dead letter whole."""
    settings = configured(config, redis_url)
    letter = _asked(settings, lambda dead: dead.get(entry))
    from aworker.cli.screen.show import open_console, plain, print_json

    if letter is None:
        raise _unknown(entry)
    if as_json:
        print_json(letter.shown())
        return
    console = open_console()
    for field, value in letter.shown().items():
        console.print(f"{field}: {plain(value)}", soft_wrap=True)


@program.command()
def requeue(
    entry: OptionalEntry = None,
    everything: AllOption = False,
    reason: ReasonOption = None,
    task_type: TypeOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Put dead letters back onto their lists and print how many."""
    which = _which(entry, everything, reason, task_type)
    if entry is None:
        confirm(f"Run {which} again?", yes)
    settings = configured(config, redis_url)
    _print_count(
        "requeued",
        _asked(settings, lambda dead: dead.requeue(entry, reason=reason, task_type=task_type)),
        entry,
        as_json,
    )


@program.command()
def drop(
    entry: OptionalEntry = None,
    everything: AllOption = False,
    reason: ReasonOption = None,
    task_type: TypeOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Delete dead letters for good and print how many."""
    which = _which(entry, everything, reason, task_type)
    if entry is None:
        confirm(f"Delete {which}, for good?", yes)
    settings = configured(config, redis_url)
    _print_count(
        "dropped", _asked(settings, lambda dead: dead.drop(entry, reason=reason, task_type=task_type)), entry, as_json
    )


def _asked(config: Config, question: Callable[[DeadLetters], Awaitable[Answer]]) -> Answer:
    from aworker.queues.hand.dead_letters import DeadLetters

    return asked_of_redis(config, lambda client: question(DeadLetters(client, config)), timeout_s=None)


def _which(entry: str | None, everything: bool, reason: str | None, task_type: str | None) -> str:
    """Say which dead letters are chosen. Raises typer.BadParameter unless they are chosen in one way."""
    is_filtered = reason is not None or task_type is not None
    if (entry is not None) + everything + is_filtered != 1:
        raise typer.BadParameter("name one entry, or --all, or choose with --reason and --task-type")
    chosen = [f"of reason {reason}"] if reason is not None else []
    chosen += [f"of type {task_type}"] if task_type is not None else []
    return " ".join(["every dead letter", *chosen])


def _print_count(done: str, count: int, entry: str | None, as_json: bool) -> None:
    if entry is not None and count == 0:
        raise _unknown(entry)
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({done: count})
    else:
        print(count)


def _unknown(entry: str) -> typer.Exit:
    import sys

    print(f"aworker: ID must be a dead letter's, was {entry!r}; `aworker dead list` shows them", file=sys.stderr)
    return typer.Exit(UNKNOWN)
