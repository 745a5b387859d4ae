"""How a sweep looks in a terminal: the best and what to think of it, the heat map, the walk forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aworker.cli.screen.chart import draw_curve
from aworker.cli.screen.show import CHART_HEIGHT, MOST_WIDTH, counted, number, percent, plain

ROWS_SHOWN = 10
MOST_COLUMNS = 12
MOST_LINES = 40
_COLD, _WARM = (178, 24, 43), (27, 120, 55)


def show_sweep(console: Console, data: Mapping[str, Any]) -> None:
    """Show what a sweep found."""
    summary, best = data["summary"], data["best"]
    start, end = summary["date_range"]
    console.print(
        f"Sweep of {counted(data['tries'], 'combination')}, {plain(start)} to {plain(end)}, "
        f"{counted(summary['symbols_processed'], 'symbol')}, by {plain(data['metric'])}",
        style="bold",
        soft_wrap=True,
    )
    for each in summary["warnings"]:
        console.print(plain(each), style="yellow", soft_wrap=True)
    names = list(best["parameters"])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (*names, "total", "annual", "Sharpe", "Sortino", "drawdown", "trades"):
        table.add_column(plain(name), justify="right")
    for row in data["combinations"][:ROWS_SHOWN]:
        figures = (row["total_return"], row["annual_return"], row["sharpe_ratio"], row["sortino_ratio"])
        forms = (percent, percent, number, number)
        table.add_row(
            *(plain(row["parameters"][name]) for name in names),
            *(form(value) for form, value in zip(forms, figures, strict=True)),
            percent(row["max_drawdown"]),
            plain(row["total_trades"]),
        )
    shown = min(ROWS_SHOWN, len(data["combinations"]))
    console.print(f"The best {shown} of {counted(data['tries'], 'combination')}", style="bold")
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    console.print(
        f"Sharpe ratio {number(best['performance_metrics']['sharpe_ratio'])}, {number(data['best_sharpe_by_chance'])} "
        f"by chance alone among so many; deflated Sharpe ratio {_probability(data['deflated_sharpe_ratio'])}",
        soft_wrap=True,
    )
    _show_heat(console, data)
    if data["walk_forward"]:
        _show_walk(console, data["walk_forward"], plain(data["metric"]))


def _show_heat(console: Console, data: Mapping[str, Any]) -> None:
    heat = data["heat_map"]
    if not heat or len(heat["column_values"]) > MOST_COLUMNS or len(heat["row_values"]) > MOST_LINES:
        return
    known = [value for line in heat["values"] for value in line if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    is_ratio = str(data["metric"]).endswith("_ratio")
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(f"{plain(heat['rows'])} \\ {plain(heat['columns'])}", justify="right")
    for value in heat["column_values"]:
        table.add_column(plain(value), justify="right")
    for name, line in zip(heat["row_values"], heat["values"], strict=True):
        cells = [Text(number(value) if is_ratio else percent(value), style=_heat(value, low, high)) for value in line]
        table.add_row(plain(name), *cells)
    console.print(f"{plain(data['metric'])} by {plain(heat['rows'])} and {plain(heat['columns'])}", style="bold")
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _heat(value: float | None, low: float, high: float) -> str:
    if value is None or not high > low:
        return ""
    part = (value - low) / (high - low)
    mixed = (round(cold + (warm - cold) * part) for cold, warm in zip(_COLD, _WARM, strict=True))
    return "white on rgb({},{},{})".format(*mixed)


def _show_walk(console: Console, walked: Mapping[str, Any], metric: str) -> None:
    metrics = walked["performance_metrics"]
    console.print(
        f"Walked forward: {percent(metrics['total_return'])} out of sample, Sharpe ratio "
        f"{number(metrics['sharpe_ratio'])} (buy and hold {percent(metrics['buy_and_hold']['total_return'])}, "
        f"{number(metrics['buy_and_hold']['sharpe_ratio'])})",
        style="bold",
        soft_wrap=True,
    )
    table = Table("followed from", "to", "parameters", box=None, padding=(0, 2, 0, 0))
    for heading in (f"{metric} before", "followed", "return"):
        table.add_column(heading, justify="right")
    for part in walked["parts"]:
        chosen = part["parameters"] or {}
        table.add_row(
            plain(part["followed_from"]),
            plain(part["followed_to"]),
            ", ".join(f"{plain(name)} {plain(value)}" for name, value in chosen.items()) or "none traded",
            number(part["in_sample"]),
            number(part["out_of_sample"]),
            percent(part["return"]),
        )
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    unicode = (console.encoding or "").lower().startswith("utf")
    lines = draw_curve(
        walked["equity_curve"], width=min(console.width, MOST_WIDTH), height=CHART_HEIGHT, unicode=unicode
    )
    if lines:
        console.print("Out-of-sample equity (1 = the starting capital)", style="bold")
        console.print("\n".join(lines), style="green", soft_wrap=True)


def _probability(value: Any) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else "undefined"
