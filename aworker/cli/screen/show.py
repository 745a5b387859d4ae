"""How results look: tables and curves in a terminal, the same words as plain lines elsewhere.

Invariant: text that came from a task is printed without its control characters.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from aworker.cli.screen.chart import draw_curve

CHART_HEIGHT = 14
MOST_WIDTH = 100
TRADES_SHOWN = 5
SYMBOLS_NAMED = 10
FAILED_STATUSES = ("error", "failed")


def open_console() -> Console:
    """Return the console for results: stdout, 100 columns where it is no terminal."""
    is_terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=is_terminal,
        width=None if is_terminal else MOST_WIDTH,
    )


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def plain(value: object) -> str:
    """Return text whose control characters are escaped, so that it cannot steer the terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def line(value: object) -> str:
    """Return text as `plain` does, on one line whatever it holds."""
    return plain(value).replace("\n", "\\n")


def plural(noun: str, count: object) -> str:
    """Return the noun as it stands behind a count."""
    return noun if count == 1 else f"{noun}s"


def is_failure(record: Mapping[str, Any]) -> bool:
    """Whether a task ended in error, or its answer is no (``success`` false)."""
    data = record.get("data")
    return record.get("status") in FAILED_STATUSES or (isinstance(data, dict) and data.get("success") is False)


def show_record(console: Console, record: Mapping[str, Any]) -> None:
    """Show a task's record: its result if it has ended, else how far it is."""
    status, data = record.get("status"), record.get("data")
    if not isinstance(data, dict):
        data = {}
    if status in FAILED_STATUSES:
        kind, reason = (plain(data.get(field, "")) for field in ("error_type", "error"))
        words = reason if reason.startswith(f"{kind}:") else f"{kind}: {reason}"
        console.print(f"Failed, {words}", style="red", soft_wrap=True)
    elif status != "completed":
        at = data.get("started_at") or data.get("requeued_at") or record.get("updated_at")
        reason = f": {plain(data['retry_reason'])}" if data.get("retry_reason") else ""
        console.print(f"{plain(status).capitalize()} since {plain(at)}{reason}")
    elif data.get("success") is False:
        reason = plain(data.get("error") or data.get("error_message") or "no reason given")
        console.print(f"No: {reason}", style="red", soft_wrap=True)
    else:
        show_result(console, data)


def show_result(console: Console, data: Mapping[str, Any]) -> None:
    """Show what a handler returned: the four kinds of the wire protocol, or any other as JSON."""
    kind = "strategy" if isinstance(data.get("strategy"), dict) else data.get("execution_mode")
    show = _VIEWS.get(kind) if isinstance(kind, str) else None
    if show is not None:
        try:
            show(console, data)
            return
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
            # Somebody else's handler may return something that only looks like one of ours.
            console.print("Not a result of the usual form:", style="dim")
    text = msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
    console.print(text, soft_wrap=True)


def _show_strategy(console: Console, data: Mapping[str, Any]) -> None:
    strategy = data["strategy"]
    number, version = (plain(strategy.get(field)) for field in ("strategyId", "version"))
    console.print(f"Strategy {number}, version {version}: {plain(strategy.get('name'))}", style="bold", soft_wrap=True)
    for line in plain(strategy.get("pythonCode", "")).splitlines():
        console.print(f"  {line}", style="cyan", soft_wrap=True)


def _show_backtest(console: Console, data: Mapping[str, Any]) -> None:
    summary, metrics = _table(data, "summary"), _table(data, "performance_metrics")
    start, end = [*summary.get("date_range", ()), "?", "?"][:2]
    console.print(
        f"Backtest of strategy {plain(data.get('strategy_id'))}, {plain(start)} to {plain(end)}, "
        f"{counted(summary.get('symbols_processed', 0), 'symbol')}, "
        f"{counted(summary.get('total_instances', 0), 'trade')}",
        style="bold",
        soft_wrap=True,
    )
    for each in summary.get("warnings") or ([summary["note"]] if summary.get("note") else []):
        console.print(plain(each), style="yellow", soft_wrap=True)
    _show_without_bars(console, summary)
    held = _table(metrics, "buy_and_hold")
    table = Table("metric", box=None, padding=(0, 2, 0, 0))
    table.add_column("strategy", justify="right")
    table.add_column("buy and hold", justify="right")
    for label, field, form in _METRICS:
        if field in metrics:
            table.add_row(label, form(metrics[field]), form(held[field]) if field in held else "")
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    curve = metrics.get("equity_curve") or []
    unicode = (console.encoding or "").lower().startswith("utf")
    lines = draw_curve(curve, width=min(console.width, MOST_WIDTH), height=CHART_HEIGHT, unicode=unicode)
    if lines:
        console.print("Equity curve (1 = the starting capital)", style="bold")
        console.print("\n".join(lines), style="green", soft_wrap=True)
    instances = data.get("instances") or []
    if instances:
        shown = min(TRADES_SHOWN, len(instances))
        console.print(f"The latest {shown} of {counted(len(instances), 'trade')}", style="bold")
        console.print(Padding(_trades(instances[-TRADES_SHOWN:]), (0, 0, 0, 2), expand=False))


def _show_report(console: Console, data: Mapping[str, Any]) -> None:
    _show_backtest(console, data)
    console.print("Its report_html is a file for a browser", style="dim", soft_wrap=True)


def _show_sweep(console: Console, data: Mapping[str, Any]) -> None:
    from aworker.cli.screen.sweep import show_sweep

    show_sweep(console, data)


def _show_without_bars(console: Console, data: Mapping[str, Any]) -> None:
    symbols = data.get("symbols_without_bars")
    if isinstance(symbols, list) and symbols:
        named = ", ".join(line(symbol) for symbol in symbols[:SYMBOLS_NAMED])
        more = f" and {len(symbols) - SYMBOLS_NAMED:,} more" if len(symbols) > SYMBOLS_NAMED else ""
        console.print(f"Without bars: {named}{more}", style="dim", soft_wrap=True)


def _trades(instances: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("symbol", "entered", "left", box=None, padding=(0, 2, 0, 0))
    for heading in ("at", "out at", "return"):
        table.add_column(heading, justify="right")
    table.add_column("left by")
    for trade in instances:
        table.add_row(
            plain(trade.get("symbol")),
            date_text(trade.get("timestamp")),
            date_text(trade.get("exit_timestamp")),
            number(trade.get("entry_price")),
            number(trade.get("exit_price")),
            percent(trade.get("future_return")),
            plain(_table(trade, "strategy_results").get("exit_reason", "")),
        )
    return table


def _show_screening(console: Console, data: Mapping[str, Any]) -> None:
    ranking = data.get("ranked_results") or []
    console.print(
        f"Screening by strategy {plain(data.get('strategy_id'))}: "
        f"{len(ranking)} of {counted(data.get('universe_size'), 'symbol')}",
        style="bold",
        soft_wrap=True,
    )
    _show_without_bars(console, data)
    if ranking:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("place", justify="right")
        table.add_column("symbol")
        table.add_column("score", justify="right")
        table.add_column("price", justify="right")
        table.add_column("sector")
        for place, row in enumerate(ranking, start=1):
            table.add_row(str(place), *_symbol_cells(row))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _show_alerts(console: Console, data: Mapping[str, Any]) -> None:
    alerts = data.get("alerts") or []
    console.print(
        f"Alert check of strategy {plain(data.get('strategy_id'))}: {len(alerts)} new, "
        f"{counted(data.get('symbols_monitored'), 'symbol')} monitored",
        style="bold",
        soft_wrap=True,
    )
    _show_without_bars(console, data)
    if alerts:
        table = Table("symbol", box=None, padding=(0, 2, 0, 0))
        table.add_column("score", justify="right")
        table.add_column("price", justify="right")
        table.add_column("sector")
        table.add_column("bar")
        for row in alerts:
            table.add_row(*_symbol_cells(row), date_text(_table(row, "data").get("timestamp")))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _symbol_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (
        plain(row.get("symbol")),
        number(row.get("score")),
        number(row.get("current_price")),
        plain(row.get("sector") or ""),
    )


def _table(data: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = data.get(field)
    return value if isinstance(value, dict) else {}


def number(value: Any) -> str:
    """Return a number with two digits; a dash for what is none."""
    return f"{value:,.2f}" if isinstance(value, (int, float)) else "-"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def counted(value: Any, noun: str) -> str:
    """Return a count with its noun."""
    return f"{plain(value)} {plural(noun, value)}"


def percent(value: Any) -> str:
    """Return a fraction in per cent with its sign; a dash for what is none."""
    if not isinstance(value, (int, float)):
        return "-"
    text = f"{value:+.1%}"
    return "0.0%" if text[1:] == "0.0%" else text


def _share(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, (int, float)) else "-"


def date_text(value: Any) -> str:
    """Return epoch seconds as a date, with the time where it is not midnight; ``open`` for what is no number."""
    if not isinstance(value, (int, float)):
        return "open"
    moment = datetime.fromtimestamp(value, UTC)
    return moment.strftime("%Y-%m-%d" if value % 86_400 == 0 else "%Y-%m-%d %H:%M")


_METRICS = (
    ("total return", "total_return", percent),
    ("annual return", "annual_return", percent),
    ("volatility, a year", "volatility", _share),
    ("Sharpe ratio", "sharpe_ratio", number),
    ("Sortino ratio", "sortino_ratio", number),
    ("Calmar ratio", "calmar_ratio", number),
    ("maximum drawdown", "max_drawdown", percent),
    ("longest drawdown, bars", "max_drawdown_bars", _count),
    ("trades", "total_trades", _count),
    ("of them still open", "open_trades", _count),
    ("win rate", "win_rate", _share),
    ("profit factor", "profit_factor", number),
    ("mean return of a trade", "expectancy", percent),
    ("best trade", "best_trade", percent),
    ("worst trade", "worst_trade", percent),
    ("time in the market", "exposure", _share),
    ("turnover, a year", "turnover", number),
)

_VIEWS = {
    "strategy": _show_strategy,
    "backtest": _show_backtest,
    "report": _show_report,
    "sweep": _show_sweep,
    "screening": _show_screening,
    "realtime": _show_alerts,
}
