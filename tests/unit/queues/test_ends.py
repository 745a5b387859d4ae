"""Which end those who only look take for the next one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from aworker.config import Config, QueueConfig, WorkerConfig
from aworker.queues.hand.ends import is_taken_from_left
from tests.kit.queue_scripts import NORMAL, task

OLD = task("old", "2026-09-21T14:13:20Z")
NEW = task("new", "2026-09-21T14:13:21Z")


def mark(payload: bytes) -> bytes:
    return hashlib.sha1(payload, usedforsecurity=False).hexdigest().encode()


@pytest.mark.parametrize(
    ("noted", "left", "right", "from_left"),
    [
        ([None, None], OLD, NEW, True),
        ([None, None], NEW, OLD, False),
        ([None, None], None, None, False),
        ([b"left 0", None], None, None, True),
        ([b"left 5", None], NEW, OLD, False),
        ([b"left 5", None], OLD, OLD, True),
        ([b"left 5", None], b"no task", OLD, True),
        ([b"left 5", b"0" * 40 + b" " + mark(NEW) + b" "], NEW, OLD, True),
        ([b"right 5", mark(OLD)], OLD, NEW, False),
        (["right 5", mark(OLD).decode()], OLD.decode(), NEW.decode(), False),
        ([b"right 5", mark(b"other")], OLD, NEW, True),
    ],
)
def test_the_older_end_unless_what_stands_there_was_moved(
    noted: list[Any], left: Any, right: Any, from_left: bool
) -> None:
    assert is_taken_from_left(Config(), NORMAL, noted, left, right) is from_left


def test_a_fixed_end_and_a_plain_pop_ask_nothing() -> None:
    fixed = Config(queues=(QueueConfig(name=NORMAL, label="normal", take_from="left"),))
    plain = Config(worker=WorkerConfig(delivery="at-most-once"))

    assert is_taken_from_left(fixed, NORMAL, [b"right 5", None], NEW, OLD)
    assert not is_taken_from_left(plain, NORMAL, [b"left 5", None], OLD, NEW)
