"""The overview as server-sent events: the parts that changed, as HTML, every two seconds.

All who look on share one snapshot. A stream ends after 20 s and the browser comes again by itself, so that no shutdown
waits for it, also where the page is mounted in somebody else's application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import msgspec

INTERVAL_S = 2.0
STREAM_S = 20.0
WATCHERS_MOST = 100

Parts = dict[str, str]


class Closing:
    """Told once, heard by every stream, in whatever loop they are."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiting: set[anyio.Event] = set()

    def set(self) -> None:
        """End every stream."""
        self.is_set = True
        for event in self._waiting:
            event.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it is set, at most so long."""
        event = anyio.Event()
        if self.is_set:
            return
        self._waiting.add(event)
        try:
            with anyio.move_on_after(seconds):
                await event.wait()
        finally:
            self._waiting.discard(event)


async def events(parts: Callable[[], Awaitable[Parts]], closing: Closing) -> AsyncIterator[bytes]:
    """Yield what changed."""
    shown: Parts = {}
    ends_at = anyio.current_time() + STREAM_S
    yield b"retry: 2000\n\n"
    while not closing.is_set and anyio.current_time() < ends_at:
        now = await parts()
        changed = {name: html for name, html in now.items() if shown.get(name) != html}
        shown = now
        if changed:
            yield b"event: parts\ndata: " + msgspec.json.encode(changed) + b"\n\n"
        else:
            yield b": still here\n\n"
        await closing.wait(INTERVAL_S)
