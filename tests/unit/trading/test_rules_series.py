"""Further series: ten bars by hand, the right answers written before the code; then TA-Lib and other libraries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib
from numpy.typing import NDArray

from aworker.trading.bars.store import Bars, BarStore
from aworker.trading.rules import RuleError, compile_program, parse_rule
from aworker.trading.rules.evaluate import evaluate
from tests.kit.market import START_S, random_bars

NAN = math.nan
ROWS = [
    (10.0, 11.0, 9.0, 10.0, 100.0),
    (10.0, 11.0, 9.5, 10.5, 200.0),
    (10.5, 12.0, 10.0, 11.5, 300.0),
    (11.5, 13.0, 11.0, 12.5, 400.0),
    (12.5, 13.0, 12.0, 12.5, 500.0),
    (12.0, 12.5, 11.0, 11.5, 400.0),
    (11.5, 12.0, 10.0, 10.5, 300.0),
    (10.5, 11.0, 9.0, 9.5, 200.0),
    (9.5, 10.0, 8.0, 8.5, 100.0),
    (8.5, 9.0, 8.0, 8.5, 100.0),
]
TEN = Bars("TEST", "1d", START_S + 86_400 * np.arange(10), *np.array(ROWS).T.copy())

BY_HAND: list[tuple[str, list[float]]] = [
    ("donchian_upper(3)", [NAN, NAN, 12, 13, 13, 13, 13, 12.5, 12, 11]),
    ("donchian_lower(3)", [NAN, NAN, 9, 9.5, 10, 11, 10, 9, 8, 8]),
    ("donchian_middle(3)", [NAN, NAN, 10.5, 11.25, 11.5, 12, 11.5, 10.75, 10, 9.5]),
    (
        "williams_r(3)",
        [NAN, NAN, -50 / 3, -100 / 7, -50 / 3, -75, -250 / 3, -600 / 7, -87.5, -250 / 3],
    ),
    ("slope(close, 3)", [NAN, NAN, 0.75, 1, 0.5, -0.5, -1, -1, -1, -0.5]),
    ("linreg(close, 3)", [NAN, NAN, 137 / 12, 12.5, 38 / 3, 35 / 3, 10.5, 9.5, 8.5, 25 / 3]),
    ("percent_rank(close, 3)", [NAN, NAN, NAN, 100, 100, 100 / 3, 0, 0, 0, 100 / 3]),
    ("since(close > 12)", [NAN, NAN, NAN, 0, 0, 1, 2, 3, 4, 5]),
    ("count(close > 11, 3)", [NAN, NAN, 1, 2, 3, 3, 2, 1, 0, 0]),
    ("count(close > lag(close, 1), 2)", [NAN, NAN, 2, 2, 1, 0, 0, 0, 0, 0]),
    ("value_when(high >= 13, low)", [NAN, NAN, NAN, 11, 12, 12, 12, 12, 12, 12]),
    ("value_when(high >= 13, low, 2)", [NAN, NAN, NAN, NAN, 11, 11, 11, 11, 11, 11]),
    ("mfi(3)", [NAN, NAN, NAN, 100, 100, 100 * 33350 / 47350, 100 * 18750 / 42500, 0, 0, 0]),
    ("supertrend(1, 1)", [NAN, 11.75, 11.75, 10, 11.5, 11.5, 13, 12, 11, 9.5]),
    ("keltner_upper(2, 1, 1)", [NAN, 11.75, 10.25 + 2.5 / 3 + 2]),
    ("keltner_middle(2, 1, 1)", [NAN, 10.25, 10.25 + 2.5 / 3]),
    ("keltner_lower(2, 1, 1)", [NAN, 8.75, 10.25 + 2.5 / 3 - 2]),
    ("ichimoku_conversion(3)", [NAN, NAN, 10.5, 11.25, 11.5, 12, 11.5, 10.75, 10, 9.5]),
    ("ichimoku_base(2)", [NAN, 10, 10.75, 11.5]),
    ("ichimoku_span_a(2, 3, 2)", [NAN, NAN, NAN, NAN, 10.625, 11.375]),
    ("ichimoku_span_b(3, 2)", [NAN, NAN, NAN, NAN, 10.5, 11.25, 11.5, 12, 11.5, 10.75]),
    ("correlation(close, volume, 3)", [NAN, NAN, 150 / math.sqrt(7 / 6 * 20_000)]),
    ("beta(close, open, 2)", [NAN, NAN, (2 / 21 - 0.05) / 0.05]),
    ("maximum(close, 11)", [11, 11, 11.5, 12.5, 12.5, 11.5, 11, 11, 11, 11]),
    ("minimum(open, close)", [10, 10, 10.5, 11.5, 12.5, 11.5, 10.5, 9.5, 8.5, 8.5]),
    ("vwma(close, 2)", [NAN, (1000 + 2100) / 300, (2100 + 3450) / 500]),
    # wma(2) is 73/6, 25/2, 71/6 and wma(4) 11.55, 12.1, 12 from the fourth bar on.
    ("hma(close, 4)", [NAN, NAN, NAN, NAN, (2 * 12.9 + 73 / 3 - 11.55) / 3, (2 * (71 / 3 - 12) + 12.9) / 3]),
]  # fmt: skip


def score(text: str, bars: Bars = TEN) -> NDArray[np.float64]:
    return evaluate(compile_program("close > 0", rank=text), bars).rank


@pytest.mark.parametrize("text, expected", BY_HAND, ids=[text for text, _ in BY_HAND])
def test_a_series_is_what_it_is_by_hand(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(score(text)[: len(expected)], expected, rtol=1e-12, atol=1e-12)


TALIB: dict[str, Callable[[Bars], NDArray[np.float64]]] = {
    "mfi(14)": lambda bars: talib.MFI(bars.high, bars.low, bars.close, bars.volume, 14),
    "williams_r(14)": lambda bars: talib.WILLR(bars.high, bars.low, bars.close, 14),
    "plus_di(14)": lambda bars: talib.PLUS_DI(bars.high, bars.low, bars.close, 14),
    "minus_di(14)": lambda bars: talib.MINUS_DI(bars.high, bars.low, bars.close, 14),
    "slope(close, 20)": lambda bars: talib.LINEARREG_SLOPE(bars.close, 20),
    "linreg(close, 20)": lambda bars: talib.LINEARREG(bars.close, 20),
    "correlation(high, volume, 30)": lambda bars: talib.CORREL(bars.high, bars.volume, 30),
    "beta(close, open, 30)": lambda bars: talib.BETA(bars.open, bars.close, 30),
    "dema(close, 20)": lambda bars: talib.DEMA(bars.close, 20),
    "tema(close, 20)": lambda bars: talib.TEMA(bars.close, 20),
    "sar(0.02, 0.2)": lambda bars: talib.SAR(bars.high, bars.low, 0.02, 0.2),
    "donchian_upper(20)": lambda bars: talib.MAX(bars.high, 20),
    "donchian_lower(20)": lambda bars: talib.MIN(bars.low, 20),
    "ichimoku_base(26)": lambda bars: talib.MIDPRICE(bars.high, bars.low, 26),
    "keltner_upper(20, 2, 10)": lambda bars: (
        talib.EMA(bars.close, 20) + 2 * talib.ATR(bars.high, bars.low, bars.close, 10)
    ),
}
PLAIN: dict[str, Callable[[Bars, int], float]] = {
    "percent_rank(close, 30)": lambda bars, at: 100 * np.mean(bars.close[at - 30 : at] <= bars.close[at]),
    "count(close > open, 30)": lambda bars, at: float(
        np.sum(bars.close[at - 29 : at + 1] > bars.open[at - 29 : at + 1])
    ),
    "since(close > 1.02 * open)": lambda bars, at: next(
        float(back) for back in range(at + 1) if bars.close[at - back] > 1.02 * bars.open[at - back]
    ),
    "value_when(close > 1.02 * open, low)": lambda bars, at: next(
        bars.low[at - back] for back in range(at + 1) if bars.close[at - back] > 1.02 * bars.open[at - back]
    ),
}
WINDOWED = [*TALIB, *PLAIN, "supertrend(10, 3)", "hma(close, 16)", "vwma(close, 20)", "ichimoku_span_b(52, 26)"]
FROM_THE_START = {"since", "value_when", "supertrend", "sar"}
FIGURES = json.loads((Path(__file__).parents[2] / "fixtures" / "series_figures.json").read_text())


@pytest.mark.parametrize("text", TALIB)
def test_a_series_is_talibs(text: str) -> None:
    # Not the bundled bars: adjusted prices may be the same but for rounding, which TA-Lib's MFI takes for the same.
    bars = replace(random_bars(5, 1_500), volume=np.random.default_rng(5).uniform(1e3, 1e6, 1_500))
    expected = TALIB[text](bars)

    values = score(text, bars)

    if text.startswith(("dema", "tema")):
        # It begins its averages of averages elsewhere.
        values, expected = values[600:], expected[600:]
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", PLAIN)
def test_a_series_is_what_a_plain_loop_finds(text: str) -> None:
    bars = BarStore().load("AAPL", "1d")[:400]

    values = score(text, bars)

    assert values[60:] == pytest.approx([PLAIN[text](bars, at) for at in range(60, 400)], rel=1e-12)


@pytest.mark.parametrize("case", FIGURES["cases"], ids=lambda case: f"{case['symbol']} {case['rule']}")
def test_a_series_agrees_with_another_library(case: dict[str, Any]) -> None:
    values = score(case["rule"], BarStore().load(case["symbol"], "1d"))

    np.testing.assert_allclose(values[-len(case["values"]) :], case["values"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("text", [text for text in WINDOWED if text.partition("(")[0] not in ("since", "value_when")])
def test_the_first_value_stands_right_after_the_look_back(text: str) -> None:
    program = compile_program("close > 0", rank=text)
    assert program.rank is not None

    values = evaluate(program, BarStore().load("IBM", "1d")[:300]).rank

    assert int(np.flatnonzero(~np.isnan(values))[0]) == program.rank.look_back


@pytest.mark.parametrize("text", WINDOWED)
def test_the_tail_gives_the_last_value(text: str) -> None:
    program = compile_program("close > 0", rank=text)
    bars = BarStore().load("AAPL", "1d")
    tail = program.tail_bars

    if tail is None:
        assert text.partition("(")[0] in FROM_THE_START
    else:
        assert evaluate(program, bars[-tail:]).rank[-1] == pytest.approx(evaluate(program, bars).rank[-1], rel=1e-9)


@pytest.mark.parametrize("text", WINDOWED)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_bars_make_no_trouble(text: str, count: int) -> None:
    assert len(score(text, TEN[:count])) == count


@pytest.mark.parametrize(
    "text",
    [
        "correlation(close, volume, 5)",
        "beta(close, open, 5)",
        "mfi(5)",
        "williams_r(5)",
        "plus_di(5)",
        "percent_rank(volume / (close - open), 5)",
    ],
)
def test_a_symbol_that_stands_still_has_no_such_value(text: str) -> None:
    still = np.full(40, 0.1)
    bars = Bars("TEST", "1d", START_S + 86_400 * np.arange(40), still, still, still, still, np.full(40, 7.0))

    assert np.isnan(score(text, bars)).all()


def test_a_condition_that_is_undefined_counts_neither_way() -> None:
    high = TEN.high.copy()
    high[4] = NAN
    bars = Bars("TEST", "1d", TEN.timestamp, TEN.open, high, TEN.low, TEN.close, TEN.volume)

    np.testing.assert_array_equal(score("since(high >= 13)", bars), [NAN, NAN, NAN, 0, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(score("count(high >= 12, 2)", bars), [NAN, 0, 1, 2, NAN, NAN, 2, 1, 0, 0])
    np.testing.assert_array_equal(score("value_when(not high >= 13, low)", bars)[3:6], [10, 10, 11])


@pytest.mark.parametrize(
    "text, message",
    [
        ("since(close) > 3", "`since` must have conditions, was the number close"),
        ("count(close > open) > 3", None),
        ("count(close > open, 0) > 3", "bars of count"),
        ("value_when(close > open, 5) > 3", "series of value_when"),
        ("since(close > open)", "rule must be true or false"),
        ("sar(0.5, 0.2) > close", "step must be at most most"),
        ("keltner_upper(close) > 1", "window of keltner_upper"),
        ("maximum(1, 2) < sma(maximum(1, 2), 3)", "series of sma"),
        ("keltner(20).upper < close", None),
        ("keltner_upper(20, multiplier=3) < close", "argument must be one of"),
    ],
)
def test_what_is_no_rule_is_said(text: str, message: str | None) -> None:
    if message is None:
        assert parse_rule(text, "condition").text == text
    else:
        with pytest.raises(RuleError, match=re.escape(message)):
            parse_rule(text, "condition")
