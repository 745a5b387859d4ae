"""What the bench runs in children."""

from __future__ import annotations

import time
from typing import Any

from aworker.execution.context import Context


def echo(value: Any, context: Context) -> Any:
    """Return the value."""
    return value


def spin(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Compute for so many seconds of processor time."""
    until = time.process_time() + args["for_s"]
    while time.process_time() < until:
        pass
    return {}
