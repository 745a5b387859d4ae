"""Another symbol's values, and the calendar: what each is by hand, written before the code."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from aworker.trading.alerts import check_alert
from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.bars.store import Bars, NoBars
from aworker.trading.rules import RuleError, compile_program, parse_rule
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.rules.others import Others
from aworker.trading.screening import screen
from aworker.trading.strategies.strategy import StrategyInvalid, rules_from_source
from tests.kit.market import DAY_S, START_S, context, random_bars, store_of

NAN = math.nan


def on_days(symbol: str, days: list[int], closes: list[float]) -> Bars:
    close = np.array(closes, np.float64)
    timestamp = START_S + DAY_S * np.array(days, np.int64)
    return Bars(symbol, "1d", timestamp, close, close + 1, close - 1, close, np.full(len(days), 100.0))


OWN = on_days("OWN", [0, 1, 2, 5, 6, 12, 13], [1, 2, 3, 4, 5, 6, 7])
SPY = on_days("SPY", [0, 1, 3, 5], [10, 20, 30, 40])


def score(rule: str, bars: Bars = OWN, *others: Bars, timezone: str = "UTC") -> NDArray[np.float64]:
    program = compile_program("close > 0", rank=rule, timezone=timezone)
    return evaluate(program, bars, Others(program, {each.symbol: each for each in others})).rank


@pytest.mark.parametrize(
    "rule, expected",
    [
        ('of("SPY", close)', [10, 20, 20, 40, 40, 40, NAN]),
        ("of('spy', close)", [10, 20, 20, 40, 40, 40, NAN]),
        ('of("SPY", lag(close, 1))', [NAN, 10, 10, 30, 30, 30, NAN]),
        ('lag(of("SPY", close), 1)', [NAN, 10, 20, 20, 40, 40, 40]),
        ('of("SPY", sma(close, 2))', [NAN, 15, 15, 35, 35, 35, NAN]),
        ('close / of("SPY", close)', [0.1, 0.1, 0.15, 0.1, 0.125, 0.15, NAN]),
        ('of("SPY", high - low)', [2, 2, 2, 2, 2, 2, NAN]),
        ('of("SPY", close) + of("QQQ", close)', [11, 22, 22, 43, 43, NAN, NAN]),
        ('since(of("SPY", close > 15))', [NAN, 0, 0, 0, 0, 0, 1]),
    ],
)
def test_another_symbols_value_is_its_latest_known(rule: str, expected: list[float]) -> None:
    qqq = on_days("QQQ", [0, 1, 3, 4], [1, 2, 2, 3])

    np.testing.assert_allclose(score(rule, OWN, SPY, qqq), expected, rtol=1e-12)


def test_a_condition_of_another_symbol_is_a_condition() -> None:
    program = compile_program('of("SPY", close > lag(close, 1)) and close < 5', 'not of("SPY", close > 15)')

    signals = evaluate(program, OWN, Others(program, {"SPY": SPY}))

    assert signals.entry.tolist() == [False, True, True, True, False, False, False]
    # A condition of a symbol that has no bar near is undefined, and so is its opposite.
    assert signals.exit.tolist() == [True] + [False] * 6


@pytest.mark.parametrize(
    "text, column, message",
    [
        ("of(SPY, close) > 1", 4, "a symbol must stand in quotes"),
        ('of("SPY") > 1', 1, "of must have a symbol and what to look at"),
        ('of("SPY", close, 3) > 1', 1, "of must have a symbol and what to look at"),
        ('of("S/Y", close) > 1', 4, "a symbol must be"),
        ('of("SPY", 5) > 1', 11, "must depend on the bars of SPY"),
        ('of("SPY", of("QQQ", close)) > 1', 11, "must stand for itself"),
        ('sma("SPY", 5) > 1', 5, "a name must stand without quotes"),
        ('"SPY" > 1', 1, "a name must stand without quotes"),
        ('of("SPY, close) > 1', 4, "a name must stand without quotes"),
        ('of("SPY", close)', 1, "rule must be true or false"),
        ('of("SPY", close > 1) > 1', 1, "a number must stand here"),
    ],
)
def test_what_is_no_look_at_another_symbol_is_said(text: str, column: int, message: str) -> None:
    with pytest.raises(RuleError, match=message) as raised:
        parse_rule(text, "condition")

    assert raised.value.column == column


def test_a_rule_with_another_symbol_is_written_as_it_is_read() -> None:
    rules = rules_from_source('entry: of("SPY", close > sma(close, 200)) and rsi(close, 14) < 30')

    assert rules.entry == 'of("SPY", close > sma(close, 200)) and rsi(close, 14) < 30'


@given(st.integers(0, 1_000), st.integers(0, 120), st.floats(0.3, 1.0))
@settings(max_examples=40, deadline=None)
def test_another_symbols_later_bars_change_nothing(seed: int, cut: int, share: float) -> None:
    own = random_bars(seed, 120, "OWN")
    kept = np.random.default_rng(seed).random(120) < share
    other = random_bars(seed + 1, 120, "SPY")
    other = Bars(
        "SPY", "1d", *(getattr(other, name)[kept] for name in ("timestamp", "open", "high", "low", "close", "volume"))
    )
    end = own.timestamp[cut - 1] if cut else START_S - 1
    rule = 'beta(close, of("SPY", close), 5) + of("SPY", ema(close, 5) - supertrend(3, 2))'

    whole = score(rule, own, other)
    part = score(rule, own[:cut], other[: int(np.searchsorted(other.timestamp, end, side="right"))])

    np.testing.assert_array_equal(part, whole[:cut])


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("store")
    closes = [50.0 + (day % 10) for day in range(300)]
    days = list(range(300))
    return store_of(folder, on_days("AAA", days, closes), on_days("BBB", days, closes), on_days("SPY", days, closes))


REGIME = {"entry": 'of("SPY", close > sma(close, 5))', "exit": 'not of("SPY", close > sma(close, 5))'}


def test_a_backtest_looks_at_a_symbol_that_it_does_not_trade(store_path: str) -> None:
    request: dict[str, Any] = {
        "now_s": float(START_S + 299 * DAY_S),
        "market_data_path": store_path,
        "symbols": ["AAA"],
    }
    own = {"entry": "close > sma(close, 5)", "exit": "not close > sma(close, 5)"}

    other = run_backtest({**request, "rules": REGIME}, context())

    assert other["instances"] == run_backtest({**request, "rules": own}, context())["instances"]
    assert other["summary"]["symbols_processed"] == 1
    assert list(other["made_from"]["others"]) == ["SPY"]


def test_a_symbol_to_look_at_must_have_bars(store_path: str) -> None:
    request = {"now_s": float(START_S + 299 * DAY_S), "market_data_path": store_path, "symbols": ["AAA"]}
    rules = {"entry": 'of("QQQ", close > 1)'}

    with pytest.raises(NoBars, match="was QQQ; choose from the 3 it has"):
        run_backtest({**request, "rules": rules}, context())


def test_alerts_and_screenings_look_at_another_symbol_too(store_path: str) -> None:
    now = {"now_s": float(START_S + 299 * DAY_S), "market_data_path": store_path}
    rules = {"entry": 'of("SPY", ema(close, 3)) == ema(close, 3)', "rank": 'close - of("SPY", lag(close, 1))'}

    alerts = check_alert({**now, "rules": rules, "symbols": ["AAA", "BBB"]}, context())
    screened = screen({**now, "strategies": [{"strategy_id": 1, "rules": rules}], "universe": ["AAA"]}, context())

    assert [(alert["symbol"], alert["score"]) for alert in alerts["alerts"]] == [("AAA", 1.0), ("BBB", 1.0)]
    assert screened["ranked_results"][0]["score"] == 1.0


def test_an_old_symbol_to_look_at_is_spoken_of(store_path: str, tmp_path: Path) -> None:
    path = store_of(tmp_path, random_bars(1, 200, "AAA"), random_bars(2, 100, "OLD"))
    request = {"now_s": float(START_S + 199 * DAY_S), "market_data_path": path, "symbols": ["AAA"]}

    made = run_backtest({**request, "rules": {"entry": 'of("OLD", close > 1)'}}, context())

    assert "The bars of OLD, which the rules look at, end on 2020-04-09" in " ".join(made["summary"]["warnings"])


def at(*texts: str) -> NDArray[np.int64]:
    return np.array([int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in texts], np.int64)


def timed(timestamp: NDArray[np.int64], timeframe: str = "1d") -> Bars:
    close = np.arange(10.0, 10.0 + len(timestamp))
    volume = np.array([100 + 100 * place for place in range(len(timestamp))], np.float64)
    return Bars("TEST", timeframe, timestamp, close, close + 1, close - 2, close, volume)


DAYS = timed(at("2020-01-30", "2020-01-31", "2020-02-03", "2020-02-04", "2020-02-28", "2020-02-29", "2020-03-02"))
MINUTES = timed(
    at(
        "2020-03-05T20:59",
        "2020-03-06T14:30",  # 9:30 in New York, in winter
        "2020-03-06T14:31",
        "2020-03-06T20:59",
        "2020-03-09T13:30",  # 9:30 in New York, in summer
        "2020-03-09T13:31",
    ),
    "1m",
)


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("weekday()", [4, 5, 1, 2, 5, 6, 1]),
        ("month()", [1, 1, 2, 2, 2, 2, 3]),
        ("day_of_month()", [30, 31, 3, 4, 28, 29, 2]),
        ("trading_day()", [NAN, NAN, 1, 2, 3, 4, 1]),
        ("days_left()", [1, 0, 26, 25, 1, 0, 29]),
        ("weekdays_left()", [1, 0, 19, 18, 0, 0, 21]),
        ("hour()", [0] * 7),
        ("since(month() != lag(month(), 1))", [NAN, NAN, 0, 1, 2, 3, 0]),
    ],
)
def test_days_of_the_calendar(rule: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(score(rule, DAYS), expected)


@pytest.mark.parametrize(
    "rule, expected",
    [
        ("hour()", [15, 9, 9, 15, 9, 9]),
        ("minute()", [59, 30, 31, 59, 30, 31]),
        ("time_of_day()", [1559, 930, 931, 1559, 930, 931]),
        ("weekday()", [4, 5, 5, 5, 1, 1]),
        ("trading_day()", [NAN] * 6),
        ("session_bar()", [NAN, 1, 2, 3, 1, 2]),
        ("session_open()", [NAN, 11, 11, 11, 14, 14]),
        ("session_high()", [NAN, 12, 13, 14, 15, 16]),
        ("session_low()", [NAN, 9, 9, 9, 12, 12]),
        # Typical prices 10 2/3, 11 2/3, 12 2/3 and volumes 200, 300, 400; then 13 2/3, 14 2/3 and 500, 600.
        (
            "session_vwap()",
            [NAN, 32 / 3, (32 * 2 + 35 * 3) / 15, (32 * 2 + 35 * 3 + 38 * 4) / 27, 41 / 3, (41 * 5 + 44 * 6) / 33],
        ),
        ("value_when(session_bar() == 2, session_high())", [NAN, NAN, 13, 13, 13, 16]),
    ],
)
def test_times_of_the_day_are_those_of_the_zone(rule: str, expected: list[float]) -> None:
    np.testing.assert_allclose(score(rule, MINUTES, timezone="America/New_York"), expected, rtol=1e-12)


def test_a_day_is_the_zones() -> None:
    late = timed(at("2020-01-31T23:30", "2020-02-01T00:30", "2020-02-01T15:30"), "1h")

    np.testing.assert_array_equal(score("day_of_month()", late, timezone="Asia/Tokyo"), [1, 1, 2])
    np.testing.assert_array_equal(score("day_of_month()", late), [31, 1, 1])


@given(st.integers(0, 500), st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]))
@settings(max_examples=40, deadline=None)
def test_no_calendar_value_sees_a_later_bar(cut: int, timezone: str) -> None:
    bars = random_bars(3, 500, start_s=START_S + 58 * DAY_S, step_s=1_800)
    names = [
        "weekday",
        "month",
        "trading_day",
        "weekdays_left",
        "time_of_day",
        "session_bar",
        "session_vwap",
        "session_high",
    ]

    for name in names:
        whole = score(f"{name}()", bars, timezone=timezone)
        np.testing.assert_array_equal(score(f"{name}()", bars[:cut], timezone=timezone), whole[:cut])


@pytest.mark.parametrize(
    "source, message",
    [
        (
            "timeframe: 5m timezone: Mars/Phobos",
            "rules.timezone must be a time zone such as America/New_York, was 'Mars/Ph",
        ),
        ("timezone: America/New_York", "rules.timezone must be left out with 1d bars, was 'America/New_York'"),
        ("timeframe: 5m flat_at: 25:00", "rules.flat_at must be a time of day, HH:MM, was '25:00'"),
        ("flat_at: 15:55", "rules.flat_at must be left out with 1d bars, was '15:55'"),
        ("exit: time_of_day() >= 1555", "rules must be without the time of day with 1d bars, was with time_of_day"),
    ],
)
def test_what_a_calendar_cannot_be_is_said(source: str, message: str) -> None:
    with pytest.raises(StrategyInvalid, match=message):
        rules_from_source(f"entry: close > open {source}")
