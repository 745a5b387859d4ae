"""Process handlers of the pool's bench: they work, hang and die."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from aworker.execution.context import Context


def work(args: dict[str, Any], context: Context) -> dict[str, Any]:
    time.sleep(0.01)
    return {"success": True}


def spin(args: dict[str, Any], context: Context) -> None:
    while True:
        pass


def sleep(args: dict[str, Any], context: Context) -> None:
    time.sleep(60)


def hold_the_interpreter(args: dict[str, Any], context: Context) -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def allocate(args: dict[str, Any], context: Context) -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1024) * 1024 * 8))


def echo(value: Any, context: Context) -> Any:
    return value
