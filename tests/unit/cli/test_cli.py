"""The command line's parts: arguments, addresses, the feed's file, what results look like."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from aworker.cli.check import in_force
from aworker.cli.options import configured, redacted
from aworker.cli.screen.chart import draw_curve
from aworker.cli.screen.show import is_failure, plain, show_record
from aworker.cli.serving.feed import read_feed
from aworker.cli.tasks import parse_arguments
from aworker.client.routing import level_named
from aworker.config import Config, LlmConfig, RedisConfig
from aworker.errors import ConfigError

DAY_S = 86_400


def shown(record: dict[str, Any], *, is_terminal: bool = False) -> str:
    stream = io.StringIO()
    show_record(Console(file=stream, markup=False, highlight=False, width=100, force_terminal=is_terminal), record)
    return stream.getvalue()


def completed(**data: Any) -> dict[str, Any]:
    return {"task_id": "t", "status": "completed", "data": data}


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from aworker.cli import program; "
        "print(*sorted({'redis', 'numpy', 'polars', 'talib', 'loguru', 'rich.table', 'msgspec'} & set(sys.modules)))"
    )

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert loaded == []


@pytest.mark.parametrize(
    "pair, value",
    [
        ("n=1000001", 1000001),
        ("n=-1", -1),
        ('n=["AAPL"]', ["AAPL"]),
        ("n=null", None),
        ('n="5"', "5"),
        ("n=buy when rsi(close, 14) < 30", "buy when rsi(close, 14) < 30"),
        ("n=a=b", "a=b"),
        ("n=", ""),
    ],
)
def test_arg_is_json_where_it_reads_as_json(pair: str, value: object) -> None:
    assert parse_arguments(None, [pair]) == {"n": value}


def test_arg_adds_to_args() -> None:
    assert parse_arguments('{"a": 1, "b": 2}', ["b=3"]) == {"a": 1, "b": 3}


@pytest.mark.parametrize("text, pairs", [("[1]", []), ("{", []), (None, ["no equals sign"]), (None, ["=1"])])
def test_arguments_of_another_form_are_refused(text: str | None, pairs: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match=r"must be"):
        parse_arguments(text, pairs)


@pytest.mark.parametrize(
    "url, without",
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        ("rediss://user:sec@ret@host/1", "rediss://***@host/1"),
        ("redis://host/0?password=secret", "redis://host/0?***"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://[secret", "***"),
    ],
)
def test_redacted_keeps_the_address_alone(url: str, without: str) -> None:
    assert redacted(url) == without


def test_in_force_shows_no_secret() -> None:
    config = Config(
        redis=RedisConfig(url="redis://:secret@host/0"),
        llm=LlmConfig(base_url="https://user:secret@llm/v1", model="m"),
    )

    assert "secret" not in str(in_force(config))


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWORKER_REDIS__URL", "redis://environment/0")
    monkeypatch.setenv("AWORKER_WORKER__SLOTS", "3")

    config = configured(None, "redis://flag/0", worker={"slots": None})

    assert (config.redis.url, config.worker.slots) == ("redis://flag/0", 3)


@pytest.mark.parametrize("name", ["priority", "strategy_queue_priority"])
def test_a_queue_is_named_by_its_label_or_its_list(name: str) -> None:
    assert level_named(Config(), name).name == "strategy_queue_priority"


def test_an_unknown_queue_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"priority \(strategy_queue_priority\), normal \(strategy_queue\), was 'x'"):
        level_named(Config(), "x")


def test_the_sample_feed_is_read() -> None:
    tasks = read_feed(Path(__file__).parents[3] / "config" / "sample-tasks.jsonl")

    assert {task.task_type for task in tasks} == {"create_strategy", "backtest", "screening", "alert"}
    assert all(task.task_id is None for task in tasks), "a second run would find the results of the first"


@pytest.mark.parametrize("line", ["{", "[]", '{"args": {}}', '{"task_type": "x", "arg": {}}', '{"task_type": 1}'])
def test_a_feed_names_the_line_that_is_wrong(tmp_path: Path, line: str) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_text('{"task_type": "x"}\n\n' + line + "\n")

    with pytest.raises(ConfigError, match=r"line 3 must be a task"):
        read_feed(feed)


def test_a_feed_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--feed must be a readable file"):
        read_feed(tmp_path / "none")


def test_a_curve_runs_from_the_first_value_to_the_last() -> None:
    points = [[day * DAY_S, 1.0 + day / 10] for day in range(11)]

    lines = draw_curve(points, width=40, height=10, unicode=False)

    rows = lines[:-2]
    assert len(lines) == 10
    assert all(len(line) <= 40 for line in lines)
    assert rows[0].split("|")[0].strip() == "2"
    assert rows[-1].split("|")[0].strip() == "1"
    assert rows[0].rstrip().endswith("*")
    assert rows[-1].split("|")[1].startswith("*")
    assert lines[-1].split() == ["1970-01-01", "1970-01-11"]


def test_a_steep_curve_has_no_holes() -> None:
    points = [[0, 0.0], [10, 0.0], [11, 100.0], [20, 100.0]]

    rows = draw_curve(points, width=31, height=22, unicode=False)[:-2]

    assert all("*" in row.split("|")[1] for row in rows)


def test_a_flat_curve_is_one_line() -> None:
    rows = draw_curve([[0, 1.0], [10, 1.0]], width=31, height=12, unicode=False)[:-2]

    assert [row.split("|")[1].count("*") for row in rows] == [20] + [0] * 9


@pytest.mark.parametrize("points", [[], [[0, 1.0]], [[0, None], [1, 2.0]], [[5, 1.0], [5, 2.0]]])
def test_fewer_than_two_instants_are_no_curve(points: list[list[float | None]]) -> None:
    assert draw_curve(points, width=40, height=10) == []


def test_unicode_curves_are_braille() -> None:
    rows = draw_curve([[0, 1.0], [10, 2.0]], width=40, height=10)[:-2]

    assert all(0x2800 < ord(c) < 0x2900 for row in rows for c in row.split("│")[1].replace(" ", ""))


def test_control_characters_of_a_task_never_reach_the_terminal() -> None:
    text = shown({"task_id": "t", "status": "error", "data": {"error": "a\x1b[31m\x07b", "error_type": "E"}})

    assert "\x1b" not in text
    assert "a\\x1b[31m\\x07b" in text
    assert plain("ä\n✓") == "ä\n✓"


def test_the_reason_of_an_error_is_shown_once() -> None:
    text = shown({"status": "error", "data": {"error": "ValueError: told to", "error_type": "ValueError"}})

    assert text == "Failed, ValueError: told to\n"


def test_a_no_is_shown_with_its_reason() -> None:
    record = completed(success=False, error="prompt must be understood")

    assert is_failure(record)
    assert shown(record) == "No: prompt must be understood\n"


def test_a_strategy_is_shown_with_its_rules() -> None:
    source = "entry: rsi(close, 14) < 30\nstop_loss: 5%"
    strategy = {"strategyId": 1_000_007, "version": "2", "name": "Dip", "pythonCode": source}

    text = shown(completed(success=True, strategy=strategy))

    assert text.splitlines() == [
        "Strategy 1000007, version 2: Dip",
        "  entry: rsi(close, 14) < 30",
        "  stop_loss: 5%",
    ]


def test_undefined_figures_are_shown_as_such() -> None:
    metrics = {"total_return": 0.25, "sharpe_ratio": None, "buy_and_hold": {"total_return": -0.5}}

    text = shown(completed(success=True, execution_mode="backtest", performance_metrics=metrics))

    rows = {" ".join(line.split()) for line in text.splitlines()}
    assert "total return +25.0% -50.0%" in rows
    assert "Sharpe ratio -" in rows


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -0.0001, 0.0004])
def test_a_share_of_nothing_has_no_sign(value: float) -> None:
    metrics = {"total_return": 0.012, "max_drawdown": value}

    text = shown(completed(success=True, execution_mode="backtest", performance_metrics=metrics))

    assert re.search(r"maximum drawdown +0\.0%", text)
    assert "+1.2%" in text


@pytest.mark.parametrize(
    "count, told",
    [(0, None), (1, "Without bars: S0\n"), (10, "S8, S9\n"), (1234, "S8, S9 and 1,224 more\n")],
)
@pytest.mark.parametrize("mode", ["backtest", "screening", "realtime"])
def test_symbols_without_bars_are_named_up_to_ten(mode: str, count: int, told: str | None) -> None:
    without = {"symbols_without_bars": [f"S{number}" for number in range(count)]}
    where = {"summary": without} if mode == "backtest" else without

    text = shown(completed(success=True, execution_mode=mode, **where))

    assert ("Without bars" in text) == (told is not None)
    assert told is None or told in text


def test_a_result_of_another_kind_is_shown_as_json() -> None:
    assert '"answer": 42' in shown(completed(answer=42))


@pytest.mark.parametrize(
    "fields",
    [
        {"execution_mode": "backtest", "instances": [3]},
        {"execution_mode": "screening", "ranked_results": {"AAPL": 1}},
        {"execution_mode": "realtime", "alerts": "none"},
        {"strategy": {"strategyId": 1, "pythonCode": 5}},
        {"execution_mode": ["backtest"]},
    ],
)
def test_what_only_looks_like_a_result_of_ours_is_shown_all_the_same(fields: dict[str, Any]) -> None:
    assert shown(completed(success=True, **fields)) != ""


def test_a_task_that_runs_says_since_when() -> None:
    assert shown({"status": "running", "data": {"started_at": "2024-01-01T00:00:00Z"}}) == (
        "Running since 2024-01-01T00:00:00Z\n"
    )
