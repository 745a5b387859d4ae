"""A prompt as words, and a cursor over them.

Invariant: the cursor only moves over words that a phrase has named, so what nobody named is still there at the end and
the prompt is refused; nothing is skipped unread.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

# One alternative a character class, nothing nested: linear in the text.
_WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+|[^\W0-9]+(?:'[a-z]+)?|<=|>=|==|!=|\n|[^\s]")
_GROUP = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_SYMBOL = re.compile(r"\^?[A-Z][A-Z0-9]*(?:[.=-][A-Z0-9]+)*")

_MAX_DIGITS = 15
MAX_SKIPPED = 8

_DIGITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMERALS: dict[str, float] = {
    **{word: float(value) for value, word in enumerate((*_DIGITS, *_TEENS), start=1)},
    **{word: 10.0 * value for value, word in enumerate(_TENS, start=2)},
    "hundred": 100.0,
}


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a list with commas between them, however its lines are broken."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


class Word(NamedTuple):
    """One word, number or mark of a prompt."""

    text: str
    lower: str
    start: int
    end: int

    @property
    def number(self) -> float | None:
        """Its value when it is a number in digits."""
        digits = self.lower
        if not digits or not (digits[0].isascii() and (digits[0].isdigit() or (digits[0] == "." and len(digits) > 1))):
            return None
        return float(digits) if len(digits) <= _MAX_DIGITS else None


_END = Word("", "", 0, 0)


def split_words(text: str) -> list[Word]:
    """Split a prompt into words: hyphens inside a word vanish (``52-week``), thousands are joined (``1,000,000``)."""
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words: list[Word] = []
    at, depth = 0, 0
    while (match := _WORD.search(text, at)) is not None:
        # Inside parentheses a comma parts arguments: ema(12,200).
        grouped = _GROUP.match(text, match.start()) if depth == 0 else None
        start, at = match.start(), (grouped or match).end()
        found = text[start:at]
        depth = max(0, depth + (found == "(") - (found == ")"))
        joins = found in "-\N{EN DASH}\N{NON-BREAKING HYPHEN}" and start > 0 and text[start - 1].isalnum()
        if joins and text[at : at + 1].isalpha():
            continue
        word = found.replace(",", "") if grouped else found
        words.append(Word(word, word.lower(), start, at))
    return words


class Cursor:
    """A place in a prompt's words; every ``take`` moves it past what it names or leaves it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = split_words(text)
        self.at = 0
        self.furthest = 0
        """The furthest place that any attempt understood words up to."""
        letters = [character for character in text if character.isalpha()]
        self.shouts = bool(letters) and not any(character.islower() for character in letters)
        """Whether all is in capitals, so that capitals mark no symbol."""

    @property
    def ended(self) -> bool:
        """Whether no word is left."""
        return self.at >= len(self.words)

    def word(self, ahead: int = 0) -> Word:
        """Return the word ``ahead`` of the cursor; an empty one past the end."""
        place = self.at + ahead
        return self.words[place] if 0 <= place < len(self.words) else _END

    def peek(self, ahead: int = 0) -> str:
        """Return the word ``ahead`` in lower case, empty past the end."""
        return self.word(ahead).lower

    def sees(self, *phrases: str) -> bool:
        """Whether one of the phrases comes next."""
        return self._match(phrases) is not None

    def take(self, *phrases: str) -> str | None:
        """Move past the longest of the phrases that comes next and return it, or None."""
        match = self._match(phrases)
        if match is None:
            return None
        self.move(len(match))
        return " ".join(match)

    def skip(self, *words: str) -> None:
        """Move past any of the words, up to MAX_SKIPPED of them: nobody needs more, and reading stays linear."""
        for _ in range(MAX_SKIPPED):
            if not self.take(*words):
                return

    def move(self, count: int) -> None:
        """Move past ``count`` words."""
        self.at += count
        self.furthest = max(self.furthest, self.at)

    def number(self) -> float | None:
        """Take a number, in digits or in words: ``three``, ``twenty one``, ``two hundred``."""
        word = self.word()
        value = NUMERALS.get(word.lower, word.number)
        if value is None:
            return None
        self.move(1)
        if word.lower in _TENS:
            digit = self.take(*_DIGITS)
            return value if digit is None else value + NUMERALS[digit]
        return value * 100 if word.lower in _DIGITS and self.take("hundred") else value

    def percent(self) -> float | None:
        """Take a percentage (``5%``, ``5 percent``) and return it in percent."""
        start = self.at
        value = self.number()
        if value is None or not self.take("%", "percent", "pct", "per cent"):
            self.at = start
            return None
        return value

    def adjacent(self, ahead: int = 0) -> bool:
        """Whether the word ``ahead`` follows the one before it without a space."""
        place = self.at + ahead
        return 0 < place < len(self.words) and self.words[place].start == self.words[place - 1].end

    def symbol(self, reserved: frozenset[str]) -> str | None:
        """Take a ticker symbol: capitals (BRK.B, BTC-USD), or any case after ``$``; never a reserved word."""
        start = self.at
        marked = self.take("$") is not None
        word = self.word()
        if not word.text:
            self.at = start
            return None
        source = self.text.upper() if marked else self.text
        match = _SYMBOL.match(source, word.start) if len(source) == len(self.text) else None
        if match is None or (not marked and match.group().lower() in reserved):
            self.at = start
            return None
        while not self.ended and self.word().start < match.end():
            self.move(1)
        if self.words[self.at - 1].end != match.end():
            self.at = start
            return None
        return match.group()

    def source(self, start: int, end: int | None = None) -> str:
        """Return the prompt's text from one word's place up to another's."""
        words = self.words[start:end]
        return self.text[words[0].start : words[-1].end] if words else ""

    def _match(self, phrases: tuple[str, ...]) -> tuple[str, ...] | None:
        for phrase in _by_first_word(phrases).get(self.peek(), ()):
            if all(self.peek(ahead) == word for ahead, word in enumerate(phrase)):
                return phrase
        return None


@cache
def _by_first_word(phrases: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted((tuple(phrase.split(" ")) for phrase in phrases), key=len, reverse=True):
        found.setdefault(phrase[0], []).append(phrase)
    return found
