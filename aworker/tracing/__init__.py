"""Spans by OpenTelemetry, where ``[otel] enabled`` asks for them: one for each delivery, from claim to settle.

Invariant: this module imports nothing of OpenTelemetry. `open_spans` does, in the worker; `aworker.tracing.child` in
its children. Handlers, outcomes and leases know a delivery's span as ``lease.span`` and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from aworker.errors import ConfigError

if TYPE_CHECKING:
    from aworker.tracing.spans import Spans

FLUSH_S = 5.0
"""How long the end of a worker waits for spans that are not exported yet."""
CHILD_MODULE = "aworker.tracing.child"


@asynccontextmanager
async def open_spans(enabled: bool, worker_id: str, redis_address: str) -> AsyncIterator[Spans | None]:
    """Give what makes spans, and export what is left of them at the end; None where they are off.

    The provider that the program has set already is used, else one is set as the variables OTEL_* say. Raises
    ConfigError when a library or an exporter is not installed.
    """
    if not enabled:
        yield None
        return
    check_installed()
    from aworker.tracing.provider import provider_in_force
    from aworker.tracing.spans import Spans

    provider = provider_in_force(worker_id)
    if provider is None:
        yield None
        return
    try:
        yield Spans(provider, worker_id, redis_address)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(FLUSH_S):
            await anyio.to_thread.run_sync(provider.flush, FLUSH_S, abandon_on_cancel=True)


def check_installed() -> None:
    """Raise ConfigError when what spans need is not there."""
    try:
        is_there = find_spec("opentelemetry.sdk.trace") is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise ConfigError(
            "otel.enabled must be false without the extra otel, was true; install it: pip install 'aworker[otel]'"
        )
