"""A prompt as a lattice: its tokens, and over them an edge for each meaning of each phrase that the lexicon knows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

MOST_TOKENS = 400
_TOKEN = re.compile(
    r"""(?P<url>https?://\S+)
      | (?P<ticker>\$[A-Za-z]{1,5}(?![A-Za-z0-9]) | \b[A-Za-z]{2,5}-(?:usd|USD)\b | \b[A-Z]{1,5}\.[A-Z]\b)
      | (?P<number>[-+]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+,\d+(?=\s?(?:%|percent|prozent))|\d+(?:\.\d+)?|\.\d+)
          (?:[ \t]?(?:%|percents?\b|pct\b|prozent\b|pour\ cent\b))?)
      | (?P<word>%[a-zA-Z]\b | [^\W\d_]+(?:\.[^\W\d_]+)*)
      | (?P<line>[\n;•])
      | (?P<sign>->|=>|<=|>=|==|&&|\|\||[-+*/=<>&|(),:.!?~"“”„«»\[\]])
      | (?P<other>\S)""",
    re.VERBOSE,
)
_LISTED = re.compile(r"(?m)^\s*\(?1[.)]\s+(?s:.*)^\s*\(?2[.)]\s+")
_STRAY = frozenset("!?~\"“”„«»'")
_MULTIPLIERS = {"k": 1e3, "thousand": 1e3, "million": 1e6, "mil": 1e6, "mln": 1e6, "mm": 1e6, "billion": 1e9, "bn": 1e9}
_PERCENT = ("percent", "percents", "pct", "prozent")
_MONEY = ("dollar", "dollars", "bucks", "usd", "euro", "euros")
_BEFORE_MONEY = frozenset(
    (
        "under",
        "over",
        "above",
        "below",
        "between",
        "and",
        "than",
        "least",
        "most",
        "at",
        "to",
        "<",
        ">",
        "<=",
        ">=",
        "-",
    )
)
SOFT = frozenset(
    (
        "THEN", "OF", "ITS", "ONE", "THAT", "FOR", "LINE", "SPAN", "TO", "LEVEL", "PERIOD", "SET",
        "PART", "TEMPLATE_WORD", "BYWORD", "BY", "ALL_SYMBOLS", "IN", "WHICHEVER", "TO_LIST", "EXTEND", "STAY",
        "LIES", "SCAN", "ADD", "REPLACE", "REQUIRE", "TIMEFRAME_WORD", "SHARES",
    )
)  # fmt: skip
"""Kinds of words that join what means something: where no reading needs them they may be passed over, at a price."""
ORDERS = frozenset(("BUY", "SELL", "STOP", "TARGET", "TRAIL", "HOLD", "NOT", "UNLESS", "DONT", "ONLY"))
"""Kinds that are never passed over, whatever else their words may be."""
WHOLE = frozenset(
    ("unsupported", "pattern", "language", "not", "unless", "dont", "nothing", "chatter", "ticker", "unit")
)
"""Classes whose phrases hold no other word between their own."""
SOFT_COST = 1.2
STOP_COST = 0.5
"""What it costs to go on with a clause behind the end of a sentence."""
PART_COST = 0.5
"""What it costs more to pass over one word of a phrase that means something whole."""
COMMON_COST = 0.4
FILLER_COST = 0.1
MOST_FILLERS = 2
DEFINING = frozenset(("(", ":", "so", "ie", "meaning", "means", "defined", "namely"))
NEGATING = frozenset(
    ("no", "not", "never", "dont", "unless", "except", "without", "neither", "nor", "none", "avoid", "skip", "nicht")
)
DENYING = frozenset(("no", "without", "never", "not", "dont", "non", "zero"))
CLOSING = frozenset((".", ",", "\n", ")", "and", "or", "please", "pls", "thanks", "at"))
DENIED = frozenset(
    (
        "short selling: a prompt buys; rules can sell short, by side: short",
        "options: only the symbol itself is traded",
        "how much is bought: a strategy says when, not how much",
        "adding to or selling part of a position: it is bought and sold whole",
        "news, sentiment and fundamentals: only prices and volume are known",
    )
)
"""What no strategy has anyway: a prompt that does without it says nothing new."""
BINDING = frozenset(("ANY_OF", "NOT", "UNLESS", "DONT", "BY_NO_MORE", "NO_LIMIT", "IN_BOTH", "OTHERWISE"))
_PARTS = re.compile(r"\{\w+\}|[^{}]+")
_PLAIN = re.compile(r"[a-z]+(?: [a-z]+)*")
SHORTEST_TYPO = 4
"""Letters from which on a word may be a slip of the keyboard."""


class Number(NamedTuple):
    """A number as it was written."""

    value: float
    is_percent: bool = False
    is_money: bool = False
    sign: str = ""
    is_named: bool = False
    """Whether it was said as "the 50"."""


class Token(NamedTuple):
    """A word, a number or a sign, and where it stood."""

    text: str
    start: int
    number: Number | None = None
    written: str = ""


class Edge(NamedTuple):
    """A meaning of the tokens from one place to ``end``."""

    end: int
    kind: str
    value: Any
    cost: float = 0.0


class Branch:
    """A place in the tree of phrases: the words that go on from here, and what ends here means."""

    __slots__ = ("is_end", "meanings", "sets", "words")

    def __init__(self) -> None:
        self.words: dict[str, Branch] = {}
        self.sets: dict[str, Branch] = {}
        """By the name of a set of words: where any of them leads to."""
        self.meanings: list[tuple[int, str, Any]] = []
        """Its place in the lexicon, class, meaning."""
        self.is_end = False
        """Whether a phrase of a set ends here."""


class Place(NamedTuple):
    """Where a phrase is being read: in the tree, or inside a set of words that leads to ``behind``."""

    branch: Branch
    behind: Branch | None


class Lexicon(NamedTuple):
    """What phrases mean, and what is needed to look them up."""

    tree: Branch
    sets: dict[str, Branch]
    alone: dict[str, list[tuple[str, Any]]]
    """What words mean that are a phrase of their own."""
    kinds: frozenset[str]
    fillers: frozenset[str]
    """Words that change nothing inside a phrase: "crosses clearly back above"."""
    spelling: dict[str, str]
    """Short or foreign spellings, and the word that each stands for."""
    words: frozenset[str]
    """Every word of every phrase."""
    meant: frozenset[str]
    """Those of them that a slip of the keyboard may have meant."""
    firm: frozenset[str]
    """Words that no typing error leads to or from: negations, tickers, numbers."""

    def begin(self) -> list[Place]:
        """Return the places before the first word of a phrase."""
        return self._entered(self.tree)

    def after(self, places: list[Place], word: str) -> list[Place]:
        """Return the places that a word leads to."""
        reached: list[Place] = []
        for branch, behind in places:
            further = branch.words.get(word)
            if further is None:
                continue
            if behind is None:
                reached += self._entered(further)
                continue
            if further.words:
                reached.append(Place(further, behind))
            if further.is_end:
                reached += self._entered(behind)
        return reached

    def _entered(self, branch: Branch) -> list[Place]:
        places = [Place(branch, None)]
        for name, behind in branch.sets.items():
            places.append(Place(self.sets[name], behind))
            if self.sets[name].is_end:  # a set may hold the phrase without a word
                places += self._entered(behind)
        return places


@cache
def lexicon_table() -> dict[str, Any]:
    """Read the lexicon that ships beside this module."""
    return tomllib.loads(files(__package__).joinpath("lexicon.toml").read_text(encoding="utf-8"))


@cache
def lexicon() -> Lexicon:
    """Make the lexicon ready for reading: sets of words stay sets, since spelled out they are 69,000 phrases."""
    table = dict(lexicon_table())
    members = {name: [_words(text) for text in many] for name, many in table.pop("words").items()}
    spelling = {short: word for word, shorts in table.pop("spelling").items() for short in shorts}
    sets = {name: Branch() for name in members}
    for name, many in members.items():
        for words in many:
            _grown(sets[name], words, sets).is_end = True
    tree = Branch()
    alone: dict[str, list[tuple[str, Any]]] = {}
    known: set[str] = set()
    meant: set[str] = set()
    firm: set[str] = set()
    order = 0
    for kind, section in table.items():
        for key, content in section.items():
            order += 1
            for text in content[""] if isinstance(content, dict) else content:
                parts = _parts(text)
                branch = _grown(tree, parts, sets)
                if (order, kind, key) not in branch.meanings:
                    branch.meanings.append((order, kind, key))
                spelled: list[list[tuple[str, ...]]] = [
                    members[part[1:-1]] if part[0] == "{" else [(part,)] for part in parts
                ]
                held = {word for many in spelled for each in many for word in each}
                known |= held
                if kind != "chatter":
                    meant |= held
                if kind in ("not", "unless", "dont"):
                    firm |= held & NEGATING
                elif kind in ("ticker", "number"):
                    firm |= held
                for word in _single_words(spelled):
                    if kind in ("unsupported", "language"):
                        firm.add(word)
                    meanings = alone.setdefault(word, [])
                    if (kind, key) not in meanings:
                        meanings.append((kind, key))
    return Lexicon(
        tree,
        sets,
        alone,
        frozenset(table),
        frozenset(word for (word,) in members["filler"]),
        spelling,
        frozenset(known | spelling.keys()),
        frozenset(meant),
        frozenset(firm),
    )


def _single_words(spelled: list[list[tuple[str, ...]]]) -> Iterator[str]:
    """Yield the words that a phrase may be made of alone, of what may stand in each of its places."""
    for place, many in enumerate(spelled):
        if all(() in others for at, others in enumerate(spelled) if at != place):
            yield from (each[0] for each in many if len(each) == 1)


def _grown(root: Branch, parts: tuple[str, ...], sets: Mapping[str, Branch]) -> Branch:
    at = root
    for part in parts:
        if part[0] == "{":
            at = at.sets.setdefault(part[1:-1], Branch())
        else:
            at = at.words.setdefault(part, Branch())
    return at


@cache
def core_words() -> frozenset[str]:
    """Return the words that a slip most likely meant: of orders, prices, comparisons, crossings and averages."""
    kinds = frozenset(
        (
            "buy",
            "sell",
            "rel",
            "cross",
            "price",
            "average",
            "stop",
            "target",
            "trail",
            "if",
            "unit",
            "hold",
            "band",
            "closes",
        )
    )
    return frozenset(word for word, meanings in lexicon().alone.items() if {kind for kind, _ in meanings} & kinds)


def _parts(text: str) -> tuple[str, ...]:
    """Return a phrase as its words and the names of sets of words in braces: ``{cross} {above}``."""
    if "{" not in text:
        return _words(text)
    return tuple(chain.from_iterable((part,) if part[0] == "{" else _words(part) for part in _PARTS.findall(text)))


def _words(text: str) -> tuple[str, ...]:
    if _PLAIN.fullmatch(text) and _NUMBERS.keys().isdisjoint(words := text.split()):
        return tuple(words)  # as most phrases are: there is nothing to cut or to join
    return tuple(token.text for token in tokens_of(text))


@cache
def common_words() -> frozenset[str]:
    """Read the common words that change nothing of a strategy."""
    text = files(__package__).joinpath("common.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def tokens_of(text: str, spelling: Mapping[str, str] = MappingProxyType({})) -> list[Token]:
    """Cut a text into tokens, in lower case; ``spelling`` gives words in the place of others."""
    text = text.replace("’", "'").replace("–", "-").replace("—", " - ").replace("−", "-").replace("≥", ">=")
    text = text.replace("≤", "<=").replace("×", "x").replace("\u00a0", " ").replace("→", "->")
    text = re.sub(r"\b([A-Z]{2,5})'s\b", r"\1", text)
    text = re.sub(r"(?<=[A-Za-z])'(?=[A-Za-z])", "", text)
    text = re.sub(r"(?<=[A-Za-z])_(?=[A-Za-z])", " ", text)
    text = re.sub(r"!+(?=\s|$|[)\"',.])", " ", re.sub(r"\s--+\s", " , ", text))
    text = re.sub(r"(?i)\b(open|high|low|close)-(open|high|low|close)\b(?! range)", r"\1 - \2", text)
    text = re.sub(r"(?:(?<=[^\W_]))-(?=[^\W\d_]{2})(?!usd|USD)", " ", text)
    text = re.sub(r"(?<=[A-Za-z])-(?=\d)", " ", text)
    text = re.sub(r"(?<=\d)-(?=\d)", " - ", text)
    mark = r"\(?\d{1,2}[.)]\s+" if _LISTED.search(text) else r"\(?\d{1,2}[.)]\s+(?=[A-Za-z])"
    text = re.sub(rf"(?m)^\s*(?:{mark}|[-*•]\s+|\(?[a-h][.)]\s+)", " ", text)
    tokens: list[Token] = []
    for found in _TOKEN.finditer(text):
        kind, written = found.lastgroup, found[0]
        if kind == "number":
            tokens.append(_number(written, found.start()))
        elif kind == "line":
            tokens.append(Token("\n", found.start(), written=written))
        elif written not in _STRAY:
            word = written.lower()
            is_capital = written.isupper() and len(written) > 1
            tokens.append(Token(word if is_capital else spelling.get(word, word), found.start(), written=written))
    return _joined(tokens)


def _number(written: str, start: int) -> Token:
    is_percent = bool(re.search(r"(?i)%|p", written))
    digits = re.sub(r"[^\d.,]", "", written)
    # A comma before a percentage is a decimal comma, others stand between thousands.
    digits = digits.replace(",", "." if is_percent and not re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits) else "")
    number = Number(
        float(digits), is_percent, any(each in written for each in "$€£"), written[0] if written[0] in "+-" else ""
    )
    return Token(f"#{digits}{'%' * is_percent}", start, number, written)


def _joined(tokens: list[Token]) -> list[Token]:
    """Multiply a number by the word behind it: ``500k``, ``2 million``; make words of number one number."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        number = _word_number(last) if last is not None else None
        factor = _MULTIPLIERS.get(token.text)
        if last is None or number is None or number.is_percent:
            joined.append(token)
        elif token.text in _MONEY and len(joined) > 1 and joined[-2].text in _BEFORE_MONEY:
            joined[-1] = Token(last.text, last.start, number._replace(is_money=True), f"{last.written} {token.written}")
        elif token.text in _PERCENT:
            joined[-1] = Token(last.text, last.start, number._replace(is_percent=True), f"{last.written} percent")
        elif factor:
            number = number._replace(value=number.value * factor)
            joined[-1] = Token(f"#{number.value:g}", last.start, number, last.written + token.written)
        elif token.text == "hundred" and last.number is None and number.value < 10:
            joined[-1] = Token(
                last.text, last.start, number._replace(value=number.value * 100), f"{last.written} hundred"
            )
        elif token.text in _WORDS and last.number is None and number.value in (20, 30, 40, 50, 60, 70, 80, 90):
            number = number._replace(value=number.value + _WORDS[token.text])
            joined[-1] = Token(f"#{number.value:g}", last.start, number, f"{last.written} {token.written}")
        else:
            joined.append(token)
    return joined


_WORDS = dict(zip(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], range(1, 10), strict=True))
_TEENS = dict(
    zip(["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"], range(10, 17), strict=True)
)
_TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)


_OTHERS = dict(
    zip(
        ["zwei", "drei", "vier", "fünf", "zehn", "deux", "trois", "quatre", "cinq", "dix"],
        [2, 3, 4, 5, 10] * 2,
        strict=True,
    )
)
_ORDINALS = {"third": 3, "fourth": 4, "fifth": 5, "sixth": 6}
_NUMBERS = _ORDINALS | _WORDS | _TEENS | _TENS | _OTHERS | {"hundred": 100, "zero": 0}


def _word_number(token: Token) -> Number | None:
    if token.number is not None:
        return token.number
    value = _NUMBERS.get(token.text)
    return None if value is None else Number(float(value))


class Lattice:
    """The edges over a prompt's tokens; ``unknown`` are the words that no edge covers, ``slips`` what was mended."""

    def __init__(self, text: str, *, is_mended: bool = True) -> None:
        self.slips: list[tuple[str, str]] = []
        self.tokens = _letters(tokens_of(text, lexicon().spelling))
        if is_mended:
            self.tokens = [self._mended(token) for token in self.tokens]
        count = len(self.tokens)
        self.edges: list[list[Edge]] = [[] for _ in range(count + 1)]
        self.skips: list[list[tuple[int, float]]] = [[] for _ in range(count + 1)]
        letters = [token.written for token in self.tokens if token.written.isalpha() and len(token.written) > 1]
        self._shouts = sum(word.isupper() for word in letters) > len(letters) / 2
        covered = [False] * count
        for start, token in enumerate(self.tokens):
            covered[start] = self._own(start, token, covered) or covered[start]
            for end, kind, value, cost in self._phrases(start):
                if not (token.number is not None and token.number.is_percent and end == start + 1):
                    self._add(start, end, kind, value, cost)
                    covered[start:end] = [True] * (end - start)
        self.passed: list[str] = []
        for start, token in enumerate(self.tokens):
            is_as_written = token.text == token.written.lower()
            if not covered[start] and is_as_written and token.text in common_words():
                self.skips[start].append((start + 1, COMMON_COST))
                covered[start] = True
                self.passed.append(token.written)
            elif self._is_soft(start) and not self._is_part(start):
                self.skips[start].append((start + 1, SOFT_COST))
            if self.skips[start] and token.text.isalpha() and self._is_part(start):
                self.skips[start] = [(end, cost + PART_COST * (end == start + 1)) for end, cost in self.skips[start]]
        self._deny()
        self.has_defined = False
        for start in range(count):
            for edge in self.edges[start]:
                if edge.kind == "PATTERN" and self.is_defined(edge.end):
                    self.skips[start].append((edge.end, COMMON_COST))
                    self.has_defined = True
        self._bind()
        self.unknown = [token for token, is_known in zip(self.tokens, covered, strict=True) if not is_known]
        self._reach = [self._reachable(start) for start in range(count + 1)]

    def _phrases(self, start: int) -> list[tuple[int, str, Any, float]]:
        """Return what phrases from here mean: where each ends, its class and meaning, and what its fillers cost."""
        known = lexicon()
        found: dict[tuple[int, str, Any], float] = {}
        places, passed = known.begin(), 0
        for at in range(start, len(self.tokens)):
            word = self.tokens[at].text
            further = known.after(places, word)
            if further:
                places = further
                ended = sorted(meaning for branch, behind in places if behind is None for meaning in branch.meanings)
                for _, kind, value in ended:
                    if not (passed and kind in WHOLE):
                        found.setdefault((at + 1, kind, value), passed * FILLER_COST)
            elif at > start and passed < MOST_FILLERS and word in known.fillers:
                passed += 1
            else:
                break
        return [(*meaning, cost) for meaning, cost in found.items()]

    def _is_soft(self, at: int) -> bool:
        kinds = {edge.kind for edge in self.edges[at] if edge.end == at + 1}
        return bool(kinds & SOFT) and not kinds & ORDERS

    def _is_part(self, at: int) -> bool:
        """Say whether a longer phrase that means something holds this word."""
        return any(
            edge.end > at and edge.end - start > 1 and edge.kind not in SOFT
            for start in range(max(0, at - 6), at + 1)
            for edge in self.edges[start]
        )

    def _deny(self) -> None:
        """Pass over what cannot be said where it is said not to be: "no shorts", "without leverage"."""
        for start, token in enumerate(self.tokens):
            if token.text not in DENYING:
                continue
            first = start + 1
            while first < len(self.tokens) and self.tokens[first].text in (
                "any",
                "use",
                "using",
                "do",
                "go",
                "the",
                "of",
            ):
                first += 1
            ends = [edge.end for edge in self.edges[first] if edge.kind == "UNSUPPORTED" and edge.value in DENIED]
            end = max(ends, default=0)
            if end and (end == len(self.tokens) or self.tokens[end].text in CLOSING):
                for at in range(start, end):
                    self.edges[at] = []
                self.skips[start].append((end, 0.0))

    def _bind(self) -> None:
        """Keep words that bear meaning together from being passed over one by one."""
        for start, edges in enumerate(self.edges):
            for edge in edges:
                if edge.kind in BINDING and edge.end > start + 1:
                    for at in range(start, edge.end):
                        self.skips[at] = [skip for skip in self.skips[at] if skip[0] > edge.end]

    def _mended(self, token: Token) -> Token:
        known = lexicon()
        word = token.text
        is_word = word.isalpha() and len(word) >= SHORTEST_TYPO and _word_number(token) is None
        if not is_word or word in known.words or word in common_words():
            return token
        if token.written.isupper() and len(word) <= 5:
            return token
        core = core_words()
        near = {
            each
            for each in _near(word) & known.meant
            if each not in known.firm
            and (len(each) >= SHORTEST_TYPO or (each in core and len(each) == SHORTEST_TYPO - 1))
            and (each[0] == word[0] or sorted(each) == sorted(word))
        }
        if len(near) > 1:
            # Letters are left out or swapped more often than changed, and changed more often than put in.
            least = min(_slip(word, each) for each in near)
            near = {each for each in near if _slip(word, each) == least}
            near = (near & core) or near
        if len(near) != 1:
            return token
        (meant,) = near
        self.slips.append((token.written, meant))
        return Token(meant, token.start, None, token.written)

    def _own(self, start: int, token: Token, covered: list[bool]) -> bool:
        number = _word_number(token)
        if token.text == "one" and not self._counts(start + 1):
            return True
        if number is not None:
            self.edges[start].append(Edge(start + 1, "NUM", number))
            if start + 1 < len(self.tokens) and self.tokens[start + 1].text == "m" and token.number is not None:
                self.edges[start].append(Edge(start + 2, "NUM", number._replace(value=number.value * 1e6)))
                covered[start + 1] = True
            return True
        if token.text in ("\n", "."):
            self._add(start, start + 1, "SEP", token.text)
            self.skips[start].append((start + 1, STOP_COST if token.text == "." else 0.0))
            return True
        if token.text == "?":
            self.skips[start].append((start + 1, STOP_COST))
            return True
        if token.text in ("(", ")", ",", "-", "+", "*", "/", ":", "[", "]"):
            self._add(start, start + 1, token.text, token.text)
            if token.text in (",", ":", "-"):
                self.skips[start].append((start + 1, 1.5 if token.text == "," else 0.3))
            return True
        if token.written in ("S", "E", "W"):
            self._add(start, start + 1, "LETTER", token.written)
        written = token.written.lstrip("$")
        is_ticker = token.written.startswith("$") or bool(re.fullmatch(r"[A-Z]{1,5}(\.[A-Z]|-USD)?", written))
        alone = lexicon().alone
        is_word = token.text in alone
        is_both = ("also_ticker", "") in alone.get(token.text, ())
        if is_ticker and (token.written.startswith("$") or (not self._shouts and (not is_word or is_both))):
            self._add(start, start + 1, "TICKER", written.upper())
            return True
        return False

    def _counts(self, at: int) -> bool:
        """Say whether the word here is one that is counted: "one day", and not "one above it"."""
        kinds = {kind for kind, _ in lexicon().alone.get(self.tokens[at].text, ())} if at < len(self.tokens) else set()
        return bool(
            kinds & {"unit", "deviation", "times", "timeframe", "streak", "candle", "way", "bar", "close_count"}
        )

    def _add(self, start: int, end: int, kind: str, value: Any, cost: float = 0.0) -> None:
        if kind in ("nothing", "chatter"):
            self.skips[start].append((end, cost if end - start > 1 else 0.2))
        elif kind in ("ticker", "company"):
            self.edges[start].append(Edge(end, "TICKER", value or self.tokens[start].text.upper(), cost))
        else:
            self.edges[start].append(Edge(end, kind.upper(), value, cost))

    def is_defined(self, end: int) -> bool:
        """Say whether what a word without a known meaning means is said right behind it."""
        return end < len(self.tokens) and self.tokens[end].text in DEFINING

    def is_inside(self, start: int, end: int) -> bool:
        """Say whether a longer phrase covers these tokens and more."""
        return any(
            begin <= start and other >= end and other - begin > end - start
            for begin in range(max(0, start - 8), start + 1)
            for other in [edge.end for edge in self.edges[begin] if edge.kind not in ("UNSUPPORTED", "PATTERN", "NUM")]
            + [place for place, _ in self.skips[begin]]
        )

    def written(self, start: int, end: int) -> str:
        """Return the words between two places as they were written."""
        return " ".join(token.written or token.text for token in self.tokens[start:end]).strip()

    def reach(self, start: int) -> list[tuple[int, float]]:
        """Return the places that are reached from one by words that say nothing, and what that costs."""
        return self._reach[start]

    def _reachable(self, start: int) -> list[tuple[int, float]]:
        best = {start: 0.0}
        queue = [start]
        while queue:
            at = queue.pop()
            for end, cost in self.skips[at]:
                if best[at] + cost < best.get(end, 1e9):
                    best[end] = best[at] + cost
                    queue.append(end)
        return sorted(best.items())


def _slip(word: str, meant: str) -> int:
    if len(meant) > len(word) or sorted(meant) == sorted(word):
        return 0
    return 1 if len(meant) == len(word) else 2


def _letters(tokens: list[Token]) -> list[Token]:
    """Join what was spelled letter by letter, as a voice is written down; give %K and %D their names."""
    known = lexicon().words
    has_stochastic = any(token.text.startswith("stoch") or token.text in ("%k", "%d") for token in tokens)
    joined: list[Token] = []
    for token in tokens:
        run = [token]
        while joined and len(run) < 5 and len(run[0].text) == 1 and run[0].text.isalpha() and len(joined[-1].text) == 1:
            run.insert(0, joined.pop())
            word = "".join(each.text for each in run)
            if word in known and len(word) > 2:
                run = [Token(word, run[0].start, None, word)]
        if has_stochastic and len(run) == 1 and run[0].text in ("k", "d"):
            run = [run[0]._replace(text=f"%{run[0].text}")]
        joined += run
    return joined


def _near(word: str) -> set[str]:
    """Return every text one slip away: a letter left out, put in, changed, or two in the other order."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    near = {left + right[1:] for left, right in cuts if right}
    near |= {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    near |= {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    return near | {left + letter + right for left, right in cuts for letter in letters}
