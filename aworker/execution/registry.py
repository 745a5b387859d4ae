"""Which function handles which task_type.

A handler takes ``(args, context)``. Its first parameter's annotation is the type that the task's args are converted
to (a msgspec Struct, a TypedDict, ``dict``); a coroutine function runs in the loop, a plain function whole in a child.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aworker.errors import ConfigError
from aworker.execution.policy import Backoff, RetryPolicy, policy_of

NO_RETRIES = RetryPolicy()
Function = TypeVar("Function", bound=Callable[..., Any])


class Handler:
    """A handler function with what the executor needs to know of it."""

    __slots__ = ("args_type", "function", "policy", "runs_in", "takes_dict", "task_type", "timeout_s", "uses_pool")

    def __init__(
        self,
        task_type: str,
        function: Callable[..., Any],
        *,
        runs_in: Literal["loop", "process"] | None = None,
        uses_pool: bool = False,
        timeout_s: float | None = None,
        policy: RetryPolicy = NO_RETRIES,
    ) -> None:
        is_coroutine = inspect.iscoroutinefunction(function)
        self.task_type = task_type
        self.function = function
        self.runs_in: Literal["loop", "process"] = runs_in or ("loop" if is_coroutine else "process")
        self.uses_pool = uses_pool or self.runs_in == "process"
        self.timeout_s = timeout_s
        self.policy = policy
        self.args_type: Any = _first_annotation(function)
        self.takes_dict = get_origin(self.args_type) is dict and get_args(self.args_type) == (str, Any)
        if self.runs_in == "loop" and not is_coroutine:
            raise ConfigError(f"handler {task_type} must be a coroutine function to run in the loop, was {function!r}")
        if self.runs_in == "process" and is_coroutine:
            raise ConfigError(f"handler {task_type} must be a plain function to run in a process, was {function!r}")

    @property
    def reference(self) -> str:
        """The function as ``module:qualname``, as a child finds it."""
        return f"{self.function.__module__}:{self.function.__qualname__}"


class Registry:
    """The handlers of one worker, by task_type."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Add a handler; a later one of the same type takes the place of an earlier."""
        self._handlers[handler.task_type] = handler

    def get(self, task_type: str) -> Handler | None:
        """Return the handler of a type, or None."""
        return self._handlers.get(task_type)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())


declared = Registry()
"""What `handler` has collected; importing a handler module fills it."""


def handler(
    task_type: str,
    *,
    runs_in: Literal["loop", "process"] | None = None,
    uses_pool: bool = False,
    timeout_s: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | Sequence[type[BaseException]] = (),
    backoff: Backoff = "exponential",
    jitter: float = 0.5,
    give_up_after_s: float = 0.0,
) -> Callable[[Function], Function]:
    """Declare the decorated function as the handler of ``task_type``.

    A coroutine function runs in the loop, a plain one in a child process. ``uses_pool`` says that a coroutine hands
    work to the pool: the type's default ``max_concurrent`` is then the number of children.

    A task that failed is tried again ``retries`` times (``[tasks.TYPE] retries`` wins), after exceptions of the classes
    ``retry_on`` alone where any are named, never after PermanentFailure or RequestDeclined. ``backoff`` is
    ``"exponential"`` (1, 2, 4 .. 300 s), ``"linear"`` (10, 20 .. 300 s) or a list of seconds whose last one stays;
    each wait is shortened by chance, at most by the fraction ``jitter``. No try begins later than ``give_up_after_s``
    after the first one ended. Raises ConfigError.
    """
    policy = policy_of(task_type, retries, retry_on, backoff, jitter, give_up_after_s)

    def declare(function: Function) -> Function:
        declared.add(
            Handler(task_type, function, runs_in=runs_in, uses_pool=uses_pool, timeout_s=timeout_s, policy=policy)
        )
        return function

    return declare


def _first_annotation(function: Callable[..., Any]) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    if inspect.ismethod(function):
        hints = get_type_hints(function.__func__)
    else:
        hints = get_type_hints(function)
    if not parameters:
        raise ConfigError(f"handler {function!r} must take (args, context), takes nothing")
    return hints.get(parameters[0].name, dict[str, Any])
