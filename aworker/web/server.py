"""The listener: in a worker's loop beside its slots, ended after them, or by itself for the page alone.

A port that is taken is a warning and no end: watching must never stop work.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import anyio
import uvicorn
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from aworker.config import Config, LiveConfig
from aworker.errors import ConfigError
from aworker.metrics import tally
from aworker.queues.queue import Queue
from aworker.web.health import readiness
from aworker.web.metrics import scrape
from aworker.web.site.site import Site, token_of
from aworker.worker.state import WorkerState

SCRAPE_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 3.0


def application(
    live: LiveConfig, state: Callable[[], WorkerState], queue: Callable[[], Queue | None], site: Site
) -> Starlette:
    """Return the ASGI application of one worker: its metrics and health, and the page."""

    async def metrics(request: Request) -> Response:
        now = state()
        with anyio.move_on_after(SCRAPE_TIMEOUT_S):
            body, kind = await scrape(queue(), live.value, now, tally, request.headers.get("accept", ""))
            return Response(body, media_type=None, headers={"content-type": kind})
        body, kind = await scrape(None, live.value, now, tally, request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": kind})

    async def alive(request: Request) -> Response:
        return JSONResponse({"alive": True, "worker_id": state().worker_id})

    async def ready(request: Request) -> Response:
        status, body = readiness(state())
        return JSONResponse(body, status_code=status)

    routes: list[BaseRoute] = [Route("/metrics", metrics), Route("/livez", alive), Route("/readyz", ready)]
    return Starlette(routes=[*routes, Mount("/", app=site.app)])


def site_of(live: LiveConfig) -> Site:
    """Return the page of a configuration; one whose token cannot be used is read-only, and the log says why."""
    try:
        token = token_of(live.value.http)
    except ConfigError as error:
        logger.warning(f"{error}; the page is read-only")
        token = ""
    return Site(lambda: live.value, token, lambda: live.value.http.hosts)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the supervisor has them


class Listener:
    """Listens while `serve` runs, until `stop`."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        site: Site,
        *,
        beside: str = "",
        on_listening: Callable[[str], object] = str,
    ) -> None:
        self._host, self._port = host, port
        self._site = site
        self._beside = beside
        self._on_listening = on_listening
        self._ended = anyio.Event()
        self._server = _Server(
            uvicorn.Config(
                app, log_config=None, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )

    async def serve(self) -> None:
        """Listen; return when told to stop, or at once where the port cannot be had."""
        try:
            listening = open_port(self._host, self._port)
        except ConfigError as error:
            logger.warning(f"{error}; the worker goes on without page, metrics and health")
            self._ended.set()
            return
        await self.serve_on(listening)

    async def serve_on(self, listening: socket.socket) -> None:
        """Listen on a port that is open."""
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info(f"The page is at http://{shown}:{port}/{self._beside}")
        self._on_listening(f"http://{shown}:{port}/")
        try:
            with listening:
                await self._server.serve(sockets=[listening])
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Answer what is being asked, and end; streams are ended."""
        self._site.closing.set()
        self._server.should_exit = True
        with anyio.move_on_after(STOP_TIMEOUT_S):
            await self._ended.wait()


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ConfigError."""
    try:
        return socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise ConfigError(
            f"http.port must be free on {host}, {port} is not ({error.strerror}); "
            "give another one with [http] port or --port"
        ) from None


async def serve_page(config: Config, listening: socket.socket) -> None:
    """Serve the page alone, until SIGTERM or Ctrl-C."""
    site = site_of(LiveConfig(config))
    listener = Listener(site.app, config.http.host, config.http.port, site)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve_on, listening)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        await listener.stop()
        group.cancel_scope.cancel()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
