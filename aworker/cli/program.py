"""The commands put together, and how an error leaves: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from aworker.cli.bench.command import bench
from aworker.cli.check import check
from aworker.cli.dead import program as dead
from aworker.cli.domain.alerts import alerts
from aworker.cli.domain.backtest import backtest
from aworker.cli.domain.bars import program as bars
from aworker.cli.domain.strategy import program as strategy
from aworker.cli.domain.sweep import sweep
from aworker.cli.moving import demote, pause, promote, resume, why
from aworker.cli.queues import clear, peek, stats
from aworker.cli.schedule import program as schedule
from aworker.cli.serving.run import run
from aworker.cli.serving.web import web
from aworker.cli.tasks import cancel, enqueue, result
from aworker.cli.watching.doctor import doctor
from aworker.cli.watching.top import top
from aworker.cli.watching.workers import workers
from aworker.errors import AworkerError, ConfigError, PayloadInvalid, QueueUnavailable
from aworker.extras import in_words

UNAVAILABLE = 69
"""Redis cannot be reached, or refuses: what sysexits.h calls EX_UNAVAILABLE."""

program = typer.Typer(
    name="aworker",
    help="An asyncio task worker for trading platforms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
program.command()(run)
program.command()(web)
program.command()(enqueue)
program.command()(result)
program.command()(cancel)
program.command()(promote)
program.command()(demote)
program.command()(why)
program.command()(top)
program.command()(workers)
program.command()(stats)
program.command()(peek)
program.command()(clear)
program.command()(pause)
program.command()(resume)
program.add_typer(schedule, name="schedule")
program.add_typer(dead, name="dead")
program.add_typer(strategy, name="strategy")
program.add_typer(bars, name="bars")
program.command()(backtest)
program.command()(sweep)
program.command()(alerts)
program.command()(check)
program.command()(doctor)
program.command()(bench)


def run_program() -> None:
    """Parse argv, run the command, exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        program()
    except AworkerError as error:
        print(f"aworker: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        wrong_use = isinstance(error, (ConfigError, PayloadInvalid))
        sys.exit(2 if wrong_use else UNAVAILABLE if isinstance(error, QueueUnavailable) else 1)
    except ModuleNotFoundError as error:
        missing = in_words(error, of="this command")
        if missing is None and (error.name or "").startswith("aworker.trading"):
            missing = "this command needs the package aworker.trading, which is not there"
        if missing is None:
            raise
        print(f"aworker: {missing}", file=sys.stderr)
        sys.exit(1)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"aworker {version('aworker')}")
        raise typer.Exit


@program.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
