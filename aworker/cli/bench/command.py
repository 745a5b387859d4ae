"""``aworker bench``: what this machine does, beside the loops that it is compared with, in one run.

Every figure of aworker stands beside the same work done by a bare loop on the same server, turn and turn about, so that
a ratio holds where the machine does not. The bare loop that keeps nothing is the harder one: it pops, decodes and
forgets, and loses what it holds when it dies.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.options import JsonOption
from aworker.errors import ConfigError

if TYPE_CHECKING:
    from aworker.cli.bench.rows import Row
    from aworker.cli.bench.workers import Measure

ROUNDS = 3
QUICK = 20
MEASURES = (
    "slots",
    "ways",
    "rules",
    "two-step",
    "producing",
    "idle",
    "backlog",
    "beside-work",
    "pool",
    "backtest",
    "recovery",
    "memory",
)


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MEASURE]...", help=f"Of {', '.join(MEASURES)} [default: all]")
    ] = None,
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help=f"A {QUICK}th of the tasks, one round.")] = False,
    peers: Annotated[
        list[Path] | None,
        typer.Option("--peers", help="A Python that has arq, saq, taskiq-redis or streaq: they run beside; repeatable"),
    ] = None,
) -> None:
    """Measure this machine against the bare BRPOP loops.

    Runs a server of its own, each measure for less than a minute; leave the machine alone meanwhile.
    """
    chosen = names or list(MEASURES)
    for name in chosen:
        if name not in MEASURES:
            raise ConfigError(f"measure must be one of {', '.join(MEASURES)}, was {name!r}; correct it")
    import redis

    from aworker.app import collect_less_often
    from aworker.cli.bench.peers import measure_peers
    from aworker.cli.bench.rows import machine, show
    from aworker.cli.bench.throughput import QUIET
    from aworker.cli.serving.embedded import embedded_server
    from aworker.logs import configure_logs

    configure_logs(QUIET)
    collect_less_often()
    less, rounds = (QUICK, 1) if quick else (1, ROUNDS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder, embedded_server(Path(folder)) as server:
        with redis.Redis.from_url(server.url) as client:
            where = machine(client)
        for name in chosen:
            room = Path(folder, name)
            room.mkdir()
            rows += _run(_measures()[name](server.url, less, rounds, room))
        for python in peers or []:
            rows += _run(measure_peers(python, server.url, less))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json({**where, "rows": rows})
    else:
        show(where, rows)


def _measures() -> dict[str, Measure]:
    from aworker.cli.bench import heavy, latency, processes, producing, throughput

    return {
        "slots": throughput.slots,
        "ways": throughput.ways,
        "rules": throughput.rules,
        "two-step": throughput.two_step,
        "producing": producing.producing,
        "idle": latency.idle,
        "backlog": latency.backlog,
        "beside-work": latency.beside_work,
        "pool": heavy.pool,
        "backtest": heavy.backtest,
        "recovery": processes.recovery,
        "memory": processes.memory,
    }


def _run(work: Coroutine[Any, Any, list[Row]]) -> list[Row]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
