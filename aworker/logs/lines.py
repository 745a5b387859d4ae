"""What a line looks like: text, or one JSON object with fields that stay (docs/logs.md)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec

MESSAGE_MOST = 2_000
TEXT_MOST = 16_384
"""Of a message with line breaks (stacks) and of a traceback."""
RAW_MOST = 20_000
"""What is kept of either until it is written."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line as it waits to be written."""

    at: datetime.datetime
    level: str
    text: str
    trace: str
    """A traceback, or nothing."""
    extra: dict[str, Any]
    """Values that nobody changes any more."""
    cut_off: int = 0
    """Characters that the text was longer."""

    @property
    def size(self) -> int:
        """About how much memory it takes, in characters."""
        return len(self.text) + len(self.trace)


Format = Callable[[Line], str]

process: dict[str, str] = {}
"""Fields of every line in JSON: ``worker_id`` once there is one."""


def as_text(line: Line) -> str:
    """Return a line as people read it; its traceback follows it."""
    at = datetime.datetime.isoformat(line.at, " ", "milliseconds")[:23]
    trace = f"\n{line.trace}" if line.trace else ""
    return f"{at} {line.level: <8} {line.text}{trace}\n"


_NUMBER = (int, float)
# In this order; what a handler binds under one of these names in another type is kept in `extra`.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "task_id": str,
    "task_type": str,
    "queue": str,
    "delivery": int,
    "slot": int,
    "duration_s": _NUMBER,
    "worker_id": str,
    "error_type": str,
    "trace_id": str,
    "span_id": str,
    "logger": str,
    "pid": int,
    "audit": str,
    "repeated": int,
}


def as_json(line: Line) -> str:
    """Return a line as one JSON object."""
    fields: dict[str, Any] = {
        "time": datetime.datetime.isoformat(line.at, timespec="microseconds"),
        "level": line.level,
        "message": line.text,
    }
    bound = {**process, **line.extra} if process else line.extra
    if bound:
        own = {name: bound[name] for name, kind in FIELDS.items() if name in bound and isinstance(bound[name], kind)}
        fields.update(own)
        if len(own) < len(bound):
            fields["extra"] = {name: value for name, value in bound.items() if name not in own}
    if line.trace:
        fields["exception"] = line.trace
    try:
        return msgspec.json.encode(fields).decode() + "\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Half of a surrogate pair, a key that is no text: said as well as it can be.
        return msgspec.json.encode({name: _printable(value) for name, value in fields.items()}).decode() + "\n"


FORMATS: dict[str, Format] = {"text": as_text, "json": as_json}

_PLAIN = frozenset((str, int, float, bool))


def plain_extra(extra: dict[str, Any]) -> dict[str, Any]:
    """Return what was bound to a line as values that nobody changes any more."""
    return {
        name: value if type(value) in _PLAIN else _plain(value)
        for name, value in extra.items()
        if value is not None and name != "repeats"
    }


def cut(text: str, cut_off: int = 0) -> str:
    """Return a text that is not too long for a log: of prompts and payloads the beginning."""
    if len(text) <= MESSAGE_MOST:
        return text
    most = TEXT_MOST if "\n" in text[:MESSAGE_MOST] else MESSAGE_MOST
    return text if len(text) <= most else f"{text[:most]}.. ({len(text) + cut_off:,} characters)"


def cut_trace(trace: str) -> str:
    """Return a traceback that is not too long: its beginning and its end."""
    if len(trace) <= TEXT_MOST:
        return trace
    half = TEXT_MOST // 2
    return f"{trace[:half]}\n.. ({len(trace):,} characters) ..\n{trace[-half:]}"


def one_line(text: str) -> str:
    """Return other people's text without line breaks and controls, so that it cannot look like a line of the log."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except Exception:  # noqa: BLE001 - a handler may bind anything
        return f"<{type(value).__name__}>"


def _printable(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text.encode("utf-8", "backslashreplace").decode()
