"""Pseudo-code of other programs into the words that the lexicon knows: definitions put in, their calls renamed.

Only shapes are replaced, those of platforms.toml; what the parts mean, the grammar says.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files

MOST_DEFINITIONS = 8
MOST_CHARACTERS = 8_000
_DEFINED = re.compile(
    r"(?im)(?:^|(?<=[.;\n]))[ \t]*(?:def |var |let |bool |float )?(?P<name>[a-z]\w*)[ \t]*:?=(?!=)[ \t]*"
    r"(?P<text>(?:[^.;\n]|\.(?=\w))+?)[ \t]*(?:[.;]+(?=\s|$)|\n|$)"
)
_TITLE = re.compile(r"^\s*[A-Za-z]+(?: [A-Za-z]+)+\s=\s*(?=(?P<rest>[^\n]*))")
_ORDER_NEXT = re.compile(r"(?i)\s*(?:buy|sell|long|get|be|in|out|exit|enter|cash|flat|go|cross|sma|close)\b")
_ORDERS = frozenset(("buy", "sell", "entry", "exit", "short", "cover", "long", "stop", "target", "is", "out", "in"))
_DAILY = re.compile(
    r"(?i)(?:(?<=\[)|(?<=x )|(?<=[<>] ))\s*daily "
    r"(?=(?:close|open|high|low|volume|sma|ema|wma|rsi|macd|cci|adx|slow|fast|atr|upper)\b)"
)
_ENTRY_NAME = re.compile(r"(?im)^\s*(?:long|buy|entry|enter)(?:cond|condition|signal|rule)s?\s*:?=(?!=)")
_EXIT_NAME = re.compile(r"(?im)^\s*(?:exit|sell|close)(?:cond|condition|signal|rule)s?\s*:?=(?!=)")
_PERIOD = re.compile(r"\bPERIOD_([MHDW])(1|4|5|15|30)\b")
_PARTS = {
    "{chart}": r"(?:NULL|_Symbol|Symbol\(\))\s*,\s*(?:0|PERIOD_D1|PERIOD_CURRENT|_Period)",
    "{number}": r"(?<![\d.,])\d{1,6}(?:\.\d{1,4})?%?",
}


@cache
def _shapes() -> list[tuple[re.Pattern[str], str]]:
    table = tomllib.loads(files(__package__).joinpath("platforms.toml").read_text(encoding="utf-8"))
    made = []
    for pattern, words in table["shapes"]:
        for name, part in _PARTS.items():
            pattern = pattern.replace(name, part)
        made.append((re.compile(pattern), words))
    return made


def in_words(text: str) -> str:
    """Return a prompt with its definitions put in where their names are used, and known calls as words."""
    if text.count(" / ") > 1 and "(" not in text:
        text = text.replace(" / ", "\n")
    if "[" in text and _DAILY.search(text):
        text = _DAILY.sub("", text)
    if re.search(r"(?i)\bat market\b", text):  # ProRealTime writes windows in square brackets
        text = re.sub(r"(?i)\b(adx|rsi|cci|atr|roc|momentum)\[(\d+)\](?!\s*\()", r"\1(\2)", text)
    periods = set(_PERIOD.findall(text))
    if len(periods) == 1 and periods != {("D", "1")}:
        letter, count = periods.pop()
        text = f"on {count}{letter.lower()} bars. {_PERIOD.sub('PERIOD_CURRENT', text)}"
    for pattern, words in _shapes():
        text = pattern.sub(words, text)
    text = _TITLE.sub(lambda found: found[0] if _ORDER_NEXT.match(found["rest"]) else "", text)
    for _ in range(MOST_DEFINITIONS):
        defined = next((each for each in _DEFINED.finditer(text) if _is_used(each, text)), None)
        if defined is None or len(text) > MOST_CHARACTERS:
            break
        rest = f"{text[: defined.start()]}\n{text[defined.end() :]}"
        text = _put_in(defined["name"], f"({defined['text'].strip()})", rest)
    return _EXIT_NAME.sub(". exit: ", _ENTRY_NAME.sub("entry: ", text))


def _put_in(name: str, meant: str, text: str) -> str:
    return re.sub(rf"\b{re.escape(name)}\b(?!\s*\()", lambda _: meant, text)


def _is_used(defined: re.Match[str], text: str) -> bool:
    name = defined["name"]
    is_order = name.lower() in _ORDERS
    return not is_order and re.search(rf"\b{re.escape(name)}\b(?!\s*:?=[^=])", text[defined.end() :]) is not None
