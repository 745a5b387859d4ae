"""Tasks a second: with slots, log levels, ways of delivery and rules of who goes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis

from aworker.cli.bench.loops import bare_rate, two_step_rate
from aworker.cli.bench.rows import FORGETS, KEEPS, Meter, Row, Sample, compared
from aworker.cli.bench.workers import NORMAL, PRIORITY, config_of, fill, worker_rate
from aworker.config import LoggingConfig, QueueConfig, WorkerConfig
from aworker.logs import configure_logs

TASKS = {1: 2_000, 10: 8_000, 100: 20_000, 1_000: 20_000}
QUIET = LoggingConfig(level="WARNING")

Contender = Callable[[], Awaitable[float]]


async def _rounds(url: str, count: int, rounds: int, contenders: dict[str, Contender]) -> dict[str, list[Sample]]:
    """Let each have its turn with as many tasks, again and again."""
    seen: dict[str, list[Sample]] = {name: [] for name in contenders}
    with redis.Redis.from_url(url) as client:
        for _ in range(rounds):
            for name, run in contenders.items():
                await fill(url, count)
                meter = Meter(client)
                seen[name].append(meter.sample(await run(), count))
    return seen


async def slots(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """Slots, beside both bare loops with as many."""
    rows = []
    for number, tasks in TASKS.items():
        if less > 1 and number > 100:
            break  # a thousand connections take longer than what they are measured for
        count = tasks // less

        def ours(number: int = number, count: int = count) -> Awaitable[float]:
            return worker_rate(config_of(url, number), count)

        def forgets(number: int = number, count: int = count) -> Awaitable[float]:
            return bare_rate(url, number, count, keeps=False)

        def keeps(number: int = number, count: int = count) -> Awaitable[float]:
            return bare_rate(url, number, count, keeps=True)

        seen = await _rounds(url, count, rounds, {"aworker": ours, FORGETS: forgets, KEEPS: keeps})
        rows.append(compared(f"tasks a second, {number} slot{'s' * (number > 1)}", seen))
    return rows


async def ways(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """100 slots: two log lines a task, and delivery without leases."""
    count = TASKS[100] // less

    def forgets() -> Awaitable[float]:
        return bare_rate(url, 100, count, keeps=False)

    async def logging() -> float:
        configure_logs(LoggingConfig(level="INFO", file=str(folder / "bench.log")))
        try:
            return await worker_rate(config_of(url, 100), count)
        finally:
            configure_logs(QUIET)

    def plain() -> Awaitable[float]:
        return worker_rate(config_of(url, worker=WorkerConfig(slots=100, delivery="at-most-once")), count)

    rows = []
    for what, run in (("log level INFO", logging), ("at-most-once", plain)):
        seen = await _rounds(url, count, rounds, {"aworker": run, FORGETS: forgets})
        rows.append(compared(f"tasks a second, 100 slots, {what}", seen))
    return rows


async def rules(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """100 slots: what each rule of who goes first costs, beside a worker without it."""
    count = TASKS[100] // less
    priority, normal = QueueConfig(name=PRIORITY, label="priority"), QueueConfig(name=NORMAL, label="normal")
    aging = (priority, QueueConfig(name=NORMAL, label="normal", promote_after_s=60))
    five = (priority, *(QueueConfig(name=f"level_{at}", label=f"level {at}") for at in range(3)), normal)
    given: dict[str, dict[str, Any]] = {
        "aging": {"queues": aging},
        "a limit per user": {"worker": WorkerConfig(slots=100, max_per_user=50)},
        "five levels": {"queues": five},
    }

    def without() -> Awaitable[float]:
        return worker_rate(config_of(url, 100), count)

    rows = []
    for what, sections in given.items():

        def ours(sections: dict[str, Any] = sections) -> Awaitable[float]:
            return worker_rate(config_of(url, 100, **sections), count)

        seen = await _rounds(url, count, rounds, {"aworker": ours, "without": without})
        rows.append(compared(f"tasks a second, 100 slots, {what}", seen, "without"))
    return rows


async def two_step(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """The literal two-step cycle with one slot."""
    await fill(url, 3)
    rate = await two_step_rate(url, 3)
    await fill(url, 1_000 // less)
    ours = await worker_rate(config_of(url, 1), 1_000 // less)
    return [{"what": "normal tasks a second, 1 slot", "aworker": round(ours), "literal two-step cycle": round(rate, 1)}]
