"""Who may ask and who may act.

To read, it is enough to reach the listener by a name that is its own: a `Host` that somebody else's DNS points here is
refused. To act takes the token: what proves it is a signed cookie, made by the login form and bound to a time, so that
several processes with the same token know the same sessions. Invariant: nothing is compared but in constant time, and
without a token nothing can be done at all.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

SESSION_S = 8 * 3_600
COOKIE = "aworker_session"
KNOWN_COOKIE = "aworker_known"
KNOWN_S = 90 * 86_400
"""How long a browser is known by which somebody has logged in."""
TOKEN_LEAST = 16
TRIES = 5
TRIES_OF_ALL = 30
TRIES_WITHIN_S = 60.0
_ADDRESSES_MOST = 1_000

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def is_own_host(header: str, hosts: Sequence[str]) -> bool:
    """Whether a `Host` header names this machine by an address, as localhost, or by one of ``hosts``.

    An address cannot be rebound: there is no name whose meaning somebody could change.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if not header or any(character in header for character in "/@?#\\ "):
        return False
    if name == "localhost" or name.endswith(".localhost") or name in {host.lower() for host in hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str | None, host: str) -> bool:
    """Whether a form came from this page; browsers say where from, others need not."""
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


class Sessions:
    """Signed cookies for whoever has the token; with an empty token nobody has."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._key = hmac.digest(self._token, b"aworker page session", "sha256")
        self._clock = clock

    @property
    def is_open(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._token)

    def is_token(self, given: str) -> bool:
        """Whether it is the token; in a time that does not tell how much of it is right."""
        digests = (hashlib.sha256(one).digest() for one in (given.encode("utf-8", "replace"), self._token))
        return hmac.compare_digest(*digests) and self.is_open

    def begin(self) -> str:
        """Return a new session's cookie."""
        head = f"{int(self._clock()) + SESSION_S}.{secrets.token_urlsafe(16)}"
        return f"{head}.{self._signed('session', head)}"

    def holds(self, cookie: str | None) -> bool:
        """Whether a cookie is one of ours and its time is not over."""
        head, _, signature = (cookie or "").rpartition(".")
        until = head.partition(".")[0]
        is_ours = hmac.compare_digest(self._signed("session", head).encode(), signature.encode("utf-8", "replace"))
        return self.is_open and is_ours and until.isascii() and until.isdigit() and int(until) > self._clock()

    def mark_of(self, cookie: str) -> tuple[str, int]:
        """Return a session's name, which opens nothing, and the seconds that it has left."""
        head = cookie.rpartition(".")[0]
        until = int(head.partition(".")[0])
        return hashlib.sha256(head.encode()).hexdigest()[:32], max(1, until - int(self._clock()))

    def make_known(self) -> str:
        """Return a cookie by which this browser is known when it logs in again."""
        head = f"{int(self._clock()) + KNOWN_S}.{secrets.token_urlsafe(16)}"
        return f"{head}.{self._signed('known', head)}"

    def known_as(self, cookie: str | None) -> str:
        """Return the name of a browser that is known; empty for any other."""
        head, _, signature = (cookie or "").rpartition(".")
        until, _, name = head.partition(".")
        is_ours = hmac.compare_digest(self._signed("known", head).encode(), signature.encode("utf-8", "replace"))
        is_known = self.is_open and is_ours and until.isascii() and until.isdigit() and int(until) > self._clock()
        return name if is_known else ""

    def form_token(self, cookie: str) -> str:
        """Return what a form of this session must carry."""
        return self._signed("form", cookie)

    def is_form_token(self, cookie: str, given: str) -> bool:
        """Whether a form is this session's."""
        return hmac.compare_digest(self.form_token(cookie).encode(), given.encode("utf-8", "replace"))

    def _signed(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}:{text}".encode("utf-8", "replace"), "sha256").hexdigest()


class Tries:
    """Wrong tokens, by who gave them and of all that are not known: after so many within a minute none is looked at.

    A browser that is known has tries of its own, so that nobody can keep a team out of its page by guessing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_address: dict[str, deque[float]] = {}
        self._of_all: deque[float] = deque(maxlen=TRIES_OF_ALL)

    def wait_s(self, address: str, known_as: str = "") -> float:
        """How long an address, or a browser that is known, must wait; 0 = it may try."""
        now = self._clock()
        waits = [0.0]
        own = self._by_address.get(_who(address, known_as), deque())
        for tried, most in ((own, TRIES),) if known_as else ((own, TRIES), (self._of_all, TRIES_OF_ALL)):
            if len(tried) >= most:
                waits.append(tried[0] + TRIES_WITHIN_S - now)
        return max(waits)

    def note(self, address: str, known_as: str = "") -> None:
        """Count a try, before it is clear whether it is right."""
        now = self._clock()
        who = _who(address, known_as)
        if who not in self._by_address and len(self._by_address) >= _ADDRESSES_MOST:
            self._by_address = {
                known: tried for known, tried in self._by_address.items() if tried[-1] > now - TRIES_WITHIN_S
            }
        if len(self._by_address) < _ADDRESSES_MOST or who in self._by_address:
            self._by_address.setdefault(who, deque(maxlen=TRIES)).append(now)
        if not known_as:
            self._of_all.append(now)

    def forget(self, address: str, known_as: str = "") -> None:
        """Start anew for somebody whose token was right."""
        self._by_address.pop(_who(address, known_as), None)


def _who(address: str, known_as: str) -> str:
    if known_as:
        return f"browser {known_as}"
    try:
        whole = ipaddress.ip_address(address)
    except ValueError:
        return address
    # Whoever has one address of IPv6 has all of its network.
    return address if whole.version == 4 else str(ipaddress.ip_network((whole, 64), strict=False))
