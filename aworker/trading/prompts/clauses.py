"""A prompt's clauses: what it buys and sells by, its limits, symbols and bars, and which way to read it is taken.

Invariant: what two cheapest readings would trade differently is refused, not chosen.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from aworker.trading.prompts.chart import Chart, TooHard
from aworker.trading.prompts.conditions import check_possible, opposite_rule, written
from aworker.trading.prompts.lattice import MOST_TOKENS, Lattice, Number, lexicon_table, tokens_of
from aworker.trading.prompts.platforms import in_words
from aworker.trading.prompts.series import NotRead, Scope, plain
from aworker.trading.prompts.titles import named, without_title

CLAUSE_COST = 1.0
CLOSE_CALL = 0.05
_QUESTION = re.compile(
    r"(?is)\s*(?!(?:which|what) (?:stocks|names|symbols|tickers|shares|ones)\b|what about an?\b"
    r"|how (?:do|can|would|could) i (?:get|make|set|tell|build|have|let)\b|is there a way to\b)"
    r"(?:should|what|why|how|which|does|do|is|are|when should)\b.*\?\s*$"
)
_BOTH_WAYS = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_BREAKS = frozenset([".", "\n", ",", ":", "and", "&", "&&", "but", "also", "then"])
_DANGLING = frozenset(["and", "or", "not", "unless", "but", "if", "when", "while", "is", "then"])


class Read(NamedTuple):
    """What a prompt says."""

    entry: str
    exit: str | None
    risk: dict[str, float | int]
    symbols: tuple[str, ...]
    timeframe: str | None
    assumptions: tuple[str, ...]
    name: str | None = None
    rank: str | None = None
    title: str | None = None
    is_mended: bool = False


class Template(NamedTuple):
    """A strategy that has a name of its own; ``{n}`` in its rules is its window, ``{half}`` half of it."""

    entry: str
    exit: str | None
    rank: str | None
    window: int


@cache
def templates() -> dict[str, Template]:
    """Read the named strategies by their titles."""
    table = lexicon_table()["template"]
    return {
        title: Template(each["entry"], each.get("exit"), each.get("rank"), each.get("window", 0))
        for title, each in table.items()
    }


def template_rules(title: str, window: int | None = None) -> Template:
    """Return a named strategy with its window put in."""
    template = templates()[title]
    bars = window or template.window

    def filled(text: str | None) -> str | None:
        return None if text is None else text.replace("{n}", str(bars)).replace("{half}", str(max(1, bars // 2)))

    return Template(filled(template.entry) or "", filled(template.exit), filled(template.rank), bars)


def read(text: str) -> Read:
    """Read a prompt. Raises NotRead."""
    if is_question(text):
        raise NotRead("it is a question; say what is to be done", is_trap=True)
    name, text = named(text)
    text = in_words(text)
    titled = without_title(text)
    if titled is not None:
        bare: Read | None = None
        with suppress(NotRead):
            bare = _read(titled.body, is_titled=titled.has_series)._replace(name=name)
        if bare is not None:
            return bare if titled.is_title else _alike(bare, text)
    return _read(text)._replace(name=name)


def _alike(bare: Read, text: str) -> Read:
    """Return what a prompt says without its heading. Raises NotRead where that may be a condition of its own."""
    try:
        whole = _read(text)
    except NotRead:
        return bare
    if whole[1:5] != bare[1:5] or _parts(whole.entry) != _parts(bare.entry):
        raise NotRead(
            "its heading may be a title or a condition of its own", is_trap=True, choices=(shown(bare), shown(whole))
        )
    return bare


def _parts(rule: str) -> set[str]:
    return {_bare(part.strip()) for part in rule.split(" and ")}


def _read(text: str, *, is_titled: bool = False) -> Read:
    lattice = lattice_of(text)
    for at, edges in enumerate(lattice.edges):
        for edge in edges:
            if edge.kind == "TAKEN_BACK":
                words = lattice.written(at, edge.end)
                raise NotRead(f"{words!r} takes something back; say it once, as it is meant", is_trap=True, words=words)
    readings = readings_of(lattice)
    made: list[tuple[float, Read]] = []
    reason: NotRead | None = None
    for cost, clauses in readings:
        try:
            made.append((cost, Strategy(Scope(is_titled=is_titled or lattice.has_defined)).settle(clauses)))
        except NotRead as error:
            if reason is None or "'it'" in str(reason):
                reason = error
    if not made:
        raise reason or NotRead("it says nothing that can be traded")
    if reason is not None and made[0][0] > readings[0][0] + CLOSE_CALL:
        raise reason
    cheapest = [one for cost, one in made if cost <= made[0][0] + CLOSE_CALL]
    other = next((one for one in cheapest if one[:5] != cheapest[0][:5]), None)
    if other is not None:
        both = (shown(cheapest[0]), shown(other))
        raise NotRead(
            f"it can be read as {both[0]}, and as {both[1]}; write the one that is meant", is_trap=True, choices=both
        )
    slips = tuple(f"{written_as}: {meant}" for written_as, meant in lattice.slips)
    assumptions = cheapest[0].assumptions + slips + passed_over(lattice)
    return cheapest[0]._replace(assumptions=assumptions, is_mended=bool(slips))


def passed_over(lattice: Lattice) -> tuple[str, ...]:
    """Say which common words were passed over, since nobody told what they mean here."""
    return (f"passed over: {', '.join(dict.fromkeys(lattice.passed))}",) if lattice.passed else ()


def is_question(text: str) -> bool:
    """Say whether a text asks something, other than for a strategy."""
    return _QUESTION.match(text) is not None


def sentences(text: str) -> list[str]:
    """Cut a text where sentences and lines end."""
    return [each.strip() for each in re.split(r"(?<=[.;!\n])\s+|[\n;]", text) if each.strip()]


def shown(one: Read) -> str:
    """Write what was read as rules, which are a prompt too."""
    parts = [f"entry: {one.entry}"]
    if one.exit:
        parts.append(f"exit: {one.exit}")
    parts += [f"{name}: {value}" for name, value in one.risk.items()]
    parts += [f"symbols: {', '.join(one.symbols)}"] if one.symbols else []
    return "\n".join(parts)


def lattice_of(text: str) -> Lattice:
    """Look a text's words up. Raises NotRead for what cannot be said, is not known or reads two ways by itself."""
    if len(tokens_of(text)) > MOST_TOKENS:
        raise NotRead(f"it has more than {MOST_TOKENS} words and signs")
    lattice = Lattice(text)
    for kind in ("UNSUPPORTED", "PATTERN", "LANGUAGE"):
        for place, edges in enumerate(lattice.edges):
            for edge in edges:
                is_defined = kind == "PATTERN" and lattice.is_defined(edge.end)
                if edge.kind == kind and not is_defined and not lattice.is_inside(place, edge.end):
                    words = lattice.written(place, edge.end)
                    if kind == "LANGUAGE":
                        raise NotRead(f"{words!r} is {edge.value}; English is read", what="language", words=words)
                    raise NotRead(
                        f"{words!r} cannot be said; {edge.value}", is_trap=True, what=str(edge.value), words=words
                    )
    for token in lattice.tokens:
        if token.number is not None and _BOTH_WAYS.fullmatch(token.written.strip()):
            raise NotRead(f"{token.written!r} may be a thousand or a decimal; write it without the point", is_trap=True)
    if lattice.unknown:
        words = ", ".join(dict.fromkeys(repr(token.written) for token in lattice.unknown[:5]))
        script = next((token.text for token in lattice.unknown if any(ord(each) > 0x2FF for each in token.text)), None)
        raise NotRead(
            f"{words} is not known{'' if script is None else '; write in English'}",
            words=" ".join(token.written for token in lattice.unknown),
        )
    said = [token.text for token in lattice.tokens if token.text not in (".", "\n", ",")]
    if said and said[-1] in _DANGLING:
        raise NotRead(f"it ends with {said[-1]!r}", words=said[-1])
    return lattice


def readings_of(lattice: Lattice, symbol: str = "clause") -> list[tuple[float, tuple[Any, ...]]]:
    """Return the cheapest ways to cut a prompt into clauses. Raises NotRead where there is none."""
    try:
        best = _cut(lattice, Chart(lattice), symbol)
    except (TooHard, RecursionError):
        raise NotRead("it is too long to be read") from None
    if best[-1]:
        return sorted(best[-1], key=lambda each: each[0])
    reached = max(place for place, known in enumerate(best) if known)
    words = lattice.written(reached, reached + 8)
    raise NotRead(
        f"its words are known, how {words!r} belongs to the rest is not; say it in shorter sentences", words=words
    )


def _cut(lattice: Lattice, chart: Chart, symbol: str) -> list[list[tuple[float, tuple[Any, ...]]]]:
    count = len(lattice.tokens)
    best: list[list[tuple[float, tuple[Any, ...]]]] = [[] for _ in range(count + 1)]
    best[0] = [(0.0, ())]
    for start in range(count):
        if not best[start]:
            continue
        if lattice.tokens[start].text == ".":
            _extend(best[start + 1], best[start])
        for end, cost in lattice.reach(start):
            if end > start:
                _extend(best[end], [(known + cost, clauses) for known, clauses in best[start]])
        for connector in ("AND", "COMMA", "THEN", "OTHERWISE"):
            for end, readings in chart.read(connector, start).items():
                _extend(best[end], [(known + 0.4 + readings[0].cost, clauses) for known, clauses in best[start]])
        for end, readings in chart.read(symbol, start).items():
            for reading in readings:
                if reading.value[0] == "bare" and start and lattice.tokens[start - 1].text not in _BREAKS:
                    continue  # what only says what is so begins where something ends
                cost = reading.cost + CLAUSE_COST
                # Rules without a word for buying stand before those for selling.
                late = 2.0 if reading.value[0] == "bare" else 0.0
                more = [
                    (known + cost + late * any(one[0] == "exit" for one in clauses), (*clauses, reading.value))
                    for known, clauses in best[start]
                ]
                _extend(best[end], more)
    return best


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
class Strategy:
    """What the clauses of one reading give."""

    scope: Scope = field(default_factory=Scope)
    entries: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    risk: dict[str, float | int] = field(default_factory=dict)
    symbols: dict[str, None] = field(default_factory=dict)
    rank: str | None = None
    template: tuple[str, Template] | None = None
    about: bool = False
    is_otherwise: bool = False
    """Whether it is sold as soon as the rule to buy holds no more."""

    def settle(self, clauses: tuple[Any, ...]) -> Read:
        """Go through the clauses in order. Raises NotRead."""
        flat = flattened(clauses)
        self._look_ahead(flat)
        # Exits that stand before the entry speak of what comes later.
        for clause in sorted(flat, key=lambda each: each[0] in ("exit", "sold")):
            self.add(clause)
        self._check_symbols(flat)
        entry = self._entry(flat)
        exits = list(dict.fromkeys(self.exits))
        if self.is_otherwise and not exits:
            exits.append(opposite_rule(entry))
        if exits == [entry]:
            raise NotRead("it buys and sells by the same rule", is_trap=True)
        if len(exits) > 2:
            raise NotRead("it sells on too many rules; join them with 'or'")
        exit_rule = f"({exits[0]}) or ({exits[1]})" if len(exits) == 2 else (exits[0] if exits else None)
        if self.template is not None and not self.entries:
            exit_rule = exit_rule or self.template[1].exit
            self.rank = self.rank or self.template[1].rank
        title = self.template[0] if self.template is not None and not self.entries and not self.filters else None
        return Read(
            entry,
            exit_rule if exit_rule is None else _bare(exit_rule),
            self.risk,
            tuple(self.symbols),
            self.scope.timeframe,
            tuple(self.scope.assumptions),
            None,
            self.rank,
            title,
        )

    def add(self, clause: tuple[Any, ...]) -> None:
        """Take one clause."""
        kind = clause[0]
        self.scope.is_named, self.scope.reached = False, 0
        self.scope.is_exit = kind in ("exit", "sold")
        if kind in ("entry", "bare", "dip"):
            if kind == "dip" and not goes_down(clause[1]):
                raise NotRead("which fall 'the dip' is is not said; say it, such as 5% below its 20 day high")
            self.entries.append(written(self.scope, clause[1]))
        elif kind == "bought":
            self.symbols.update(dict.fromkeys(clause[1]))
            if clause[2] is not None:
                self.entries.append(written(self.scope, clause[2]))
        elif kind in ("filter", "only"):
            subject = self.scope.subject
            self.filters.append(written(self.scope, clause[1]))
            self.scope.subject = subject or self.scope.subject  # an exit before it speaks of what was bought by
        elif kind == "sold":
            self.symbols.update(dict.fromkeys(clause[1]))
            self._leave(*clause[2][1:])
        elif kind == "exit":
            self._leave(*clause[1:])
        elif kind == "leave":
            self._leave_by(clause[1])
        elif kind == "otherwise":
            self.is_otherwise = True
        elif kind == "while_so":
            self.symbols.update(dict.fromkeys(clause[1] or ()))
            self.entries.append(written(self.scope, clause[2]))
            self.is_otherwise = True
        elif kind in ("limit", "hold", "odd", "none"):
            self.limit(clause)
        elif kind == "symbols":
            self.symbols.update(dict.fromkeys(clause[1]))
        elif kind == "rank":
            self._rank(clause[1], clause[2])
        elif kind in ("template", "crossover"):
            self._template(clause)
        elif kind == "about":
            if self.entries:
                raise NotRead(f"what is said of {self.scope.text(clause[1])} is not clear")
            self.scope.subject, self.about = clause[1], True
            self.scope.text(clause[1])
        elif kind == "filled":
            self.scope.assume("orders are filled at the next bar's open")
        elif kind == "forever":
            self.entries.append("close > 0")

    def limit(self, limit: tuple[Any, ...]) -> None:
        """Take a limit. Raises NotRead for one that is given twice or cannot be meant."""
        if limit[0] == "odd":
            raise NotRead(limit[1], is_trap=True)
        if limit[0] == "none":
            return
        name, value = ("max_bars", self.scope.bars(limit[1])) if limit[0] == "hold" else (limit[1], limit[2])
        if name in self.risk and self.risk[name] != value:
            raise NotRead(f"it gives {name} twice, {self.risk[name]} and {value}")
        if name in ("stop_loss", "trailing_stop") and not 0 < value < 0.9:
            raise NotRead(
                f"a stop of {value:.0%} may mean a loss of {value:.0%} or a stop at {value:.0%} of the entry",
                is_trap=value < 1,
            )
        if not value:
            raise NotRead(f"{name} must be more than nothing")
        self.risk[name] = value

    def _look_ahead(self, flat: list[tuple[Any, ...]]) -> None:
        timeframes = {clause[1] for clause in flat if clause[0] == "timeframe"} | set(found(flat, "timeframe_of"))
        if len(timeframes) > 1:
            raise NotRead(f"it names several timeframes: {', '.join(sorted(timeframes))}; a strategy has one")
        self.scope.timeframe = next(iter(timeframes), None)
        self.scope.pair = next((clause[1] for clause in flat if clause[0] == "pairs"), None)
        if self.scope.pair is not None and not any(found(flat, kind) for kind in ("golden", "fast", "slow")):
            fast, slow = map(plain, self.scope.pair[:2])
            raise NotRead(f"what the averages of {fast} and {slow} are for is not said")

    def _leave(self, condition: Any, limits: tuple[Any, ...]) -> None:
        if condition is not None:
            text = written(self.scope, condition)
            # A list of "or" needs no brackets where it is the whole rule.
            self.exits.append(text)
        for limit in limits:
            self.limit(limit)

    def _leave_by(self, many: tuple[Any, ...]) -> None:
        rules = [written(self.scope, each[1]) for each in many if each[0] == "rule"]
        if rules:
            self.exits.append(" or ".join(rules))
        for each in many:
            if each[0] != "rule":
                self.limit(each)

    def _rank(self, order: str | None, series: Any) -> None:
        if self.rank is not None:
            raise NotRead("it ranks twice")
        text = self.scope.text(series)
        self.rank = f"-{text}" if order == "lowest" else text

    def _template(self, clause: tuple[Any, ...]) -> None:
        if self.template is not None:
            raise NotRead("it names two strategies")
        if clause[0] == "crossover":
            fast, slow, function = clause[1]
            name = clause[2] or function or "sma"
            pair = f"{name}(close, {int(fast)}), {name}(close, {int(slow)})"
            made = Template(f"crosses_above({pair})", f"crosses_below({pair})", None, 0)
            self.template = ("Moving average crossover" if name == "sma" else f"{name.upper()} crossover", made)
            left, right = (("average", name, (each, "bar"), None, False) for each in (fast, slow))
            self.scope.crossing, self.scope.function = (left, right, "up"), name
            self.scope.crossings = 1
            return
        title, span = clause[1], clause[2]
        window = None if span is None else self.scope.bars(span)
        if window is not None and not templates()[title].window:
            raise NotRead(f"{title} takes no number of days")
        self.template = (title, template_rules(title, window))

    def _check_symbols(self, flat: list[tuple[Any, ...]]) -> None:
        spoken = self.scope.spoken
        if spoken:
            if len(spoken) > 1 or (self.symbols and set(self.symbols) != spoken) or _speaks_of_stock(flat):
                named = ", ".join(sorted(spoken))
                raise NotRead(
                    f"a prompt looks at the symbol itself, not at {named} beside it; rules can, by of()",
                    is_trap=True,
                    what="another symbol's condition",
                )
            self.symbols.update(dict.fromkeys(spoken))

    def _entry(self, flat: list[tuple[Any, ...]]) -> str:
        entries = list(dict.fromkeys(self.entries))
        if self.template is not None:
            title, template = self.template
            if not entries:
                entries.append(template.entry)
                self.scope.assume(f"{title}: its usual rules")
            elif template.entry not in entries and title not in (
                "Momentum",
                "Trend following",
                "Mean reversion",
                "Breakout",
            ):
                raise NotRead(f"it asks for {title} and for rules of its own; say which")
        bare = [clause for clause in flat if clause[0] == "bare"]
        if len(bare) >= len(entries) - 1 and len(entries) > 1:
            # Sentences that only say what is so are asked for all together.
            return self._entry_of(entries)
        if len(entries) > 1:
            first, second = entries[:2]
            raise NotRead(
                f"it says twice when to buy; write {first} and {second}, or {first} or {second}",
                is_trap=all(clause[0] != "bare" for clause in flat),
                choices=(f"entry: ({first}) and ({second})", f"entry: ({first}) or ({second})"),
            )
        if not entries and len(self.filters) == 1 and any(clause[0] == "only" for clause in flat):
            entries.append(self.filters.pop())
        if not entries and self.about:
            raise NotRead("it says of what it speaks and not when to buy; say its level")
        if not entries:
            raise NotRead("it does not say when to buy")
        return self._entry_of(entries)

    def _entry_of(self, entries: list[str]) -> str:
        if len(entries) + len(self.filters) == 1:
            return _bare(entries[0])
        check_possible([*entries, *self.filters])
        return " and ".join(_grouped(each) for each in (*entries, *self.filters))


def _grouped(text: str) -> str:
    return (
        text
        if re.fullmatch(
            r"[\w.]+(\([^()]*(\([^()]*\)[^()]*)*\))?( [<>]=? [\w.]+(\([^()]*(\([^()]*\)[^()]*)*\))?)?", text
        )
        else f"({text})"
    )


def _bare(text: str) -> str:
    """Take away brackets around the whole of a rule."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for place, each in enumerate(text):
        depth += (each == "(") - (each == ")")
        if depth == 0 and place < len(text) - 1:
            return text
    return _bare(text[1:-1])


def flattened(clauses: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return the clauses that clauses of several are made of."""
    return [each for clause in clauses for each in (clause[1] if clause[0] == "many" else (clause,))]


def found(node: Any, kind: str) -> list[Any]:
    """Return the second field of every tuple of a kind inside a clause."""
    if not isinstance(node, (tuple, list)) or isinstance(node, Number):
        return []
    own = [node[1]] if len(node) > 1 and node[0] == kind else []
    return own + [each for part in node for each in found(part, kind)]


def goes_down(node: Any) -> bool:
    """Say whether a condition holds a fall of any kind."""
    if isinstance(node, str):
        return node in ("<", "<=", "down", "falling", "oversold", "low", "lower")
    if isinstance(node, Number) or not isinstance(node, tuple):
        return False
    return any(goes_down(part) for part in node)


def _speaks_of_stock(flat: list[Any]) -> bool:
    """Whether one condition names its symbol and another speaks of a price of nobody's."""
    kinds = {
        each[0] for each in found([clause for clause in flat if clause[0] != "exit"], "of") if isinstance(each, tuple)
    }
    return "symbol" in kinds and "price" in kinds
