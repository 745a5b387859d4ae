"""The page put together: an ASGI application that stands alone, beside a worker's metrics, or in somebody else's."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import msgspec
from loguru import logger
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aworker.config import Config, HttpConfig
from aworker.errors import AworkerError, ConfigError
from aworker.keys import Keys
from aworker.logs import one_line
from aworker.overview.snapshot import Snapshot, take
from aworker.overview.verdict import Verdict, judge, unreachable
from aworker.queues.connection import connect, connection_arguments
from aworker.queues.hand.dead_letters import ENTRY_ID
from aworker.queues.hand.look import NEWEST, PAGE, look_at_dead, look_at_delayed, look_at_waiting
from aworker.web.site import charts
from aworker.web.site.actions import ACTIONS, carry_out, is_known_target
from aworker.web.site.guard import (
    COOKIE,
    HEADERS,
    KNOWN_COOKIE,
    KNOWN_S,
    SESSION_S,
    TOKEN_LEAST,
    Sessions,
    Tries,
    is_own_host,
    is_same_origin,
)
from aworker.web.site.live import WATCHERS_MOST, Closing, Parts, events
from aworker.web.site.rendering import fragment, laid_out, short, static
from aworker.web.site.task import view_letter, view_task

ANSWER_TIMEOUT_S = 10.0
SNAPSHOT_S = 1.0
UNANSWERED = (RedisError, OSError, AworkerError, TimeoutError)
FORM_MOST_BYTES = 65_536
LETTER_SHOWN_BYTES = 262_144
_PARTS = ("verdict", "levels", "hour", "running", "workers", "types", "recent")
_KINDS = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}


class Site:
    """One page of one Redis."""

    def __init__(
        self, config: Callable[[], Config], token: str = "", hosts: Callable[[], Sequence[str]] = tuple
    ) -> None:
        self._config = config
        self._hosts = hosts
        self._sessions = Sessions(token)
        self._tries = Tries()
        self._limiter = anyio.CapacityLimiter(8)
        self._snapshot: tuple[float, Snapshot] | None = None
        self._rendered: dict[tuple[str, bool], tuple[Snapshot, Parts]] = {}
        self._watchers = 0
        self.closing = Closing()
        routes = [
            Route("/", self._overview),
            Route("/live", self._live),
            Route("/task", self._task),
            Route("/waiting", self._waiting),
            Route("/running", self._running),
            Route("/delayed", self._delayed),
            Route("/dead", self._dead),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/do/{name}", self._do, methods=["GET", "POST"]),
            Route("/static/{name}", self._static),
        ]
        self.app: ASGIApp = _Guarded(
            Starlette(
                routes=routes,
                exception_handlers={
                    404: self._not_found,
                    405: self._not_found,
                    **dict.fromkeys(UNANSWERED, self._unanswered),
                },
            ),
            self,
        )

    def is_host_allowed(self, header: str) -> bool:
        """Whether a request names this page by a name of its own."""
        return is_own_host(header, (*self._hosts(), self._config().http.host))

    # Pages.

    async def _overview(self, request: Request) -> Response:
        snapshot = await self._look()
        parts = await self._parts(snapshot, _base(request), self._may_act(request))
        return self._page(request, "overview.html", parts=parts, title=judge(snapshot).title, now_s=snapshot.now_s)

    async def _live(self, request: Request) -> Response:
        if self._watchers >= WATCHERS_MOST:
            return Response("too many look on\n", 503, headers={"retry-after": "10"}, media_type="text/plain")

        async def parts() -> Parts:
            try:
                snapshot = await self._look()
            except UNANSWERED:
                return {"verdict": fragment("_verdict.html", verdict=unreachable())}
            return await self._parts(snapshot, _base(request), self._may_act(request))

        async def watched() -> AsyncIterator[bytes]:
            self._watchers += 1
            try:
                async for event in events(parts, self.closing):
                    yield event
            finally:
                self._watchers -= 1

        return StreamingResponse(watched(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _task(self, request: Request) -> Response:
        task_id = request.query_params.get("id", "")
        entry = request.query_params.get("entry", "")
        if not task_id.strip() and not ENTRY_ID.fullmatch(entry):
            return self._page(request, "message.html", 400, title="Which task?", text="Give a task's id to look for.")
        if ENTRY_ID.fullmatch(entry):
            async with self._redis() as client:
                return await self._letter(request, client, entry)
        snapshot = await self._look()
        async with self._redis() as client:
            view = await view_task(client, self._config(), task_id, snapshot.limits)
            if view.found.place == "unknown" and task_id != task_id.strip():
                task_id = task_id.strip()  # as it was pasted
                view = await view_task(client, self._config(), task_id, snapshot.limits)
        status = 404 if view.found.place == "unknown" else 200
        return self._page(request, "task.html", status, view=view, title=f"Task {short(task_id)}")

    async def _letter(self, request: Request, client: Any, entry: str) -> Response:
        shelf = await look_at_dead(client, self._config(), entry, 1, LETTER_SHOWN_BYTES)
        if not shelf.letters or shelf.letters[0].entry_id != entry:
            text = "It was run again, dropped, or fell off the end."
            return self._page(request, "message.html", 404, title="No such dead letter", text=text)
        view = view_letter(shelf.letters[0], self._config())
        view.payload = laid_out(shelf.letters[0].payload, shelf.payload_bytes[0])
        return self._page(request, "task.html", view=view, title=f"Dead letter {entry}")

    async def _waiting(self, request: Request) -> Response:
        config = self._config()
        label = request.query_params.get("queue", "")
        level = next((one for one in config.queues if one.label == label), None)
        if level is None:
            return self._page(request, "message.html", 404, title="No such queue", text="Choose one of the overview.")
        start = _start(request)
        async with self._redis() as client:
            shelf = await look_at_waiting(client, config, level, start)
        title = f"Waiting on the {label} queue"
        return self._page(request, "list.html", title=title, shelf=shelf, start=start, step=PAGE, label=label)

    async def _delayed(self, request: Request) -> Response:
        start = _start(request)
        async with self._redis() as client:
            shelf = await look_at_delayed(client, self._config(), start)
        return self._page(request, "list.html", title="Delayed tasks", shelf=shelf, start=start, step=PAGE, label=None)

    async def _running(self, request: Request) -> Response:
        snapshot = await self._look()
        start = _start(request)
        tasks = snapshot.running
        return self._page(
            request,
            "running.html",
            title="Running tasks",
            total=snapshot.busy,
            known=len(tasks),
            tasks=tasks[start : start + PAGE],
            start=start,
            step=PAGE,
            now_s=snapshot.now_s,
        )

    async def _dead(self, request: Request) -> Response:
        before = request.query_params.get("before", "")
        start = before if ENTRY_ID.fullmatch(before) else NEWEST
        async with self._redis() as client:
            shelf = await look_at_dead(client, self._config(), start)
        return self._page(request, "dead.html", title="Dead letters", shelf=shelf, is_first=start == NEWEST)

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _KINDS:
            return await self._not_found(request, None)
        headers = {"content-type": _KINDS[name], "cache-control": "max-age=86400"}
        return Response(static(name), headers=headers)

    async def _not_found(self, request: Request, _: Any) -> Response:
        status = 405 if request.method not in ("GET", "HEAD") else 404
        return self._page(request, "message.html", status, title="Nothing here", text="There is no such page.")

    # Acting.

    async def _login(self, request: Request) -> Response:
        if not self._sessions.is_open:
            text = "No token is set: [http] token_env names no environment variable that holds one."
            return self._page(request, "message.html", 403, title="This page is read-only", text=text)
        if request.method != "POST":
            return self._page(request, "login.html", error="")
        address = _address(request)
        known_as = self._sessions.known_as(request.cookies.get(KNOWN_COOKIE))
        wait_s = self._tries.wait_s(address, known_as)
        if wait_s > 0:
            logger.warning("{}", one_line(f"From the page, by {address}: too many wrong tokens, none is looked at"))
            response = self._page(request, "login.html", 429, error=f"Too many tries; wait {wait_s:.0f} s.")
            response.headers["retry-after"] = str(int(wait_s) + 1)
            return response
        form = await _form(request)
        self._tries.note(address, known_as)
        if form is None or not is_same_origin(request.headers.get("origin"), request.headers.get("host", "")):
            return self._page(request, "login.html", 400, error="That form could not be read.")
        if not self._sessions.is_token(form.get("token", "")):
            logger.warning("{}", one_line(f"From the page, by {address}: a wrong token"))
            return self._page(request, "login.html", 403, error="That is not the token.")
        self._tries.forget(address, known_as)
        logger.bind(audit="login").info("{}", one_line(f"From the page, by {address}: logged in"))
        redirect = RedirectResponse(_base(request) + "/", 303)
        cookies = [(COOKIE, self._sessions.begin(), SESSION_S), (KNOWN_COOKIE, self._sessions.make_known(), KNOWN_S)]
        for name, value, lives_s in cookies:
            redirect.set_cookie(
                name,
                value,
                max_age=lives_s,
                path=_base(request) or "/",
                httponly=True,
                samesite="strict",
                secure=request.url.scheme == "https",
            )
        return redirect

    async def _logout(self, request: Request) -> Response:
        refused = await self._refused(request, await _form(request))
        if refused is not None:
            return refused
        # For every process that serves the page and as long as it would have lasted, whoever else has the cookie.
        mark, left_s = self._sessions.mark_of(request.cookies[COOKIE])
        try:
            async with self._redis() as client:
                await client.set(self._ended(mark), "1", ex=left_s)
        except UNANSWERED as error:
            logger.warning(f"From the page: a logout is not known elsewhere: {type(error).__name__}")
        redirect = RedirectResponse(_base(request) + "/", 303)
        redirect.delete_cookie(COOKIE, path=_base(request) or "/", httponly=True, samesite="strict")
        return redirect

    async def _do(self, request: Request) -> Response:
        name, target = request.path_params["name"], request.query_params.get("id", "")
        action = ACTIONS.get(name)
        if action is None:
            return await self._not_found(request, None)
        if not self._may_act(request) or await self._has_ended(request):
            text = "Log in with the token to act." if self._sessions.is_open else "This page is read-only."
            return self._page(request, "message.html", 403, title="Not allowed", text=text)
        config = self._config()
        snapshot = await self._look()
        types = {row.name for row in snapshot.types} | snapshot.limits.keys() | config.tasks.keys()
        if not is_known_target(config, name, target, types):
            text = "There is nothing of that name."
            return self._page(request, "message.html", 404, title="Nothing to do", text=text)
        if request.method != "POST":
            return self._page(request, "confirm.html", action=action, name=name, target=target)
        refused = await self._refused(request, await _form(request))
        if refused is not None:
            return refused
        async with self._redis() as client:
            outcome = await carry_out(client, config, name, target, _address(request))
        self._snapshot = None
        return self._page(request, "done.html", action=action, name=name, target=target, outcome=outcome)

    async def _refused(self, request: Request, form: dict[str, str] | None) -> Response | None:
        cookie = request.cookies.get(COOKIE, "")
        is_ours = (
            form is not None
            and self._sessions.holds(cookie)
            and self._sessions.is_form_token(cookie, form.get("csrf", ""))
            and is_same_origin(request.headers.get("origin"), request.headers.get("host", ""))
        )
        if is_ours:
            return None
        logger.warning("{}", one_line(f"From the page, by {_address(request)}: a form that is not this page's"))
        text = "The form was not this page's own, or its session is over. Nothing was done."
        return self._page(request, "message.html", 403, title="Refused", text=text)

    def _may_act(self, request: Request) -> bool:
        return self._sessions.holds(request.cookies.get(COOKIE))

    async def _has_ended(self, request: Request) -> bool:
        mark, _ = self._sessions.mark_of(request.cookies[COOKIE])
        async with self._redis() as client:
            return bool(await client.exists(self._ended(mark)))

    def _ended(self, mark: str) -> str:
        return Keys(self._config().redis.key_prefix).ended_session(mark)

    # Within.

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[Any]:
        # One connection a request: nothing is kept open for a page that nobody looks at, in whatever loop it is asked.
        async with self._limiter:
            client = connect(self._config().redis.url)
            try:
                with anyio.fail_after(ANSWER_TIMEOUT_S):
                    yield client
            finally:
                with anyio.CancelScope(shield=True):
                    await client.aclose()

    async def _look(self) -> Snapshot:
        now = time.monotonic()
        if self._snapshot is not None and now - self._snapshot[0] < SNAPSHOT_S:
            return self._snapshot[1]
        async with self._redis() as client:
            snapshot = await take(client, self._config())
        self._snapshot = (now, snapshot)
        return snapshot

    async def _parts(self, snapshot: Snapshot, base: str, may_act: bool) -> Parts:
        # Rendered once for all who look on, and beside the loop: with many workers it takes some milliseconds.
        known = self._rendered.get((base, may_act))
        if known is not None and known[0] is snapshot:
            return known[1]

        def render() -> Parts:
            values = {"base": base, "may_act": may_act, **self._shown(snapshot)}
            return {name: fragment(f"_{name}.html", **values) for name in _PARTS}

        parts = await anyio.to_thread.run_sync(render)
        if len(self._rendered) > 8:
            self._rendered.clear()  # prefixes that proxies made up
        self._rendered[base, may_act] = snapshot, parts
        return parts

    def _shown(self, snapshot: Snapshot) -> dict[str, Any]:
        verdict: Verdict = judge(snapshot)
        return {"snapshot": snapshot, "verdict": verdict, "hour": charts.hour(snapshot.levels), "now_s": snapshot.now_s}

    def _base_values(self, request: Request) -> dict[str, Any]:
        may_act = self._may_act(request)
        return {
            "base": _base(request),
            "may_act": may_act,
            "can_log_in": self._sessions.is_open,
            "csrf": self._sessions.form_token(request.cookies.get(COOKIE, "")) if may_act else "",
        }

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(fragment(template, **self._base_values(request), **values), status)

    async def _unanswered(self, request: Request, error: Exception) -> Response:
        logger.warning(f"The page had no answer of Redis: {type(error).__name__}")
        return self._page(request, "away.html", 503, verdict=unreachable())


class _Guarded:
    """Checks the name the page is asked by, and adds the headers."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if not self._site.is_host_allowed(request.headers.get("host", "")):
            text = "This page does not answer to that host name; use an address, or name it in [http] hosts.\n"
            await Response(text, 421, media_type="text/plain")(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def page(redis_url: str, *, config: Config | None = None, token: str = "", hosts: Sequence[str] = ()) -> ASGIApp:
    """Return the page of a Redis as an ASGI application, to be mounted under any prefix.

    ``config`` says which levels there are and the prefix of aworker's keys. With a ``token`` of at least 16 characters
    whoever logs in with it may act; without one the page is read-only. ``hosts`` are the names, without port, that it
    answers to beside addresses and localhost. Raises ConfigError for a URL that is none.
    """
    connection_arguments(redis_url)
    whole = config or Config()
    settled = msgspec.structs.replace(whole, redis=msgspec.structs.replace(whole.redis, url=redis_url))
    return Site(lambda: settled, checked_token(token, "token"), lambda: hosts).app


def token_of(http: HttpConfig) -> str:
    """Return the token that the configuration names; empty = none. Raises ConfigError."""
    if not http.token_env:
        return ""
    token = os.environ.get(http.token_env, "")
    if not token:
        raise ConfigError(
            f"http.token_env must name an environment variable that is set, was {http.token_env!r}; "
            "set it or leave it empty"
        )
    return checked_token(token, http.token_env)


def checked_token(token: str, field: str) -> str:
    """Return a token that is not too short to be guessed. Raises ConfigError."""
    if token and len(token) < TOKEN_LEAST:
        raise ConfigError(
            f"{field} must be at least {TOKEN_LEAST} characters long, was {len(token)}; "
            "make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


async def _form(request: Request) -> dict[str, str] | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_MOST_BYTES:
            return None
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=20, errors="replace")
    except (UnicodeDecodeError, ValueError):
        return None
    return {name: values[0] for name, values in fields.items()}


def _start(request: Request) -> int:
    text = request.query_params.get("from", "0")
    return min(int(text), 100_000_000) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _base(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
