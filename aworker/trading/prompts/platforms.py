"""Pseudo-code of other programs into the words that the lexicon knows: definitions put in, their calls renamed.

Only shapes are replaced; what the parts mean, the grammar says.
"""

from __future__ import annotations

import re

MOST_DEFINITIONS = 8
MOST_CHARACTERS = 8_000
_DEFINED = re.compile(
    r"(?im)(?:^|(?<=[.;\n]))[ \t]*(?:def |var |let |bool |float )?(?P<name>[a-z]\w*)[ \t]*:?=(?!=)[ \t]*"
    r"(?P<text>(?:[^.;\n]|\.(?=\w))+?)[ \t]*(?:[.;]+(?=\s|$)|\n|$)"
)
_TITLE = re.compile(r"^\s*[A-Za-z]+(?: [A-Za-z]+)+\s=\s*(?=(?P<rest>[^\n]*))")
_ORDER_NEXT = re.compile(r"(?i)\s*(?:buy|sell|long|get|be|in|out|exit|enter|cash|flat|go|cross|sma|close)\b")
_ORDERS = frozenset(("buy", "sell", "entry", "exit", "short", "cover", "long", "stop", "target", "is", "out", "in"))
_SHAPES = [
    (r"(?i)\bstrategy\.entry\s*\([^()\n]*\)", " buy "),
    (r"(?i)\bstrategy\.(?:close|close_all|exit)\s*\([^()\n]*\)", " sell "),
    (r"(?i)\bapplystop\s*\(\s*stoptypeloss\s*,\s*stopmodepercent\s*,\s*([\d.]+)[^()\n]*\)", r" stop loss \1% "),
    (r"(?i)\bapplystop\s*\(\s*stoptypeprofit\s*,\s*stopmodepercent\s*,\s*([\d.]+)[^()\n]*\)", r" target \1% "),
    (r"(?i)\bapplystop\s*\(\s*stoptypetrailing\s*,\s*stopmodepercent\s*,\s*([\d.]+)[^()\n]*\)", r" trailing stop \1% "),
    (r"(?i)^\s*plot\s+\w+\s*=", " "),
    (r"(?i)\bplot\s+(?=\w+\s*=)", " "),
    (r"(?i)(?<=[\w)\]])\s+x\s+(?=(?:sma|ema|wma|rsi|macd|\d+|upper|lower|\$?[\d.]))", " crosses above "),
    (r'(?<=[{,])\s*"(\w+)"\s*:\s*', r" \1: "),
    (r"[{}]", " "),
    (r"(?im)(^|[.;\n][ \t]*)close (?=when|if|once|after|as soon)", r"\1sell "),
    (r"(?i)\b(stop|target|tp|sl|tf|timeframe|stop loss|take profit)\s*=\s*", r"\1: "),
    (r"/\*.*?\*/|//[^\n]*", " "),
    (r"\bw/o\b", "without"),
    (r"\bw/\s*", "with "),
    (r"(?i)(\d)\s*(?:per cent|pour cent)\b", r"\1 percent"),
    (r"(\d)(?:er|-er)\b(?=[ -])", r"\1 "),
    (r"(?i)\bH([14])\b(?!\w)", r"\1h"),
    (r"(?i)\bM(1|5|15|30)\b(?=\s*(?:chart|bars?|candles?|timeframe|$|[,.;\n]))", r"\1m"),
]


def in_words(text: str) -> str:
    """Return a prompt with its definitions put in where their names are used, and known calls as words."""
    for pattern, words in _SHAPES:
        text = re.sub(pattern, words, text)
    text = _TITLE.sub(lambda found: found[0] if _ORDER_NEXT.match(found["rest"]) else "", text)
    for _ in range(MOST_DEFINITIONS):
        defined = next((each for each in _DEFINED.finditer(text) if _is_used(each, text)), None)
        if defined is None or len(text) > MOST_CHARACTERS:
            break
        rest = f"{text[: defined.start()]}\n{text[defined.end() :]}"
        text = _put_in(defined["name"], f"({defined['text'].strip()})", rest)
    return text


def _put_in(name: str, meant: str, text: str) -> str:
    return re.sub(rf"\b{re.escape(name)}\b(?!\s*\()", lambda _: meant, text)


def _is_used(defined: re.Match[str], text: str) -> bool:
    name = defined["name"]
    is_order = name.lower() in _ORDERS
    return not is_order and re.search(rf"\b{re.escape(name)}\b(?!\s*:?=[^=])", text[defined.end() :]) is not None
