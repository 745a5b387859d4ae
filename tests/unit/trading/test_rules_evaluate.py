"""The values: every indicator against its textbook form, and what is undefined."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate

Numbers = NDArray[np.float64]
NAN = math.nan


@dataclass(frozen=True)
class Bars:
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers

    @property
    def timestamp(self) -> NDArray[np.int64]:
        return 86_400 * np.arange(self.close.size)

    def every(self, change: object) -> Bars:
        return Bars(*(change(each) for each in (self.open, self.high, self.low, self.close, self.volume)))  # type: ignore[operator]


def market(count: int, seed: int = 1) -> Bars:
    chance = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.02, count)))
    opened = close * np.exp(chance.normal(0.0, 0.01, count))
    high = np.maximum(opened, close) * np.exp(np.abs(chance.normal(0.0, 0.01, count)))
    low = np.minimum(opened, close) * np.exp(-np.abs(chance.normal(0.0, 0.01, count)))
    return Bars(opened, high, low, close, chance.integers(1_000, 9_000, count).astype(np.float64))


def closes(*values: float) -> Bars:
    series = np.array(values, dtype=np.float64)
    return Bars(series, series, series, series, np.full(series.size, 1000.0))


def still(count: int, price: float = 0.1) -> Bars:
    return closes(*[price] * count)


def entry(text: str, bars: Bars) -> list[bool]:
    return [bool(each) for each in evaluate(compile_program(text), bars).entry]


def score(text: str, bars: Bars) -> Numbers:
    return evaluate(compile_program("close > 0", rank=text), bars).rank


def windows(series: Numbers, window: int) -> list[Numbers | None]:
    return [series[at - window + 1 : at + 1] if at >= window - 1 else None for at in range(series.size)]


def rolling(series: Numbers, window: int, of: object) -> Numbers:
    return np.array([NAN if part is None else of(part) for part in windows(series, window)])  # type: ignore[operator]


def smoothed(series: Numbers, window: int, weight: float) -> Numbers:
    first = int(np.flatnonzero(~np.isnan(series))[0])
    out = np.full(series.size, NAN)
    out[first + window - 1] = series[first : first + window].mean()
    for at in range(first + window, series.size):
        out[at] = out[at - 1] + weight * (series[at] - out[at - 1])
    return out


def before(series: Numbers, bars: int = 1) -> Numbers:
    return np.concatenate([np.full(bars, NAN), series[:-bars]])


def textbook(name: str, bars: Bars) -> Numbers:
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    typical = (high + low + close) / 3
    reach = np.maximum(high, before(close)) - np.minimum(low, before(close))
    match name:
        case "sma(close, 20)":
            return rolling(close, 20, np.mean)
        case "ema(close, 20)":
            return smoothed(close, 20, 2 / 21)
        case "wma(close, 5)":
            return rolling(close, 5, lambda part: part @ np.arange(1, 6) / 15)
        case "stddev(close, 20)":
            return rolling(close, 20, np.std)
        case "rsi(close, 14)":
            move = close - before(close)
            gain, loss = np.where(np.isnan(move), NAN, np.maximum(move, 0)), np.where(move < 0, -move, 0 * move)
            up, down = smoothed(gain, 14, 1 / 14), smoothed(loss, 14, 1 / 14)
            return 100 * up / (up + down)
        case "atr(14)":
            return smoothed(reach, 14, 1 / 14)
        case "macd(close, 12, 26, 9)":
            return smoothed(close, 12, 2 / 13) - smoothed(close, 26, 2 / 27)
        case "macd_signal(close, 12, 26, 9)":
            return smoothed(textbook("macd(close, 12, 26, 9)", bars), 9, 2 / 10)
        case "macd_histogram(close, 12, 26, 9)":
            return textbook("macd(close, 12, 26, 9)", bars) - textbook("macd_signal(close, 12, 26, 9)", bars)
        case "bollinger_upper(close, 20, 2)":
            return rolling(close, 20, lambda part: part.mean() + 2 * part.std())
        case "bollinger_middle(close, 20, 2)":
            return rolling(close, 20, np.mean)
        case "bollinger_lower(close, 20, 2)":
            return rolling(close, 20, lambda part: part.mean() - 2 * part.std())
        case "stochastic_k(14, 3)":
            highest, lowest = rolling(high, 14, np.max), rolling(low, 14, np.min)
            return rolling(100 * (close - lowest) / (highest - lowest), 3, np.mean)
        case "stochastic_d(14, 3, 3)":
            return rolling(textbook("stochastic_k(14, 3)", bars), 3, np.mean)
        case "cci(20)":
            return rolling(
                typical, 20, lambda part: (part[-1] - part.mean()) / (0.015 * np.abs(part - part.mean()).mean())
            )
        case "vwap(20)":
            return rolling(typical * volume, 20, np.sum) / rolling(volume, 20, np.sum)
        case "obv()":
            sign = np.nan_to_num(np.sign(close - before(close)), nan=1.0)
            return np.cumsum(sign * volume)
        case "highest(high, 20)":
            return rolling(high, 20, np.max)
        case "lowest(low, 20)":
            return rolling(low, 20, np.min)
        case "change(close, 3)" | "momentum(close, 3)":
            return close - before(close, 3)
        case "percent_change(close, 3)" | "roc(close, 3)":
            return 100 * (close / before(close, 3) - 1)
        case "lag(close, 3)":
            return before(close, 3)
        case "abs(close - open)":
            return np.abs(close - bars.open)
    raise AssertionError(name)


TEXTBOOK = [
    "sma(close, 20)",
    "ema(close, 20)",
    "wma(close, 5)",
    "stddev(close, 20)",
    "rsi(close, 14)",
    "atr(14)",
    "macd(close, 12, 26, 9)",
    "macd_signal(close, 12, 26, 9)",
    "macd_histogram(close, 12, 26, 9)",
    "bollinger_upper(close, 20, 2)",
    "bollinger_middle(close, 20, 2)",
    "bollinger_lower(close, 20, 2)",
    "stochastic_k(14, 3)",
    "stochastic_d(14, 3, 3)",
    "cci(20)",
    "vwap(20)",
    "obv()",
    "highest(high, 20)",
    "lowest(low, 20)",
    "change(close, 3)",
    "momentum(close, 3)",
    "percent_change(close, 3)",
    "roc(close, 3)",
    "lag(close, 3)",
    "abs(close - open)",
]


@pytest.mark.parametrize("text", TEXTBOOK)
def test_an_indicator_is_the_textbooks(text: str) -> None:
    bars = market(200)

    values = score(text, bars)

    np.testing.assert_allclose(values, textbook(text, bars), rtol=1e-8, atol=1e-9)


def test_adx_is_wilders() -> None:
    # Wilder sums the first window of moves less one bar, as TA-Lib does, so the two agree once that is forgotten.
    bars, window = market(700), 14
    rise, fall = bars.high - before(bars.high), before(bars.low) - bars.low
    up = np.where(np.isnan(rise), NAN, np.where((rise > fall) & (rise > 0), rise, 0.0))
    down = np.where(np.isnan(rise), NAN, np.where((fall > rise) & (fall > 0), fall, 0.0))
    reach = np.maximum(bars.high, before(bars.close)) - np.minimum(bars.low, before(bars.close))
    average = smoothed(reach, window, 1 / window)
    plus, minus = smoothed(up, window, 1 / window) / average, smoothed(down, window, 1 / window) / average

    values = score("adx(14)", bars)

    expected = smoothed(100 * np.abs(plus - minus) / (plus + minus), window, 1 / window)
    np.testing.assert_allclose(values[-100:], expected[-100:], rtol=1e-6)


@pytest.mark.parametrize("text", [*TEXTBOOK, "adx(14)", "sma(rsi(close, 14), 5)", "rsi(macd(close), 3)"])
def test_the_first_value_stands_right_after_the_look_back(text: str) -> None:
    program = compile_program("close > 0", rank=text)
    assert program.rank is not None

    values = evaluate(program, market(120)).rank

    assert int(np.flatnonzero(~np.isnan(values))[0]) == program.rank.look_back


@pytest.mark.parametrize("text", [*TEXTBOOK, "adx(14)", "sma(rsi(close, 14), 5)", "ema(ema(close, 5), 10)"])
def test_the_tail_gives_the_last_value(text: str) -> None:
    program = compile_program("close > 0", rank=text)
    bars = market(2000)
    tail = program.tail_bars

    whole = evaluate(program, bars).rank[-1]

    if tail is None:
        assert text == "obv()"
    else:
        latest = evaluate(program, bars.every(lambda each: each[-tail:])).rank[-1]
        assert latest == pytest.approx(whole, rel=1e-9)


def test_windows_of_one_bar_are_the_bar() -> None:
    bars = market(30)

    for name in ("sma", "ema", "wma", "highest", "lowest"):
        np.testing.assert_array_equal(score(f"{name}(close, 1)", bars), bars.close)
    np.testing.assert_allclose(score("vwap(1)", bars), (bars.high + bars.low + bars.close) / 3)
    np.testing.assert_allclose(score("atr(1)", bars)[1:], textbook_reach(bars)[1:])


def textbook_reach(bars: Bars) -> Numbers:
    return np.maximum(bars.high, before(bars.close)) - np.minimum(bars.low, before(bars.close))


def test_crosses_above_needs_the_bar_before_at_or_below() -> None:
    bars = closes(9, 10, 11, 12, 10, 10, 11, 9, 12)

    assert entry("crosses_above(close, 10)", bars) == [False, False, True, False, False, False, True, False, True]
    assert entry("crosses_below(10, close)", bars) == entry("crosses_above(close, 10)", bars)


def test_crosses_below_needs_the_bar_before_at_or_above() -> None:
    bars = closes(11, 10, 9, 8, 10, 9, 12, 8)

    assert entry("crosses_below(close, 10)", bars) == [False, False, True, False, False, True, False, True]


def test_a_cross_needs_both_bars_defined() -> None:
    bars = closes(9, NAN, 11, 9, 11)

    assert entry("crosses_above(close, 10)", bars) == [False, False, False, False, True]


def test_between_includes_its_ends() -> None:
    assert entry("between(close, 2, 3)", closes(1, 2, 2.5, 3, 4)) == [False, True, True, True, False]


def test_comparisons_chain() -> None:
    assert entry("2 <= close < 4", closes(1, 2, 3, 4)) == [False, True, True, False]


def test_rising_needs_every_bar_to_rise() -> None:
    bars = closes(1, 2, 3, 3, 4, 5, 4)

    assert entry("rising(close, 2)", bars) == [False, False, True, False, False, True, False]
    assert entry("falling(-close, 2)", bars) == entry("rising(close, 2)", bars)


def test_arithmetic_and_logic_follow_python() -> None:
    bars = closes(1, 2, 3, 4, 5)

    assert entry("close * 2 - 1 > 3 and not close >= 5 or close == 1", bars) == [True, False, True, True, False]
    np.testing.assert_allclose(score("-close / 2 + 3 * (close - 1)", bars), [-0.5, 2, 4.5, 7, 9.5])


def test_constant_rules_have_a_value_at_every_bar() -> None:
    signals = evaluate(compile_program("1 < 2", "2 < 1", "5"), closes(1, 2, 3))

    assert signals.entry.tolist() == [True, True, True]
    assert signals.exit.tolist() == [False, False, False]
    assert signals.rank.tolist() == [5, 5, 5]


def test_without_exit_and_rank_nothing_is_said() -> None:
    signals = evaluate(compile_program("close > 0"), closes(1, 2))

    assert signals.exit.tolist() == [False, False]
    assert np.isnan(signals.rank).all()


@pytest.mark.parametrize(
    "text",
    [
        "sma(close, 3) < 1000",
        "not sma(close, 3) > 1000",
        "sma(close, 3) != 0",
        "close > 0 or sma(close, 3) > 1000",
        "not (close < 0 and sma(close, 3) > 1000)",
        "sma(close, 3) > 1000 or close > 0",
    ],
)
def test_an_undefined_operand_makes_the_whole_condition_false(text: str) -> None:
    assert entry(text, closes(1, 2, 3, 4)) == [False, False, True, True]


@pytest.mark.parametrize("count", [0, 1, 2, 13, 14])
@pytest.mark.parametrize("text", ["rsi(close) >= 0", "adx() >= 0", "lag(close, 20) > 0", "obv() < 0", "cci() > -1e9"])
def test_fewer_bars_than_the_look_back_give_no_signal(text: str, count: int) -> None:
    assert entry(text, market(count)) == [False] * count


def test_a_window_of_bars_that_stand_still_has_them_for_average() -> None:
    assert entry("close != sma(close, 3)", still(3)) == [False] * 3
    assert entry("close != sma(close, 3)", closes(5, 0.1, 0.1, 0.1)) == [False, False, True, False]


def test_rsi_is_defined_while_one_move_of_its_window_is_left() -> None:
    values = score("rsi(close, 2)", closes(1, 2, 2, 2))

    np.testing.assert_allclose(values, [NAN, NAN, 100, NAN])


def test_adx_of_a_steady_climb_is_a_hundred() -> None:
    close = np.arange(100.0, 160.0)
    bars = Bars(close, close + 1, close - 1, close, close)

    assert score("adx(14)", bars)[27:] == pytest.approx(100)


def test_a_value_missing_in_one_series_alone_is_missing_in_the_bar() -> None:
    whole = market(100)
    low = np.where(np.arange(100) == 60, NAN, whole.low)

    values = score("atr(14)", replace(whole, low=low))

    assert np.isnan(values[60])
    np.testing.assert_array_equal(
        np.delete(values, 60), score("atr(14)", whole.every(lambda each: np.delete(each, 60)))
    )


@pytest.mark.parametrize(
    "text",
    [
        "rsi(close, 14) < 30",
        "rsi(close, 14) >= 0",
        "not rsi(close, 14) > 30",
        "adx(14) < 20",
        "stochastic_k(14, 3) < 20",
        "cci(20) < -50 or cci(20) > -50",
        "close > sma(close, 3)",
        "close != sma(close, 7)",
        "close != ema(close, 3)",
        "close != wma(close, 7)",
        "close > bollinger_upper(close, 20)",
        "close < bollinger_lower(close, 20)",
        "crosses_above(close, sma(close, 3))",
        "macd(close) != 0",
        "rising(close) or falling(close)",
    ],
)
def test_a_price_that_never_moves_gives_no_signal(text: str) -> None:
    assert not any(entry(text, still(200)))


@pytest.mark.parametrize(
    "text", ["rsi(close, 14) < 100", "adx(14) < 101", "stochastic_k(14, 1) < 101", "cci(20) < 1e6", "cci(20) > -1e6"]
)
def test_a_symbol_that_is_halted_stops_signalling_after_the_window(text: str) -> None:
    moving = market(100)
    halted = moving.every(lambda each: np.concatenate([each, np.full(60, moving.close[-1])]))

    signals = entry(text, halted)

    assert all(signals[50:100])
    assert not any(signals[122:])


def test_a_halted_symbol_lies_on_its_average() -> None:
    moving = market(100)
    halted = moving.every(lambda each: np.concatenate([each, np.full(60, moving.close[-1])]))

    for text in (
        "close != sma(close, 20)",
        "close != wma(close, 20)",
        "close != bollinger_upper(close, 20)",
        "stddev(close * 10000, 20) > 0",
    ):
        assert not any(entry(text, halted)[119:])


def test_division_by_zero_is_undefined() -> None:
    bars = closes(1, 2, 3)

    assert np.isnan(score("1 / (close - 2)", bars)).tolist() == [False, True, False]
    assert entry("1 / (close - 2) > -9", bars) == [True, False, True]
    assert entry("0 / (close - 2) == 0", bars) == [True, False, True]


def test_overflow_is_undefined() -> None:
    bars = closes(1e200, 1e3)

    assert np.isnan(score("close * close", bars)).tolist() == [True, False]


def test_infinite_bars_are_undefined() -> None:
    assert entry("close > 0", closes(1, math.inf, -math.inf, NAN, 2)) == [True, False, False, False, True]


def test_volume_of_nothing_has_no_vwap() -> None:
    bars = replace(market(60), volume=np.concatenate([np.full(30, 1e9), np.zeros(30)]))

    values = score("vwap(20)", bars)

    assert np.isnan(values).tolist() == [True] * 19 + [False] * 30 + [True] * 11
    assert np.isnan(score("vwap(1)", bars)[30:]).all()


@pytest.mark.parametrize(
    "text", ["ema(close, 20)", "rsi(close, 14)", "macd_signal(close)", "atr(14)", "adx(14)", "obv()"]
)
def test_a_bar_without_values_is_left_out_of_what_is_smoothed(text: str) -> None:
    whole = market(200)
    gapped = whole.every(lambda each: np.insert(each, 150, NAN))

    values = score(text, gapped)

    assert np.isnan(values[150])
    np.testing.assert_array_equal(np.delete(values, 150), score(text, whole))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("sma(close, 20)", 20),
        ("wma(close, 5)", 5),
        ("stddev(close, 20)", 20),
        ("bollinger_upper(close, 20)", 20),
        ("highest(close, 20)", 20),
        ("lowest(low, 7)", 7),
        ("cci(20)", 20),
        ("vwap(20)", 20),
        ("stochastic_d()", 18),
        ("stochastic_k(14, 1)", 14),
    ],
)
def test_a_window_with_a_bar_without_values_is_undefined_and_no_other(text: str, window: int) -> None:
    whole = market(200)
    gapped = whole.every(lambda each: np.where(np.arange(200) == 150, NAN, each))

    values = score(text, gapped)

    expected = score(text, whole)
    expected[150 : 150 + window] = NAN
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    "rule",
    [
        "sma((close - low) / (high - low), 20) > 0.3",
        "highest((close - low) / (high - low), 20) > 0.9",
        "sma(stochastic_k(2, 1), 20) > 40",
        "close > sma(close, 5)",
        "crosses_above(close, vwap(10))",
        "close > bollinger_upper(close, 20, 1)",
        "wma(close, 9) > sma(close, 9)",
        "cci(20) > 50",
    ],
)
def test_a_bar_says_the_same_alone_as_among_all(rule: str) -> None:
    # Prices in cents, near 5 dollars, and bars without a range: what ties and what divides by zero.
    chance = np.random.default_rng(3)
    close = np.round(5 + np.cumsum(chance.choice([-0.01, 0.0, 0.01], 600)), 2)
    above, below = chance.choice([0.0, 0.01, 0.02], (2, 600))
    bars = Bars(close, np.round(close + above, 2), np.round(close - below, 2), close, np.full(600, 1e3))
    program = compile_program(rule)
    assert program.tail_bars is not None

    signals = evaluate(program, bars).entry

    for at in range(100, 600):
        tail = bars.every(lambda each, at=at: each[at + 1 - program.tail_bars : at + 1])
        assert evaluate(program, tail).entry[-1] == signals[at], at


def test_a_close_on_its_average_is_not_above_it() -> None:
    # The last five average exactly 4.98.
    bars = closes(5.0, 4.99, 4.99, 4.99, 4.98, 4.98, 4.98, 4.99, 4.98, 4.98, 4.97, 4.98)

    assert not entry("close > sma(close, 5)", bars)[-1]


@pytest.mark.parametrize("price", [90.1, 10.0, 33.33, 0.07, 1e-7])
def test_windows_of_equal_prices_have_that_price(price: float) -> None:
    for name in ("sma(close, 7)", "wma(close, 7)", "vwap(7)", "highest(close, 7)", "bollinger_upper(close, 7)"):
        np.testing.assert_array_equal(score(name, still(30, price))[6:], np.full(24, price))


@pytest.mark.parametrize("window", [*range(2, 40), 63, 64, 65, 250])
def test_windows_of_every_length_are_the_textbooks(window: int) -> None:
    bars = market(300)

    for name, of in (
        ("sma", np.mean),
        ("stddev", np.std),
        ("highest", np.max),
        ("lowest", np.min),
        ("wma", lambda part: part @ np.arange(1, window + 1) * 2 / (window * (window + 1))),
    ):
        expected = rolling(bars.close, window, of)
        np.testing.assert_allclose(score(f"{name}(close, {window})", bars), expected, rtol=1e-12)


def test_what_looks_back_by_bars_counts_a_bar_without_values() -> None:
    bars = closes(1, 2, NAN, 4, 5)

    np.testing.assert_array_equal(score("lag(close, 1)", bars), [NAN, 1, 2, NAN, 4])
    np.testing.assert_array_equal(score("change(close, 1)", bars), [NAN, 1, NAN, NAN, 1])


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e6])
def test_bands_and_indices_do_not_depend_on_the_size_of_the_price(factor: float) -> None:
    bars = market(300)
    small = replace(bars.every(lambda each: each * factor), volume=bars.volume)

    for text in ("rsi(close)", "adx()", "cci()", "stochastic_k()", "(close - sma(close)) / stddev(close)"):
        np.testing.assert_allclose(score(text, small), score(text, bars), rtol=1e-5, atol=1e-6)


def test_one_program_says_what_three_would() -> None:
    bars = market(300)
    first, second, third = "rsi(close) < 40", "rsi(close) > 60 or close < sma(close, 20)", "sma(close, 20) / close"

    together = evaluate(compile_program(first, second, third), bars)

    assert together.entry.tolist() == entry(first, bars)
    assert together.exit.tolist() == entry(second, bars)
    np.testing.assert_array_equal(together.rank, score(third, bars))
    assert together.entry.any()
    assert together.exit.any()


def test_the_bars_are_left_as_they_were() -> None:
    bars = closes(1, math.inf, 3, NAN, 5)
    for each in (bars.open, bars.volume):
        each.setflags(write=False)

    signals = evaluate(compile_program("close > sma(close, 2)", rank="close"), bars)
    signals.rank[:] = 0

    np.testing.assert_array_equal(bars.close, [1, math.inf, 3, NAN, 5])


def test_bars_of_other_types_and_strides_are_taken() -> None:
    bars = market(100)
    other = bars.every(lambda each: np.repeat(each.astype(np.float32), 2)[::2])

    np.testing.assert_allclose(score("rsi(close)", other), score("rsi(close)", bars), rtol=1e-3)


def test_arrays_of_different_lengths_are_refused() -> None:
    bars = replace(market(10), volume=np.ones(9))

    with pytest.raises(ValueError, match=r"bars.volume must have the length of bars.close, 10, had 9"):
        evaluate(compile_program("close > 0"), bars)
