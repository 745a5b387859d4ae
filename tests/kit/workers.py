"""A worker inside the test's own loop, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import anyio
import msgspec

from aworker.config import Config, LiveConfig, RedisConfig
from aworker.execution.lifespan import Lifespan
from aworker.execution.middleware import Middleware
from aworker.execution.policy import RetryPolicy
from aworker.execution.registry import Handler, Registry
from aworker.worker.supervisor import Supervisor


def config_of(url: str, **sections: Any) -> Config:
    return msgspec.structs.replace(Config(), redis=RedisConfig(url=url), **sections)


@asynccontextmanager
async def running_worker(
    config: Config,
    handlers: dict[str, Callable[..., Any]],
    *,
    preload: tuple[str, ...] = (),
    policies: Mapping[str, RetryPolicy] = MappingProxyType({}),
    lifespans: Sequence[Callable[..., Any]] = (),
    middleware: Sequence[Middleware] = (),
) -> AsyncIterator[Supervisor]:
    """Run a worker while the block runs, then drain it."""
    registry = Registry()
    for task_type, function in handlers.items():
        registry.add(Handler(task_type, function, policy=policies.get(task_type, RetryPolicy())))
    registry.lifespans += map(Lifespan, lifespans)
    registry.middleware += middleware
    ready = anyio.Event()
    supervisor = Supervisor(LiveConfig(config), registry, preload=preload, on_ready=ready.set)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        with anyio.fail_after(30):
            await ready.wait()
        yield supervisor
        supervisor.drain()


async def eventually(holds: Callable[[], Awaitable[Any]], *, within_s: float = 20.0) -> Any:
    """Poll until ``holds`` is true and return what it gave; fail when the time is up."""
    value: Any = None
    with anyio.move_on_after(within_s):
        while True:
            value = await holds()
            if value:
                return value
            await anyio.sleep(0.01)
    raise AssertionError(f"did not hold within {within_s:g} s; last was {value!r}")
