"""The writer's queue before a target that takes, hangs, refuses or comes back; what a line looks like."""

from __future__ import annotations

import json
import os
import re
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from aworker.config import LoggingConfig
from aworker.errors import ConfigError
from aworker.logs import configure_logs, flush_logs
from aworker.logs import writer as writer_module
from aworker.logs.lines import FIELDS, as_json, as_text, plain_extra, process
from aworker.logs.writer import Writer
from tests.kit.workers import eventually


class Target:
    """Keeps what it is given, while it may."""

    def __init__(self) -> None:
        self.text = ""
        self.complaints: list[str] = []
        self.error: OSError | None = None
        self.takes = threading.Event()
        self.takes.set()
        self.asked = threading.Event()
        self.at_once = 1 << 20
        self.is_closed = False

    def write(self, data: bytes) -> int:
        self.asked.set()
        self.takes.wait()
        if self.error is not None:
            raise self.error
        taken = data[: self.at_once]
        self.text += taken.decode()
        return len(taken)

    def complain(self, reason: str) -> None:
        self.complaints.append(reason)

    def close(self) -> None:
        self.is_closed = True

    @property
    def messages(self) -> list[str]:
        return [line.split(" ", 3)[-1].strip() for line in self.text.splitlines()]


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.error = None
    target.takes.set()


@pytest.fixture
def writer(target: Target) -> Iterator[Writer]:
    writer = Writer()
    writer.write_to(target, as_text, keeps_extra=False)
    sink = logger.add(writer.put, format="{message}", level="DEBUG", backtrace=False, diagnose=False)
    yield writer
    logger.remove(sink)


def test_lines_come_in_order_with_time_and_level(writer: Writer, target: Target) -> None:
    for number in range(500):
        logger.info(f"line {number}")

    assert writer.flush(5)
    assert target.messages == [f"line {number}" for number in range(500)]
    assert target.text[4] == "-"
    assert target.text[24:32] == "INFO    "


def test_what_a_target_takes_in_parts_is_written_whole(writer: Writer, target: Target) -> None:
    target.at_once = 7

    logger.info("a line of more than seven bytes, with ümlauts")

    assert writer.flush(5)
    assert target.messages == ["a line of more than seven bytes, with ümlauts"]


def test_a_target_that_hangs_costs_lines_and_holds_nobody_up(
    writer: Writer, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_LINES", 50)
    monkeypatch.setattr(writer_module, "SPARE_LINES", 10)
    target.takes.clear()
    logger.info("the first")
    target.asked.wait()

    for number in range(60):
        logger.info(f"line {number}")
    for number in range(20):
        logger.error(f"error {number}")

    assert not writer.flush(0.01)
    target.takes.set()
    assert writer.flush(5)
    kept = [*(f"line {number}" for number in range(40)), *(f"error {number}" for number in range(10))]
    assert target.messages[1:-1] == kept
    assert target.messages[-1] == "30 lines of the log were dropped: they came faster than they could be written"


async def test_what_a_full_disk_refuses_waits_and_is_said_once(
    writer: Writer, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MOST_LINES", 20)
    monkeypatch.setattr(writer_module, "SPARE_LINES", 0)
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    target.error = OSError(28, "No space left on device")
    logger.info("the first")
    await eventually(lambda: _is(bool(target.complaints)))

    for number in range(25):
        logger.info(f"line {number}")
    target.error = None

    assert writer.flush(5)
    assert target.messages[:-1] == ["the first", *(f"line {number}" for number in range(20))]
    assert target.messages[-1] == "5 lines of the log were dropped: [Errno 28] No space left on device"
    assert target.complaints == ["[Errno 28] No space left on device"]


def test_a_new_target_takes_what_is_logged_after_it(writer: Writer, target: Target) -> None:
    logger.info("before")
    other = Target()

    writer.write_to(other, as_text, keeps_extra=False)
    logger.info("after")

    assert writer.flush(5)
    assert (target.messages, other.messages) == (["before"], ["after"])
    assert target.is_closed


def test_a_new_target_takes_what_the_old_one_refuses(writer: Writer, target: Target) -> None:
    target.error = OSError(28, "No space left on device")
    other = Target()
    logger.info("before")

    writer.write_to(other, as_text, keeps_extra=False)

    assert writer.flush(5)
    assert other.messages == ["before"]


def test_a_process_that_a_handler_forked_writes_for_itself(writer: Writer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:

        class File(Target):
            def write(self, data: bytes) -> int:
                return file.write(data) or 0

        writer.write_to(File(), as_text, keeps_extra=False)
        logger.info("the parent")
        assert writer.flush(5)
        child = os.fork()
        if child == 0:
            logger.info("the child")
            os._exit(0)
        os.waitpid(child, 0)

    assert [line.split(" ", 3)[-1].strip() for line in (tmp_path / "log").read_text().splitlines()] == [
        "the parent",
        "the child",
    ]


def test_a_traceback_follows_its_line_without_values(writer: Writer, target: Target) -> None:
    secret = "hunter2"
    try:
        raise ValueError("no" + secret[:0])
    except ValueError:
        logger.exception("it failed {}", "as {} may")

    assert writer.flush(5)
    assert target.messages[0] == "it failed as {} may"
    assert "ValueError: no\n" in target.text
    assert "hunter2" not in target.text


@pytest.fixture
def json_writer(target: Target) -> Iterator[Writer]:
    writer = Writer()
    writer.write_to(target, as_json, keeps_extra=True)
    sink = logger.add(writer.put, format="{message}", backtrace=False, diagnose=False)
    yield writer
    logger.remove(sink)


@pytest.mark.parametrize(
    ("bound", "found"),
    [
        ({"n": 3, "gone": None}, {"extra": {"n": 3}}),
        ({"when": {1: {2}}}, {"extra": {"when": {"1": [2]}}}),
        ({"object": Path("/a")}, {"extra": {"object": "/a"}}),
        ({"nan": float("nan")}, {"extra": {"nan": None}}),
        ({"queue": "normal", "delivery": 2, "duration_s": 1}, {"queue": "normal", "delivery": 2, "duration_s": 1}),
        (
            {"queue": ["odd"], "message": "forged", "level": 3},
            {"extra": {"queue": ["odd"], "message": "forged", "level": 3}},
        ),
        ({"password": "hunter2"}, {"extra": {"password": "***"}}),
    ],
)
def test_whatever_is_bound_becomes_json(
    json_writer: Writer, target: Target, bound: dict[str, Any], found: dict[str, Any]
) -> None:
    logger.bind(**bound).info("here")

    assert json_writer.flush(5)
    line = json.loads(target.text)
    assert (line.pop("level"), line.pop("message")) == ("INFO", "here")
    assert line.pop("time")
    assert {name: value for name, value in line.items() if name not in process} == found


def test_half_a_character_does_not_lose_a_line(json_writer: Writer, target: Target) -> None:
    logger.bind(half="\ud800").info("a file named \udcff")

    assert json_writer.flush(5)
    assert json.loads(target.text)["message"] == "a file named \\udcff"


def test_the_time_has_a_fraction_and_a_zone_in_every_line(json_writer: Writer, target: Target) -> None:
    def on_the_second(record: Any) -> None:
        record["time"] = record["time"].replace(microsecond=0)

    logger.patch(on_the_second).info("on the second")

    assert json_writer.flush(5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000[+-]\d\d:\d\d", json.loads(target.text)["time"])


def test_every_field_is_documented() -> None:
    documented = set(re.findall(r"(?m)^\| `(\w+)`", Path("docs/logs.md").read_text(encoding="utf-8")))

    assert documented >= {"time", "level", "message", *FIELDS, "extra", "exception"}


def test_a_flood_is_a_few_lines_and_a_count(json_writer: Writer, target: Target) -> None:
    for number in range(1_000):
        logger.bind(task_id=f"t{number}").warning(f"[x task t{number}] the cache is cold")

    assert json_writer.flush(5)
    lines = [json.loads(line) for line in target.text.splitlines()]
    assert [line["task_id"] for line in lines] == ["t0", "t1", "t2", "t3", "t4", "t999"]
    assert lines[-1]["repeated"] == 995
    assert lines[-1]["message"] == "[x task t999] the cache is cold (995 more of this line, this is the last)"


def test_lines_of_many_tasks_are_no_flood_below_a_warning(writer: Writer, target: Target) -> None:
    for number in range(100):
        logger.bind(task_id=f"t{number}").info(f"[x task t{number}] loaded")
    for _ in range(100):
        logger.bind(repeats=True).info("asked for at every turn")

    assert writer.flush(5)
    assert len(target.messages) == 200


def test_long_prompts_and_secrets_are_cut(writer: Writer, target: Target) -> None:
    prompt = "Failed create_strategy task t1: prompt must be shorter, was " + "buy low " * 100_000
    logger.error(prompt)
    logger.error("Stacks:\n" + "a line of a stack\n" * 100)
    logger.error("x" * 1_995 + " password=hunter2")

    assert writer.flush(5)
    long, stacks, _ = target.text.split(" ERROR    ")[1:]
    assert long.splitlines()[0] == f"{prompt[:2_000]}.. ({len(prompt):,} characters)"
    assert len(long) < 2_100
    assert stacks.count("a line of a stack\n") == 100
    assert "hunter2" not in target.text


def test_what_cannot_even_be_shown_is_named_by_its_type() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    assert plain_extra({"odd": Odd()}) == {"odd": "<Odd>"}


@pytest.fixture
def shown_by_loguru() -> Iterator[None]:
    yield
    configure_logs(LoggingConfig(level="ERROR"))


@pytest.mark.usefixtures("shown_by_loguru")
def test_a_file_that_was_moved_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aworker.logs.files.LOOK_INTERVAL_S", -1.0)
    path = tmp_path / "log"
    configure_logs(LoggingConfig(file=str(path)))
    logger.info("the first")
    assert flush_logs()

    path.rename(tmp_path / "log.1")
    logger.info("the second")

    assert flush_logs()
    assert "the first" in (tmp_path / "log.1").read_text()
    assert path.read_text().endswith("the second\n")


@pytest.mark.usefixtures("shown_by_loguru")
def test_a_disk_that_is_full_for_a_while_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    path = tmp_path / "log"
    configure_logs(LoggingConfig(file=str(path)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))  # a write that crosses it is cut, the next is refused
    try:
        for number in range(10):
            logger.info(f"line {number}")
        assert not flush_logs(0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert flush_logs()
    assert [line[33:] for line in path.read_text().splitlines()] == [f"line {number}" for number in range(10)]
    assert capfd.readouterr().err.count("logging.file must take lines") == 1


@pytest.mark.usefixtures("shown_by_loguru")
def test_a_full_file_is_renamed_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log {of} aworker.txt"
    configure_logs(LoggingConfig(file=str(path), rotation="2 KB", retention=2))

    for number in range(300):
        logger.info(f"line {number:03} {'.' * 60}")
        assert number % 20 or flush_logs()
    assert flush_logs()

    files = sorted(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) == 3
    assert path in files
    text = "".join(file.read_text(encoding="utf-8") for file in [*(file for file in files if file != path), path])
    numbers = [int(number) for number in re.findall(r"line (\d+)", text)]
    assert numbers == list(range(numbers[0], 300))
    assert max(file.stat().st_size for file in files) < 2_000 + 4_096


@pytest.mark.usefixtures("shown_by_loguru")
def test_a_file_that_cannot_be_renamed_is_written_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "log"
    configure_logs(LoggingConfig(file=str(path), rotation="100 B"))
    monkeypatch.setattr("os.rename", refuse)
    for number in range(10):
        logger.info(f"line {number} {'.' * 60}")
        assert flush_logs()
    monkeypatch.undo()

    assert path.read_text(encoding="utf-8").count("line") == 10
    assert "cannot be rotated" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/proc/no/such/log", "/"])
def test_a_file_that_cannot_be_opened_is_a_wrong_configuration(path: str) -> None:
    with pytest.raises(ConfigError, match=r"logging\.file must be writable"):
        configure_logs(LoggingConfig(file=path))


async def _is(value: bool) -> bool:
    return value
