"""Conditions as rules: comparisons, crossings, moves, bars, and what is joined of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from aworker.trading.prompts.lattice import Number
from aworker.trading.prompts.phrases import BEYOND, SIGN, Condition, Series, Span, whole
from aworker.trading.prompts.series import CLOSE, VOLUME, NotRead, Scope, family, indicators, is_series, plain

_LINES = ("stochastic_k", "stochastic_d")
_OPPOSITE = {"up": "down", "down": "up"}
_Write = TypeVar("_Write", bound=Callable[..., str])
_WRITERS: dict[str, Callable[..., str]] = {}


def _writes(*kinds: str) -> Callable[[_Write], _Write]:
    def register(write: _Write) -> _Write:
        _WRITERS.update(dict.fromkeys(kinds, write))
        return write

    return register


def written(scope: Scope, condition: Condition) -> str:
    """Write a condition as a rule. Raises NotRead where it leaves open what would be traded."""
    return _WRITERS[condition[0]](scope, *condition[1:])


# Joined conditions.


@_writes("list")
def _listed(scope: Scope, parts: tuple[tuple[str | None, Condition], ...]) -> str:
    for word, sign in (("or else", "or"), ("and both", "and")):
        cut = next((place for place, (join, _) in enumerate(parts) if join == word), None)
        if cut is not None:
            sides = [_listed(scope, parts[:cut]), _listed(scope, ((None, parts[cut][1]), *parts[cut + 1 :]))]
            return f"({' or '.join(sides)})" if sign == "or" else " and ".join(sides)
    ways = {(each[0], each[1]) for _, each in parts if each[0] in ("streak", "candle")}
    if any(("streak", way) in ways and ("candle", _OPPOSITE[way]) in ways for way in ("up", "down")):
        raise NotRead("bars in a row, and one of the other kind: say 'after 3 red candles, a green one'")
    joins = {join for join, _ in parts if join is not None}
    texts = [written(scope, each) for _, each in parts]
    if "comma" in joins and joins & {"comma", "or"} == joins and scope.is_exit and len(parts) > 1:
        choices = tuple(join.join(texts) for join in (" and ", " or "))
        raise NotRead(
            "a list of commas to sell by may mean all of it or any of it; write 'and' or 'or'", choices=choices
        )
    if joins == {"comma", "or"} or ("or" in joins and _is_negated(parts[0][1])) or _is_open(parts):
        raise NotRead("it reads two ways: say what belongs together with 'either ... or ...' or in brackets")
    if "or" in joins and joins != {"or"}:
        both = [f"({' and '.join(texts[:-1])}) or {texts[-1]}", f"{texts[0]} and ({' or '.join(texts[1:])})"]
        raise NotRead(
            "'and' and 'or' stand side by side; say which belong together with 'either ... or ...'",
            choices=tuple(f"entry: {each}" for each in both) if len(texts) == 3 else (),
        )
    if joins == {"or"}:
        return "(" + " or ".join(texts) + ")"
    check_possible(texts if "unless" not in joins else [])
    return " and ".join(_not(text) if join == "unless" else text for (join, _), text in zip(parts, texts, strict=True))


@_writes("all")
def _all(scope: Scope, many: tuple[Condition, ...]) -> str:
    parts = [written(scope, each) for each in many]
    check_possible(parts)
    return " and ".join(parts)


@_writes("any", "one_of")
def _any(scope: Scope, many: tuple[Condition, ...]) -> str:
    if _is_negated(many[0]):
        raise NotRead("'not' before an 'or' reads two ways; say both in full")
    return f"({' or '.join(written(scope, each) for each in many)})"


@_writes("group")
def _group(scope: Scope, inner: Condition) -> str:
    text = written(scope, inner)
    return f"({text})" if " or " in text and not text.startswith("(") else text


@_writes("opposite_of")
def _opposite_of(scope: Scope, inner: Condition) -> str:
    """Write what is not so."""
    if "new" in (inner[0], inner[2][0] if inner[0] == "of" else ""):
        raise NotRead("since when there was no new high or low is not said")
    if inner[0] in ("any", "one_of") or (inner[0] == "of" and inner[2][0] in ("any", "one_of")):
        raise NotRead("'not' before an 'or' reads two ways; say both in full")
    return _not(written(scope, inner))


@_writes("of")
def _of(scope: Scope, series: Series, said: Condition) -> str:
    if series == ("it",) and scope.is_named:
        series = scope.it()
    if series[0] == "symbol":
        scope.spoken.add(series[1])
    if series != ("it",):
        scope.subject = series
        scope.is_named = True
        scope.subjects.add(series)
    before, scope.spoken_of = scope.spoken_of, series[2] if series[0] == "symbol" else scope.it()
    inner = said[1] if said[0] in ("held", "shifted") else said
    scope.closes_itself = inner[0] == "closes"
    try:
        return written(scope, said)
    finally:
        scope.spoken_of = before


def _is_negated(condition: Condition) -> bool:
    said = condition[2] if condition[0] == "of" else condition
    return bool(said[0] == "opposite_of")


def _is_open(parts: tuple[tuple[str | None, Condition], ...]) -> bool:
    """Say whether an "or" about one series stands beside an "and"."""
    return any(each[0] == "one_of" or (each[0] == "of" and each[2][0] == "one_of") for _, each in parts)


@_writes("about_symbol")
def _about_symbol(scope: Scope, ticker: str, said: Condition) -> str:
    scope.spoken.add(ticker)
    return written(scope, said)


def opposite_rule(text: str) -> str:
    """Return the rule that holds where another does not."""
    return _not(text)


def _not(text: str) -> str:
    found = re.fullmatch(r"([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?[^()]*) (<=|>=|<|>) ([-\w. ]+)", text)
    if found is not None and " and " not in text and " or " not in text:
        return f"{found[1]} {BEYOND[found[2]]} {found[3]}"
    return f"not ({text})"


def check_possible(texts: list[str]) -> None:
    """Raise NotRead where conditions that must hold together never do."""
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    sides: dict[tuple[str, str], str] = {}
    for text in (part for each in texts for part in each.split(" and ") if " or " not in each and "not " not in each):
        crossing = re.fullmatch(r"crosses_(above|below)\((\w+), (.*)\)", text.strip())
        trend = re.fullmatch(r"(rising|falling)\((.*), \d+\)", text.strip())
        if trend is not None and sides.setdefault((trend[2], "trend"), trend[1]) != trend[1]:
            raise NotRead(f"{trend[2]} does not rise and fall on one bar; say 'after'", is_trap=True)
        event = re.fullmatch(r"crosses_(above|below)\((.*)\)", text.strip())
        if event is not None and sides.setdefault((event[2], ""), event[1]) != event[1]:
            raise NotRead("nothing crosses above and below the same on one bar", is_trap=True)
        if crossing is not None:
            text = f"{crossing[2]} {'>' if crossing[1] == 'above' else '<'} {crossing[3]}"
        two = re.fullmatch(r"(.*) ([<>])=? (.*[a-z].*)", text.strip())
        if two is not None and sides.setdefault((two[1], two[3]), two[2]) != two[2]:
            raise NotRead(f"{two[1]} is never above {two[3]} and below it on one bar", is_trap=True)
    for text in texts:
        found = re.fullmatch(r"(.*) ([<>])=? (-?[\d.e+]+)", text)
        if found is None:
            continue
        name, value = found[1], float(found[3])
        if found[2] == ">":
            lows[name] = max(lows.get(name, value), value)
        else:
            highs[name] = min(highs.get(name, value), value)
    for name, low in lows.items():
        if name in highs and low >= highs[name]:
            raise NotRead(f"{name} is never above {plain(low)} and below {highs[name]:g} on one bar", is_trap=True)


# The same condition on other bars.


@_writes("shifted")
def _shifted(scope: Scope, inner: Condition, span: Span) -> str:
    return _at(scope, inner, scope.bars(span))


@_writes("shifted_more")
def _shifted_more(scope: Scope, inner: Condition) -> str:
    """Write what was so on the day before the earliest day that was spoken of."""
    return _at(scope, inner, scope.reached + 1)


@_writes("held")
def _held(scope: Scope, inner: Condition, span: Span) -> str:
    bars = scope.bars(span)
    if inner[0] in ("cross", "closes_cross", "new") or bars > 20:
        raise NotRead("only what is so on each of a few bars can be said to last")
    return " and ".join(_at(scope, inner, bar) for bar in range(bars))


@_writes("lately")
def _lately(scope: Scope, inner: Condition, span: Span) -> str:
    bars = scope.bars(span)
    if bars > 20:
        raise NotRead("what happened within the last bars can be said for 20 of them")
    return "(" + " or ".join(_at(scope, inner, bar) for bar in range(bars)) + ")"


def _at(scope: Scope, inner: Condition, bar: int) -> str:
    before, scope.shift = scope.shift, scope.shift + bar
    scope.reached = max(scope.reached, scope.shift)
    try:
        return written(scope, inner)
    finally:
        scope.shift = before


# Comparisons.


@_writes("compare")
def _compare(scope: Scope, left: Series | None, sign: str, right: Any) -> str:
    if left is None and scope.spoken_of is None and is_series(right) and family(right) == "volume":
        left = VOLUME  # "on above average volume"
    if (
        left is None
        and scope.spoken_of == VOLUME
        and isinstance(scope.target_number, Number)
        and _is_plain(right)
        and CLOSE in scope.subjects
    ):
        raise NotRead("the average of what is not said: of the volume, or of the close")
    left = scope.left(left, right)
    right = _as_average(scope, left, scope.right(left, right))
    if left[0] == "average" and left[2] is None and left[3] is None and right != VOLUME:
        raise NotRead("the average of how many days is not said")
    scope.target_number = right
    if isinstance(right, Number):
        scope.target = None
        return f"{scope.value(left)} {sign} {plain(_level_of(scope, left, right))}"
    _check_kinds(scope, left, right)
    if right[0] == "times" and family(left) == "price" == family(right[2]) and not 0.3 < right[1] < 3:
        raise NotRead(f"a price that is {plain(right[1])} times {scope.text(right[2])}; say how far above or below it")
    scaled = right[2] if right[0] == "times" else right
    if scope.text(left, right) == scope.text(scaled, left):
        raise NotRead(f"{scope.text(left, right)} is compared with itself")
    scope.target, scope.subject = right, left
    if left == CLOSE and not scope.is_exit:
        scope.sides[scope.text(right, left)] = ">=" if sign[0] == "<" else "<="
    if scope.crossing is None:
        scope.compared.append((left, sign, right))
    far = "high" if sign[0] == ">" else "low"
    is_lagged = right[0] == "extreme" and isinstance(right[2], tuple) and right[2][0] == "lag"
    is_beyond = right[0] == "extreme" and not right[4] and not is_lagged and str(right[1]).startswith(far)
    if is_beyond and (sign in (">", "<") or left == CLOSE):
        # Nothing closes above a highest high that holds its own bar.
        right = (*right[:4], True)
    return f"{scope.value(left, right)} {sign} {scope.value(right, left)}"


def _is_plain(series: Any) -> bool:
    """Say whether this is an average that does not say of what."""
    return is_series(series) and series[0] == "average" and series[3] is None and not series[4]


def _level_of(scope: Scope, left: Series, number: Number) -> float:
    """Return a number that a series is compared with. Raises NotRead where it cannot be one."""
    if scope.subject is None and not number.is_money and not scope.is_named:
        raise NotRead(f"what is compared with {plain(number.value)} is not said")
    value = -number.value if number.sign == "-" else number.value
    kind = family(left)
    if number.is_percent and left[0] == "quotient":
        value /= 100
    elif number.is_percent and kind not in ("change", "0 to 100"):
        raise NotRead(f"{plain(value)}% of what is not said")
    if number.is_money and kind not in ("price", "any"):
        raise NotRead(f"{scope.text(left)} is not measured in money")
    if kind == "price" and left[0] == "price" and value < 0:
        raise NotRead("a price below zero", is_trap=True)
    if kind == "0 to 100" and not 0 <= value <= 100:
        raise NotRead(f"{scope.text(left)} runs from 0 to 100, was compared with {plain(value)}", is_trap=True)
    if value >= 1e12:
        raise NotRead("a number too large")
    return value


def _as_average(scope: Scope, left: Series, right: Any) -> Any:
    if isinstance(right, Number) and right.is_named and right.value not in scope.averages and left[0] == "price":
        raise NotRead(f"the {plain(right.value)} of what is not said")
    is_known = isinstance(right, Number) and right.value in scope.averages and whole(right) is not None
    if is_known and left[0] == "price" and scope.function:
        if not right.is_named:
            bars = plain(right.value)
            raise NotRead(f"{bars} may be a price, or the average of so many bars; write the {bars} bar average")
        scope.assume(f"{plain(right.value)}: the {plain(right.value)} bar average that was named before")
        return ("average", scope.function, (right.value, "bar"), None, False)
    if left[0] == "average" and left[2] is not None and isinstance(right, Number) and left[3] is None:
        if (
            right.is_money
            or right.is_percent
            or right.sign
            or not right.value.is_integer()
            or not 1 <= right.value <= 1000
        ):
            return right
        scope.assume(f"{plain(right.value)}: the {plain(right.value)} bar average, as what is compared with it")
        return ("average", left[1], (right.value, left[2][1]), left[3], False)
    return right


def _check_kinds(scope: Scope, left: Series, right: Series) -> None:
    kinds = {family(left), family(right)} - {"any"}
    if kinds == {"price", "true range"} and "times" in (left[0], right[0]):
        return  # a range against a share of the price
    if len(kinds) > 1:
        raise NotRead(
            f"{scope.text(left, right)} and {scope.text(right, left)} are of different kinds: "
            f"{' and '.join(sorted(kinds))}",
            is_trap=True,
        )
    if left == CLOSE and right in (("price", "high"), ("price", "low")):
        raise NotRead(f"which {right[1]} is not said; of so many days, or of yesterday")


@_writes("beyond_both")
def _beyond_both(scope: Scope, sign: str) -> str:
    """Read "above both", the two averages that were named."""
    left = scope.left(None)
    if len(scope.named_averages) != 2 or left[0] != "price":
        raise NotRead("both of what is not said")
    return " and ".join(_compare(scope, left, sign, each) for each in scope.named_averages)


@_writes("equal")
def _equal(scope: Scope, right: Series) -> str:
    left = scope.left(None)
    right = scope.right(left, right)
    _check_kinds(scope, left, right)
    return f"{scope.value(left, right)} == {scope.value(right, left)}"


@_writes("level")
def _level(scope: Scope, series: Series, number: Number, side: str = "") -> str:
    series = scope.left(series)
    if series[0] != "indicator" or number.is_money:
        raise NotRead(f"what is to be {plain(number.value)} is not said")
    scope.subject, scope.is_named = series, True
    scope.subjects.add(series)
    value = _level_of(scope, series, number)
    middle = 0 if family(series) == "cci" else 50
    if side and (value >= middle) != (side == "sell"):
        raise NotRead(f"whether to {side} above {plain(value)} or below it is not said")
    return f"{scope.value(series)} {'>=' if value >= middle else '<='} {plain(value)}"


@_writes("undecided")
def _undecided(scope: Scope) -> str:
    raise NotRead("at least or at most so much? It is not said")


@_writes("equals")
def _equals(scope: Scope, other: Series) -> str:
    """Read "volume is 3x its average": at least so much."""
    left = scope.left(None)
    if left != VOLUME or (other[0] == "times" and other[1] < 1):
        raise NotRead("at least or at most so much? It is not said")
    return _compare(scope, left, ">=", other)


@_writes("between")
def _between(scope: Scope, series: Series | None, low: Any, high: Any) -> str:
    series = scope.left(series)
    ends = [
        plain(_level_of(scope, series, end)) if isinstance(end, Number) else scope.value(end, series)
        for end in (low, high)
    ]
    if isinstance(low, Number) != isinstance(high, Number):
        raise NotRead("'between' needs both ends said in full")
    if isinstance(low, Number) and float(ends[0]) >= float(ends[1]):
        raise NotRead(f"nothing lies between {ends[0]} and {ends[1]}", is_trap=True)
    return f"between({scope.value(series)}, {ends[0]}, {ends[1]})"


@_writes("distance")
def _distance(scope: Scope, percent: float, sign: str, other: Series) -> str:
    left = scope.left(None)
    if family(left) not in ("price", "volume", "any"):
        raise NotRead("only a price is so many percent above or below something")
    factor = 1 - percent / 100 if sign[0] == "<" else 1 + percent / 100
    scope.subject = left
    other = scope.right(left, other)
    if left == CLOSE and not scope.is_exit:
        scope.sides[scope.text(other, left)] = ">=" if sign[0] == "<" else "<="
    _check_kinds(scope, left, other)
    if other[0] == "extreme" and not other[4] and other[1].startswith("high" if sign[0] == ">" else "low"):
        other = (*other[:4], True)
    return f"{scope.value(left)} {sign} {scope.value(('times', factor, other), left)}"


@_writes("near")
def _near(scope: Scope, series: Series | None, share: Number, other: Series) -> str:
    series = scope.left(series)
    if not share.is_percent or family(series) != "price":
        raise NotRead("only a price can be within so many percent of something")
    _check_kinds(scope, series, other)
    percent = share.value
    if other[0] == "extreme":
        is_high = other[1].startswith("high")
        reached = ("times", 1 + percent / 100 * (1 - 2 * is_high), other)
        return f"{scope.value(series)} {'>=' if is_high else '<='} {scope.value(reached)}"
    text = scope.value(other, series)
    if text == scope.value(series):
        raise NotRead(f"{text} is compared with itself")
    return f"abs({scope.value(series)} - {text}) <= {plain(percent / 100)} * {text}"


@_writes("near_by")
def _near_by(scope: Scope, left: Series | None, distance: Series, other: Series) -> str:
    left = scope.left(left, other)
    scope.subject = left
    return f"abs({scope.value(left)} - {scope.value(other, left)}) <= {scope.value(distance)}"


@_writes("in_range")
def _in_range(scope: Scope, side: str, share: float, extent: Series) -> str:
    scope.subject = CLOSE
    span = extent[1]
    low, high = (
        ("price", which) if span is None else ("extreme", which, which, span, False) for which in ("low", "high")
    )
    bottom, top = scope.value(low), scope.value(high)
    level = 1 - share if side == "top" else share
    place = f"({scope.value(CLOSE)} - {bottom}) / ({top} - {bottom})"
    return f"{place} {'>=' if side == 'top' else '<='} {plain(level)}"


@_writes("closes")
def _closes(scope: Scope, sign: str, right: Any) -> str:
    return _compare(scope, _closing(scope), sign, right)


@_writes("on_close")
def _on_close(scope: Scope, said: Condition) -> str:
    _closing(scope)
    return written(scope, said)


def _closing(scope: Scope) -> Series:
    if (
        scope.closes_itself
        and scope.spoken_of is not None
        and family(scope.spoken_of) not in ("price", "any", "volume")
    ):
        return scope.spoken_of  # "RSI closes under 20"
    # Only a price closes: what was spoken of last may be an indicator.
    bare = scope.subject[2] if scope.subject is not None and scope.subject[0] == "symbol" else scope.subject
    scope.subject = scope.subject if bare == CLOSE and scope.subject else CLOSE
    scope.is_named = True
    return scope.subject


@_writes("pair")
def _pair(scope: Scope, fast: Span, sign: str, slow: Span) -> str:
    if scope.function is None:
        raise NotRead(f"what {plain(fast[0])} and {plain(slow[0])} are is not said")
    left, right = (("average", scope.function, span, None, False) for span in (fast, slow))
    if sign in ("up", "down"):
        return _cross(scope, left, sign, right)
    return _compare(scope, left, sign, right)


@_writes("stack")
def _stack(scope: Scope, function: str | None, sign: str, spans: tuple[Span, ...]) -> str:
    many = [("average", function or scope.function or "sma", span, None, False) for span in spans]
    return " and ".join(_compare(scope, a, sign, b) for a, b in pairwise(many))


# Crossings.


@_writes("cross")
def _cross(scope: Scope, left: Series | None, direction: str, right: Any) -> str:
    if left in (None, ("it",)) and scope.crossing and not scope.is_named:
        if right is None:
            left = scope.crossing[0]
        elif right != scope.crossing[1] and scope.crossing[0][0] == "average" and not isinstance(right, Number):
            raise NotRead(f"whether {scope.text(scope.crossing[0])} or the price crosses is not said")
    left = scope.left(left)
    right = scope.right(left, right)
    if right is None:
        if scope.crossing is not None and left == scope.crossing[0]:
            right = scope.crossing[1]
        elif scope.target is not None:
            right = scope.target
        else:
            raise NotRead("what is crossed is not said")
    right = _as_average(scope, left, right)
    if is_series(right):
        _check_kinds(scope, left, right)
        scope.target = right
        if right[0] == "extreme" and not right[4]:
            right = (*right[:4], True)
    else:
        _level_of(scope, left, right)
    scope.crossing = (left, right, direction)
    scope.crossings += 1
    scope.subject = left
    return _crossed(scope, left, direction, right)


def _crossed(scope: Scope, left: Series, direction: str, right: Any) -> str:
    name = "crosses_above" if direction == "up" else "crosses_below"
    if isinstance(right, Number):
        return f"{name}({scope.value(left)}, {plain(-right.value if right.sign == '-' else right.value)})"
    return f"{name}({scope.value(left, right)}, {scope.value(right, left)})"


@_writes("both_sides")
def _both_sides(scope: Scope, said: Condition) -> str:
    """Write what is said of both lines that crossed."""
    if scope.crossing is None and len(scope.subjects) == 2:
        return " and ".join(_of(scope, side, said) for side in sorted(scope.subjects, key=scope.text))
    stochastic = [each for each in scope.subjects if each[:2] == ("indicator", "stochastic_k")]
    if scope.crossing is None and len(stochastic) == 1:
        return " and ".join(_of(scope, ("indicator", name, stochastic[0][2]), said) for name in _LINES)
    if scope.crossing is None or isinstance(scope.crossing[1], Number):
        raise NotRead("both of what is not said")
    return " and ".join(_of(scope, side, said) for side in scope.crossing[:2])


@_writes("closes_cross")
def _closes_cross(scope: Scope, direction: str, right: Any) -> str:
    if right is None and scope.crossing is not None:
        right = scope.crossing[1]
    return _cross(scope, _closing(scope), direction, right)


@_writes("function_cross")
def _function_cross(scope: Scope, direction: str, left: Any, right: Any) -> str:
    scope.is_named = True
    if isinstance(left, Number):
        return _cross(scope, right, _OPPOSITE[direction], left)
    return _cross(scope, left, direction, right)


@_writes("signal_cross")
def _signal_cross(scope: Scope, left: Series | None, direction: str) -> str:
    lined = [each for each in scope.subjects if each[0] == "macd" or each[:2] == ("indicator", "stochastic_k")]
    left = lined[0] if left is None and not scope.is_named and len(lined) == 1 else scope.left(left)
    if left[0] == "macd":
        return _cross(scope, left, direction, ("macd", "signal", *left[2:]))
    if left[:2] == ("indicator", "stochastic_k"):
        return _cross(scope, left, direction, ("indicator", "stochastic_d", left[2]))
    if scope.crossing is not None and (left == CLOSE or scope.crossings == 1):
        return _cross(scope, scope.crossing[0], direction, scope.crossing[1])
    raise NotRead("what crosses what is not said")


@_writes("opposite")
def _opposite(scope: Scope) -> str:
    if scope.crossing is None and len(scope.compared) == 1:
        left, sign, right = scope.compared[0]
        return _compare(scope, left, {">": "<", "<": ">", ">=": "<=", "<=": ">="}[sign], right)
    if scope.crossing is None or scope.crossings != 1:
        raise NotRead("the opposite of what is not said")
    left, right, direction = scope.crossing
    return _crossed(scope, left, _OPPOSITE[direction], right)


@_writes("golden")
def _golden(scope: Scope, direction: str, pair: tuple[float, float, str | None] | None) -> str:
    if pair is None and scope.crossing is not None and scope.crossing[0][0] == "average":
        return _crossed(scope, scope.crossing[0], direction, scope.crossing[1])
    fast, slow, function = pair or scope.pair or (50.0, 200.0, "sma")
    if pair is None and scope.pair is None:
        scope.assume("golden cross: the 50 and the 200 bar simple average")
    left, right = (("average", function or "sma", (each, "bar"), None, False) for each in (fast, slow))
    return _cross(scope, left, direction, right)


@_writes("breaks")
def _breaks(scope: Scope, direction: str, right: Any) -> str:
    left = scope.left(None)
    right = scope.right(left, right)
    if is_series(right) and (right[0] in ("extreme", "lag") or right[0] == "price"):
        return _compare(scope, left, SIGN[direction], right)
    scope.assume("breaks: crosses, the bar before on the other side")
    return _cross(scope, left, direction, right)


@_writes("breaks_new", "new")
def _new(scope: Scope, series: Any, which: str, span: Span) -> str:
    own = scope.spoken_of
    is_own = own in (("price", "low"), ("price", "high"), VOLUME)
    if series is None and own is not None and (is_own or family(own) not in ("price", "any", "volume")):
        sign = "<=" if which.startswith("low") else ">="
        return f"{scope.value(own)} {sign} {scope.value(('extreme', which, own, span, False))}"
    if series in _OPPOSITE and SIGN[series] != (">" if which.startswith("high") else "<"):
        raise NotRead(f"a {which} is not broken to that side")
    base = series[1] if isinstance(series, tuple) and series[0] == "price" else None
    scope.subject = CLOSE
    which = {"up": "high", "down": "low"}.get(which, which)
    if " " in which:
        sign = ">=" if which.startswith("high") else "<="
        return f"{scope.value(CLOSE)} {sign} {scope.value(('extreme', which, which, span, False))}"
    sign = ">" if which == "high" else "<"
    side: Any = ("price", base) if base in ("high", "low", "volume") else which
    left = VOLUME if base == "volume" else CLOSE
    scope.assume(f"new {which}: the close beyond the {'highs' if which == 'high' else 'lows'} of the bars before")
    return f"{scope.value(left)} {sign} {scope.value(('extreme', which, side, span, True))}"


@_writes("breaks_out")
def _breaks_out(scope: Scope, direction: str, series: Series) -> str:
    direction = {"high": "up", "low": "down"}.get(direction, direction)
    scope.subject, scope.is_named = CLOSE, True
    return _breaks(scope, direction, series)


@_writes("at_extreme")
def _at_extreme(scope: Scope, which: str, span: Span) -> str:
    """Write that a series is the least or the most of the bars that end with this one."""
    left = scope.left(None)
    if left[0] == "number":
        raise NotRead("a number has no highest and lowest")
    scope.subject = left
    sign = "<=" if which == "low" else ">="
    return f"{scope.value(left)} {sign} {scope.value(('extreme', which, left, span, False))}"


@_writes("closes_at")
def _closes_at(scope: Scope, which: str) -> str:
    raise NotRead(f"which {which} is not said; of so many days")


@_writes("touched")
def _touched(scope: Scope, left: Series | None, right: Any) -> str:
    left = scope.left(left)
    right = scope.right(left, right)
    if isinstance(right, Number):
        scope.subject = left
        return _level(scope, left, right)
    if right[0] == "band_again" and scope.last_band is not None:
        right = ("band", right[1], *scope.last_band)
    if right[0] == "band" and right[1] in ("lower", "upper") and left[0] == "price":
        scope.subject = CLOSE
        price = "low" if right[1] == "lower" else "high"
        scope.assume(f"touches a band: by the {price} of the bar")
        return f"{scope.value(('price', price))} {'<=' if right[1] == 'lower' else '>='} {scope.value(right)}"
    if right[0] == "extreme":
        return _compare(scope, left, ">=" if right[1].startswith("high") else "<=", right)
    if left in (("price", "low"), ("price", "high")):
        return _compare(scope, left, "<=" if left[1] == "low" else ">=", right)
    if right[0] in ("band", "band_again", "middle") or (right[0] == "it_average" and scope.is_exit):
        return _reaches(scope, right)
    if scope.is_exit and left == CLOSE and scope.text(right, left) in scope.sides:
        sign = scope.sides[scope.text(right, left)]
        scope.assume("reaches: closes at or beyond it, coming from where it was bought")
        return f"{scope.value(CLOSE)} {sign} {scope.value(right, CLOSE)}"
    raise NotRead(f"from which side {scope.text(right, left)} is touched is not said; write crosses above or below")


@_writes("reaches")
def _reaches(scope: Scope, series: Series) -> str:
    scope.assume("reaches: closes at or above it")
    return f"{scope.value(CLOSE)} >= {scope.value(series, CLOSE)}"


# States.


@_writes("state")
def _state(scope: Scope, series: Series | None, state: str) -> str:
    series = scope.left(series)
    if state in ("positive", "negative"):
        _check_signed(series, state)
        scope.subject = series
        return f"{scope.value(series)} {'>' if state == 'positive' else '<'} 0"
    if series[0] == "price":
        scope.assume("oversold and overbought: by the 14 bar RSI, 30 and 70")
        series = ("indicator", "rsi", None)
    usual = indicators()[series[1]] if series[0] == "indicator" else None
    if usual is None or usual.low is None or usual.high is None:
        raise NotRead(f"{scope.text(series)} has no level at which it is {state}")
    scope.subject = series
    sign, level = ("<", usual.low) if state == "oversold" else (">", usual.high)
    scope.assume(f"{state}: {series[1].split('_')[0]} {sign} {plain(level)}")
    return f"{scope.value(series)} {sign} {plain(level)}"


@_writes("turn")
def _turn(scope: Scope, series: Series | None, turn: str) -> str:
    series = scope.left(series)
    if turn in ("up", "down"):
        scope.subject = series
        name, other = ("rising", "falling") if turn == "up" else ("falling", "rising")
        return f"{name}({scope.value(series)}, 1) and {other}(lag({scope.value(series)}, 1), 1)"
    _check_signed(series, turn)
    return _cross(scope, series, "up" if turn == "positive" else "down", Number(0.0))


def _check_signed(series: Series, state: str) -> None:
    if family(series) not in ("macd", "cci", "change"):
        raise NotRead(f"what is {state} is not said")


@_writes("trend")
def _trend(scope: Scope, series: Series | None, direction: str, span: Span | None) -> str:
    series = scope.left(series)
    scope.subject = series
    scope.target = series if series[0] == "average" else scope.target
    bars = 1 if span is None else scope.bars(span)
    if span is None and series[0] == "average":
        bars = 5
        scope.assume("rising and falling averages: on each of 5 bars")
    elif span is not None and bars != span[0]:
        raise NotRead("rising on each bar, or higher than at the beginning? It reads two ways")
    return f"{'rising' if direction in ('up', 'rising') else 'falling'}({scope.value(series)}, {bars})"


@_writes("trend_of")
def _trend_of(scope: Scope, direction: str, series: Series, span: Span | None) -> str:
    return f"{direction}({scope.value(series)}, {scope.bars(span or (1.0, 'bar'))})"


# Bars and moves.


@_writes("candle")
def _candle(scope: Scope, direction: str, lag: int) -> str:
    scope.subject = CLOSE
    sign, bars = SIGN[direction], lag + scope.shift
    close, opened = (f"lag({name}, {bars})" if bars else name for name in ("close", "open"))
    scope.assume("a green bar closes above its open, a red one below")
    return f"{close} {sign} {opened}"


@_writes("of_it")
def _of_it(scope: Scope, said: Condition) -> str:
    if scope.subject is not None and family(scope.subject) not in ("price", "any") and said[0] != "closes":
        raise NotRead(f"whether 'it' is {scope.text(scope.subject)} or what is traded is not said")
    scope.subject, scope.is_named = CLOSE, True
    return written(scope, said)


@_writes("changes")
def _changes(scope: Scope, direction: str, bars: float) -> str:
    """Write "has fallen 3 days in a row", of the close unless an indicator was spoken of."""
    if scope.subject is not None and family(scope.subject) not in ("price", "any"):
        raise NotRead(
            f"what goes {direction} {plain(bars)} times in a row is not said: {scope.text(scope.subject)}, or the close"
        )
    return _streak(scope, direction, bars)


@_writes("streak")
def _streak(scope: Scope, direction: str, count: float) -> str:
    scope.subject = CLOSE
    scope.assume(f"{plain(count)} in a row: by closes")
    return f"{'rising' if direction == 'up' else 'falling'}({scope.value(CLOSE)}, {int(count)})"


@_writes("after_streak")
def _after_streak(scope: Scope, direction: str, before: str, count: float) -> str:
    parts = [_candle(scope, direction, 0), *(_candle(scope, before, lag) for lag in range(1, int(count) + 1))]
    return " and ".join(parts)


_BARS = {
    "inside": "high < lag(high, 1) and low > lag(low, 1)",
    "outside": "high > lag(high, 1) and low < lag(low, 1)",
    "higher high": "high > lag(high, 1)",
    "lower low": "low < lag(low, 1)",
    "higher low": "low > lag(low, 1)",
    "lower high": "high < lag(high, 1)",
    "bullish engulfing": "lag(close, 1) < lag(open, 1) and close > open and open <= lag(close, 1) "
    "and close >= lag(open, 1)",
    "bearish engulfing": "lag(close, 1) > lag(open, 1) and close < open and open >= lag(close, 1) "
    "and close <= lag(open, 1)",
}


@_writes("bar")
def _bar(scope: Scope, kind: str, lag: int) -> str:
    scope.subject = CLOSE
    text = _BARS[kind]
    for bars in range(lag + scope.shift):
        text = re.sub(r"lag\((\w+), (\d+)\)", lambda found: f"lag({found[1]}, {int(found[2]) + 1})", text)
        text = text if bars else re.sub(r"(?<!lag\()\b(open|high|low|close)\b", r"lag(\1, 1)", text)
    return text


@_writes("gap")
def _gap(scope: Scope, direction: str, percent: float, least: str) -> str:
    if (scope.timeframe or "1d") != "1d":
        raise NotRead("a gap lies between days; say it on daily bars")
    scope.subject = CLOSE
    factor = 1 + percent / 100 if direction == "up" else 1 - percent / 100
    sign = f"{SIGN[direction]}=" if least == ">=" else SIGN[direction]
    if not percent:
        scope.assume("gap: the open beyond the close before")
        return f"{scope.value(('price', 'open'))} {sign[0]} {scope.value(('lag', CLOSE, (1.0, 'bar')))}"
    return f"{scope.value(('price', 'open'))} {sign} {plain(factor)} * {scope.value(('lag', CLOSE, (1.0, 'bar')))}"


@_writes("gap_past")
def _gap_past(scope: Scope, direction: str, series: Series) -> str:
    scope.subject = CLOSE
    past = series if series[0] == "lag" else ("lag", series, (1.0, "bar"))
    return f"{scope.value(('price', 'open'))} {SIGN[direction]} {scope.value(past)}"


@_writes("moved")
def _moved(scope: Scope, direction: str, percent: float, span: Span | None, least: str) -> str:
    if span is None:
        size = f"{direction} {plain(percent)}%"
        raise NotRead(f"over what time it is {size} is not said; say {size} today, or over so many days")
    if span == (1.0, "day") and (scope.timeframe or "1d") != "1d":
        raise NotRead(f"'today' speaks of days, the bars are {scope.timeframe}; say over so many bars")
    series = scope.spoken_of or CLOSE
    if series not in (CLOSE, VOLUME):
        raise NotRead(f"only a price or the volume is up or down by so many percent, was {scope.text(series)}")
    scope.subject = series
    sign, value = (">", percent) if direction.endswith("up") else ("<", -percent)
    sign = BEYOND[sign][0] if direction.startswith("not") else sign
    sign = f"{sign}=" if least == ">=" else sign
    change = f"percent_change({series[1]}, {scope.bars(span)})"
    return f"{f'lag({change}, {scope.shift})' if scope.shift else change} {sign} {plain(value)}"


@_writes("moved_at_all")
def _moved_at_all(scope: Scope, direction: str, span: Span) -> str:
    series = scope.left(None)
    scope.subject = series
    return f"{scope.value(series)} {SIGN[direction]} {scope.value(('lag', series, span))}"
