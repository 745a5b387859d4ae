"""A flood of one line: what passes, what is said of the rest, and when."""

from __future__ import annotations

import datetime

import pytest

from aworker.logs import floods as floods_module
from aworker.logs.floods import FREE, WINDOW_S, Floods
from aworker.logs.lines import Line

KEY = (30, "cold")


def line(text: str) -> Line:
    return Line(datetime.datetime.now(datetime.UTC), "WARNING", text, "", {})


def flood(floods: Floods, count: int, now: float) -> int:
    passed = 0
    for number in range(count):
        if floods.passes(KEY, now):
            passed += 1
        else:
            floods.keep(KEY, line(f"cold {number}"))
    return passed


def told(floods: Floods, now: float, **more: bool) -> list[tuple[str, int]]:
    return [(line.text, count) for line, count in floods.due(now, **more)]


def test_a_few_pass_and_the_rest_is_said_at_the_end_of_the_minute() -> None:
    floods = Floods()

    assert flood(floods, 1_000, 100) == FREE
    assert told(floods, 100 + WINDOW_S - 0.1) == []
    assert told(floods, 100 + WINDOW_S) == [("cold 999", 1_000 - FREE)]


def test_as_long_as_it_goes_on_it_is_one_a_minute() -> None:
    floods = Floods()
    flood(floods, 100, 0)

    for minute in range(1, 5):
        assert told(floods, minute * WINDOW_S) == [("cold 99", 95 if minute == 1 else 100)]
        assert flood(floods, 100, minute * WINDOW_S + 1) == 0


def test_a_minute_without_it_ends_it() -> None:
    floods = Floods()
    flood(floods, 10, 0)
    told(floods, WINDOW_S)

    assert told(floods, 2 * WINDOW_S) == []
    assert not floods.is_flooding
    assert flood(floods, 10, 2 * WINDOW_S) == FREE


def test_a_line_now_and_then_is_no_flood() -> None:
    floods = Floods()

    assert all(floods.passes(KEY, now * WINDOW_S / (FREE - 1)) for now in range(100))


def test_at_the_end_everything_is_said() -> None:
    floods = Floods()
    flood(floods, 10, 0)

    assert told(floods, 1, all_of_them=True) == [("cold 9", 5)]
    assert told(floods, 1, all_of_them=True) == []


def test_a_flood_between_other_lines_is_found_and_those_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods_module, "MOST_TEXTS", 50)
    floods = Floods()
    passed = 0
    for number in range(10_000):
        assert floods.passes((20, f"line {number}"), 0)
        passed += number % 10 == 0 and floods.passes(KEY, 0)

    assert passed == FREE
    assert len(floods._young) + len(floods._old) <= 100
