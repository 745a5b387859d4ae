"""What is open while a process runs tasks: begun before the first, ended after the last, in reverse order.

``@lifespan`` decorates a generator that yields once: an asynchronous one runs in the worker's loop, a plain one in each
child process. What it yields is handed to handlers, and to later lifespans, by the type of a parameter, and stands in
``context.state`` under the function's name; a dict that is yielded stands there key by key.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import anyio
from loguru import logger

from aworker.errors import AworkerError, LifespanFailed
from aworker.execution.failure import told
from aworker.execution.state import State

NOTHING_GIVEN: Mapping[str, Any] = types.MappingProxyType({})
END_S = 10.0
"""How long one may take to end."""
Function = TypeVar("Function", bound=Callable[..., Any])


class Lifespan:
    """A generator function, and where it runs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = function.__name__
        self.is_async = inspect.isasyncgenfunction(function)
        if not self.is_async and not inspect.isgeneratorfunction(function):
            raise LifespanFailed(f"lifespan {self.name} must be a function that yields once, does not; add one")
        hints = get_type_hints(function)
        self.needs = {name: hints.get(name, Any) for name in inspect.signature(function).parameters}


declared_lifespans: list[Lifespan] = []


def lifespan(function: Function) -> Function:
    """Run the decorated generator around all tasks: to its ``yield`` before the first, the rest after the last.

    An asynchronous generator runs in the worker, a plain one in each child process. One that raises before its
    ``yield`` ends the worker before it took a task. What it yields is given by type and by name (docs/handlers.md).
    """
    declared_lifespans.append(Lifespan(function))
    return function


class Given:
    """What lifespans have yielded so far."""

    def __init__(self) -> None:
        self.state = State()
        self._values: list[Any] = []

    def take(self, name: str, value: Any) -> None:
        """Keep what one has yielded."""
        named = value if isinstance(value, dict) else {} if value is None else {name: value}
        for key, one in named.items():
            setattr(self.state, str(key), one)
            self._values.append(one)

    def by_type(self, who: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for each parameter. Raises LifespanFailed where there is none."""
        return {name: self._one(who, name, hint) for name, hint in wanted.items()}

    def _one(self, who: str, name: str, hint: Any) -> Any:
        if hint is State:
            return self.state
        is_union = get_origin(hint) in (Union, types.UnionType)
        kinds = [get_origin(kind) or kind for kind in (get_args(hint) if is_union else (hint,))]
        kinds = [kind for kind in kinds if isinstance(kind, type)]
        # Of several the one whose own type it is; else the latest.
        for fits in (lambda value, kind: type(value) is kind, _is_instance):
            for value in reversed(self._values):
                if any(fits(value, kind) for kind in kinds if kind is not type(None)):
                    return value
        if type(None) in kinds:
            return None
        shown = getattr(hint, "__name__", str(hint))
        have = ", ".join(sorted({type(value).__name__ for value in self._values})) or "nothing"
        raise LifespanFailed(
            f"{who}: parameter {name} must be of a type that a @lifespan yields, was {shown}; they yield {have}"
        )


def _is_instance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:
        return False  # a protocol that cannot be looked for


@asynccontextmanager
async def open_lifespans(lifespans: Iterable[Lifespan]) -> AsyncIterator[Given]:
    """Run those of the worker around the block, ended in reverse order whatever happens. Raises LifespanFailed."""
    given = Given()
    begun: list[tuple[str, Any]] = []
    try:
        for one in lifespans:
            if one.is_async:
                generator = one.function(**given.by_type(f"lifespan {one.name}", one.needs))
                begun.append((one.name, generator))
                try:
                    value = await anext(generator)
                except AworkerError:
                    raise
                except Exception as error:
                    raise _failed(one.name, "worker", error) from error
                given.take(one.name, value)
        yield given
    finally:
        with anyio.CancelScope(shield=True):
            for name, generator in reversed(begun):
                await _end(name, generator)


async def _end(name: str, generator: Any) -> None:
    try:
        with anyio.move_on_after(END_S) as scope:
            await anext(generator, None)
            await generator.aclose()
    except BaseException as error:  # noqa: BLE001 - the others end whatever one does
        logger.error(f"lifespan {name} raised at its end, the others end too:\n{told(error).traceback}")
        return
    if scope.cancelled_caught:
        logger.error(f"lifespan {name} must end within {END_S:g} s, did not; it is left as it is")


class ChildLifespans:
    """Those of a child process."""

    def __init__(self, lifespans: Iterable[Lifespan]) -> None:
        self.given = Given()
        self._lifespans = [one for one in lifespans if not one.is_async]
        self._begun: list[tuple[str, Iterator[Any]]] = []

    def begin(self) -> None:
        """Run each up to its yield. Raises LifespanFailed."""
        for one in self._lifespans:
            generator = one.function(**self.given.by_type(f"lifespan {one.name}", one.needs))
            self._begun.append((one.name, generator))
            try:
                value = next(generator)
            except AworkerError:
                raise
            except BaseException as error:
                raise _failed(one.name, "child", error) from error
            self.given.take(one.name, value)

    def end(self) -> None:
        """Run the rest of each, in reverse order, whatever one of them raises."""
        while self._begun:
            name, generator = self._begun.pop()
            try:
                next(generator, None)
                generator.close()  # type: ignore[attr-defined]
            except BaseException as error:  # noqa: BLE001 - the others end whatever one does
                logger.error(f"lifespan {name} raised at its end in a child:\n{told(error).traceback}")


def _failed(name: str, where: str, error: BaseException) -> LifespanFailed:
    what, text, trace = told(error)
    logger.error(f"lifespan {name} raised before its yield:\n{trace}")
    return LifespanFailed(f"lifespan {name} must begin before the {where} takes a task, raised {what}: {text}")
