"""One check of the doctor's at a time, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aworker.clock import now_s
from aworker.config import Config
from aworker.doctor.examination import NAMELESS, Examination, Finding
from aworker.doctor.items import Check
from aworker.queues.connection import Link, connect
from tests.kit.workers import config_of


@asynccontextmanager
async def examining(
    url: str, *, clock: Callable[[], float] = now_s, config: Config | None = None, **sections: Any
) -> AsyncIterator[Examination]:
    settings = config or config_of(url, **sections)
    link = Link(url, NAMELESS)
    client = connect(url)
    try:
        yield Examination(link, client, settings, clock)
    finally:
        await link.close()
        await client.aclose()


async def found_by(check: Check, url: str, **options: Any) -> list[Finding]:
    """Return what a check finds."""
    async with examining(url, **options) as exam:
        return await check(exam)


def names(findings: list[Finding]) -> list[str]:
    """Return the findings' names; nothing where all is well."""
    return [one.name for one in findings if one.name]


class SlowWay:
    """A TCP proxy whose replies come late: all by ``late_s``, and one in ``every`` by ``very_late_s``."""

    def __init__(self, server_port: int, late_s: float, very_late_s: float = 0.0, every: int = 1_000_000) -> None:
        self._server_port = server_port
        self._late_s, self._very_late_s, self._every = late_s, very_late_s, every
        self._replies = 0
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> SlowWay:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            while data := await reader.read(65_536):
                server_writer.write(data)
                reply = await server_reader.read(65_536)
                self._replies += 1
                await asyncio.sleep(self._very_late_s if self._replies % self._every == 0 else self._late_s)
                writer.write(reply)
        finally:
            server_writer.transport.abort()
            writer.transport.abort()
            self._serving.discard(task)
