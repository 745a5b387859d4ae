"""Scaling out: the parts of a position that are sold before the rest of it, as data and as people write them.

``50% at 1R, 25% when rsi(close, 14) > 70`` sells half where the price has gained what the stop risks, and a quarter at
the open after that condition held; the rest goes as the trade ends. Parts are of the position as it was bought.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec

MOST_PARTS = 8
ALL = 1.0 - 1e-9
"""From this sum on the parts are the whole position."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is sold before the rest; ``at`` or ``when`` is given."""

    part: Annotated[float, msgspec.Meta(gt=0, le=1)]
    """Fraction of the position as it was bought."""
    at: float | Annotated[str, msgspec.Meta(description="a distance as take_profit's: 2 * atr(14), 1R")] | None = None
    """Gain from the entry price at which it is sold: as ``take_profit``."""
    when: Annotated[str, msgspec.Meta(description="a condition; it is sold at the next open")] | None = None


_WORDS = {"half": 0.5, "a half": 0.5, "a third": 1 / 3, "one third": 1 / 3, "a quarter": 0.25, "one quarter": 0.25}
_AMOUNT = r"(?:\d+(?:\.\d+)? ?%|\d*\.\d+|\d+/\d+|\d+|" + "|".join(_WORDS) + ")"
# A rule may hold commas, but none with an amount and one of the two words behind it.
_PART = re.compile(rf"({_AMOUNT})\s+(at|when)\s+(.+)", re.IGNORECASE)
_BETWEEN = re.compile(rf"\s*[,;]\s*(?={_AMOUNT}\s+(?:at|when)\s)", re.IGNORECASE)


def name_of(place: int) -> str:
    """Return the name under which a part's rule is compiled and its values are found."""
    return f"scale_out_{place + 1}"


def split(text: str) -> list[tuple[str, str, str]] | None:
    """Split a text into (amount, ``at`` or ``when``, what stands behind it); None where it is no such list."""
    found = [_PART.fullmatch(each.strip()) for each in _BETWEEN.split(" ".join(text.split()))]
    return [(each[1], each[2].lower(), each[3]) for each in found if each] if all(found) else None


def amount(text: str) -> float | None:
    """Read ``50%``, ``0.5``, ``1/2`` or ``half``; None where it is not above 0 and at most 1."""
    word = " ".join(text.lower().split())
    if word in _WORDS:
        return _WORDS[word]
    if "/" in word:
        above, below = (int(each) for each in word.split("/"))
        value = above / below if below else 0.0
    elif word.endswith("%"):
        value = float(Decimal(word[:-1].rstrip()) / 100)
    else:
        value = float(word)
    return value if 0 < value <= 1 else None


def total(parts: Iterable[Part]) -> float:
    """Return the sum of the parts."""
    return sum(each.part for each in parts)
