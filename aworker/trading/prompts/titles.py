"""What a prompt calls its strategy: a name that it gives, and a title before what is said.

Invariant: a title is passed over only where what follows is a strategy by itself, and it holds nothing that is said of
nothing else there: no order, comparison, symbol, span or percentage, and no series that the rest does not speak of.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aworker.trading.prompts.lattice import MOST_TOKENS, Lattice, tokens_of

_NAMED = re.compile(
    r"(?i)\b(?:call (?:it|this)|name it|named|titled|called|rename (?:it )?to)\s+"
    r"(?:[\"“'](?P<quoted>[^\"”'\n]{1,120})[\"”']"
    r"|(?P<bare>[A-Z][\w ]{0,40}?))\s*"
    r"(?=[.,;:\n]|$|\b(?:that|which|and|with|where|who|for|on|buy|when|enter|go long|\d))"
)
_TITLED = re.compile(
    r"(?im)^\s*(?:strategy )?(?:name|title):\s*(?:(?P<quoted>\"[^\"\n]{1,120}\")|(?P<bare>[^\n;]{1,120}))(?:\n|;|$)"
)
_LABEL = re.compile(
    r"(?i)\s*(?:(?:trading )?(?:strategy|system|setup|idea|rule|rules|scan|screen|screener|alert|method)\s*[:=-]\s*)?"
)
_HEADING = re.compile(
    r"(?:[^:\n.;,<>=%$]|(?<=[A-Za-z0-9])[.](?=[A-Za-z])){2,60}(?P<end>:(?!=)|\n|\s-\s|\s->\s)\s*(?=\S)"
)
# fmt: off
_SAYS = frozenset((
    "BUY", "SELL", "REL", "CROSS", "MOVE", "BREAKS", "NOT", "UNLESS", "DONT", "ONLY", "STOP", "TARGET",
    "TRAIL", "HOLD", "CLOSES", "CLOSES_CROSS", "OTHERWISE", "NO_LIMIT", "UNSUPPORTED", "LANGUAGE", "TOUCH", "BETWEEN",
    "RANK", "ENTRY_LABEL", "EXIT_LABEL", "SYMBOL_LABEL", "STAY", "STAY_LONG",
))
_SERIES = frozenset((
    "INDICATOR", "MACD", "SIGNAL", "HISTOGRAM", "BAND", "AVERAGE", "PRICE", "EXTREME", "DONCHIAN", "RETURN",
))
_SITUATIONS = frozenset((
    "STATE", "CANDLE", "GAP", "GOLDEN", "DEATH", "BREAKOUT", "TREND", "BAR", "STREAK", "TURN", "CHANGE", "CROSSOVER",
))
_TITLE_WORDS = frozenset((
    "idea", "strategy", "setup", "system", "scan", "screen", "screener", "bounce", "reversal", "reversals", "play",
    "plays", "trade", "trades", "names", "stocks", "candidates", "method", "trick", "rules", "alert", "style", "trader",
    "trading", "reversion", "continuation", "momentum", "pullback", "pullbacks", "following", "fade", "surge", "spike",
    "breakout", "breakouts", "special", "twist", "rule", "selloff", "classic", "variation", "variant", "version",
    "approach", "playbook", "hunter", "buyer", "rider",
))
# fmt: on
"""Words that make a title of what else would be a condition: "oversold bounce:"."""


def named(text: str) -> tuple[str | None, str]:
    """Return the name that a prompt gives its strategy, and the prompt without it."""
    found = _TITLED.search(text) or _NAMED.search(text)
    if found is None:
        return None, text
    return (found["quoted"] or found["bare"]).strip(' "'), text[: found.start()] + " " + text[found.end() :]


class Titled(NamedTuple):
    """A prompt without its title."""

    body: str
    has_series: bool
    """Whether the title names a series, of which what follows may speak."""
    is_title: bool
    """Whether it can be nothing but a title; else it may be a condition as well."""


def without_title(text: str) -> Titled | None:
    """Return a prompt without the title that it begins with or may begin with, or None where it begins with none.

    The title's bars stay: "Weinstein on weekly bars: ...".
    """
    label = _LABEL.match(text)
    start = label.end() if label is not None else 0
    heading = _HEADING.match(text, start)
    if heading is None:
        return Titled(text[start:], False, True) if start else None
    title, body = text[start : heading.start("end")], text[heading.end() :]
    if len(tokens_of(body)) > MOST_TOKENS:
        return None
    is_title = _is_title(title, body)
    if is_title is None:
        return None
    lattice = Lattice(title, is_mended=False)
    has_series = any(edge.kind in _SERIES for edges in lattice.edges for edge in edges)
    bars = [
        lattice.written(at, edge.end)
        for at, edges in enumerate(lattice.edges)
        for edge in edges
        if edge.kind == "TIMEFRAME"
    ]
    symbols = [edge.value for edges in lattice.edges for edge in edges if edge.kind == "TICKER"]
    kept = [f"on {max(bars, key=len)}"] if bars else []
    if symbols:
        kept.append("only " + ", ".join(f"${each}" for each in symbols))
    return Titled(". ".join([*kept, body]), has_series, is_title)


def _is_title(title: str, body: str) -> bool | None:
    lattice, labels = Lattice(title, is_mended=False), Lattice(f"{title}:", is_mended=False)
    edges = [edge for at, many in enumerate(lattice.edges) for edge in many if not lattice.is_inside(at, edge.end)]
    kinds = {edge.kind for edge in edges}
    if any(
        token.text in ("when", "if", "whenever", "once", "after", "while", "wenn", "quand") for token in lattice.tokens
    ):
        return None
    is_label = any(edge.kind.endswith("_LABEL") for edge in labels.edges[0])
    if (
        is_label
        or kinds & _SAYS
        or any(edge.kind == "NUM" and (edge.value.is_percent or edge.value.is_money) for edge in edges)
    ):
        return None
    is_named = any(token.text in _TITLE_WORDS for token in lattice.tokens)
    for many in lattice.edges:
        for edge in many:
            has_unit = edge.kind == "NUM" and any(unit.kind == "UNIT" for unit in lattice.edges[edge.end])
            if has_unit and not is_named:
                return False
    rest = {(edge.kind, edge.value) for many in Lattice(body).edges for edge in many}
    known = {kind for kind, _ in rest}
    if not kinds & _SERIES <= known and not is_named:
        return False
    return is_named or kinds & _SITUATIONS <= known
