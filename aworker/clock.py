"""Wall-clock instants and their text, as the wire wants them: UTC, RFC 3339, ``Z``."""

import re
import time
from datetime import UTC, datetime
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{0,9}))?)?\s*(?:([Zz])|([+-])(\d\d):?(\d\d)?)?"
)


_USUAL_LENGTHS = frozenset({20, 24, 27})


def now_s() -> float:
    """Return the wall clock in epoch seconds."""
    return time.time()


def rfc3339(instant_s: float | None = None) -> str:
    """Format epoch seconds (default: now) as UTC RFC 3339 with microseconds and ``Z``."""
    whole, microseconds = divmod(time.time_ns() // 1_000 if instant_s is None else round(instant_s * 1e6), 1_000_000)
    return f"{_to_the_second(whole)}.{microseconds:06d}Z"


@lru_cache(maxsize=4)
def _to_the_second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_rfc3339(text: str) -> float | None:
    """Read an instant as epoch seconds; naive means UTC; None when the text is no instant.

    Takes ``Z`` or an offset or neither, and 0 to 9 fraction digits.
    """
    if len(text) in _USUAL_LENGTHS and text[10] == "T" and text[-1] == "Z":
        try:
            return datetime.fromisoformat(text).timestamp()  # what most producers write, six times as fast
        except ValueError:
            pass
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    try:
        whole = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    offset_s = int(offset_hours or 0) * 3600 + int(offset_minutes or 0) * 60
    part_s = int(fraction) / 10 ** len(fraction) if fraction else 0.0
    return whole.timestamp() + part_s - (-offset_s if sign == "-" else offset_s)
