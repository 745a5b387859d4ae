"""What must not stand in a log: passwords in URLs, keys and tokens by their look or their name, and known values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aworker.config import Config

MASK = "***"
SHORTEST = 6
"""A known value that is shorter would be found in harmless words."""

# Before the patterns: most lines hold none of these.
_HINTS = ("://", "key", "token", "secret", "passw", "pwd", "bearer", "authorization", "sk-", "gh", "xox", "akia", "eyj")
# Nothing before the name: it would be tried at every letter of a long word.
_NAME = r"(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key)"
_PATTERNS = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/@:]*):([^\s/@]+)@", rf"\1\2:{MASK}@"),
        (
            r"(?i)(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:(?:bearer|basic|token|digest)\s+)?)[^\s\"'\\,;}]+",
            rf"\1{MASK}",
        ),
        (r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{12,}", rf"\1{MASK}"),
        (rf"(?i)({_NAME}\\?[\"']?\s*[:=]\s*\\?[\"'])[^\"'\\]+", rf"\1{MASK}"),
        (rf"(?i)({_NAME}\\?[\"']?\s*[:=]\s*)[^\s\"'\\,;&}})\]]{{3,}}", rf"\1{MASK}"),
        (r"\bsk-[A-Za-z0-9_-]{16,}", MASK),
        (r"\bgh[pousr]_[A-Za-z0-9]{20,}", MASK),
        (r"\bxox[abeprs]-[A-Za-z0-9-]{10,}", MASK),
        (r"\bAKIA[0-9A-Z]{16}\b", MASK),
        (r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+", MASK),
    )
)
_SECRET_NAME = re.compile(rf"(?i){_NAME}$|authorization$")


class Secrets:
    """Takes secrets out of what is logged."""

    def __init__(self, known: tuple[str, ...] = ()) -> None:
        self._known = tuple(value for value in known if len(value) >= SHORTEST)

    def out_of(self, text: str) -> str:
        """Return a text without them."""
        for value in self._known:
            if value in text:
                text = text.replace(value, MASK)
        lower = text.lower()
        if any(hint in lower for hint in _HINTS):
            for pattern, by in _PATTERNS:
                text = pattern.sub(by, text)
        return text

    def out_of_values(self, value: Any, name: str = "") -> Any:
        """Return what was bound to a line without them; a value whose name says secret is none."""
        if isinstance(value, str):
            return MASK if name and _SECRET_NAME.search(name) else self.out_of(value)
        if isinstance(value, dict):
            return {key: self.out_of_values(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self.out_of_values(one, name) for one in value]
        return value


def known_secrets(config: Config, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the secret values that a configuration leads to."""
    found = {environment.get(config.llm.api_key_env, ""), environment.get(config.http.token_env, "")}
    for url in (config.redis.url, config.strategies.url, config.llm.base_url):
        try:
            parts = urlsplit(url)
            password = parts.password
            asked = parse_qsl(parts.query)
        except ValueError:
            continue  # it is refused where it is used
        if password:
            found |= {password, unquote(password)}
        # Of the sentinels, and of the server where it stands there.
        found |= {value for name, value in asked if name.endswith("password")}
    return tuple(sorted(found - {""}, key=len, reverse=True))
