"""aworker: an asyncio task worker for trading platforms.

The map, from the top (imports point down only):

    cli        argv -> call -> exit code
    app        composition root: config + handlers -> supervisor
    web        metrics and health over HTTP
    worker     supervisor, slots and the side loops        trading    rules, strategies, backtests, screening, alerts
    declaring  a function becomes a handler that is called, run and enqueued
    client     what a producer imports
    queues     what speaks Redis for a worker              execution  handlers, executor, process pool
    tracing    spans by OpenTelemetry, where they are on
    logs, outcome, lease
    config, task, keys, encoding
    metrics, errors, clock, ticks, traceparent, extras

The names below are the public ones; they are loaded when first used, so that ``import aworker`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aworker.client.admin import clear_queue, get_queue_stats, peek_queue
    from aworker.client.client import Client
    from aworker.client.enqueued import EnqueuedTask, NewTask, SyncEnqueuedTask
    from aworker.client.synchronous import SyncClient
    from aworker.declaring import TypedHandler, handler
    from aworker.errors import AworkerError, PermanentFailure, RequestDeclined, TaskFailed, TaskUnfinished
    from aworker.execution.context import Context
    from aworker.execution.retry import Retry
    from aworker.execution.schedules import schedule
    from aworker.execution.signature import INJECTED

__all__ = [
    "INJECTED",
    "AworkerError",
    "Client",
    "Context",
    "EnqueuedTask",
    "NewTask",
    "PermanentFailure",
    "RequestDeclined",
    "Retry",
    "SyncClient",
    "SyncEnqueuedTask",
    "TaskFailed",
    "TaskUnfinished",
    "TypedHandler",
    "clear_queue",
    "get_queue_stats",
    "handler",
    "peek_queue",
    "schedule",
]

_HOMES = {
    "AworkerError": "aworker.errors",
    "Client": "aworker.client.client",
    "Context": "aworker.execution.context",
    "EnqueuedTask": "aworker.client.enqueued",
    "INJECTED": "aworker.execution.signature",
    "NewTask": "aworker.client.enqueued",
    "PermanentFailure": "aworker.errors",
    "RequestDeclined": "aworker.errors",
    "Retry": "aworker.execution.retry",
    "SyncClient": "aworker.client.synchronous",
    "SyncEnqueuedTask": "aworker.client.enqueued",
    "TaskFailed": "aworker.errors",
    "TaskUnfinished": "aworker.errors",
    "TypedHandler": "aworker.declaring",
    "clear_queue": "aworker.client.admin",
    "get_queue_stats": "aworker.client.admin",
    "handler": "aworker.declaring",
    "peek_queue": "aworker.client.admin",
    "schedule": "aworker.execution.schedules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aworker' has no attribute {name!r}")
    return getattr(import_module(home), name)
