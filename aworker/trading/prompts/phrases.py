"""What the grammar's meanings are made of: plain tuples, first their kind; None where the parts do not fit together.

Spans of time stay as (count, unit) until the timeframe is known; a number stays a `Number` until its side is known.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from aworker.trading.prompts.lattice import Number

Series = tuple[Any, ...]
Condition = tuple[Any, ...]
Span = tuple[float, str]

WHOLE_MOST = 1_000
MOST_TERMS = 6
BEYOND = {"<": ">=", ">": "<=", "<=": ">", ">=": "<"}
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
SIGN = {"up": ">", "down": "<"}
DIRECTION = {">": "up", ">=": "up", "<": "down", "<=": "down"}

_Make = TypeVar("_Make", bound=Callable[..., Any])

MEANINGS: dict[str, Callable[..., Any]] = {}
"""Meanings that need more than their name and parts, by name."""


def meaning(make: _Make) -> _Make:
    """Register how a meaning is made."""
    MEANINGS[make.__name__.strip("_")] = make
    return make


def whole(number: Number | None) -> float | None:
    """Return a plain whole number that can be a count of bars, else None."""
    if number is None or number.is_percent or number.is_money or number.sign:
        return None
    return number.value if number.value == int(number.value) and 1 <= number.value <= WHOLE_MOST else None


def percent(number: Number | None) -> float | None:
    """Return a percentage without its sign, else None."""
    return number.value if number is not None and number.is_percent else None


@meaning
def span(number: Number | int, unit: str | None) -> Span | None:
    count = float(number) if isinstance(number, int) else whole(number)
    return None if count is None else (count, unit or "bar")


@meaning
def long(unit: str) -> Span | None:
    return (1.0, unit) if unit in ("week", "month", "year") else None


@meaning
def day() -> Span:
    return (1.0, "day")


@meaning
def back(number: Number) -> Span | None:
    return span(number._replace(sign="" if number.sign == "-" else number.sign), None)


# Series.


@meaning
def of_bar(which: str) -> Series | None:
    return ("price", which) if " " not in which else None


@meaning
def average(function: str | None, window: Span | None, base: Series | None) -> Series | None:
    return None if function is None else ("average", function, window, base, False)


@meaning
def letter(name: str) -> str | None:
    return {"S": "sma", "E": "ema", "W": "wma"}.get(name)


@meaning
def its(series: Series) -> Series:
    return (*series[:4], True)


@meaning
def indicator(name: str, number: Number | None, unit: str | None = None) -> Series | None:
    if number is None:
        return ("indicator", name, None)
    window = span(number, unit)
    return None if window is None else ("indicator", name, window)


@meaning
def smoothed(name: str, number: Number) -> Series | None:
    return indicator(name, number) if name.startswith(("stochastic", "keltner")) else None


@meaning
def macd(part: str) -> Series:
    return ("macd", part, None, None, None)


@meaning
def macd_of(part: str, *numbers: Number) -> Series | None:
    windows = [whole(each) for each in numbers]
    return None if None in windows else ("macd", part, *windows)


@meaning
def band(part: str, window: Number | None, deviations: Number | None) -> Series | None:
    bars = 20.0 if window is None else whole(window)
    width = 2.0 if deviations is None else deviations.value
    return None if bars is None or (part == "both" and (window or deviations)) else ("band", part, bars, width)


@meaning
def extreme(which: str, window: Span, base: Series | None = None) -> Series:
    of: Any = base if base is not None else which
    return ("extreme", which, of, window, False)


@meaning
def earlier(which: str, window: Span, base: Series | None = None) -> Series:
    of: Any = base if base is not None else which
    return ("extreme", which, of, window, True)


@meaning
def peak(which: str, window: Span, base: Series | None) -> Series:
    return extreme(which, window, base)


@meaning
def extreme_of(which: str, base: Series, window: Span) -> Series:
    return ("extreme", which, base, window, False)


@meaning
def group(inner: Any) -> Any:
    return inner if inner[0] in ("price", "number") else ("group", inner)


@meaning
def formula(series: Series) -> Series | None:
    return series if series[0] in ("plus", "minus", "product", "quotient", "group") else None


@meaning
def not_number(series: Series) -> Series | None:
    return None if series[0] == "number" else series


@meaning
def number(value: Number) -> Series | None:
    return (
        None if value.is_percent or value.is_money else ("number", -value.value if value.sign == "-" else value.value)
    )


@meaning
def plus(left: Series, right: Series) -> Series | None:
    return ("plus", left, right) if _terms(right) < MOST_TERMS else None


def _terms(series: Series) -> int:
    return 1 + _terms(series[2]) if series[0] == "plus" else 1


@meaning
def product(left: Series, right: Series) -> Series | None:
    return None if left[0] == right[0] == "number" else ("product", left, right)


@meaning
def times(factor: Number, series: Series) -> Series | None:
    return None if factor.is_percent or factor.is_money or factor.sign else ("times", factor.value, series)


@meaning
def times_of(factor: Any, series: Series) -> Series:
    return ("times", float(factor), series)


@meaning
def negative_of(series: Series) -> Series:
    return ("times", -1.0, series)


@meaning
def times_range(factor: Number, series: Series) -> Series | None:
    return times(factor, series) if series[1] == "atr" else None


@meaning
def percent_of(share: Number, series: Series) -> Series | None:
    if not share.is_percent or share.sign or series[0] not in ("average", "price", "extreme", "indicator", "extent"):
        return None
    return ("times", share.value / 100, series)


@meaning
def shifted_by(series: Series, share: Number, sign: str) -> Series | None:
    if not share.is_percent or share.sign:
        return None
    return ("times", 1 + share.value / 100 * (1 if sign == "+" else -1), series)


@meaning
def beside(share: Number, sign: str, series: Series) -> Series | None:
    return shifted_by(series, share, "+" if sign == ">" else "-") if sign in ("<", ">") else None


@meaning
def offset(distance: Series, sign: str, series: Series) -> Series | None:
    if distance[0] != "times" or distance[2][:2] not in (("indicator", "atr"), ("indicator", "stddev")):
        return None
    return ("plus" if sign == ">" else "minus", series, distance) if sign in ("<", ">") else None


@meaning
def zero() -> Number:
    return Number(0.0)


# Signs.


@meaning
def negated(sign: str) -> str:
    return BEYOND[sign]


@meaning
def mirrored(sign: str) -> str:
    return MIRRORED[sign]


@meaning
def least(sign: str) -> str | None:
    return sign if sign in (">", ">=") else None


@meaning
def behind(sign: str) -> str | None:
    return sign if sign in ("<=", ">=") else None


@meaning
def or_equal(sign: str, more: str) -> str | None:
    return f"{sign[0]}=" if more in ("<=", ">=", "==") else None


@meaning
def moving(direction: str) -> str:
    return SIGN[direction]


# Conditions.


@meaning
def averages(numbers: tuple[Number, ...], unit: str | None, function: str | None) -> tuple[Series, ...] | None:
    spans = [span(each, unit) for each in numbers]
    return None if None in spans else tuple(("average", function or "sma", each, None, False) for each in spans)


@meaning
def averages_of(a: Number, u: str | None, f: str, b: Number, v: str | None, g: str) -> tuple[Series, ...] | None:
    first, second = span(a, u or v), span(b, v or u)
    if first is None or second is None:
        return None
    return ("average", f, first, None, False), ("average", g, second, None, False)


@meaning
def compare(left: Series | None, sign: str, right: Any) -> Condition:
    return ("compare", left, sign, right)


@meaning
def both(first: Condition, second: Condition) -> Condition:
    return ("all", (first, second))


@meaning
def either(first: Condition, second: Condition) -> Condition:
    return ("any", (first, second))


@meaning
def one_of(first: Condition, second: Condition) -> Condition:
    """Read "below 30 or above 70" of one series; beside an "and" it would read two ways."""
    return ("one_of", (first, second))


@meaning
def each_of(sign: str, many: tuple[Series, ...]) -> Condition:
    return ("all", tuple(("compare", None, sign, each) for each in many))


@meaning
def each_closes(sign: str, many: tuple[Series, ...]) -> Condition:
    return ("all", tuple(("closes", sign, each) for each in many))


@meaning
def of_both(first: Series, second: Series, said: Condition) -> Condition:
    return ("all", (("of", first, said), ("of", second, said)))


@meaning
def distance(share: Number, sign: str, series: Series, at_least: str | None = None) -> Condition | None:
    if not share.is_percent or share.sign or sign not in ("<", ">"):
        return None
    return ("distance", share.value, sign if at_least == ">" else f"{sign}=", series)


@meaning
def nearer(share: Number, sign: str, series: Series) -> Condition | None:
    """Read "less than 5% below its high", which says how near; of an average it would say two things."""
    is_high = series[0] == "extreme" and series[1].startswith("high")
    is_low = series[0] == "extreme" and series[1].startswith("low")
    return ("near", None, share, series) if (is_high and sign == "<") or (is_low and sign == ">") else None


@meaning
def before_bars(series: Series, bars: Number) -> Series | None:
    """Read ``close[1]``, of which ``close[0]`` is the close itself."""
    if bars == Number(0.0):
        return series
    ago = span(bars, None)
    if ago is None or (series[:1] == ("indicator",) and series[2] is None and ago[0] > 3):
        return None  # "ADX[14]" may be its window, or so many bars ago
    return ("lag", series, ago)


@meaning
def near_by(left: Series | None, distance: Series, series: Series) -> Condition | None:
    inner = distance[2] if distance[0] == "times" else distance
    return ("near_by", left, distance, series) if inner[:2] == ("indicator", "atr") else None


@meaning
def in_range(side: str, share: Number, extent: Series) -> Condition | None:
    return ("in_range", side, share.value / 100, extent) if share.is_percent and 0 < share.value < 100 else None


@meaning
def in_half(side: str, extent: Series) -> Condition:
    return ("in_range", side, 0.5, extent)


@meaning
def moved_between(direction: str, low: Number, high: Number, window: Span) -> Condition | None:
    if not (low.is_percent and high.is_percent and low.value < high.value):
        return None
    beyond = {"up": "not up", "down": "not down"}[direction]
    return ("all", (("moved", direction, low.value, window, ">="), ("moved", beyond, high.value, window, ">=")))


@meaning
def chained(first: Series, sign: str, rest: tuple[tuple[Series, str | None], ...]) -> Condition | None:
    many = [(first, sign), *rest]
    if len({each[0] for _, each in many[:-1] if each}) > 1:
        return None  # "more than 10 below" is no chain
    pairs = [(left, each, right) for (left, each), (right, _) in pairwise(many)]
    return ("all", tuple(("of", left, ("compare", None, each, right)) for left, each, right in pairs))


@meaning
def sandwich(low: Any, sign: str, series: Series, other: str, high: Any) -> Condition | None:
    if series[0] == "number" or sign[0] != other[0]:
        return None
    return ("of", series, both(("compare", None, MIRRORED[sign], low), ("compare", None, other, high)))


@meaning
def held(inner: Condition, window: Span | None) -> Condition | None:
    said = inner[2] if inner[0] == "of" else inner
    return None if window is None or said[0] in ("trend", "streak") else ("held", inner, window)


@meaning
def restated(series: Series, text: Series) -> Series | None:
    """Read "dollar volume (close times volume)": what is in brackets says what is meant."""
    return ("group", text) if text[0] in ("plus", "minus", "product", "quotient", "group") else None


@meaning
def below_zero(value: Number) -> Number | None:
    return None if value.sign or value.is_money else value._replace(sign="-")


@meaning
def about_symbol(ticker: str, said: Condition) -> Condition | None:
    return None if said[0] == "of" and said[1][0] == "symbol" else ("about_symbol", ticker, said)


@meaning
def bars_in_a_row(kind: str, count: Number) -> Condition | None:
    side, _, price_name = kind.partition(" ")
    bars = whole(count)
    if bars is None or price_name not in ("high", "low"):
        return None
    return ("of", ("price", price_name), ("trend", None, "rising" if side == "higher" else "falling", (bars, "bar")))


@meaning
def above_within(sign: str, series: Series, share: Number) -> Condition | None:
    if not share.is_percent or share.sign or sign not in ("<", ">"):
        return None
    factor = 1 + share.value / 100 * (1 if sign == ">" else -1)
    limit_sign = {"<": ">=", ">": "<="}[sign]
    return both(("compare", None, sign, series), ("compare", None, limit_sign, ("times", factor, series)))


@meaning
def off(gap: Series, sign: str, series: Series) -> Condition | None:
    value = offset(gap, sign, series)
    return None if value is None else ("compare", None, sign, value)


@meaning
def moved_past(direction: str, share: Number, sign: str, series: Series, least: str | None) -> Condition | None:
    return distance(share, sign, series, least) if sign == SIGN[direction] else None


@meaning
def moved_from(direction: str, share: Number, series: Series, least: str | None) -> Condition | None:
    return distance(share, SIGN[direction], series, least) if series[0] in ("extreme", "average", "band") else None


@meaning
def deviations(count: Number, sign: str, series: Series) -> Condition | None:
    """Read "2 standard deviations below the 20 day mean"."""
    if count.is_percent or count.sign or series[2] is None or series[3] is not None:
        return None
    width = ("times", count.value, ("indicator", "stddev", series[2]))
    return ("compare", None, sign, ("plus" if sign[0] == ">" else "minus", series, width))


@meaning
def closes_off(sign: str, share: Number, other: str, series: Series) -> Condition | None:
    if not share.is_percent or share.sign or other[0] != sign[0]:
        return None
    return ("closes", sign, ("times", 1 + share.value / 100 * (1 if sign[0] == ">" else -1), series))


@meaning
def cross_off(direction: str, share: Number, sign: str, series: Series) -> Condition | None:
    value = beside(share, sign, series)
    return None if value is None else ("cross", None, direction, value)


@meaning
def came(direction: str, value: Any, was: str) -> Condition | None:
    """Read "crosses above it after being below"."""
    return ("cross", None, direction, value) if SIGN[direction] != was[0] else None


@meaning
def came_over(sign: str, value: Any, was: str) -> Condition | None:
    return ("cross", None, DIRECTION[sign], value) if sign[0] != was[0] else None


@meaning
def came_between(sign: str, value: Any, was: str, other: Any) -> Condition | None:
    return came_over(sign, value, was) if value == other else None


@meaning
def closes_over(sign: str, value: Any, was: str) -> Condition | None:
    return ("closes_cross", DIRECTION[sign], value) if sign[0] != was[0] else None


@meaning
def yesterday_today(was: str, value: Any, sign: str, other: Any) -> Condition | None:
    return ("cross", None, DIRECTION[sign], other) if value == other and was[0] != sign[0] else None


@meaning
def stack(sign: str, spans: tuple[Span, ...]) -> Condition | None:
    return stack_of(None, sign, spans)


@meaning
def stack_of(function: str | None, sign: str, spans: tuple[Span, ...]) -> Condition | None:
    return ("stack", function, sign, spans) if sign in ("<", ">") else None


@meaning
def pair(fast: Span, sign: str, slow: Span) -> Condition:
    return ("pair", fast, sign, slow)


@meaning
def pair_of(first: Number, second: Number, function: str | None, other: str | None) -> tuple[Any, ...] | None:
    fast, slow = whole(first), whole(second)
    return None if fast is None or slow is None or fast >= slow else (fast, slow, function or other)


@meaning
def on_volume(factor: Number, series: Series) -> Condition | None:
    """Read "on twice the average volume" as a condition of the volume."""
    scaled = percent_of(factor, series) if factor.is_percent else times(factor, series)
    is_volume = series[3] in (("price", "volume"), None) and series[0] == "average"
    if scaled is None or not is_volume or (series[3] is None and series[2] is not None):
        return None
    return ("of", ("price", "volume"), ("compare", None, ">" if scaled[1] == 1 else ">=", scaled))


@meaning
def on_own_volume(factor: Number, series: Series) -> Condition | None:
    return on_volume(factor, series) if series[3] is not None else None


@meaning
def volume_times(factor: Number, series: Series) -> Condition | None:
    if series[0] != "average" or series[3] not in (None, ("price", "volume")):
        return None
    return on_volume(factor, (*series[:3], ("price", "volume"), False))


@meaning
def volume_multiple(factor: Number, series: Series) -> Condition | None:
    """Read "volume 3x its average"; "more than 50% its average" may be half of it or half more."""
    return None if factor.is_percent and factor.value < 100 else volume_times(factor, series)


@meaning
def volume_times_of(factor: Any, series: Series) -> Condition | None:
    return volume_times(Number(float(factor)), series)


@meaning
def on_volume_of(factor: Any, series: Series) -> Condition | None:
    return on_volume(Number(float(factor)), series) if series[0] == "average" and series[3] else None


@meaning
def new_of(direction: str, which: str | None, window: Span) -> Condition | None:
    return ("new", None, direction, window) if which in (None, direction) else None


@meaning
def gap(direction: str, share: Number | None, *signs: str | None) -> Condition | None:
    if share is None:
        return ("gap", direction, 0.0, ">")
    size = percent(share)
    return None if size is None else ("gap", direction, size, _least_of(signs))


@meaning
def moved(direction: str, share: Number, window: Span | None, *signs: str | None) -> Condition | None:
    size = percent(share)
    if size is None or (share.sign and (share.sign == "-") != (direction == "down")):
        return None
    return ("moved", direction, size, window, _least_of(signs))


def _least_of(signs: tuple[str | None, ...]) -> str:
    return ">" if ">" in signs else ">="


@meaning
def between_off(low: Number, high: Number, sign: str, series: Series) -> Condition | None:
    """Read "between 1% and 4% above the 50 day average"."""
    if not (low.is_percent and high.is_percent and low.value < high.value and sign in ("<", ">")):
        return None
    side = 1 if sign == ">" else -1
    ends = [("times", 1 + side * each.value / 100, series) for each in (low, high)]
    return ("between", None, *ends[::side])


@meaning
def windowed(name: str, mean: Series) -> Series | None:
    """Read "z-score against its 20 day mean"."""
    return ("indicator", name, mean[2]) if mean[2] is not None and mean[3] is None else None


@meaning
def the(number: Number) -> Number | None:
    """Read "the 50", which is an average of so many bars and no level."""
    return None if whole(number) is None else number._replace(is_named=True)


@meaning
def in_part(side: str, parts: str, extent: Series) -> Condition:
    """Read "in the upper third of its range"."""
    return ("in_range", side, 1 / int(parts), extent)


@meaning
def equal(series: Series) -> Condition | None:
    return None if series[0] == "number" else ("equal", series)


@meaning
def beyond_closes(sign: str, count: Number) -> Condition | None:
    """Read "higher than the last ten closes"."""
    window = span(count, None)
    if window is None or sign not in ("<", ">"):
        return None
    which = "high" if sign == ">" else "low"
    return ("closes", sign, earlier(which, window, ("price", "close")))


@meaning
def state_at(state: str, level: Number) -> Condition:
    """Read "oversold (40)"."""
    return compare(None, "<" if state in ("oversold", "negative") else ">", level)


@meaning
def signed_by(sign: str, size: Number) -> tuple[Any, ...] | None:
    return None if size.sign else signed(size._replace(sign=sign))


@meaning
def trailing(direction: str, size: Number) -> tuple[Any, ...] | None:
    if direction != "down" or size.sign or not size.is_percent:
        return None
    return ("limit", "trailing_stop", size.value / 100)


@meaning
def closes_both(sign: str) -> Condition:
    return ("on_close", ("beyond_both", sign))


@meaning
def banded(name: str, number: Number, deviations: Number) -> Series | None:
    """Read "%b(20, 2)"; the formulas of these indicators hold 2 deviations."""
    return indicator(name, number) if name in ("percent_b", "band_width") and deviations == Number(2.0) else None


@meaning
def closes_in_a_row(sign: str, count: Number) -> Condition | None:
    return streak("up" if sign == ">" else "down", count)


@meaning
def changes(direction: str, count: Number) -> Condition | None:
    bars = whole(count)
    return None if bars is None else ("changes", direction, bars)


@meaning
def of_it(said: Condition) -> Condition | None:
    """Read "it gaps up", where it is what is traded."""
    return (
        ("of_it", said) if said[0] in ("gap", "moved", "changes", "streak", "candle", "bar", "new", "closes") else None
    )


@meaning
def at_extreme(which: str, window: Span) -> Condition:
    """Read "is the smallest of the last 7 days", its own bar among them."""
    return ("at_extreme", which, window)


@meaning
def summed(series: Series, window: Span) -> Series | None:
    """Read "the sum of the last two days' RSI"; of more than a few bars it would be no rule to look at."""
    bars = int(window[0])
    if not 2 <= bars <= 5 or window[1] not in ("bar", "day"):
        return None
    total: Series = ("lag", series, (float(bars - 1), "bar"))
    for bar in reversed(range(bars - 1)):
        total = ("plus", ("lag", series, (float(bar), "bar")) if bar else series, total)
    return ("group", total)


@meaning
def streak(direction: str, count: Number | None) -> Condition | None:
    bars = 2.0 if count is None else whole(count)
    return None if bars is None else ("streak", direction, bars)


@meaning
def after_streak(direction: str, before: str, count: Number) -> Condition | None:
    bars = whole(count)
    return None if bars is None or direction == before else ("after_streak", direction, before, bars)


@meaning
def after_streak_one(direction: str, before: str) -> Condition:
    return ("after_streak", direction, before, 1.0)


@meaning
def joined(first: Condition, join: str, rest: Condition) -> Condition:
    parts = rest[1] if rest[0] == "list" else ((None, rest),)
    return ("list", ((None, first), (join, parts[0][1]), *parts[1:]))


# Clauses.


@meaning
def one(item: Any) -> tuple[Any, ...]:
    return (item,)


@meaning
def more(item: Any, rest: tuple[Any, ...]) -> tuple[Any, ...]:
    return (item, *rest)


@meaning
def many(*clauses: Any) -> tuple[Any, ...]:
    return ("many", clauses)


@meaning
def limit(kind: str, size: Number, word: str) -> tuple[Any, ...] | None:
    if size.is_money or (word == "at" and not size.is_percent):
        return None
    # A stop of 7 is 7 %; one of 0.07 would be another thing.
    if not size.is_percent and (size.value < 1 or size.value != int(size.value)):
        return None
    return ("limit", kind, size.value / 100)


@meaning
def leave_at(direction: str, size: Number) -> tuple[Any, ...] | None:
    if size.sign or not size.is_percent:
        return None
    return ("limit", "take_profit" if direction == "up" else "stop_loss", size.value / 100)


@meaning
def signed(size: Number) -> tuple[Any, ...] | None:
    if not size.sign or not size.is_percent:
        return None
    return ("limit", "take_profit" if size.sign == "+" else "stop_loss", size.value / 100)
