"""Tasks pushed a second: one by one and a thousand at once, beside ``RPUSH`` of ready bytes."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from aworker.cli.bench.rows import Row
from aworker.cli.bench.workers import NORMAL, payload
from aworker.client.client import Client
from aworker.queues.connection import connect

BATCH = 1_000


async def producing(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """What a producer pays."""
    singles, batches = 2_000 // less, max(1, 20 // less)
    single: list[tuple[float, float]] = []
    batch: list[tuple[float, float]] = []
    ready = [payload(number) for number in range(BATCH)]
    async with Client(url) as client, connect(url) as bare:
        for _ in range(rounds):
            await bare.flushall()
            started = time.perf_counter()
            for number in range(singles):
                await client.enqueue("noop", {"n": number})
            between = time.perf_counter()
            for _ in range(singles):
                await bare.rpush(NORMAL, ready[0])
            single.append((singles / (between - started), singles / (time.perf_counter() - between)))
            started = time.perf_counter()
            for _ in range(batches):
                await client.enqueue_many([("noop", {"n": number}) for number in range(BATCH)])
            between = time.perf_counter()
            for _ in range(batches):
                await bare.rpush(NORMAL, *ready)
            pushed = batches * BATCH
            batch.append((pushed / (between - started), pushed / (time.perf_counter() - between)))
        await bare.flushall()
    return [
        _row("enqueued a second, one by one", single),
        _row(f"enqueued a second, {BATCH:,} at once", batch),
    ]


def _row(what: str, rates: list[tuple[float, float]]) -> Row:
    return {
        "what": what,
        "aworker": round(statistics.median(ours for ours, _ in rates)),
        "bare RPUSH of ready bytes": round(statistics.median(theirs for _, theirs in rates)),
        "ratio": round(statistics.median(ours / theirs for ours, theirs in rates), 2),
    }
