"""``aworker top``: the overview in the terminal, live until ``q``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aworker.cli.options import ConfigOption, RedisUrlOption, asked_of_redis, configured
from aworker.errors import ConfigError

if TYPE_CHECKING:
    from aworker.cli.screen.overview import View
    from aworker.config import Config

ORDERS = ("time", "name", "busy", "failed")


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once; so it is where stdout is no terminal")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, once")] = False,
    sort: Annotated[str, typer.Option("--sort", metavar="|".join(ORDERS), help="Which rows stand first")] = "time",
    queue: Annotated[str | None, typer.Option("--queue", metavar="QUEUE_OR_LABEL", help="One level alone")] = None,
    task_type: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="One task type alone")] = None,
    interval_s: Annotated[float, typer.Option("--interval", min=0.2, max=3_600, help="Seconds between looks")] = 1.0,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show what all workers do, live.

    Keys: q ends it, space pauses it, s sorts, l one level, t one type, v one table, arrows scroll it.
    """
    settings = configured(config, redis_url)
    from aworker.cli.screen.overview import View
    from aworker.client.routing import level_named

    order = next((one for one in ORDERS if one == sort), None)
    if order is None:
        raise ConfigError(f"--sort must be one of {', '.join(ORDERS)}, was {sort!r}; correct it")
    label = None if queue is None else level_named(settings, queue).label
    view = View(order=order, queue=label, task_type=task_type)  # type: ignore[arg-type]
    if once or as_json or not sys.stdout.isatty():
        _print_once(settings, view, as_json)
        return
    import anyio

    from aworker.cli.options import in_words
    from aworker.cli.watching.live import watch

    in_words(settings, lambda: anyio.run(watch, settings, view, interval_s))


def _print_once(settings: Config, view: View, as_json: bool) -> None:
    from aworker.overview.snapshot import take

    snapshot = asked_of_redis(settings, lambda client: take(client, settings))
    if as_json:
        from aworker.cli.screen.show import print_json
        from aworker.overview.values import overview_values

        print_json(overview_values(snapshot, view.queue, view.task_type))
        return
    from aworker.cli.screen.overview import Frame, clock, draw_overview
    from aworker.cli.screen.show import line
    from aworker.cli.watching.live import open_screen
    from aworker.overview.verdict import judge
    from aworker.queues.connection import address_of

    console, unicode = open_screen()
    console.print(line(f"Redis at {address_of(settings.redis.url)}, {clock(snapshot.now_s)}"), no_wrap=True)
    console.print(draw_overview(snapshot, judge(snapshot), view, Frame(console.width, None, unicode)))
