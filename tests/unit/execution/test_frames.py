"""Frames, the order of waiting calls, output lines, arguments."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from aworker.errors import ArgumentsInvalid
from aworker.execution.arguments import convert_arguments
from aworker.execution.pool import frames
from aworker.execution.pool.frames import FrameError, FrameReader, Kind, encode_frame
from aworker.execution.pool.output import Allowance, Output
from aworker.execution.pool.waiting import Waiting


def test_frames_come_out_as_they_went_in() -> None:
    sent = [(Kind.CALL, 1, b"abc"), (Kind.STOP, 1, b""), (Kind.RESULT, 2**64 - 1, b"\x00" * 100_000)]
    stream = b"".join(encode_frame(*frame) for frame in sent)

    received = FrameReader().feed(stream)

    assert received == sent


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 1000])
def test_frames_may_arrive_in_pieces_of_any_size(size: int) -> None:
    sent = [(Kind.PROGRESS, 7, b"a" * 30), (Kind.LOG, 7, b""), (Kind.RESULT, 7, b"b" * 2_000)]
    stream = b"".join(encode_frame(*frame) for frame in sent)
    reader = FrameReader()

    received = [frame for start in range(0, len(stream), size) for frame in reader.feed(stream[start : start + size])]

    assert received == sent


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 200 OK\r\n", b"\x00" * 16, encode_frame(Kind.CALL, 1)[:2] + b"\xff" + bytes(13), b"\n" * 5_000],
)
def test_garbage_is_noticed_at_the_first_header(garbage: bytes) -> None:
    reader = FrameReader()
    reader.feed(encode_frame(Kind.READY, 1))

    with pytest.raises(FrameError, match="frame"):
        reader.feed(garbage)


def test_a_length_above_the_limit_is_refused_before_its_body_arrives() -> None:
    header = encode_frame(Kind.RESULT, 1)[:4] + (frames.MAX_BODY_BYTES + 1).to_bytes(4, "big") + bytes(8)

    with pytest.raises(FrameError, match="header"):
        FrameReader().feed(header)


def test_a_body_above_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_BODY_BYTES", 10)

    with pytest.raises(FrameError, match="at most 10 bytes, was 11"):
        encode_frame(Kind.RESULT, 1, b"x" * 11)


class Turn(msgspec.Struct, eq=False):
    name: str
    task_id: str
    level: int = 0
    chunk: bool = False


def names(waiting: Waiting[Turn], *, chunks: bool = True) -> list[str]:
    taken = []
    while (turn := waiting.take(chunks=chunks)) is not None:
        taken.append(turn.name)
    return taken


def test_the_highest_level_goes_first() -> None:
    waiting: Waiting[Turn] = Waiting()
    for name, level in [("low", 2), ("middle", 1), ("high", 0)]:
        waiting.add(Turn(name, name, level=level))

    assert names(waiting) == ["high", "middle", "low"]


def test_tasks_of_a_level_take_turns() -> None:
    waiting: Waiting[Turn] = Waiting()
    for name in ["a1", "a2", "a3", "b1", "b2", "c1"]:
        waiting.add(Turn(name, name[0]))

    assert names(waiting) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_chunks_are_passed_over_while_they_may_not_run() -> None:
    waiting: Waiting[Turn] = Waiting()
    waiting.add(Turn("chunk", "a", chunk=True))
    waiting.add(Turn("merge", "a"))
    waiting.add(Turn("alert", "b", level=1))

    assert names(waiting, chunks=False) == ["merge", "alert"]
    assert names(waiting) == ["chunk"]


def test_a_call_that_was_put_back_is_next() -> None:
    waiting: Waiting[Turn] = Waiting()
    for name in ["a1", "a2", "b1"]:
        waiting.add(Turn(name, name[0]))
    first = waiting.take(chunks=True)
    assert first is not None

    waiting.add_first(first)

    assert names(waiting) == ["a1", "b1", "a2"]


def test_a_discarded_call_has_no_turn() -> None:
    waiting: Waiting[Turn] = Waiting()
    turn, other = Turn("a1", "a"), Turn("a2", "a")
    waiting.add(turn)
    waiting.add(other)

    assert waiting.discard(turn)

    assert not waiting.discard(turn)
    assert len(waiting) == 1
    assert waiting.drain() == [other]
    assert len(waiting) == 0


def test_an_allowance_ends_and_counts_what_it_refused() -> None:
    allowance = Allowance(burst=3, per_s=0.0)

    given = [allowance.take() for _ in range(5)]

    assert given == [True, True, True, False, False]
    assert allowance.refused == 2


@pytest.fixture
def output() -> Any:
    reading, writing = os.pipe()
    lines: list[str] = []
    made = Output(reading, lines.append)
    yield made, writing, lines
    os.close(writing)
    made.close()


def test_output_is_cut_into_lines(output: Any) -> None:
    made, writing, lines = output
    os.write(writing, b"first\r\nsec")
    made.read()
    os.write(writing, b"ond\n\nbad \xff byte\nrest")

    made.read()

    assert lines == ["first", "second", "bad \ufffd byte"]
    made.drain()
    assert lines[3:] == ["rest"]


def test_a_line_without_end_comes_in_pieces(output: Any) -> None:
    made, writing, lines = output
    os.write(writing, b"x" * 20_000)

    made.drain()

    assert [len(line) for line in lines] == [8_192, 8_192, 3_616]


def test_lines_beyond_the_allowance_are_counted(output: Any) -> None:
    made, writing, lines = output
    os.write(writing, b"y\n" * 5_000)

    made.drain()

    assert len(lines) < 1_100
    assert lines[-1] == f"({5_000 - len(lines) + 1} more lines of output were dropped)"


class Order(msgspec.Struct):
    symbol: str
    quantities: list[int]


def test_arguments_become_the_handlers_type() -> None:
    order = convert_arguments({"symbol": "AAPL", "quantities": [1], "else": 1}, Order)

    assert order == Order("AAPL", [1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbol": 5, "quantities": []}, r"args\.symbol must fit .*`str`.*, was 5;"),
        ({"symbol": "A", "quantities": [1, "two"]}, r"args\.quantities\[1\] must fit .*was 'two';"),
        ({"symbol": "A"}, r"args must fit .*missing required field `quantities`.*was \{'symbol': 'A'\};"),
        (["x" * 500], r"args must fit .*was \['x{98}\.\.\.;"),
    ],
)
def test_arguments_that_do_not_fit_name_path_and_value(arguments: Any, message: str) -> None:
    with pytest.raises(ArgumentsInvalid, match=message):
        convert_arguments(arguments, Order)
