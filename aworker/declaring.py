"""``@handler``: a function becomes a `TypedHandler`, which runs tasks, is called as the function that it was, and
enqueues tasks of its type with the arguments of that function, as type checkers know them.

What a call has and what it gives is read off the function's type: of ``(args, context, ...)`` the args, of
``(context, ...)`` the rest, of any other all; what it returns without a `Retry`. Nothing here imports Redis before
something is enqueued: children import handlers too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from aworker.encoding import as_builtins
from aworker.errors import ConfigError
from aworker.execution.context import Context
from aworker.execution.policy import Backoff, RetryPolicy, policy_of
from aworker.execution.registry import Handler, declared
from aworker.execution.retry import Retry

if TYPE_CHECKING:
    import msgspec

    from aworker.client.client import Client
    from aworker.client.enqueued import Call, EnqueuedTask, SyncEnqueuedTask
    from aworker.client.later import Instant
    from aworker.client.pushing import Conflict, Until
    from aworker.client.synchronous import SyncClient


class _Fields(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Attributes(Protocol):
    __attrs_attrs__: ClassVar[Any]


class _Model(Protocol):
    def model_dump(self) -> dict[str, Any]: ...


Arguments = TypeVar("Arguments", bound="msgspec.Struct | Mapping[str, Any] | _Fields | _Attributes | _Model")
"""A type that a task's args can be converted to whole."""
Called = ParamSpec("Called")
"""What is given to enqueue a task."""
Own = ParamSpec("Own")
"""What the function takes."""
Given = TypeVar("Given")
"""What the function gives, perhaps to be awaited."""
Result = TypeVar("Result")
Returned = TypeVar("Returned", covariant=True)
"""What the function returns, perhaps a `Retry`."""
Value = TypeVar("Value")
"""What it returns beside a `Retry`."""


class TypedHandler(Handler, Generic[Called, Own, Given, Returned]):
    """A declared handler. Calling it calls the function."""

    __name__: str
    _options: Mapping[str, Any]

    def __init__(
        self,
        task_type: str,
        function: Callable[..., Any],
        *,
        runs_in: Literal["loop", "process"] | None,
        uses_pool: bool,
        timeout_s: float | None,
        policy: RetryPolicy,
        namespace: Mapping[str, Any],
    ) -> None:
        super().__init__(
            task_type,
            function,
            runs_in=runs_in,
            uses_pool=uses_pool,
            timeout_s=timeout_s,
            policy=policy,
            namespace=namespace,
        )
        functools.update_wrapper(self, function, updated=())
        self._options = {}

    def __repr__(self) -> str:
        return f"<handler {self.task_type} of {self.function!r}>"

    def __call__(self, *args: Own.args, **kwargs: Own.kwargs) -> Given:
        """Call the function itself, here and now."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]

    @overload
    def enqueue(
        self: TypedHandler[Called, Own, Given, Value | Retry],
        client: Client,
        /,
        *args: Called.args,
        **kwargs: Called.kwargs,
    ) -> Coroutine[Any, Any, EnqueuedTask[Value]]: ...

    @overload
    def enqueue(
        self: TypedHandler[Called, Own, Given, Value | Retry],
        client: SyncClient,
        /,
        *args: Called.args,
        **kwargs: Called.kwargs,
    ) -> SyncEnqueuedTask[Value]: ...

    @overload
    def enqueue(
        self: TypedHandler[Called, Own, Given, Value | Retry],
        client: Context,
        /,
        *args: Called.args,
        **kwargs: Called.kwargs,
    ) -> str: ...

    def enqueue(self, client: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Enqueue a task with these arguments: awaited with a `Client`, at once with a `SyncClient`, and with the
        `Context` of a running task together with that task's end.

        The ``result()`` of what a client gives back is what the function returned, as the type that it says it returns;
        a context gives back the task_id. Raises TypeError for arguments that the function does not take, and what the
        ``enqueue`` of the client or the context does.
        """
        if isinstance(client, Context):
            fields = as_builtins(self.signature.bind(args, kwargs))
            return client.enqueue(self.task_type, fields, **self._options)
        return client.enqueue_call(self.task(*args, **kwargs))

    def task(
        self: TypedHandler[Called, Own, Given, Value | Retry], *args: Called.args, **kwargs: Called.kwargs
    ) -> Call[Value]:
        """Return the task without enqueuing it, for ``enqueue_many`` of a client. Raises TypeError."""
        from aworker.client.enqueued import Call

        bound = self.signature.bind(args, kwargs)
        return Call(task_type=self.task_type, args=bound, returns=self.signature.returned, **self._options)

    def options(
        self,
        *,
        task_id: str | None = None,
        priority: str | None = None,
        queue: str | None = None,
        delay_s: float | None = None,
        at: Instant | None = None,
        unique_key: str | None = None,
        unique_for_s: float | None = None,
        unique_until: Until | None = None,
        on_conflict: Conflict = "keep",
        debounce_s: float | None = None,
    ) -> TypedHandler[Called, Own, Given, Returned]:
        """Return this handler with what `Client.enqueue` takes beside the arguments: when, where, once.

        ``await report.options(delay_s=60).enqueue(client, user_id=1)``
        """
        other: TypedHandler[Called, Own, Given, Returned] = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._options = {
            "task_id": task_id,
            "priority": priority,
            "queue": queue,
            "delay_s": delay_s,
            "at": at,
            "unique_key": unique_key,
            "unique_for_s": unique_for_s,
            "unique_until": unique_until,
            "on_conflict": on_conflict,
            "debounce_s": debounce_s,
        }
        return other


class Declaration:
    """The decorator that `handler` returns."""

    def __init__(self, task_type: str, policy: RetryPolicy, words: Mapping[str, Any]) -> None:
        self._task_type = task_type
        self._policy = policy
        self._words = words

    @overload
    def __call__(
        self, function: Callable[Concatenate[Arguments, Context, Own], Coroutine[Any, Any, Result]], /
    ) -> TypedHandler[[Arguments], Concatenate[Arguments, Context, Own], Coroutine[Any, Any, Result], Result]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, Called], Coroutine[Any, Any, Result]], /
    ) -> TypedHandler[Called, Concatenate[Context, Called], Coroutine[Any, Any, Result], Result]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Called, Coroutine[Any, Any, Result]], /
    ) -> TypedHandler[Called, Called, Coroutine[Any, Any, Result], Result]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Arguments, Context, Own], Result], /
    ) -> TypedHandler[[Arguments], Concatenate[Arguments, Context, Own], Result, Result]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, Called], Result], /
    ) -> TypedHandler[Called, Concatenate[Context, Called], Result, Result]: ...

    @overload
    def __call__(self, function: Callable[Called, Result], /) -> TypedHandler[Called, Called, Result, Result]: ...

    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Declare the function. Raises ConfigError for one that cannot be a handler."""
        around = sys._getframe(1)
        namespace = {} if around.f_code.co_name == "<module>" else around.f_locals
        made: TypedHandler[..., ..., Any, Any] = TypedHandler(
            self._task_type, function, policy=self._policy, namespace=namespace, **self._words
        )
        declared.add(made)
        return made


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
) -> Declaration:
    """Declare the decorated function as the handler of ``task_type``.

    A coroutine function runs in the loop, a plain one in a child process. ``uses_pool`` says that a coroutine hands
    work to the pool: the type's default ``max_concurrent`` is then the number of children.

    A task that failed is tried again ``retries`` times (``[tasks.TYPE] retries`` wins), after exceptions of the classes
    ``retry_on`` alone where any are named, never after PermanentFailure or RequestDeclined. ``backoff`` is
    ``"exponential"`` (1, 2, 4 .. 300 s), ``"linear"`` (10, 20 .. 300 s) or a list of seconds whose last one stays;
    each wait is shortened by chance, at most by the fraction ``jitter``. No try begins later than ``give_up_after_s``
    after the first one ended. Raises ConfigError.
    """
    if not isinstance(task_type, str) or not task_type:
        raise ConfigError(f'handler must have a task_type, was {task_type!r}; write @handler("report")')
    policy = policy_of(task_type, retries, retry_on, backoff, jitter, give_up_after_s)
    return Declaration(task_type, policy, {"runs_in": runs_in, "uses_pool": uses_pool, "timeout_s": timeout_s})
