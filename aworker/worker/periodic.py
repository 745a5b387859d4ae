"""The one helper for jobs that repeat."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

LOOK_AGAIN_S = 2.0


async def every(interval_s: Callable[[], float], job: Callable[[], Awaitable[None]]) -> None:
    """Run ``job`` at once and then again ``interval_s()`` after each end, until cancelled.

    An interval that changes while it runs counts within two seconds.
    """
    while True:
        await job()
        ended_at, left_s = time.monotonic(), interval_s()
        while True:
            await anyio.sleep(min(max(left_s, 0.0), LOOK_AGAIN_S))
            left_s = ended_at + interval_s() - time.monotonic()
            if left_s <= 0:
                break
