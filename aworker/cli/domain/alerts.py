"""``aworker alerts``: the triggers that the store keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from aworker.cli.domain.strategy import asked_of_store
from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, configured


def alerts(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many")] = 20,
    strategy: Annotated[int | None, typer.Option("--strategy", help="Only those of this strategy")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Show the latest alerts, the newest first."""
    settings = configured(config, redis_url)
    found = asked_of_store(settings, lambda store: store.recent_alerts(limit, strategy_id=strategy))
    from aworker.cli.screen.show import date_text, open_console, plain, print_json

    if as_json:
        print_json(found)
        return
    console = open_console()
    if not found:
        console.print("No alerts")
    for each in found:
        what = f"strategy {each.strategy_id}  {plain(each.symbol)}  bar {date_text(each.bar_timestamp)}"
        price, score = (each.alert.get(field) for field in ("current_price", "score"))
        if isinstance(price, (int, float)) and isinstance(score, (int, float)):
            what += f"  price {price:,.2f}  score {score:,.2f}"
        console.print(f"{each.triggered_at}  {what}", soft_wrap=True)
