"""The trace that runs here, as it goes on into payloads, calls of children and log lines (W3C Trace Context).

OpenTelemetry is asked where somebody has imported it; nothing here imports it. Without it a task's own ``traceparent``
is passed on as it came.
"""

from __future__ import annotations

import contextvars
import sys
from typing import Any, NamedTuple


class Trace(NamedTuple):
    """A place in a trace, as headers write it."""

    traceparent: str
    tracestate: str | None = None


carried: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("carried", default=None)
"""What the running task's payload says, for where no span is open."""


def current_trace() -> Trace | None:
    """Return what a task that is made here carries: the open span, else what the running task carries."""
    span = _span_context()
    if span is None:
        return carried.get()
    return Trace(
        f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags & 0xFF:02x}",
        span.trace_state.to_header() or None,
    )


def open_span() -> tuple[str, str] | None:
    """Return the open span's (trace_id, span_id), as log lines write them; None where there is none."""
    span = _span_context()
    return None if span is None else (f"{span.trace_id:032x}", f"{span.span_id:016x}")


def _span_context() -> Any:
    api = sys.modules.get("opentelemetry.trace")
    asked = getattr(api, "get_current_span", None)  # another thread may be about to import it
    if asked is None:
        return None
    context = asked().get_span_context()
    return context if context.is_valid else None
