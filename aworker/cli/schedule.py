"""``aworker schedule``: what is enqueued again and again, and when next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from aworker.cli.options import (
    ANSWER_TIMEOUT_S,
    ConfigOption,
    JsonOption,
    RedisUrlOption,
    asked_of_redis,
    configured,
    in_words,
)

if TYPE_CHECKING:
    from aworker.client.ticking import Ticker
    from aworker.config import Config, ScheduleConfig

Answer = TypeVar("Answer")

UNKNOWN = 3
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `schedule list` shows it")]

program = typer.Typer(help="Tasks by cron lines and intervals.", no_args_is_help=True)


@program.command("list")
def list_schedules(
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="Next times of each")] = 3,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show every schedule of the file and of the handlers, its last tick and the next ones."""
    settings = configured(config, redis_url)
    schedules = _schedules(settings)
    from aworker.queues.pauses import find_pauses

    names = [one.name for one in schedules]
    known = _ticked(settings, lambda ticker: ticker.look(settings, names or [""], begin=False))
    paused = asked_of_redis(settings, lambda client: find_pauses(client, settings)).schedules
    rows = [_row(one, known.now_ms, known.last_ms.get(one.name), paused.get(one.name), count) for one in schedules]
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json(rows)
        return
    _show(rows)


@program.command()
def run(
    name: NameArgument, as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None
) -> None:
    """Enqueue a schedule's task now, beside its ticks, and print its id. Exit code 3: there is no such schedule."""
    settings = configured(config, redis_url)
    one = _named(settings, name)
    pushed = _ticked(settings, lambda ticker: ticker.run_now(settings, one))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"task_id": pushed.task_id})
    else:
        print(pushed.task_id)


@program.command()
def pause(name: NameArgument, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Leave a schedule's ticks out until it is resumed. Exit code 3: there is no such schedule."""
    settings = configured(config, redis_url)
    _named(settings, name)
    from aworker.queues.hand.pause import pause as pause_it

    is_changed = asked_of_redis(settings, lambda client: pause_it(client, settings, schedule=name))
    print(f"{name} is paused" + ("" if is_changed else " already"))


@program.command()
def resume(name: NameArgument, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Let a paused schedule go on with its next tick. Exit code 3: there is no such schedule."""
    settings = configured(config, redis_url)
    _named(settings, name)
    from aworker.queues.hand.pause import resume as resume_it

    is_changed = asked_of_redis(settings, lambda client: resume_it(client, settings, schedule=name))
    print(f"{name} goes on" if is_changed else f"{name} is not paused")


def _schedules(settings: Config) -> tuple[ScheduleConfig, ...]:
    from aworker.app import build_registry
    from aworker.execution.schedules import schedules_of

    return schedules_of(settings, build_registry(settings))


def _named(settings: Config, name: str) -> ScheduleConfig:
    import difflib
    import sys

    schedules = {one.name: one for one in _schedules(settings)}
    if name in schedules:
        return schedules[name]
    near = difflib.get_close_matches(name, schedules, n=1)
    known = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(schedules)) or 'none'}"
    print(f"aworker: there is no schedule {name!r}; {known}", file=sys.stderr)
    raise typer.Exit(UNKNOWN)


def _ticked(settings: Config, question: Callable[[Ticker], Awaitable[Answer]]) -> Answer:
    import anyio

    from aworker.client.ticking import Ticker

    async def answered() -> Answer:
        ticker = Ticker(settings)
        try:
            with anyio.fail_after(ANSWER_TIMEOUT_S):
                return await question(ticker)
        finally:
            await ticker.close()

    return in_words(settings, lambda: anyio.run(answered))


def _row(
    one: ScheduleConfig, now_ms: int, last_ms: int | None, paused_since_s: float | None, count: int
) -> dict[str, Any]:
    from aworker.client.ticking import ticks_of

    coming: list[str] = []
    ticks, at_ms = ticks_of(one), now_ms
    while len(coming) < count and (tick := ticks.after(at_ms)) is not None:
        coming.append(_instant(tick, one.timezone))
        at_ms = tick
    return {
        "name": one.name,
        "task_type": one.task_type,
        "when": one.cron or f"every {one.every_s:g} s",
        "timezone": one.timezone,
        "overlap": one.overlap,
        "catch_up": one.catch_up,
        "paused": paused_since_s is not None,
        "last": None if last_ms is None else _instant(last_ms, one.timezone),
        "next": coming,
    }


def _instant(at_ms: int, timezone: str) -> str:
    from datetime import datetime

    from aworker.ticks import zone_of

    return datetime.fromtimestamp(at_ms / 1000, zone_of(timezone)).isoformat(timespec="seconds")


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from aworker.cli.screen.show import open_console, plain

    console = open_console()
    if not rows:
        console.print("No schedule; docs/later.md says how to write one")
        return
    table = Table("schedule", "task", "when", "last", "next", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        when = row["when"] + ("" if row["timezone"] == "UTC" else f" {row['timezone']}")
        coming = "paused" if row["paused"] else "\n".join(row["next"]) or "never again"
        table.add_row(*map(plain, (row["name"], row["task_type"], when, row["last"] or "", coming)))
    console.print(table)
