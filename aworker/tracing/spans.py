"""One span for each delivery, from its claim until its end is written, below the payload's ``traceparent``.

Names and attributes are those of OpenTelemetry's semantic conventions for messaging; what they have no word for begins
with ``aworker.``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aworker.clock import now_s
from aworker.lease import Lease
from aworker.outcome import Completed, Duplicate, Failed, Outcome, Rejected, Retried, Returned
from aworker.task import Task
from aworker.tracing.carrying import decode_span
from aworker.tracing.provider import Provider

SCHEMA = "https://opentelemetry.io/schemas/1.36.0"
TEXT_MOST = 2_000
TRACE_MOST = 16_384

_propagator = TraceContextTextMapPropagator()
_WORDS: dict[type[Outcome], str] = {
    Completed: "completed",
    Failed: "failed",
    Rejected: "rejected",
    Retried: "retried",
    Returned: "returned",
    Duplicate: "duplicate",
}


class Spans:
    """Makes the spans of one worker."""

    def __init__(self, provider: Provider, worker_id: str, redis_address: str) -> None:
        self._provider = provider
        self._tracer = provider.provider.get_tracer("aworker", version("aworker"), schema_url=SCHEMA)
        self._attributes = {"messaging.system": "redis", "messaging.client.id": worker_id, **_server(redis_address)}

    def begin(self, lease: Lease, slot: int) -> TaskSpan:
        """Open the span of a delivery, as of its claim."""
        task = lease.task if isinstance(lease.task, Task) else None
        attributes: dict[str, Any] = {
            **self._attributes,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": lease.queue,
            "messaging.message.body.size": len(lease.payload),
            "aworker.queue": lease.label,
            "aworker.delivery": lease.delivery,
            "aworker.slot": slot,
        }
        began_s = now_s() - lease.age_s
        if task is not None:
            attributes["messaging.message.id"] = _text(task.task_id)
            attributes["aworker.task_type"] = _text(task.task_type)
            if (created_at_s := task.created_at_s) is not None:
                attributes["aworker.waited_s"] = round(began_s - created_at_s, 6)
        span = self._tracer.start_span(
            f"process {lease.queue}",
            context=_parent(task),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            start_time=int(began_s * 1e9),
        )
        return TaskSpan(span, lease.queue, self._settled)

    def take(self, body: bytes) -> None:
        """Export a span that was recorded in a child."""
        span = decode_span(body, self._provider.provider.resource)
        if span is not None:
            self._provider.take(span)

    def _settled(self, parent: Context, queue: str, began_ns: int, *, is_written: bool) -> None:
        span = self._tracer.start_span(
            f"settle {queue}",
            context=parent,
            kind=SpanKind.CLIENT,
            attributes={
                **self._attributes,
                "messaging.operation.name": "settle",
                "messaging.operation.type": "settle",
                "messaging.destination.name": queue,
            },
            start_time=began_ns,
        )
        if not is_written:
            span.set_attribute("error.type", "LeaseLost")
            span.set_status(Status(StatusCode.ERROR, "its lease is lost"))
        span.end()


class TaskSpan:
    """The span of one delivery; it ends when the outcome is written, or is known not to be."""

    __slots__ = ("_context", "_has_exception", "_over_ns", "_queue", "_settled", "_span", "span_id", "trace_id")

    def __init__(self, span: Span, queue: str, settled: Callable[..., None]) -> None:
        self._span = span
        self._queue = queue
        self._settled = settled
        self._context = trace.set_span_in_context(span, Context())
        self._over_ns = 0
        self._has_exception = False
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"

    def enter(self) -> Any:
        """Let what runs in this context be part of the span; give the return value to `leave`."""
        return contexts.attach(self._context)

    def leave(self, entered: Any) -> None:
        """Undo `enter`."""
        contexts.detach(entered)

    def over(self) -> None:
        """Note that the handler has ended: what follows is the settle."""
        self._over_ns = time.time_ns()

    def note(self, outcome: Outcome) -> None:
        """Record the exception that a handler ended with, once."""
        if not isinstance(outcome, (Failed, Rejected)) or self._has_exception:
            return
        self._has_exception = True
        kinds: tuple[str, ...] = getattr(outcome, "kinds", ())
        attributes = {
            "exception.type": kinds[0].removeprefix("builtins.") if kinds else outcome.error_type,
            "exception.message": _text(outcome.error),
        }
        if cause := getattr(outcome, "cause", ""):
            attributes["exception.stacktrace"] = _text(cause, TRACE_MOST)
        self._span.add_event("exception", attributes)

    def end(self, outcome: Outcome, done: bool) -> None:
        """Say how it ended; ``done``: whether the outcome was written."""
        span = self._span
        if self._over_ns:
            self._settled(self._context, self._queue, self._over_ns, is_written=done)
        if not done:
            span.set_attribute("aworker.outcome", "lost")
            self._wrong("LeaseLost", "its lease is lost: another worker owns the task")
        else:
            span.set_attribute("aworker.outcome", _WORDS.get(type(outcome), "returned"))
            if isinstance(outcome, (Failed, Rejected)):
                self.note(outcome)
                self._wrong(outcome.error_type, outcome.error)
            elif isinstance(outcome, Retried):
                span.set_attribute("aworker.retry_in_s", outcome.delay_s)
                if outcome.why != "asked":
                    self._wrong(outcome.error_type, outcome.reason)
            elif isinstance(outcome, Returned) and outcome.counted:
                self._wrong("ChildDied", outcome.reason)
        span.end()

    def _wrong(self, error_type: str, text: str) -> None:
        self._span.set_attribute("error.type", _text(error_type))
        self._span.set_status(Status(StatusCode.ERROR, _text(text)))


def _parent(task: Task | None) -> Context:
    if task is None or task.traceparent is None:
        return Context()
    carrier = {"traceparent": task.traceparent, "tracestate": task.tracestate or ""}
    return _propagator.extract(carrier, context=Context())


def _server(address: str) -> dict[str, Any]:
    host, _, port = address.partition("/")[0].rpartition(":")
    if host and port.isdecimal():
        return {"server.address": host.strip("[]"), "server.port": int(port)}
    return {"server.address": address.removeprefix("unix:")}


def _text(text: str, most: int = TEXT_MOST) -> str:
    # Half of a surrogate pair would cost the exporter the whole batch.
    return text[:most].encode(errors="replace").decode()
