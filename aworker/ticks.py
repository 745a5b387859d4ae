"""The instants of a schedule: a cron line in a time zone, or an interval. Arithmetic alone, in whole milliseconds.

Why cronsim reads the lines: it follows Debian's cron and has no dependency; considered too: croniter (a job of the hour
that comes twice runs twice; python-dateutil), cron-converter (gives 02:30 on a day that has none; python-dateutil).

What a line means where clocks are put forward or back is decided here, the same with and without seconds, and as in
Debian's cron: a line that names its minutes and hours (neither begins with ``*``) comes once a day for each of them;
what falls into the hour that is left out comes at once when that is over, what falls into the hour that comes twice
comes the first time. Any other line follows the clock on the wall: nothing in the hour that is left out, and twice in
the one that comes twice. cronsim is asked for times of the wall alone: left to itself it treats lines with seconds in
another way, and half an hour (Lord Howe) wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

LOOK_MS = 60_000
SHORTEST_EVERY_S = 1.0
WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SECOND, _MINUTE, _DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


class Ticks:
    """When a schedule is due, from ``start`` (included) to ``end`` (not included).

    ``cron`` has five fields, or six with the seconds first; ``every_s`` counts from ``start``, else from 1970. Raises
    ValueError that says what a schedule must be.
    """

    def __init__(
        self,
        cron: str = "",
        every_s: float = 0.0,
        timezone: str = "UTC",
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> None:
        if bool(cron) == bool(every_s):
            raise ValueError("timed by either cron or every_s")
        self._start_ms = None if start is None else _ms(start)
        self._end_ms = None if end is None else _ms(end)
        if self._start_ms is not None and self._end_ms is not None and self._start_ms >= self._end_ms:
            raise ValueError(f"ended after its start, not {start} to {end}")
        self._zone = zone_of(timezone)
        self._every_ms = 0
        self._line = ""
        if every_s:
            if not SHORTEST_EVERY_S <= every_s <= 366 * 86_400:
                raise ValueError(f"timed by every_s from {SHORTEST_EVERY_S:g} to a year of seconds, not {every_s!r}")
            self._every_ms = round(every_s * 1000)
            return
        self._line = _checked(cron)
        minute, hour = self._line.split()[-5:-3]
        self._names_its_hours = not minute.startswith("*") and not hour.startswith("*")
        if self._cron_after(_ms(datetime(2024, 1, 1, tzinfo=UTC))) is None:
            raise ValueError(f"timed by a cron line that comes round within 50 years, not {cron!r}")

    def after(self, instant_ms: int) -> int | None:
        """Return the first tick after an instant; None when there is none any more."""
        if self._start_ms is not None:
            instant_ms = max(instant_ms, self._start_ms - 1)
        tick = self._every_after(instant_ms) if self._every_ms else self._cron_after(instant_ms)
        return None if tick is None or (self._end_ms is not None and tick >= self._end_ms) else tick

    def between(self, after_ms: int, until_ms: int) -> Iterator[int]:
        """Return the ticks after one instant up to another, in order."""
        tick = self.after(after_ms)
        while tick is not None and tick <= until_ms:
            yield tick
            tick = self.after(tick)

    def newest(self, after_ms: int, until_ms: int, most: int) -> list[int]:
        """Return the last ``most`` ticks after one instant up to another, in order, however long ago the first was."""
        width_ms = LOOK_MS
        while True:
            first_ms = max(after_ms, until_ms - width_ms)
            found = list(self.between(first_ms, until_ms))
            if len(found) >= most or first_ms == after_ms:
                return found[-most:]
            width_ms *= 2

    def _every_after(self, instant_ms: int) -> int:
        first_ms = self._start_ms or 0
        return first_ms + (math.floor((instant_ms - first_ms) / self._every_ms) + 1) * self._every_ms

    def _cron_after(self, instant_ms: int) -> int | None:
        at = datetime.fromtimestamp(instant_ms // 1000, UTC)
        return self._named_after(at) if self._names_its_hours else self._shown_after(at)

    def _named_after(self, at: datetime) -> int | None:
        for wall in CronSim(self._line, self._wall(at)):
            instant = self._first(wall)
            if instant > at:
                return _ms(instant)
        return None

    def _shown_after(self, at: datetime) -> int | None:
        wall = self._wall(at)
        while True:
            # The wall as it runs on from here, and where it is put forward or back before that, from there.
            offset = wall - at.replace(tzinfo=None)
            found = next(CronSim(self._line, wall), None)
            if found is None:
                return None
            instant = (found - offset).replace(tzinfo=UTC)
            change = self._change(at, instant, offset)
            if change is None:
                return _ms(instant)
            at, wall = change - _SECOND, self._wall(change) - _SECOND

    def _change(self, after: datetime, until: datetime, offset: timedelta) -> datetime | None:
        """Return the first instant after one and up to another at which the wall has left an offset."""
        while self._offset(last := min(after + _DAY, until)) == offset:
            if last == until:
                return None
            after = last
        while last - after > _SECOND:
            middle = after + timedelta(seconds=(last - after) // _SECOND // 2)
            after, last = (middle, last) if self._offset(middle) == offset else (after, middle)
        return last

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, instant: datetime) -> timedelta:
        return self._wall(instant) - instant.replace(tzinfo=None)

    def _first(self, wall: datetime) -> datetime:
        """Return the first instant at which a wall shows this time, or would if it did not leave it out."""
        instant = wall.replace(tzinfo=self._zone)
        if _is_shown(instant):
            return instant
        wall = wall.replace(second=0)
        while not _is_shown(instant):
            wall += _MINUTE
            instant = wall.replace(tzinfo=self._zone)
        return instant


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name. Raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # unknown, a folder, a path out of the zones, not read
        raise ValueError(f"in a timezone of the IANA database such as Europe/Berlin, not {name!r}") from None


def _checked(cron: str) -> str:
    line = WORDS.get(cron.strip().lower(), cron)
    try:
        CronSim(line, datetime(2024, 1, 1))
    except CronSimError as error:
        raise ValueError(
            f"timed by a cron line of 5 fields (minute hour day month weekday), or 6 with seconds first, "
            f"not {cron!r} ({str(error).lower()})"
        ) from None
    return line


def _is_shown(instant: datetime) -> bool:
    return instant == instant.astimezone(UTC).astimezone(instant.tzinfo)


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
