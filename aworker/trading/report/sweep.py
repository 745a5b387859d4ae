"""The report of a sweep: the best and what it is worth, the heat map, the walk forward, the combinations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aworker.trading.report.drawing import Chart, time_ticks
from aworker.trading.report.figures import shade
from aworker.trading.report.report import axis_of, curve_of, environment, labelled

if TYPE_CHECKING:
    from aworker.execution.context import Context

MOST_ROWS = 100
_MOST_CELLS = 4_000
_WORDS = {
    "sharpe_ratio": "Sharpe ratio",
    "sortino_ratio": "Sortino ratio",
    "calmar_ratio": "Calmar ratio",
    "total_return": "total return",
    "annual_return": "annual return",
    "max_drawdown": "deepest drawdown",
}


def add_sweep_report(result: dict[str, Any], title: str, context: Context) -> dict[str, Any]:
    """Return a sweep's result with its report in ``report_html``."""
    return {**result, "report_html": make_sweep_report(result, title, context)}


def make_sweep_report(result: dict[str, Any], title: str, context: Context) -> str:
    """Return the report of a sweep as HTML; the same result gives the same bytes."""
    metric = result["metric"]
    form = "ratio" if metric.endswith("_ratio") else "percent"
    best = result["best"]
    timestamp, equity = curve_of(best["performance_metrics"]["equity_curve"])
    held = curve_of(best["performance_metrics"]["buy_and_hold"]["equity_curve"])[1]
    walked = result["walk_forward"]
    walk = None
    if walked is not None:
        times, followed = curve_of(walked["equity_curve"])
        walk = _curves(times, followed, curve_of(walked["buy_and_hold_curve"])[1], "Followed")
    return (
        environment()
        .get_template("sweep.html")
        .render(
            title=title,
            result=result,
            metric=_WORDS[metric],
            form=form,
            best=best,
            metrics=best["performance_metrics"],
            equity=_curves(timestamp, equity, held, "The best"),
            walked=walked,
            walk=walk,
            heat=_heat(result["heat_map"], best["parameters"]),
            rows=result["combinations"][:MOST_ROWS],
            names=list(best["parameters"]),
        )
    )


def _curves(timestamp: Any, own: Any, held: Any, name: str) -> Chart:
    # Both are samples of one timeline, whose instants may differ.
    axis = axis_of([own, held], may_be_logarithmic=True)
    lines = [
        labelled("Buy and hold", "held", held, axis, f"{held[-1]:.2f}"),
        labelled(name, "own", own, axis, f"{own[-1]:.2f}"),
    ]
    label = f"Equity in units of the start: {own[-1]:.3f} at the end, buy and hold {held[-1]:.3f}"
    return Chart(
        label,
        lines,
        axis.ticks("{:g}"),
        time_ticks(timestamp),
        base=axis.place(1.0),
        is_logarithmic=axis.is_logarithmic,
    )


def _heat(heat: dict[str, Any] | None, best: dict[str, Any]) -> dict[str, Any] | None:
    if heat is None or len(heat["row_values"]) * len(heat["column_values"]) > _MOST_CELLS:
        return None
    known = [value for line in heat["values"] for value in line if value is not None]
    middle = float(np.median(known)) if known else 0.0
    scale = float(np.percentile(np.abs(np.array(known) - middle), 95)) if known else 0.0
    rows = []
    for name, line in zip(heat["row_values"], heat["values"], strict=True):
        cells = []
        for column, value in zip(heat["column_values"], line, strict=True):
            is_best = best[heat["rows"]] == name and best[heat["columns"]] == column
            kind = "" if value is None else shade(value - middle, scale)
            cells.append((value, f"{kind} best".strip() if is_best else kind))
        rows.append((name, cells))
    return {**heat, "lines": rows}
