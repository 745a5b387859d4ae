"""``aworker backtest``: one backtest in this process, without a queue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.domain.strategy import asked_of_store, read_draft, read_text, show_rules
from aworker.cli.options import ConfigOption, JsonOption, RedisUrlOption, configured

if TYPE_CHECKING:
    from aworker.config import Config
    from aworker.execution.context import Context, ProgressSink
    from aworker.trading.strategies.strategy import Rules

_EVERY_TRADE = 10_000_000


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
        float | None, typer.Option("--per-share", help="Money for each share, each side [default: the file's]")
    ] = None,
    per_order: Annotated[
        float | None, typer.Option("--per-order", help="Money for each order, of strategies with an account")
    ] = None,
    bars: Annotated[Path | None, typer.Option("--bars", help="Folder of bars, in place of the file's")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report to this file, for a browser")] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="A symbol of the store that the report compares with")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write trades and curve: a folder, or the beginning of two names")
    ] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same as parquet")] = None,
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
    asked = None if symbols is None else symbols_of(symbols)
    start_s, end_s = instant("--start", start, is_end=False), instant("--end", end, is_end=True)
    import msgspec

    if symbols is not None and asked is None:
        rules = msgspec.structs.replace(rules, symbols=None)
    from aworker.clock import now_s

    tables = {form: target for form, target in (("csv", csv), ("parquet", parquet)) if target is not None}
    request: dict[str, Any] = {
        "rules": msgspec.to_builtins(rules),
        "now_s": now_s(),
        "strategy_id": strategy_id,
        "strategy_version": version,
        "whole_curve": as_json or html is not None or bool(tables),
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
    if tables:
        # Files hold every trade, as far as memory goes.
        request["instance_limit"] = _EVERY_TRADE
    result = _run(request, is_shown=not as_json)
    said = [] if html is None else [_write_report(html, request, result, name, benchmark)]
    said += _write_tables(tables, result)
    from aworker.cli.screen.show import open_console, print_json, show_result

    if as_json:
        print_json(result)
    else:
        console = open_console()
        show_rules(console, rules)
        show_result(console, {**result, "strategy_id": name})
    for line in said:
        print(line, file=sys.stderr if as_json else sys.stdout)


def _strategy(config: Config, file_or_id: str) -> tuple[int, int | None, str, Rules]:
    if file_or_id.isascii() and file_or_id.isdigit():
        strategy_id = int(file_or_id)
        stored = asked_of_store(config, lambda store: store.get(strategy_id))
        return strategy_id, stored.version, f"{strategy_id} ({stored.name})", stored.rules
    file = Path(file_or_id)
    draft = read_draft(read_text(file), file)
    return 0, None, draft.name, draft.rules


def _write_report(
    file: Path, request: dict[str, Any], result: dict[str, Any], title: str, benchmark: str | None
) -> str:
    from aworker.trading.report.report import make_report

    without_costs = None
    costs = ("commission", "slippage", "borrow", "per_share", "per_order")
    if any(request[name] for name in costs):
        free = _run({**request, **dict.fromkeys(costs, 0.0)}, is_shown=False)
        without_costs = free["performance_metrics"]
    asked = {
        "result": result,
        "title": title,
        "benchmark": None if benchmark is None else benchmark.strip().upper(),
        "without_costs": without_costs,
        "market_data_path": request["market_data_path"],
    }
    write_whole(file, make_report(asked, quiet_context(lambda *_: None)), "--html")
    return f"The report is in {file}"


def write_whole(file: Path, text: str, option: str) -> None:
    """Write a file whole or not at all. Raises ConfigError that names the option."""
    from aworker.errors import ConfigError

    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise ConfigError(f"{option} must be a file that can be written, was {file} ({error}); correct it") from None


def _write_tables(tables: dict[str, Path], result: dict[str, Any]) -> list[str]:
    if not tables:
        return []
    from aworker.trading.report.export import write_tables

    written = [write_tables(result, target, form) for form, target in tables.items()]
    return [f"Trades are in {trades}, the curve in {curve}" for trades, curve in written]


def symbols_of(text: str) -> tuple[str, ...] | None:
    """Read ``--symbols``; None = all. Raises StrategyInvalid."""
    from aworker.trading.strategies.strategy import symbols_from_text

    return symbols_from_text(text, "--symbols")


def instant(option: str, text: str | None, *, is_end: bool) -> float | None:
    """Read a date option as epoch seconds. Raises typer.BadParameter."""
    from aworker.trading.handlers import asked_instant

    try:
        return asked_instant(option, text, is_end=is_end)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run(request: dict[str, Any], *, is_shown: bool) -> dict[str, Any]:
    import time

    from aworker.cli.screen.progress import ProgressLines
    from aworker.cli.screen.show import open_console
    from aworker.trading.backtest.backtest import run_backtest

    console = open_console()
    progress = ProgressLines(console)

    def update(stage: str, message: str, data: Any, fraction: float | None) -> None:
        if is_shown and console.is_terminal:
            progress.update({"stage": stage, "message": message, "data": {"fraction": fraction}})

    started = time.perf_counter()
    with progress.shown():
        result = run_backtest(request, quiet_context(update))
    return {**result, "execution_time_ms": int((time.perf_counter() - started) * 1_000)}


def quiet_context(update: ProgressSink) -> Context:
    """Return a context for work in this process, which nobody cancels."""
    from loguru import logger

    from aworker.execution.context import Context

    return Context(
        task_id="backtest",
        task_type="backtest",
        delivery=1,
        lease_id=0,
        logger=logger,
        progress=update,
        is_cancelled=lambda: False,
    )
