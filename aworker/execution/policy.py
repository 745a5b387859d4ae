"""When a task that failed is tried again: what `handler` says of retries, and what was tried before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from aworker.errors import ConfigError

FIRST_S = 1.0
STEP_S = 10.0
LONGEST_S = 300.0
Backoff = Literal["exponential", "linear"] | Sequence[float]


class Try(msgspec.Struct, frozen=True):
    """How one delivery ended that was not the last."""

    at: str
    delivery: int
    error_type: str
    error: str


class RetryPolicy(msgspec.Struct, frozen=True):
    """What a handler says of trying again."""

    retries: int = 0
    retry_on: tuple[str, ...] = ()
    """Classes of exceptions, as ``module.name``; empty = whatever it failed with."""
    backoff: Literal["exponential", "linear"] | tuple[float, ...] = "exponential"
    jitter: float = 0.5
    give_up_after_s: float = 0.0
    """No try begins later than this after the first one ended; 0 = no such bound."""

    def wait_s(self, delivery: int) -> float:
        """Return how long to wait after a delivery: shorter by chance, at most by ``jitter`` of it."""
        if self.backoff == "exponential":
            wait_s = min(FIRST_S * 2.0 ** min(delivery - 1, 30), LONGEST_S)
        elif self.backoff == "linear":
            wait_s = min(STEP_S * delivery, LONGEST_S)
        else:
            wait_s = float(self.backoff[min(delivery, len(self.backoff)) - 1])
        return wait_s * random.uniform(1.0 - self.jitter, 1.0)

    def covers(self, kinds: Sequence[str]) -> bool:
        """Say whether an exception of these classes is one to try again after."""
        return PERMANENT not in kinds and (not self.retry_on or any(kind in self.retry_on for kind in kinds))


PERMANENT = "aworker.errors.PermanentFailure"


def kinds_of(error_type: type[BaseException]) -> tuple[str, ...]:
    """Return an exception's classes, its own first, as ``module.name``."""
    return tuple(f"{one.__module__}.{one.__qualname__}" for one in error_type.__mro__ if one is not object)


def policy_of(
    task_type: str,
    retries: int,
    retry_on: type[BaseException] | Sequence[type[BaseException]],
    backoff: Backoff,
    jitter: float,
    give_up_after_s: float,
) -> RetryPolicy:
    """Check what a handler says. Raises ConfigError."""
    classes = (retry_on,) if isinstance(retry_on, type) else tuple(retry_on)
    waits = backoff if isinstance(backoff, str) else tuple(backoff)
    checks = [
        ("retries", isinstance(retries, int) and not isinstance(retries, bool) and retries >= 0, ">= 0", retries),
        (
            "retry_on",
            all(isinstance(one, type) and issubclass(one, BaseException) for one in classes),
            "classes of exceptions",
            retry_on,
        ),
        (
            "backoff",
            waits in ("exponential", "linear")
            if isinstance(waits, str)
            else bool(waits) and all(_is_seconds(one) for one in waits),
            "exponential, linear or a list of seconds",
            backoff,
        ),
        ("jitter", _is_seconds(jitter) and jitter <= 1, "a fraction from 0 to 1", jitter),
        ("give_up_after_s", _is_seconds(give_up_after_s), "seconds >= 0", give_up_after_s),
    ]
    for name, holds, rule, value in checks:
        if not holds:
            raise ConfigError(f"handler {task_type}: {name} must be {rule}, was {value!r}; correct it")
    return RetryPolicy(
        retries,
        tuple(kinds_of(one)[0] for one in classes),
        waits,
        float(jitter),
        float(give_up_after_s),
    )


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 315_360_000
