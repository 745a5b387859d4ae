"""``aworker workers``: all workers of the Redis, in a table."""

from __future__ import annotations

import sys

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured


def workers(as_json: JsonOption = False, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Show all workers of the Redis.

    A worker that has said nothing for 15 s is silent; it is forgotten ten minutes after its last word.
    """
    settings = configured(config, redis_url)
    from aworker.overview.snapshot import take
    from aworker.overview.values import worker_values

    snapshot = asked_of_redis(settings, lambda client: take(client, settings))
    if as_json:
        from aworker.cli.screen.show import print_json

        print_json([worker_values(worker, snapshot.now_s) for worker in snapshot.workers])
        return
    from rich.table import Table

    from aworker.cli.screen.overview import worker_cells
    from aworker.cli.screen.show import line, open_console

    console = open_console()
    if not snapshot.workers:
        console.print("No worker")
        return
    table = Table("worker", "state", box=None, padding=(0, 2, 0, 0))
    table.add_column("busy", justify="right")
    table.add_column("children")
    table.add_column("up", justify="right")
    for heading in ("host", "version"):
        table.add_column(heading)
    table.add_column("loop lag", justify="right")
    for worker in snapshot.workers:
        table.add_row(line(worker.worker_id), *worker_cells(worker, snapshot.now_s, wide=True))
    # Elsewhere than in a terminal a row is one line, however long.
    console.print(table, crop=False, no_wrap=True, width=None if sys.stdout.isatty() else 1_000)
