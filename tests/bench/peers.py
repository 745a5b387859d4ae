"""How long backtests take here and elsewhere, in one run: ``python -m tests.bench.peers [rounds]``.

Beside aworker stand those of vectorbt, raptorbt and backtesting.py that are installed; none is a dependency. All trade
the same random bars by crosses of two averages. Each figure is processor time of all threads, the median of rounds in
which the engines take turns, after a first run that compiles; ratios are to aworker. The others get their bars from
memory, aworker reads its files.
"""

from __future__ import annotations

import importlib.util
import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.backtest.sweep import run_sweep
from aworker.trading.bars.store import Bars, BarStore
from tests.kit.market import DAY_S, START_S, context, random_bars

FAST, SLOW = range(5, 25, 2), range(30, 130, 5)
CROSS = {
    "entry": "crosses_above(sma(close, 20), sma(close, 50))",
    "exit": "crosses_below(sma(close, 20), sma(close, 50))",
}
SWEPT = "entry: crosses_above(sma(close, {a}), sma(close, {b}))\nexit: crosses_below(sma(close, {a}), sma(close, {b}))"

Run = Callable[[], object]


def here(folder: str, count: int, step_s: int = DAY_S) -> dict[str, Any]:
    """Return what every request of aworker has."""
    return {"now_s": float(START_S + count * step_s), "start_s": float(START_S), "market_data_path": folder}


def signals(fast: Any, slow: Any) -> tuple[Any, Any]:
    """Return where one average crosses another, upwards and downwards."""
    above = fast > slow
    known = ~(np.isnan(fast) | np.isnan(slow))
    before = np.roll(known, 1) & known
    before[0] = False
    return above & ~np.roll(above, 1) & before, ~above & np.roll(above, 1) & before


def of_raptorbt(bars: Bars, pairs: list[tuple[int, int]], stop: float | None = None) -> Run:
    """Return a run of raptorbt: all pairs of averages over one symbol's bars, on all cores."""
    import raptorbt

    def run() -> object:
        config = raptorbt.BacktestConfig(fees=0.0, fill_timing="next_bar_open")
        if stop is not None:
            config.set_fixed_stop(stop)
        columns = [np.ascontiguousarray(getattr(bars, name)) for name in ("open", "high", "low", "close", "volume")]
        averages = {each: np.asarray(raptorbt.sma(columns[3], each)) for pair in pairs for each in pair}
        items = [
            raptorbt.BatchSingleItem(str(place), *signals(averages[a], averages[b]), config=config)
            for place, (a, b) in enumerate(pairs)
        ]
        found = raptorbt.batch_single_backtest(bars.timestamp * 10**9, *columns, items, config=config)
        return [(each.metrics.sharpe_ratio, each.metrics.total_return_pct) for _, each in found]

    return run


def of_vectorbt(many: list[Bars], pairs: list[tuple[int, int]], stop: float | None = None) -> Run:
    """Return a run of vectorbt: all pairs of averages over every symbol."""
    import pandas as pd
    import vectorbt

    index = pd.to_datetime(many[0].timestamp, unit="s")
    close, opened = (
        pd.DataFrame({bars.symbol: getattr(bars, name) for bars in many}, index=index) for name in ("close", "open")
    )

    def run() -> object:
        fast, slow = (vectorbt.MA.run(close, [pair[which] for pair in pairs]) for which in (0, 1))
        entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
        price = opened if len(pairs) == 1 else opened[opened.columns[0]]
        if len(pairs) == 1:
            entries.columns = exits.columns = opened.columns
        made = vectorbt.Portfolio.from_signals(
            price, entries.vbt.signals.fshift(1), exits.vbt.signals.fshift(1), sl_stop=stop, freq="1D"
        )
        return made.sharpe_ratio(), made.total_return()

    return run


def of_backtesting(bars: Bars) -> Run:
    """Return a run of backtesting.py: one pair of averages over one symbol."""
    import backtesting
    import pandas as pd

    columns = {name.title(): getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame(columns, index=pd.to_datetime(bars.timestamp, unit="s"))

    class Cross(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            self.fast, self.slow = (
                self.I(lambda close, bars=each: pd.Series(close).rolling(bars).mean(), self.data.Close)
                for each in (20, 50)
            )

        def next(self) -> None:
            if backtesting.lib.crossover(self.fast, self.slow):
                self.buy()
            elif backtesting.lib.crossover(self.slow, self.fast):
                self.position.close()

    import backtesting.lib

    return lambda: backtesting.Backtest(frame, Cross, cash=1e6, finalize_trades=True).run()


def compare(title: str, runs: dict[str, tuple[Run, int]], rounds: int) -> None:
    """Print the median of each run, multiplied by how often it would have to run, and its ratio to the first."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run, _ in runs.values():
        run()
    for _ in range(rounds):
        for name, (run, times) in runs.items():
            started = time.process_time()
            run()
            taken[name].append((time.process_time() - started) * times)
    own = statistics.median(next(iter(taken.values())))
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{title:<34} {name:<24} {median * 1e3:>10.1f} ms {median / own:>8.2f}", flush=True)


def main(rounds: int) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    there = {name: importlib.util.find_spec(name) is not None for name in ("vectorbt", "raptorbt", "backtesting")}
    print(f"{'':<34} {'':<24} {'processor':>13} {'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="aworker-peers-") as folder:
        store = BarStore(folder)
        many = [random_bars(number, 2_520, f"S{number:04}") for number in range(500)]
        store.write_many(many)
        pairs = [(fast, slow) for fast in FAST for slow in SLOW]
        swept = {
            **here(folder, 2_520),
            "text": SWEPT,
            "symbols": ["S0000"],
            "parameters": {"a": [str(each) for each in FAST], "b": [str(each) for each in SLOW]},
        }
        runs: dict[str, tuple[Run, int]] = {"aworker": (lambda: run_sweep(swept, context()), 1)}
        if there["vectorbt"]:
            runs["vectorbt"] = of_vectorbt(many[:1], pairs), 1
        if there["raptorbt"]:
            runs["raptorbt"] = of_raptorbt(many[0], pairs), 1
        compare("200 combinations x 2,520 bars", runs, rounds)

        rules = {**CROSS, "risk": {"stop_loss": 0.05}}
        asked = {**here(folder, 2_520), "rules": rules}
        account = {
            **asked,
            "rules": {**rules, "account": {"capital": 1e6, "max_positions": 20}, "rank": "roc(close, 20)"},
        }
        runs = {
            "aworker": (lambda: run_backtest(asked, context()), 1),
            "aworker, one account": (lambda: run_backtest(account, context()), 1),
        }
        if there["vectorbt"]:
            runs["vectorbt"] = of_vectorbt(many, [(20, 50)], 0.05), 1
        if there["raptorbt"]:
            each = [of_raptorbt(bars, [(20, 50)], 0.05) for bars in many]
            runs["raptorbt"] = (lambda: [run() for run in each]), 1
        if there["backtesting"]:
            runs["backtesting.py, 5 x 100"] = (lambda: [of_backtesting(bars)() for bars in many[:5]]), 100
        compare("500 symbols x 2,520 bars", runs, rounds)

    with tempfile.TemporaryDirectory(prefix="aworker-peers-") as folder:
        long = random_bars(1, 1_000_000, "LONG", step_s=60)
        BarStore(folder).write(long)
        asked = {**here(folder, 1_000_000, 60), "rules": {**CROSS, "risk": {"stop_loss": 0.05}, "timeframe": "1m"}}
        runs = {"aworker": (lambda: run_backtest(asked, context()), 1)}
        if there["vectorbt"]:
            runs["vectorbt"] = of_vectorbt([long], [(20, 50)], 0.05), 1
        if there["raptorbt"]:
            runs["raptorbt"] = of_raptorbt(long, [(20, 50)], 0.05), 1
        compare("1,000,000 one-minute bars", runs, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
