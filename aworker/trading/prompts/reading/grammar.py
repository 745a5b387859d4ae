"""The grammar: what people say of series, conditions, limits, symbols and bars, over the kinds of the lexicon.

Series, conditions and clauses are plain tuples, first their kind; `meaning` writes rules of them. Spans of time stay as
(count, bars in a unit) until the timeframe is known.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from aworker.trading.prompts.reading.chart import Grammar, production
from aworker.trading.prompts.reading.lattice import Number

Series = tuple[Any, ...]
Condition = tuple[Any, ...]
Span = tuple[float, int]

WHOLE_MOST = 1_000


def _whole(number: Number) -> float | None:
    plain = not (number.is_percent or number.is_money or number.sign)
    return number.value if plain and number.value == int(number.value) and 1 <= number.value <= WHOLE_MOST else None


def _span(number: Number, unit: str | None) -> Span | None:
    count = _whole(number)
    return None if count is None else (count, int(unit or 1))


def _percent(number: Number | None) -> float | None:
    return number.value if number is not None and number.is_percent else None


def _indicator(kind: str) -> Any:
    def plain(*values: Any) -> Series:
        number = next((value for value in values if isinstance(value, Number)), None)
        if number is None:
            return (kind, None)
        return (kind, _whole(number)) if _whole(number) else None  # type: ignore[return-value]

    return plain


def _band(part: str, first: Number | None, second: Number | None) -> Series | None:
    window = 20.0 if first is None else _whole(first)
    deviations = 2.0 if second is None else second.value
    return None if window is None else ("band", part, window, deviations)


def _compare(left: Series | None, sign: str, right: Any) -> Condition | None:
    if isinstance(right, Number) and right.is_percent and (left is None or left[0] != "change"):
        return None
    return ("compare", left, sign, right)


def _change(direction: str, number: Number, span: Span | None, least: str | None = None) -> Condition | None:
    percent = _percent(number)
    if percent is None:
        return None
    return ("moved", direction, percent, span, least or "")


def _gap(direction: str, number: Number | None = None, least: str | None = None) -> Condition | None:
    if number is None:
        return ("gap", direction, 0.0, "")
    percent = _percent(number)
    return None if percent is None else ("gap", direction, percent, least or "")


def _pick(index: int) -> Any:
    return lambda *values: values[index]


def _joined(first: Condition, join: str, rest: Condition) -> Condition:
    kind, parts = ("list", rest[1]) if rest[0] == "list" else ("list", ((None, rest),))
    return (kind, ((None, first), (join, parts[0][1]), *parts[1:]))


def _extreme(which: str, span: Span, base: str | None = None, is_prior: bool = False) -> Series:
    return ("extreme", which, base or which, span, is_prior)


def _limit(kind: str, number: Number, word: str = "") -> Any:
    if number.is_money or (word == "at" and not number.is_percent):
        return None
    # A stop of 7 is 7 %; one of 0.07 would be another thing.
    if not number.is_percent and (number.value < 1 or number.value != int(number.value)):
        return None
    return ("limit", kind, number.value / 100)


def _signed(number: Number) -> Any:
    if not number.sign or not number.is_percent:
        return None
    return ("limit", "take_profit" if number.sign == "+" else "stop_loss", number.value / 100)


def _held(span: Span | None) -> Any:
    return None if span is None else ("hold", span)


@cache
def grammar() -> Grammar:
    """Return every symbol's productions."""
    p = production
    averages = [
        p("NUM UNIT? AVERAGE", lambda n, u, a: (w := _span(n, u)) and ("average", a, w, None, False)),
        p("AVERAGE ( NUM )", lambda a, _, n, __: (w := _span(n, None)) and ("average", a, w, None, False)),
        p(
            "AVERAGE ( series , NUM )",
            lambda a, _, s, __, n, ___: (w := _span(n, None)) and ("average", a, w, s, False),
        ),
        p(
            "AVERAGE ( series COMMA NUM )",
            lambda a, _, s, __, n, ___: (w := _span(n, None)) and ("average", a, w, s, False),
        ),
        p("AVERAGE NUM UNIT?", lambda a, n, u: (w := _span(n, u)) and ("average", a, w, None, False), 0.1),
        p("AVERAGE OF NUM UNIT?", lambda a, _, n, u: (w := _span(n, u)) and ("average", a, w, None, False)),
        p("NUM UNIT", lambda n, u: (w := _span(n, u)) and ("average", "sma", w, None, False), 1.0),
        p("NUM UNIT? AVERAGE volume", lambda n, u, a, v: (w := _span(n, u)) and ("average", a, w, v, False)),
        p("AVERAGE NUM UNIT volume", lambda a, n, u, v: (w := _span(n, u)) and ("average", a, w, v, False)),
        p("AVERAGE TIMEFRAME volume", lambda a, t, v: ("average", a, (20.0, 1), v, False) if t == "1d" else None),
        p("AVERAGE volume", lambda a, v: ("average", a, (20.0, 1), v, False)),
        p("volume AVERAGE", lambda v, a: ("average", a, (20.0, 1), v, False)),
        p("NUM UNIT? volume AVERAGE", lambda n, u, v, a: (w := _span(n, u)) and ("average", a, w, v, False)),
        p("AVERAGE", lambda a: ("average", a, None, None, False), 0.5),
    ]
    indicators = []
    for kind in ("RSI", "ATR", "ADX", "CCI", "STOCHASTIC", "STOCHASTIC_D", "ROC", "VWAP"):
        make = _indicator(kind.lower())
        indicators += [
            p(kind, make),
            p(f"{kind} ( NUM )", make),
            p(f"NUM UNIT? {kind}", make, 0.1),
            p(f"{kind} NUM", make, 0.4),
        ]
    return {
        "volume": [p("PRICE", lambda v: ("price", v) if v == "volume" else None)],
        "average": averages,
        "span": [p("NUM UNIT", _span), p("UNIT", lambda u: (1.0, int(u)) if u != "1" else None, 0.4)],
        "basic": [
            p("PRICE", lambda v: ("price", v)),
            p("average", _pick(0)),
            p("ITS average", lambda _, a: (*a[:4], True)),
            *indicators,
            p("MACD", lambda _: ("macd", 12, 26, 9)),
            p("MACD ( NUM COMMA NUM COMMA NUM )", lambda m, a, f, b, s, c, g, d: ("macd", f.value, s.value, g.value)),
            p("SIGNAL", lambda _: ("signal", 12, 26, 9)),
            p("HISTOGRAM", lambda _: ("histogram", 12, 26, 9)),
            p("BAND", lambda b: _band(b, None, None)),
            p("BAND ( NUM COMMA NUM )", lambda b, _, n, __, d, ___: _band(b, n, d)),
            p("NUM UNIT? BAND", lambda n, _, b: _band(b, n, None)),
            p("PERCENT_B", lambda _: ("percent_b",)),
            p("OBV", lambda _: ("obv",)),
            p("YESTERDAY PRICE", lambda _, v: ("lag", ("price", v), 1)),
            p("YESTERDAY extreme_price", lambda _, v: ("lag", ("price", v), 1)),
            p("TODAY? extreme_price", lambda _, v: ("price", v), 0.6),
            p("IT", lambda _: ("it",), 0.3),
            p("TICKER", lambda t: ("symbol", t, ("price", "close")), 0.6),
            p("TICKER basic", lambda t, s: ("symbol", t, s), 0.2),
            p(
                "REF ( series COMMA NUM )",
                lambda _, __, s, ___, n, ____: (
                    ("lag", s, int(n.value)) if n.sign in ("-", "") and n.value >= 1 else None
                ),
            ),
            p(
                "AVERAGE ( series COMMA NUM COMMA word )",
                lambda a, _, s, __, n, ___, f, ____: (w := _span(n, None)) and f and ("average", f, w, s, False),
            ),
            p("NUM UNIT EXTREME", lambda n, u, e: (w := _span(n, u)) and _extreme(e, w)),
            p("EXTREME OF? NUM UNIT", lambda e, _, n, u: (w := _span(n, u)) and _extreme(e, w)),
            p(
                "EXTREME SPAN? NUM UNIT YESTERDAY?",
                lambda e, s, n, u, y: (w := _span(n, u)) and _extreme(e, w, None, True),
                0.1,
            ),
            p("EXTREME ( PRICE COMMA NUM )", lambda e, _, v, __, n, ___: (w := _span(n, None)) and _extreme(e, w, v)),
            p("DONCHIAN_MIDDLE NUM UNIT DONCHIAN", lambda _, n, u, __: (w := _span(n, u)) and ("middle", w)),
            p("DONCHIAN_MIDDLE", lambda _: ("middle", None), 0.5),
        ],
        "word": [p("TICKER", lambda t: {"S": "sma", "E": "ema", "W": "wma"}.get(t))],
        "extreme_price": [p("EXTREME", lambda e: e if " " not in e else None)],
        "series": [
            p("basic", _pick(0)),
            p("basic OF TICKER", lambda s, _, t: ("symbol", t, s), 0.2),
            p("TIMEFRAME series", lambda t, s: ("timeframe", t, s), 0.3),
            p("basic PLUS scaled", lambda a, _, b: ("plus", a, b)),
            p("basic MINUS scaled", lambda a, _, b: ("minus", a, b)),
            p("basic + scaled", lambda a, _, b: ("plus", a, b)),
            p("basic - scaled", lambda a, _, b: ("minus", a, b)),
            p("( basic - basic )", lambda _, a, __, b, ___: ("minus", a, b)),
            p("scaled", _pick(0), 0.1),
        ],
        "scaled": [
            p(
                "NUM TIMES? basic",
                lambda n, t, s: (
                    None if n.is_percent or n.is_money or (not t and s[0] != "atr") else ("times", n.value, s)
                ),
            ),
            p("NUM * basic", lambda n, _, s: None if n.is_percent or n.is_money else ("times", n.value, s)),
            p("DOUBLE basic", lambda n, s: ("times", float(n), s)),
            p(
                "NUM OF? basic",
                lambda n, _, s: (
                    None
                    if not n.is_percent or n.sign or s[0] not in ("average", "price")
                    else ("times", n.value / 100, s)
                ),
                0.5,
            ),
            p("basic", _pick(0), 0.2),
        ],
        "value": [
            p("series", _pick(0)),
            p("NUM", lambda n: n, 0.1),
            p("YESTERDAY", lambda _: ("before",), 0.3),
            p("NUM UNIT AGO", lambda n, u, _: (w := _span(n, u)) and ("ago", w)),
            p("PRICE NUM UNIT AGO", lambda v, n, u, _: (w := _span(n, u)) and ("lag_span", ("price", v), w)),
        ],
        "least": [p("REL", lambda s: s if s in (">", ">=") else None)],
        "sign": [p("REL", _pick(0)), p("NOT REL", lambda _, s: {"<": ">=", ">": "<=", "<=": ">", ">=": "<"}[s])],
        # What may be said of a series; without one it is said of the last.
        "said": [
            p("sign value", lambda s, v: _compare(None, s, v)),
            p("sign value postfix", lambda s, v, _: _compare(None, s + "=" if len(s) == 1 else s, v)),
            p(
                "least? NUM REL series",
                lambda _, n, s, v: ((x := _percent(n)) and not n.sign and ("distance", None, x, s, v)) or None,
            ),
            p(
                "least? NUM more REL series",
                lambda _, n, __, s, v: ((x := _percent(n)) and ("distance", None, x, s, v)) or None,
            ),
            p(
                "CHANGE least? NUM more? REL series",
                lambda d, __, n, ___, s, v: (
                    (s == {"up": ">", "down": "<"}[d] and (x := _percent(n)) and ("distance", None, x, s, v)) or None
                ),
            ),
            p(
                "CHANGE least? NUM more? OF series",
                lambda d, __, n, ___, ____, v: (
                    (
                        (x := _percent(n))
                        and v[0] in ("extreme", "average")
                        and ("distance", None, x, {"up": ">", "down": "<"}[d], v)
                    )
                    or None
                ),
            ),
            p("CLOSES value", lambda s, v: ("closes", None, s, v)),
            p("CLOSES averages", lambda s, many: ("all", tuple(("closes", None, s, each) for each in many))),
            p("CLOSES", lambda s: ("closes", None, s, ("it",)), 0.9),
            p("NOT CLOSES value", lambda _, s, v: ("closes", None, {"<": ">=", ">": "<="}[s], v)),
            p("CLOSES_CROSS value?", lambda d, v: ("closes_cross", None, d, v)),
            p(
                "CLOSES value WAS sign IT? YESTERDAY?",
                lambda s, v, _, o, __, ___: (
                    ("closes_cross", None, "up" if s == ">" else "down", v) if s != o[0] else None
                ),
            ),
            p("MOVE value", lambda m, v: _compare(None, {"up": ">", "down": "<"}[m], v)),
            p("MOVE value postfix", lambda m, v, _: _compare(None, {"up": ">=", "down": "<="}[m], v)),
            p("NUM postfix", lambda n, s: _compare(None, s, n), 0.3),
            p("sign", lambda s: ("compare", None, s, ("it",)), 0.9),
            p("CROSSES value DIRECTION", lambda _, v, d: ("cross", None, d, v)),
            p("CROSSES DIRECTION value", lambda _, d, v: ("cross", None, d, v)),
            p("TOUCH value", lambda _, v: ("touched", None, v)),
            p(
                "sign value WAS sign IT? YESTERDAY?",
                lambda s, v, _, o, __, ___: (
                    ("cross", None, "up" if s[0] == ">" else "down", v)
                    if {">": "<", "<": ">"}.get(s[0]) == o[0]
                    else None
                ),
            ),
            p(
                "WAS sign value YESTERDAY AND sign value TODAY?",
                lambda _, a, v, __, ___, b, w, ____: (
                    ("cross", None, "up" if b[0] == ">" else "down", w) if v == w and a[0] != b[0] else None
                ),
            ),
            p(
                "sign value YESTERDAY AND sign value TODAY?",
                lambda a, v, __, ___, b, w, ____: (
                    ("cross", None, "up" if b[0] == ">" else "down", w) if v == w and a[0] != b[0] else None
                ),
            ),
            p("CROSS value", lambda d, v: ("cross", None, d, v)),
            p("CROSS", lambda d: ("cross", None, d, None), 0.4),
            p("CROSS_EVENT", lambda d: ("signal_cross", None, d)),
            p("STATE", lambda s: ("state", None, s)),
            p("BETWEEN value AND value", lambda _, a, __, b: ("between", None, a, b)),
            p("BETWEEN value - value", lambda _, a, __, b: ("between", None, a, b)),
            p("WITHIN NUM OF series", lambda _, n, __, s: (x := _percent(n)) and ("near", None, x, s)),
            p("sign averages", lambda s, many: ("all", tuple(("compare", None, s, each) for each in many))),
            p(
                "CROSS value WAS sign",
                lambda d, v, _, s: ("cross", None, d, v) if {"up": "<", "down": ">"}[d] == s[0] else None,
            ),
            p("NEW NUM UNIT EXTREME", lambda _, n, u, e: (w := _span(n, u)) and ("new", None, e, w)),
            p("NEW EXTREME SPAN? NUM UNIT", lambda _, e, s, n, u: (w := _span(n, u)) and ("new", None, e, w)),
            p("NEW EXTREME OF? NUM UNIT", lambda _, e, s, n, u: (w := _span(n, u)) and ("new", None, e, w)),
        ],
        "postfix": [p("REL", lambda s: s if s in ("<=", ">=") else None)],
        "more": [p("REL", lambda s: s if s == ">=" else None)],
        "averages": [
            p("NUM COMMA NUM AND? NUM UNIT? AVERAGE", lambda a, _, b, __, c, u, f: _many((a, b, c), u, f)),
            p("NUM COMMA NUM COMMA AND? NUM UNIT? AVERAGE", lambda a, _, b, __, ___, c, u, f: _many((a, b, c), u, f)),
            p("NUM AND NUM UNIT? AVERAGE", lambda a, _, b, u, f: _many((a, b), u, f)),
            p(
                "NUM UNIT AND NUM UNIT AVERAGE?",
                lambda a, u, _, b, v, f: _many((a, b), v, f or "sma") if u == v else None,
            ),
        ],
        "whole": [
            p("series said", lambda s, c: ("of", s, c)),
            p("series said AND? said", lambda s, a, j, b: ("of", s, ("all", (a, b)))),
            p("said", _pick(0), 0.6),
            p(
                "NUM sign NUM",
                lambda a, s, b: (v := _span(a, None)) and (w := _span(b, None)) and ("pair", v, s, w),
                1.2,
            ),
            p(
                "NUM CROSS NUM",
                lambda a, d, b: (v := _span(a, None)) and (w := _span(b, None)) and ("pair", v, d, w),
                1.2,
            ),
            p("SIGNAL_CROSS series", lambda d, s: None),
            p("CROSS_EVENT SPAN? series", lambda d, _, s: ("of", s, ("signal_cross", None, d))),
            p("MACD_EVENT", lambda d: ("of", ("macd", 12, 26, 9), ("signal_cross", None, d))),
            p("MACD_EVENT said", lambda d, c: ("all", (("of", ("macd", 12, 26, 9), ("signal_cross", None, d)), c))),
            p("MACD CROSS_EVENT", lambda m, d: ("of", ("macd", 12, 26, 9), ("signal_cross", None, d))),
            p("CROSS ( value COMMA value )", lambda d, _, a, __, b, ___: ("function_cross", d, a, b)),
            p("GOLDEN pair?", lambda _, pair: ("golden", "up", pair)),
            p("DEATH pair?", lambda _, pair: ("golden", "down", pair)),
            p("OPPOSITE", lambda _: ("opposite",)),
            p("NUM UNIT EXTREME", lambda n, u, e: (w := _span(n, u)) and ("new", None, e, w), 0.4),
            p("NUM UNIT BREAKOUT", lambda n, u, e: (w := _span(n, u)) and ("new", None, e, w)),
            p(
                "BREAKOUT OF? NUM UNIT EXTREME?",
                lambda e, _, n, u, x: (w := _span(n, u)) and ("new", None, e, w) if x in (None, e) else None,
            ),
            p("BAND TOUCH", lambda b, _: ("touch", ("band", b, 20.0, 2.0))),
            p("BAND", lambda b: ("touch", ("band", b, 20.0, 2.0)), 0.8),
            p("NUM? CANDLE STREAK", lambda n, c, _: (w := 2.0 if n is None else _whole(n)) and ("streak", c, w, 0)),
            p("NUM STREAK CANDLE", lambda n, _, c: (w := _whole(n)) and ("streak", c, w, 0)),
            p("NUM CANDLE", lambda n, c: (w := _whole(n)) and ("streak", c, w, 0), 0.3),
            p(
                "CANDLE NUM UNIT? STREAK",
                lambda c, n, u, _: u in (None, "1") and (w := _whole(n)) and ("streak", c, w, 0),
            ),
            p(
                "PRICE CANDLE NUM UNIT? STREAK",
                lambda s, c, n, u, _: u in (None, "1") and (w := _whole(n)) and ("streak", c, w, 0),
            ),
            p("FIRST? TODAY? CANDLE", lambda f, t, c: ("candle", c, 0), 0.2),
            p("TODAY CANDLE", lambda f, c: ("candle", c, 0)),
            p("YESTERDAY WAS? CANDLE", lambda y, w, c: ("candle", c, 1)),
            p("CANDLE IF NUM CANDLE STREAK", lambda a, _, n, b, __: (w := _whole(n)) and ("after_streak", a, b, w)),
            p("INSIDE", lambda _: ("inside", 0)),
            p("OUTSIDE", lambda _: ("outside", 0)),
            p("YESTERDAY WAS? INSIDE", lambda y, _, i: ("inside", 1)),
            p("NUM TIMES? average", lambda n, _, a: _many_times(n, a)),
            p("DOUBLE average", lambda n, a: _many_times(Number(float(n)), a)),
            p("YESTERDAY WAS? OUTSIDE CANDLE?", lambda y, _, o, c: ("outside_before", c)),
            p("GAP", lambda d: _gap(d)),
            p("GAP least? NUM more?", lambda d, s, n, m: _gap(d, n, s or m)),
            p("CHANGE least? NUM more?", lambda d, s, n, m: _change(d, n, None, s or m)),
            p("CHANGE least? NUM more? SPAN span", lambda d, s, n, m, _, w: _change(d, n, w, s or m)),
            p(
                "CHANGE least? NUM more? SPAN YESTERDAY PRICE",
                lambda d, s, n, a, b, c, v: _change(d, n, (1.0, 1)) if v == "close" else None,
            ),
            p("CHANGE least? NUM more? TODAY", lambda d, s, n, m, _: _change(d, n, (1.0, 1), s or m)),
            p("PRICE CHANGE least? NUM more?", lambda v, d, s, n, m: _change(d, n, None, s or m)),
            p("PRICE CHANGE least? NUM more? SPAN span", lambda v, d, s, n, m, _, w: _change(d, n, w, s or m)),
            p("NUM CHANGE SPAN span", lambda n, d, _, w: _change(d, n, w)),
            p("WITHIN NUM OF series", lambda _, n, __, s: (x := _percent(n)) and ("near", ("price", "close"), x, s)),
            p(
                "series series",
                lambda a, b: (
                    ("of", a, ("compare", None, ">", b)) if a == ("price", "volume") and b[0] == "times" else None
                ),
            ),
        ],
        "pair": [
            p("NUM UNIT? AVERAGE? / NUM UNIT? AVERAGE?", lambda a, u, f, s, b, v, g: _pair(a, b, f or g)),
            p("NUM AVERAGE? AND? NUM AVERAGE?", lambda a, f, _, b, g: _pair(a, b, f or g)),
        ],
        "condition": [
            p("whole", _pick(0)),
            p("NOT whole", lambda _, c: ("not", c), 0.2),
            p("EITHER whole OR whole", lambda _, a, __, b: ("any", (a, b))),
            p("EITHER IF? whole OR IF? whole", lambda _, a, b, c, d, e: ("any", (b, e))),
            p("( conditions )", lambda _, c, __: ("group", c)),
        ],
        "conditions": [
            p("condition", _pick(0)),
            p("condition join conditions", _joined),
        ],
        "join": [
            p("AND", lambda _: "and"),
            p("COMMA AND", lambda _, __: "and", 0.1),
            p("COMMA", lambda _: "and", 0.9),
            p("OR IF?", lambda _, __: "or"),
            p("UNLESS", lambda _: "unless"),
            p("AND UNLESS", lambda _, __: "unless"),
            p("SEP AND", lambda _, __: "and", 0.3),
            p("SEP", lambda s: "and" if s == "\n" else None, 0.9),
            p("-", lambda _: "and", 0.6),
        ],
        "limit": [
            p("NUM TRAIL", lambda n, _: _limit("trailing_stop", n)),
            p("TRAIL NUM FROM_PEAK?", lambda w, n, _: _limit("trailing_stop", n, w)),
            p("NUM STOP BELOW_ENTRY?", lambda n, _, __: _limit("stop_loss", n)),
            p("STOP NUM BELOW_ENTRY?", lambda w, n, _: _limit("stop_loss", n, w)),
            p("STOP NUM FROM_PEAK", lambda _, n, __: _limit("trailing_stop", n)),
            p("NUM STOP FROM_PEAK", lambda n, _, __: _limit("trailing_stop", n)),
            p("NUM TARGET ABOVE_ENTRY?", lambda n, _, __: _limit("take_profit", n)),
            p("TARGET NUM ABOVE_ENTRY?", lambda w, n, _: _limit("take_profit", n, w)),
            p(
                "STOP NUM ABOVE_ENTRY",
                lambda _, n, __: ("odd", "a stop above the entry: is it a target, or a stop below it?"),
            ),
            p(
                "TARGET NUM BELOW_ENTRY",
                lambda _, n, __: ("odd", "a target below the entry: is it a stop, or a target above it?"),
            ),
            p(
                "TARGET NUM STOP",
                lambda _, n, __: ("odd", "a profit and a loss at once: is it a target, or a stop?"),
                2.0,
            ),
            p(
                "STOP NUM TARGET",
                lambda _, n, __: ("odd", "a loss and a profit at once: is it a stop, or a target?"),
                2.0,
            ),
            p(
                "STOP NUM OF series",
                lambda _, n, __, s: ("odd", "a stop that is not measured from the entry or the highest price since"),
            ),
            p("STOP : NUM", lambda _, __, n: _limit("stop_loss", n)),
            p("TARGET : NUM", lambda _, __, n: _limit("take_profit", n)),
            p("TRAIL : NUM", lambda _, __, n: _limit("trailing_stop", n)),
            p("HOLD AT_MOST? span AT_MOST?", lambda _, a, w, b: _held(w)),
            p("AT_MOST HOLD span", lambda _, __, w: _held(w)),
            p("AT_MOST span AT_MOST?", lambda _, w, __: _held(w)),
        ],
        # How a position is left, besides a condition: only behind a word for selling.
        "leaving": [
            p(
                "CHANGE NUM more?",
                lambda d, n, _: (
                    None
                    if n.sign or not n.is_percent
                    else ("limit", {"up": "take_profit", "down": "stop_loss"}[d], n.value / 100)
                ),
            ),
            p(
                "IF IT? CHANGE NUM more?",
                lambda _, __, d, n, ___: (
                    None
                    if n.sign or not n.is_percent
                    else ("limit", {"up": "take_profit", "down": "stop_loss"}[d], n.value / 100)
                ),
            ),
            p("FIRST UNIT", lambda _, u: _held((1.0, 1)) if u == "1" else None),
            p("limit", _pick(0)),
            p("NUM", _signed),
            p("span AT_MOST?", lambda w, _: _held(w), 0.2),
            p("IF span AT_MOST?", lambda _, w, __: _held(w)),
        ],
        "leavings": [
            p("leaving WHICHEVER?", lambda a, _: (a,)),
            p("leaving either leavings", lambda a, _, rest: (a, *rest)),
            p("leaving AND leavings", lambda a, _, rest: (a, *rest), 0.2),
        ],
        "either": [p("OR IF?", lambda *_: "or"), p("COMMA OR?", lambda *_: "or")],
        "left": [
            p("IF? conditions", lambda _, c: ("exit", c, ())),
            p("IF? leavings", lambda _, many: ("exit", None, many), 0.1),
            p("IF? conditions either IF? leavings", lambda _, c, __, ___, many: ("exit", c, many), 0.1),
            p("IF? leavings either IF? conditions", lambda _, many, __, ___, c: ("exit", c, many), 0.1),
            p("IF NUM", lambda _, n: ("exit", ("level", n), ()), 0.6),
            p("IF RSI NUM", lambda _, r, n: ("exit", ("of", ("rsi", None), ("level", n)), ()), 0.2),
            p("RSI NUM", lambda r, n: ("exit", ("of", ("rsi", None), ("level", n)), ()), 0.5),
            p("IF average", lambda _, a: ("exit", ("reaches", a), ()), 0.5),
            p("IF BAND", lambda _, b: ("exit", ("touch", ("band", b, 20.0, 2.0)), ()), 0.3),
        ],
        "clause": [
            p("BUY IF? conditions", lambda _, __, c: ("entry", c)),
            p("BUY TIMEFRAME IF? conditions", lambda _, t, __, c: ("many", (("timeframe", t), ("entry", c)))),
            p("BUY PRICE IF conditions", lambda _, v, __, c: ("entry", c) if v == "close" else None, 0.2),
            p("pair", lambda pair: ("averages", pair), 0.5),
            p("IF? conditions THEN? COMMA? BUY", lambda _, c, __, ___, ____: ("entry", c), 0.1),
            p("ENTRY_LABEL conditions", lambda _, c: ("entry", c)),
            p("SCAN IF? conditions", lambda _, __, c: ("entry", c)),
            p("SCAN PRICE IF? conditions", lambda _, v, __, c: ("entry", c) if v == "close" else None, 0.2),
            p("BUY UNLESS conditions", lambda _, __, c: ("filter", ("not", c))),
            p("conditions", lambda c: ("bare", c), 2.0),
            p("IF conditions", lambda _, c: ("bare", c), 2.0),
            p("SELL left", lambda _, x: x),
            p("SELL THEN left", lambda _, __, x: x, 0.1),
            p("EXIT_LABEL left", lambda _, x: x),
            p("IF? conditions THEN? COMMA? SELL", lambda _, c, __, ___, ____: ("exit", c, ()), 0.1),
            p("ONLY IF? conditions", lambda _, __, c: ("filter", c, "only")),
            p("NOT conditions", lambda _, c: ("filter", ("not", c)), 1.5),
            p("DONT IF? conditions", lambda _, __, c: ("filter", ("not", c))),
            p("IF conditions COMMA? DONT", lambda _, c, __, ___: ("filter", ("not", c))),
            p("UNLESS conditions", lambda _, c: ("filter", ("not", c)), 0.5),
            p("OTHERWISE", lambda _: ("nothing",)),
            p("limit", _pick(0), 0.2),
            p("limits", _pick(0), 0.2),
            p("tickers", lambda many: ("symbols", many), 0.5),
            p("tickers :", lambda many, _: ("symbols", many)),
            p("ONLY_SYMBOLS tickers", lambda _, many: ("symbols", many)),
            p("SYMBOL_LABEL tickers", lambda _, many: ("symbols", many)),
            p("BUY tickers", lambda _, many: ("bought", many), 0.2),
            p("BUY tickers IF conditions", lambda _, many, __, c: ("bought", many, c)),
            p("IF tickers conditions THEN? COMMA? BUY", lambda _, many, c, __, ___, ____: ("bought", many, c)),
            p("SCAN tickers", lambda _, many: ("symbols", many), 0.2),
            p("TIMEFRAME", lambda t: ("timeframe", t), 0.2),
            p("TIMEFRAME_LABEL TIMEFRAME", lambda _, t: ("timeframe", t)),
            p("WHICHEVER", lambda _: ("nothing",)),
            p("DONCHIAN", lambda _: ("nothing",), 0.5),
        ],
        "limits": [p("leaving_signed OR leaving_signed", lambda a, _, b: ("many", (a, b)))],
        "leaving_signed": [p("NUM", _signed)],
        "tickers": [
            p("TICKER", lambda t: (t,)),
            p("TICKER tickers", lambda t, rest: (t, *rest), 0.1),
            p("TICKER COMMA AND? tickers", lambda t, _, __, rest: (t, *rest)),
            p("TICKER AND tickers", lambda t, _, rest: (t, *rest)),
            p("TICKER OR tickers", lambda t, _, rest: (t, *rest)),
            p("TICKER + tickers", lambda t, _, rest: (t, *rest)),
            p("TICKER PLUS tickers", lambda t, _, rest: (t, *rest)),
        ],
    }


def _many(numbers: tuple[Number, ...], unit: str | None, function: str) -> tuple[Series, ...] | None:
    spans = [_span(number, unit) for number in numbers]
    return None if None in spans else tuple(("average", function, span, None, False) for span in spans)


def _pair(first: Number, second: Number, function: str | None) -> tuple[float, float, str] | None:
    fast, slow = _whole(first), _whole(second)
    return None if fast is None or slow is None or fast >= slow else (fast, slow, function or "sma")


def _many_times(number: Number, average: Series) -> Condition | None:
    """Read "on twice the average volume" as a condition of volume."""
    if average[3] != ("price", "volume") or number.is_percent or number.is_money or number.sign:
        return None
    return ("of", ("price", "volume"), ("compare", None, ">", ("times", number.value, average)))
