"""`aworker backtest`: a backtest in the terminal, without a queue, shows what one through the queue shows."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.kit.commands import Here, aworker, command, environment, running
from tests.kit.market import random_bars, store_of

RULES = "name: Dips\nentry: rsi(close, 14) < 40\nexit: rsi(close, 14) > 55\nstop_loss: 5%\n"
WINDOW = ("--start", "2008-01-01", "--end", "2010-12-31")


@pytest.fixture
def rules(tmp_path: Path) -> str:
    (tmp_path / "dips.txt").write_text(RULES)
    return "dips.txt"


def test_a_file_of_rules_is_backtested_without_a_server(here: Here, rules: str) -> None:
    nowhere = ("--redis-url", "redis://127.0.0.1:1/0")

    ended = here("backtest", rules, "--symbols", "aapl, MSFT", *WINDOW, *nowhere)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("  entry: rsi(close, 14) < 40\n")
    assert "Backtest of strategy Dips, 2008-01-02 to 2010-12-31, 2 symbols, " in ended.stdout
    assert "total return" in ended.stdout
    assert "Equity curve" in ended.stdout
    assert "stop_loss" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_a_stored_strategy_gives_what_the_queue_gives(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url)
    (tmp_path / "dips.txt").write_text(RULES)
    made = json.loads(here("strategy", "create", "dips.txt", "--json", *at).stdout)
    strategy_id = made["strategy_id"]
    costs = {"AWORKER_BACKTEST__COMMISSION": "0.001"}
    asked = {"strategy_id": strategy_id, "start_date": "2008-01-01", "end_date": "2010-12-31", "whole_curve": True}
    here("enqueue", "backtest", "--args", json.dumps(asked), "--task-id", "b", *at)
    with running("run", "--burst", *at, cwd=tmp_path, **costs) as worker:
        assert worker.ends() == 0, worker.stderr
    queued = json.loads(here("result", "b", "--json", *at).stdout)["data"]

    ended = here("backtest", strategy_id, *WINDOW, "--json", *at, **costs)
    dearer = here("backtest", strategy_id, *WINDOW, "--json", "--commission", 0.01, *at, **costs)
    words = here("backtest", strategy_id, *WINDOW, *at, **costs)

    found = json.loads(ended.stdout)
    same = ("success", "execution_mode", "strategy_id", "instances", "summary", "performance_metrics", "made_from")
    assert {name: found[name] for name in same} == {name: queued[name] for name in same}
    total = found["performance_metrics"]["total_return"]
    assert json.loads(dearer.stdout)["performance_metrics"]["total_return"] < total
    assert f"Backtest of strategy {strategy_id} (Dips), " in words.stdout


def test_other_bars_can_be_given(here: Here, tmp_path: Path, rules: str) -> None:
    folder = store_of(tmp_path / "bars", random_bars(1, 300, "ACME"))

    ended = here("backtest", rules, "--bars", folder, "--json")

    found = json.loads(ended.stdout)
    assert found["summary"]["symbols_processed"] == 1
    assert "lies after the last bar" in found["summary"]["note"]


def test_symbols_without_bars_are_named(here: Here, rules: str) -> None:
    ended = here("backtest", rules, "--symbols", "AAPL,NOPE", *WINDOW)

    assert "1 symbol, " in ended.stdout
    assert "\nWithout bars: NOPE\n" in ended.stdout


def test_rules_come_from_stdin_and_all_is_every_symbol(here: Here, tmp_path: Path) -> None:
    folder = store_of(tmp_path / "bars", random_bars(1, 300, "ACME"), random_bars(2, 300, "ALL"))
    typed = "entry: close > open\nsymbols: ACME\n"

    own = here("backtest", "-", "--bars", folder, typed=typed)
    every = here("backtest", "-", "--bars", folder, "--symbols", "all", "--json", typed=typed)
    ticker = here("backtest", "-", "--bars", folder, "--symbols", "ALL", "--json", typed=typed)

    assert "Backtest of strategy close > open, " in own.stdout
    assert json.loads(every.stdout)["summary"]["symbols_processed"] == 2
    assert json.loads(ticker.stdout)["summary"]["symbols_processed"] == 1


def test_an_empty_file_is_told_in_words(here: Here, tmp_path: Path) -> None:
    (tmp_path / "empty.rules").write_text("")

    ended = here("backtest", "empty.rules")

    assert ended.returncode == 1
    assert ended.stderr == "aworker: source.entry must be given, was None; write entry: and the condition to buy\n"


def test_a_terminal_shows_a_bar_that_goes_away(tmp_path: Path, rules: str) -> None:
    folder = store_of(tmp_path / "bars", *(random_bars(seed, 60, f"S{seed}") for seed in range(30)))
    ours, theirs = pty.openpty()

    process = subprocess.Popen(
        command("backtest", rules, "--bars", folder),
        cwd=tmp_path,
        env=environment(TERM="xterm"),
        stdout=theirs,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65_536):
                shown += part
        except OSError:
            pass  # The other side is closed: that is the end.
    assert process.stderr is not None
    with process.stderr:
        told = process.stderr.read()

    assert process.wait(timeout=30) == 0, told
    assert b"of 30 symbols" in shown
    assert b"Backtest of strategy Dips" in shown


def test_a_report_and_tables_are_written_beside_the_answer(here: Here, tmp_path: Path, rules: str) -> None:
    (tmp_path / "tables").mkdir()
    files = ("--html", "dips.html", "--benchmark", "ibm", "--csv", "dips", "--parquet", "tables")

    ended = here("backtest", rules, *WINDOW, *files, "--commission", 0.001)
    quiet = here(
        "backtest", rules, *WINDOW, "--html", "again.html", "--benchmark", "IBM", "--json", "--commission", 0.001
    )

    assert ended.returncode == 0, ended.stderr
    assert "The report is in dips.html\nTrades are in dips-trades.csv, the curve in dips-curve.csv\n" in ended.stdout
    html = (tmp_path / "dips.html").read_text(encoding="utf-8")
    assert "<h1>Dips</h1>" in html
    assert "IBM, held" in html
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html
    found = json.loads(quiet.stdout)
    lines = (tmp_path / "dips-trades.csv").read_text().splitlines()
    assert len(lines) == 1 + found["performance_metrics"]["total_trades"]
    lines = (tmp_path / "dips-curve.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found["performance_metrics"]["equity_curve"])
    assert sorted(file.name for file in (tmp_path / "tables").iterdir()) == ["curve.parquet", "trades.parquet"]


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (("nowhere.txt",), 2, "must be a readable text file"),
        (("dips.txt", "--symbols", "NONE"), 1, "symbols must have 1d bars in the store, was NONE"),
        (("dips.txt", "--symbols", "A B"), 1, "--symbols[0] must be a symbol such as AAPL"),
        (("dips.txt", "--start", "soon"), 2, "--start must be YYYY-MM-DD or RFC 3339, was 'soon'"),
        (("dips.txt", "--start", "2012-01-01", "--end", "2011-01-01"), 1, "end_date must be on or after start_date"),
        (("dips.txt", "--start", "1980-01-01", "--end", "1981-01-01"), 1, "must hold a 1d bar of the symbols"),
        (("dips.txt", "--html", "nowhere/a.html"), 2, "--html must be a file that can be written, was nowhere/a.html"),
        (("dips.txt", "--html", "a.html", "--benchmark", "SPY"), 1, "symbols must have 1d bars in the store, was SPY"),
        (("dips.txt", "--commission", "2"), 2, "must be 0 <= x < 1, was 2.0; give a fraction such as 0.001"),
    ],
)
def test_what_cannot_be_had_is_told_in_words(
    here: Here, rules: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = here("backtest", *arguments)

    assert ended.returncode == code
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_rule_is_shown_with_a_caret(here: Here, tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_text("entry: close > smaa(close, 5)\n")

    ended = here("backtest", "wrong.txt")

    assert ended.stderr.splitlines()[1:] == ["  close > smaa(close, 5)", "          ^"]


def test_an_unknown_id_is_told_in_words(here: Here, redis_url: str) -> None:
    ended = here("backtest", 77, "--redis-url", redis_url)

    assert ended.returncode == 1
    assert "strategy_id must be that of a stored strategy, was 77" in ended.stderr


def test_it_runs_as_a_command(tmp_path: Path, rules: str) -> None:
    ended = aworker("backtest", rules, "--symbols", "IBM", *WINDOW, cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "Backtest of strategy Dips" in ended.stdout
