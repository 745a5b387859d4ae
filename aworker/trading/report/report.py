"""The report of a backtest: one HTML file from its result, its bars and, to tell what costs took, a run without them.

Why drawn here and not by a script in the page: a file that is mailed or kept for years must show the same without any
library, and a strategy's text is a stranger's, so nothing in the page may run.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from aworker.errors import TaskCancelled
from aworker.trading.backtest.performance import drawdowns, measure, sample_curve
from aworker.trading.bars.store import Bars, BarStore, NoBars, instant_text
from aworker.trading.report.drawing import Axis, Chart, Line, Mark, Span, columns_of, line, time_ticks
from aworker.trading.report.figures import (
    MONTHS,
    by_symbol,
    falls,
    histogram,
    rolling_bars,
    rolling_sharpe,
    shade,
    years,
)
from aworker.trading.strategies.strategy import percent_text

if TYPE_CHECKING:
    from aworker.execution.context import Context

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_CHARTS = 6
MOST_TRADES = 300
MOST_SYMBOLS = 100
_MOST_MARKS = 150
_MOST_TEXT = 400

_FIGURES = (
    ("Total return", "total_return", "percent"),
    ("Annual return", "annual_return", "percent"),
    ("Volatility, a year", "volatility", "percent"),
    ("Sharpe ratio", "sharpe_ratio", "ratio"),
    ("Sortino ratio", "sortino_ratio", "ratio"),
    ("Calmar ratio", "calmar_ratio", "ratio"),
    ("Deepest drawdown", "max_drawdown", "percent"),
    ("Longest drawdown, bars", "max_drawdown_bars", "whole"),
)
_TRADED = (
    ("Trades", "total_trades", "whole"),
    ("of them still open", "open_trades", "whole"),
    ("Win rate", "win_rate", "percent"),
    ("Profit factor", "profit_factor", "ratio"),
    ("Mean return of a trade", "expectancy", "percent"),
    ("Best trade", "best_trade", "percent"),
    ("Worst trade", "worst_trade", "percent"),
    ("Time in the market", "exposure", "percent"),
    ("Turnover, a year", "turnover", "ratio"),
)


class ReportRequest(msgspec.Struct, frozen=True):
    """What a report is made of."""

    result: dict[str, Any]
    """A backtest's, with its whole curves."""
    title: str
    benchmark: str | None = None
    """A symbol of the store to compare with."""
    without_costs: dict[str, Any] | None = None
    """``performance_metrics`` of the same backtest at no cost; None = it had no costs."""
    market_data_path: str | None = None


def add_report(request: dict[str, Any], whole_curve: bool, context: Context) -> dict[str, Any]:
    """Return the result of a `ReportRequest` with the report in ``report_html``, its curve as long as was asked."""
    html = make_report(request, context)
    result = dict(request["result"])
    if not whole_curve:
        metrics = dict(result["performance_metrics"])
        metrics["equity_curve"] = sample_curve(*curve_of(metrics["equity_curve"]))
        metrics["buy_and_hold"] = {
            name: value for name, value in metrics["buy_and_hold"].items() if name != "equity_curve"
        }
        result["performance_metrics"] = metrics
    return {**result, "report_html": html}


def make_report(request: dict[str, Any], context: Context) -> str:
    """Return the report as HTML; ``request`` is a `ReportRequest` as a dict.

    The same request and bars give the same bytes. Raises NoBars when the benchmark has no bars in the window,
    TaskCancelled when cancelled on the way.
    """
    asked = msgspec.convert(request, ReportRequest)
    metrics, summary = asked.result["performance_metrics"], asked.result["summary"]
    timeframe = summary["timeframe"]
    timestamp, equity = curve_of(metrics["equity_curve"])
    held = curve_of(metrics["buy_and_hold"]["equity_curve"])[1]
    store = BarStore(asked.market_data_path)
    benchmark = None if asked.benchmark is None else _benchmark(store, asked.benchmark, timeframe, timestamp)
    instances = asked.result["instances"]
    charts: list[dict[str, Any]] = []
    traded = by_symbol(instances)
    for symbol in list(traded)[:MOST_CHARTS]:
        if context.cancelled:
            raise TaskCancelled("report must be made to its end, was cancelled")
        context.progress("report", f"drawing {symbol}", fraction=len(charts) / (MOST_CHARTS + 1))
        bars = store.load(symbol, timeframe, float(timestamp[0]), float(timestamp[-1]))
        charts.append({"symbol": symbol, "trades": len(traded[symbol]), "chart": _prices(bars, traded[symbol])})
    periods = metrics["periods_per_year"]
    bars_rolled = rolling_bars(len(equity), periods)
    months = years(timestamp, equity)
    others = [("Buy and hold", metrics["buy_and_hold"])]
    if benchmark is not None:
        others.append((f"{asked.benchmark}, held", measure(benchmark, periods)))
    if asked.without_costs is not None:
        others.append(("Without costs", asked.without_costs))
    scale = _scale([month for year in months for month in year.months if month is not None])
    return (
        environment()
        .get_template("backtest.html")
        .render(
            title=asked.title,
            summary=summary,
            metrics=metrics,
            made_from=asked.result["made_from"],
            timeframe=timeframe,
            has_account=any(line.startswith("capital:") for line in asked.result["made_from"]["rules"]),
            has_parts=any(line.startswith("scale_out:") for line in asked.result["made_from"]["rules"]),
            columns=[name for name, _ in others],
            figures=[
                (label, form, metrics.get(field), [each.get(field) for _, each in others])
                for label, field, form in _FIGURES
            ],
            traded=[(label, form, metrics[field]) for label, field, form in _TRADED if field in metrics],
            equity=_equity(timestamp, equity, held, benchmark, asked.benchmark, asked.without_costs),
            fall=_fall(timestamp, equity, held),
            falls=falls(timestamp, equity),
            years=months,
            month_names=MONTHS,
            shades=[[shade(month, scale) for month in (*year.months, year.total)] for year in months],
            rolled=_rolled(timestamp, equity, held, periods, bars_rolled) if bars_rolled else None,
            rolled_bars=bars_rolled,
            returns=columns_of(
                histogram([trade["future_return"] for trade in instances]), "How many trades returned how much"
            )
            if instances
            else None,
            costs=_costs(metrics, asked.without_costs),
            charts=charts,
            symbols=_symbols(traded),
            symbols_more=max(len(traded) - MOST_SYMBOLS, 0),
            trades=instances[::-1][:MOST_TRADES],
            reasons=_reasons(instances),
            listed=len(instances),
        )
    )


@cache
def environment() -> Environment:
    """Return the templates, with autoescape and without anything that is not defined."""
    made = Environment(
        loader=PackageLoader("aworker.trading.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(figure=figure, short=short, date=date, sign=sign, parts=parts_text)
    return made


def short(value: object, most: int = _MOST_TEXT) -> str:
    """Return text of a bounded length in which what cannot be seen, or turns its neighbours around, is an escape."""
    text = str(value)
    cut = text[:most]
    shown = cut if cut.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)
    return shown if len(text) <= most else shown + "…"


def figure(value: Any, form: str) -> str:
    """Return a figure in words; a dash where it is undefined."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–"
    if form == "percent":
        text = f"{value:,.1%}"
    elif form == "whole":
        text = f"{value:,.0f}"
    elif form == "price":
        text = f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4g}"
    else:
        text = f"{value:,.2f}"
    bare = text.strip("-0.,%")
    return (text.lstrip("-") if not bare else text).replace("-", "−").replace("%", " %")


def sign(value: Any) -> str:
    """Return the class of a figure that is good above 0."""
    if not isinstance(value, (int, float)) or abs(value) < 5e-5:
        return ""
    return "gain" if value > 0 else "loss"


def date(value: Any, timeframe: str) -> str:
    """Return a bar's instant; a dash for None."""
    return "–" if value is None else instant_text(value, timeframe).replace("T", " ").removesuffix("Z")


def curve_of(points: list[list[Any]]) -> tuple[Integers, Floats]:
    """Return a result's [epoch s, value] pairs as instants and values."""
    table = np.array(points, np.float64).reshape(len(points), 2)
    return table[:, 0].astype(np.int64), table[:, 1].copy()


def last_price(trade: dict[str, Any]) -> float:
    """Return the price at which a trade ended; ``exit_price`` is the mean where parts were sold before."""
    mean, sold = float(trade["exit_price"]), trade["strategy_results"].get("parts_sold", [])
    left = 1.0 - sum(each["part"] for each in sold)
    return (mean - sum(each["part"] * each["price"] for each in sold)) / left if sold else mean


def parts_text(sold: list[dict[str, Any]] | None, timeframe: str) -> str | None:
    """Return what of a trade was sold before the rest, as in ``2020-01-02 50% at 11``; None without any."""
    if not sold:
        return None
    legs = ((date(each["timestamp"], timeframe), percent_text(round(each["part"], 6)), each["price"]) for each in sold)
    return "; ".join(f"{day} {part} at {price:.10g}" for day, part, price in legs)


def _benchmark(store: BarStore, symbol: str, timeframe: str, timestamp: Integers) -> Floats:
    # What 1 became at each of the portfolio's bars; 1 before its own first.
    bars = store.load(symbol, timeframe, float(timestamp[0]), float(timestamp[-1]))
    known = np.isfinite(bars.close) & (bars.close > 0)
    at, close = bars.timestamp[known], bars.close[known]
    if not len(close):
        first, last = (instant_text(float(timestamp[place]), timeframe) for place in (0, -1))
        raise NoBars(
            f"benchmark must have {timeframe} bars from {first} to {last}, {symbol[:40]} has none; choose another"
        )
    latest = np.searchsorted(at, timestamp, side="right") - 1
    return np.where(latest >= 0, close[np.maximum(latest, 0)] / close[0], 1.0)


def _equity(
    timestamp: Integers,
    equity: Floats,
    held: Floats,
    benchmark: Floats | None,
    name: str | None,
    without_costs: dict[str, Any] | None,
) -> Chart:
    curves = [("Buy and hold", "held", held)]
    if benchmark is not None:
        curves.append((f"{name}, held", "benchmark", benchmark))
    if without_costs is not None:
        curves.append(("Without costs", "costless", curve_of(without_costs["equity_curve"])[1]))
    curves.append(("Strategy", "own", equity))
    axis = axis_of([values for _, _, values in curves], may_be_logarithmic=True)
    lines = [labelled(title, kind, values, axis, f"{values[-1]:.2f}") for title, kind, values in curves]
    words = f"Equity in units of the start: {equity[-1]:.3f} at the end, buy and hold {held[-1]:.3f}"
    return Chart(
        words,
        lines,
        axis.ticks("{:g}"),
        time_ticks(timestamp),
        base=axis.place(1.0),
        is_logarithmic=axis.is_logarithmic,
    )


def _fall(timestamp: Integers, equity: Floats, held: Floats) -> Chart:
    own, other = drawdowns(equity), drawdowns(held)
    axis = axis_of([own, other, np.zeros(1)])
    shape = labelled("Strategy", "own", own, axis, f"{own.min():.1%}")
    zero = axis.place(0.0)
    # A whole curve is one piece.
    area = f"0,{zero} {shape.points[0]} 1000,{zero}" if shape.points else ""
    return Chart(
        f"How far equity stood below its high: {own.min():.1%} at the deepest, buy and hold {other.min():.1%}",
        [labelled("Buy and hold", "held", other, axis, f"{other.min():.1%}"), shape],
        axis.ticks("{:.0%}"),
        time_ticks(timestamp),
        base=zero,
        area=area,
    )


def _rolled(timestamp: Integers, equity: Floats, held: Floats, periods: float, bars: int) -> Chart:
    own, other = (rolling_sharpe(each, periods, bars) for each in (equity, held))
    axis = axis_of([own, other, np.zeros(1)])
    lines = [labelled("Buy and hold", "held", other, axis), labelled("Strategy", "own", own, axis)]
    label = f"Sharpe ratio of the last {bars:,} bars, strategy and buy and hold"
    return Chart(label, lines, axis.ticks("{:g}"), time_ticks(timestamp), base=axis.place(0.0))


def _prices(bars: Bars, trades: list[dict[str, Any]]) -> Chart:
    shown = trades[-_MOST_MARKS:]
    axis = axis_of([bars.close], may_be_logarithmic=True)
    last = max(len(bars) - 1, 1)
    spans, marks = [], []

    def place(at: int, price: float) -> tuple[float, float]:
        x = int(np.searchsorted(bars.timestamp, at)) / last * 100
        return round(min(x, 100.0), 2), round(min(max(axis.place(price) / 10, 0.0), 100.0), 2)

    for trade in shown:
        entry = place(trade["timestamp"], trade["entry_price"])
        exit_at = trade["exit_timestamp"]
        out = place(int(bars.timestamp[-1]) if exit_at is None else exit_at, last_price(trade))
        change = trade["future_return"]
        spans.append(Span("gain" if change > 0 else "loss", *entry, *out))
        day, price = date(trade["timestamp"], bars.timeframe), figure(trade["entry_price"], "price")
        marks.append(Mark("entry", *entry, f"in {day} at {price}"))
        for each in trade["strategy_results"].get("parts_sold", []):
            day, price = date(each["timestamp"], bars.timeframe), figure(each["price"], "price")
            part = figure(each["part"], "percent")
            marks.append(Mark("part", *place(each["timestamp"], each["price"]), f"{part} out {day} at {price}"))
        if exit_at is not None:
            day, price = date(exit_at, bars.timeframe), figure(last_price(trade), "price")
            marks.append(Mark("exit", *out, f"out {day} at {price}, {figure(change, 'percent')}"))
    return Chart(
        f"Closing price of {bars.symbol} with {len(shown):,} trades",
        [labelled("Close", "price", bars.close, axis)],
        axis.ticks("{:g}"),
        time_ticks(bars.timestamp),
        spans=spans,
        marks=marks,
        is_logarithmic=axis.is_logarithmic,
    )


def labelled(name: str, kind: str, values: Floats, axis: Axis, last: str = "") -> Line:
    """Return a curve with its last value in words."""
    return line(name, kind, values, axis, last.replace("-", "−").replace("%", " %"))


def axis_of(curves: list[Floats], *, may_be_logarithmic: bool = False) -> Axis:
    """Return an axis on which every value of the curves is."""
    known = np.concatenate(curves)
    known = known[np.isfinite(known)]
    if not len(known):
        known = np.zeros(1)
    return Axis(float(known.min()), float(known.max()), may_be_logarithmic=may_be_logarithmic)


def _scale(changes: list[float]) -> float:
    # Of which month the colour is the strongest: one that few are beyond, so that a single one does not pale the rest.
    return float(np.percentile(np.abs(changes), 90)) if changes else 0.0


def _costs(metrics: dict[str, Any], without: dict[str, Any] | None) -> dict[str, Any] | None:
    if without is None:
        return None
    total, bare = metrics["total_return"], without["total_return"]
    if total is None or bare is None:
        return None
    return {"taken": bare - total, "bare": bare, "share": (bare - total) / bare if bare > 0 else None}


def _symbols(traded: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for symbol, trades in list(traded.items())[:MOST_SYMBOLS]:
        changes = np.array([trade["future_return"] for trade in trades])
        rows.append(
            {
                "symbol": symbol,
                "trades": len(trades),
                "win_rate": float(np.mean(changes > 0)),
                "mean": float(changes.mean()),
                "best": float(changes.max()),
                "worst": float(changes.min()),
            }
        )
    return rows


def _reasons(instances: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    found: dict[str, list[float]] = {}
    for trade in instances:
        found.setdefault(str(trade["strategy_results"].get("exit_reason", "")), []).append(trade["future_return"])
    ordered = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [(reason.replace("_", " "), len(changes), float(np.mean(changes))) for reason, changes in ordered]
