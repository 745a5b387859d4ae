"""The lines of which there are two a task: the same text and fields, whoever else listens to the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from aworker.config import LoggingConfig
from aworker.logs import configure_logs, flush_logs, say

FIELDS = {"task_id": "a", "task_type": "t", "queue": "normal", "delivery": 1, "slot": 3, "trace_id": None}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "log"
    configure_logs(LoggingConfig())


def lines(path: Path) -> list[dict[str, Any]]:
    assert flush_logs()
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "time"}


def test_a_line_is_the_one_that_loguru_would_write(log: Path) -> None:
    configure_logs(LoggingConfig(file=str(log), format="json"))

    say("Processing t task a\x1b from normal queue", FIELDS)
    logger.bind(**FIELDS).info("Processing t task a\\x1b from normal queue")

    direct, by_loguru = lines(log)
    assert without_time(direct) == without_time(by_loguru)
    assert direct["time"][-6:] == by_loguru["time"][-6:]  # the zone
    assert direct["time"] <= by_loguru["time"]


def test_sinks_of_other_programs_get_it_too(log: Path) -> None:
    configure_logs(LoggingConfig(file=str(log)))
    heard: list[str] = []

    sink = logger.add(lambda message: heard.append(message.record["extra"]["task_id"]), level="INFO")
    say("Processing t task a from normal queue", FIELDS)
    logger.remove(sink)
    say("Completed t task a from normal queue in 0.1s", FIELDS)

    assert heard == ["a"]
    assert flush_logs()
    assert [line.split(" ", 3)[3].split()[0] for line in log.read_text().splitlines()] == ["Processing", "Completed"]


def test_the_same_line_again_and_again_is_a_flood(log: Path) -> None:
    configure_logs(LoggingConfig(file=str(log)))

    for _ in range(50):
        say("Processing t task a from normal queue", FIELDS)

    assert flush_logs()
    written = log.read_text().splitlines()
    assert len(written) < 10
    assert "more of this line" in written[-1]
