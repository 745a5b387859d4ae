"""A TCP proxy before the server that cuts connections where it hurts most: between a script's call and its reply."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Forwards connections of 127.0.0.1 to the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._cuts_due = 0
        self.port = 0
        self.cuts = 0
        """Replies that were swallowed with their connection."""

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut_all()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._listener.wait_closed()

    def cut_replies(self, count: int) -> None:
        """Swallow the replies to the next ``count`` calls of a script, and cut their connections."""
        self._cuts_due = count

    def cut_all(self) -> None:
        """Cut every connection now."""
        for writer in list(self._writers):
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        doomed = asyncio.Event()

        async def forward_calls() -> None:
            while data := await reader.read(65_536):
                if self._cuts_due > 0 and b"EVALSHA" in data and not doomed.is_set():
                    self._cuts_due -= 1
                    doomed.set()
                server_writer.write(data)
                await server_writer.drain()

        async def forward_replies() -> None:
            while data := await server_reader.read(65_536):
                if doomed.is_set():
                    self.cuts += 1
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(forward_calls()), asyncio.create_task(forward_replies())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for end in ends:
                end.transport.abort()
            self._writers -= ends
            for task in tasks:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await task
