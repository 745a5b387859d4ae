"""``aworker sweep``: many values of a strategy's parameters, in this machine's cores, without a queue."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aworker.cli.domain.backtest import instant, quiet_context, symbols_of, write_whole
from aworker.cli.domain.strategy import STDIN, read_text
from aworker.cli.options import ConfigOption, JsonOption, configured

if TYPE_CHECKING:
    from aworker.execution.context import ProgressSink


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Rules with {n} where a parameter stands; - reads stdin")
    ],
    set_: Annotated[
        list[str], typer.Option("--set", help="NAME=FROM..TO:STEP or NAME=5,10,20; once for each parameter")
    ],
    metric: Annotated[
        str,
        typer.Option(
            "--by",
            help="sharpe_ratio, sortino_ratio, calmar_ratio, total_return, annual_return or max_drawdown",
        ),
    ] = "sharpe_ratio",
    walk_forward: Annotated[
        int, typer.Option("--walk-forward", min=0, help="Parts in which the best of the bars before is followed")
    ] = 0,
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
    bars: Annotated[Path | None, typer.Option("--bars", help="Folder of bars, in place of the file's")] = None,
    processes: Annotated[int, typer.Option("--processes", min=0, help="0 = one per core")] = 0,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report to this file, for a browser")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Backtest a strategy with many values of its parameters.

    Shows the best and what it is worth, here and now, without a queue.
    """
    from aworker.clock import now_s
    from aworker.trading.backtest.parameters import read_setting

    settings = configured(
        config,
        backtest={"commission": commission, "slippage": slippage, "borrow": borrow},
        market_data={"path": None if bars is None else str(bars)},
    )
    parameters: dict[str, list[str]] = {}
    for text in set_:
        name, values = read_setting("--set", text)
        if name in parameters:
            raise typer.BadParameter(f"--set must be given once for each parameter, was twice for {name}")
        parameters[name] = values
    asked = None if symbols is None else symbols_of(symbols)
    request: dict[str, Any] = {
        "text": read_text(file),
        "parameters": parameters,
        "now_s": now_s(),
        "metric": metric,
        "folds": walk_forward,
        "symbols": None if asked is None else list(asked),
        "all_symbols": symbols is not None and asked is None,
        "start_s": instant("--start", start, is_end=False),
        "end_s": instant("--end", end, is_end=True),
        "market_data_path": settings.market_data.path or None,
        "commission": settings.backtest.commission,
        "slippage": settings.backtest.slippage,
        "borrow": settings.backtest.borrow,
        "per_share": settings.backtest.per_share,
        "per_order": settings.backtest.per_order,
    }
    result = _run(request, processes or len(os.sched_getaffinity(0)), is_shown=not as_json)
    title = "Sweep" if str(file) == STDIN else file.stem
    if html is not None:
        from aworker.trading.report.sweep import make_sweep_report

        write_whole(html, make_sweep_report(result, title, quiet_context(lambda *_: None)), "--html")
    from aworker.cli.screen.show import open_console, print_json, show_result

    if as_json:
        print_json(result)
    else:
        show_result(open_console(), result)
    if html is not None:
        print(f"The report is in {html}", file=sys.stderr if as_json else sys.stdout)


def _run(request: dict[str, Any], processes: int, *, is_shown: bool) -> dict[str, Any]:
    from aworker.cli.screen.progress import ProgressLines
    from aworker.cli.screen.show import open_console
    from aworker.trading.backtest.sweep import merge_sweep, plan_sweep, sweep_chunk

    console = open_console()
    progress = ProgressLines(console)

    def update(stage: str, message: str, data: Any, fraction: float | None) -> None:
        if is_shown and console.is_terminal:
            progress.update({"stage": stage, "message": message, "data": {"fraction": fraction}})

    started = time.perf_counter()
    with progress.shown():
        context = quiet_context(update)
        plan = plan_sweep(request, context)
        if len(plan["chunks"]) > 1 and processes > 1:
            result = _in_children(plan, processes, update)
        else:
            made, done, total = [], 0, plan["request"]["count"]
            for chunk in plan["chunks"]:
                made.append(sweep_chunk(chunk, context))
                done += chunk["count"]
                update("sweep", f"{done:,} of {total:,} combinations", None, done / total)
            result = merge_sweep(plan["request"], made, context)
    return {**result, "execution_time_ms": int((time.perf_counter() - started) * 1_000)}


def _in_children(plan: dict[str, Any], processes: int, update: ProgressSink) -> dict[str, Any]:
    import anyio
    from loguru import logger

    from aworker.execution.context import Context
    from aworker.execution.pool.frames import TaskInfo
    from aworker.execution.pool.parent import PoolSettings, open_pool
    from aworker.trading.chunks import SWEEP, run_plan

    # One child never takes chunks, so that short work of others flows: here there is none.
    settings = PoolSettings(processes=processes, preload=("aworker.trading.backtest.sweep",), log_level="WARNING")

    async def run() -> dict[str, Any]:
        async with open_pool(settings, log=lambda record: logger.warning(record.message)) as pool:

            async def offload(function: Any, *args: Any, chunk: bool = False) -> Any:
                return await pool.call(function, args, task=TaskInfo("sweep", "sweep"), on_progress=lambda *_: None)

            context = Context(
                task_id="sweep",
                task_type="sweep",
                delivery=1,
                lease_id=0,
                logger=logger,
                progress=update,
                is_cancelled=lambda: False,
                offload=offload,
            )
            return await run_plan(SWEEP, plan, context)

    return anyio.run(run)
