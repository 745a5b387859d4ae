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
    from aworker.execution.lifespan import lifespan
    from aworker.execution.middleware import middleware
    from aworker.execution.retry import Retry
    from aworker.execution.schedules import schedule
    from aworker.execution.signature import INJECTED
    from aworker.outcome import Completed, Failed, Retried

__all__ = [
    "INJECTED",
    "AworkerError",
    "Client",
    "Completed",
    "Context",
    "EnqueuedTask",
    "Failed",
    "NewTask",
    "PermanentFailure",
    "RequestDeclined",
    "Retried",
    "Retry",
    "SyncClient",
    "SyncEnqueuedTask",
    "TaskFailed",
    "TaskUnfinished",
    "TypedHandler",
    "clear_queue",
    "get_queue_stats",
    "handler",
    "lifespan",
    "middleware",
    "peek_queue",
    "schedule",
]

_HOMES = {
    "AworkerError": "aworker.errors",
    "Client": "aworker.client.client",
    "Completed": "aworker.outcome",
    "Context": "aworker.execution.context",
    "EnqueuedTask": "aworker.client.enqueued",
    "Failed": "aworker.outcome",
    "INJECTED": "aworker.execution.signature",
    "NewTask": "aworker.client.enqueued",
    "PermanentFailure": "aworker.errors",
    "RequestDeclined": "aworker.errors",
    "Retried": "aworker.outcome",
    "Retry": "aworker.execution.retry",
    "SyncClient": "aworker.client.synchronous",
    "SyncEnqueuedTask": "aworker.client.enqueued",
    "TaskFailed": "aworker.errors",
    "TaskUnfinished": "aworker.errors",
    "TypedHandler": "aworker.declaring",
    "clear_queue": "aworker.client.admin",
    "get_queue_stats": "aworker.client.admin",
    "handler": "aworker.declaring",
    "lifespan": "aworker.execution.lifespan",
    "middleware": "aworker.execution.middleware",
    "peek_queue": "aworker.client.admin",
    "schedule": "aworker.execution.schedules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aworker' has no attribute {name!r}")
    return getattr(import_module(home), name)
