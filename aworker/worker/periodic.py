"""The one helper for jobs that repeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


async def every(interval_s: Callable[[], float], job: Callable[[], Awaitable[None]]) -> None:
    """Run ``job`` at once and then again ``interval_s()`` after each end, until cancelled."""
    while True:
        await job()
        await anyio.sleep(interval_s())
