"""Which function handles which task_type.

A coroutine function runs in the loop, a plain function whole in a child. What it takes is in `signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from aworker.errors import ConfigError
from aworker.execution.context import Context
from aworker.execution.lifespan import NOTHING_GIVEN, Lifespan
from aworker.execution.middleware import Middleware
from aworker.execution.policy import RetryPolicy
from aworker.execution.signature import Signature, is_coroutine_function

NO_RETRIES = RetryPolicy()


class Handler:
    """A handler function with what the executor needs to know of it."""

    def __init__(
        self,
        task_type: str,
        function: Callable[..., Any],
        *,
        runs_in: Literal["loop", "process"] | None = None,
        uses_pool: bool = False,
        timeout_s: float | None = None,
        policy: RetryPolicy = NO_RETRIES,
        namespace: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(task_type, str) or not task_type:
            raise ConfigError(f'handler must have a task_type, was {task_type!r}; write @handler("report")')
        self.signature = Signature(task_type, function, namespace or {})
        is_coroutine = is_coroutine_function(function)
        self.task_type = task_type
        self.function = function
        self.runs_in: Literal["loop", "process"] = runs_in or ("loop" if is_coroutine else "process")
        self.uses_pool = uses_pool or self.runs_in == "process"
        self.timeout_s = timeout_s
        self.policy = policy
        if self.runs_in == "loop" and not is_coroutine:
            raise ConfigError(f"handler {task_type} must be a coroutine function to run in the loop, was {function!r}")
        if self.runs_in == "process" and is_coroutine:
            raise ConfigError(f"handler {task_type} must be a plain function to run in a process, was {function!r}")

    @property
    def reference(self) -> str:
        """The function as ``module:qualname``, as a child finds it. Raises ConfigError where it has no such name."""
        try:
            return f"{self.function.__module__}:{self.function.__qualname__}"
        except AttributeError:
            raise ConfigError(
                f"handler {self.task_type} must be a function that a child process can import by its name, was "
                f"{self.function!r}; write a function that calls it"
            ) from None

    @property
    def args_type(self) -> Any:
        """What a task's args are converted to."""
        return self.signature.args_type

    def invoke(self, args: Any, context: Context, given: Mapping[str, Any] = NOTHING_GIVEN) -> Any:
        """Call the function with a task's args, as they stand in it, and what is given to it by name.

        Raises ArgumentsInvalid.
        """
        return self.signature.invoke(self.signature.convert(args), context, given)


class Registry:
    """The handlers of one worker, by task_type."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self.advice: dict[str, str] = {}
        """What to do about tasks of a type that could have a handler and has none here."""

    def add(self, handler: Handler) -> None:
        """Add a handler; a later one of the same type takes the place of an earlier."""
        self._handlers[handler.task_type] = handler

    def get(self, task_type: str) -> Handler | None:
        """Return the handler of a type, or None."""
        return self._handlers.get(task_type)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    @cached_property
    def lifespans(self) -> list[Lifespan]:
        """What is open around all tasks, in order."""
        return []

    @cached_property
    def middleware(self) -> list[Middleware]:
        """What runs around each task, the outermost first."""
        return []


declared = Registry()
"""What ``@handler`` has collected; importing a handler module fills it."""
