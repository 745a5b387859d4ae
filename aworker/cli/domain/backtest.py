"""``aworker backtest``: one backtest in this process, without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.domain.strategy import asked_of_store, read_draft, read_text, show_rules
from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, configured

if TYPE_CHECKING:
    from aworker.config import Config
    from aworker.trading.strategies.strategy import Rules


def backtest(
    strategy: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_ID", help="A file of rules or JSON, - for stdin, or a stored strategy's id"),
    ],
    symbols: Annotated[
        str | None, typer.Option("--symbols", help="AAPL,MSFT or all [default: the strategy's own]")
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="YYYY-MM-DD [default: 365 days before the end]")] = None,
    end: Annotated[str | None, typer.Option("--end", help="YYYY-MM-DD, itself included [default: now]")] = None,
    commission: Annotated[
        float | None, typer.Option("--commission", help="Fraction of the value, each side [default: the file's]")
    ] = None,
    slippage: Annotated[
        float | None, typer.Option("--slippage", help="Fraction of the price, each side [default: the file's]")
    ] = None,
    borrow: Annotated[
        float | None, typer.Option("--borrow", help="What a short pays a year, a fraction [default: the file's]")
    ] = None,
    per_share: Annotated[
        float | None, typer.Option("--per-share", help="Money for each share, of strategies with an account")
    ] = None,
    per_order: Annotated[
        float | None, typer.Option("--per-order", help="Money for each order, of strategies with an account")
    ] = None,
    bars: Annotated[Path | None, typer.Option("--bars", help="Folder of bars, in place of the file's")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    redis_url: RedisUrlOption = None,
) -> None:
    """Trade a strategy on past bars and show how it went.

    Here and now, without a queue.
    """
    settings = configured(
        config,
        redis_url,
        backtest={
            "commission": commission,
            "slippage": slippage,
            "borrow": borrow,
            "per_share": per_share,
            "per_order": per_order,
        },
        market_data={"path": None if bars is None else str(bars)},
    )
    strategy_id, version, name, rules = _strategy(settings, strategy)
    asked = None if symbols is None else _symbols(symbols)
    start_s, end_s = _instant("--start", start, is_end=False), _instant("--end", end, is_end=True)
    import msgspec

    if symbols is not None and asked is None:
        rules = msgspec.structs.replace(rules, symbols=None)
    from aworker.clock import now_s

    request = {
        "rules": msgspec.to_builtins(rules),
        "now_s": now_s(),
        "strategy_id": strategy_id,
        "strategy_version": version,
        "whole_curve": as_json,
        "symbols": None if asked is None else list(asked),
        "start_s": start_s,
        "end_s": end_s,
        "market_data_path": settings.market_data.path or None,
        "commission": settings.backtest.commission,
        "slippage": settings.backtest.slippage,
        "borrow": settings.backtest.borrow,
        "per_share": settings.backtest.per_share,
        "per_order": settings.backtest.per_order,
    }
    result = _run(request, is_shown=not as_json)
    from aworker.cli.screen.show import open_console, print_json, show_result

    if as_json:
        print_json(result)
        return
    console = open_console()
    show_rules(console, rules)
    show_result(console, {**result, "strategy_id": name})


def _strategy(config: Config, file_or_id: str) -> tuple[int, int | None, str, Rules]:
    if file_or_id.isascii() and file_or_id.isdigit():
        strategy_id = int(file_or_id)
        stored = asked_of_store(config, lambda store: store.get(strategy_id))
        return strategy_id, stored.version, f"{strategy_id} ({stored.name})", stored.rules
    file = Path(file_or_id)
    draft = read_draft(read_text(file), file)
    return 0, None, draft.name, draft.rules


def _symbols(text: str) -> tuple[str, ...] | None:
    from aworker.trading.strategies.strategy import symbols_from_text

    return symbols_from_text(text, "--symbols")


def _instant(option: str, text: str | None, *, is_end: bool) -> float | None:
    from aworker.trading.handlers import asked_instant

    try:
        return asked_instant(option, text, is_end=is_end)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run(request: dict[str, Any], *, is_shown: bool) -> dict[str, Any]:
    import time

    from loguru import logger

    from aworker.cli.screen.progress import ProgressLines
    from aworker.cli.screen.show import open_console
    from aworker.execution.context import Context
    from aworker.trading.backtest.backtest import run_backtest

    console = open_console()
    progress = ProgressLines(console)

    def update(stage: str, message: str, data: Any, fraction: float | None) -> None:
        if is_shown and console.is_terminal:
            progress.update({"stage": stage, "message": message, "data": {"fraction": fraction}})

    context = Context(
        task_id="backtest",
        task_type="backtest",
        delivery=1,
        lease_id=0,
        logger=logger,
        progress=update,
        is_cancelled=lambda: False,
    )
    started = time.perf_counter()
    with progress.shown():
        result = run_backtest(request, context)
    return {**result, "execution_time_ms": int((time.perf_counter() - started) * 1_000)}
