"""Spans in a child: what a handler opens there is part of its task's trace, and goes to the worker when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aworker.traceparent import Trace
from aworker.tracing.carrying import encode_span

_propagator = TraceContextTextMapPropagator()


def send_spans(send: Callable[[bytes], None]) -> None:
    """Hand spans that end in this process to ``send``, unless a module of handlers has set a provider of its own."""
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Sender(send))
    trace.set_tracer_provider(provider)


@contextmanager
def part_of(place: Trace | None) -> Iterator[None]:
    """Let what runs meanwhile be part of a trace."""
    carrier = {} if place is None else {"traceparent": place.traceparent, "tracestate": place.tracestate or ""}
    token = contexts.attach(_propagator.extract(carrier, context=Context()))
    try:
        yield
    finally:
        contexts.detach(token)


class _Sender(SpanProcessor):
    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            body = encode_span(span)
            if body is not None:
                self._send(body)
