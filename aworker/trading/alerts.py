"""Alerts: for which symbols does a strategy's entry condition hold at the latest bar.

Invariant: a check looks at one bar a symbol and remembers nothing; that a bar raises one alert only is the business of
whoever stores the alerts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from aworker.errors import TaskCancelled
from aworker.trading.backtest.performance import finite
from aworker.trading.bars.store import BarStore
from aworker.trading.screening import compiled, fresh_bars, latest, others_of
from aworker.trading.strategies.strategy import Rules

if TYPE_CHECKING:
    from aworker.execution.context import Context


class AlertRequest(msgspec.Struct, frozen=True):
    """What an alert check is asked."""

    rules: Rules
    now_s: float
    """The task's run in epoch seconds."""
    strategy_id: int = 0
    symbols: list[str] | None = None
    """None = the strategy's own; those None too = all in the store."""
    max_age_s: float = 0.0
    """A symbol whose latest bar began longer ago gives no signal; 0 = any age will do."""
    market_data_path: str | None = None


def check_alert(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Find the symbols that meet the entry condition now; ``request`` is an `AlertRequest` as a dict.

    Returns ``alerts`` (``symbol``, ``timestamp`` of the bar in epoch seconds, ``score``: the rank rule's value, 1 where
    it has none, ``current_price``, ``sector``, ``data``), sorted by score, highest first, then symbol;
    ``symbols_monitored``, ``symbols_stale`` and ``symbols_without_bars``.
    Raises NoBars when no symbol has bars, TaskCancelled when cancelled on the way.
    """
    asked = msgspec.convert(request, AlertRequest)
    timeframe = asked.rules.timeframe
    store = BarStore(asked.market_data_path)
    program = compiled(asked.rules, rank=True)
    symbols, without = store.choose(asked.symbols, asked.rules.symbols, timeframe)
    sectors = store.sectors()
    others = others_of(program, store, timeframe, is_latest=True)
    alerts: list[dict[str, Any]] = []
    fresh = 0
    for bars in fresh_bars(store, symbols, timeframe, [program], asked.now_s, asked.max_age_s):
        if context.cancelled:
            raise TaskCancelled(f"alert must run to its end, was cancelled at {bars.symbol}")
        fresh += 1
        found = latest(program, bars, others)
        if not found.entry or not math.isfinite(found.close):
            continue
        alerts.append(
            {
                "symbol": found.symbol,
                "timestamp": found.timestamp,
                "score": found.rank if math.isfinite(found.rank) else 1.0,
                "current_price": found.close,
                "sector": sectors.get(found.symbol),
                "data": {"timestamp": found.timestamp, "timeframe": timeframe, "volume": finite(found.volume)},
            }
        )
    alerts.sort(key=lambda alert: (-alert["score"], alert["symbol"]))
    return {
        "success": True,
        "execution_mode": "realtime",
        "strategy_id": asked.strategy_id,
        "alerts": alerts,
        "symbols_monitored": len(symbols),
        "symbols_stale": len(symbols) - fresh,
        "symbols_without_bars": without,
    }
