"""How a handler's function wants to be called.

It takes the task's args whole, ``(args: ReportArgs, context)``, or each under its own name, ``(user_id: int, month:
str)``. The context is handed to the parameter that is annotated with it; what the args cannot hold (a connection pool)
is injected.

Whole are the args where an object's type (Struct, dataclass, TypedDict, model, mapping) or nothing is annotated and the
context comes next, or where such a parameter is the only one. Else they are converted together, as a Struct that is
made of the parameters, so that what does not fit is told with its path.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

import msgspec

from aworker.errors import ConfigError
from aworker.execution.annotations import (
    EMPTY,
    Unresolved,
    is_context,
    is_foreign,
    is_object,
    may_be_object,
    members,
    takes_none,
    type_name,
)
from aworker.execution.arguments import convert_arguments
from aworker.execution.context import Context
from aworker.execution.retry import Retry

INJECTED: Any = type("Injected", (), {"__repr__": lambda self: "INJECTED"})()
"""The default of a parameter that a worker's lifespan gives: it is no part of a call."""
CONTEXT_NAMES = frozenset({"context", "ctx", "_context", "_ctx", "_"})
_KEYWORD_ONLY, _REST = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
_ABSENT: Any = type("Absent", (), {})()
_NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class Signature:
    """What a function takes, and how it is called with a task's args."""

    def __init__(self, name: str, function: Callable[..., Any], namespace: Mapping[str, Any] = _NOTHING) -> None:
        self.name = name
        self._function = function
        self._namespace = namespace
        found = list(_parameters(name, function).values())
        self._parameters = [one for one in found if one.kind not in (_REST, inspect.Parameter.VAR_POSITIONAL)]
        self._rest = next((one for one in found if one.kind is _REST), None)
        star = next((one for one in found if one.kind is inspect.Parameter.VAR_POSITIONAL), None)
        if star is not None and not self._parameters:
            # Somebody's decorator that forgot functools.wraps: what it wraps is called as handlers always were.
            self._parameters = [inspect.Parameter(one, _POSITIONAL) for one in ("args", "context")]
            self._rest = None
        hints = {one.name: self._hint(one) for one in self._parameters}
        self.context = self._context_among(hints)
        self.whole = self._whole_among(hints)
        """The parameter that takes the args as they are; None where each has its own."""
        if star is not None and self.whole is None and self._parameters:
            raise _wrong(name, f"must have a name for each argument, has *{star.name}; write a list")
        self.injected = {one: hint for one, hint in hints.items() if self._is_injected(one, hint)}
        """By parameter, the type of what is not in a task but given by the worker."""
        self.args_type: Any
        if self.whole is not None:
            hint = hints[self.whole]
            self.args_type = dict[str, Any] if hint is EMPTY else hint
            self.fields: frozenset[str] = frozenset()
            self.required: frozenset[str] = frozenset()
        else:
            mine = [one for one in self._parameters if one.name not in (self.context, *self.injected)]
            self.args_type = self._struct(mine, hints)
            self.fields = frozenset(one.name for one in mine)
            self.required = frozenset(one.name for one in mine if one.default is EMPTY)
        self.takes_dict = get_origin(self.args_type) is dict and get_args(self.args_type) == (str, Any)
        self._check_types()
        self._keeps_none = frozenset(one for one, hint in hints.items() if takes_none(hint))
        self._is_plain = [one.name for one in self._parameters] == [self.whole, self.context] and not self._keywords()

    @functools.cached_property
    def returns(self) -> Any:
        """What the function says it returns beside a `Retry`; Any where that is not known at run time."""
        target = _target(self._function)
        annotation = getattr(target, "__annotations__", {}).get("return", Any)
        hint = self._resolved(annotation, target)
        if isinstance(hint, Unresolved):
            return Any
        left = tuple(one for one in members(hint) if not (isinstance(one, type) and issubclass(one, Retry)))
        return hint if len(left) == len(members(hint)) else Union[(*left, *([None] if takes_none(hint) else []))]

    def returned(self) -> Any:
        """Return `returns`."""
        return self.returns

    # A task's args on their way to the function.

    def convert(self, args: Any) -> Any:
        """Return a task's args as `invoke` wants them. Raises ArgumentsInvalid."""
        if self.takes_dict:
            return args
        converted = convert_arguments(args, self.args_type)
        if self._rest is None or self.whole is not None:
            return converted
        hint = self._hint(self._rest)
        of_all = Any if hint is EMPTY else hint
        return converted, {
            name: convert_arguments(value, of_all, f"args.{name}")
            for name, value in args.items()
            if name not in self.fields
        }

    def invoke(self, args: Any, context: Context, given: Mapping[str, Any] = _NOTHING) -> Any:
        """Call the function with what `convert` returned, and by name what is injected."""
        if self._is_plain and not given:
            return self._function(args, context)
        more: Mapping[str, Any] = _NOTHING
        if self._rest is not None and self.whole is None:
            args, more = args
        positions: list[Any] = []
        keywords: dict[str, Any] = {}
        for one in self._parameters:
            value = self._value(one, args, context, given)
            if value is _ABSENT:
                if one.kind is inspect.Parameter.POSITIONAL_ONLY:
                    positions.append(one.default)
            elif one.kind is inspect.Parameter.POSITIONAL_ONLY:
                positions.append(value)
            else:
                keywords[one.name] = value
        return self._function(*positions, **keywords, **more)

    def _value(self, one: inspect.Parameter, args: Any, context: Context, given: Mapping[str, Any]) -> Any:
        name = one.name
        if name == self.context:
            return context
        if name == self.whole:
            return args
        if name in given:
            return given[name]
        if name in self.injected:
            raise ConfigError(
                f"parameter {name} of handler {self.name} must be given by the worker's lifespan, is not; provide "
                f"one of its type ({type_name(self.injected[name])})"
            )
        value = _ABSENT if self.whole is not None else getattr(args, name)
        # Producers write null for whatever they leave out.
        is_left_out = value is None and one.default is not EMPTY and name not in self._keeps_none
        return _ABSENT if is_left_out else value

    # A call on its way to the task.

    def bind(self, positions: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Return a call's arguments as a task's args. Raises TypeError, as a call of the function does."""
        if self.whole is not None:
            return self._bound_whole(positions, keywords)
        if not positions and self.required <= keywords.keys() and (self._rest or keywords.keys() <= self.fields):
            return keywords
        bound = self._call_signature.bind(*positions, **keywords)
        arguments = dict(bound.arguments)
        if self._rest is not None:
            arguments.update(arguments.pop(self._rest.name, {}))
        return arguments

    def _bound_whole(self, positions: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if len(positions) == 1 and not keywords:
            return positions[0]
        if not positions and set(keywords) == {self.whole}:
            return keywords[self.whole]  # type: ignore[index]
        if positions:
            raise TypeError(f"{self.name} takes its args as one object, was called with {len(positions)} and keywords")
        return keywords

    @functools.cached_property
    def _call_signature(self) -> inspect.Signature:
        mine = [one for one in self._parameters if one.name in self.fields]
        return inspect.Signature([*mine, *([] if self._rest is None else [self._rest])])

    # Reading it.

    def _hint(self, one: inspect.Parameter) -> Any:
        return EMPTY if one.annotation is EMPTY else self._resolved(one.annotation, _target(self._function))

    def _resolved(self, annotation: Any, target: Any) -> Any:
        holder = types.SimpleNamespace(__annotations__={"one": annotation})
        try:
            return get_type_hints(holder, getattr(target, "__globals__", {}), dict(self._namespace), True)["one"]
        except Exception:  # noqa: BLE001 - an annotation is the user's code
            return Unresolved(annotation if isinstance(annotation, str) else repr(annotation))

    def _context_among(self, hints: Mapping[str, Any]) -> str | None:
        for name, hint in hints.items():
            if is_context(hint, name in CONTEXT_NAMES):
                return name
        # (payload, c), without a word about either.
        if len(self._parameters) == 2 and not self._keywords():
            first, second = hints
            if hints[second] is EMPTY and (hints[first] is EMPTY or is_object(hints[first])):
                return second
        return None

    def _whole_among(self, hints: Mapping[str, Any]) -> str | None:
        names = list(hints)
        if not names or self._parameters[0].kind is _KEYWORD_ONLY:
            return None
        first = names[0]
        if len(names) >= 2 and names[1] == self.context and (hints[first] is EMPTY or may_be_object(hints[first])):
            return first
        left = [one for one in self._parameters if one.name != self.context and one.default is not INJECTED]
        if len(left) != 1 or left[0].kind is _KEYWORD_ONLY or self._rest is not None:
            return None
        name, hint = left[0].name, hints[left[0].name]
        return name if is_object(hint) or (hint in (EMPTY, Any) and name == "args") else None

    def _is_injected(self, name: str, hint: Any) -> bool:
        if name in (self.whole, self.context):
            return False
        default = next(one.default for one in self._parameters if one.name == name)
        if default is INJECTED:
            return True
        if default is not EMPTY:
            return False
        return self.whole is not None or is_foreign(hint)

    def _keywords(self) -> bool:
        return any(one.kind is _KEYWORD_ONLY for one in self._parameters)

    def _struct(self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
        fields: list[Any] = []
        for one in parameters:
            hint = hints[one.name]
            if isinstance(hint, Unresolved):
                raise self._not_there(one.name, hint)
            if one.name.startswith("__"):
                raise _wrong(self.name, f"must not begin a name with two underscores, has {one.name}; rename it")
            hint = Any if hint is EMPTY else hint
            fields.append((one.name, hint) if one.default is EMPTY else (one.name, Optional[hint], _ABSENT))  # noqa: UP045
        return msgspec.defstruct(self.name.replace(".", "_"), fields, kw_only=True)

    def _check_types(self) -> None:
        if isinstance(self.args_type, Unresolved):
            raise self._not_there(self.whole, self.args_type)
        try:
            msgspec.json.Decoder(self.args_type)
        except Exception as error:  # noqa: BLE001 - whatever a library makes of a type that it does not know
            named = ", ".join(sorted(self.fields)) or self.whole
            rule = f"must have types that JSON can be converted to ({error}); look at {named}"
            raise _wrong(self.name, rule) from None

    def _not_there(self, parameter: str | None, hint: Any) -> ConfigError:
        return _wrong(self.name, f"must have types that are there at run time, {parameter}: {hint} is not; import it")


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def is_coroutine_function(function: Any) -> bool:
    """Say whether calling it gives a coroutine, through partials, wrappers and objects that can be called."""
    return inspect.iscoroutinefunction(_target(function))


def _parameters(name: str, function: Any) -> Mapping[str, inspect.Parameter]:
    if inspect.isclass(function):
        raise _wrong(name, f"must be a function, was the class {function.__name__}; decorate a function")
    if not callable(function):
        raise _wrong(name, f"must be a function, was {function!r}; decorate a function")
    target = _target(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise _wrong(name, "must return its result, is a generator; return a list")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise _wrong(name, f"must be a function with a signature, {function!r} has none; wrap it") from None
    first = next(iter(parameters.values()), None)
    if first is not None and first.name in ("self", "cls") and first.annotation is EMPTY:
        raise _wrong(name, f"must be a function, was the method {target.__qualname__}; decorate a function")
    return parameters


def _target(function: Any) -> Any:
    """The function that holds the annotations and says what it is."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, staticmethod) or inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isfunction(function) and inspect.ismethod(getattr(function, "__call__", None)):  # noqa: B004
            function = function.__call__.__func__
        else:
            return function


def _wrong(name: str, rule: str) -> ConfigError:
    return ConfigError(f"handler {name} {rule}")
