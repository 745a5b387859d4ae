"""Backtests: a strategy's rules over past bars, symbol by symbol, in chunks that run in several processes.

`plan_chunks` fixes symbols and window, `backtest_chunk` runs some of the symbols, `merge_chunks` makes the result;
`run_backtest` is the three in one call. All take and return msgpack-able values. How one symbol is traded is told in
`aworker.trading.backtest.simulation`, how the symbols make one portfolio in `aworker.trading.backtest.portfolio`.

Invariants: no bar before the window trades, bars before it only let the rules warm up; a result is the same to the
last bit however the symbols were cut into chunks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.backtest.account import Market, trade_account
from aworker.trading.backtest.caveats import facts_of, facts_of_bars, made_from, warnings_of
from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.performance import CURVE_POINTS, finite, measure, periods_per_year, sample_curve
from aworker.trading.backtest.portfolio import Floats, Portfolio, join, packed_joined, unpacked_joined
from aworker.trading.backtest.simulation import OPEN, Orders, Simulation, simulate
from aworker.trading.bars.store import Bars, BarStore, NoBars, instant_text, timeframe_s
from aworker.trading.rules.calendar import flat_bars
from aworker.trading.rules.evaluate import Booleans, Known, Signals, evaluate
from aworker.trading.rules.others import Others
from aworker.trading.rules.program import Program
from aworker.trading.screening import compiled, others_of
from aworker.trading.strategies.strategy import Rules

if TYPE_CHECKING:
    from aworker.execution.context import Context

INSTANCE_LIMIT = 15_000
_FURTHER_COSTS = ("borrow", "per_share", "per_order")
WINDOW_S = 365 * 86_400
"""The window when none is asked for, and the end of the data that stands in for a window after it."""

_CHUNK_BARS = 400_000
_CHUNK_SYMBOLS = 250
_PROGRESS_SYMBOLS = 25


class BacktestRequest(msgspec.Struct, frozen=True):
    """What a backtest is asked; the fields from ``planned`` on are `plan_chunks`'s."""

    rules: Rules
    now_s: float
    """The task's run in epoch seconds."""
    strategy_id: int = 0
    strategy_version: int | None = None
    whole_curve: bool = False
    """Whether the equity curve has every bar, and buy and hold has one too."""
    instance_limit: int | None = None
    """Most trades that are listed, the latest; None = INSTANCE_LIMIT."""
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
    borrow: float = 0.0
    """Fraction of the value sold short that is paid a year."""
    per_share: float = 0.0
    """Money for each share bought or sold."""
    per_order: float = 0.0
    """Money for each order, of an account; without one it is said that it is not charged."""
    planned: bool = False
    chunks: int = 1
    """Into how many the plan was cut; a lone chunk tells its progress itself."""
    symbols_without_bars: list[str] = []
    note: str | None = None
    """What the result says about the window."""


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
    if planned.rules.account is not None:
        # Each symbol gets the money that the others left.
        size = len(symbols)
    parts = [symbols[start : start + size] for start in range(0, len(symbols), size)]
    planned = msgspec.structs.replace(planned, chunks=len(parts))
    bare = msgspec.structs.replace(planned, symbols_without_bars=[])
    return {
        "request": msgspec.to_builtins(planned),
        "chunks": [msgspec.to_builtins(msgspec.structs.replace(bare, symbols=part)) for part in parts],
    }


def backtest_chunk(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Backtest the symbols of one chunk of a plan; returns what `merge_chunks` takes.

    Raises TaskCancelled when the task is cancelled between two symbols.
    """
    asked = _request(request)
    if not asked.planned:
        raise ValueError("request must come from plan_chunks, was not planned; call plan_chunks first")
    rules, symbols = asked.rules, asked.symbols or []
    program = compiled(rules, exit=True, rank=rules.account is not None)
    store = BarStore(asked.market_data_path)
    others = others_of(program, store, rules.timeframe, asked.end_s)
    portfolio = Portfolio(asked.commission, asked.per_share)
    costs = Costs(asked.commission, asked.slippage, asked.borrow, asked.per_share, asked.per_order)
    without = []
    facts: list[list[Any]] = []
    markets: list[Market] = []
    account: dict[str, Any] | None = None
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
        orders, rank = orders_of(bars, first, rules, program, others)
        if rules.account is not None:
            markets.append(Market(window, orders, rank))
            continue
        # Prices that overflow are declined by the portfolio, by name.
        with np.errstate(over="ignore", invalid="ignore"):
            made = traded(window, orders, rules, costs)
            portfolio.add(window, made)
        is_open = bool(len(made.reason)) and int(made.reason[-1]) == OPEN
        facts.append(facts_of(window, window.timestamp[made.entry_bar], is_open))
    if rules.account is not None and markets:
        whole, trades = trade_account(markets, rules, costs, _limit(asked))
        facts = [facts_of(market.bars, *made) for market, made in zip(markets, trades, strict=True)]
        account = packed_joined(whole)
    looked_at = [] if others is None else [facts_of_bars(bars) for bars in others.bars.values()]
    packed = portfolio.packed(_limit(asked))
    return {"without": without, "facts": facts, "others": looked_at, "portfolio": packed, "account": account}


def orders_of(
    bars: Bars,
    first: int,
    rules: Rules,
    program: Program,
    others: Others | None = None,
    known: Known | None = None,
) -> tuple[Orders, Floats]:
    """Return a symbol's orders and ranks from the bar ``first`` on; those before it let the rules warm up.

    ``others`` are the bars of the symbols that the rules look at beside, ``known`` is what `evaluate` found on the same
    bars for other rules.
    """
    signals = evaluate(program, bars, others, known)
    levels = {name: level[first:] for name, level in signals.levels.items()}
    sides = _sides(rules.side, program.exit is not None, signals, first)
    flat = None if rules.flat_at is None else flat_bars(bars.timestamp[first:], rules.timezone, rules.flat_at)
    whens = {name: when[first:] for name, when in signals.conditions.items() if name not in ("short", "cover")}
    return Orders(*sides, levels=levels, flat=flat, whens=whens), signals.rank[first:]


def traded(window: Bars, orders: Orders, rules: Rules, costs: Costs, *, is_tradable: bool = False) -> Simulation:
    """Trade one symbol alone; an order costs nothing there. ``is_tradable`` tells that all its bars have prices."""
    return simulate(
        window,
        orders.entry,
        orders.exit,
        rules.risk,
        rules.reentry,
        costs.commission,
        costs.slippage,
        orders.levels,
        orders.flat,
        orders.short,
        orders.cover,
        costs.borrow,
        orders.whens,
        costs.per_share,
        is_tradable=is_tradable,
    )


def merge_chunks(request: dict[str, Any], chunks: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """Join the chunks of a plan, in any order, into the task's result.

    ``request`` is the plan's. An instance is a trade; beyond 15,000 only the latest are listed, while every figure
    counts all of them. ``performance_metrics`` is of the whole portfolio: fractions a year where it says so,
    ``max_drawdown`` 0 or negative, None where a figure is undefined. ``win_rate``, ``profit_factor`` (profits / losses
    in capital), ``expectancy`` (mean return of a trade), ``best_trade`` and ``worst_trade`` count an open trade at its
    marked value; ``exposure`` is the part of all bars at whose close a position was held; ``turnover`` is the value
    bought and sold a year / the average equity; ``buy_and_hold`` holds every symbol from the window's first close, at
    no cost; ``equity_curve`` is at most 200 [epoch s, equity] pairs from 1.0 on, those of the deepest drawdown among
    them, or every bar with ``whole_curve``. ``warnings`` say what the bars do not carry, ``made_from`` what the result
    was made from.
    Raises NoBars when the window holds no bar.
    """
    asked = _request(request)
    timeframe = asked.rules.timeframe
    whole = join([chunk["portfolio"] for chunk in chunks], _limit(asked))
    if chunks[0]["account"] is not None:
        whole = unpacked_joined(chunks[0]["account"])
    if whole is None:
        raise _empty_window(asked)
    periods = periods_per_year(timeframe_s(timeframe), whole.timestamp)
    years = (len(whole.timestamp) - 1) / periods
    average = float(np.mean(whole.equity)) * len(whole.symbols)
    growth, market_growth = (float(curve[-1] / curve[0]) for curve in (whole.equity, whole.market))
    metrics = measure(whole.equity, periods) | {
        "total_trades": whole.trades,
        "open_trades": whole.open_trades,
        "win_rate": whole.wins / whole.trades if whole.trades else None,
        "profit_factor": finite(whole.profit / whole.loss) if whole.loss > 0 else None,
        "expectancy": finite(whole.returns / whole.trades) if whole.trades else None,
        "best_trade": whole.best,
        "worst_trade": whole.worst,
        "exposure": whole.bars_held / whole.bars,
        "turnover": finite(whole.traded / average / years) if years > 0 else None,
        "periods_per_year": periods,
        "buy_and_hold": measure(whole.market, periods),
        "excess_return": finite(growth - market_growth),
        "equity_curve": sample_curve(
            whole.timestamp, whole.equity, len(whole.equity) if asked.whole_curve else CURVE_POINTS
        ),
    }
    if asked.whole_curve:
        metrics["buy_and_hold"]["equity_curve"] = sample_curve(whole.timestamp, whole.market, len(whole.market))
    without = sorted({*asked.symbols_without_bars, *(symbol for chunk in chunks for symbol in chunk["without"])})
    facts = [each for chunk in chunks for each in chunk["facts"]]
    others = chunks[0]["others"]
    date_range = [instant_text(int(instant), timeframe) for instant in whole.timestamp[[0, -1]]]
    return {
        "success": True,
        "execution_mode": "backtest",
        "strategy_id": asked.strategy_id,
        "instances": whole.instances,
        "instance_limit_reached": whole.trades > _limit(asked),
        "summary": {
            "total_instances": whole.trades,
            "positive_instances": whole.wins,
            "positive_signals": whole.wins,
            "date_range": date_range,
            "symbols_processed": len(whole.symbols),
            "execution_type": "backtest",
            "successful_classifications": whole.trades,
            "instances_returned": len(whole.instances),
            "instance_limit_reached": whole.trades > _limit(asked),
            "symbols_without_bars": without,
            "timeframe": timeframe,
            "note": asked.note,
            "warnings": warnings_of(timeframe, facts, others, periods, asked.note) + _uncharged(asked),
        },
        "performance_metrics": metrics,
        "made_from": made_from(
            asked.rules,
            facts,
            date_range,
            {"commission": asked.commission, "slippage": asked.slippage}
            | {name: cost for name in _FURTHER_COSTS if (cost := getattr(asked, name))},
            asked.strategy_version,
            others,
        ),
    }


_Side = Booleans | None


def _sides(side: str, has_exit: bool, signals: Signals, first: int) -> tuple[_Side, _Side, _Side, _Side]:
    """Return entry, exit, short and cover of the window, from its first bar on."""
    entry = signals.entry[first:]
    exit = signals.exit[first:] if has_exit else None
    if side == "short":
        return None, None, entry, exit
    short, cover = (signals.conditions.get(name) for name in ("short", "cover"))
    return entry, exit, None if short is None else short[first:], None if cover is None else cover[first:]


def run_backtest(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Plan, run and merge a backtest in this process: for a small one, or outside a worker."""
    plan = plan_chunks(request, context)
    chunks: list[dict[str, Any]] = plan["chunks"]
    total = sum(len(chunk["symbols"]) for chunk in chunks)
    made = []
    done = 0
    for chunk in chunks:
        made.append(backtest_chunk(chunk, context))
        done += len(chunk["symbols"])
        if len(chunks) > 1:
            data = {"symbols_done": done, "symbols_total": total}
            context.progress("backtest", f"{done} of {total} symbols", data, done / total)
    return merge_chunks(plan["request"], made, context)


def _request(request: dict[str, Any]) -> BacktestRequest:
    asked = msgspec.convert(request, BacktestRequest)
    for name in ("commission", "slippage", *_FURTHER_COSTS):
        fraction: float = getattr(asked, name)
        most = {"borrow": 10, "per_share": 1e6, "per_order": 1e9}.get(name, 1)
        if not 0.0 <= fraction < most:
            raise RequestDeclined(f"{name} must be >= 0 and < {most}, was {fraction}; give a fraction such as 0.001")
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
    newest = _newest(store, symbols, timeframe, start_s)
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


def _newest(store: BarStore, symbols: list[str], timeframe: str, start_s: float) -> int | None:
    # One symbol with bars at or after its start is enough to keep the window, and most often the first has some.
    newest = store.last_timestamp(symbols[0], timeframe)
    if newest is not None and newest >= start_s:
        return newest
    for extent in store.extents(symbols, timeframe):
        last = extent.last_timestamp
        if last is not None:
            newest = last if newest is None else max(newest, last)
            if last >= start_s:
                break
    return newest


def _uncharged(asked: BacktestRequest) -> list[str]:
    if asked.rules.account is not None or not asked.per_order:
        return []
    return [
        f"per_order, {asked.per_order:,.10g} an order, is not charged: without an account there is no sum of money "
        "that an order is a part of; give the strategy a capital"
    ]


def _limit(asked: BacktestRequest) -> int:
    return INSTANCE_LIMIT if asked.instance_limit is None else asked.instance_limit


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
