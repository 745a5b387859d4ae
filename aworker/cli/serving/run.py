"""``aworker run``: a worker in this process, with a server of its own and a file of tasks if asked."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aworker.cli.options import ConfigOption, RedisUrlOption, configured

if TYPE_CHECKING:
    from aworker.cli.serving.feed import FeedTask
    from aworker.config import Config

DATA_DIR = Path(".aworker/valkey")


def run(
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use a private Valkey on 127.0.0.1, stopped last")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help=f"Folder of the embedded server [default: {DATA_DIR}]")
    ] = None,
    slots: Annotated[int | None, typer.Option("--slots", help="Tasks that run at once")] = None,
    burst: Annotated[bool, typer.Option("--burst", help="End when every queue is empty and nothing runs")] = False,
    feed: Annotated[
        Path | None, typer.Option("--feed", help="File of tasks (JSON lines) to run and show first")
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="TRACE, DEBUG, INFO, WARNING, ERROR ..")] = None,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C drains it.

    A second one does not wait for running tasks.
    """
    if embedded and redis_url is not None:
        raise typer.BadParameter("--embedded brings its own server; give it or --redis-url")
    if data_dir is not None and not embedded:
        raise typer.BadParameter("--data-dir is the folder of --embedded; give both")
    level = None if log_level is None else log_level.upper()

    def load(url: str | None = redis_url) -> Config:
        return configured(config, url, worker={"slots": slots}, logging={"level": level})

    # All that can be wrong is found before a server is started for it.
    settings = load()
    tasks = None if feed is None else _read_feed(feed)
    from aworker.app import run as run_worker
    from aworker.config import DEFAULT_PATH

    with ExitStack() as stack:
        if embedded:
            signal.signal(signal.SIGTERM, _leave)
            load = partial(load, _embedded_url(stack, data_dir or DATA_DIR))
            settings = load()
            stack.callback(_ignore_signals)
        pages: list[str] = []
        run_feed = None if tasks is None else _feeder(settings, tasks, config, pages, burst=burst)
        code = run_worker(
            settings,
            burst=burst,
            feed=run_feed,
            config_path=config or DEFAULT_PATH,
            load=load,
            on_listening=pages.append,
        )
    raise typer.Exit(code)


def _embedded_url(stack: ExitStack, folder: Path) -> str:
    import sys

    from aworker.cli.serving.embedded import embedded_server

    server = stack.enter_context(embedded_server(folder))
    what = "found running" if server.was_running else "started"
    print(f"Embedded Valkey {what} at {server.url}, its data in {folder}", file=sys.stderr, flush=True)
    return server.url


def _leave(number: int, frame: object) -> None:
    # Before the worker serves there is nothing to drain, but a server to stop.
    raise SystemExit(0)


def _ignore_signals() -> None:
    # The worker has ended; an impatient Ctrl-C now would only leave the server behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _read_feed(path: Path) -> list[FeedTask]:
    from aworker.cli.serving.feed import read_feed

    return read_feed(path)


def _feeder(
    config: Config, tasks: list[FeedTask], config_path: Path | None, pages: list[str], *, burst: bool
) -> Callable[[], Awaitable[None]]:
    from aworker.cli.screen.progress import share_the_terminal
    from aworker.cli.screen.show import open_console
    from aworker.cli.serving.feed import Feeder

    console = open_console()

    def goodbye(created: int | None) -> str:
        return "" if burst else _goodbye(config, config_path, created, pages)

    feeder = Feeder(config, tasks, console, goodbye)
    share_the_terminal(console, feeder.progress)
    return feeder.run


def _goodbye(config: Config, config_path: Path | None, strategy_id: int | None, pages: list[str]) -> str:
    from shlex import quote

    from aworker.cli.options import redacted

    command = _this_program()
    where = f"--redis-url {quote(redacted(config.redis.url))}"
    if config_path is not None:
        where += f" --config {quote(str(config_path))}"
    if strategy_id is None:
        task = "create_strategy --arg user_id=1 --arg prompt='Create momentum strategy'"
    else:
        task = f"backtest --arg strategy_id={strategy_id}"
    look = f"\nWhat it does, on a page: {pages[0]}" if pages else ""
    return (
        f"{look}\nThe worker goes on serving until Ctrl-C. Push a task from another terminal, and see its result:\n"
        f"  {command} enqueue {task} --task-id mine-1 {where}\n"
        f"  {command} result mine-1 --wait 60 {where}"
    )


def _this_program() -> str:
    import os
    import shutil
    import sys

    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{os.path.relpath(sys.executable)} -m aworker"
    found = shutil.which(started.name)
    if found is not None and Path(found).resolve() == started.resolve():
        return started.name
    return os.path.relpath(started)
