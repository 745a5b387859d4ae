"""The conditions that a prompt speaks of, as rule text: comparisons, crossings, breakouts, joined by and, or, not.

What the verbs mean: ``crosses`` is the bar of the crossing; ``breaks above`` too, but for a 20 day high, where it is
any close above the high before it; ``drops below``, ``rises above``, ``is above`` all hold as long as the level does,
so that an entry that was missed on its first bar is not missed for good.

What reads two ways is refused: ``and`` beside ``or`` without parentheses, a ``not`` before an ``or``, what can never
hold (below 30 and above 70), and two numbers of different kinds (an RSI above a price).

A comparison without a subject ("sell above 70") takes that of the comparison before it, else the entry's own: the only
one, or the only one that runs from 0 to 100 where the number does. When several fit, the prompt is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aworker.trading.prompts.series import (
    AVERAGES,
    INDICATOR_PHRASES,
    Refused,
    Series,
    SeriesReader,
    number_text,
)
from aworker.trading.prompts.words import Cursor
from aworker.trading.rules import SERIES, RuleError, parse_rule

MAX_DEPTH = 20

GOLDEN_CROSS = "crosses_above(sma(close, 50), sma(close, 200))"
DEATH_CROSS = "crosses_below(sma(close, 50), sma(close, 200))"

_ABOVE = ("above", "over", "greater than", "more than", "higher than", "larger than", "bigger than")
_BELOW = ("below", "under", "less than", "lower than", "smaller than", "beneath", "underneath")
_AT_LEAST = ("at least", "no less than", "not less than", "at or above", "greater than or equal to", "no lower than")
_AT_MOST = ("at most", "no more than", "not more than", "at or below", "less than or equal to", "no higher than")
_SIGNS = {">": ">", "<": "<", ">=": ">=", "<=": "<=", "==": "=="}

_STILL = ("is", "are", "be", "being", "stays", "stay", "remains", "remain", "trades", "trading", "sits", "gets")
_MOVING = ("goes", "go", "moves", "move", "comes", "closes", "trades", "turns", "gets", "pushes", "moving", "going")
_RISING = (
    *("rises", "rise", "rising", "climbs", "climb", "jumps", "increases", "rallies", "gains", "bounces"),
    *("spikes", "surges"),
)
_FALLING = (
    *("drops", "drop", "dropping", "falls", "fall", "falling", "dips", "dip", "declines", "sinks", "decreases"),
    *("pulls back", "retraces"),
)
_UPWARD = (
    *("up", "gains", "gained", "rises", "rose", "risen", "rallied", "climbs", "higher"),
    *("closes higher", "closed higher", "closes up"),
)
_DOWNWARD = (
    *("down", "loses", "lost", "falls", "fell", "fallen", "drops", "dropped", "declines", "declined", "lower"),
    *("closes lower", "closed lower", "closes down"),
)
_CROSSING = ("cross", "crosses", "crossed", "crossing", "has crossed", "crosses back", "cross back")
_BREAKING = ("break", "breaks", "breaking", "breaks out", "break out", "breaking out", "broke")
_BREAKOUTS = ("breakout", "breakouts", "breakdown", "breakdowns")

_TODAY = ("today", "on the day", "in a day", "in one day", "in a single day")
_MULTIPLES = {"twice": 2.0, "double": 2.0, "triple": 3.0, "half": 0.5}
_FALL_SHOWN = ("percent_change", "roc", "rsi", "stochastic_k", "stochastic_d", "cci")
_JOINING = (
    *("and", "or", "but", "while", "&", "|", "& &", "| |", "as long as", "provided", "plus"),
    *("only if", "only when"),
)
_AFTER_LEVEL = (",", ".", ";", "\n", ")", "and", "or", "instead", "with")
_OPPOSITES = {
    ">": ("<", "<="),
    ">=": ("<",),
    "<": (">", ">="),
    "<=": (">",),
    "crosses_above": ("crosses_below", "<", "<="),
    "crosses_below": ("crosses_above", ">", ">="),
}
_MAGNITUDES = {"thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "mm": 1e6, "billion": 1e9, "b": 1e9, "bn": 1e9}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: what is compared, how, and with what."""

    subject: Series
    operator: str
    value: Series

    @property
    def text(self) -> str:
        """The comparison as rule text."""
        if self.operator.startswith("crosses"):
            return f"{self.operator}({self.subject.text}, {self.value.text})"
        return f"{self.subject.text} {self.operator} {self.value.text}"

    @property
    def rises(self) -> bool:
        """Whether it holds above its value."""
        return self.operator in (">", ">=", "crosses_above")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as rule text; ``joined`` is the operator at its top, empty when there is none."""

    text: str
    joined: str = ""

    def within(self, joined: str) -> str:
        """Return its text as an operand of ``and``, ``or`` or ``not``."""
        needs = self.joined != "" and (joined == "not" or (self.joined == "or" and joined == "and"))
        return f"({self.text})" if needs else self.text


def join(operator: str, parts: list[Condition]) -> Condition:
    """Join conditions with ``and`` or ``or``. Raises Refused for an ``and`` that can never hold."""
    if len(parts) == 1:
        return parts[0]
    if operator == "and":
        _check_possible(parts)
    return Condition(f" {operator} ".join(part.within(operator) for part in parts), operator)


def _check_possible(parts: list[Condition]) -> None:
    # Subject -> the text of what holds, its value: the highest floor and the lowest ceiling.
    floors: dict[str, tuple[float, str]] = {}
    ceilings: dict[str, tuple[float, str]] = {}
    for part in parts:
        top = ast.parse(part.text, mode="eval").body
        for node in top.values if isinstance(top, ast.BoolOp) and isinstance(top.op, ast.And) else [top]:
            if not isinstance(node, ast.Compare) or len(node.ops) > 1:
                continue
            for each in comparisons_of(ast.unparse(node)):
                if each.value.is_constant:
                    subject, value = each.subject.text, float(each.value.text)
                else:
                    # "Above the average and below the average": their difference is above and below zero.
                    subject, value = f"{each.subject.text} to {each.value.text}", 0.0
                if each.rises:
                    floors[subject] = max(floors.get(subject, (value, each.text)), (value, each.text))
                else:
                    ceilings[subject] = min(ceilings.get(subject, (value, each.text)), (value, each.text))
    for subject, (floor, text) in floors.items():
        ceiling, other = ceilings.get(subject, (floor, ""))
        if other and (floor > ceiling or (floor == ceiling and not (">=" in text and "<=" in other))):
            raise Refused(f"{other} and {text} never hold on one bar")


def condition_of(rule: str) -> Condition:
    """Return a rule's text as a condition that can be joined."""
    top = ast.parse(rule, mode="eval").body
    return Condition(rule, {ast.And: "and", ast.Or: "or"}[type(top.op)] if isinstance(top, ast.BoolOp) else "")


def comparisons_of(rule: str) -> list[Comparison]:
    """Return the comparisons of a rule that a prompt may refer to."""
    signs: dict[type[ast.cmpop], str] = {ast.Gt: ">", ast.Lt: "<", ast.GtE: ">=", ast.LtE: "<="}
    found: list[Comparison] = []
    for node in ast.walk(ast.parse(rule, mode="eval")):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in signs:
            operator, left, right = signs[type(node.ops[0])], node.left, node.comparators[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("crosses_") and len(node.args) == 2:
            operator, (left, right) = ast.unparse(node.func), node.args
        else:
            continue
        found.append(Comparison(Series(ast.unparse(left)), operator, Series(ast.unparse(right))))
    return found


class ConditionReader:
    """Reads conditions at the cursor.

    ``is_clause`` says whether the words at the cursor begin another clause, which ends the condition; ``known`` are
    the comparisons that one without a subject may refer to.
    """

    def __init__(
        self, cursor: Cursor, numbers: SeriesReader, is_clause: Callable[[], bool], known: list[Comparison]
    ) -> None:
        self.cursor = cursor
        self.numbers = numbers
        self.is_clause = is_clause
        self.known = known
        self.made: list[Comparison] = []
        """The comparisons of this condition, in their order."""
        self.found: Condition | None = None
        """The condition, once it is read."""
        self.is_bare_list = False
        """Whether commas alone join it."""
        self.is_elliptic = False
        """Whether one of them had no subject of its own."""
        self._depth = 0

    @property
    def falls(self) -> bool:
        """Whether the condition says that the price fell, as ``buy the dip when`` leaves to it."""
        found = self.found
        if found is None or found.joined == "or":
            return False
        return "falling(close" in found.text or any(
            not each.rises
            and (each.subject.text in SERIES[:4] or each.subject.function in _FALL_SHOWN)
            and f"not ({each.text})" not in found.text
            for each in self.made
        )

    def condition(self) -> Condition | None:
        """Take a condition, up to the next clause; None when there is none.

        Raises Refused when what follows an ``and`` or ``or`` is neither condition nor clause.
        """
        cursor = self.cursor
        cursor.take("either", "both")
        groups: list[list[Condition]] = [[]]
        has_comma = False
        parts_all = True
        while True:
            part = self._negated()
            if part is None:
                if not groups[0]:
                    return None
                raise Refused("a condition must follow")
            groups[-1].append(part)
            start = cursor.at
            comma = cursor.take(",") is not None
            word = cursor.take(*_JOINING)
            if cursor.sees("on volume", "with volume"):
                # "closes above the 20 day high on volume above average"
                word = cursor.take("on", "with")
            if not (comma or word) or cursor.ended or cursor.peek() in ("\n", ".", ";", ",", ")") or self.is_clause():
                cursor.at = start
                break
            restarts = cursor.take("also", "if", "when", "only if", "only when") in ("if", "when")
            if word in ("or", "|", "| |"):
                if has_comma:
                    raise Refused("a list with commas and an or reads two ways; join all with or, or use parentheses")
                if part.text.startswith("not ") and not restarts:
                    raise Refused("not before an or reads two ways; use parentheses")
                # "..., or when ..." parts all that stands before it from all that follows.
                parts_all = parts_all and restarts
                groups.append([])
            elif word is not None:
                self.is_bare_list = False
            else:
                # A comma alone may also end the condition before a clause that is read elsewhere.
                self.is_bare_list = not has_comma
                has_comma = True
                if len(groups) > 1:
                    raise Refused("a list with commas and an or reads two ways; join all with or, or use parentheses")
        if len(groups) > 1 and not parts_all and any(len(group) > 1 for group in groups):
            raise Refused("and beside or reads two ways; use parentheses, or say 'or when'")
        return join("or", [join("and", group) for group in groups])

    def _negated(self) -> Condition | None:
        cursor = self.cursor
        start = cursor.at
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise Refused(f"conditions may be nested {MAX_DEPTH} deep")
            if cursor.take("not", "not when", "not if"):
                part = self._negated()
                if part is not None:
                    return Condition(f"not {part.within('not') if part.joined else f'({part.text})'}")
            elif cursor.take("("):
                part = self.condition()
                if part is not None and cursor.take(")"):
                    return part
            else:
                return self._atom()
        finally:
            self._depth -= 1
        cursor.at = start
        return None

    def _atom(self) -> Condition | None:
        start = self.cursor.at
        for read in (
            self._rule,
            self._event,
            self._gap,
            self._streak,
            self._pair_cross,
            self._short_average_cross,
            self._move,
            self._new_extreme,
            self._without_subject,
            self._with_subject,
        ):
            found = read()
            if found is not None:
                return found
            self.cursor.at = start
        return None

    def _rule(self) -> Condition | None:
        text = self.numbers.call_text()
        if text is None:
            return None
        try:
            parse_rule(text, "condition")
        except RuleError:
            return None
        start = self.cursor.at
        depth = 0
        while not self.cursor.ended:
            word = self.cursor.peek()
            self.cursor.move(1)
            depth += (word == "(") - (word == ")")
            if word == ")" and depth == 0:
                break
        self.made.extend(comparisons_of(text))
        return Condition(text) if self.cursor.at > start else None

    def _event(self) -> Condition | None:
        cursor = self.cursor
        cursor.skip("a", "an", "the", "there is", "there's", "it is", "it's", "price is", "stock is")
        if cursor.take("golden cross", "golden crossover"):
            crossing = Comparison(Series("sma(close, 50)"), "crosses_above", Series("sma(close, 200)"))
        elif cursor.take("death cross", "dead cross"):
            crossing = Comparison(Series("sma(close, 50)"), "crosses_below", Series("sma(close, 200)"))
        elif cursor.take(
            "bullish macd crossover",
            "bullish macd cross",
            "macd bullish crossover",
            "macd crossover",
            "macd crosses up",
        ):
            crossing = self._macd_crossing("crosses_above")
        elif cursor.take("bearish macd crossover", "bearish macd cross", "macd bearish crossover", "macd crosses down"):
            crossing = self._macd_crossing("crosses_below")
        elif cursor.take("oversold"):
            crossing = Comparison(self.numbers.indicator("rsi"), "<", Series("30"))
        elif cursor.take("overbought"):
            crossing = Comparison(self.numbers.indicator("rsi"), ">", Series("70"))
        else:
            return None
        cursor.take("happens", "occurs", "forms", "appears", "signal", "is seen", "conditions")
        return self._made(crossing)

    def _gap(self) -> Condition | None:
        # "gaps up more than 2% at the open", "a 2% gap down"
        cursor = self.cursor
        cursor.skip("a", "an", "the", "it", "there is", "price", "stock", "has", "open")
        percent = cursor.percent()
        side = cursor.take("gap up", "gaps up", "gap down", "gaps down")
        if side is None:
            return None
        cursor.take("by", "of")
        strict = percent is None and cursor.take("more than", "over") is not None
        if percent is None:
            cursor.take("at least")
            percent = cursor.percent()
        if percent is None:
            raise Refused("a gap needs its size, such as gap up 2%")
        cursor.take("or more")
        cursor.take("at the open", "on the open", "at open", "from the previous close", "overnight")
        if self.numbers.timeframe not in ("1d", "1w"):
            raise Refused(f"a gap lies between days, and all rules are on the same {self.numbers.timeframe} bars")
        up = side.endswith("up")
        value = Series(f"lag(close, 1) * {number_text(1 + percent / 100 if up else 1 - percent / 100)}")
        operator = (">" if up else "<") + ("" if strict else "=")
        return self._made(Comparison(Series("open"), operator, value))

    def _streak(self) -> Condition | None:
        # "three up days in a row", "5 consecutive lower closes"
        cursor = self.cursor
        cursor.skip("a", "the", "there are")
        count = self.numbers.whole_number()
        is_marked = cursor.take("straight", "consecutive") is not None
        word = cursor.take("up", "down", "higher", "lower")
        if count is None or word is None:
            return None
        unit = cursor.take("days", "sessions", "weeks", "bars", "candles", "closes")
        if unit is None:
            return None
        if not (is_marked or cursor.take("in a row", "straight", "consecutively")):
            raise Refused(f"say {count} {word} {unit} in a row, if that is meant")
        if unit not in ("bars", "candles", "closes"):
            name = {"days": "1d", "sessions": "1d", "weeks": "1w"}[unit]
            if name != self.numbers.timeframe:
                raise Refused(f"{unit} in a row are no {self.numbers.timeframe} bars, which all rules are on")
        return self._run("close", word in ("up", "higher"), count)

    def _run(self, text: str, up: bool, bars: int) -> Condition:
        condition = Condition(f"{'rising' if up else 'falling'}({text}, {bars})")
        self.numbers.spoken += f" {condition.text}"
        return condition

    def level(self, is_buy: bool) -> Condition | None:
        """Take ``at RSI 30``: to buy on the way down to a level in the lower half, to sell on the way up in the upper.

        Raises Refused for a level on the other side, which could be meant either way.
        """
        cursor = self.cursor
        if not cursor.take("at an", "at a", "at"):
            return None
        name = cursor.take("rsi", "stochastic")
        if name is None:
            return None
        window = self.numbers.window() if cursor.sees("(") else None
        subject = self.numbers.indicator(name)
        if window is not None:
            subject = Series(subject.text.replace(str(INDICATOR_PHRASES[name][1]), str(window)))
        cursor.take("of", "=")
        value = cursor.number()
        if value is None or not (cursor.ended or cursor.sees(*_AFTER_LEVEL) or self.is_clause()):
            return None
        if (value >= 50) if is_buy else (value <= 50):
            raise Refused(f"{'buy' if is_buy else 'sell'} above {value:g} or below it? say which")
        mine = [each for each in self.known if each.subject == subject and each.rises != is_buy]
        operator = mine[0].operator if len(mine) == 1 else "<=" if is_buy else ">="
        self.is_elliptic = True
        return self._made(Comparison(subject, operator, Series(number_text(value))))

    def _macd_crossing(self, operator: str) -> Comparison:
        arguments = self.numbers.macd_arguments
        return Comparison(Series(f"macd(close{arguments})"), operator, Series(f"macd_signal(close{arguments})"))

    def _pair_cross(self) -> Condition | None:
        found = self.pair()
        if found is None:
            return None
        if self.cursor.take("bearish crossover", "crossunder", "cross under", "crosses down"):
            operator = "crosses_below"
        elif self.cursor.take("crossover", "cross over", "crosses up", "bullish crossover", "cross"):
            operator = "crosses_above"
        else:
            return None
        function, fast, slow = found
        return self._made(
            Comparison(Series(f"{function}(close, {fast})"), operator, Series(f"{function}(close, {slow})"))
        )

    def pair(self) -> tuple[str, int, int] | None:
        """Take two windows of one kind of average, ``50/200 SMA``: return its function, the short and the long one."""
        cursor, numbers = self.cursor, self.numbers
        start = cursor.at
        cursor.skip("a", "an", "the")
        name = cursor.take(*AVERAGES)
        fast = numbers.whole_number()
        cursor.take("day", "period", "bar")
        if fast is not None and cursor.take("/", "and", "&", "x", "-"):
            slow = numbers.bars() or numbers.whole_number()
            name = name or cursor.take(*AVERAGES)
            if name is not None and slow is not None and fast < slow:
                return AVERAGES[name], fast, slow
        cursor.at = start
        return None

    def _short_average_cross(self) -> Condition | None:
        # "the 50 day crosses above the 200 day moving average": the first average borrows the second's kind.
        cursor = self.cursor
        cursor.skip("a", "an", "the")
        bars = self.numbers.bars()
        operator = self._operator() if bars is not None else None
        if operator is None:
            return None
        right = self.numbers.term()
        if right is None or right.function not in ("sma", "ema", "wma") or "close" not in right.text:
            return None
        return self._made(Comparison(Series(f"{right.function}(close, {bars})"), operator, right))

    def _move(self) -> Condition | None:
        # "up 5% over 10 days", "price has fallen more than 10% in a month"
        cursor = self.cursor
        cursor.skip("the", "it", "price", "stock", "is", "has", "been", "close", "symbol", "closing")
        tail = cursor.at
        if cursor.sees("within"):
            return self._price_distance()
        if cursor.take(*_UPWARD):
            sign = 1
        elif cursor.take(*_DOWNWARD):
            sign = -1
        else:
            return None
        start = cursor.at
        cursor.take("for")
        streak = self.numbers.streak()
        if streak is not None:
            return self._run("close", sign > 0, streak)
        cursor.at = start
        cursor.take("by")
        strict = cursor.take("more than", "over") is not None
        if not strict:
            cursor.take("at least")
        percent = cursor.percent()
        if percent is None:
            return None
        or_more = cursor.take("or more", "or better") is not None
        today = cursor.take(*_TODAY)
        if today is not None:
            self.numbers.check_daily(today)
            bars: int | None = 1
        elif cursor.sees("from", "off", "below", "above", "under"):
            cursor.at = tail
            return self._price_distance()
        elif not cursor.take("over", "in", "within", "during", "for"):
            raise Refused("a move in percent needs its time, such as up 3% today, up 3% over 10 days, or from entry")
        else:
            cursor.take("the")
            bars = self.numbers.bars()
        if bars is None:
            return None
        operator = (">" if sign > 0 else "<") + ("" if strict and not or_more else "=")
        subject = Series(f"percent_change(close, {bars})")
        return self._made(Comparison(subject, operator, Series(number_text(sign * percent))))

    def _price_distance(self) -> Condition | None:
        # After "RSI below 30 and", what is 5% from its high may be either.
        own = self.made[-1].subject if self.made else Series("close")
        return self._distance(Series("close")) if own.kind == "price" else None

    def _new_extreme(self) -> Condition | None:
        # "makes a new 20 day high", "at a 52 week low", "20 day breakout"
        cursor = self.cursor
        cursor.skip("the", "a", "an", "it", "price", "stock", "close", "is", "there is")
        verb = cursor.take(
            "makes",
            "make",
            "hits",
            "hit",
            "reaches",
            "reach",
            "sets",
            "at",
            "breaks to",
            "on",
            "closes at",
            "new",
            "prints",
            "making",
            "hitting",
            "setting",
            "breaks",
            "breaks its",
        )
        cursor.skip("a", "an", "the", "new")
        bars = self.numbers.bars()
        if bars is None:
            return None
        if cursor.take("breakout", "high breakout", "breakouts"):
            return self._made(self._extreme_comparison("high", bars, ">"))
        if cursor.take("breakdown", "low breakdown", "breakdowns"):
            return self._made(self._extreme_comparison("low", bars, "<"))
        side = cursor.take("high", "low", "highs", "lows")
        if side is None or not (verb or cursor.ended or cursor.sees(*_AFTER_LEVEL) or self.is_clause()):
            return None
        return self._made(self._extreme_comparison(side.rstrip("s"), bars, ">" if side.startswith("high") else "<"))

    def _extreme_comparison(self, side: str, bars: int, operator: str) -> Comparison:
        function = "highest" if side == "high" else "lowest"
        # Of the bars before: no close lies above a high that counts its own bar.
        return Comparison(Series("close"), operator, Series(f"lag({function}({side}, {bars}), 1)"))

    def _without_subject(self) -> Condition | None:
        cursor = self.cursor
        is_it = cursor.take("it", "they", "this", "that") is not None
        cursor.take("also", "a")
        closes = cursor.sees("closes")
        negated, operator = self._maybe_negated_operator()
        if operator is None:
            return None
        self.is_elliptic = True
        is_dollar = cursor.sees("$")
        own = self.made[-1] if self.made else None
        if closes and own is not None and own.subject.kind == "price":
            own = Comparison(Series("close"), own.operator, own.value)
        value = self._value(own.subject if own else None)
        if value is None:
            return self._made(self._mirrored(operator), negated) if own is None else None
        subject = Series("close") if is_dollar else self._subject_for(value, own, is_it)
        return self._made(_settled(subject, operator, value), negated)

    def _mirrored(self, operator: str) -> Comparison:
        # "buy when MACD crosses above its signal, sell when it crosses below"
        crosses = operator.startswith("crosses")
        known = [each for each in self.known if each.operator.startswith("crosses")] if crosses else self.known
        if len(known) != 1 or operator not in _OPPOSITES[known[0].operator]:
            raise Refused(f"it {operator.replace('_', ' ')} what? say both sides")
        return Comparison(known[0].subject, operator, known[0].value)

    def _subject_for(self, value: Series, own: Comparison | None, is_it: bool) -> Series:
        candidates = [own.subject] if own else list(dict.fromkeys(each.subject for each in self.known))
        if value.function in ("highest", "lowest", "lag") or value.function.startswith("bollinger"):
            candidates = [each for each in candidates if each.function in SERIES] or [Series("close")]
        elif value.is_price_like:
            candidates = [each for each in candidates if each.is_price_like] or [Series("close")]
            if own is None and candidates[0].text not in SERIES:
                # After "the 50 day crosses above the 200 day", what breaks above the 20 day may be the price.
                candidates.append(Series("close"))
        if not is_it and len(candidates) > 1 and value.is_constant and 0 <= float(value.text) <= 100:
            candidates = [each for each in candidates if each.is_bounded] or candidates
        if len(candidates) != 1:
            which = ", ".join(each.text for each in candidates) or "there is nothing that it could mean"
            raise Refused(f"what is compared with {value.text} is not said ({which})")
        return candidates[0]

    def _with_subject(self) -> Condition | None:
        cursor = self.cursor
        cursor.take("it is", "it")
        subject = self.numbers.series()
        if subject is None:
            return None
        tail = self.cursor.at
        for read in (self._state, self._trend, self._touch, self._between, self._distance, self._multiple):
            found = read(subject)
            if found is not None:
                return found
            cursor.at = tail
        limited = self._or_below(subject)
        if limited is not None:
            return limited
        cursor.at = tail
        negated, operator = self._maybe_negated_operator()
        if operator is None:
            return None
        value = self._value(subject)
        return None if value is None else self._made(_settled(subject, operator, value), negated)

    def _or_below(self, subject: Series) -> Condition | None:
        # "RSI is 30 or below"
        cursor = self.cursor
        if not cursor.take(*_STILL):
            return None
        value = self._value(subject)
        if value is None:
            return None
        if cursor.take("or below", "or lower", "or less", "or under"):
            return self._made(Comparison(subject, "<=", value))
        if cursor.take("or above", "or higher", "or more", "or over"):
            return self._made(Comparison(subject, ">=", value))
        return None

    def _state(self, subject: Series) -> Condition | None:
        cursor = self.cursor
        cursor.skip("is", "are", "gets", "becomes", "turns", "goes", "in", "territory", "an")
        limits = {"rsi": (30, 70), "stochastic_k": (20, 80), "stochastic_d": (20, 80), "cci": (-100, 100)}
        if subject.function in limits:
            low, high = limits[subject.function]
            word = cursor.take("oversold", "overbought")
            if word is not None:
                cursor.take("territory", "zone", "levels")
                operator, limit = ("<", low) if word == "oversold" else (">", high)
                return self._made(Comparison(subject, operator, Series(str(limit))))
        if subject.function in ("macd", "macd_signal", "macd_histogram", "roc", "percent_change", "momentum", "cci"):
            word = cursor.take("positive", "negative")
            if word is not None:
                return self._made(Comparison(subject, ">" if word == "positive" else "<", Series("0")))
        return None

    def _trend(self, subject: Series) -> Condition | None:
        cursor = self.cursor
        cursor.take("is", "are", "has been", "keeps", "have been")
        rising = cursor.take("rising", "increasing", "going up", "trending up", "sloping up")
        falling = cursor.take("falling", "decreasing", "going down", "trending down", "sloping down", "declining")
        is_lasting = rising is not None or falling is not None
        if not is_lasting:
            # "Up for a month" may be up in all; only "in a row" says up on each day.
            rising, falling = cursor.take(*_UPWARD), cursor.take(*_DOWNWARD)
            if (rising is None) == (falling is None):
                return None
        if cursor.take("over"):
            raise Refused("that reads two ways; say rising for 10 days in a row, or up 5% over 10 days")
        start = cursor.at
        cursor.take("for", "for at least")
        bars = self.numbers.streak()
        if bars is None and is_lasting:
            bars = self.numbers.each_bar() if cursor.at > start else 1
            if cursor.sees(*_ABOVE, *_BELOW, "through", "back"):
                return None
        return None if bars is None else self._run(subject.text, rising is not None, bars)

    def _touch(self, subject: Series) -> Condition | None:
        cursor = self.cursor
        if subject.text != "close" or not cursor.take("touches", "touch", "hits", "reaches", "tags", "touching"):
            return None
        band = self.numbers.term()
        if band is None or band.function not in ("bollinger_upper", "bollinger_lower"):
            return None
        upper = band.function == "bollinger_upper"
        return self._made(Comparison(Series("high" if upper else "low"), ">=" if upper else "<=", band))

    def _between(self, subject: Series) -> Condition | None:
        cursor = self.cursor
        cursor.skip(*_STILL)
        negated = cursor.take("not") is not None
        word = cursor.take("between", "inside", "within")
        if word is None:
            return None
        low, high = self.numbers.bands() or (None, None)
        if word == "between" and low is None:
            low = self._value(subject)
            high = self._value(subject) if low is not None and cursor.take("and", "to") else None
        if low is None or high is None:
            return None
        if low.is_constant != high.is_constant:
            raise Refused(f"between {low.text} and {high.text}? say both in full")
        self._check_kinds(subject, low)
        self._check_kinds(subject, high)
        self.made.append(Comparison(subject, ">=", low))
        return Condition(f"{'not ' if negated else ''}between({subject.text}, {low.text}, {high.text})")

    def _distance(self, subject: Series) -> Condition | None:
        # "is at least 5% above its 50 day moving average", "drops 10% below its 52 week high"
        cursor = self.cursor
        cursor.skip(*_STILL, *_MOVING, "has")
        verb = cursor.take(*_RISING, *_UPWARD, *_FALLING, *_DOWNWARD)
        rises, falls = verb in (*_RISING, *_UPWARD), verb in (*_FALLING, *_DOWNWARD)
        cursor.take("by")
        within = cursor.take("within", "less than", "no more than", "at most", "not more than", "no less than")
        strict = within is None and cursor.take("more than", "over") is not None
        if not strict and within is None:
            cursor.take("at least")
        percent = cursor.percent()
        if percent is None:
            return None
        way = cursor.take(*_ABOVE, *_BELOW, "off", "from", "off of", "of")
        base = self._base(subject) if way is not None else None
        if base is None or percent >= 100:
            return None
        if within is not None:
            return self._near(subject, within, percent, "" if way is None else way, base) if verb is None else None
        self._check_kinds(subject, base)
        above = way in _ABOVE or (rises and way in ("off", "from", "off of"))
        below = way in _BELOW or (falls and way in ("off", "from", "off of"))
        below = below or (verb is None and way in ("off", "off of") and base.function == "highest")
        if above == below or (above and falls) or (below and rises):
            raise Refused(f"is that above {base.text}, below it, or within {percent:g}% of it? say which")
        if (above and base.function == "highest") or (below and base.function == "lowest"):
            base = Series(f"lag({base.text}, 1)")
        value = Series(f"{base.text} * {number_text(1 + percent / 100 if above else 1 - percent / 100)}")
        return self._made(Comparison(subject, (">" if above else "<") + ("" if strict else "="), value))

    def _near(self, subject: Series, within: str, percent: float, way: str, base: Series) -> Condition | None:
        # "within 2% of the 52 week high", "less than 5% below it": no price is above the highest or below the lowest.
        if within == "no less than" or (within == "within") != (way in ("of", "from")):
            return None
        self._check_kinds(subject, base)
        low, high = (Series(f"{base.text} * {number_text(1 + sign * percent / 100)}") for sign in (-1, 1))
        equal = "" if within == "less than" else "="
        if base.function == "highest" and way not in _ABOVE:
            return self._made(Comparison(subject, f">{equal}", low))
        if base.function == "lowest" and way not in _BELOW:
            return self._made(Comparison(subject, f"<{equal}", high))
        if within != "within":
            raise Refused(f"{within} {percent:g}% {way} it reads two ways; say within {percent:g}% of it")
        self.made.append(Comparison(subject, ">=", low))
        return Condition(f"between({subject.text}, {low.text}, {high.text})")

    def _base(self, subject: Series) -> Series | None:
        with self._averaging(subject):
            return self.numbers.term()

    def _multiple(self, subject: Series) -> Condition | None:
        # "volume is twice its average" is at least twice: no two numbers are equal to the last digit.
        cursor = self.cursor
        if not cursor.take("is", "are"):
            return None
        start = cursor.at
        word = cursor.take(*_MULTIPLES)
        factor = _MULTIPLES[word] if word is not None else cursor.number()
        is_multiple = word is not None or (factor is not None and cursor.take("x", "times") is not None)
        if not is_multiple or factor is None:
            return None
        cursor.at = start
        value = self._value(subject)
        if value is not None and factor <= 1:
            raise Refused(f"at least {value.text} or at most? say which")
        return None if value is None else self._made(_settled(subject, ">=", value))

    def _maybe_negated_operator(self) -> tuple[bool, str | None]:
        cursor = self.cursor
        start = cursor.at
        cursor.take("is", "are", "does", "do")
        negated = cursor.take("not", "isn't", "aren't", "doesn't") is not None
        if not negated:
            cursor.at = start
        return negated, self._operator()

    def _operator(self) -> str | None:
        cursor = self.cursor
        start = cursor.at
        sign = cursor.take(*_SIGNS)
        if sign is not None:
            return _SIGNS[sign]
        if cursor.take(*_CROSSING):
            cursor.take("back")
            if cursor.take("above", "over", "up through", "up above", "to above", "up over"):
                return "crosses_above"
            if cursor.take("below", "under", "down through", "down below", "beneath", "to below"):
                return "crosses_below"
        elif cursor.take(*_BREAKING, *_BREAKOUTS):
            if cursor.take("above", "over", "out above", "through", "up through"):
                return "breaks_above"
            if cursor.take("below", "under", "down through", "down below", "out below"):
                return "breaks_below"
        elif cursor.take("exceeds", "exceed", "exceeding"):
            return ">"
        else:
            cursor.skip(*_STILL, *_MOVING, "has", "been", "risen", "fallen", "currently", "now", "still")
            rising = cursor.take(*_RISING) is not None
            falling = not rising and cursor.take(*_FALLING) is not None
            cursor.take("back")
            rising = cursor.take("up") is not None or rising
            falling = cursor.take("down") is not None or falling
            cursor.take("to")
            if cursor.take(*_AT_LEAST):
                return None if falling else ">="
            if cursor.take(*_AT_MOST):
                return None if rising else "<="
            if cursor.take(*_ABOVE, *(("through",) if rising else ())):
                return None if falling else ">"
            if cursor.take(*_BELOW, *(("through",) if falling else ())):
                return None if rising else "<"
            sign = cursor.take(*_SIGNS)
            if sign is not None and not rising and not falling:
                return _SIGNS[sign]
        cursor.at = start
        return None

    def _value(self, subject: Series | None) -> Series | None:
        is_volume = subject is not None and subject.kind == "volume"
        with self._averaging(subject):
            return self._amount(subject, is_volume)

    @contextmanager
    def _averaging(self, subject: Series | None) -> Iterator[None]:
        self.numbers.averaged = _averaged(subject)
        try:
            yield
        finally:
            self.numbers.averaged = "close"

    def _amount(self, subject: Series | None, is_volume: bool) -> Series | None:
        cursor, numbers = self.cursor, self.numbers
        multiple = cursor.take(*_MULTIPLES)
        if multiple is not None:
            cursor.take("of")
            base = numbers.term()
            return None if base is None else Series(f"{number_text(_MULTIPLES[multiple])} * {base.text}")
        if cursor.take("zero line", "the zero line", "zero", "the centerline", "centerline"):
            return Series("0")
        # "1m" is a million beside a volume and a minute elsewhere.
        found = None if is_volume and cursor.peek(1) in _MAGNITUDES else numbers.series()
        if found is not None:
            return found
        if subject is not None and subject.function in ("sma", "ema", "wma"):
            # "50 day moving average above the 200 day": the second borrows the first's kind.
            start = cursor.at
            cursor.take("the", "its")
            bars = numbers.bars()
            if bars is not None:
                return Series(f"{subject.function}({'volume' if is_volume else 'close'}, {bars})")
            cursor.at = start
        return self._number(subject, is_volume)

    def _number(self, subject: Series | None, is_volume: bool) -> Series | None:
        cursor = self.cursor
        cursor.take("the", "a")
        is_money = cursor.take("$") is not None
        is_negative = cursor.take("-", "minus", "negative") is not None
        value = cursor.number()
        if value is None:
            return None
        if not is_negative and not is_money and cursor.take("x", "times", "*"):
            cursor.take("of")
            base = self.numbers.term()
            return None if base is None else Series(f"{number_text(value)} * {base.text}")
        if is_volume:
            value *= _MAGNITUDES.get(cursor.take(*_MAGNITUDES) or "", 1.0)
            cursor.take("shares")
        elif is_money or (subject is not None and subject.is_price_like):
            cursor.take("dollars", "usd")
        elif subject is not None and (subject.function in ("percent_change", "roc") or subject.is_bounded):
            cursor.take("%", "percent")
        cursor.take("level", "mark")
        return Series(number_text(-value if is_negative else value))

    def _check_kinds(self, subject: Series, value: Series) -> None:
        # The bar's own close is never above its high, nor above itself.
        if subject.kind == "price" and value.text in ("high", "low", subject.text):
            raise Refused(f"which {value.text}? say yesterday's {value.text}, or the 20 day high or low")
        if subject.is_bounded and value.is_constant and not 0 <= float(value.text) <= 100:
            raise Refused(f"{subject.text} runs from 0 to 100, and is never {value.text}")
        if subject.kind and value.kind and subject.kind != value.kind:
            raise Refused(f"{subject.text} and {value.text} are of different kinds and cannot be compared")

    def _made(self, comparison: Comparison, negated: bool = False) -> Condition:
        self._check_kinds(comparison.subject, comparison.value)
        self.made.append(comparison)
        self.numbers.spoken += f" {comparison.text}"
        return Condition(f"not ({comparison.text})" if negated else comparison.text)


def _averaged(subject: Series | None) -> str:
    # What "its 20 day average" is of, beside that subject.
    kind = "" if subject is None else subject.kind
    return "close" if subject is None or kind in ("", "price") else "volume" if kind == "volume" else subject.text


def _own(value: Series) -> list[str]:
    # What an extreme is the extreme of: volume, or an indicator.
    return [value.text.partition("(")[2].rpartition(", ")[0]]


def _settled(subject: Series, operator: str, value: Series) -> Comparison:
    is_extreme = value.function in ("highest", "lowest") and subject.text in (*SERIES, *_own(value))
    if is_extreme:
        # No price crosses the extreme that counts its own bar; a break is of the one before.
        value = Series(f"lag({value.text}, 1)")
    if operator.startswith("breaks"):
        past_extreme = is_extreme or value.text.startswith(("lag(highest", "lag(lowest"))
        side = operator.removeprefix("breaks_")
        operator = {"above": ">", "below": "<"}[side] if past_extreme else f"crosses_{side}"
    return Comparison(subject, operator, value)
