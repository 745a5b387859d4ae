"""A span that ended in a child, on its way to the worker, which exports it.

Why the worker: a child may be killed at any moment, and would need a connection and a thread of its own for it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

MOST_BYTES = 65_536


class _Place(msgspec.Struct, frozen=True, array_like=True):
    trace_id: bytes
    span_id: bytes
    flags: int
    state: str
    is_remote: bool


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """An event (at ``at_ns``) or a link (to ``place``)."""

    name: str
    at_ns: int
    attributes: dict[str, Any]
    place: _Place | None = None


class _Span(msgspec.Struct, frozen=True, array_like=True):
    name: str
    kind: int
    place: _Place
    parent: _Place | None
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    told: tuple[_Told, ...]
    status: int
    status_text: str | None
    scope: tuple[str, str | None, str | None]


def encode_span(span: ReadableSpan) -> bytes | None:
    """Return an ended span as bytes; None where it is no whole span, or longer than `MOST_BYTES`."""
    if span.context is None or span.start_time is None or span.end_time is None:
        return None
    scope = span.instrumentation_scope
    told = (
        *(_Told(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events),
        *(_Told("", 0, dict(link.attributes or {}), _place(link.context)) for link in span.links),
    )
    whole = _Span(
        span.name,
        span.kind.value,
        _place(span.context),
        None if span.parent is None else _place(span.parent),
        span.start_time,
        span.end_time,
        dict(span.attributes or {}),
        told,
        span.status.status_code.value,
        span.status.description,
        ("", None, None) if scope is None else (scope.name, scope.version, scope.schema_url),
    )
    try:
        body = msgspec.msgpack.encode(whole, enc_hook=str)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return body if len(body) <= MOST_BYTES else None


def decode_span(body: bytes, resource: Resource) -> ReadableSpan | None:
    """Return what `encode_span` was given, as of ``resource``; None for what it cannot have made."""
    try:
        span = msgspec.msgpack.decode(body, type=_Span)
        return ReadableSpan(
            span.name,
            context=_context(span.place),
            parent=None if span.parent is None else _context(span.parent),
            resource=resource,
            attributes=span.attributes,
            events=tuple(Event(one.name, one.attributes, one.at_ns) for one in span.told if one.place is None),
            links=tuple(Link(_context(one.place), one.attributes) for one in span.told if one.place is not None),
            kind=SpanKind(span.kind),
            status=Status(StatusCode(span.status), span.status_text),
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=InstrumentationScope(*span.scope),
        )
    except (msgspec.MsgspecError, ValueError):
        return None


def _place(context: SpanContext) -> _Place:
    return _Place(
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        int(context.trace_flags),
        context.trace_state.to_header(),
        context.is_remote,
    )


def _context(place: _Place) -> SpanContext:
    return SpanContext(
        int.from_bytes(place.trace_id, "big"),
        int.from_bytes(place.span_id, "big"),
        place.is_remote,
        TraceFlags(place.flags),
        TraceState.from_header([place.state]) if place.state else TraceState(),
    )
