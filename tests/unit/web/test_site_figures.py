"""The page's figures and pictures, from numbers alone."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aworker.overview.snapshot import Level, _rates
from aworker.queues.presence import MINUTES, Minute
from aworker.web.site.charts import HEIGHT, WIDTH, curve, hour
from aworker.web.site.rendering import PAYLOAD_MOST, duration, instant, laid_out, short, visible


def level(label: str, minutes: dict[int, Minute]) -> Level:
    """A level with what is known of some minutes, by how long ago they were."""
    row = [minutes.get(MINUTES - 1 - at) for at in range(MINUTES)]
    return Level(label, label, 0, None, None, row, None, None)


@pytest.mark.parametrize(
    "minutes, rates",
    [
        ({}, (None, None)),
        ({0: Minute(9, 9, 9, 0)}, (None, None)),
        ({1: Minute(5, 10, 0, 0)}, (None, 10.0)),
        ({ago: Minute(0, 10, 0, 0) for ago in range(1, 7)}, (10.0, 10.0)),
        ({ago: Minute(60 - 10 * ago, 10, 0, 0) for ago in range(1, 7)}, (20.0, 10.0)),
        ({1: Minute(0, 3, 0, 0), 2: Minute(100, 3, 0, 0)}, (0.0, 3.0)),
        ({ago: Minute(0, 10, 0, 0) for ago in range(20, 40)}, (None, None)),
    ],
)
def test_what_comes_in_is_what_was_taken_and_what_waits_more(
    minutes: dict[int, Minute], rates: tuple[float | None, float | None]
) -> None:
    assert _rates(level("x", minutes).minutes) == rates


def test_the_hour_stacks_all_levels_and_fills_its_height() -> None:
    shown = hour([level("a", {0: Minute(4, 0, 3, 1)}), level("b", {0: Minute(8, 0, 0, 4), 59: Minute(2, 0, 2, 0)})])

    assert (shown.most_ended, shown.most_waiting) == (8, 8)
    first, last = shown.bars
    assert (first.x, first.done_height, first.failed_height) == (1, HEIGHT / 4, 0)
    assert (last.done_height, last.failed_height, last.failed_y) == (45, 75, 0)
    assert shown.rows == [(0, 3, 5, 12), (59, 2, 0, 2)]
    assert dict(shown.lines)["a"] == f"{WIDTH - 5:.1f},{HEIGHT - 2 - 4 * (HEIGHT - 4) / 8:.1f}"


def test_an_hour_without_anything_is_empty() -> None:
    assert hour([]).is_empty
    assert hour([level("a", {})]).is_empty
    assert not hour([level("a", {3: Minute()})]).is_empty


def test_a_curve_goes_from_edge_to_edge() -> None:
    drawn = curve([[100, 1.0], [150, None], [200, 3.0], [300, 2.0]])

    assert drawn is not None
    assert drawn.points == "0.0,116.0 300.0,4.0 600.0,60.0"
    assert (drawn.lowest, drawn.highest, drawn.last, drawn.base_y) == (1.0, 3.0, 2.0, 116.0)
    flat = curve([[0, 1], [1, 1]])
    assert flat is not None
    assert "nan" not in flat.points


@pytest.mark.parametrize(
    "points", [[[0, math.nan], [1, 1]], [[0, math.inf], [1, 1]], [[-1, 1], [1, 1]], [[0, 1], [0, 2]]]
)
def test_what_cannot_be_drawn_is_no_curve(points: Any) -> None:
    assert curve(points) is None


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "–"),
        (0, "<1 ms"),
        (0.0125, "12 ms"),
        (1.25, "1.2 s"),
        (61, "1 min 1 s"),
        (3_599, "59 min"),
        (3_660, "1 h 1 min"),
        (1e6, "11 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_an_instant_beyond_every_calendar_is_a_dash() -> None:
    assert instant(0) == "1970-01-01 00:00:00 UTC"
    assert instant(1e18) == instant(-1e18) == instant(math.nan) == instant(None) == "–"


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\u202eb\x00c\u200b\ufeff") == "a\\u202eb\\x00c\\u200b\\ufeff"
    assert visible("a\nb", keep="\n") == "a\nb"
    assert short("x" * 500, 10) == "x" * 10 + "…"
    assert short("\u202e" * 5, 3) == "\\u202e" * 3 + "…"


def test_json_is_laid_out_and_everything_else_left() -> None:
    assert laid_out(b'{"a":[1,2]}').text.splitlines()[1] == '  "a": ['
    assert laid_out(b"\xff\xfe").text == "\\xff\\xfe"
    assert laid_out(b"[" * 50_000).is_cut
    whole = laid_out(b'{"a":"' + b"x" * 100_000 + b'"}')
    assert (len(whole.text), whole.is_cut, whole.whole_bytes) == (PAYLOAD_MOST, True, 100_008)
    assert laid_out(b'{"a": 1', 900).is_cut
