"""A backtest's trades and curve as tables for other programs: CSV and parquet, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from aworker.errors import ConfigError
from aworker.trading.backtest.performance import drawdowns
from aworker.trading.report.report import curve_of, parts_text

_WRITE: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "csv": lambda frame, file: frame.write_csv(file, datetime_format="%Y-%m-%dT%H:%M:%SZ"),
    "parquet": lambda frame, file: frame.write_parquet(file),
}


def trades_table(result: dict[str, Any]) -> pl.DataFrame:
    """Return a row a trade, oldest first: symbol, instants in UTC, prices, return, and what else the result says."""
    instances = result["instances"]
    columns: dict[str, Any] = {
        "symbol": [trade["symbol"] for trade in instances],
        "entered_at": _instants([trade["timestamp"] for trade in instances]),
        "left_at": _instants([trade["exit_timestamp"] for trade in instances]),
        "entry_price": pl.Series([trade["entry_price"] for trade in instances], dtype=pl.Float64),
        "exit_price": pl.Series([trade["exit_price"] for trade in instances], dtype=pl.Float64),
        "return": pl.Series([trade["future_return"] for trade in instances], dtype=pl.Float64),
        "won": pl.Series([trade["classification"] for trade in instances], dtype=pl.Boolean),
    }
    more = dict.fromkeys(name for trade in instances for name in trade["strategy_results"])
    for name in more or ("exit_reason", "bars_held", "capital_before"):
        columns[name] = [trade["strategy_results"].get(name) for trade in instances]
    if "parts_sold" in columns:
        timeframe = result["summary"]["timeframe"]
        columns["parts_sold"] = [parts_text(each, timeframe) for each in columns["parts_sold"]]
    return pl.DataFrame(columns)


def curve_table(result: dict[str, Any]) -> pl.DataFrame:
    """Return a row a bar: instant in UTC, equity, drawdown, and what buying and holding was worth.

    ``result`` must have its whole curves.
    """
    metrics = result["performance_metrics"]
    timestamp, equity = curve_of(metrics["equity_curve"])
    return pl.DataFrame(
        {
            "timestamp": _instants(timestamp.tolist()),
            "equity": equity,
            "drawdown": drawdowns(equity),
            "buy_and_hold": curve_of(metrics["buy_and_hold"]["equity_curve"])[1],
        }
    )


def write_tables(result: dict[str, Any], target: Path, form: str) -> list[Path]:
    """Write trades and curve as ``csv`` or ``parquet`` and return the two files.

    Into a folder that is there: ``trades.csv`` and ``curve.csv``; else beside each other: of ``out.csv`` or ``out``
    ``out-trades.csv`` and ``out-curve.csv``. Raises ConfigError where they cannot be written.
    """
    is_folder = target.is_dir()
    stem = target.name.removesuffix(f".{form}")
    written = []
    for name, table in (("trades", trades_table(result)), ("curve", curve_table(result))):
        file = target / f"{name}.{form}" if is_folder else target.with_name(f"{stem}-{name}.{form}")
        try:
            _WRITE[form](table, file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ConfigError(
                f"--{form} must be a folder or a name in one that can be written, was {target} ({error}); correct it"
            ) from None
        written.append(file)
    return written


def _instants(values: list[int | None]) -> pl.Series:
    return (pl.Series(values, dtype=pl.Int64) * 1000).cast(pl.Datetime("ms", "UTC"))
