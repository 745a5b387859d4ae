"""The first look at a rule's text: every character, word and place of it, before any parser runs.

What passes is printable ASCII made of numbers, names, operators and matched parentheses, with a value wherever one is
wanted. So Python's parser is handed nothing that could be a statement, a string or a comment, a column is a character,
and an error can be put in the language of rules instead of Python's.
"""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

from aworker.trading.rules.rule_error import RuleError

MAX_CHARACTERS = 2000
MAX_TOKENS = 500
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"(?P<space> +)"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<symbol>\"[^\"']*\"|'[^\"']*')"
    r"|(?P<refused>===|!==|\*\*|//|&&|\|\||<>|=<|=>|<<|>>|->)"
    r"|(?P<operator><=|>=|==|!=|[-+*/<>(),.=])",
    re.ASCII,
)

_COMPARISON = "a comparison must be one of < <= > >= == !="
_OPERATOR = "an operator must be one of + - * /"
_WORD = "conditions must be joined by the words and, or, not"
_QUOTES = "a name must stand without quotes"
_REFUSED: dict[str, tuple[str, str | None]] = {
    "===": (_COMPARISON, "=="),
    "!==": (_COMPARISON, "!="),
    "<>": (_COMPARISON, "!="),
    "=<": (_COMPARISON, "<="),
    "=>": (_COMPARISON, ">="),
    "≤": (_COMPARISON, "<="),
    "≥": (_COMPARISON, ">="),
    "≠": (_COMPARISON, "!="),
    "&&": (_WORD, "and"),
    "&": (_WORD, "and"),
    "∧": (_WORD, "and"),
    "||": (_WORD, "or"),
    "|": (_WORD, "or"),
    "∨": (_WORD, "or"),
    "!": (_WORD, "not"),
    "~": (_WORD, "not"),
    "×": (_OPERATOR, "*"),
    "÷": (_OPERATOR, "/"),
    "//": (_OPERATOR, "/"),
    "−": (_OPERATOR, "-"),
    "–": (_OPERATOR, "-"),
    "—": (_OPERATOR, "-"),
    "**": (_OPERATOR, None),
    "^": (_OPERATOR, None),
    "%": ("a percentage must be written as a fraction, 0.05 for 5 percent", None),
    "[": ("an earlier bar must be written with lag, as in lag(close, 1)", None),
    "'": (_QUOTES, None),
    '"': (_QUOTES, None),
    "#": ("a rule must have no comment", None),
    ";": ("a rule must be one expression, its parts joined by `and` or `or`", None),
}

_WORDS_BETWEEN = {
    "above": ">",
    "over": ">",
    "exceeds": ">",
    "greater": ">",
    "higher": ">",
    "more": ">",
    "below": "<",
    "under": "<",
    "less": "<",
    "lower": "<",
    "is": "==",
    "equals": "==",
    "plus": "+",
    "minus": "-",
    "times": "*",
}

_OPERAND = r"(?:\d+(?:\.\d+)?|[A-Za-z_]\w*(?:\([^()]*\))?)"
_INFIX = re.compile(
    rf"(?P<word>between|cross(?:es|ed)?[ _]?(?P<way>above|over|below|under))\b"
    rf"(?: +(?P<right>{_OPERAND})(?: +and +(?P<high>{_OPERAND}))?(?= *(?:$|\)|(?:and|or)\b)))?",
    re.ASCII,
)
_LEFT = re.compile(rf"(?:^|\(|\b(?:and|or|not)\b) *(?P<left>{_OPERAND}) *$", re.ASCII)
_IS = re.compile(r"is +(?P<negated>not +)?", re.ASCII)
_NAME = re.compile(r"[a-z_]\w*", re.ASCII)


class _Open(NamedTuple):
    column: int
    is_call: bool


def scan(text: str) -> str:
    """Return the text with every white space as a blank, columns unchanged.

    Raises RuleError for a text that is too long, has a character, number or word that no rule has, an unmatched
    parenthesis, or an operator or value missing.
    """
    if len(text) > MAX_CHARACTERS:
        raise RuleError(
            text, MAX_CHARACTERS + 1, f"rule must have at most {MAX_CHARACTERS} characters, has {len(text)}"
        )
    clean = "".join(" " if character.isspace() else character for character in text)
    if not clean.strip():
        raise RuleError(text, 1, "rule must not be blank", "rsi(close, 14) < 30")

    opened: list[_Open] = []
    before: list[str] = []
    wants_value = True
    prefixes = 0
    place = 0
    while place < len(clean):
        match = _TOKEN.match(clean, place)
        column = place + 1
        # A quoted text is a symbol, and of("SPY", ...) is the one place of it.
        is_misplaced = match is not None and match.lastgroup == "symbol" and before[-2:] != ["of", "("]
        if match is None or match.lastgroup == "refused" or is_misplaced:
            token = match.group() if match is not None and match.lastgroup == "refused" else clean[place]
            raise _refused(text, column, token)
        place = match.end()
        token = match.group()
        kind = match.lastgroup
        if kind == "space":
            continue
        previous = before[-1] if before else ""

        if kind == "number" and (clean[place : place + 1].isalnum() or clean[place : place + 1] in ("_", "%")):
            raise _bad_number(text, column, clean)
        if kind == "name" and token not in ("and", "or", "not"):
            _check_word(text, column, token, wants_value)
        is_value = kind in ("number", "symbol") or (kind == "name" and token not in ("and", "or", "not"))

        if is_value or token == "not":
            if not wants_value:
                raise RuleError(
                    text, column, f"an operator must stand before {token[:40]!r}", _instead_of_word(clean, column)
                )
            wants_value = not is_value
        elif token == "(":
            is_call = not wants_value and _is_name(previous)
            if not wants_value and not is_call:
                raise RuleError(text, column, "an operator must stand before '('", "*")
            opened.append(_Open(column, is_call))
            wants_value = True
        elif token == ")":
            if not opened:
                raise RuleError(text, column, "')' must have its '(', has none; leave it out")
            if wants_value and not (previous == "(" and opened[-1].is_call):
                raise _missing(text, column, token)
            opened.pop()
            wants_value = False
        elif token == "=":
            if not (opened and opened[-1].is_call and _is_name(previous) and before[-2:-1] in (["("], [","])):
                raise RuleError(text, column, "a comparison must be written with '==', was '='", "==")
            wants_value = True
        else:
            if wants_value and token not in ("+", "-"):
                raise _missing(text, column, token)
            if token == "," and not (opened and opened[-1].is_call):
                raise RuleError(text, column, "',' must stand between the arguments of a function")
            wants_value = True

        before.append(token)
        if len(before) > MAX_TOKENS:
            raise RuleError(text, column, f"rule must have at most {MAX_TOKENS} words and signs; split or shorten it")
        prefixes = prefixes + 1 if wants_value and token in ("+", "-", "not") else 0
        if len(opened) + prefixes > MAX_DEPTH:
            raise too_deep(text, column)
    if wants_value:
        raise _missing(text, len(text.rstrip()) + 1, "the end")
    if opened:
        raise RuleError(text, opened[-1].column, "'(' must be closed, was left open", ")")
    return clean


def too_deep(text: str, column: int) -> RuleError:
    """Return the error of a rule nested deeper than MAX_DEPTH."""
    return RuleError(text, column, f"rule must be nested at most {MAX_DEPTH} deep; split or shorten it")


def _is_name(token: str) -> bool:
    return token.isidentifier() and token not in ("and", "or", "not")


def _refused(text: str, column: int, token: str) -> RuleError:
    wanted, suggestion = _REFUSED.get(token, ("a rule must be made of names, numbers, operators and parentheses", None))
    return RuleError(text, column, f"{wanted}, was {token!r}", suggestion)


def _missing(text: str, column: int, token: str) -> RuleError:
    shown = token if token == "the end" else repr(token)
    return RuleError(text, column, f"a price, number or function must stand before {shown}, is missing")


def _bad_number(text: str, column: int, clean: str) -> RuleError:
    match = re.compile(r"[\w.%]+").match(clean, column - 1)
    token = match.group() if match else clean[column - 1]
    suggestion = None
    if re.fullmatch(r"\d{1,4}(_\d{1,4}){1,4}", token, re.ASCII):
        suggestion = token.replace("_", "")
    elif re.fullmatch(r"\d{1,9}(\.\d{1,9})?%", token, re.ASCII):
        suggestion = f"{float(token[:-1]) / 100:.12g}"
    elif re.fullmatch(r"\d{1,9}(\.\d{1,9})?[kKmM]", token, re.ASCII):
        suggestion = f"{float(token[:-1]) * (1000 if token[-1] in 'kK' else 1_000_000):.12g}"
    return RuleError(text, column, f"number must have digits and a point only, was {token[:40]!r}", suggestion)


def _instead_of_word(text: str, column: int) -> str | None:
    before, rest = text[: column - 1], text[column - 1 :].lower()
    copula = _IS.match(rest)
    place = copula.end() if copula else 0
    negated = copula is not None and copula["negated"] is not None
    infix = _INFIX.match(rest, place)
    word = _NAME.match(rest, place)
    if infix is not None:
        return None if negated else _as_call(before, infix)
    if word is not None and (word.group() in _WORDS_BETWEEN or copula is None):
        return None if negated else _WORDS_BETWEEN.get(word.group())
    if word is not None and word.group() in ("rising", "falling"):
        return None
    return "!=" if negated else "=="


def _as_call(before: str, infix: re.Match[str]) -> str:
    is_between = infix["word"] == "between"
    name = "between" if is_between else f"crosses_{'above' if infix['way'] in ('above', 'over') else 'below'}"
    names = ("value", "low", "high") if is_between else ("left", "right")
    left = _LEFT.search(before)
    right, high = infix["right"], infix["high"]
    template = f"{name}({', '.join(names)})"
    if left is None or right is None or (high is None) == is_between:
        return template
    call = f"{name}({', '.join((left['left'], right, high) if is_between else (left['left'], right))})"
    return call if len(call) <= 100 else template


def _check_word(text: str, column: int, token: str, wants_value: bool) -> None:
    if token.lower() in ("and", "or", "not"):
        raise RuleError(text, column, f"word must be in lower case, was {token!r}", token.lower())
    if keyword.iskeyword(token):
        suggestion = None if wants_value else _instead_of_word(text, column)
        raise RuleError(text, column, f"name must be a price or a function, was {token!r}", suggestion)
