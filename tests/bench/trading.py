"""How long trading work takes: ``python -m tests.bench.trading [symbols] [bars]``. Prints figures, asserts nothing.

Random bars, written once to a folder of their own, as many as asked: 500 symbols x 2,520 daily bars unless told
otherwise. Each figure is the median of five runs in this process, then the best, then the least processor time
(what counts on a busy machine); reading the files is included, with one thread for polars, as in a worker's child.
"""

from __future__ import annotations

import os

# Before polars is imported, as the worker does for its children.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aworker.trading.alerts import check_alert
from aworker.trading.backtest.backtest import backtest_chunk, merge_chunks, plan_chunks, run_backtest
from aworker.trading.bars.store import BarStore
from aworker.trading.screening import screen
from tests.kit.market import DAY_S, START_S, context, random_bars

ROUNDS = 5
CROSS: dict[str, Any] = {
    "entry": "crosses_above(sma(close, 20), sma(close, 50))",
    "exit": "crosses_below(sma(close, 20), sma(close, 50))",
    "risk": {"stop_loss": 0.05},
}
LIMITS: dict[str, Any] = {**CROSS, "risk": {"stop_loss": 0.05, "take_profit": 0.15, "trailing_stop": 0.08}}
DIPS: dict[str, Any] = {"entry": "rsi(close, 14) < 30", "exit": "rsi(close, 14) > 70", "rank": "-rsi(close, 14)"}


def measured(name: str, run: Callable[[], object], per: int = 1) -> None:
    """Print the milliseconds of a run, divided by ``per``."""
    run()
    wall, cpu = [], []
    for _ in range(ROUNDS):
        started, cpu_started = time.perf_counter(), time.process_time()
        run()
        wall.append((time.perf_counter() - started) * 1e3 / per)
        cpu.append((time.process_time() - cpu_started) * 1e3 / per)
    print(
        f"{name:<54} {statistics.median(wall):>9.3f} ms   best {min(wall):>8.3f}   processor {min(cpu):>8.3f}",
        flush=True,
    )


def bytes_read(run: Callable[[], object]) -> int:
    """Bytes that this process asks the system for; what polars maps into memory is not among them."""
    counter = Path("/proc/self/io")
    if not counter.exists():
        return 0

    def count() -> int:
        return int(counter.read_text().split("rchar: ")[1].split()[0])

    before = count()
    run()
    return count() - before


def main(symbols: int, bars: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="aworker-bench-") as folder:
        store = BarStore(folder)
        store.write_many(random_bars(number, bars, f"S{number:04}") for number in range(symbols))
        on_disk = sum(file.stat().st_size for file in Path(folder, "1d").iterdir())
        print(f"{symbols} symbols x {bars:,} daily bars, {on_disk / 1e6:.1f} MB on disk", flush=True)
        end_s = float(START_S + bars * DAY_S)
        common = {"now_s": end_s, "market_data_path": folder}
        names = store.symbols("1d")

        measured("reading all bars", lambda: [len(read) for read in store.load_many(names, "1d")])
        for name, rules in (("a cross with a stop", CROSS), ("with every limit", LIMITS), ("dips, no stops", DIPS)):
            asked = {**common, "rules": rules, "start_s": float(START_S)}
            measured(f"backtest of all bars, {name}", partial(run_backtest, asked, context()))
        plan = plan_chunks({**common, "rules": CROSS, "start_s": float(START_S)}, context())
        made = [backtest_chunk(chunk, context()) for chunk in plan["chunks"]]
        measured(f"  of it joining {len(made)} chunks", lambda: merge_chunks(plan["request"], made, context()))
        year = {**common, "rules": CROSS, "start_s": None}
        measured("backtest of the last year", lambda: run_backtest(year, context()))
        later = {**year, "now_s": end_s + 5 * 365 * DAY_S}
        measured("the same, asked for long after the data", lambda: run_backtest(later, context()))
        one = {**year, "symbols": names[:1]}
        measured("backtest of the last year, one symbol", lambda: run_backtest(one, context()))

        for count in (1, 10):
            asked = {**common, "strategies": [{"strategy_id": each, "rules": DIPS} for each in range(1, count + 1)]}
            measured(f"screening of {symbols} symbols by {count}", partial(screen, asked, context()))
        read = bytes_read(partial(screen, asked, context()))
        print(f"{'  bytes read':<54} {read / 1e6:>9.3f} MB")
        alert = {**common, "rules": DIPS}
        measured("alert check, a symbol", lambda: check_alert(alert, context()), per=symbols)
        one = {**alert, "symbols": names[:1]}
        measured("alert check of one symbol alone", lambda: check_alert(one, context()))


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:3] + ["500", "2520"][len(sys.argv) - 1 :])))
