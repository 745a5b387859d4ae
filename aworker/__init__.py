"""aworker: an asyncio task worker for trading platforms.

The map, from the top (imports point down only):

    cli        argv -> call -> exit code
    app        composition root: config + handlers -> supervisor
    web        metrics and health over HTTP
    worker     supervisor, slots and the side loops        trading    rules, strategies, backtests, screening, alerts
    client     what a producer imports
    queues     what speaks Redis for a worker              execution  handlers, executor, process pool
    logs, outcome, lease
    config, task, keys, encoding
    metrics, errors, clock, ticks

The names below are the public ones; they are loaded when first used, so that ``import aworker`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aworker.client.admin import clear_queue, get_queue_stats, peek_queue
    from aworker.client.client import Client, NewTask
    from aworker.errors import AworkerError, PermanentFailure, RequestDeclined
    from aworker.execution.context import Context
    from aworker.execution.registry import handler
    from aworker.execution.retry import Retry
    from aworker.execution.schedules import schedule

__all__ = [
    "AworkerError",
    "Client",
    "Context",
    "NewTask",
    "PermanentFailure",
    "RequestDeclined",
    "Retry",
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
    "NewTask": "aworker.client.client",
    "PermanentFailure": "aworker.errors",
    "RequestDeclined": "aworker.errors",
    "Retry": "aworker.execution.retry",
    "clear_queue": "aworker.client.admin",
    "get_queue_stats": "aworker.client.admin",
    "handler": "aworker.execution.registry",
    "peek_queue": "aworker.client.admin",
    "schedule": "aworker.execution.schedules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aworker' has no attribute {name!r}")
    return getattr(import_module(home), name)
