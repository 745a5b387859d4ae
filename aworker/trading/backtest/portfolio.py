"""Many symbols as one portfolio: each has the same part of the capital, and nothing is moved between them.

A portfolio is gathered in parts, one a chunk, and joined. Invariant: the joined figures are the same to the last bit
however the symbols were dealt out and in whatever order the parts come. So sums of floats, whose result depends on the
order, are made in one of two ways: within one symbol, then over the symbols with `math.fsum`, which rounds once; or in
integers (see `_Curves`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aworker.errors import RequestDeclined
from aworker.trading.backtest.simulation import OPEN, REASONS, Simulation
from aworker.trading.bars.store import Bars

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TRADE_TYPES: dict[str, type[np.generic]] = {
    "entry_at": np.int64,
    "exit_at": np.int64,
    "bars_held": np.int64,
    "entry_price": np.float64,
    "exit_price": np.float64,
    "growth": np.float64,
    "capital": np.float64,
    "reason": np.int8,
    "side": np.int8,
}
_PART_SOLD = ("timestamp", "price", "part")
_COUNTS = ("bars", "bars_held", "trades", "wins", "open_trades")
_SUMS = ("profit", "loss", "returns", "traded")


class Portfolio:
    """Takes the simulations of some symbols, all from one store and timeframe, each symbol once."""

    def __init__(self, commission: float, per_share: float = 0.0) -> None:
        self._commission, self._per_share = commission, per_share
        self._curves = _Curves()
        self._bars = 0
        self._trades: list[tuple[str, dict[str, NDArray[Any]]]] = []
        self._parts: dict[tuple[str, int], list[list[Any]]] = {}

    def add(self, window: Bars, made: Simulation) -> None:
        """Add a symbol: the bars it was simulated on, one with a price at least, and what came of it.

        Raises RequestDeclined when its bars are junk: worth 2^31 times the start.
        """
        self._curves.add(window.symbol, window.timestamp, made.equity, _held_from_the_start(window.close))
        self._bars += len(window)
        columns: dict[str, NDArray[Any]] = {
            "entry_at": window.timestamp[made.entry_bar],
            "exit_at": window.timestamp[made.exit_bar],
            "bars_held": made.bars_held,
            "entry_price": made.entry_price,
            "exit_price": made.exit_price,
            "growth": made.growth,
            "capital": made.capital,
            "reason": made.reason,
            "side": made.side,
            "proceeds": made.proceeds,
        }
        for place, sold in made.parts.items():
            self._parts[window.symbol, place] = [[int(window.timestamp[each.bar]), *each[1:3]] for each in sold]
        self._trades.append((window.symbol, columns))

    def packed(self, limit: int) -> dict[str, Any]:
        """Return the part as msgpack-able values, with the ``limit`` latest of its trades."""
        trades = sorted(self._trades, key=lambda pair: pair[0])
        lengths = [len(columns["reason"]) for _, columns in trades]
        place = np.repeat(np.arange(len(trades), dtype=np.int64), lengths)
        columns = {
            name: np.concatenate([each[name] for _, each in trades]) if trades else np.empty(0, kind)
            for name, kind in {**_TRADE_TYPES, "proceeds": np.float64}.items()
        }
        change = columns["growth"] - 1.0
        gained = columns["capital"] * change
        bought = columns["capital"] / (1.0 + self._commission + self._per_share / columns["entry_price"])
        is_open = columns["reason"] == OPEN
        sold = bought * columns["proceeds"] / columns["entry_price"]
        sums = {
            "profit": np.maximum(gained, 0.0),
            "loss": np.maximum(-gained, 0.0),
            "returns": change,
            "traded": bought + sold,
        }
        # Of the latest trades of all parts, by entry and then symbol, each part has its own among its latest.
        chosen = np.lexsort((place, columns["entry_at"]))[-limit:]
        parts: dict[int, list[list[Any]]] = {}
        if self._parts:
            first = np.cumsum([0, *lengths])
            names = [symbol for symbol, _ in trades]
            for at, row in enumerate(chosen.tolist()):
                which = int(place[row])
                if (found := self._parts.get((names[which], row - int(first[which])))) is not None:
                    parts[at] = found
        return {
            "symbols": [symbol for symbol, _ in trades],
            "bars": self._bars,
            "bars_held": int(columns["bars_held"].sum()),
            "trades": len(place),
            "wins": int(np.count_nonzero(change > 0)),
            "open_trades": int(np.count_nonzero(is_open)),
            "best": float(change.max()) if len(change) else None,
            "worst": float(change.min()) if len(change) else None,
            # bincount adds a symbol's trades one after the other: the same bits in any part.
            **{name: np.bincount(place, each, len(trades)).tolist() for name, each in sums.items()},
            "curves": self._curves.packed(),
            "trade_symbol": place[chosen].tobytes(),
            "trade_columns": {
                name: np.ascontiguousarray(columns[name][chosen], kind).tobytes() for name, kind in _TRADE_TYPES.items()
            },
            "trade_parts": list(parts.items()),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A whole portfolio. Money is in units of one symbol's starting capital."""

    symbols: list[str]
    timestamp: Integers
    """Of every bar that any symbol has."""
    equity: Floats
    """The mean over the symbols, 1 at the start."""
    market: Floats
    """The same for holding every symbol from its first price."""
    bars: int
    bars_held: int
    trades: int
    wins: int
    open_trades: int
    best: float | None
    """The highest return of a trade, a fraction; None without trades."""
    worst: float | None
    profit: float
    """The sum of what the winning trades gained."""
    loss: float
    """The sum of what the others lost, not negative."""
    returns: float
    """The sum of the trades' returns."""
    traded: float
    """The value bought and sold."""
    instances: list[dict[str, Any]]
    """The latest trades as PROTOCOL-like objects, by entry, then symbol."""


def join(parts: list[dict[str, Any]], limit: int) -> Joined | None:
    """Join what `Portfolio.packed` gave, in any order, with the ``limit`` latest trades; None without any symbol.

    Raises RequestDeclined when the bars are junk: worth 2^37 times one symbol's start in sum.
    """
    parts = [part for part in parts if part["symbols"]]
    if not parts:
        return None
    timestamp, equity, market = _mean_curves([part["curves"] for part in parts])
    return Joined(
        symbols=sorted(symbol for part in parts for symbol in part["symbols"]),
        timestamp=timestamp,
        equity=equity,
        market=market,
        best=max((part["best"] for part in parts if part["best"] is not None), default=None),
        worst=min((part["worst"] for part in parts if part["worst"] is not None), default=None),
        instances=_instances(parts, limit),
        **_totals(parts),
    )


_ARRAYS = {"timestamp": np.int64, "equity": np.float64, "market": np.float64}


def packed_joined(whole: Joined) -> dict[str, Any]:
    """Return a whole portfolio as msgpack-able values."""
    values = {field.name: getattr(whole, field.name) for field in fields(whole)}
    return values | {name: values[name].tobytes() for name in _ARRAYS}


def unpacked_joined(packed: dict[str, Any]) -> Joined:
    """Return what `packed_joined` was given."""
    return Joined(**packed | {name: np.frombuffer(packed[name], kind) for name, kind in _ARRAYS.items()})


def joined_account(
    markets: list[Bars],
    timestamp: Integers,
    equity: Floats,
    columns: dict[str, NDArray[Any]],
    parts: dict[int, list[list[Any]]],
    capital: float,
    limit: int,
) -> Joined:
    """Return the portfolio of symbols that share one account, 1 at the start; ``columns`` are its trades.

    ``parts`` are what of some of them was sold before the rest: instant, price, part. Holding every symbol is counted
    as for symbols that share nothing.
    """
    curves = _Curves()
    for bars in markets:
        held = _held_from_the_start(bars.close)
        curves.add(bars.symbol, bars.timestamp, held, held)
    _, _, market = _mean_curves([curves.packed()])
    growth, reason = columns["growth"], columns["reason"]
    invested = columns["capital"] / capital
    change = growth - 1.0
    gained = invested * change
    shares = columns["shares"] / capital
    left = shares * columns["proceeds"]
    names = sorted(bars.symbol for bars in markets)
    part = {
        "symbols": names,
        "trade_symbol": columns["symbol"].tobytes(),
        "trade_columns": {name: columns[name].tobytes() for name in (*_TRADE_TYPES, "shares")},
        "trade_parts": list(parts.items()),
    }
    return Joined(
        symbols=names,
        timestamp=timestamp,
        equity=equity,
        market=market,
        bars=sum(len(bars) for bars in markets),
        bars_held=int(columns["bars_held"].sum()),
        trades=len(growth),
        wins=int(np.count_nonzero(change > 0)),
        open_trades=int(np.count_nonzero(reason == OPEN)),
        best=float(change.max()) if len(change) else None,
        worst=float(change.min()) if len(change) else None,
        profit=math.fsum(np.maximum(gained, 0.0)),
        loss=math.fsum(np.maximum(-gained, 0.0)),
        returns=math.fsum(change),
        # As if each symbol had begun with 1, which is how `traded` is read.
        traded=math.fsum(shares * columns["entry_price"] + left) * len(names),
        instances=_instances([part], limit),
    )


def _totals(parts: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {name: sum(part[name] for part in parts) for name in _COUNTS}
    return counts | {name: math.fsum(each for part in parts for each in part[name]) for name in _SUMS}


def _held_from_the_start(close: Floats) -> Floats:
    if close.min() > 0 and close.max() < np.inf:
        return close / float(close[0])
    known = np.isfinite(close) & (close > 0)
    latest = np.maximum.accumulate(np.where(known, np.arange(len(close)), -1))
    return np.where(latest >= 0, close[latest] / float(close[int(known.argmax())]), 1.0)


def _instances(parts: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    symbols = sorted(symbol for part in parts for symbol in part["symbols"])
    rank = {symbol: place for place, symbol in enumerate(symbols)}
    place = np.concatenate(
        [
            np.array([rank[symbol] for symbol in part["symbols"]])[np.frombuffer(part["trade_symbol"], np.int64)]
            for part in parts
        ]
    )
    columns = {
        name: np.concatenate([np.frombuffer(part["trade_columns"][name], kind) for part in parts])
        for name, kind in _TRADE_TYPES.items()
    }
    chosen = np.lexsort((place, columns["entry_at"]))[-limit:]
    firsts = itertools.accumulate((len(part["trade_symbol"]) // 8 for part in parts), initial=0)
    sold = {
        first + at: [dict(zip(_PART_SOLD, each, strict=True)) for each in legs]
        for first, part in zip(firsts, parts, strict=False)
        for at, legs in part["trade_parts"]
    }
    # Said of every trade where one of them is short.
    is_mixed = bool((columns["side"][chosen] < 0).any())
    lists = [columns[name][chosen].tolist() for name in _TRADE_TYPES]
    # Only where the symbols share an account.
    shares: list[float | None] = [None] * len(chosen)
    if all("shares" in part["trade_columns"] for part in parts):
        shares = np.concatenate([np.frombuffer(part["trade_columns"]["shares"]) for part in parts])[chosen].tolist()
    return [
        {
            "ticker": symbols[which],
            "symbol": symbols[which],
            "timestamp": entry_at,
            "classification": growth > 1.0,
            "entry_price": entry_price,
            "exit_price": exit_price,
            "exit_timestamp": None if reason == OPEN else exit_at,
            "future_return": growth - 1.0,
            "strategy_results": {
                "exit_reason": REASONS[reason],
                "bars_held": bars_held,
                "capital_before": capital,
                **({"side": "short" if side < 0 else "long"} if is_mixed else {}),
                **({} if count is None else {"shares": count}),
                **({"parts_sold": sold[row]} if row in sold else {}),
            },
        }
        for row, (
            which,
            entry_at,
            exit_at,
            bars_held,
            entry_price,
            exit_price,
            growth,
            capital,
            reason,
            side,
            count,
        ) in zip(chosen.tolist(), zip(place[chosen].tolist(), *lists, shares, strict=True), strict=True)
    ]


_HIGH_UNIT, _LOW_UNIT = 2.0**16, 2.0**36
_EXACT = 2.0**53
_MAX_VALUE = 2.0**31


class _Curves:
    """The sum of curves, exact whatever the order of its terms.

    A value is split into whole numbers of 2^-16 and of 2^-52. A float64 adds whole numbers exactly below 2^53: room for
    131,072 curves in the low part, and in the high part for a sum of 2^37, which is checked. A curve is 1 before its
    first bar and keeps its last value after its last.
    """

    def __init__(self) -> None:
        # One entry for each distinct timeline: a market has one or two, so curves are seldom spread out.
        self._lines: list[tuple[Integers, Floats, int]] = []

    def add(self, symbol: str, timestamp: Integers, equity: Floats, market: Floats) -> None:
        values = np.empty((4, len(timestamp)))
        values[0], values[1] = equity, market
        highest = float(values[:2].max())
        if not highest < _MAX_VALUE:
            raise RequestDeclined(
                f"equity of {symbol} must stay below {_MAX_VALUE:.0f} times its start, was {highest}; check its bars"
            )
        high, low = values[:2], values[2:]
        high *= _HIGH_UNIT
        np.floor(high, out=low)
        high -= low
        high *= _LOW_UNIT
        np.floor(high, out=high)
        # Now the first two rows are the low parts and the last two the high parts.
        for place, (line, sums, count) in enumerate(self._lines):
            if len(line) == len(timestamp) and line[0] == timestamp[0] and (line == timestamp).all():
                sums += values
                self._lines[place] = (line, sums, count + 1)
                return
        self._lines.append((timestamp, values, 1))

    def packed(self) -> dict[str, Any]:
        timestamp, sums, count = _joined_lines(self._lines)
        return {"timestamp": timestamp.tobytes(), "sums": sums.tobytes(), "count": count}


def _joined_lines(lines: list[tuple[Integers, Floats, int]]) -> tuple[Integers, Floats, int]:
    if not lines:
        return np.empty(0, np.int64), np.empty((4, 0)), 0
    count = sum(line[2] for line in lines)
    if all(np.array_equal(lines[0][0], line[0]) for line in lines[1:]):
        return lines[0][0], np.sum([line[1] for line in lines], axis=0), count
    timestamp = np.unique(np.concatenate([line[0] for line in lines]))
    sums = np.zeros((4, len(timestamp)))
    for line, values, curves in lines:
        latest = np.searchsorted(line, timestamp, side="right") - 1
        before = np.array([0.0, 0.0, curves * _HIGH_UNIT, curves * _HIGH_UNIT])
        sums += np.where(latest >= 0, values[:, latest], before[:, np.newaxis])
    return timestamp, sums, count


def _mean_curves(packed: list[dict[str, Any]]) -> tuple[Integers, Floats, Floats]:
    lines = []
    for each in packed:
        timestamp = np.frombuffer(each["timestamp"], np.int64)
        lines.append((timestamp, np.frombuffer(each["sums"]).reshape(4, len(timestamp)), int(each["count"])))
    timestamp, sums, count = _joined_lines(lines)
    low, high = sums[:2], sums[2:]
    if not high.max() < _EXACT:
        raise RequestDeclined(
            f"equity of all symbols must stay below {_EXACT / _HIGH_UNIT:.0f} times the start of one, "
            f"was {high.max() / _HIGH_UNIT}; check their bars"
        )
    equity, market = (high / _HIGH_UNIT + low / (_HIGH_UNIT * _LOW_UNIT)) / count
    return timestamp, equity, market
