"""``aworker strategy`` and ``aworker alerts``: what the store holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, asked_of_redis, configured

if TYPE_CHECKING:
    from aworker.config import Config
    from aworker.trading.store import Store
    from aworker.trading.strategy import Strategy

Answer = TypeVar("Answer")

program = typer.Typer(help="The strategies that are stored.", no_args_is_help=True, rich_markup_mode=None)

IdArgument = Annotated[int, typer.Argument(metavar="ID")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many")]


@program.command("list")
def list_strategies(
    limit: LimitOption = 20,
    user: Annotated[int | None, typer.Option("--user", help="Only those of this user")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """List strategies, the newest first."""
    settings = configured(config, redis_url)
    found = _asked(settings, lambda store: store.list_strategies(user, limit=limit))
    from aworker.cli.show import open_console, plain, print_json

    if as_json:
        print_json(found)
        return
    console = open_console()
    if not found:
        console.print("No strategies")
    for each in found:
        console.print(
            f"{each.strategy_id}  version {each.version}  user {each.user_id}  {plain(each.name)}", soft_wrap=True
        )


@program.command()
def show(
    strategy_id: IdArgument,
    versions: Annotated[bool, typer.Option("--versions", help="Every version that is kept, oldest first")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show a strategy with its rules."""
    settings = configured(config, redis_url)

    async def read(store: Store) -> list[Strategy]:
        return await store.versions(strategy_id) if versions else [await store.get(strategy_id)]

    found = _asked(settings, read)
    from aworker.cli.show import open_console, plain, print_json
    from aworker.trading.strategy import source_text

    if as_json:
        print_json(found if versions else found[0])
        return
    console = open_console()
    for each in found:
        console.print(f"Strategy {each.strategy_id}, version {each.version}: {plain(each.name)}", style="bold")
        console.print(f"{each.updated_at}, user {each.user_id}, prompt: {plain(each.prompt)}", soft_wrap=True)
        for line in source_text(each.rules).splitlines():
            console.print(f"  {plain(line)}", style="cyan", soft_wrap=True)


@program.command()
def delete(strategy_id: IdArgument, config: ConfigOption = None, redis_url: RedisUrlOption = None) -> None:
    """Delete a strategy with all its versions, for good."""
    settings = configured(config, redis_url)
    _asked(settings, lambda store: store.delete(strategy_id))
    print(f"Strategy {strategy_id} is deleted")


def alerts(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show the latest alerts, the newest first."""
    settings = configured(config, redis_url)
    found = _asked(settings, lambda store: store.recent_alerts(limit))
    from aworker.cli.show import date_text, open_console, plain, print_json

    if as_json:
        print_json(found)
        return
    console = open_console()
    if not found:
        console.print("No alerts")
    for each in found:
        what = f"strategy {each.strategy_id}  {plain(each.symbol)}  bar {date_text(each.bar_timestamp)}"
        console.print(f"{each.triggered_at}  {what}", soft_wrap=True)


def _asked(config: Config, question: Callable[[Store], Awaitable[Answer]]) -> Answer:
    import msgspec

    from aworker.trading.store import Store

    url = config.strategies.url or config.redis.url
    there = msgspec.structs.replace(config, redis=msgspec.structs.replace(config.redis, url=url))
    return asked_of_redis(there, lambda client: question(Store(client, prefix=config.redis.key_prefix, patience_s=2.0)))
