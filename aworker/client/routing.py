"""Which list a producer pushes a task onto: the first rule of ``[[routing]]`` that fits.

A level's load is looked at only when a rule needs it, and then at most once a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import redis.asyncio

from aworker.clock import now_s, parse_rfc3339
from aworker.config import Config, LoadConfig, QueueConfig, RoutingConfig
from aworker.errors import ConfigError, PayloadInvalid
from aworker.task import decode_task

LOOK_INTERVAL_S = 1.0


class Load:
    """What a level looked like a moment ago."""

    __slots__ = ("length", "looked_at", "oldest_created_at")

    def __init__(self, length: int, oldest_created_at: float | None, looked_at: float) -> None:
        self.length = length
        self.oldest_created_at = oldest_created_at
        """Epoch seconds; None when neither end of the list tells."""
        self.looked_at = looked_at

    def passes(self, when: LoadConfig) -> bool:
        """Whether every bound that is given is passed."""
        if when.longer_than is not None and self.length <= when.longer_than:
            return False
        if when.oldest_older_than_s is None:
            return True
        created_at = self.oldest_created_at
        return created_at is not None and now_s() - created_at > when.oldest_older_than_s


class Router:
    """The rules, and the loads that they asked for."""

    def __init__(self, config: Config, client: redis.asyncio.Redis) -> None:
        self._config = config
        self._client: Any = client
        self._loads: dict[str, Load] = {}

    async def route(self, task_type: str, args: Mapping[str, Any], priority: str) -> QueueConfig:
        """Return the level for a task. Raises RedisError and OSError where a rule needs a load that cannot be had."""
        for rule in self._config.routing:
            if not _fits(rule, task_type, args, priority):
                continue
            if rule.when is None or (await self._load(labelled(self._config, rule.when.queue))).passes(rule.when):
                return labelled(self._config, rule.queue)
        return self._config.queues[-1]

    async def _load(self, queue: QueueConfig) -> Load:
        load = self._loads.get(queue.name)
        now = time.monotonic()
        if load is None or now - load.looked_at >= LOOK_INTERVAL_S:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.llen(queue.name)
            pipeline.lindex(queue.name, 0)
            pipeline.lindex(queue.name, -1)
            length, *ends = await pipeline.execute()
            made = [created_at for end in ends if end is not None and (created_at := self._created_at(end)) is not None]
            load = self._loads[queue.name] = Load(length, min(made, default=None), now)
        return load

    def _created_at(self, payload: bytes) -> float | None:
        try:
            created_at = decode_task(payload, self._config.worker.max_payload_bytes).created_at
        except PayloadInvalid:
            return None
        return None if created_at is None else parse_rfc3339(created_at)


def level_named(config: Config, queue_or_label: str) -> QueueConfig:
    """Return the level with a label or a list's name. Raises ConfigError for any other word."""
    for queue in config.queues:
        if queue_or_label in (queue.label, queue.name):
            return queue
    known = ", ".join(f"{queue.label} ({queue.name})" for queue in config.queues)
    raise ConfigError(f"queue must be one of {known}, was {queue_or_label!r}; check its spelling")


def check_priority(config: Config, priority: str) -> None:
    """Raise PayloadInvalid for a word that no rule, label or older producer knows."""
    known = {"high", "normal", *(rule.priority for rule in config.routing if rule.priority is not None)}
    if not isinstance(priority, str) or priority not in known:
        raise PayloadInvalid(f"priority must be one of {', '.join(sorted(known))}, was {priority!r}; correct it")


def labelled(config: Config, label: str) -> QueueConfig:
    """Return the level with a label; where no level has it, as with the shipped rules and levels of other names, the
    highest for ``priority`` and else the lowest.
    """
    for queue in config.queues:
        if queue.label == label:
            return queue
    return config.queues[0 if label == "priority" else -1]


def _fits(rule: RoutingConfig, task_type: str, args: Mapping[str, Any], priority: str) -> bool:
    return (
        rule.task_type in (None, task_type)
        and rule.priority in (None, priority)
        and all(field in args and _is_one_of(args[field], wanted) for field, wanted in rule.args.items())
    )


def _is_one_of(value: Any, wanted: Any) -> bool:
    return any(_is_same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted]))


def _is_same(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted) or (isinstance(value, (str, int)) and str(value) == str(wanted))
