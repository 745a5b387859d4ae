"""``@schedule(...)``: the same as a ``[[schedule]]`` of the file, beside the handler that it is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

from aworker.config import Config, ScheduleConfig, schedule_rules
from aworker.errors import ConfigError
from aworker.execution.registry import Registry

Declared = TypeVar("Declared")

_declared: list[tuple[Any, dict[str, Any]]] = []


def schedule(
    cron: str = "",
    *,
    every_s: float = 0.0,
    name: str = "",
    timezone: str = "UTC",
    args: Mapping[str, Any] | None = None,
    queue: str = "",
    priority: Literal["normal", "high"] = "normal",
    jitter_s: float = 0.0,
    start: datetime | None = None,
    end: datetime | None = None,
    overlap: Literal["skip", "queue", "replace"] = "skip",
    catch_up: Literal["none", "last", "all"] = "last",
    catch_up_most: int = 100,
) -> Callable[[Declared], Declared]:
    """Enqueue the decorated handler's tasks by a cron line or every so many seconds.

    It stands above or below ``@handler``, more than once where each has a ``name`` of its own (default: the task type).
    What the words mean is in docs/later.md; a ``[[schedule]]`` of the same name in the file takes its place. What is
    wrong in it is told when a worker starts, as ConfigError.
    """
    words = {
        "cron": cron,
        "every_s": every_s,
        "name": name,
        "timezone": timezone,
        "args": dict(args or {}),
        "queue": queue,
        "priority": priority,
        "jitter_s": jitter_s,
        "start": start,
        "end": end,
        "overlap": overlap,
        "catch_up": catch_up,
        "catch_up_most": catch_up_most,
    }

    def declare(function: Declared) -> Declared:
        _declared.append((function, words))
        return function

    return declare


def schedules_of(config: Config, registry: Registry) -> tuple[ScheduleConfig, ...]:
    """Return the schedules of the file and those beside the handlers, of one name that of the file.

    Raises ConfigError.
    """
    named = {one.name for one in config.schedule}
    declared: list[ScheduleConfig] = []
    for function, words in _declared:
        task_type = next((one.task_type for one in registry if function is one.function or function is one), None)
        if task_type is None:
            raise ConfigError(f"@schedule must be beside a @handler, {function!r} is none; add one")
        name = words["name"] or task_type
        if name not in named:
            declared.append(ScheduleConfig(task_type=task_type, **{**words, "name": name}))
    for holds, path, rule, value, advice in schedule_rules(declared, config):
        if not holds:
            where = path.replace("schedule[", "@schedule[")
            raise ConfigError(f"{where} must be {rule}, was {value!r}; {advice or 'correct it'}")
    return (*config.schedule, *declared)
