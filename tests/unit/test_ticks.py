"""Cron lines and intervals, above all where clocks are put forward and back.

The days are real ones; the expected ticks are what Debian's cron(8) says of them, and what users of other libraries
reported as wrong (croniter 1, 25, 90, 91, 149 and 191).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aworker.ticks import Ticks


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def shown(ticks: Ticks, after: str, zone: str, count: int) -> list[str]:
    """Return the next ticks as the wall in ``zone`` shows them, with its offset."""
    found, at = [], ms(after, zone)
    for _ in range(count):
        tick = ticks.after(at)
        assert tick is not None
        assert tick > at
        found.append(datetime.fromtimestamp(tick / 1000, ZoneInfo(zone)).strftime("%d %H:%M:%S%z"))
        at = tick
    return found


BERLIN, NEW_YORK, LONDON, PRAGUE, PARIS = (
    "Europe/Berlin",
    "America/New_York",
    "Europe/London",
    "Europe/Prague",
    "Europe/Paris",
)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # The hour that is left out: what names its time comes once, at the end of the hour.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00:00+0200", "30 02:30:00+0200"]),
        ("0 30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00:00+0200", "30 02:30:00+0200"]),
        ("15 30 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00:00+0200", "30 02:30:15+0200"]),
        ("0,15,30,45 2 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00:00+0200", "30 02:00:00+0200"]),
        ("0 2,3 * * *", BERLIN, "2026-03-28T12:00", ["29 03:00:00+0200", "30 02:00:00+0200", "30 03:00:00+0200"]),
        ("0 1-3 * * *", BERLIN, "2026-03-29T00:00", ["29 01:00:00+0100", "29 03:00:00+0200", "30 01:00:00+0200"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", ["08 03:00:00-0400", "09 02:30:00-0400"]),
        ("0 6 * * *", NEW_YORK, "2024-03-08T07:00", ["09 06:00:00-0500", "10 06:00:00-0400", "11 06:00:00-0400"]),
        ("30 2 29 3 *", BERLIN, "2026-01-01T00:00", ["29 03:00:00+0200", "29 02:30:00+0200"]),
        # ... and what follows the wall does not come in it.
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["30 02:00:00+0200", "30 02:30:00+0200"]),
        ("0 * * * *", BERLIN, "2026-03-29T00:30", ["29 01:00:00+0100", "29 03:00:00+0200", "29 04:00:00+0200"]),
        ("*/30 * * * *", BERLIN, "2026-03-29T01:00", ["29 01:30:00+0100", "29 03:00:00+0200", "29 03:30:00+0200"]),
        ("* */2 * * *", LONDON, "2025-03-30T00:58", ["30 00:59:00+0000", "30 02:00:00+0100", "30 02:01:00+0100"]),
        ("30 * * * * *", BERLIN, "2026-03-29T01:59:00", ["29 01:59:30+0100", "29 03:00:30+0200"]),
        # The hour that comes twice: what names its time comes the first time only.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["25 02:30:00+0200", "26 02:30:00+0100"]),
        ("0 30 2 * * *", BERLIN, "2026-10-24T12:00", ["25 02:30:00+0200", "26 02:30:00+0100"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["01 01:30:00-0400", "02 01:30:00-0500"]),
        ("0 20 * * *", PARIS, "2022-10-30T00:00", ["30 20:00:00+0100", "31 20:00:00+0100", "01 20:00:00+0100"]),
        ("10 3 * * 0", PRAGUE, "2025-10-19T12:00", ["26 03:10:00+0100", "02 03:10:00+0100"]),
        ("0 0 * * 0", NEW_YORK, "2025-11-01T12:00", ["02 00:00:00-0400", "09 00:00:00-0500"]),
        # ... and what follows the wall comes both times.
        (
            "*/30 2 * * *",
            BERLIN,
            "2026-10-25T00:00",
            ["25 02:00:00+0200", "25 02:30:00+0200", "25 02:00:00+0100", "25 02:30:00+0100", "26 02:00:00+0100"],
        ),
        (
            "0 * * * *",
            BERLIN,
            "2026-10-25T00:30",
            ["25 01:00:00+0200", "25 02:00:00+0200", "25 02:00:00+0100", "25 03:00:00+0100"],
        ),
        # Half an hour, at midnight, a whole day.
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["04 02:30:00+1100", "05 02:15:00+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["05 01:45:00+1100", "06 01:45:00+1030"]),
        ("30 0 * * *", "America/Santiago", "2026-09-05T12:00", ["06 01:00:00-0300", "07 00:30:00-0300"]),
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00",
            ["29 12:00:00-1000", "31 00:00:00+1400", "31 12:00:00+1400"],
        ),
        # What has nothing to do with it.
        ("30 2 * * *", "UTC", "2026-03-28T12:00", ["29 02:30:00+0000", "30 02:30:00+0000"]),
        ("0 0 */10 * *", "UTC", "2021-02-21T01:00", ["01 00:00:00+0000", "11 00:00:00+0000"]),
        ("30 9 * * mon-fri", NEW_YORK, "2026-07-02T12:00", ["03 09:30:00-0400", "06 09:30:00-0400"]),
        ("@daily", BERLIN, "2026-07-02T12:00", ["03 00:00:00+0200", "04 00:00:00+0200"]),
        ("@Hourly", BERLIN, "2026-07-02T12:00", ["02 13:00:00+0200", "02 14:00:00+0200"]),
        ("0 9 L * *", "UTC", "2028-02-01T00:00", ["29 09:00:00+0000", "31 09:00:00+0000"]),
        ("*/20 0 12 * * *", "UTC", "2026-01-01T00:00", ["01 12:00:00+0000", "01 12:00:20+0000", "01 12:00:40+0000"]),
    ],
)
def test_a_line_comes_when_it_is_told_to(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert shown(Ticks(cron, timezone=zone), after, zone, len(expected)) == expected


def test_looked_at_from_within_the_hour_that_comes_twice_it_is_not_said_again() -> None:
    second_pass = ms("2026-10-25T01:15")  # 02:15 in Berlin, for the second time

    tick = Ticks("30 2 * * *", timezone=BERLIN).after(second_pass)

    assert tick == ms("2026-10-26T01:30")


MINUTES = st.sampled_from(["*", "*/7", "*/30", "5", "0,59", "30-40"])
HOURS = st.sampled_from(["*", "*/2", "*/5"])
SECONDS = st.sampled_from(["", "0 ", "*/20 ", "59 "])
CHANGES = [
    (BERLIN, "2026-03-29T01:00"),
    (BERLIN, "2026-10-25T01:00"),
    (NEW_YORK, "2026-03-08T07:00"),
    (NEW_YORK, "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("America/Santiago", "2026-09-06T04:00"),
]


@settings(max_examples=60, deadline=None)
@given(minute=MINUTES, hour=HOURS, second=SECONDS, change=st.sampled_from(CHANGES), before_s=st.integers(0, 7_200))
def test_what_follows_the_wall_comes_whenever_the_wall_shows_it(
    minute: str, hour: str, second: str, change: tuple[str, str], before_s: int
) -> None:
    zone, at = change
    ticks = Ticks(f"{second}{minute} {hour} * * *", timezone=zone)
    if not ticks._names_its_hours:
        begin = ms(at) // 1000 - before_s
        seconds, minutes, hours = (_values(field) for field in ((second.strip() or "0"), minute, hour))

        expected = [
            instant * 1000
            for instant in range(begin + 1, begin + 14_400)
            for wall in (datetime.fromtimestamp(instant, ZoneInfo(zone)),)
            if wall.second in seconds and wall.minute in minutes and wall.hour in hours
        ]

        assert list(ticks.between(begin * 1000, (begin + 14_399) * 1000)) == expected


def _values(field: str) -> set[int]:
    if field.startswith("*"):
        return set(range(0, 60, int(field[2:] or 1)))
    first, _, last = field.partition("-")
    return set(range(int(first), int(last) + 1)) if last else {int(value) for value in field.split(",")}


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(["30 2 * * *", "*/5 * * * *", "0 0 1 * *", "15 30 1 * * *", "0 9 * * mon-fri"]),
    zone=st.sampled_from([BERLIN, NEW_YORK, "UTC", "Australia/Lord_Howe"]),
    day=st.integers(0, 400),
    steps=st.lists(st.integers(1, 40_000_000), min_size=1, max_size=8),
)
def test_it_does_not_matter_where_one_begins_to_look(cron: str, zone: str, day: int, steps: list[int]) -> None:
    ticks = Ticks(cron, timezone=zone)
    begin = ms("2026-01-01T00:00") + day * 86_400_000
    marks = [begin]
    for step in steps:
        marks.append(marks[-1] + step)

    in_parts = [tick for first, last in pairwise(marks) for tick in ticks.between(first, last)]

    assert in_parts == list(ticks.between(marks[0], marks[-1]))


def test_an_interval_counts_from_its_start_else_from_1970() -> None:
    assert list(islice(Ticks(every_s=90).between(ms("2026-01-01T00:00"), ms("2027-01-01T00:00")), 2)) == [
        ms("2026-01-01T00:01:30"),
        ms("2026-01-01T00:03"),
    ]
    ticks = Ticks(every_s=86_400, start=datetime(2026, 1, 1, 9, 30, tzinfo=UTC))
    assert [ticks.after(ms("2025-01-01T00:00")), ticks.after(ms("2026-01-01T09:30"))] == [
        ms("2026-01-01T09:30"),
        ms("2026-01-02T09:30"),
    ]


def test_nothing_comes_before_the_start_or_from_the_end_on() -> None:
    ticks = Ticks(
        "0 * * * *",
        start=datetime(2026, 1, 1, 9, tzinfo=UTC),
        end=datetime(2026, 1, 1, 11, tzinfo=UTC),
    )

    assert list(ticks.between(ms("2025-01-01T00:00"), ms("2027-01-01T00:00"))) == [
        ms("2026-01-01T09:00"),
        ms("2026-01-01T10:00"),
    ]
    assert ticks.after(ms("2026-01-01T10:00")) is None


@pytest.mark.parametrize("most", [1, 3, 100])
def test_the_newest_are_found_however_long_nobody_looked(most: int) -> None:
    ticks = Ticks("* * * * * *")
    now_ms = ms("2026-06-01T00:00:00") + 999

    found = ticks.newest(ms("1990-01-01T00:00"), now_ms, most)

    assert found == [ms("2026-06-01T00:00:00") - 1000 * back for back in range(most - 1, -1, -1)]


def test_the_newest_of_a_line_that_seldom_comes_is_found_too() -> None:
    ticks = Ticks("0 0 29 2 *")

    assert ticks.newest(ms("2001-01-01T00:00"), ms("2026-06-01T00:00"), 1) == [ms("2024-02-29T00:00")]
    assert ticks.newest(ms("2024-03-01T00:00"), ms("2026-06-01T00:00"), 1) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either cron or every_s"),
        ({"cron": "* * * * *", "every_s": 5}, "either cron or every_s"),
        ({"cron": "* * * *"}, "5 fields"),
        ({"cron": "* * * * * * *"}, "5 fields"),
        ({"cron": "60 * * * *"}, "bad minute"),
        ({"cron": "61 0 * * * *"}, "bad second"),
        ({"cron": "* 24 * * *"}, "bad hour"),
        ({"cron": "* * 0 * *"}, "bad day-of-month"),
        ({"cron": "* * * 13 *"}, "bad month"),
        ({"cron": "* * * * 8"}, "bad day-of-week"),
        ({"cron": "*/0 * * * *"}, "bad minute"),
        ({"cron": "5-1 * * * *"}, "bad minute"),
        ({"cron": "@reboot"}, "5 fields"),
        ({"cron": "hello"}, "5 fields"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"cron": "* * */20 * 1L"}, "within 50 years"),
        ({"every_s": 0.5}, "every_s from 1"),
        ({"every_s": -5}, "every_s from 1"),
        ({"every_s": 1e9}, "every_s from 1"),
        ({"every_s": float("nan")}, "every_s from 1"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "IANA"),
        ({"cron": "* * * * *", "timezone": "Europe"}, "IANA"),
        ({"cron": "* * * * *", "timezone": ""}, "IANA"),
        ({"cron": "* * * * *", "timezone": "../../etc/passwd"}, "IANA"),
        (
            {"every_s": 5, "start": datetime(2026, 1, 2, tzinfo=UTC), "end": datetime(2026, 1, 2, tzinfo=UTC)},
            "ended after its start",
        ),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Ticks(**settings)  # type: ignore[arg-type]


def test_a_long_range_is_walked_quickly_enough_to_be_tested() -> None:
    ticks = Ticks("30 2 * * *", timezone=BERLIN)
    begin, days = ms("2026-01-01T00:00"), 365

    found = list(ticks.between(begin, begin + timedelta(days=days) // timedelta(milliseconds=1)))

    assert len(found) == days
