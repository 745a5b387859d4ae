"""The functions that a rule may call: their parameters, and the steps that each is made of.

Most are made of a few others (MACD is two averages and a difference), so the evaluator knows some twenty operations
and what two indicators have in common is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aworker.trading.rules.steps import Steps

MAX_WINDOW_BARS = 1000

# An exponential average of window w keeps (1 - 2 / (w + 1)) ** n of its start after n bars, Wilder's (1 - 1 / w) ** n:
# after 20 and 30 windows that is below 1e-16 and 1e-12, which leaves room for ADX, where one smooths the other.
_EMA_WINDOWS = 20
_WILDER_WINDOWS = 30
_BARS_PER_COST = 10
"""Bars of the window for what takes its time by it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: a ``series`` must depend on the bars, a ``value`` may be a number, a ``window`` is a count of bars
    written as a whole number, a ``number`` a positive constant, a ``condition`` is true or false at a bar.
    """

    name: str
    kind: Literal["series", "value", "window", "number", "condition"]
    default: float | None = None
    """None = it must be given."""
    minimum: int = 1
    """The least window in bars."""

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name}={self.default:g}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language. ``build`` adds its steps; it raises ValueError for arguments that do not go
    together.
    """

    name: str
    parameters: tuple[Parameter, ...]
    about: str
    build: Callable[..., int]

    @property
    def signature(self) -> str:
        """The function as one writes it, with its defaults."""
        return f"{self.name}({', '.join(map(str, self.parameters))})"


def _window_step(
    operation: str, *, look_back: Callable[[int], int] = lambda window: window - 1, settle_windows: int = 0
) -> Callable[[Steps, int, int], int]:
    def build(steps: Steps, series: int, window: int) -> int:
        # An average, highest or lowest of one bar is the bar; TA-Lib takes no window below two.
        if window == 1:
            return series
        return steps.add(
            operation, series, parameters=(window,), look_back=look_back(window), settle=settle_windows * window
        )

    return build


def _bars_step(
    operation: str,
    *names: str,
    look_back: Callable[[int], int] = lambda window: window - 1,
    settle_windows: int = 0,
    bars_per_cost: int | None = None,
) -> Callable[[Steps, int], int]:
    def build(steps: Steps, window: int) -> int:
        return steps.add(
            operation,
            *(steps.bars(name) for name in names),
            parameters=(window,),
            look_back=look_back(window),
            settle=settle_windows * window,
            cost=1 if bars_per_cost is None else 1 + window // bars_per_cost,
        )

    return build


_sma = _window_step("sma")
_wma = _window_step("wma")
_ema = _window_step("ema", settle_windows=_EMA_WINDOWS)
_highest = _window_step("highest")
_lowest = _window_step("lowest")
_stddev = _window_step("stddev")
_atr = _bars_step("atr", "high", "low", "close", look_back=lambda window: window, settle_windows=_WILDER_WINDOWS)
_mfi = _bars_step("mfi", "high", "low", "close", "volume", look_back=lambda window: window)


def _directional(operation: str) -> Callable[[Steps, int], int]:
    return _bars_step(
        operation, "high", "low", "close", look_back=lambda window: window, settle_windows=_WILDER_WINDOWS
    )


def lag(steps: Steps, series: int, bars: int) -> int:
    """Return the step of a value ``bars`` bars ago; a constant is its own."""
    if steps[series].is_constant:
        return series
    return steps.add("lag", series, parameters=(bars,), look_back=bars)


def _change(steps: Steps, series: int, bars: int) -> int:
    return steps.add("subtract", series, lag(steps, series, bars))


def _percent_change(steps: Steps, series: int, bars: int) -> int:
    ratio = steps.add("divide", _change(steps, series, bars), lag(steps, series, bars))
    return steps.add("multiply", steps.constant(100.0), ratio)


def _macd(steps: Steps, series: int, fast: int, slow: int, signal: int) -> int:
    if fast >= slow:
        raise ValueError(f"fast must be below slow, was {fast} against {slow}")
    return steps.add("subtract", _ema(steps, series, fast), _ema(steps, series, slow))


def _macd_signal(steps: Steps, series: int, fast: int, slow: int, signal: int) -> int:
    return _ema(steps, _macd(steps, series, fast, slow, signal), signal)


def _macd_histogram(steps: Steps, series: int, fast: int, slow: int, signal: int) -> int:
    line = _macd(steps, series, fast, slow, signal)
    return steps.add("subtract", line, _ema(steps, line, signal))


def _bollinger(direction: Literal["add", "subtract"]) -> Callable[[Steps, int, int, float], int]:
    def build(steps: Steps, series: int, window: int, deviations: float) -> int:
        width = steps.add("multiply", steps.constant(deviations), _stddev(steps, series, window))
        return steps.add(direction, _sma(steps, series, window), width)

    return build


def _bollinger_middle(steps: Steps, series: int, window: int, deviations: float) -> int:
    return _sma(steps, series, window)


def _stochastic_k(steps: Steps, window: int, smooth: int) -> int:
    low = _lowest(steps, steps.bars("low"), window)
    high = _highest(steps, steps.bars("high"), window)
    above_low = steps.add("subtract", steps.bars("close"), low)
    # A range of nothing divides by zero, so a halted symbol's stochastic is undefined.
    ratio = steps.add("divide", above_low, steps.add("subtract", high, low))
    return _sma(steps, steps.add("multiply", steps.constant(100.0), ratio), smooth)


def _stochastic_d(steps: Steps, window: int, smooth: int, signal: int) -> int:
    return _sma(steps, _stochastic_k(steps, window, smooth), signal)


def _obv(steps: Steps) -> int:
    return steps.add("obv", steps.bars("close"), steps.bars("volume"), settle=None)


def compare(steps: Steps, operation: str, left: int, right: int) -> int:
    """Return the step of a comparison."""
    return steps.add(operation, left, right, is_condition=True)


def both(steps: Steps, left: int, right: int) -> int:
    """Return the step that two conditions hold."""
    return steps.add("and", left, right, is_condition=True)


def _crosses(before: str, now: str) -> Callable[[Steps, int, int], int]:
    def build(steps: Steps, left: int, right: int) -> int:
        was = compare(steps, before, lag(steps, left, 1), lag(steps, right, 1))
        return both(steps, was, compare(steps, now, left, right))

    return build


def _between(steps: Steps, value: int, low: int, high: int) -> int:
    return both(steps, compare(steps, "<=", low, value), compare(steps, "<=", value, high))


def _rising(steps: Steps, series: int, bars: int) -> int:
    return compare(steps, ">", _lowest(steps, _change(steps, series, 1), bars), steps.constant(0.0))


def _falling(steps: Steps, series: int, bars: int) -> int:
    return compare(steps, "<", _highest(steps, _change(steps, series, 1), bars), steps.constant(0.0))


def _absolute(steps: Steps, value: int) -> int:
    step = steps[value]
    return steps.constant(abs(step.parameters[0])) if step.is_constant else steps.add("abs", value)


def _picked(operation: str, pick: Callable[[float, float], float]) -> Callable[[Steps, int, int], int]:
    def build(steps: Steps, left: int, right: int) -> int:
        if steps[left].is_constant and steps[right].is_constant:
            return steps.constant(pick(steps[left].parameters[0], steps[right].parameters[0]))
        return steps.add(operation, left, right)

    return build


def _scaled(steps: Steps, factor: float, series: int) -> int:
    return steps.add("multiply", steps.constant(factor), series)


def _middle(steps: Steps, window: int) -> int:
    high, low = _highest(steps, steps.bars("high"), window), _lowest(steps, steps.bars("low"), window)
    return _scaled(steps, 0.5, steps.add("add", high, low))


def _donchian_upper(steps: Steps, window: int) -> int:
    return _highest(steps, steps.bars("high"), window)


def _donchian_lower(steps: Steps, window: int) -> int:
    return _lowest(steps, steps.bars("low"), window)


def _span_a(steps: Steps, conversion: int, base: int, displacement: int) -> int:
    both_lines = steps.add("add", _middle(steps, conversion), _middle(steps, base))
    return lag(steps, _scaled(steps, 0.5, both_lines), displacement)


def _span_b(steps: Steps, window: int, displacement: int) -> int:
    return lag(steps, _middle(steps, window), displacement)


def _keltner(direction: Literal["add", "subtract"]) -> Callable[[Steps, int, float, int], int]:
    def build(steps: Steps, window: int, multiple: float, atr_window: int) -> int:
        width = _scaled(steps, multiple, _atr(steps, atr_window))
        return steps.add(direction, _keltner_middle(steps, window, multiple, atr_window), width)

    return build


def _keltner_middle(steps: Steps, window: int, multiple: float, atr_window: int) -> int:
    return _ema(steps, steps.bars("close"), window)


def _williams_r(steps: Steps, window: int) -> int:
    high, low = _highest(steps, steps.bars("high"), window), _lowest(steps, steps.bars("low"), window)
    under_high = steps.add("subtract", high, steps.bars("close"))
    return _scaled(steps, -100.0, steps.add("divide", under_high, steps.add("subtract", high, low)))


def _slope(steps: Steps, series: int, window: int) -> int:
    # The weights 1, 2, ... less their mean are what least squares gives a line's slope by.
    lean = steps.add("subtract", _wma(steps, series, window), _sma(steps, series, window))
    return _scaled(steps, 6.0 / (window - 1), lean)


def _linreg(steps: Steps, series: int, window: int) -> int:
    weighted, mean = _wma(steps, series, window), _sma(steps, series, window)
    return steps.add("add", mean, _scaled(steps, 3.0, steps.add("subtract", weighted, mean)))


def _percent_rank(steps: Steps, series: int, window: int) -> int:
    return steps.add("percent_rank", series, parameters=(window,), look_back=window, cost=1 + window // _BARS_PER_COST)


def _correlation(steps: Steps, left: int, right: int, window: int) -> int:
    return steps.add("correlation", left, right, parameters=(window,), look_back=window - 1, cost=3)


def _beta(steps: Steps, series: int, market: int, window: int) -> int:
    returns = [_percent_change(steps, each, 1) for each in (series, market)]
    return steps.add("beta", *returns, parameters=(window,), look_back=window - 1, cost=3)


def _since(steps: Steps, condition: int) -> int:
    return steps.add("since", condition, steps.bars("close"), settle=None)


def _count(steps: Steps, condition: int, bars: int) -> int:
    return steps.add("count", condition, steps.bars("close"), parameters=(bars,), look_back=bars - 1)


def _value_when(steps: Steps, condition: int, series: int, times: int) -> int:
    return steps.add("value_when", condition, series, parameters=(times,), settle=None)


def _supertrend(steps: Steps, window: int, multiple: float) -> int:
    # What a band was set to holds until the close passes it, so the value stands on every bar there is.
    return steps.add(
        "supertrend",
        *(steps.bars(name) for name in ("high", "low", "close")),
        _atr(steps, window),
        parameters=(multiple,),
        settle=None,
        cost=40,
    )


def _sar(steps: Steps, step: float, most: float) -> int:
    if step > most:
        raise ValueError(f"step must be at most most, was {step:g} against {most:g}")
    return steps.add("sar", steps.bars("high"), steps.bars("low"), parameters=(step, most), look_back=1, settle=None)


def _time(operation: str, settle: int | None = 0) -> Callable[[Steps], int]:
    return lambda steps: steps.add(operation, settle=settle)


def _session(operation: str, *names: str) -> Callable[[Steps], int]:
    # How long a day is in bars is not known here.
    return lambda steps: steps.add(operation, *(steps.bars(name) for name in names), settle=None)


def _dema(steps: Steps, series: int, window: int) -> int:
    once = _ema(steps, series, window)
    return steps.add("subtract", _scaled(steps, 2.0, once), _ema(steps, once, window))


def _tema(steps: Steps, series: int, window: int) -> int:
    once = _ema(steps, series, window)
    twice = _ema(steps, once, window)
    lead = _scaled(steps, 3.0, steps.add("subtract", once, twice))
    return steps.add("add", lead, _ema(steps, twice, window))


def _hma(steps: Steps, series: int, window: int) -> int:
    ahead = _scaled(steps, 2.0, _wma(steps, series, window // 2))
    return _wma(steps, steps.add("subtract", ahead, _wma(steps, series, window)), math.isqrt(window))


def _vwma(steps: Steps, series: int, window: int) -> int:
    volume = steps.bars("volume")
    traded = _sma(steps, steps.add("multiply", series, volume), window)
    return steps.add("divide", traded, _sma(steps, volume, window))


def _series() -> Parameter:
    return Parameter("series", "series")


def _value(name: str) -> Parameter:
    return Parameter(name, "value")


def _window(default: int | None = None, name: str = "window", minimum: int = 1) -> Parameter:
    return Parameter(name, "window", default, minimum)


_MACD = (_series(), _window(12, "fast"), _window(26, "slow"), _window(9, "signal"))
_STOCHASTIC = (_window(14), _window(3, "smooth"))
_KELTNER = (_window(20), Parameter("multiple", "number", 2.0), _window(10, "atr_window"))
_CONDITION = Parameter("condition", "condition")
_BOLLINGER = (_series(), _window(20, minimum=2), Parameter("deviations", "number", 2.0))

FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        Function("sma", (_series(), _window(20)), "simple moving average", _sma),
        Function("ema", (_series(), _window(20)), "exponential moving average", _ema),
        Function("wma", (_series(), _window(20)), "linearly weighted moving average", _wma),
        Function(
            "rsi",
            (_series(), _window(14, minimum=2)),
            "Wilder's relative strength index, 0 to 100; undefined while the series has not moved for its window",
            _window_step("rsi", look_back=lambda window: window, settle_windows=_WILDER_WINDOWS),
        ),
        Function("macd", _MACD, "MACD line: ema(fast) - ema(slow); takes signal only for company", _macd),
        Function("macd_signal", _MACD, "MACD signal line: ema of the MACD line", _macd_signal),
        Function("macd_histogram", _MACD, "MACD line minus its signal line", _macd_histogram),
        Function("bollinger_upper", _BOLLINGER, "sma plus deviations x stddev", _bollinger("add")),
        Function("bollinger_middle", _BOLLINGER, "sma", _bollinger_middle),
        Function("bollinger_lower", _BOLLINGER, "sma minus deviations x stddev", _bollinger("subtract")),
        Function(
            "atr",
            (_window(14),),
            "Wilder's average true range, in price",
            _atr,
        ),
        Function(
            "adx",
            (_window(14, minimum=2),),
            "Wilder's average directional index, 0 to 100; undefined while the price has not moved for its window",
            _bars_step(
                "adx", "high", "low", "close", look_back=lambda window: 2 * window - 1, settle_windows=_WILDER_WINDOWS
            ),
        ),
        Function("stochastic", _STOCHASTIC, "the same as stochastic_k", _stochastic_k),
        Function(
            "stochastic_k",
            _STOCHASTIC,
            "where the close lies in the window's range, 0 to 100, averaged over smooth bars",
            _stochastic_k,
        ),
        Function(
            "stochastic_d",
            (*_STOCHASTIC, _window(3, "signal")),
            "stochastic_k averaged over signal bars",
            _stochastic_d,
        ),
        Function(
            "cci",
            (_window(20, minimum=2),),
            "commodity channel index; undefined while the price has not moved for its window",
            # The one indicator that takes time by its window: its mean deviation is summed afresh at every bar.
            _bars_step("cci", "high", "low", "close", bars_per_cost=_BARS_PER_COST),
        ),
        Function("roc", (_series(), _window(10)), "change over the window in percent", _percent_change),
        Function("momentum", (_series(), _window(10)), "change over the window", _change),
        Function("obv", (), "on-balance volume, summed from the first bar", _obv),
        Function(
            "vwap",
            (_window(20),),
            "average of (high + low + close) / 3 over the window, weighted by volume",
            _bars_step("vwap", "high", "low", "close", "volume"),
        ),
        Function("stddev", (_series(), _window(20, minimum=2)), "population standard deviation", _stddev),
        Function("highest", (_series(), _window(20)), "highest value of the window, this bar included", _highest),
        Function("lowest", (_series(), _window(20)), "lowest value of the window, this bar included", _lowest),
        Function("change", (_series(), _window(1, "bars")), "value minus the one bars ago", _change),
        Function("percent_change", (_series(), _window(1, "bars")), "change over bars in percent", _percent_change),
        Function("lag", (_series(), _window(1, "bars")), "value bars ago", lag),
        Function("abs", (_value("value"),), "value without its sign", _absolute),
        Function(
            "crosses_above",
            (_value("left"), _value("right")),
            "left is above right and was not on the bar before",
            _crosses("<=", ">"),
        ),
        Function(
            "crosses_below",
            (_value("left"), _value("right")),
            "left is below right and was not on the bar before",
            _crosses(">=", "<"),
        ),
        Function("between", (_value("value"), _value("low"), _value("high")), "low <= value <= high", _between),
        Function("rising", (_series(), _window(1, "bars")), "rose on each of the last bars", _rising),
        Function("falling", (_series(), _window(1, "bars")), "fell on each of the last bars", _falling),
        Function("maximum", (_value("left"), _value("right")), "the greater of the two", _picked("maximum", max)),
        Function("minimum", (_value("left"), _value("right")), "the lesser of the two", _picked("minimum", min)),
        Function(
            "since",
            (_CONDITION,),
            "bars since the condition last held, 0 where it holds; undefined before it first did",
            _since,
        ),
        Function("count", (_CONDITION, _window(20, "bars")), "on how many of the last bars the condition held", _count),
        Function(
            "value_when",
            (_CONDITION, _series(), _window(1, "times")),
            "value at the bar where the condition last held; with times=2 the time before, and so on",
            _value_when,
        ),
        Function("donchian_upper", (_window(20),), "highest high of the window, this bar included", _donchian_upper),
        Function("donchian_middle", (_window(20),), "halfway between the highest high and the lowest low", _middle),
        Function("donchian_lower", (_window(20),), "lowest low of the window, this bar included", _donchian_lower),
        Function("keltner_upper", _KELTNER, "ema of the close plus multiple x atr(atr_window)", _keltner("add")),
        Function("keltner_middle", _KELTNER, "ema of the close", _keltner_middle),
        Function("keltner_lower", _KELTNER, "ema of the close minus multiple x atr(atr_window)", _keltner("subtract")),
        Function("ichimoku_conversion", (_window(9),), "Tenkan-sen: middle of the window's range", _middle),
        Function("ichimoku_base", (_window(26),), "Kijun-sen: middle of the window's range", _middle),
        Function(
            "ichimoku_span_a",
            (_window(9, "conversion"), _window(26, "base"), _window(26, "displacement")),
            "Senkou span A under this bar: mean of the two lines displacement bars ago",
            _span_a,
        ),
        Function(
            "ichimoku_span_b",
            (_window(52), _window(26, "displacement")),
            "Senkou span B under this bar: middle of the window's range displacement bars ago",
            _span_b,
        ),
        Function(
            "supertrend",
            (_window(10), Parameter("multiple", "number", 3.0)),
            "SuperTrend, as TradingView counts it: the line under a rising price or over a falling one",
            _supertrend,
        ),
        Function(
            "sar",
            (Parameter("step", "number", 0.02), Parameter("most", "number", 0.2)),
            "Wilder's parabolic stop and reverse, from the first bar on",
            _sar,
        ),
        Function("mfi", (_window(14),), "money flow index, 0 to 100; undefined where nothing flowed", _mfi),
        Function(
            "williams_r", (_window(14),), "Williams %R: where the close lies in the range, -100 to 0", _williams_r
        ),
        Function(
            "plus_di", (_window(14, minimum=2),), "Wilder's positive directional indicator", _directional("plus_di")
        ),
        Function(
            "minus_di", (_window(14, minimum=2),), "Wilder's negative directional indicator", _directional("minus_di")
        ),
        Function("slope", (_series(), _window(20, minimum=2)), "slope of the least squares line, a bar", _slope),
        Function(
            "linreg", (_series(), _window(20, minimum=2)), "end of the least squares line over the window", _linreg
        ),
        Function(
            "percent_rank",
            (_series(), _window(20)),
            "how many of the window's bars before were not above this one, in percent",
            _percent_rank,
        ),
        Function(
            "correlation",
            (Parameter("left", "series"), Parameter("right", "series"), _window(20, minimum=2)),
            "Pearson's correlation of two series over the window, -1 to 1",
            _correlation,
        ),
        Function(
            "beta",
            (_series(), Parameter("market", "series"), _window(60, minimum=2)),
            "covariance of the two series' returns over the variance of the market's",
            _beta,
        ),
        Function("weekday", (), "day of the week, 1 is Monday", _time("weekday")),
        Function("month", (), "month, 1 to 12", _time("month")),
        Function("day_of_month", (), "day of the month, 1 to 31", _time("day_of_month")),
        Function(
            "trading_day", (), "number of the day among those of its month that have bars", _time("trading_day", None)
        ),
        Function("days_left", (), "days of the month after this one, 0 on its last", _time("days_left")),
        Function(
            "weekdays_left", (), "Mondays to Fridays of the month after this day, holidays too", _time("weekdays_left")
        ),
        Function("hour", (), "hour of the bar's opening, 0 to 23", _time("hour")),
        Function("minute", (), "minute of the bar's opening, 0 to 59", _time("minute")),
        Function("time_of_day", (), "time of the bar's opening as hhmm: 1555 is 15:55", _time("time_of_day")),
        Function("session_bar", (), "number of the bar in its day, 1 is the first", _time("session_bar", None)),
        Function("session_open", (), "opening price of the day", _session("session_open", "open")),
        Function("session_high", (), "highest price of the day so far", _session("session_high", "high")),
        Function("session_low", (), "lowest price of the day so far", _session("session_low", "low")),
        Function(
            "session_vwap",
            (),
            "average of (high + low + close) / 3 of the day so far, weighted by volume",
            _session("session_vwap", "high", "low", "close", "volume"),
        ),
        Function("dema", (_series(), _window(20)), "double exponential moving average", _dema),
        Function("tema", (_series(), _window(20)), "triple exponential moving average", _tema),
        Function("hma", (_series(), _window(20, minimum=2)), "Hull moving average", _hma),
        Function("vwma", (_series(), _window(20)), "moving average weighted by volume", _vwma),
    )
}

OF_THE_DAY = frozenset(
    ("hour", "minute", "time_of_day", "session_bar", "session_open", "session_high", "session_low", "session_vwap")
)
"""Functions that say something only of bars shorter than a day."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    name: (ours,)
    for ours, names in {
        "abs": "absolute",
        "bollinger_lower": "bb_lower",
        "bollinger_middle": "bb_middle",
        "bollinger_upper": "bb_upper bbands bollinger",
        "close": "c price",
        "crosses_above": "cross_above cross_over crossed_above crossover crosses_over",
        "crosses_below": "cross_below cross_under crossed_below crossunder crosses_under",
        "high": "h",
        "highest": "hhv max",
        "lag": "delay previous ref shift",
        "low": "l",
        "lowest": "llv min",
        "macd": "macd_line",
        "macd_histogram": "macd_hist macdhist",
        "momentum": "mom",
        "open": "o",
        "percent_change": "pct_change pctchange",
        "sma": "average avg ma mean",
        "stddev": "std stdev",
        "stochastic": "stoch",
        "stochastic_d": "stoch_d",
        "stochastic_k": "stoch_k",
        "volume": "v vol",
        "day_of_month": "day dayofmonth",
        "time_of_day": "time hhmm",
        "weekday": "dayofweek day_of_week",
        "correlation": "correl corr",
        "count": "countif",
        "donchian_upper": "donchian dc_upper",
        "ichimoku_base": "kijun kijun_sen",
        "ichimoku_conversion": "tenkan tenkan_sen",
        "ichimoku_span_a": "senkou_a senkou_span_a ichimoku",
        "ichimoku_span_b": "senkou_b senkou_span_b",
        "keltner_upper": "keltner kc_upper",
        "keltner_lower": "kc_lower",
        "linreg": "linearreg lsma linear_regression",
        "maximum": "max_of greatest",
        "mfi": "money_flow money_flow_index",
        "minimum": "min_of least",
        "minus_di": "di_minus",
        "percent_rank": "percentrank percentile_rank",
        "plus_di": "di_plus",
        "sar": "psar parabolic_sar",
        "since": "barssince bars_since",
        "slope": "linearreg_slope linreg_slope",
        "value_when": "valuewhen",
        "williams_r": "willr williams wpr",
    }.items()
    for name in names.split()
} | dict.fromkeys(["ad", "adl", "tr"], ())
"""Other languages' names -> ours, for suggestions only; none for what is not here and looks like a misspelling."""

ARGUMENT_SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ["n", "length", "lookback", "look_back", "period", "periods", "span", "timeperiod"], ("window", "bars")
    ),
    **dict.fromkeys(["bars", "days"], ("window",)),
    "window": ("bars",),
    **dict.fromkeys(["data", "price", "source", "src", "values", "x"], ("series", "value")),
    **dict.fromkeys(["fast_length", "fast_period", "fastperiod"], ("fast",)),
    **dict.fromkeys(["slow_length", "slow_period", "slowperiod"], ("slow",)),
    **dict.fromkeys(["signal_length", "signal_period", "signalperiod"], ("signal",)),
    **dict.fromkeys(["dev", "nbdev", "std", "stddev"], ("deviations",)),
    **dict.fromkeys(["mult", "multiplier", "factor"], ("deviations", "multiple")),
    **dict.fromkeys(["occurrence", "nth"], ("times",)),
}
"""Other languages' arguments -> ours, of which the function's own is meant."""

LINES: dict[tuple[str, str], str] = {
    ("macd", "line"): "macd",
    ("macd", "signal"): "macd_signal",
    ("macd", "histogram"): "macd_histogram",
    ("bollinger", "upper"): "bollinger_upper",
    ("bollinger", "middle"): "bollinger_middle",
    ("bollinger", "lower"): "bollinger_lower",
    ("keltner", "upper"): "keltner_upper",
    ("keltner", "middle"): "keltner_middle",
    ("keltner", "lower"): "keltner_lower",
    ("donchian", "upper"): "donchian_upper",
    ("donchian", "middle"): "donchian_middle",
    ("donchian", "lower"): "donchian_lower",
    ("stochastic", "k"): "stochastic_k",
    ("stochastic", "d"): "stochastic_d",
}
"""``macd(close).signal`` and the like -> the function that is meant."""
