"""Handlers that look at the trace they run in, in a child."""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger

from aworker import Client, Context


def in_child(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Open a span, log, enqueue another task, and say where in a trace that was."""
    from opentelemetry import trace

    outside = trace.get_current_span().get_span_context()
    with trace.get_tracer("mine").start_as_current_span("in the child", attributes={"symbol": "NVDA"}) as span:
        span.add_event("half way", {"rows": 3})
        logger.info("seen in the child")
        inside = span.get_span_context()
        if "url" in args:
            asyncio.run(enqueue(args["url"]))
            context.enqueue("next", task_id="next-by-context")
    return {
        "outside": f"{outside.span_id:016x}",
        "inside": f"{inside.span_id:016x}",
        "trace": f"{inside.trace_id:032x}",
    }


def without_otel(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Enqueue another task."""
    asyncio.run(enqueue(args["url"]))
    return {}


async def enqueue(url: str) -> None:
    async with Client(url) as client:
        await client.enqueue("next", task_id="next")
