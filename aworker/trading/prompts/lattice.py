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
      | (?P<number>[-+]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+,\d+(?=\s?(?:%|percent|prozent))|\d+(?:\.\d+)?|\.\d+)
          (?:[ \t]?(?:%|percent\b|pct\b|prozent\b|pour\ cent\b))?)
      | (?P<word>%[a-zA-Z]\b | [^\W\d_]+(?:\.[^\W\d_]+)*)
      | (?P<line>[\n;•])
      | (?P<sign>->|=>|<=|>=|==|&&|\|\||[-+*/=<>&|(),:.!?~"“”„«»\[\]])
      | (?P<other>\S)""",
    re.VERBOSE,
)
_STRAY = frozenset('!?~"“”„«»')
_MULTIPLIERS = {"k": 1e3, "thousand": 1e3, "million": 1e6, "mil": 1e6, "mln": 1e6, "mm": 1e6, "billion": 1e9, "bn": 1e9}
_PERCENT = ("percent", "pct", "prozent")
_NAMED = re.compile(
    r"(?i)\b(?:call (?:it|this)|name it|named|titled|called|rename (?:it )?to)\s+"
    r"(?:[\"“'](?P<quoted>[^\"”'\n]{1,120})[\"”']"
    r"|(?P<bare>[A-Z][\w ]{0,40}?))\s*(?=[.,;:\n]|$|\b(?:that|which|and|with|where|who|for|on|\d))"
)
_TITLED = re.compile(
    r"(?im)^\s*(?:strategy )?(?:name|title):\s*(?:(?P<quoted>\"[^\"\n]{1,120}\")|(?P<bare>[^\n;]{1,120}))(?:\n|;|$)"
)
BINDING = frozenset(("ANY_OF", "NOT", "UNLESS", "DONT", "BY_NO_MORE", "NO_LIMIT", "IN_BOTH", "OTHERWISE"))
SHORTEST_TYPO = 4
"""Letters from which on a word may be a slip of the keyboard."""


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


class Edge(NamedTuple):
    """A meaning of the tokens from one place to ``end``."""

    end: int
    kind: str
    value: Any


class Lexicon(NamedTuple):
    """What phrases mean, and what is needed to look them up."""

    phrases: dict[tuple[str, ...], list[tuple[str, Any]]]
    longest: int
    words: frozenset[str]
    """Every word of every phrase."""
    firm: frozenset[str]
    """Words that no typing error leads to or from: negations, tickers, numbers."""


@cache
def lexicon() -> Lexicon:
    """Read the lexicon that ships beside this module."""
    table = tomllib.loads(files(__package__).joinpath("lexicon.toml").read_text(encoding="utf-8"))
    phrases: dict[tuple[str, ...], list[tuple[str, Any]]] = {}
    firm: set[str] = set()
    for kind, section in table.items():
        for key, content in section.items():
            for text in content[""] if isinstance(content, dict) else content:
                words = tuple(token.text for token in tokens_of(text))
                meanings = phrases.setdefault(words, [])
                if (kind, key) not in meanings:
                    meanings.append((kind, key))
                if kind in ("not", "unless", "dont", "ticker", "number", "unsupported", "language"):
                    firm.update(words)
    return Lexicon(
        phrases, max(map(len, phrases)), frozenset(word for each in phrases for word in each), frozenset(firm)
    )


def tokens_of(text: str) -> list[Token]:
    """Cut a text into tokens, in lower case."""
    text = text.replace("’", "'").replace("–", "-").replace("—", " - ").replace("−", "-").replace("≥", ">=")
    text = text.replace("≤", "<=").replace("×", "x").replace("\u00a0", " ").replace("→", "->")
    text = re.sub(r"\b([A-Z]{2,5})'s\b", r"\1", text)
    text = re.sub(r"(?<=[A-Za-z])'(?=[A-Za-z])", "", text)
    text = re.sub(r"(?<=[A-Za-z])_(?=[A-Za-z])", " ", text)
    text = re.sub(r"(?:(?<=[^\W\d_][^\W\d_])|(?<=\d))-(?=[^\W\d_]{2})(?!usd|USD)", " ", text)
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
    found = _TITLED.search(text) or _NAMED.search(text)
    if found is None:
        return None, text
    return (found["quoted"] or found["bare"]).strip(' "'), text[: found.start()] + " " + text[found.end() :]


def _number(written: str, start: int) -> Token:
    is_percent = bool(re.search(r"(?i)%|p", written))
    digits = re.sub(r"[^\d.,]", "", written)
    # A comma before a percentage is a decimal comma, others stand between thousands.
    digits = digits.replace(",", "." if is_percent and not re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits) else "")
    number = Number(
        float(digits), is_percent, any(each in written for each in "$€£"), written[0] if written[0] in "+-" else ""
    )
    return Token(f"#{digits}", start, number, written)


def _joined(tokens: list[Token]) -> list[Token]:
    """Multiply a number by the word behind it: ``500k``, ``2 million``; make words of number one number."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        number = _word_number(last) if last is not None else None
        factor = _MULTIPLIERS.get(token.text)
        if last is None or number is None or number.is_percent:
            joined.append(token)
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

    def __init__(self, text: str) -> None:
        self.slips: list[tuple[str, str]] = []
        self.tokens = [self._mended(token) for token in tokens_of(text)]
        count = len(self.tokens)
        self.edges: list[list[Edge]] = [[] for _ in range(count + 1)]
        self.skips: list[list[tuple[int, float]]] = [[] for _ in range(count + 1)]
        letters = [token.written for token in self.tokens if token.written.isalpha() and len(token.written) > 1]
        self._shouts = sum(word.isupper() for word in letters) > len(letters) / 2
        known = lexicon()
        covered = [False] * count
        for start, token in enumerate(self.tokens):
            covered[start] = self._own(start, token, covered) or covered[start]
            for length in range(1, min(known.longest, count - start) + 1):
                words = tuple(each.text for each in self.tokens[start : start + length])
                for kind, value in known.phrases.get(words, ()):
                    if not (token.number is not None and token.number.is_percent and length == 1):
                        self._add(start, start + length, kind, value)
                        covered[start : start + length] = [True] * length
        self._bind()
        self.unknown = [token for token, is_known in zip(self.tokens, covered, strict=True) if not is_known]
        self._reach = [self._reachable(start) for start in range(count + 1)]

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
        is_word = word.isalpha() and len(word) >= SHORTEST_TYPO and token.number is None
        if not is_word or word in known.words or (token.written.isupper() and len(word) <= 5):
            return token
        near = _near(word) & known.words
        near = {each for each in near if len(each) >= SHORTEST_TYPO and each not in known.firm}
        if len(near) > 1:
            near = {each for each in near if len(each) == len(word)} or near
        if len(near) != 1:
            return token
        (meant,) = near
        self.slips.append((token.written, meant))
        return Token(meant, token.start, None, token.written)

    def _own(self, start: int, token: Token, covered: list[bool]) -> bool:
        number = _word_number(token)
        if number is not None:
            self.edges[start].append(Edge(start + 1, "NUM", number))
            if start + 1 < len(self.tokens) and self.tokens[start + 1].text == "m" and token.number is not None:
                self.edges[start].append(Edge(start + 2, "NUM", number._replace(value=number.value * 1e6)))
                covered[start + 1] = True
            return True
        if token.text in ("\n", "."):
            self._add(start, start + 1, "SEP", token.text)
            self.skips[start].append((start + 1, 0.0))
            return True
        if token.text in ("(", ")", ",", "-", "+", "*", "/", ":", "[", "]"):
            self._add(start, start + 1, token.text, token.text)
            if token.text in (",", ":", "-"):
                self.skips[start].append((start + 1, 1.5 if token.text == "," else 0.3))
            return True
        written = token.written.lstrip("$")
        is_ticker = token.written.startswith("$") or bool(re.fullmatch(r"[A-Z]{1,5}(\.[A-Z]|-USD)?", written))
        is_word = (token.text,) in lexicon().phrases
        is_both = ("also_ticker", "") in lexicon().phrases.get((token.text,), ())
        if is_ticker and (token.written.startswith("$") or (not self._shouts and (not is_word or is_both))):
            self._add(start, start + 1, "TICKER", written.upper())
            return True
        return False

    def _add(self, start: int, end: int, kind: str, value: Any) -> None:
        if kind in ("nothing", "chatter"):
            self.skips[start].append((end, 0.0 if end - start > 1 else 0.2))
        elif kind in ("ticker", "company"):
            self.edges[start].append(Edge(end, "TICKER", value or self.tokens[start].text.upper()))
        else:
            self.edges[start].append(Edge(end, kind.upper(), value))

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


def _near(word: str) -> set[str]:
    """Return every text one slip away: a letter left out, put in, changed, or two in the other order."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    near = {left + right[1:] for left, right in cuts if right}
    near |= {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    near |= {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    return near | {left + letter + right for left, right in cuts for letter in letters}
