"""What goes to children: the cost of handing a call over, and backtests."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from aworker.cli.bench.calls import echo
from aworker.cli.bench.rows import Row, waits
from aworker.cli.bench.workers import fill
from aworker.client.client import Client
from aworker.execution.pool import PoolSettings, TaskInfo, open_pool

CALLS = 1_000
SYMBOLS, BARS = 100, 2_520


async def pool(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """An empty call and one with a megabyte each way, beside the standard library's executor."""
    info = TaskInfo("bench", "bench", 1, 1)
    rows = []
    settings = PoolSettings(processes=2, preload=(echo.__module__,))
    with ProcessPoolExecutor(2, get_context("forkserver")) as executor:
        async with open_pool(settings, log=lambda record: None) as ours:
            for what, value, count in (
                ("an empty call in a child, ms", None, CALLS // less),
                ("1 MB to a child and back, ms", b"x" * 1_000_000, max(10, CALLS // less // 10)),
            ):
                found: list[float] = []
                theirs: list[float] = []
                for number in range(count + 1):
                    started = time.perf_counter()
                    await ours.call(echo, (value,), task=info, on_progress=lambda *update: None)
                    between = time.perf_counter()
                    await anyio.to_thread.run_sync(executor.submit(echo, value, None).result)  # type: ignore[arg-type]
                    if number:  # the first starts the executor's children
                        found.append(between - started)
                        theirs.append(time.perf_counter() - between)
                rows.append(waits(what, found, theirs, "ProcessPoolExecutor"))
    return rows


async def backtest(url: str, less: int, rounds: int, folder: Path) -> list[Row]:
    """A golden cross with a stop over 100 symbols of ten years of daily bars, through a worker from push to result."""
    if find_spec("aworker.trading") is None:
        return []
    from aworker.app import TRADING_CHILD_MODULES, build_registry
    from aworker.config import Config, LiveConfig, MarketDataConfig, RedisConfig
    from aworker.worker.supervisor import Supervisor

    symbols = max(5, SYMBOLS // less)
    await anyio.to_thread.run_sync(_write_bars, folder, symbols)
    await fill(url, 0)
    config = Config(redis=RedisConfig(url=url), market_data=MarketDataConfig(path=str(folder)))
    ready = anyio.Event()
    registry = build_registry(config)
    supervisor = Supervisor(LiveConfig(config), registry, preload=TRADING_CHILD_MODULES, on_ready=ready.set)
    async with anyio.create_task_group() as group, Client(url) as client:
        group.start_soon(supervisor.run)
        await ready.wait()
        made = await _result(client, "create_strategy", {"user_id": 1, "prompt": "golden cross, 10% stop loss"})
        args = {"strategy_id": made["strategy"]["strategyId"], "start_date": "1990-01-01", "end_date": "2040-01-01"}
        took = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            await _result(client, "backtest", args)
            took.append(time.perf_counter() - started)
        supervisor.drain()
    best = min(took[1:])
    return [
        {
            "what": f"backtest of {symbols} x {BARS:,} daily bars, bars a second",
            "aworker": round(symbols * BARS / best),
            "s": round(best, 2),
            "s of the first, children started": round(took[0], 2),
        }
    ]


async def _result(client: Client, task_type: str, args: dict[str, Any]) -> dict[str, Any]:
    record = await client.result(await client.enqueue(task_type, args), wait_s=60)
    assert record is not None
    assert record["status"] == "completed", record
    data: dict[str, Any] = record["data"]
    return data


def _write_bars(folder: Path, symbols: int) -> None:
    # In a process of its own: numpy and polars would be measured with everything after it.
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        executor.submit(_random_bars, str(folder), symbols).result()


def _random_bars(folder: str, symbols: int) -> None:
    import numpy as np

    from aworker.trading.bars.store import Bars, BarStore

    random, day_s = np.random.default_rng(7), 86_400
    start_s = 946_857_600  # 3 January 2000
    markets = []
    for number in range(symbols):
        close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.02, BARS)))
        opened = np.concatenate([[100.0], close[:-1]])
        high = np.maximum(opened, close) * 1.01
        low = np.minimum(opened, close) * 0.99
        times = start_s + day_s * np.arange(BARS, dtype=np.int64)
        markets.append(Bars(f"S{number:04}", "1d", times, opened, high, low, close, np.full(BARS, 1e6)))
    BarStore(folder).write_many(iter(markets))
