"""From the readings of a prompt to rules: which clauses it has, what each leaves open, and what is assumed.

Invariant: what two cheapest readings would trade differently is refused, not chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aworker.trading.prompts.reading.chart import Chart, TooHard
from aworker.trading.prompts.reading.grammar import Condition, Series, Span, grammar
from aworker.trading.prompts.reading.lattice import MOST_TOKENS, Lattice, Number, named

CLAUSE_COST = 1.0
CLOSE_CALL = 0.05
_OPPOSITE = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "up": "down", "down": "up"}
_BARS = {"1d": 1.0, "1w": 0.2}


_HEADING = re.compile(r"\s*([^:\n.;,()<>=\d%$]{2,50}):\s*(?=\S)")
_QUESTION = re.compile(r"(?is)\s*(?:should|what|why|how|which|does|do|is|are|when should)\b.*\?\s*$")
_DANGLING = frozenset(["and", "or", "not", "unless", "but", "if", "when", "while", "is", "then"])
_HUNDRED = ("rsi", "stochastic", "stochastic_d", "adx")
_BOTH_WAYS = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_MEANS = frozenset(
    [
        "BUY",
        "SELL",
        "IF",
        "REL",
        "CROSS",
        "MOVE",
        "NOT",
        "UNLESS",
        "DONT",
        "ONLY",
        "TICKER",
        "TIMEFRAME",
        "STOP",
        "TARGET",
        "TRAIL",
        "HOLD",
        "ENTRY_LABEL",
        "EXIT_LABEL",
        "SCAN",
        "SYMBOL_LABEL",
        "TIMEFRAME_LABEL",
        "RSI",
        "MACD",
        "SIGNAL",
        "HISTOGRAM",
        "BAND",
        "ATR",
        "ADX",
        "CCI",
        "STOCHASTIC",
        "ROC",
        "VWAP",
        "OBV",
        "AVERAGE",
        "GOLDEN",
        "DEATH",
        "UNSUPPORTED",
        "INSIDE",
        "OUTSIDE",
        "GAP",
        "NUM",
    ]
)


class NotRead(Exception):
    """The prompt cannot be read; ``args[0]`` says why.

    ``is_trap``: it was understood well enough to know that it must not be traded, however else it might be read.
    """

    def __init__(self, reason: str, *, is_trap: bool = False) -> None:
        super().__init__(reason)
        self.is_trap = is_trap


class Read(NamedTuple):
    """What a prompt says."""

    entry: str
    exit: str | None
    risk: dict[str, float | int]
    symbols: tuple[str, ...]
    timeframe: str | None
    assumptions: tuple[str, ...]
    name: str | None = None


def read(text: str) -> Read:
    """Read a prompt. Raises NotRead."""
    if _QUESTION.match(text):
        raise NotRead("it is a question; say what is to be done", is_trap=True)
    heading = _HEADING.match(text)
    if heading is not None and _says_nothing(heading[1]):
        text = text[heading.end() :]
    name, text = named(text)
    lattice = Lattice(text)
    if len(lattice.tokens) > MOST_TOKENS:
        raise NotRead(f"it has more than {MOST_TOKENS} words and signs")
    for place, edges in enumerate(lattice.edges):
        for edge in edges:
            if edge.kind == "UNSUPPORTED" and not lattice.is_inside(place, edge.end):
                words = " ".join(token.written for token in lattice.tokens[place : edge.end])
                raise NotRead(f"{words!r} cannot be said; {edge.value}", is_trap="symbol's condition" in edge.value)
    odd = next(
        (token for token in lattice.tokens if token.number is not None and _BOTH_WAYS.fullmatch(token.written.strip())),
        None,
    )
    if odd is not None:
        raise NotRead(f"{odd.written!r} may be a thousand or a decimal; write it without the point", is_trap=True)
    if lattice.unknown:
        words = ", ".join(dict.fromkeys(repr(token.written) for token in lattice.unknown[:5]))
        raise NotRead(f"{words} is not known")
    said = [token.text for token in lattice.tokens if token.text not in (".", "\n", ",")]
    if said and said[-1] in _DANGLING:
        raise NotRead(f"it ends with {said[-1]!r}")
    try:
        readings = _clauses(lattice)
    except (TooHard, RecursionError):
        raise NotRead("it is too long to be read") from None
    if not readings:
        raise NotRead("its words are known, how they belong together is not; say it in shorter sentences")
    made: list[tuple[float, Read]] = []
    reason: NotRead | None = None
    for cost, clauses in readings:
        try:
            made.append((cost, _Settler().settle(clauses)))
        except NotRead as error:
            if reason is None or "'it'" in str(reason):
                reason = error
    if not made:
        raise reason or NotRead("it says nothing that can be traded")
    if reason is not None and made[0][0] > readings[0][0] + CLOSE_CALL:
        raise reason
    cheapest = [one for cost, one in made if cost <= made[0][0] + CLOSE_CALL]
    if any(one[:5] != cheapest[0][:5] for one in cheapest):
        first, second = cheapest[0], next(one for one in cheapest if one[:5] != cheapest[0][:5])
        raise NotRead(
            f"it can be read as {_shown(first)}, and as {_shown(second)}; write the one that is meant",
            is_trap=first.symbols != second.symbols,
        )
    return cheapest[0]._replace(name=name)


def _shown(one: Read) -> str:
    parts = [f"entry: {one.entry}"]
    if one.exit:
        parts.append(f"exit: {one.exit}")
    parts += [f"{name}: {value}" for name, value in one.risk.items()]
    return " ".join(parts) + (f" symbols: {', '.join(one.symbols)}" if one.symbols else "")


def _clauses(lattice: Lattice) -> list[tuple[float, tuple[Any, ...]]]:
    chart = Chart(lattice, grammar())
    count = len(lattice.tokens)
    best: list[list[tuple[float, tuple[Any, ...]]]] = [[] for _ in range(count + 1)]
    best[0] = [(0.0, ())]
    for start in range(count):
        if not best[start]:
            continue
        for end, cost in lattice.reach(start):
            if end > start:
                _extend(best[end], [(known + cost, clauses) for known, clauses in best[start]])
        for connector in ("AND", "COMMA", "THEN", "OTHERWISE"):
            for end, readings in chart.read(connector, start).items():
                _extend(best[end], [(known + 0.4 + readings[0].cost, clauses) for known, clauses in best[start]])
        for end, readings in chart.read("clause", start).items():
            for reading in readings:
                cost = reading.cost + CLAUSE_COST
                # Rules without a word for buying stand before those for selling.
                late = 2.0 if reading.value[0] == "bare" else 0.0
                _extend(
                    best[end],
                    [
                        (
                            known + cost + (late if any(each[0] == "exit" for each in clauses) else 0.0),
                            (*clauses, reading.value),
                        )
                        for known, clauses in best[start]
                    ],
                )
    return sorted(best[count], key=lambda each: each[0])


def _extend(known: list[tuple[float, tuple[Any, ...]]], more: list[tuple[float, tuple[Any, ...]]]) -> None:
    for cost, clauses in more:
        for place, (other, same) in enumerate(known):
            if same == clauses:
                known[place] = (min(cost, other), same)
                break
        else:
            known.append((cost, clauses))
    known.sort(key=lambda each: each[0])
    del known[4:]


@dataclass
class _Settler:
    """Goes through the clauses in order and remembers what ``it`` and ``the opposite`` are."""

    timeframe: str | None = None
    subject: Series | None = None
    target: Any = None
    function: str | None = None
    crossing: tuple[Series, Any, str] | None = None
    crossings: int = 0
    is_named: bool = False
    """Whether this clause has said of what it speaks."""
    subjects: set[Series] = field(default_factory=set)
    """All that was compared so far."""
    pair: tuple[float, float, str] | None = None
    """The averages of a golden or death cross, where they are named apart."""
    spoken: set[str] = field(default_factory=set)
    """Symbols that a condition speaks of."""
    assumptions: list[str] = field(default_factory=list)

    def settle(self, clauses: tuple[Any, ...]) -> Read:
        flat = [each for clause in clauses for each in (clause[1] if clause[0] == "many" else (clause,))]
        named = {clause[1] for clause in flat if clause[0] == "timeframe"} | set(_found(flat, "timeframe"))
        self.timeframe = self._one(named, "timeframes")
        entries: list[str] = []
        filters: list[str] = []
        exits: list[str] = []
        risk: dict[str, float | int] = {}
        symbols: dict[str, None] = {}
        # Exits that stand before the entry speak of what comes later.
        self.pair = next((clause[1] for clause in flat if clause[0] == "averages"), None)
        if self.pair is not None and not any(_found(clause, "golden") for clause in flat):
            raise NotRead(f"what the averages of {_plain(self.pair[0])} and {_plain(self.pair[1])} are for is not said")
        for clause in sorted(flat, key=lambda each: each[0] == "exit"):
            kind = clause[0]
            self.is_named = False
            if kind in ("entry", "bare"):
                entries.append(self.written(clause[1]))
            elif kind == "bought":
                symbols.update(dict.fromkeys(clause[1]))
                if len(clause) > 2:
                    entries.append(self.written(clause[2]))
            elif kind == "filter":
                filters.append(self.written(clause[1]))
            elif kind == "exit":
                if clause[1] is not None:
                    exits.append(self.written(clause[1], is_exit=True))
                for limit in clause[2]:
                    self._limit(risk, limit)
            elif kind in ("limit", "hold", "odd"):
                self._limit(risk, clause)
            elif kind == "symbols":
                symbols.update(dict.fromkeys(clause[1]))
        if self.spoken:
            if len(self.spoken) > 1 or (symbols and set(symbols) != self.spoken) or _speaks_of_stock(flat):
                raise NotRead(f"a rule looks at the symbol itself, not at {', '.join(sorted(self.spoken))} beside it")
            symbols.update(dict.fromkeys(self.spoken))
        entries = list(dict.fromkeys(entries))
        if len(entries) > 1:
            raise NotRead(
                f"it says twice when to buy; write {entries[0]} and {entries[1]}, or {entries[0]} or {entries[1]}",
                is_trap=all(clause[0] != "bare" for clause in flat),
            )
        if len(exits) > 1:
            exits = [f"({exits[0]}) or ({exits[1]})"] if len(exits) == 2 else self._refuse("it sells on too many rules")
        if not entries and len(filters) == 1 and all(len(clause) == 3 for clause in flat if clause[0] == "filter"):
            entries.append(filters.pop())
        if not entries:
            raise NotRead("it does not say when to buy")
        entry = (
            " and ".join([*entries, *filters]) if not filters else " and ".join(f"({e})" for e in (*entries, *filters))
        )
        return Read(entry, exits[0] if exits else None, risk, tuple(symbols), self.timeframe, tuple(self.assumptions))

    def _refuse(self, why: str) -> Any:
        raise NotRead(why)

    def _one(self, values: set[str], what: str) -> str | None:
        if len(values) > 1:
            raise NotRead(f"it names several {what}: {', '.join(sorted(values))}; a strategy has one")
        return next(iter(values), None)

    def _limit(self, risk: dict[str, float | int], limit: tuple[Any, ...]) -> None:
        if limit[0] == "odd":
            raise NotRead(limit[1], is_trap=True)
        name, value = ("max_bars", self.bars(limit[1])) if limit[0] == "hold" else (limit[1], limit[2])
        if name in risk and risk[name] != value:
            raise NotRead(f"it gives {name} twice, {risk[name]} and {value}")
        if name in ("stop_loss", "trailing_stop") and not 0 < value < 0.9:
            raise NotRead(
                f"a stop of {value:.0%} may mean a loss of {value:.0%} or a stop at {value:.0%} of the entry",
                is_trap=value < 1,
            )
        risk[name] = value

    def bars(self, span: Span) -> int:
        """Turn a span into bars of the timeframe."""
        count, unit = span
        if (count, unit) == (52.0, 5) and (self.timeframe or "1d") == "1d":
            self._assume("52 weeks: 252 bars")
            return 252
        per_day = _BARS.get(self.timeframe or "1d")
        if unit == 1:
            return int(count)
        if per_day is None:
            raise NotRead("weeks and months are not counted in bars of minutes or hours; give a number of bars")
        bars = count * unit * per_day
        if bars != int(bars) or bars < 1:
            raise NotRead(f"{_plain(count)} x {unit} days is no whole number of {self.timeframe or '1d'} bars")
        if unit != 1 and per_day == 1.0:
            self._assume(f"{_plain(count)} x {unit} trading days: {int(bars)} bars")
        return int(bars)

    def _assume(self, text: str) -> None:
        if text not in self.assumptions:
            self.assumptions.append(text)

    # Series.

    def text(self, series: Series, left: Series | None = None) -> str:
        """Write a series; ``left`` is what it is compared with, for averages that do not say of what."""
        kind = series[0]
        if kind == "price":
            return str(series[1])
        if kind == "it":
            return self.text(self._it(), left)
        if kind == "before":
            raise NotRead("what of yesterday is meant is not said")
        if kind == "symbol":
            self.spoken.add(series[1])
            return self.text(series[2], left)
        if kind == "timeframe":
            if self.timeframe != series[1]:
                raise NotRead(f"all rules are on the same bars, was {series[1]} for one of them")
            return self.text(series[2], left)
        if kind == "average":
            return self._average(series, left)
        if kind in ("rsi", "roc"):
            return f"{kind}(close, {int(series[1] or (14 if kind == 'rsi' else 10))})"
        if kind in ("atr", "adx"):
            return f"{kind}({int(series[1] or 14)})"
        if kind == "vwap" and (self.timeframe or "1d") not in ("1d", "1w"):
            raise NotRead(
                "the vwap of a session cannot be said, only one over a number of bars: write vwap(20)", is_trap=True
            )
        if kind in ("cci", "vwap"):
            return f"{kind}({int(series[1] or 20)})"
        if kind in ("stochastic", "stochastic_d"):
            name = "stochastic_k" if kind == "stochastic" else kind
            return f"{name}({int(series[1] or 14)}, 3{', 3' if name == 'stochastic_d' else ''})"
        if kind in ("macd", "signal", "histogram"):
            name = {"macd": "macd", "signal": "macd_signal", "histogram": "macd_histogram"}[kind]
            return f"{name}(close, {int(series[1])}, {int(series[2])}, {int(series[3])})"
        if kind == "band":
            return f"bollinger_{series[1]}(close, {int(series[2])}, {series[3]:g})"
        if kind == "percent_b":
            low, high = "bollinger_lower(close, 20, 2)", "bollinger_upper(close, 20, 2)"
            return f"(close - {low}) / ({high} - {low})"
        if kind == "obv":
            return "obv()"
        if kind == "lag":
            return f"lag({self.text(series[1])}, {series[2]})"
        if kind == "extreme":
            window = self.bars(series[3])
            base = str(series[2]).split(" ")[-1]
            inner = f"{'highest' if series[1].startswith('high') else 'lowest'}({base}, {window})"
            return f"lag({inner}, 1)" if series[4] else inner
        if kind == "middle":
            span = series[1] or (self.target[1] if self.target and self.target[0] == "middle" else None)
            if span is None:
                raise NotRead("the middle of what is not said")
            window = self.bars(span)
            return f"(highest(high, {window}) + lowest(low, {window})) / 2"
        if kind in ("plus", "minus"):
            return f"{self.text(series[1])} {'+' if kind == 'plus' else '-'} {self.text(series[2])}"
        if kind == "times":
            return f"{_plain(series[1])} * {self.text(series[2], left)}"
        raise AssertionError(kind)

    def _average(self, series: Series, left: Series | None) -> str:
        _, function, span, base, is_its = series
        while left is not None and left[0] in ("symbol", "timeframe"):
            left = left[2]
        if base is not None:
            of = self.text(base)
        elif left is not None and left == ("price", "volume"):
            of = "volume"
        elif left is None or left[0] in ("price", "average", "extreme", "lag", "times", "plus", "minus"):
            of = "close"
        elif is_its:
            of = self.text(left)
        elif left[0] in ("band", "vwap"):
            of = "close"
        else:
            raise NotRead(f"the average of what is not said: of {self.text(left)}, or of the close")
        if span is None:
            if of != "volume":
                raise NotRead("the average of how many days is not said")
            span = (20.0, 1)
            self._assume("average volume: of 20 bars")
        if of == "close":
            self.function = function
        return f"{function}({of}, {self.bars(span)})"

    # Conditions.

    def written(self, condition: Condition, *, is_exit: bool = False) -> str:
        """Write a condition as a rule."""
        kind = condition[0]
        if kind == "list":
            return self._listed(condition[1], is_exit)
        if kind == "group":
            return f"({self.written(condition[1], is_exit=is_exit)})"
        if kind == "not":
            return f"not ({self.written(condition[1], is_exit=is_exit)})"
        if kind in ("all", "any"):
            join = " and " if kind == "all" else " or "
            parts = [self.written(each, is_exit=is_exit) for each in condition[1]]
            if kind == "all":
                _check_possible(parts)
            return f"({join.join(parts)})"
        if kind == "of":
            if condition[1] != ("it",):
                self.subject = condition[1]
                self.is_named = True
                self.subjects.add(condition[1])
            return self.written(condition[2], is_exit=is_exit)
        return str(getattr(self, f"_{kind}")(*condition[1:]))

    def _listed(self, parts: tuple[tuple[str | None, Condition], ...], is_exit: bool) -> str:
        joins = {join for join, _ in parts if join is not None}
        texts = [self.written(each, is_exit=is_exit) for _, each in parts]
        if "or" in joins and joins != {"or"}:
            raise NotRead("'and' and 'or' stand side by side; say which belong together with 'either ... or ...'")
        if joins == {"or"}:
            return "(" + " or ".join(texts) + ")" if not is_exit else " or ".join(texts)
        _check_possible(texts if "unless" not in joins else [])
        return " and ".join(
            f"not ({text})" if join == "unless" else text for (join, _), text in zip(parts, texts, strict=True)
        )

    def _it(self) -> Series:
        return self.subject or ("price", "close")

    def _left(self, series: Series | None) -> Series:
        if series is not None and series != ("it",):
            return series
        if not self.is_named and len(self.subjects) > 1:
            raise NotRead("of which is spoken is not said: " + ", ".join(sorted(map(self.text, self.subjects))))
        return self._it()

    def _right(self, left: Series, right: Any) -> Any:
        if right is None or isinstance(right, Number):
            return right
        if right == ("it",):
            if self.target is None or self.target == left:
                raise NotRead("what 'it' is is not said")
            return self.target
        if right[0] == "ago":
            return ("lag", left, self.bars(right[1]))
        if right[0] == "lag_span":
            return ("lag", right[1], self.bars(right[2]))
        return ("lag", left, 1) if right == ("before",) else right

    def _distance(self, left: Series | None, percent: float, sign: str, other: Series) -> str:
        left = self._left(left)
        if left[0] not in ("price", "symbol") or sign not in ("<", ">"):
            raise NotRead("only a price is so many percent above or below something")
        factor = 1 - percent / 100 if sign == "<" else 1 + percent / 100
        self.subject = left
        other = self._right(left, other)
        return f"{self.text(left)} {sign} {_plain(factor)} * {self.text(other, left)}"

    def _touched(self, left: Series | None, right: Any) -> str:
        left = self._left(left)
        right = self._right(left, right)
        if isinstance(right, Number):
            self.subject = left
            return self._level(right)
        if right[0] == "band" and right[1] != "middle" and left[0] == "price":
            price = left[1] if left[1] in ("high", "low") else "close"
            return f"{price} {'<=' if right[1] == 'lower' else '>='} {self.text(right)}"
        if right[0] == "extreme":
            return self._compare(left, ">=" if right[1].startswith("high") else "<=", right)
        if left == ("price", "low"):
            return self._compare(left, "<=", right)
        if left == ("price", "high"):
            return self._compare(left, ">=", right)
        raise NotRead(f"from which side {self.text(right, left)} is touched is not said; write crosses above or below")

    def _closes(self, left: Series | None, sign: str, right: Any) -> str:
        return self._compare(self._closing(), sign, right)

    def _closes_cross(self, left: Series | None, direction: str, right: Any) -> str:
        if right is None and self.crossing is not None:
            right = self.crossing[1]
        return self._cross(self._closing(), direction, right)

    def _closing(self) -> Series:
        # Only a price closes: what was spoken of last may be an indicator.
        bare = self.subject[2] if self.subject is not None and self.subject[0] == "symbol" else self.subject
        self.subject = self.subject if bare == ("price", "close") and self.subject else ("price", "close")
        return self.subject

    def _compare(self, left: Series | None, sign: str, right: Any) -> str:
        left = self._left(left)
        right = self._right(left, right)
        if left[0] == "average" and left[2] is None and left[3] is None:
            raise NotRead("the average of how many days is not said")
        right = self._as_average(left, right)
        if isinstance(right, Number) and self.subject is None and not right.is_money and not self.is_named:
            raise NotRead(f"what is compared with {_plain(right.value)} is not said")
        if isinstance(right, Number):
            value = -right.value if right.sign == "-" else right.value
            if right.sign == "+":
                value = right.value
            if left[0] == "price" and left[1] != "volume" and right.sign == "-":
                raise NotRead("a price below zero")
            if left[0] in _HUNDRED and not 0 <= value <= 100:
                raise NotRead(f"{self.text(left)} runs from 0 to 100, was compared with {_plain(value)}")
            self.target = None
            return f"{self.text(left)} {sign} {_plain(value)}" if value < 1e15 else self._refuse("a number too large")
        self._check_bar(left, right)
        self.target = right
        self.subject = left
        _check_kinds(self, left, right)
        if right[0] == "extreme" and right[1] == ("high" if sign.startswith(">") else "low") and not right[4]:
            # Nothing closes above a highest high that holds its own bar.
            right = (*right[:4], True)
        return f"{self.text(left, right)} {sign} {self.text(right, left)}"

    def _as_average(self, left: Series, right: Any) -> Any:
        if left[0] == "average" and isinstance(right, Number):
            if right.is_money or right.sign or right.value != int(right.value) or not 1 <= right.value <= 1000:
                return right
            self._assume(f"{_plain(right.value)}: the {_plain(right.value)} bar average, as what is compared with it")
            return ("average", left[1], (right.value, left[2][1]), left[3], False)
        return right

    def _cross(self, left: Series | None, direction: str, right: Any) -> str:
        if left in (None, ("it",)) and self.crossing:
            if right is None:
                left = self.crossing[0]
            elif right != self.crossing[1] and self.crossing[0][0] == "average" and not isinstance(right, Number):
                raise NotRead(f"whether {self.text(self.crossing[0])} or the price crosses is not said")
        left = self._left(left)
        right = self._right(left, right)
        if right is None:
            if self.crossing is not None and (left == self.crossing[0]):
                right = self.crossing[1]
            elif self.target is not None:
                right = self.target
            else:
                raise NotRead("what is crossed is not said")
        right = self._as_average(left, right)
        self._check_bar(left, right)
        self.crossing = (left, right, direction)
        self.crossings += 1
        self.subject = left
        if not isinstance(right, Number):
            self.target = right
            if right[0] == "extreme" and not right[4]:
                right = (*right[:4], True)
        return self._crossed(left, direction, right)

    def _check_bar(self, left: Series, right: Any) -> None:
        if left == ("price", "close") and right in (("price", "high"), ("price", "low")):
            raise NotRead(f"which {right[1]} is not said; of so many days, or of yesterday")

    def _crossed(self, left: Series, direction: str, right: Any) -> str:
        name = "crosses_above" if direction == "up" else "crosses_below"
        if isinstance(right, Number):
            value = -right.value if right.sign == "-" else right.value
            return f"{name}({self.text(left)}, {_plain(value)})"
        return f"{name}({self.text(left, right)}, {self.text(right, left)})"

    def _function_cross(self, direction: str, left: Any, right: Any) -> str:
        if isinstance(left, Number):
            return self._cross(right, _OPPOSITE[direction], left)
        return self._cross(left, direction, right)

    def _signal_cross(self, left: Series | None, direction: str) -> str:
        left = self._left(left)
        if left[0] == "macd":
            return self._cross(left, direction, ("signal", *left[1:]))
        if left[0] == "stochastic":
            return self._cross(left, direction, ("stochastic_d", left[1]))
        if self.crossing is not None and left == ("price", "close"):
            return self._cross(self.crossing[0], direction, self.crossing[1])
        raise NotRead("what crosses what is not said")

    def _opposite(self) -> str:
        if self.crossing is None or self.crossings != 1:
            raise NotRead("the opposite of what is not said")
        left, right, direction = self.crossing
        return self._crossed(left, _OPPOSITE[direction], right)

    def _golden(self, direction: str, pair: tuple[float, float, str] | None) -> str:
        if pair is None and self.crossing is not None and self.crossing[0][0] == "average":
            return self._crossed(self.crossing[0], direction, self.crossing[1])
        fast, slow, function = pair or self.pair or (50.0, 200.0, "sma")
        return self._cross(
            ("average", function, (fast, 1), None, False), direction, ("average", function, (slow, 1), None, False)
        )

    def _pair(self, fast: Span, sign: str, slow: Span) -> str:
        if self.function is None:
            raise NotRead(f"what {_plain(fast[0])} and {_plain(slow[0])} are is not said")
        left, right = (("average", self.function, span, None, False) for span in (fast, slow))
        if sign in ("up", "down"):
            return self._cross(left, sign, right)
        return self._compare(left, sign, right)

    def _state(self, series: Series | None, state: str) -> str:
        series = self._left(series)
        kind = series[0]
        if state in ("positive", "negative"):
            if kind not in ("macd", "histogram", "cci", "roc"):
                raise NotRead(f"what is {state} is not said")
            return self._cross(series, "up" if state == "positive" else "down", Number(0.0))
        if state in ("rising", "falling"):
            return f"{state}({self.text(series)}, 1)" if kind != "average" else f"{state}({self.text(series)}, 5)"
        levels = {"rsi": (30, 70), "stochastic": (20, 80), "cci": (-100, 100)}.get(kind)
        if levels is None:
            if kind == "price":
                levels, series = (30, 70), ("rsi", None)
                self._assume("oversold and overbought: by the 14 bar RSI, 30 and 70")
            else:
                raise NotRead(f"{self.text(series)} has no level at which it is {state}")
        low, high = levels
        return f"{self.text(series)} < {low}" if state == "oversold" else f"{self.text(series)} > {high}"

    def _between(self, series: Series | None, low: Any, high: Any) -> str:
        series = series or self._it()
        ends = [
            _plain(end.value * (-1 if end.sign == "-" else 1)) if isinstance(end, Number) else self.text(end, series)
            for end in (low, high)
        ]
        if isinstance(low, Number) and isinstance(high, Number) and float(ends[0]) >= float(ends[1]):
            raise NotRead(f"nothing lies between {ends[0]} and {ends[1]}", is_trap=True)
        return f"between({self.text(series)}, {ends[0]}, {ends[1]})"

    def _near(self, series: Series | None, percent: float, other: Series) -> str:
        series = series or self._it()
        if series[0] != "price":
            raise NotRead("only a price can be near something")
        fraction = _plain(percent / 100)
        if other[0] == "extreme":
            sign, factor = (">=", 1 - percent / 100) if other[1] == "high" else ("<=", 1 + percent / 100)
            return f"close {sign} {_plain(factor)} * {self.text(other)}"
        return f"abs({series[1]} - {self.text(other, series)}) <= {fraction} * {self.text(other, series)}"

    def _new(self, series: Series | None, which: str, span: Span) -> str:
        base = series[1] if series is not None and series[0] == "price" else None
        if " " in which:
            name, sign = ("highest", ">=") if which.startswith("high") else ("lowest", "<=")
            return f"close {sign} {name}(close, {self.bars(span)})"
        sign, name = (">", "highest") if which == "high" else ("<", "lowest")
        self._assume(f"new {which}: the close beyond the {'highs' if which == 'high' else 'lows'} of the bars before")
        return f"close {sign} lag({name}({base if base in ('high', 'low') else which}, {self.bars(span)}), 1)"

    def _touch(self, band: Series) -> str:
        self.subject = ("price", "close")
        sign = {"lower": "<=", "upper": ">="}.get(band[1])
        if sign is None:
            return self._reaches(band)
        return f"close {sign} {self.text(band)}"

    def _reaches(self, series: Series) -> str:
        return f"close >= {self.text(series, ('price', 'close'))}"

    def _level(self, number: Number) -> str:
        series = self._it()
        if series[0] not in ("rsi", "stochastic", "cci", "adx") or number.is_percent or number.is_money:
            raise NotRead(f"what is to be {_plain(number.value)} is not said")
        value = -number.value if number.sign == "-" else number.value
        middle = 0 if series[0] == "cci" else 50
        return f"{self.text(series)} {'>=' if value >= middle else '<='} {_plain(value)}"

    # Bars.

    def _candle(self, direction: str, lag: int) -> str:
        sign = ">" if direction == "up" else "<"
        if lag == 0:
            return f"close {sign} open"
        return f"lag(close, {lag}) {sign} lag(open, {lag})"

    def _streak(self, direction: str, count: float, lag: int) -> str:
        self._assume(f"{_plain(count)} in a row: by closes")
        return f"{'rising' if direction == 'up' else 'falling'}(close, {int(count)})"

    def _after_streak(self, direction: str, before: str, count: float) -> str:
        return " and ".join(
            [self._candle(direction, 0), *(self._candle(before, lag) for lag in range(1, int(count) + 1))]
        )

    def _inside(self, lag: int) -> str:
        if lag:
            return "lag(high, 1) < lag(high, 2) and lag(low, 1) > lag(low, 2)"
        return "high < lag(high, 1) and low > lag(low, 1)"

    def _outside(self, lag: int) -> str:
        return "high > lag(high, 1) and low < lag(low, 1)"

    def _outside_before(self, direction: str | None) -> str:
        rule = "lag(high, 1) > lag(high, 2) and lag(low, 1) < lag(low, 2)"
        return rule if direction is None else f"{rule} and {self._candle(direction, 1)}"

    def _gap(self, direction: str, percent: float, least: str) -> str:
        if (self.timeframe or "1d") != "1d":
            raise NotRead("a gap lies between days; say it on daily bars")
        self.subject = ("price", "close")
        factor = 1 + percent / 100 if direction == "up" else 1 - percent / 100
        sign = ">" if direction == "up" else "<"
        if not percent:
            self._assume("gap: the open beyond the close before")
            return f"open {sign} lag(close, 1)"
        sign += "=" * (least == ">=")
        return f"open {sign} {_plain(factor)} * lag(close, 1)"

    def _moved(self, direction: str, percent: float, span: Span | None, least: str) -> str:
        if span is None:
            raise NotRead(
                f"over what time it is {direction} {_plain(percent)}% is not said; today, or over so many days"
            )
        self.subject = ("price", "close")
        sign, value = (">", percent) if direction == "up" else ("<", -percent)
        sign += "=" * (least == ">=")
        return f"percent_change(close, {self.bars(span)}) {sign} {_plain(value)}"


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.10g}"


def _check_possible(texts: list[str]) -> None:
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
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
            raise NotRead(f"{name} is never above {_plain(low)} and below {highs[name]:g} on one bar")


def _check_kinds(settler: _Settler, left: Series, right: Series) -> None:
    kinds = {_family(left), _family(right)} - {"any"}
    if len(kinds) > 1:
        raise NotRead(f"{settler.text(left, right)} and {settler.text(right, left)} are of different kinds")


def _family(series: Series) -> str:
    kind = series[0]
    if kind in ("symbol", "timeframe", "times"):
        return _family(series[2])
    if kind == "lag":
        return _family(series[1])
    if kind in ("plus", "minus"):
        return _family(series[1])
    if kind == "price":
        return "volume" if series[1] == "volume" else "price"
    if kind == "average":
        return _family(series[3]) if series[3] is not None else "any"
    if kind in ("extreme", "band", "vwap", "middle", "atr"):
        return "price"
    return {"signal": "macd", "stochastic_d": "stochastic"}.get(str(kind), str(kind))


def _found(node: Any, kind: str) -> list[Any]:
    """Return the second field of every tuple of a kind inside a clause."""
    if not isinstance(node, (tuple, list)) or isinstance(node, Number):
        return []
    own = [node[1]] if len(node) == 3 and node[0] == kind else []
    return own + [each for part in node for each in _found(part, kind)]


def _speaks_of_stock(flat: list[Any]) -> bool:
    """Whether one condition names its symbol and another speaks of a price of nobody's."""

    def subjects(node: Any) -> list[Any]:
        if not isinstance(node, (tuple, list)) or isinstance(node, Number):
            return []
        own = [node[1]] if len(node) == 3 and node[0] == "of" and isinstance(node[1], tuple) else []
        return own + [each for part in node for each in subjects(part)]

    kinds = {each[0] for each in subjects([clause for clause in flat if clause[0] != "exit"])}
    return "symbol" in kinds and "price" in kinds


def _says_nothing(heading: str) -> bool:
    lattice = Lattice(heading)
    labels = Lattice(heading + ":")
    kinds = {edge.kind for edges in lattice.edges for edge in edges}
    written = [token.written for token in lattice.tokens]
    if all(word.isupper() for word in written):
        return False
    return not kinds & _MEANS and not any(edge.kind.endswith("_LABEL") for edges in labels.edges for edge in edges)
