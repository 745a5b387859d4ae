"""What a line looks like: text, or one JSON object with fields that stay."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line as it waits to be written."""

    at: datetime.datetime
    level: str
    text: str
    trace: str
    """A traceback, or nothing."""
    extra: dict[str, Any]

    @property
    def size(self) -> int:
        """About how much memory it takes, in characters."""
        return len(self.text) + len(self.trace)


Format = Callable[[Line], str]


def as_text(line: Line) -> str:
    """Return a line as people read it; its traceback follows it."""
    at = datetime.datetime.isoformat(line.at, " ", "milliseconds")[:23]
    trace = f"\n{line.trace}" if line.trace else ""
    return f"{at} {line.level: <8} {line.text}{trace}\n"


def as_json(line: Line) -> str:
    """Return a line as one JSON object."""
    fields: dict[str, Any] = {
        "time": datetime.datetime.isoformat(line.at, timespec="microseconds"),
        "level": line.level,
        "message": line.text,
        **line.extra,
    }
    if line.trace:
        fields["exception"] = line.trace
    try:
        return msgspec.json.encode(fields).decode() + "\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Half of a surrogate pair, a key that is no text: said as well as it can be.
        return msgspec.json.encode({name: _printable(value) for name, value in fields.items()}).decode() + "\n"


def plain_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return what was bound to a line as values that nobody changes any more."""
    return {
        name: value if type(value) in _PLAIN else _plain(value) for name, value in extra.items() if value is not None
    }


_PLAIN = frozenset((str, int, float, bool))


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except Exception:  # noqa: BLE001 - a handler may bind anything
        return f"<{type(value).__name__}>"


def _printable(value: Any) -> Any:
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()


FORMATS: dict[str, Format] = {"text": as_text, "json": as_json}


def one_line(text: str) -> str:
    """Return other people's text without line breaks and controls, so that it cannot look like a line of the log."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
