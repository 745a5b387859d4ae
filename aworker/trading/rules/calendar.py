"""What the clock and the calendar say of a bar: its day, month and time in a time zone, and values of its session.

A bar counts by its opening instant. A session is the bars of one day in the zone. Invariant: nothing is asked of a
later bar, so what a holiday would change is not known: `weekdays_left` counts it as a day.

Why a session and a month that the bars begin with are undefined: they may have begun before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from aworker.trading.rules.windows import Numbers

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

_DAY_S = 86_400
_STEP_S = 900
"""No zone changes its offset but at a whole quarter of an hour."""


class Clock:
    """The local times of bars; ``timestamp`` are their opening instants in epoch seconds."""

    def __init__(self, timestamp: Integers, timezone: str) -> None:
        local = timestamp + _offsets(timestamp, timezone)
        self.day = local // _DAY_S
        self.second = local % _DAY_S
        self.month = _months(self.day)
        self.first_of_session = _changes(self.day)

    def session(self) -> Integers:
        """Return the number of each bar's first one in its session, -1 for the session that the bars begin with."""
        place = np.where(self.first_of_session, np.arange(len(self.day)), -1)
        return np.maximum.accumulate(place)


def flat_bars(timestamp: Integers, timezone: str, flat_at: str) -> tuple[Booleans, Booleans]:
    """Return at which bars nothing is held or bought any more, and at which a position of the day before is closed.

    ``flat_at`` is a time of day, HH:MM, in the zone.
    """
    hour, minute = map(int, flat_at.split(":"))
    clock = Clock(timestamp, timezone)
    return clock.second >= hour * 3_600 + minute * 60, clock.first_of_session


def _offsets(timestamp: Integers, timezone: str) -> Integers:
    if timezone == "UTC" or not len(timestamp):
        return np.zeros(len(timestamp), np.int64)
    zone = ZoneInfo(timezone)
    steps, place = np.unique(timestamp // _STEP_S, return_inverse=True)
    known = [_offset_s(int(step) * _STEP_S, zone) for step in steps]
    return np.array(known, np.int64)[place]


def _offset_s(instant: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(instant, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _changes(numbers: Integers) -> Booleans:
    changed = np.zeros(len(numbers), np.bool_)
    changed[1:] = numbers[1:] != numbers[:-1]
    return changed


def _months(day: Integers) -> Integers:
    # Months since 1970.
    return day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _first_day(month: Integers) -> Integers:
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _trading_day(clock: Clock) -> Numbers:
    days = np.cumsum(clock.first_of_session)
    first = np.maximum.accumulate(np.where(_changes(clock.month), days, -1)) if len(days) else days
    return np.where(first < 0, np.nan, days - first + 1.0)


def _weekdays_left(clock: Clock) -> Numbers:
    after, end = clock.day + 1, _first_day(clock.month + 1)
    return np.busday_count(after.astype("datetime64[D]"), end.astype("datetime64[D]")).astype(np.float64)


def _session_bar(clock: Clock) -> Numbers:
    first = clock.session()
    return np.where(first < 0, np.nan, np.arange(len(first)) - first + 1.0)


TIMES: dict[str, Callable[[Clock], Any]] = {
    # 1970-01-01 was a Thursday.
    "weekday": lambda clock: (clock.day + 3) % 7 + 1.0,
    "month": lambda clock: clock.month % 12 + 1.0,
    "day_of_month": lambda clock: clock.day - _first_day(clock.month) + 1.0,
    "days_left": lambda clock: _first_day(clock.month + 1) - clock.day - 1.0,
    "weekdays_left": _weekdays_left,
    "trading_day": _trading_day,
    "hour": lambda clock: clock.second // 3_600 + 0.0,
    "minute": lambda clock: clock.second // 60 % 60 + 0.0,
    "time_of_day": lambda clock: clock.second // 3_600 * 100.0 + clock.second // 60 % 60,
    "session_bar": _session_bar,
}
"""Operations on the times of the bars alone."""


def _session_open(clock: Clock, open_: Numbers) -> Numbers:
    first = clock.session()
    return np.where(first < 0, np.nan, open_[first]) if len(first) else open_


def _running(pick: np.ufunc) -> Callable[[Clock, Numbers], Numbers]:
    def compute(clock: Clock, series: Numbers) -> Numbers:
        values = np.full(len(series), np.nan)
        for start, stop in _sessions(clock):
            values[start:stop] = pick.accumulate(series[start:stop])
        return values

    return compute


def _session_vwap(clock: Clock, high: Numbers, low: Numbers, close: Numbers, volume: Numbers) -> Numbers:
    # Session by session: a sum over all bars would round by what came before.
    typical = (high + low + close) / 3.0
    values = np.full(len(close), np.nan)
    for start, stop in _sessions(clock):
        traded = np.cumsum(volume[start:stop])
        values[start:stop] = np.cumsum(typical[start:stop] * volume[start:stop]) / traded
    return np.where(np.isinf(values), np.nan, values)


def _sessions(clock: Clock) -> list[tuple[int, int]]:
    starts = np.flatnonzero(clock.first_of_session).tolist()
    return list(itertools.pairwise([*starts, len(clock.day)]))


SESSIONS: dict[str, Callable[..., Numbers]] = {
    "session_open": _session_open,
    "session_high": _running(np.maximum),
    "session_low": _running(np.minimum),
    "session_vwap": _session_vwap,
}
"""Operations on the times of the bars and their prices."""
