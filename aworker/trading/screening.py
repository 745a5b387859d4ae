"""Screening: which symbols stand highest by a strategy's rank rule now.

Invariant: what is said of a symbol depends on its own latest bars only, as many as the rules need, and a symbol whose
rank is undefined, or whose latest bar is older than ``max_age_s``, is not ranked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.backtest.performance import finite
from aworker.trading.bars.store import Bars, BarStore, timeframe_s
from aworker.trading.rules import Program, RuleError, compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.rules.others import MOST_AGE_S, Others
from aworker.trading.rules.parser import Trees
from aworker.trading.strategies.strategy import Rules, condition_rules, limit_rules

if TYPE_CHECKING:
    from aworker.execution.context import Context

_PROGRESS_SYMBOLS = 100


class ScreenedStrategy(msgspec.Struct, frozen=True):
    """One strategy to screen by."""

    strategy_id: int
    rules: Rules


class ScreeningRequest(msgspec.Struct, frozen=True):
    """What a screening is asked."""

    strategies: list[ScreenedStrategy]
    now_s: float
    """The task's run in epoch seconds."""
    universe: list[str] | None = None
    """None = all symbols in the store."""
    limit: int = 100
    """Most symbols in a ranking."""
    max_age_s: float = 0.0
    """A symbol whose latest bar began longer ago gives no signal; 0 = any age will do."""
    market_data_path: str | None = None


@dataclass(frozen=True, slots=True)
class Latest:
    """What a strategy's rules say of a symbol at its latest bar."""

    symbol: str
    timestamp: int
    close: float
    """The price; NaN when the latest bar has none."""
    volume: float
    entry: bool
    rank: float
    """NaN where undefined, and without a rank rule."""


def compiled(rules: Rules, *, exit: bool = False, rank: bool = False, trees: Trees | None = None) -> Program:
    """Compile a strategy's entry rule, and the others that are looked at; ``exit`` takes the limits' rules along.

    Raises RequestDeclined with the rule's own error when they do not compile.
    """
    try:
        levels = limit_rules(rules.risk) if exit else {}
        return compile_program(
            rules.entry,
            rules.exit if exit else None,
            rules.rank if rank else None,
            levels,
            rules.timezone,
            condition_rules(rules) if exit else {},
            trees,
        )
    except RuleError as error:
        raise RequestDeclined(f"strategy must have rules that compile, was: {error}; correct it") from error


def others_of(
    program: Program, store: BarStore, timeframe: str, end_s: float | None = None, *, is_latest: bool = False
) -> Others | None:
    """Load the bars of the symbols that a program looks at beside the traded one; None when it looks at none.

    Up to ``end_s``, or as many of the latest as give the latest value. Raises NoBars when one of them has none.
    """
    if not program.others:
        return None
    loaded: dict[str, Bars] = {}
    for symbol, tail_bars in program.others.items():
        if is_latest and tail_bars is not None:
            found = next(store.load_latest([symbol], timeframe, tail_bars), None)
            if found is None:
                raise store.no_bars([symbol], timeframe)
            loaded[symbol] = found
        else:
            loaded[symbol] = store.load(symbol, timeframe, None, end_s)
    return Others(program, loaded, max(MOST_AGE_S, 2 * timeframe_s(timeframe)))


def latest(program: Program, bars: Bars, others: Others | None = None) -> Latest:
    """Evaluate the rules on as many of the latest bars as they need; ``bars`` must hold one at least."""
    tail = bars if program.tail_bars is None else bars[-program.tail_bars :]
    signals = evaluate(program, tail, others)
    return Latest(
        symbol=bars.symbol,
        timestamp=int(tail.timestamp[-1]),
        close=float(tail.close[-1]),
        volume=float(tail.volume[-1]),
        entry=bool(signals.entry[-1]),
        rank=float(signals.rank[-1]),
    )


def fresh_bars(
    store: BarStore,
    symbols: Sequence[str],
    timeframe: str,
    programs: Sequence[Program],
    now_s: float,
    max_age_s: float,
) -> Iterator[Bars]:
    """Yield the latest bars of each symbol, enough for all of the programs; stale and empty symbols are left out.

    No more is read than that, unless a rule such as obv stands on every bar there is.
    """
    tails = [program.tail_bars for program in programs]
    counts = [count for count in tails if count is not None]
    if len(counts) == len(tails):
        loaded = store.load_latest(symbols, timeframe, max(counts))
    else:
        loaded = store.load_many(symbols, timeframe)
    for bars in loaded:
        if len(bars) and not (max_age_s > 0 and now_s - bars.timestamp[-1] > max_age_s):
            yield bars


def screen(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Rank the universe by every strategy asked for; ``request`` is a `ScreeningRequest` as a dict.

    A strategy's ranking: highest ``rank`` first, ties by symbol, undefined ones left out. Without a rank rule it is
    the symbols whose entry condition holds at the latest bar, each with score 1.
    ``strategies`` has the ranking of each. ``ranked_results`` joins them: scores of different rules do not compare, so
    a symbol stands by its best place in any ranking, ties by the order in which the strategies were asked; its
    ``score`` is the one of that ranking, ``data.strategies`` has its place and score in each.
    Raises NoBars when no symbol of the universe has bars, TaskCancelled when cancelled on the way.
    """
    asked = msgspec.convert(request, ScreeningRequest)
    if asked.limit < 1:
        raise RequestDeclined(f"limit must be >= 1, was {asked.limit}; ask for one symbol at least")
    if not asked.strategies:
        raise RequestDeclined("strategy_ids must name a strategy, was []; name one at least")
    store = BarStore(asked.market_data_path)
    programs = [compiled(strategy.rules, rank=True) for strategy in asked.strategies]
    rankings: list[list[Latest]] = [[] for _ in programs]
    universe: set[str] = set()
    without: set[str] = set()
    for timeframe in dict.fromkeys(strategy.rules.timeframe for strategy in asked.strategies):
        places = [place for place, each in enumerate(asked.strategies) if each.rules.timeframe == timeframe]
        symbols, missing = store.choose(asked.universe, None, timeframe)
        universe.update(symbols)
        without.update(missing)
        used = [programs[place] for place in places]
        others = {place: others_of(programs[place], store, timeframe, is_latest=True) for place in places}
        for done, bars in enumerate(fresh_bars(store, symbols, timeframe, used, asked.now_s, asked.max_age_s)):
            if context.cancelled:
                raise TaskCancelled(f"screening must run to its end, was cancelled at {bars.symbol}")
            if done % _PROGRESS_SYMBOLS == 0:
                data = {"symbols_done": done, "symbols_total": len(symbols), "timeframe": timeframe}
                context.progress("screening", f"{done} of {len(symbols)} symbols", data, done / len(symbols))
            for place in places:
                found = latest(programs[place], bars, others[place])
                if not math.isnan(_score(programs[place], found)):
                    rankings[place].append(found)
    for program, ranking in zip(programs, rankings, strict=True):
        ranking.sort(key=lambda found: (-_score(program, found), found.symbol))
        del ranking[asked.limit :]
    sectors = store.sectors()
    joined = _joined(asked.strategies, programs, rankings, sectors)[: asked.limit]
    return {
        "success": True,
        "execution_mode": "screening",
        "strategy_id": asked.strategies[0].strategy_id,
        "ranked_results": joined,
        "scores": {result["symbol"]: result["score"] for result in joined},
        "universe_size": len(universe),
        "results_returned": len(joined),
        "symbols_without_bars": sorted(without - universe),
        "strategies": [
            {
                "strategy_id": strategy.strategy_id,
                "ranked_results": [
                    _result(found, _score(program, found), sectors, {"place": place})
                    for place, found in enumerate(ranking, start=1)
                ],
            }
            for strategy, program, ranking in zip(asked.strategies, programs, rankings, strict=True)
        ],
    }


def _score(program: Program, found: Latest) -> float:
    # NaN = not ranked.
    if not math.isfinite(found.close):
        return math.nan
    if program.rank is not None:
        return found.rank
    return 1.0 if found.entry else math.nan


def _result(found: Latest, score: float, sectors: dict[str, str], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "symbol": found.symbol,
        "ticker": found.symbol,
        "score": score,
        "current_price": found.close,
        "sector": sectors.get(found.symbol),
        "data": {"timestamp": found.timestamp, "volume": finite(found.volume), "entry": found.entry, **data},
    }


def _joined(
    strategies: list[ScreenedStrategy],
    programs: list[Program],
    rankings: list[list[Latest]],
    sectors: dict[str, str],
) -> list[dict[str, Any]]:
    standing: dict[str, list[tuple[int, int, Latest]]] = {}
    for which, ranking in enumerate(rankings):
        for place, found in enumerate(ranking, start=1):
            standing.setdefault(found.symbol, []).append((place, which, found))
    results = []
    for entries in standing.values():
        place, which, found = min(entries, key=lambda entry: entry[:2])
        each = {
            str(strategies[other].strategy_id): {"place": other_place, "score": _score(programs[other], other_found)}
            for other_place, other, other_found in entries
        }
        data = {"strategy_id": strategies[which].strategy_id, "strategies": each}
        results.append((place, which, _result(found, _score(programs[which], found), sectors, data)))
    return [result for _, _, result in sorted(results, key=lambda entry: entry[:2])]
