"""aworker: an asyncio task worker for trading platforms.

The map, from the top (imports point down only):

    cli        argv -> call -> exit code
    app        composition root: config + handlers -> supervisor
    worker     supervisor, slots and the side loops        trading    rules, strategies, backtests, screening, alerts
    queues     everything that speaks Redis                execution  handlers, executor, process pool
    logs, outcome, lease
    config, task
    metrics, errors, clock

The names below are the public ones; they are loaded when first used, so that ``import aworker`` stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aworker.errors import AworkerError, RequestDeclined
    from aworker.execution.context import Context
    from aworker.execution.registry import handler
    from aworker.execution.retry import Retry
    from aworker.queues.admin import clear_queue, get_queue_stats, peek_queue
    from aworker.queues.client import Client

__all__ = [
    "AworkerError",
    "Client",
    "Context",
    "RequestDeclined",
    "Retry",
    "clear_queue",
    "get_queue_stats",
    "handler",
    "peek_queue",
]

_HOMES = {
    "AworkerError": "aworker.errors",
    "Client": "aworker.queues.client",
    "Context": "aworker.execution.context",
    "RequestDeclined": "aworker.errors",
    "Retry": "aworker.execution.retry",
    "clear_queue": "aworker.queues.admin",
    "get_queue_stats": "aworker.queues.admin",
    "handler": "aworker.execution.registry",
    "peek_queue": "aworker.queues.admin",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aworker' has no attribute {name!r}")
    return getattr(import_module(home), name)
