"""The conditions that a prompt speaks of, as rule text: comparisons, crossings, breakouts, joined by and, or, not.

What the verbs mean: ``crosses`` is the bar of the crossing; ``breaks above`` too, but for a 20 day high, where it is
any close above the high before it; ``drops below``, ``rises above``, ``is above`` all hold as long as the level does,
so that an entry that was missed on its first bar is not missed for good.

A comparison without a subject ("sell above 70") takes that of the comparison before it, else the entry's own: the only
one, or the only one that runs from 0 to 100 where the number does. When several fit, the prompt is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from aworker.trading.prompts.series import AVERAGES, Refused, Series, SeriesReader, number_text
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

_STILL = ("is", "are", "be", "was", "being", "stays", "stay", "remains", "remain", "trades", "trading", "sits", "gets")
_MOVING = ("goes", "go", "moves", "move", "comes", "closes", "trades", "turns", "gets", "pushes", "moving", "going")
_RISING = ("rises", "rise", "rising", "climbs", "climb", "jumps", "increases", "rallies", "gains", "bounces")
_FALLING = ("drops", "drop", "dropping", "falls", "fall", "falling", "dips", "dip", "declines", "sinks", "decreases")
_CROSSING = ("cross", "crosses", "crossed", "crossing", "has crossed", "crosses back", "cross back")
_BREAKING = ("break", "breaks", "breaking", "breaks out", "break out", "breaking out", "breakout", "broke")

_TODAY = ("today", "on the day", "in a day", "in one day")
_MULTIPLES = {"twice": 2.0, "double": 2.0, "triple": 3.0, "half": 0.5}
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
    """Join conditions with ``and`` or ``or``."""
    if len(parts) == 1:
        return parts[0]
    return Condition(f" {operator} ".join(part.within(operator) for part in parts), operator)


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
        self.is_elliptic = False
        """Whether one of them had no subject of its own."""
        self._depth = 0

    def condition(self) -> Condition | None:
        """Take a condition, up to the next clause; None when there is none.

        Raises Refused when what follows an ``and`` or ``or`` is neither condition nor clause.
        """
        cursor = self.cursor
        cursor.take("either", "both")
        groups: list[list[Condition]] = [[]]
        has_comma = False
        while True:
            part = self._negated()
            if part is None:
                if not groups[0]:
                    return None
                raise Refused("a condition must follow")
            groups[-1].append(part)
            start = cursor.at
            comma = cursor.take(",") is not None
            word = cursor.take("and", "or", "but", "while", "&", "|", "& &", "| |", "as long as", "provided", "plus")
            if not (comma or word) or cursor.ended or cursor.peek() in ("\n", ".", ";", ",", ")") or self.is_clause():
                cursor.at = start
                break
            cursor.take("also", "if", "when", "only if", "only when")
            if word in ("or", "|", "| |"):
                if has_comma:
                    raise Refused("a list with commas and an or reads two ways; join all with or, or use parentheses")
                groups.append([])
            elif word is None:
                # A comma alone may also end the condition before a clause that is read elsewhere.
                has_comma = True
                if len(groups) > 1:
                    raise Refused("a list with commas and an or reads two ways; join all with or, or use parentheses")
        return join("or", [join("and", group) for group in groups])

    def _negated(self) -> Condition | None:
        cursor = self.cursor
        start = cursor.at
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise Refused(f"conditions may be nested {MAX_DEPTH} deep")
            if cursor.take("not"):
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
            crossing = Comparison(Series("rsi(close, 14)"), "<", Series("30"))
        elif cursor.take("overbought"):
            crossing = Comparison(Series("rsi(close, 14)"), ">", Series("70"))
        else:
            return None
        cursor.take("happens", "occurs", "forms", "appears", "signal", "is seen", "conditions")
        return self._made(crossing)

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
        fast = numbers.whole_number()
        cursor.take("day", "period", "bar")
        if fast is not None and cursor.take("/", "and", "&", "x", "-"):
            slow = numbers.bars() or numbers.whole_number()
            name = cursor.take(*AVERAGES)
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
        cursor.skip("the", "it", "price", "stock", "is", "has", "close", "symbol", "closing")
        if cursor.take("up", "gains", "gained", "rises", "rose", "risen", "rallied", "climbs"):
            sign = 1
        elif cursor.take(
            "down", "loses", "lost", "falls", "fell", "fallen", "drops", "dropped", "declines", "declined"
        ):
            sign = -1
        else:
            return None
        cursor.take("by")
        strict = cursor.take("more than", "over") is not None
        if not strict:
            cursor.take("at least")
        percent = cursor.percent()
        if percent is None:
            return None
        or_more = cursor.take("or more", "or better") is not None
        if cursor.take(*_TODAY):
            bars: int | None = 1
        elif cursor.sees("from", "off", "below", "above", "under"):
            return None
        elif not cursor.take("over", "in", "within", "during", "for"):
            raise Refused("a move in percent needs its time, such as over 10 days")
        else:
            cursor.take("the")
            bars = self.numbers.bars()
        if bars is None:
            return None
        operator = (">" if sign > 0 else "<") + ("" if strict and not or_more else "=")
        subject = Series(f"percent_change(close, {bars})")
        return self._made(Comparison(subject, operator, Series(number_text(sign * percent))))

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
        )
        cursor.skip("a", "an", "the", "new")
        bars = self.numbers.bars()
        if bars is None:
            return None
        if cursor.take("breakout", "high breakout"):
            return self._made(self._extreme_comparison("high", bars, ">"))
        if cursor.take("breakdown", "low breakdown"):
            return self._made(self._extreme_comparison("low", bars, "<"))
        side = cursor.take("high", "low", "highs", "lows") if verb else None
        if side is None:
            return None
        return self._made(self._extreme_comparison(side.rstrip("s"), bars, ">" if side.startswith("high") else "<"))

    def _extreme_comparison(self, side: str, bars: int, operator: str) -> Comparison:
        function = "highest" if side == "high" else "lowest"
        # Of the bars before: no close lies above a high that counts its own bar.
        return Comparison(Series("close"), operator, Series(f"lag({function}({side}, {bars}), 1)"))

    def _without_subject(self) -> Condition | None:
        cursor = self.cursor
        cursor.take("it", "they", "this", "that")
        cursor.take("also")
        negated, operator = self._maybe_negated_operator()
        if operator is None:
            return None
        self.is_elliptic = True
        is_dollar = cursor.sees("$")
        own = self.made[-1] if self.made else None
        value = self._value(own.subject if own else None)
        if value is None:
            return self._made(self._mirrored(operator), negated) if operator.startswith("crosses") else None
        subject = Series("close") if is_dollar else self._subject_for(value, own)
        return self._made(_settled(subject, operator, value), negated)

    def _mirrored(self, operator: str) -> Comparison:
        # "buy when MACD crosses above its signal, sell when it crosses below"
        crossings = [each for each in self.known if each.operator.startswith("crosses")]
        if len(crossings) != 1:
            raise Refused(f"it {operator.replace('_', ' ')} what? say both sides")
        return Comparison(crossings[0].subject, operator, crossings[0].value)

    def _subject_for(self, value: Series, own: Comparison | None) -> Series:
        candidates = [own.subject] if own else list(dict.fromkeys(each.subject for each in self.known))
        if value.function in ("highest", "lowest", "lag") or value.function.startswith("bollinger"):
            candidates = [each for each in candidates if each.function in SERIES] or [Series("close")]
        elif value.is_price_like:
            candidates = [each for each in candidates if each.is_price_like] or [Series("close")]
        if len(candidates) > 1 and value.is_constant and 0 <= float(value.text) <= 100:
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
        for read in (self._state, self._trend, self._touch, self._between, self._distance):
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
        cursor.skip("is", "are", "gets", "becomes", "turns", "goes", "in", "territory", "an", "was")
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
        word = cursor.take("rising", "increasing", "rises", "going up", "trending up", "sloping up", "up")
        if word is not None:
            function = "rising"
        else:
            word = cursor.take(
                "falling", "decreasing", "falls", "going down", "trending down", "sloping down", "declining"
            )
            function = "falling"
        if word is None:
            return None
        bars: int | None = 1
        if cursor.take("for", "over"):
            cursor.take("the last", "the past", "at least")
            bars = self.numbers.bars()
            cursor.take("in a row", "straight")
        elif word in ("up", "rises", "falls") or cursor.sees(*_ABOVE, *_BELOW, "through", "back"):
            return None
        return None if bars is None else Condition(f"{function}({subject.text}, {bars})")

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
        if not cursor.take("between"):
            return None
        low = self._value(subject)
        high = self._value(subject) if low is not None and cursor.take("and", "to") else None
        if low is None or high is None:
            return None
        self.made.append(Comparison(subject, ">=", low))
        return Condition(f"{'not ' if negated else ''}between({subject.text}, {low.text}, {high.text})")

    def _distance(self, subject: Series) -> Condition | None:
        # "is at least 5% above its 50 day moving average", "drops 10% below its 52 week high"
        cursor = self.cursor
        cursor.skip(*_STILL, *_MOVING, *_FALLING, *_RISING)
        strict = cursor.take("more than", "over") is not None
        if not strict:
            cursor.take("at least")
        percent = cursor.percent()
        if percent is None:
            return None
        if cursor.take(*_ABOVE):
            operator, factor = ">", 1 + percent / 100
        elif cursor.take(*_BELOW, "off", "from", "off of"):
            operator, factor = "<", 1 - percent / 100
        else:
            return None
        base = self.numbers.term()
        if base is None or factor <= 0:
            return None
        value = Series(f"{base.text} * {number_text(factor)}")
        return self._made(Comparison(subject, operator if strict else f"{operator}=", value))

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
        elif cursor.take(*_BREAKING):
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
        is_volume = subject is not None and "volume" in subject.text
        self.numbers.averaged = "volume" if is_volume else "close"
        try:
            return self._amount(subject, is_volume)
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

    def _made(self, comparison: Comparison, negated: bool = False) -> Condition:
        self.made.append(comparison)
        return Condition(f"not ({comparison.text})" if negated else comparison.text)


def _settled(subject: Series, operator: str, value: Series) -> Comparison:
    is_extreme = value.function in ("highest", "lowest") and subject.function in ("close", "high", "low", "open")
    if is_extreme:
        # No price crosses the extreme that counts its own bar; a break is of the one before.
        value = Series(f"lag({value.text}, 1)")
    if operator.startswith("breaks"):
        past_extreme = is_extreme or value.text.startswith(("lag(highest", "lag(lowest"))
        side = operator.removeprefix("breaks_")
        operator = {"above": ">", "below": "<"}[side] if past_extreme else f"crosses_{side}"
    return Comparison(subject, operator, value)
