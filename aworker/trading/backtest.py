"""Backtests: a strategy's rules over past bars, symbol by symbol, in chunks that run in several processes.

`plan_chunks` fixes symbols and window, `backtest_chunk` runs some of the symbols, `merge_chunks` makes the result;
`run_backtest` is the three in one call. All take and return msgpack-able values.

What happens in a bar, in this order (each point is one where engines differ):

1. At the open: a signal of the bar before is carried out, entry or exit. No signal is acted on in its own bar.
2. Inside the bar, the entry bar included: the stop, else the target. The stop is the higher of ``stop_loss`` below the
   entry price and ``trailing_stop`` below the highest price since entry known before the bar. Opened below the stop:
   the open. Opened above the target: the target.
3. At the close: the rules are looked at. Where entry and exit both hold, nothing is opened.

Slippage moves every fill against the trade, the commission is paid on the value filled. A symbol's whole capital goes
into its one position, long only, in fractions of a share. Of n symbols each has 1/n of the capital, without
rebalancing. A trade still open at the end is worth the last close, without costs of selling. A bar with an undefined or
not positive price does not exist for trading: orders wait for the next that does.

Invariants: no value of a bar is used before it is known (bars cut off at the end change no earlier trade); no bar
before the window trades; a result is the same to the last bit however the symbols were cut into chunks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.bars import Bars, BarStore, NoBars, instant_text, timeframe_s
from aworker.trading.performance import finite, measure, periods_per_year, sample_curve
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.screening import compiled
from aworker.trading.strategy import Risk, Rules

if TYPE_CHECKING:
    from aworker.execution.context import Context

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

INSTANCE_LIMIT = 15_000
WINDOW_S = 365 * 86_400
"""The window when none is asked for, and the end of the data that stands in for a window after it."""

REASONS = ("signal", "stop_loss", "trailing_stop", "take_profit", "max_bars", "open")
_SIGNAL, _STOP, _TRAIL, _TARGET, _MAX_BARS, _OPEN = range(6)

_CHUNK_BARS = 400_000
_CHUNK_SYMBOLS = 250
_PROGRESS_SYMBOLS = 25
_FIRST_SEARCH = 64


class BacktestRequest(msgspec.Struct, frozen=True):
    """What a backtest is asked; the fields from ``planned`` on are `plan_chunks`'s."""

    rules: Rules
    now_s: float
    """The task's run in epoch seconds."""
    strategy_id: int = 0
    symbols: list[str] | None = None
    """None = the strategy's own; those None too = all in the store."""
    securities: list[str] | None = None
    """Only these of the symbols; None = all."""
    start_s: float | None = None
    """First instant of the window in epoch seconds; None = 365 days before its end."""
    end_s: float | None = None
    """Last instant of the window, itself included; None = ``now_s``. For a date: the end of that day."""
    market_data_path: str | None = None
    commission: float = 0.0
    """Fraction of the value of a fill."""
    slippage: float = 0.0
    """Fraction of the price by which a fill is worse."""
    planned: bool = False
    chunks: int = 1
    symbols_without_bars: list[str] = []
    note: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """The trades of one symbol, oldest first, and what its capital of 1 was worth at every close.

    Arrays of k trades, but ``equity`` and ``held`` of n bars.
    """

    entry_bar: Integers
    """The bar at whose open the trade was entered."""
    exit_bar: Integers
    """The bar in which it was left; the last bar when it is still open."""
    bars_held: Integers
    """Closes that the trade lived through."""
    entry_price: Floats
    """Slippage included, commission not; so also ``exit_price``."""
    exit_price: Floats
    growth: Floats
    """What 1 invested became, all costs paid."""
    capital: Floats
    """What the symbol's capital was before the trade."""
    reason: NDArray[np.int8]
    """Places in REASONS."""
    equity: Floats
    held: Booleans
    """Whether a position is held at the close."""


def simulate(
    bars: Bars,
    entry: Booleans,
    exit: Booleans | None,
    risk: Risk,
    reentry: str = "cycle",
    commission: float = 0.0,
    slippage: float = 0.0,
) -> Simulation:
    """Trade one symbol on its signals, bool[n] each at the close of a bar.

    ``exit`` None means that there is no exit rule; then ``cycle``, which waits for an exit signal after a stop, waits
    for a new entry signal like ``edge``.
    """
    lowest = np.minimum(np.minimum(bars.open, bars.low), np.minimum(bars.high, bars.close))
    highest = np.maximum(np.maximum(bars.open, bars.low), np.maximum(bars.high, bars.close))
    # NaN goes through both and fails both comparisons.
    tradable = (lowest > 0) & (highest < np.inf)
    if tradable.all():
        return _simulate(bars, entry, exit, risk, reentry, commission, slippage)
    places = np.flatnonzero(tradable)
    kept = Bars(
        bars.symbol, bars.timeframe, bars.timestamp[places], bars.open[places], bars.high[places],
        bars.low[places], bars.close[places], bars.volume[places],
    )  # fmt: skip
    exits = None if exit is None else exit[places]
    short = _simulate(kept, entry[places], exits, risk, reentry, commission, slippage)
    # A bar that does not exist for trading leaves equity and position as they were.
    latest = np.cumsum(tradable) - 1
    known = latest >= 0
    equity, held = np.ones(len(bars)), np.zeros(len(bars), np.bool_)
    equity[known], held[known] = short.equity[latest[known]], short.held[latest[known]]
    return Simulation(
        entry_bar=places[short.entry_bar],
        exit_bar=places[short.exit_bar],
        bars_held=short.bars_held,
        entry_price=short.entry_price,
        exit_price=short.exit_price,
        growth=short.growth,
        capital=short.capital,
        reason=short.reason,
        equity=equity,
        held=held,
    )


def _simulate(
    bars: Bars,
    entry: Booleans,
    exit: Booleans | None,
    risk: Risk,
    reentry: str,
    commission: float,
    slippage: float,
) -> Simulation:
    # Jumps from event to event: the lists hold the bars at which something can happen.
    count = len(bars)
    open_, high, low, close = bars.open, bars.high, bars.low, bars.close
    may_enter = entry if exit is None else entry & ~exit
    exits = [] if exit is None else np.flatnonzero(exit).tolist()
    entries = np.flatnonzero(may_enter).tolist()
    rises = may_enter.copy()
    rises[1:] &= ~entry[:-1]
    new_entries = np.flatnonzero(rises).tolist()
    if reentry == "cycle" and exit is None:
        reentry = "edge"
    worse, better = 1.0 - slippage, 1.0 + slippage
    keep = None if risk.trailing_stop is None else 1.0 - risk.trailing_stop
    has_limits = keep is not None or risk.stop_loss is not None or risk.take_profit is not None

    trades: list[tuple[int, int, float, float, int]] = []
    candidates, now = entries, 0
    while True:
        place = bisect_left(candidates, now)
        if place == len(candidates) or candidates[place] + 1 >= count:
            break
        start = candidates[place] + 1
        paid = float(open_[start]) * better
        place = bisect_left(exits, start)
        end, reason = (exits[place] + 1, _SIGNAL) if place < len(exits) else (count, _OPEN)
        if risk.max_bars is not None and start + risk.max_bars < end:
            end, reason = start + risk.max_bars, _MAX_BARS
        if end >= count:
            end, reason = count, _OPEN
        got = float(close[-1]) if reason == _OPEN else float(open_[end]) * worse
        if has_limits:
            floor = paid * (1.0 - risk.stop_loss) if risk.stop_loss is not None else 0.0
            target = paid * (1.0 + risk.take_profit) if risk.take_profit is not None else np.inf
            hit = _first_hit(open_, high, low, start, end, floor, target, keep, paid)
            if hit is not None:
                end, price, reason = hit
                got = price * worse
        trades.append((start, end, paid, got, reason))
        if reason == _OPEN:
            break
        now = end
        candidates = entries
        if reason != _SIGNAL and reentry == "edge":
            candidates = new_entries
        elif reason != _SIGNAL and reentry == "cycle":
            place = bisect_left(exits, end)
            if place == len(exits):
                break
            now = exits[place]

    starts, ends = (np.array([trade[side] for trade in trades], np.int64) for side in (0, 1))
    paid_, got_ = (np.array([trade[side] for trade in trades], np.float64) for side in (2, 3))
    reasons = np.array([trade[4] for trade in trades], np.int8)
    cost = paid_ * (1.0 + commission)
    growth = got_ * np.where(reasons == _OPEN, 1.0, 1.0 - commission) / cost
    capital = np.cumprod(np.concatenate([[1.0], growth]))
    # Stretches by turns in cash and in shares: a value at a close is shares x price, or the cash.
    borders = np.empty(2 * len(trades) + 2, np.int64)
    borders[0], borders[1:-1:2], borders[2:-1:2], borders[-1] = 0, starts, ends, count
    lengths = np.diff(borders)
    values = np.empty(2 * len(trades) + 1)
    values[0::2], values[1::2] = capital, capital[:-1] / cost
    held = np.repeat(np.arange(len(values)) % 2 == 1, lengths)
    equity = np.repeat(values, lengths)
    np.multiply(equity, close, out=equity, where=held)
    return Simulation(
        entry_bar=starts,
        exit_bar=np.minimum(ends, count - 1),
        bars_held=ends - starts,
        entry_price=paid_,
        exit_price=got_,
        growth=growth,
        capital=capital[:-1],
        reason=reasons,
        equity=equity,
        held=held,
    )


def _first_hit(
    open_: Floats,
    high: Floats,
    low: Floats,
    start: int,
    end: int,
    floor: float,
    target: float,
    keep: float | None,
    peak: float,
) -> tuple[int, float, int] | None:
    # Blocks that grow: a long search costs its length, a short one does not pay for the rest of the data.
    width = _FIRST_SEARCH
    while start < end:
        stop = min(start + width, end)
        level: Floats | float = floor
        if keep is not None:
            peaks = np.empty(stop - start)
            peaks[0], peaks[1:] = peak, high[start : stop - 1]
            np.maximum.accumulate(peaks, out=peaks)
            peak = max(float(peaks[-1]), float(high[stop - 1]))
            level = np.maximum(peaks * keep, floor)
        hits = low[start:stop] <= level
        if target != np.inf:
            hits |= high[start:stop] >= target
        first = int(hits.argmax())
        if hits[first]:
            bar = start + first
            limit = float(level[first]) if isinstance(level, np.ndarray) else level
            if low[bar] > limit:
                return bar, target, _TARGET
            return bar, min(limit, float(open_[bar])), _TRAIL if limit > floor else _STOP
        start, width = stop, width * 4
    return None


def plan_chunks(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Fix the symbols and the window of a backtest and cut it into chunks of well under a second.

    ``request`` is a `BacktestRequest` as a dict. Returns ``{"request": the one to merge with, "chunks": [requests for
    backtest_chunk]}``. Raises NoBars when no symbol asked for has bars, RequestDeclined when the request contradicts
    itself.
    """
    planned = _plan(_request(request))
    symbols = planned.symbols or []
    bar_s = timeframe_s(planned.rules.timeframe)
    window_s = max((planned.end_s or 0.0) - (planned.start_s or 0.0), float(bar_s))
    # Of a year of daily bars 252 are there; of round-the-clock bars all.
    bars_each = max(window_s / bar_s * (252 / 365), 100.0)
    size = int(min(max(_CHUNK_BARS / bars_each, 1), _CHUNK_SYMBOLS))
    parts = [symbols[start : start + size] for start in range(0, len(symbols), size)]
    planned = msgspec.structs.replace(planned, chunks=len(parts))
    return {
        "request": msgspec.to_builtins(planned),
        "chunks": [msgspec.to_builtins(msgspec.structs.replace(planned, symbols=part)) for part in parts],
    }


def backtest_chunk(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Backtest the symbols of one chunk of a plan; returns what `merge_chunks` takes.

    Raises TaskCancelled when the task is cancelled between two symbols.
    """
    asked = _request(request)
    if not asked.planned:
        raise ValueError("request must come from plan_chunks, was not planned; call plan_chunks first")
    rules, symbols = asked.rules, asked.symbols or []
    program = compiled(rules)
    store = BarStore(asked.market_data_path)
    strategy_curve, market_curve = _Sum(), _Sum()
    tally, collected, without = [], [], []
    loaded = store.load_many(symbols, rules.timeframe, asked.start_s, asked.end_s, before=program.tail_bars)
    for done, bars in enumerate(loaded):
        if context.cancelled:
            raise TaskCancelled(f"backtest must run to its end, was cancelled after {done} of {len(symbols)} symbols")
        if asked.chunks == 1 and done % _PROGRESS_SYMBOLS == 0:
            data = {"symbols_done": done, "symbols_total": len(symbols)}
            context.progress("backtest", f"{done} of {len(symbols)} symbols", data, done / len(symbols))
        first = int(np.searchsorted(bars.timestamp, asked.start_s or 0.0, side="left"))
        window = bars[first:]
        if not len(window) or not np.isfinite(window.close).any():
            without.append(bars.symbol)
            continue
        signals = evaluate(program, bars)
        exits = None if program.exit is None else signals.exit[first:]
        made = simulate(
            window, signals.entry[first:], exits, rules.risk, rules.reentry, asked.commission, asked.slippage
        )
        strategy_curve.add(bars.symbol, window.timestamp, made.equity)
        market_curve.add(bars.symbol, window.timestamp, _held_from_the_start(window.close))
        tally.append(_tally(bars.symbol, made, asked.commission))
        collected.append(_trade_columns(bars.symbol, window, made))
    return {
        "tally": tally,
        "without": without,
        "strategy": strategy_curve.packed(),
        "market": market_curve.packed(),
        "trades": _latest(collected),
    }


def merge_chunks(request: dict[str, Any], chunks: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """Join the chunks of a plan, in any order, into the task's result.

    ``request`` is the plan's. An instance is a trade; beyond 15,000 only the latest are listed, while every figure
    counts all of them. ``performance_metrics`` is of the whole portfolio: fractions a year where it says so,
    ``max_drawdown`` 0 or negative, None where a figure is undefined. ``win_rate``, ``profit_factor`` (profits / losses
    in capital), ``expectancy`` (mean return of a trade), ``best_trade`` and ``worst_trade`` count an open trade at its
    marked value; ``exposure`` is the part of all bars at whose close a position was held; ``turnover`` is the value
    bought and sold a year / the average equity; ``buy_and_hold`` holds every symbol from the window's first close, at
    no cost; ``equity_curve`` is at most 200 [epoch s, equity] pairs from 1.0 on.
    Raises NoBars when the window holds no bar.
    """
    asked = _request(request)
    timeframe = asked.rules.timeframe
    tally = sorted(row for chunk in chunks for row in chunk["tally"])
    if not tally:
        raise _empty_window(asked)
    timestamp, equity = _unpack_sum([chunk["strategy"] for chunk in chunks])
    _, market = _unpack_sum([chunk["market"] for chunk in chunks])
    periods = periods_per_year(timeframe_s(timeframe), timestamp)
    trades = sum(row[_TRADES] for row in tally)
    wins = sum(row[_WINS] for row in tally)
    profit, loss = (math.fsum(row[place] for row in tally) for place in (_PROFIT, _LOSS))
    years = (len(timestamp) - 1) / periods
    average = float(np.mean(equity)) * len(tally)
    market_figures = measure(market, periods)
    metrics = measure(equity, periods) | {
        "total_trades": trades,
        "open_trades": sum(row[_OPEN_TRADES] for row in tally),
        "win_rate": wins / trades if trades else None,
        "profit_factor": finite(profit / loss) if loss > 0 else None,
        "expectancy": finite(math.fsum(row[_RETURNS] for row in tally) / trades) if trades else None,
        "best_trade": max((row[_BEST] for row in tally if row[_TRADES]), default=None),
        "worst_trade": min((row[_WORST] for row in tally if row[_TRADES]), default=None),
        "exposure": sum(row[_HELD] for row in tally) / sum(row[_BARS] for row in tally),
        "turnover": finite(math.fsum(row[_TRADED] for row in tally) / average / years) if years > 0 else None,
        "periods_per_year": periods,
        "buy_and_hold": market_figures,
        "excess_return": finite(float(equity[-1] / equity[0] - market[-1] / market[0])),
        "equity_curve": sample_curve(timestamp, equity),
    }
    without = sorted({*asked.symbols_without_bars, *(symbol for chunk in chunks for symbol in chunk["without"])})
    instances = _instances([chunk["trades"] for chunk in chunks])
    return {
        "success": True,
        "execution_mode": "backtest",
        "strategy_id": asked.strategy_id,
        "instances": instances,
        "instance_limit_reached": trades > INSTANCE_LIMIT,
        "summary": {
            "total_instances": trades,
            "positive_instances": wins,
            "positive_signals": wins,
            "date_range": [instant_text(int(timestamp[0]), timeframe), instant_text(int(timestamp[-1]), timeframe)],
            "symbols_processed": len(tally),
            "execution_type": "backtest",
            "successful_classifications": trades,
            "instances_returned": len(instances),
            "instance_limit_reached": trades > INSTANCE_LIMIT,
            "symbols_without_bars": without,
            "timeframe": timeframe,
            "note": asked.note,
        },
        "performance_metrics": metrics,
    }


def run_backtest(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Plan, run and merge a backtest in this process: for a small one, or outside a worker."""
    plan = plan_chunks(request, context)
    return merge_chunks(plan["request"], [backtest_chunk(chunk, context) for chunk in plan["chunks"]], context)


def _request(request: dict[str, Any]) -> BacktestRequest:
    asked = msgspec.convert(request, BacktestRequest)
    for name, fraction in (("commission", asked.commission), ("slippage", asked.slippage)):
        if not 0.0 <= fraction < 1.0:
            raise RequestDeclined(f"{name} must be >= 0 and < 1, was {fraction}; give a fraction such as 0.001")
    return asked


def _plan(asked: BacktestRequest) -> BacktestRequest:
    end_s = asked.now_s if asked.end_s is None else asked.end_s
    start_s = end_s - WINDOW_S if asked.start_s is None else asked.start_s
    timeframe = asked.rules.timeframe
    if end_s < start_s:
        raise RequestDeclined(
            f"end_date must be on or after start_date {instant_text(start_s, timeframe)}, "
            f"was {instant_text(end_s, timeframe)}; exchange them"
        )
    store = BarStore(asked.market_data_path)
    symbols, without = store.choose(asked.symbols, asked.rules.symbols, timeframe, only=asked.securities)
    newest: int | None = None
    for symbol in symbols:
        last = store.last_timestamp(symbol, timeframe)
        if last is not None:
            newest = last if newest is None else max(newest, last)
            # One symbol with bars at or after its start is enough to keep the window.
            if last >= start_s:
                break
    if newest is None:
        raise store.no_bars(symbols, timeframe)
    note = None
    if newest < start_s:
        note = (
            f"The window asked for, {instant_text(start_s, timeframe)} to {instant_text(end_s, timeframe)}, lies after "
            f"the last bar, {instant_text(newest, timeframe)}: the last 365 days of the data were used."
        )
        start_s, end_s = newest - WINDOW_S, newest
    return msgspec.structs.replace(
        asked, symbols=symbols, start_s=start_s, end_s=end_s, symbols_without_bars=without, note=note, planned=True
    )


def _empty_window(asked: BacktestRequest) -> NoBars:
    timeframe = asked.rules.timeframe
    symbol = (asked.symbols or [""])[0]
    bars = BarStore(asked.market_data_path).load(symbol, timeframe)
    start, end = (instant_text(instant or 0.0, timeframe) for instant in (asked.start_s, asked.end_s))
    first, last = (instant_text(float(bars.timestamp[place]), timeframe) for place in (0, -1))
    return NoBars(
        f"start_date to end_date must hold a {timeframe} bar of the symbols, was {start} to {end}; "
        f"the bars of {symbol} run from {first} to {last}"
    )


def _held_from_the_start(close: Floats) -> Floats:
    known = np.isfinite(close) & (close > 0)
    latest = np.maximum.accumulate(np.where(known, np.arange(len(close)), -1))
    return np.where(latest >= 0, close[latest] / close[int(known.argmax())], 1.0)


# A row of the tally is (symbol, ...): what the portfolio's figures need of a symbol's trades.
_BARS, _HELD, _TRADES, _WINS, _OPEN_TRADES, _PROFIT, _LOSS, _RETURNS, _BEST, _WORST, _TRADED = range(1, 12)


def _tally(symbol: str, made: Simulation, commission: float) -> list[Any]:
    change = made.growth - 1.0
    gained = made.capital * change
    wins = int(np.count_nonzero(change > 0))
    # Bought for capital / (1 + commission); sold at the price's change of it, unless it is open.
    bought = made.capital / (1.0 + commission)
    sold = bought * made.exit_price / made.entry_price * (made.reason != _OPEN)
    count = len(change)
    return [
        symbol,
        len(made.equity),
        int(np.count_nonzero(made.held)),
        count,
        wins,
        int(np.count_nonzero(made.reason == _OPEN)),
        float(gained[gained > 0].sum()),
        float(-gained[gained < 0].sum()),
        float(change.sum()),
        float(change.max()) if count else 0.0,
        float(change.min()) if count else 0.0,
        float((bought + sold).sum()),
    ]


_TRADE_TYPES = {
    "entry_at": np.int64,
    "exit_at": np.int64,
    "bars_held": np.int64,
    "entry_price": np.float64,
    "exit_price": np.float64,
    "change": np.float64,
    "capital": np.float64,
    "reason": np.int8,
}


def _trade_columns(symbol: str, window: Bars, made: Simulation) -> tuple[str, dict[str, NDArray[Any]]]:
    return symbol, {
        "entry_at": window.timestamp[made.entry_bar],
        "exit_at": window.timestamp[made.exit_bar],
        "bars_held": made.bars_held,
        "entry_price": made.entry_price,
        "exit_price": made.exit_price,
        "change": made.growth - 1.0,
        "capital": made.capital,
        "reason": made.reason,
    }


def _latest(collected: list[tuple[str, dict[str, NDArray[Any]]]]) -> dict[str, Any]:
    # The latest trades of a chunk by (entry, symbol): the latest of all chunks are among these.
    collected = sorted(collected, key=lambda pair: pair[0])
    counts = [len(columns["reason"]) for _, columns in collected]
    place = np.repeat(np.arange(len(collected), dtype=np.int64), counts)
    columns = {
        name: np.concatenate([each[name] for _, each in collected]) if collected else np.empty(0, kind)
        for name, kind in _TRADE_TYPES.items()
    }
    chosen = np.lexsort((place, columns["entry_at"]))[-INSTANCE_LIMIT:]
    packed = {name: np.ascontiguousarray(columns[name][chosen], _TRADE_TYPES[name]).tobytes() for name in _TRADE_TYPES}
    return {"symbols": [symbol for symbol, _ in collected], "symbol": place[chosen].tobytes(), **packed}


def _instances(packed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    symbols: list[str] = []
    places: list[Integers] = []
    for trades in packed:
        places.append(np.frombuffer(trades["symbol"], np.int64) + len(symbols))
        symbols += trades["symbols"]
    alphabetic = sorted(range(len(symbols)), key=symbols.__getitem__)
    rank = np.empty(len(symbols), np.int64)
    rank[alphabetic] = np.arange(len(symbols))
    place = np.concatenate(places)
    columns = {
        name: np.concatenate([np.frombuffer(trades[name], kind) for trades in packed])
        for name, kind in _TRADE_TYPES.items()
    }
    chosen = np.lexsort((rank[place], columns["entry_at"]))[-INSTANCE_LIMIT:]
    lists = [columns[name][chosen].tolist() for name in _TRADE_TYPES]
    return [
        {
            "ticker": symbols[which],
            "symbol": symbols[which],
            "timestamp": entry_at,
            "classification": change > 0,
            "entry_price": entry_price,
            "exit_price": exit_price,
            "exit_timestamp": None if reason == _OPEN else exit_at,
            "future_return": change,
            "strategy_results": {
                "exit_reason": REASONS[reason],
                "bars_held": bars_held,
                "capital_before": capital,
            },
        }
        for which, entry_at, exit_at, bars_held, entry_price, exit_price, change, capital, reason in zip(
            place[chosen].tolist(), *lists, strict=True
        )
    ]


_HIGH_UNIT, _LOW_UNIT = 2.0**16, 2.0**44
_MAX_EQUITY = 2.0**31


class _Sum:
    """A sum of curves that does not depend on the order of its terms.

    A value is split into two integers, 2^-16 and 2^-60 of the starting capital a unit; integers add up exactly, so any
    chunking gives the same bits. A curve is 1 before its first bar and keeps its last value.
    """

    def __init__(self) -> None:
        # One entry for each distinct timeline: markets have one or two, so the curves are seldom spread out.
        self._lines: list[tuple[Integers, Integers, Integers, int]] = []

    def add(self, symbol: str, timestamp: Integers, values: Floats) -> None:
        """Add one curve. Raises RequestDeclined when it grows beyond 2^31."""
        highest = float(values.max())
        if not highest < _MAX_EQUITY:
            raise RequestDeclined(
                f"equity of {symbol} must stay below {_MAX_EQUITY:.0f} times its start, was {highest}; check its bars"
            )
        scaled = values * _HIGH_UNIT
        whole = np.floor(scaled)
        high = whole.astype(np.int64)
        low = ((scaled - whole) * _LOW_UNIT).astype(np.int64)
        for place, (line, high_sum, low_sum, count) in enumerate(self._lines):
            if len(line) == len(timestamp) and line[0] == timestamp[0] and np.array_equal(line, timestamp):
                high_sum += high
                low_sum += low
                self._lines[place] = (line, high_sum, low_sum, count + 1)
                return
        self._lines.append((timestamp, high, low, 1))

    def packed(self) -> dict[str, Any]:
        """Return the sum on the union of the timelines as bytes of int64 and the number of curves."""
        timestamp, high, low, count = _joined(self._lines)
        return {"timestamp": timestamp.tobytes(), "high": high.tobytes(), "low": low.tobytes(), "curves": count}


def _joined(lines: list[tuple[Integers, Integers, Integers, int]]) -> tuple[Integers, Integers, Integers, int]:
    if not lines:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), 0
    if all(np.array_equal(lines[0][0], line) for line, _, _, _ in lines[1:]):
        timestamp = lines[0][0]
        high = np.sum([line[1] for line in lines], axis=0)
        low = np.sum([line[2] for line in lines], axis=0)
        return timestamp, high, low, sum(line[3] for line in lines)
    timestamp = np.unique(np.concatenate([line for line, _, _, _ in lines]))
    high, low = np.zeros(len(timestamp), np.int64), np.zeros(len(timestamp), np.int64)
    for line, high_sum, low_sum, count in lines:
        latest = np.searchsorted(line, timestamp, side="right") - 1
        high += np.where(latest >= 0, high_sum[latest], count << 16)
        low += np.where(latest >= 0, low_sum[latest], 0)
    return timestamp, high, low, sum(line[3] for line in lines)


def _unpack_sum(packed: list[dict[str, Any]]) -> tuple[Integers, Floats]:
    # The mean curve: each symbol has the same part of the capital.
    lines = []
    for each in packed:
        if each["curves"]:
            timestamp, high, low = (np.frombuffer(each[name], np.int64) for name in ("timestamp", "high", "low"))
            lines.append((timestamp, high, low, int(each["curves"])))
    timestamp, high, low, count = _joined(lines)
    return timestamp, (high / _HIGH_UNIT + low / (_HIGH_UNIT * _LOW_UNIT)) / count
