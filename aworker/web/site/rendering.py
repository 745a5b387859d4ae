"""Templates and the words in them. Everything is escaped; what a person must not be fooled by is made visible."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

SHOWN_MOST = 120
PAYLOAD_MOST = 16_384


@cache
def environment() -> Environment:
    """Return the templates, with autoescape and without anything that is not defined."""
    made = Environment(
        loader=PackageLoader("aworker.web.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        short=short, quoted=quoted, duration=duration, instant=instant, died=died, number=number, share=share
    )
    made.globals["asset"] = asset_version
    return made


@cache
def static(name: str) -> bytes:
    """Return a file that is served as it is."""
    return files(__package__).joinpath("static", name).read_bytes()


@cache
def asset_version(name: str) -> str:
    """Return a short digest of a served file, so that a new one is fetched."""
    return hashlib.sha256(static(name)).hexdigest()[:12]


def visible(value: object, *, keep: str = "") -> str:
    """Return text in which what cannot be seen, or turns its neighbours around, is written as an escape."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)


def short(value: object, most: int = SHOWN_MOST) -> str:
    """Return visible text of a bounded length."""
    text = str(value)
    return visible(text) if len(text) <= most else visible(text[:most]) + "…"


def quoted(value: object) -> str:
    """Return text as a part of a URL's query."""
    return quote(str(value), safe="", errors="surrogatepass")


def duration(seconds: float | None) -> str:
    """Return seconds as people say them."""
    if seconds is None:
        return "–"
    if seconds < 0.001:
        return "<1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def instant(at_s: float | None) -> str:
    """Return epoch seconds as UTC."""
    if at_s is None:
        return "–"
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "–"


def died(entry_id: str) -> str:
    """Return when a dead letter was written, which its id says."""
    return instant(int(entry_id.partition("-")[0]) / 1000)


def number(value: float | None, digits: int = 0) -> str:
    """Return a number with thousands apart."""
    return "–" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """Return a fraction in per cent."""
    return "–" if value is None else f"{value * 100:.1f} %"


class Text(msgspec.Struct, frozen=True):
    """A payload or result as it is shown: laid out where it is JSON, cut where it is long."""

    text: str
    whole_bytes: int
    is_cut: bool


def laid_out(raw: bytes | str, whole_bytes: int | None = None) -> Text:
    """Return JSON with one field a line; anything else as it is, with what cannot be seen escaped."""
    data = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
    size = len(data) if whole_bytes is None else whole_bytes
    shown = data
    if size == len(data) and len(data) <= 1_048_576:
        try:
            shown = msgspec.json.format(msgspec.json.encode(msgspec.json.decode(data)), indent=2)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            shown = data
    text = shown[:PAYLOAD_MOST].decode("utf-8", "backslashreplace")
    return Text(visible(text, keep="\n"), size, len(shown) > PAYLOAD_MOST or size > len(data))


def fragment(template: str, /, **values: Any) -> str:
    """Render one template."""
    return environment().get_template(template).render(**values)
