"""The listener of a worker: in its loop, beside its slots, ended after them.

A port that is taken is a warning and no end: watching must never stop work.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import anyio
import uvicorn
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aworker.config import LiveConfig
from aworker.metrics import tally
from aworker.queues.queue import Queue
from aworker.web.health import readiness
from aworker.web.metrics import scrape
from aworker.worker.state import WorkerState

SCRAPE_TIMEOUT_S = 5.0


def application(live: LiveConfig, state: Callable[[], WorkerState], queue: Callable[[], Queue | None]) -> Starlette:
    """Return the ASGI application of one worker."""

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

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", alive), Route("/readyz", ready)])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the supervisor has them


class Listener:
    """Listens while `serve` runs, until `stop`."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server = _Server(
            uvicorn.Config(
                app, log_config=None, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )

    async def serve(self) -> None:
        """Listen; return when told to stop, or at once where the port cannot be had."""
        try:
            listening = socket.create_server((self._host, self._port), family=_family(self._host))
        except OSError as error:
            logger.warning(
                f"http.port must be free on {self._host}, {self._port} is not ({error.strerror}); "
                "the worker goes on without metrics and health"
            )
            return
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info(f"Metrics and health at http://{shown}:{port}/metrics, /livez, /readyz")
        with listening:
            await self._server.serve(sockets=[listening])

    def stop(self) -> None:
        """Answer what is being asked, and end."""
        self._server.should_exit = True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
