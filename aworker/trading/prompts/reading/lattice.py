"""A prompt as a lattice: its tokens, and over them an edge for each meaning of each phrase that the lexicon knows."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

MOST_TOKENS = 400
_TOKEN = re.compile(
    r"""(?P<url>https?://\S+)
      | (?P<ticker>\$[A-Za-z]{1,5}(?![A-Za-z0-9]) | \b[A-Za-z]{2,5}-(?:usd|USD)\b | \b[A-Z]{1,5}\.[A-Z]\b)
      | (?P<number>[-+]?\$?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)\s?(?:%|percent\b|pct\b)?)
      | (?P<word>%[a-zA-Z]\b | [^\W\d_]+(?:\.[^\W\d_]+)*)
      | (?P<line>[\n;•])
      | (?P<sign>->|=>|<=|>=|==|&&|\|\||[-+*/=<>&|(),:.!?~"“”])
      | (?P<other>\S)""",
    re.VERBOSE,
)
_MULTIPLIERS = {"k": 1e3, "thousand": 1e3, "million": 1e6, "mil": 1e6, "mln": 1e6, "billion": 1e9, "bn": 1e9}
_BOTH = frozenset(
    [
        "IT",
        "ALL",
        "ARE",
        "NOW",
        "ON",
        "SO",
        "BE",
        "CAN",
        "GO",
        "ANY",
        "HAS",
        "LOW",
        "OUT",
        "WELL",
        "REAL",
        "NICE",
        "PLAY",
        "FAST",
    ]
)
"""Words in capitals that are tickers as well: which one is meant decides the rest of the prompt."""
_NAMED = re.compile(r"(?i)\b(?:call it|name it|named|titled)\s+[\"“']?([A-Z][\w ]{0,40}?)[\"”']?\s*(?=[.,;:\n]|$)")
_STRAY = frozenset('!?~"“”')


class Number(NamedTuple):
    """A number as it was written."""

    value: float
    is_percent: bool = False
    is_money: bool = False
    sign: str = ""


class Token(NamedTuple):
    """A word, a number or a sign, and where it stood."""

    text: str
    start: int
    number: Number | None = None
    written: str = ""


_WORDS = {
    word: Number(float(value))
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
        ]
    )
} | {"twenty": Number(20.0), "thirty": Number(30.0), "fifty": Number(50.0)}


class Edge(NamedTuple):
    """A meaning of the tokens from ``start`` to ``end``."""

    end: int
    kind: str
    value: Any


class Lexicon(NamedTuple):
    """Phrase to its meanings, and the longest phrase in words."""

    phrases: dict[tuple[str, ...], list[tuple[str, Any]]]
    longest: int


@cache
def lexicon() -> Lexicon:
    """Read the lexicon that ships beside this module."""
    table = tomllib.loads(files(__package__).joinpath("lexicon.toml").read_text(encoding="utf-8"))
    phrases: dict[tuple[str, ...], list[tuple[str, Any]]] = {}

    def add(kind: str, value: Any, texts: list[str]) -> None:
        for text in texts:
            words = tuple(token.text for token in tokens_of(text))
            meanings = phrases.setdefault(words, [])
            if (kind, value) not in meanings:
                meanings.append((kind, value))

    for kind, section in table.items():
        for key, content in section.items():
            if isinstance(content, dict):
                add(kind, key, content[""])
            else:
                add(kind, key, content)
    return Lexicon(phrases, max(map(len, phrases)))


def tokens_of(text: str) -> list[Token]:
    """Cut a text into tokens, in lower case."""
    text = text.replace("’", "'").replace("–", "-").replace("—", " - ").replace("−", "-")
    text = re.sub(r"(?<=[A-Za-z])'(?=[A-Za-z])", "", text)
    text = re.sub(r"(?:(?<=[A-Za-z][A-Za-z])|(?<=\d))-(?=[A-Za-z]{2})(?!usd|USD)", " ", text)
    text = re.sub(r"(?<=[A-Za-z])-(?=\d)", " ", text)
    text = re.sub(r"(?<=\d)-(?=\d)", " - ", text)
    text = re.sub(r"(?m)^\s*(?:\(?\d{1,2}[.)]\s+(?=[A-Za-z])|[-*•]\s+)", " ", text)
    tokens: list[Token] = []
    for found in _TOKEN.finditer(text):
        kind, written = found.lastgroup, found[0]
        if kind == "number":
            tokens.append(_number(written, found.start()))
        elif kind == "line":
            tokens.append(Token("\n", found.start(), written=written))
        elif written not in _STRAY:
            tokens.append(Token(written.lower(), found.start(), written=written))
    return _joined(tokens)


def named(text: str) -> tuple[str | None, str]:
    """Return the name that a prompt gives its strategy, and the prompt without it."""
    found = _NAMED.search(text)
    return (None, text) if found is None else (found[1], text[: found.start()] + " " + text[found.end() :])


def _number(written: str, start: int) -> Token:
    digits = re.sub(r"[^\d.]", "", written)
    is_percent = "%" in written or "p" in written.lower()
    number = Number(float(digits), is_percent, "$" in written, written[0] if written[0] in "+-" else "")
    return Token(f"#{digits}", start, number, written)


def _joined(tokens: list[Token]) -> list[Token]:
    """Multiply a number by the word behind it: ``500k``, ``2 million``."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        factor = _MULTIPLIERS.get(token.text)
        if token.text in ("percent", "pct") and last is not None:
            number = last.number or _WORDS.get(last.text)
            if number is not None:
                joined[-1] = Token(last.text, last.start, number._replace(is_percent=True), last.written + " percent")
                continue
        if factor and last is not None and last.number is not None and not last.number.is_percent:
            number = last.number._replace(value=last.number.value * factor)
            joined[-1] = Token(f"#{number.value:g}", last.start, number, last.written + token.written)
        else:
            joined.append(token)
    return joined


class Lattice:
    """The edges over a prompt's tokens; ``unknown`` are the words that no edge covers."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens_of(text)
        self.edges: list[list[Edge]] = [[] for _ in range(len(self.tokens) + 1)]
        self.skips: list[list[tuple[int, float]]] = [[] for _ in range(len(self.tokens) + 1)]
        letters = [token.written for token in self.tokens if token.written.isalpha() and len(token.written) > 1]
        self._shouts = sum(word.isupper() for word in letters) > len(letters) / 2
        known = lexicon()
        covered = [False] * len(self.tokens)
        for start, token in enumerate(self.tokens):
            for length in range(1, min(known.longest, len(self.tokens) - start) + 1):
                words = tuple(each.text for each in self.tokens[start : start + length])
                for kind, value in known.phrases.get(words, ()):
                    self._add(start, start + length, kind, value)
                    covered[start : start + length] = [True] * length
            covered[start] = self._own(start, token) or covered[start]
        self.unknown = [token for token, is_known in zip(self.tokens, covered, strict=True) if not is_known]
        self._reach = [self._reachable(start) for start in range(len(self.tokens) + 1)]

    def _own(self, start: int, token: Token) -> bool:
        if token.number is not None:
            self.edges[start] = [Edge(start + 1, "NUM", token.number), *self.edges[start]]
            if token.number.is_percent:
                self.edges[start] = self.edges[start][:1]
                self.skips[start] = []
            return True
        if token.text in ("\n", "."):
            self._add(start, start + 1, "SEP", token.text)
            self.skips[start].append((start + 1, 0.0))
            return True
        if token.text in ("(", ")", ",", "-", "+", "*", "/", ":"):
            self._add(start, start + 1, token.text, token.text)
            if token.text in (",", ":", "-"):
                self.skips[start].append((start + 1, 0.3))
            return True
        written = token.written.lstrip("$")
        is_ticker = token.written.startswith("$") or bool(re.fullmatch(r"[A-Z]{1,5}(\.[A-Z]|-USD)?", written))
        is_word = (token.text,) in lexicon().phrases
        if is_ticker and (token.written.startswith("$") or (not self._shouts and (not is_word or written in _BOTH))):
            self._add(start, start + 1, "TICKER", written.upper())
            return True
        return False

    def _add(self, start: int, end: int, kind: str, value: Any) -> None:
        if kind == "nothing":
            self.skips[start].append((end, 0.0 if end - start > 1 else 0.2))
        elif kind == "number":
            self.edges[start].append(Edge(end, "NUM", Number(float(value))))
        elif kind in ("ticker", "company"):
            self.edges[start].append(Edge(end, "TICKER", value or self.tokens[start].text.upper()))
        else:
            name = kind if not kind.isalpha() and "_" not in kind else kind.upper()
            self.edges[start].append(Edge(end, name, value))

    def is_inside(self, start: int, end: int) -> bool:
        """Say whether a longer phrase covers these tokens and more."""
        return any(
            begin <= start and other >= end and other - begin > end - start
            for begin in range(max(0, start - 8), start + 1)
            for other in [edge.end for edge in self.edges[begin] if edge.kind != "UNSUPPORTED"]
            + [place for place, _ in self.skips[begin]]
        )

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
