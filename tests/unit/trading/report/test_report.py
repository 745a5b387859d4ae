"""The file itself: nothing foreign in it, nothing that runs, the same bytes each time, and everything said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aworker.errors import ConfigError, TaskCancelled
from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.bars.store import NoBars
from aworker.trading.report.export import write_tables
from aworker.trading.report.report import add_report, make_report
from tests.kit.market import START_S, Recorder, context, random_bars, store_of

RULES: dict[str, Any] = {
    "entry": "close > sma(close, 5)",
    "exit": "close < sma(close, 5)",
    "risk": {"stop_loss": 0.03},
}
HOSTILE = (
    "</title><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)> \u202etxt.exe \x00{{ 7*7 }}"
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return store_of(tmp_path / "bars", *(random_bars(seed, 400, f"S{seed}") for seed in range(1, 4)))


def backtested(path: str, **changes: Any) -> dict[str, Any]:
    request = {
        "rules": RULES,
        "now_s": START_S + 400 * 86_400,
        "start_s": START_S,
        "market_data_path": path,
        "whole_curve": True,
        **changes,
    }
    return run_backtest(request, context())


def report(path: str, result: dict[str, Any], **more: Any) -> str:
    return make_report({"result": result, "title": "Above", "market_data_path": path, **more}, context())


def test_it_says_everything(path: str) -> None:
    costly = backtested(path, commission=0.001)
    free = backtested(path)

    html = report(path, costly, benchmark="S2", without_costs=free["performance_metrics"])

    for heading in ("The rules", "Equity", "Months", "Costs", "Trades", "What this assumes"):
        assert f">{heading}</h2>" in html
    assert "S2, held" in html
    assert "stop_loss: 3%" in html
    assert "Commission 0.1 % of each fill" in html
    taken = free["performance_metrics"]["total_return"] - costly["performance_metrics"]["total_return"]
    assert f"They took {taken * 100:,.1f} % of the starting capital" in html
    assert costly["made_from"]["bars"]["fingerprint"] in html
    for warning in costly["summary"]["warnings"]:
        assert warning in html
    assert html.count('<use class="entry"') == costly["performance_metrics"]["total_trades"]
    assert html.count("<h1>") == 1


def test_the_same_gives_the_same_bytes(path: str) -> None:
    assert report(path, backtested(path)) == report(path, backtested(path))


def test_text_of_strangers_is_text(path: str) -> None:
    result = backtested(path)
    result["summary"]["warnings"] = [HOSTILE]
    result["made_from"]["rules"] = [HOSTILE]
    result["summary"]["symbols_without_bars"] = [HOSTILE]
    for trade in result["instances"]:
        trade["strategy_results"]["exit_reason"] = HOSTILE

    html = report(path, result, title=HOSTILE)

    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "{{ 7*7 }}" in html


def test_it_asks_no_host_and_runs_nothing(path: str) -> None:
    html = report(path, backtested(path), benchmark="S1")

    assert (
        re.findall(r"https?:|//[a-z]|@import|url\(|<script|<link(?! rel=\"icon\" href=\"data:,\")|\son\w+=", html) == []
    )
    assert "default-src 'none'" in html


def test_no_trade_is_said(path: str) -> None:
    result = backtested(path, rules={"entry": "close < 0"})

    html = report(path, result)

    assert "There was none." in html
    assert "<figure" in html


@pytest.mark.parametrize("bars", [1, 2, 3])
def test_a_few_bars_are_enough(tmp_path: Path, bars: int) -> None:
    few = store_of(tmp_path / "few", random_bars(1, bars, "FEW"))

    html = report(few, backtested(few, rules={"entry": "close > 0"}, symbols=["FEW"]))

    assert "too short for a rolling Sharpe ratio" in html


def test_a_benchmark_without_bars_is_refused(path: str) -> None:
    with pytest.raises(NoBars, match="symbols must have 1d bars in the store, was NOPE"):
        report(path, backtested(path), benchmark="NOPE")


def test_a_cancelled_report_ends(path: str) -> None:
    asked = {"result": backtested(path), "title": "x", "market_data_path": path}

    with pytest.raises(TaskCancelled, match="was cancelled"):
        make_report(asked, Recorder(cancel_after=1).context())


def test_a_result_keeps_its_short_curve(path: str) -> None:
    whole = backtested(path)
    short = backtested(path, whole_curve=False)

    made = add_report({"result": whole, "title": "x", "market_data_path": path}, False, context())

    html = made.pop("report_html")
    assert html.startswith("<!doctype html>")
    assert made == short


def test_tables_hold_every_trade_and_every_bar(path: str, tmp_path: Path) -> None:
    result = backtested(path)

    csv = write_tables(result, tmp_path / "out.csv", "csv")
    parquet = write_tables(result, tmp_path, "parquet")

    assert [file.name for file in csv] == ["out-trades.csv", "out-curve.csv"]
    assert [file.name for file in parquet] == ["trades.parquet", "curve.parquet"]
    for trades, curve in ((pl.read_csv(csv[0]), pl.read_csv(csv[1])), tuple(pl.read_parquet(each) for each in parquet)):
        assert trades["return"].to_list() == [trade["future_return"] for trade in result["instances"]]
        assert curve["equity"].to_list() == [value for _, value in result["performance_metrics"]["equity_curve"]]
        assert curve["drawdown"].min() == pytest.approx(result["performance_metrics"]["max_drawdown"])
        assert len(curve.columns) == 4
    assert csv[0].read_text().splitlines()[1].split(",")[1].endswith("T00:00:00Z")


def test_tables_without_trades_have_their_columns(path: str, tmp_path: Path) -> None:
    files = write_tables(backtested(path, rules={"entry": "close < 0"}), tmp_path, "csv")

    assert files[0].read_text().startswith("symbol,entered_at,left_at,entry_price")


def test_a_folder_that_is_not_there_is_told(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--csv must be a folder or a name in one that can be written"):
        write_tables(backtested(path), tmp_path / "nowhere" / "out.csv", "csv")
