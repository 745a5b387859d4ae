"""An asyncio client's words over a synchronous one, so that what is written once for `Client` serves threads too.

Every awaited call does its work at once, so a coroutine over it never waits for a loop: `finish` runs it to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class BlockingRedis:
    """A synchronous client whose methods are awaited."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def pipeline(self, transaction: bool = True) -> _Pipeline:
        return _Pipeline(self._client.pipeline(transaction=transaction))

    def pubsub(self, **options: Any) -> _Subscription:
        return _Subscription(self._client.pubsub(**options))

    async def aclose(self) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _awaited(getattr(self._client, name))


class _Pipeline:
    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    async def execute(self) -> Any:
        return self._pipeline.execute()

    async def __aenter__(self) -> _Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pipeline.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)  # what is asked is only noted


class _Subscription:
    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription

    async def aclose(self) -> None:
        self._subscription.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return _awaited(getattr(self._subscription, name))


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return call


def finish(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine that waits for nothing to its end."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
