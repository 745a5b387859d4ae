"""A handler with schedules of its own."""

from __future__ import annotations

from typing import Any

from aworker import Context, handler, schedule


@schedule("0 7 * * *", name="morning", timezone="Europe/Berlin")
@handler("scheduled")
@schedule(every_s=1, overlap="queue")
async def scheduled(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Do nothing."""
    return {}
