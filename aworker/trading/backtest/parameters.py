"""Rules with parameters, ``sma(close, {n})``, and the values that each parameter takes.

Invariant: a combination's rules are the text with every ``{name}`` replaced, and nothing else is done with it, so they
are checked as any others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from aworker.errors import RequestDeclined

MAX_COMBINATIONS = 100_000
MAX_PARAMETERS = 8
MAX_VALUES = 10_000

_PLACE = re.compile(r"\{\s*([A-Za-z_][A-Za-z0-9_]{0,31})\s*\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,31}")
_RANGE = re.compile(r"\s*([^:]+?)\s*\.\.\s*([^:]+?)\s*(?::\s*(.+?)\s*)?")


def read_values(path: str, given: Any) -> list[str]:
    """Return the values of a parameter as they are put into the rules.

    ``given`` is ``5..50:5`` (from, to, step; without a step 1), ``5, 10, 20``, or a list of numbers and words.
    Raises RequestDeclined that names the path.
    """
    rule = "FROM..TO:STEP or values with commas"
    if isinstance(given, str):
        match = _RANGE.fullmatch(given)
        values = _range(path, *match.groups()) if match else [part.strip() for part in given.split(",")]
    elif isinstance(given, Sequence):
        values = [_plain(value) for value in given]
    else:
        values = [_plain(given)]
    if not 1 <= len(values) <= MAX_VALUES:
        raise RequestDeclined(f"{path} must be 1 to {MAX_VALUES:,} values, was {len(values):,}; take larger steps")
    for value in values:
        if _number(value) is None and not _WORD.fullmatch(value):
            raise RequestDeclined(f"{path} must be {rule}, was {str(given)[:60]!r}; write 5..50:5 or 5,10,20")
    return list(dict.fromkeys(values))


def read_setting(option: str, text: str) -> tuple[str, list[str]]:
    """Read ``n=5..50:5``. Raises RequestDeclined that names the option."""
    name, equals, values = text.partition("=")
    name = name.strip()
    if not equals or not _NAME.fullmatch(name):
        raise RequestDeclined(
            f"{option} must be NAME=VALUES, was {text[:60]!r}; write n=5..50:5 for {{n}} in the rules"
        )
    return name, read_values(f"{option} {name}", values)


def check_parameters(text: str, parameters: Mapping[str, Sequence[str]]) -> int:
    """Return how many combinations there are. Raises RequestDeclined where text and parameters do not fit."""
    in_text = dict.fromkeys(_PLACE.findall(text))
    for name in in_text:
        if name not in parameters:
            raise RequestDeclined(
                f"parameters must have {name}, which the rules name as {{{name}}}; set {name}=5..50:5"
            )
    for name in parameters:
        if name not in in_text:
            there = ", ".join(f"{{{each}}}" for each in in_text) or "none"
            raise RequestDeclined(
                f"parameters must stand in the rules as {{{name}}}, which have {there}; write it there"
            )
    if not 1 <= len(parameters) <= MAX_PARAMETERS:
        raise RequestDeclined(
            f"parameters must be 1 to {MAX_PARAMETERS}, were {len(parameters)}; write {{n}} in the rules"
        )
    count = math.prod(len(values) for values in parameters.values())
    if count > MAX_COMBINATIONS:
        raise RequestDeclined(
            f"combinations must be at most {MAX_COMBINATIONS:,}, were {count:,}; take larger steps or fewer parameters"
        )
    return count


def combination(parameters: Mapping[str, Sequence[str]], place: int) -> dict[str, str]:
    """Return the values of a combination; the last parameter changes first."""
    values = {}
    for name, choices in reversed(list(parameters.items())):
        place, which = divmod(place, len(choices))
        values[name] = choices[which]
    return {name: values[name] for name in parameters}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with every ``{name}`` replaced by its value."""
    return _PLACE.sub(lambda found: values[found[1]], text)


def names_in(text: str) -> tuple[str, ...]:
    """Return the parameters that a text names, each once."""
    return tuple(dict.fromkeys(_PLACE.findall(text)))


def typed(value: str) -> int | float | str:
    """Return a value as JSON has it."""
    number = _number(value)
    if number is None:
        return value
    return int(number) if number == number.to_integral_value() and "." not in value else float(number)


def _range(path: str, start: str, end: str, step: str | None) -> list[str]:
    low, high, by = (_number(text) for text in (start, end, step or "1"))
    if low is None or high is None or by is None:
        raise RequestDeclined(f"{path} must be numbers, was {start[:20]}..{end[:20]}; write 5..50:5")
    if by <= 0 or high < low:
        raise RequestDeclined(
            f"{path} must rise by a step above 0, was {start[:20]}..{end[:20]}:{(step or '1')[:20]}; write 5..50:5"
        )
    count = int((high - low) / by) + 1
    if count > MAX_VALUES:
        raise RequestDeclined(f"{path} must be 1 to {MAX_VALUES:,} values, was {count:,}; take larger steps")
    return [f"{low + by * at:f}" for at in range(count)]


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return ""
    return value.strip() if isinstance(value, str) else f"{Decimal(repr(value)):f}"


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text) if len(text) <= 24 and re.fullmatch(r"-?[0-9.]+", text) else None
    except InvalidOperation:
        return None
    return number
