"""What runs around every task: before its handler, after it, and when it failed, as one coroutine function.

Middleware runs in the worker's loop, around handlers of the loop and of children alike, the first declared outermost.
How the task ended is a value (`aworker.outcome`), not an exception: what the handler raised has become one by then.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from loguru import logger

from aworker.encoding import as_object
from aworker.errors import ConfigError
from aworker.execution.context import Context
from aworker.execution.failure import told
from aworker.execution.retry import Retry
from aworker.outcome import Completed, Lost, Outcome, Returned

AROUND_S = 30.0
"""How long all middleware may take, together, before the handler, and again after it."""
CallNext = Callable[[], Awaitable[Outcome]]
"""Runs what is further in, once, and returns how it ended."""
Middleware = Callable[[dict[str, Any], Context, CallNext], Awaitable[Any]]
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])

declared_middleware: list[Middleware] = []


def middleware(function: Function) -> Function:
    """Run the decorated ``async def name(args, context, call_next)`` around every task, in the order declared.

    ``await call_next()`` runs the task and returns its outcome: `Completed`, `Failed`, `Retried`, .. The function
    returns that, or another outcome, a `Retry`, or a result in its place (docs/handlers.md). Raises ConfigError.
    """
    is_coroutine = bool(inspect.iscoroutinefunction(function))
    if not is_coroutine:
        raise ConfigError(f"middleware must be a coroutine function, was {function!r}; write async def")
    declared_middleware.append(function)
    return function


class Around:
    """One task's way through the middleware."""

    def __init__(
        self,
        layers: tuple[Middleware, ...],
        args: dict[str, Any],
        context: Context,
        innermost: CallNext,
        asked_again: Callable[[Retry], Outcome],
        raised: Callable[[BaseException], Outcome],
    ) -> None:
        self._layers = layers
        self._args = args
        self._context = context
        self._innermost = innermost
        self._asked_again = asked_again
        self._raised = raised
        self._scope = anyio.CancelScope()
        self.outcome: Outcome | None = None
        """What the outermost layer so far that has ended gave; None before the handler has."""

    async def run(self) -> Outcome:
        """Go through all of them and return the outcome in effect."""
        self._scope.deadline = anyio.current_time() + AROUND_S
        with self._scope:
            return await self._through(0)
        if self.outcome is None:
            return self._raised(TimeoutError(f"middleware must call call_next within {AROUND_S:g} s, did not"))
        logger.error(f"Middleware must end within {AROUND_S:g} s of the handler, did not; the outcome stands as it was")
        return self.outcome

    async def _through(self, index: int) -> Outcome:
        if index == len(self._layers):
            self._scope.deadline = math.inf
            outcome = await self._innermost()
            self._scope.deadline = anyio.current_time() + AROUND_S
            self.outcome = outcome
            return outcome
        inner: list[Outcome] = []

        async def call_next() -> Outcome:
            if inner:
                raise RuntimeError(
                    "call_next must be called once, was called again; return a Retry to have it run again"
                )
            inner.append(await self._through(index + 1))
            return inner[0]

        layer = self._layers[index]
        try:
            given = await layer(self._args, self._context, call_next)
        except asyncio.CancelledError as error:
            # One from outside comes by a scope and is raised here again; one of its own is an error like others.
            await anyio.lowlevel.checkpoint_if_cancelled()
            outcome = self._after_error(layer, error, inner)
        except GeneratorExit:
            raise  # the loop is closed with this coroutine in it
        except BaseException as error:  # noqa: BLE001 - whatever a middleware raises costs no task and no worker
            outcome = self._after_error(layer, error, inner)
        else:
            outcome = self._read(layer, given, inner)
        self.outcome = outcome
        return outcome

    def _read(self, layer: Middleware, given: Any, inner: list[Outcome]) -> Outcome:
        before = inner[0] if inner else None
        if given is None and before is None:
            name = getattr(layer, "__qualname__", repr(layer))
            return self._raised(TypeError(f"middleware {name} must call call_next or return an outcome, did neither"))
        if given is None or given is before:
            assert before is not None
            return before
        if isinstance(before, (Returned, Lost)):
            return before  # it runs again, here or elsewhere: there is nothing to say for it
        if isinstance(given, Outcome):
            return given
        return self._asked_again(given) if isinstance(given, Retry) else Completed(as_object(given))

    def _after_error(self, layer: Middleware, error: BaseException, inner: list[Outcome]) -> Outcome:
        if not inner:
            # The handler has not run: as if it had raised this.
            return self._asked_again(error) if isinstance(error, Retry) else self._raised(error)
        if isinstance(error, Retry) and not isinstance(inner[0], (Returned, Lost)):
            return self._asked_again(error)
        name = getattr(layer, "__qualname__", repr(layer))
        logger.error(
            f"Middleware {name} raised after the handler had ended, the outcome stands:\n{told(error).traceback}"
        )
        return inner[0]
