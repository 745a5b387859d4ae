"""``aworker enqueue``, ``result`` and ``cancel``: the producer's side by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
    from aworker.config import Config

NO_RESULT = 3


def enqueue(
    task_type: Annotated[
        str, typer.Argument(help="create_strategy, backtest, report, sweep, screening, alert, or one of your own")
    ],
    arg: Annotated[
        list[str] | None, typer.Option("--arg", "-a", help="name=value; the value is JSON where it reads as JSON")
    ] = None,
    args: Annotated[
        str | None, typer.Option("--args", help="All arguments as one JSON object; --arg adds to it")
    ] = None,
    task_id: Annotated[str | None, typer.Option("--task-id", help="[default: a new one]")] = None,
    priority: Annotated[str | None, typer.Option("--priority", help="high or normal")] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="A level's label or list, in place of the usual")] = None,
    delay: Annotated[str | None, typer.Option("--in", help="Run it so much later: 90, 90s, 5m, 1h30m, 2d")] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Run it then: 2026-01-31T09:30, of this host's time zone unless it says")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the end and show it")] = 0.0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Push a task, now or for later, and print its id."""
    settings = configured(config, redis_url)
    arguments = parse_arguments(args, arg or [])
    when = parse_when(delay, at)
    _check_type(task_type, settings)
    pushed, record = in_words(
        settings,
        lambda: _pushed(
            settings,
            task_type,
            arguments,
            task_id=task_id,
            priority=priority,
            queue=queue,
            wait_s=wait,
            as_json=as_json,
            when=when,
        ),
    )
    if wait <= 0:
        if as_json:
            from aworker.cli.screen.show import print_json

            print_json({"task_id": pushed})
        else:
            print(pushed)
        return
    if not as_json:
        print(pushed, flush=True)
    _show_and_leave(record, pushed, as_json)


def result(
    task_id: str,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the task to end")] = 0.0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show a task's result. Exit code 1: it failed, 3: there is none (yet)."""
    settings = configured(config, redis_url)
    record = in_words(settings, lambda: _read(settings, task_id, wait))
    _show_and_leave(record, task_id, as_json)


def cancel(
    task_id: str,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Cancel a task.

    One that waits never starts, one that runs is stopped. Exit code 1: it has ended, 3: unknown.
    """
    settings = configured(config, redis_url)
    from aworker.queues.hand.cancel import cancel_task

    found = asked_of_redis(settings, lambda client: cancel_task(client, settings, task_id))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({"task_id": task_id, "found": found})
    else:
        print(_CANCELLED[found])
    raise typer.Exit({"ended": 1, "unknown": NO_RESULT}.get(found, 0))


_CANCELLED = {
    "waiting": "It was waiting and will never start",
    "running": "It was running; its worker stops it",
    "ended": "It has ended already; there is nothing to cancel",
    "unknown": "Nobody has it now; should it turn up within a minute it is not started",
}


def _check_type(task_type: str, settings: Config) -> None:
    # No error: another host's workers may have the handler.
    import difflib
    import sys

    from aworker.app import build_registry
    from aworker.errors import ConfigError

    try:
        known = {handler.task_type for handler in build_registry(settings)}
    except ConfigError:
        return  # handlers that this host does not have
    if task_type in known:
        return
    near = difflib.get_close_matches(task_type, known, n=1)
    meant = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
    print(
        f"aworker: no handler here is for {task_type!r} tasks ({meant}); a worker without one makes it a dead letter",
        file=sys.stderr,
    )


def parse_arguments(text: str | None, pairs: list[str]) -> dict[str, Any]:
    """Return a task's args from ``--args`` and ``--arg name=value`` pairs. Raises typer.BadParameter."""
    import msgspec

    arguments: Any = {}
    if text is not None:
        try:
            arguments = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise typer.BadParameter(f"--args must be a JSON object, was not ({error})") from None
        if not isinstance(arguments, dict):
            raise typer.BadParameter(f"--args must be a JSON object, was {text}")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--arg must be name=value, was {pair!r}")
        try:
            arguments[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            arguments[name] = value
    return arguments  # type: ignore[no-any-return]


def parse_when(delay: str | None, at: str | None) -> dict[str, Any]:
    """Return ``delay_s`` or ``at`` as `Client.enqueue` takes it, from ``--in`` and ``--at``. Raises BadParameter."""
    import re
    from datetime import datetime

    if delay is not None and at is not None:
        raise typer.BadParameter("--in and --at must not both be given; leave one out")
    if delay is not None:
        text = delay.strip()
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
        if (
            not parts
            or "".join(number + unit for number, unit in parts) != text
            or (len(parts) > 1 and any(not unit for _, unit in parts))
        ):
            raise typer.BadParameter(f"--in must be seconds or as 90s, 5m, 1h30m, 2d, was {delay!r}")
        return {"delay_s": sum(float(number) * _SECONDS[unit] for number, unit in parts)}
    if at is None:
        return {}
    try:
        instant = datetime.fromisoformat(at.strip())
    except ValueError:
        raise typer.BadParameter(f"--at must be as 2026-01-31T09:30 or 2026-01-31T09:30:00Z, was {at!r}") from None
    # What names no zone is a person's own: that of this host.
    return {"at": instant.astimezone() if instant.tzinfo is None else instant}


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _pushed(
    config: Config,
    task_type: str,
    arguments: dict[str, Any],
    *,
    task_id: str | None,
    priority: str | None,
    queue: str | None,
    wait_s: float,
    as_json: bool,
    when: dict[str, Any],
) -> tuple[str, dict[str, Any] | None]:
    import anyio

    from aworker.client.client import Client

    async def push() -> tuple[str, dict[str, Any] | None]:
        async with Client(config=config) as client:
            with anyio.fail_after(wait_s + ANSWER_TIMEOUT_S):
                if wait_s <= 0:
                    name = await client.enqueue(
                        task_type, arguments, task_id=task_id, priority=priority, queue=queue, **when
                    )
                    return name, None
                return await _run_shown(client)

    async def _run_shown(client: Client) -> tuple[str, dict[str, Any] | None]:
        from aworker.cli.screen.progress import ProgressLines
        from aworker.cli.screen.show import open_console
        from aworker.cli.serving.waiting import run_task

        progress = ProgressLines(open_console())
        with progress.shown():
            return await run_task(
                client,
                task_type,
                arguments,
                task_id=task_id,
                priority=priority,
                queue=queue,
                when=when,
                wait_s=wait_s,
                on_progress=(lambda message: None) if as_json else progress.update,
                on_nobody=_say_that_nobody_serves,
            )

    return anyio.run(push)


def _say_that_nobody_serves() -> None:
    import sys

    print("aworker: no worker serves now; the task waits for one (start it: aworker run)", file=sys.stderr, flush=True)


def _read(config: Config, task_id: str, wait_s: float) -> dict[str, Any] | None:
    import anyio

    from aworker.client.client import FINAL, Client

    async def read() -> dict[str, Any] | None:
        async with Client(config=config) as client:
            with anyio.fail_after(wait_s + ANSWER_TIMEOUT_S):
                record = await client.result(task_id)
                if wait_s <= 0 or (record is not None and record.get("status") in FINAL):
                    return record
                if await client.workers_listening() == 0:
                    _say_that_nobody_serves()
                return await client.result(task_id, wait_s=wait_s)

    return anyio.run(read)


def _show_and_leave(record: dict[str, Any] | None, task_id: str, as_json: bool) -> None:
    import sys

    from aworker.cli.screen.show import is_failure, open_console, print_json, show_record
    from aworker.client.client import FINAL

    if as_json:
        print_json(record)
    elif record is not None:
        show_record(open_console(), record)
    if record is None or record.get("status") not in FINAL:
        what = "no result" if record is None else "no end"
        print(f"aworker: task {task_id} has {what} yet", file=sys.stderr)
        raise typer.Exit(NO_RESULT)
    if is_failure(record):
        raise typer.Exit(1)
