"""Sweeps: one strategy with many values of its parameters, each combination backtested, the best one doubted.

`plan_sweep` fixes symbols, window and chunks, `sweep_chunk` runs some of the combinations, `merge_sweep` ranks them and
looks at the best; `run_sweep` is the three in one call. All take and return msgpack-able values.

1. Every combination is traded as `aworker.trading.backtest.backtest` trades it; only what differs is computed again.
2. The best is backtested once more by itself, and its Sharpe ratio is set against what the best of so many tries has by
   chance.
3. A walk forward cuts the window into parts: in each the combination that was best in the bars before it is followed.

Invariant: the figures of a combination do not depend on which others were tried, nor on how they were cut into chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.backtest.backtest import orders_of, plan_chunks, run_backtest, traded
from aworker.trading.backtest.costs import Costs
from aworker.trading.backtest.parameters import check_parameters, combination, filled, names_in, typed
from aworker.trading.backtest.performance import (
    FIGURES,
    finite,
    measure,
    measure_many,
    periods_per_year,
    returns_of,
    sample_curve,
)
from aworker.trading.backtest.simulation import tradable
from aworker.trading.backtest.tries import best_by_chance, chance_of_skill, shape_of
from aworker.trading.bars.store import Bars, BarStore, NoBars, instant_text, timeframe_s
from aworker.trading.rules.evaluate import Known
from aworker.trading.rules.others import MOST_AGE_S, Others
from aworker.trading.rules.parser import Trees
from aworker.trading.rules.program import Program
from aworker.trading.screening import compiled
from aworker.trading.strategies.strategy import (
    Rules,
    StrategyInvalid,
    apply_fields,
    rules_from_source,
    source_fields,
)

if TYPE_CHECKING:
    from aworker.execution.context import Context

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

METRICS = ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "total_return", "annual_return", "max_drawdown")
"""By what a sweep may choose; of each the highest is the best."""
MAX_FOLDS = 50
MAX_ROWS = 10_000

_COUNTS = ("total_trades", "wins")
_RULES = ("entry", "exit", "rank")
_IN_SAMPLE_PARTS = 3
_CHUNK_S = 0.7
_CHUNK_BYTES = 64 << 20
_COMBINATION_S, _BAR_S = 4e-4, 1e-7
_LOOKS = 50
"""Combinations between two looks whether the task is cancelled."""


class SweepRequest(msgspec.Struct, frozen=True):
    """What a sweep is asked; the fields from ``first`` on are `plan_sweep`'s."""

    text: str
    """The rules in their source form, with ``{n}`` where a parameter stands."""
    parameters: dict[str, list[str]]
    """The values of each, as `read_values` gives them."""
    now_s: float
    metric: str = "sharpe_ratio"
    """One of METRICS."""
    folds: int = 0
    """Parts of a walk forward; 0 = none."""
    symbols: list[str] | None = None
    """None = the rules' own; those None too = all in the store."""
    all_symbols: bool = False
    """Whether all in the store are meant, whatever the rules say."""
    securities: list[str] | None = None
    start_s: float | None = None
    end_s: float | None = None
    market_data_path: str | None = None
    commission: float = 0.0
    slippage: float = 0.0
    borrow: float = 0.0
    """What a short pays a year, a fraction."""
    per_share: float = 0.0
    per_order: float = 0.0
    first: int = 0
    count: int = 0
    chunks: int = 1
    planned: dict[str, Any] = {}
    """The plan of a backtest of the first combination that is a strategy: symbols and window."""


def plan_sweep(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Fix symbols and window and cut the combinations into chunks of about a second.

    Returns ``{"request": the one to merge with, "chunks": [requests for sweep_chunk]}``. Raises RequestDeclined when
    parameters and rules do not fit, StrategyInvalid when no combination is a strategy, NoBars.
    """
    asked = msgspec.convert(request, SweepRequest)
    total = check_parameters(asked.text, asked.parameters)
    if asked.metric not in METRICS:
        raise RequestDeclined(f"metric must be one of {', '.join(METRICS)}, was {asked.metric[:40]!r}; correct it")
    if not 0 <= asked.folds <= MAX_FOLDS:
        raise RequestDeclined(f"walk_forward must be 0 to {MAX_FOLDS} parts, was {asked.folds}; 5 is usual")
    rules = _first_strategy(asked, total)
    if asked.all_symbols:
        rules = msgspec.structs.replace(rules, symbols=None)
    base = {
        "rules": msgspec.to_builtins(rules),
        "now_s": asked.now_s,
        "symbols": asked.symbols,
        "securities": asked.securities,
        "start_s": asked.start_s,
        "end_s": asked.end_s,
        "market_data_path": asked.market_data_path,
        "commission": asked.commission,
        "slippage": asked.slippage,
        "borrow": asked.borrow,
        "per_share": asked.per_share,
        "per_order": asked.per_order,
    }
    planned = plan_chunks(base, context)["request"]
    bars = max((planned["end_s"] - planned["start_s"]) / timeframe_s(rules.timeframe), 1.0)
    each_s = len(planned["symbols"]) * (_COMBINATION_S + bars * _BAR_S)
    size = int(min(max(_CHUNK_S / each_s, 1), max(_CHUNK_BYTES / (bars * 8), 1), total))
    firsts = range(0, total, size)
    asked = msgspec.structs.replace(asked, planned=planned, chunks=len(firsts), count=total)
    chunks = [msgspec.structs.replace(asked, first=first, count=min(size, total - first)) for first in firsts]
    return {"request": msgspec.to_builtins(asked), "chunks": [msgspec.to_builtins(chunk) for chunk in chunks]}


def sweep_chunk(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Backtest the combinations of one chunk; returns what `merge_sweep` takes.

    Raises TaskCancelled when the task is cancelled on the way.
    """
    asked = msgspec.convert(request, SweepRequest)
    places = range(asked.first, asked.first + asked.count)
    run = _Run(asked, places, context)
    periods = periods_per_year(timeframe_s(asked.planned["rules"]["timeframe"]), run.timestamp)
    figures = measure_many(run.equity, periods)
    table = np.column_stack([*(figures[name] for name in FIGURES), *run.counts])
    table[[place - asked.first for place in run.refused]] = np.nan
    folds = [
        measure_many(run.equity[:, start : end + 1], periods)[asked.metric]
        for start, end, _ in fold_borders(len(run.timestamp), asked.folds)
    ]
    return {
        "first": asked.first,
        "table": table.tobytes(),
        "folds": np.array(folds).reshape(len(folds), len(places)).tobytes(),
        "refused": [[place, reason] for place, reason in run.refused.items()],
        "count": asked.count,
    }


def merge_sweep(request: dict[str, Any], chunks: list[dict[str, Any]], context: Context) -> dict[str, Any]:
    """Rank the combinations of a plan, its chunks in any order, and look at the best.

    ``combinations`` are the first 10,000, best first, each its parameters and figures; ``heat_map`` has the metric by
    the two parameters with the most values, of each cell the best of the others; ``best`` is a whole backtest of the
    best. ``deflated_sharpe_ratio`` is the probability that its true Sharpe ratio is above what the best of so many
    tries has by chance. Raises StrategyInvalid when no combination has the metric.
    """
    asked = msgspec.convert(request, SweepRequest)
    ordered = sorted(chunks, key=lambda chunk: int(chunk["first"]))
    columns = len(FIGURES) + len(_COUNTS)
    table = np.concatenate([np.frombuffer(chunk["table"]).reshape(chunk["count"], columns) for chunk in ordered])
    refused = [(int(place), str(reason)) for chunk in ordered for place, reason in chunk["refused"]]
    score = table[:, FIGURES.index(asked.metric)]
    ranking = np.lexsort((np.arange(len(score)), -np.where(np.isfinite(score), score, -np.inf)))
    best = int(ranking[0])
    if not math.isfinite(score[best]):
        raise RequestDeclined(
            f"metric must be defined for a combination at least, {asked.metric} of {len(score):,} was not; "
            "no combination traded: widen the values or the window"
        )
    context.progress("best", "looking at the best", fraction=0.95)
    values = combination(asked.parameters, best)
    found = run_backtest(
        {**asked.planned, "rules": msgspec.to_builtins(_rules(asked.text, values)), "planned": False, "chunks": 1}
        | {"whole_curve": True, "note": None, "symbols": asked.planned["symbols"]},
        context,
    )
    metrics = found["performance_metrics"]
    doubt = _doubt(metrics, table[:, FIGURES.index("sharpe_ratio")])
    walked = _walk(asked, ordered, found, context) if asked.folds else None
    summary = {**found["summary"], "note": asked.planned["note"]}
    summary["symbols_without_bars"] = asked.planned["symbols_without_bars"]
    summary["warnings"] = _warnings(asked, found["summary"]["warnings"], doubt, refused)
    for curve in (metrics, metrics["buy_and_hold"]):
        table_of = np.array(curve["equity_curve"], np.float64)
        curve["equity_curve"] = sample_curve(table_of[:, 0].astype(np.int64), table_of[:, 1])
    return {
        "success": True,
        "execution_mode": "sweep",
        "strategy_id": 0,
        "metric": asked.metric,
        "parameters": {name: [typed(value) for value in choices] for name, choices in asked.parameters.items()},
        "tries": len(score) - len(refused),
        "refused": len(refused),
        "first_refusal": refused[0][1] if refused else None,
        **doubt,
        "best": {
            "parameters": {name: typed(value) for name, value in values.items()},
            "rules": found["made_from"]["rules"],
            "performance_metrics": metrics,
        },
        "combinations": _rows(asked, table, ranking[np.isfinite(score[ranking])][:MAX_ROWS]),
        "heat_map": _heat_map(asked, score),
        "walk_forward": walked,
        "summary": summary,
        "made_from": {**found["made_from"], "template": asked.text.splitlines(), "parameters": asked.parameters},
    }


def run_sweep(request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Plan, run and merge a sweep in this process."""
    plan = plan_sweep(request, context)
    total = plan["request"]["count"]
    made, done = [], 0
    for chunk in plan["chunks"]:
        made.append(sweep_chunk(chunk, context))
        done += chunk["count"]
        data = {"combinations_done": done, "combinations_total": total}
        context.progress("sweep", f"{done:,} of {total:,} combinations", data, done / total * 0.95)
    return merge_sweep(plan["request"], made, context)


def fold_borders(bars: int, folds: int) -> list[tuple[int, int, int]]:
    """Return (first bar, last bar, last bar that is followed) of each fold, so many as are asked for.

    The parts that are followed are of one length and end with the window; before each lies a part three times as long
    by which is chosen. Raises RequestDeclined when a part has fewer than two bars.
    """
    if not folds:
        return []
    length = (bars - 1) / (folds + _IN_SAMPLE_PARTS)
    if length < 2:
        raise RequestDeclined(
            f"walk_forward must leave 2 bars a part, {folds} parts of {bars:,} bars do not; take fewer parts"
        )
    at = [round(length * part) for part in range(folds + _IN_SAMPLE_PARTS + 1)]
    return [(at[fold], at[fold + _IN_SAMPLE_PARTS], at[fold + _IN_SAMPLE_PARTS + 1]) for fold in range(folds)]


_Strategy = tuple[Rules, Program | None, Others | None]
"""What a combination says; no program where it is no strategy."""


class _Run:
    """Some combinations, traded: the equity of each at every bar, the mean over the symbols."""

    def __init__(self, asked: SweepRequest, places: Sequence[int], context: Context) -> None:
        self.refused: dict[int, str] = {}
        self._asked = asked
        self._context = context
        store = BarStore(asked.market_data_path)
        strategies = list(self._strategies(places, store))
        tails = [program.tail_bars for _, program, _ in strategies if program is not None]
        counts = [count for count in tails if count is not None]
        before = None if len(counts) < len(tails) else max(counts, default=0)
        self.counts = np.zeros((len(_COUNTS), len(places)))
        if any(rules.account is not None for rules, _, _ in strategies):
            self._trade_accounts(strategies)
            return
        lines: list[_Line] = []
        start_s, end_s = asked.planned["start_s"], asked.planned["end_s"]
        timeframe = asked.planned["rules"]["timeframe"]
        for bars in store.load_many(asked.planned["symbols"], timeframe, start_s, end_s, before=before):
            first = int(np.searchsorted(bars.timestamp, start_s, side="left"))
            window = bars[first:]
            if not len(window) or not np.isfinite(window.close).any():
                continue
            line = _line_of(lines, window.timestamp, len(places))
            line.symbols += 1
            self._trade(strategies, bars, first, line.rows)
        if not lines:
            start, end = (instant_text(each, timeframe) for each in (start_s, end_s))
            raise NoBars(f"start_date to end_date must hold a {timeframe} bar of the symbols, was {start} to {end}")
        self.timestamp, self.equity = _mean(lines)

    def _strategies(self, places: Sequence[int], store: BarStore) -> Iterator[_Strategy]:
        reader = _Reader(self._asked.text)
        beside: dict[str, Bars] = {}
        for place in places:
            try:
                rules, program = reader.read(combination(self._asked.parameters, place))
            except RequestDeclined as error:
                self.refused[place] = str(error)
                yield Rules(entry=""), None, None
            else:
                yield rules, program, self._others(program, rules.timeframe, store, beside)

    def _others(self, program: Program, timeframe: str, store: BarStore, beside: dict[str, Bars]) -> Others | None:
        if not program.others:
            return None
        for symbol in program.others:
            if symbol not in beside:
                beside[symbol] = store.load(symbol, timeframe, None, self._asked.planned["end_s"])
        return Others(program, beside, max(MOST_AGE_S, 2 * timeframe_s(timeframe)))

    def _trade(self, strategies: list[_Strategy], bars: Bars, first: int, rows: Floats) -> None:
        asked, known = self._asked, Known()
        costs = Costs(asked.commission, asked.slippage, asked.borrow, asked.per_share)
        window = bars[first:]
        is_tradable = tradable(window) is None
        with np.errstate(over="ignore", invalid="ignore"):
            for place, (rules, program, others) in enumerate(strategies):
                if place % _LOOKS == 0 and self._context.cancelled:
                    raise TaskCancelled(f"sweep must run to its end, was cancelled at {bars.symbol}")
                if program is None:
                    rows[place] += 1.0
                    continue
                orders, _ = orders_of(bars, first, rules, program, others, known)
                made = traded(window, orders, rules, costs, is_tradable=is_tradable)
                rows[place] += made.equity
                self.counts[0, place] += len(made.growth)
                self.counts[1, place] += np.count_nonzero(made.growth > 1.0)

    def _trade_accounts(self, strategies: list[_Strategy]) -> None:
        # Of one account the symbols take each other's money: each combination is a backtest of its own.
        rows: list[Floats | None] = []
        for place, (rules, program, _) in enumerate(strategies):
            if self._context.cancelled:
                raise TaskCancelled(f"sweep must run to its end, was cancelled after {place} of {len(strategies)}")
            if program is None:
                rows.append(None)
                continue
            asked = {**self._asked.planned, "rules": msgspec.to_builtins(rules), "planned": False, "chunks": 1}
            found = run_backtest({**asked, "whole_curve": True, "instance_limit": 1}, self._context)
            curve = np.array(found["performance_metrics"]["equity_curve"], np.float64)
            self.timestamp = curve[:, 0].astype(np.int64)
            self.counts[:, place] = found["summary"]["total_instances"], found["summary"]["positive_instances"]
            rows.append(curve[:, 1])
        if not any(row is not None for row in rows):
            self.timestamp = np.zeros(1, np.int64)
        self.equity = np.array([np.ones(len(self.timestamp)) if row is None else row for row in rows])


class _Reader:
    """Makes rules and their program of each combination; what two combinations share is read once."""

    def __init__(self, text: str) -> None:
        self._fields = source_fields(text)
        self._fields.pop("name", None)
        self._trees = Trees()
        self._rest = {key: value for key, value in self._fields.items() if key not in _RULES}
        self._named = sorted({name for value in self._rest.values() for name in names_in(value)})
        self._known: dict[tuple[str, ...], Rules] = {}

    def read(self, values: dict[str, str]) -> tuple[Rules, Program]:
        key = tuple(values[name] for name in self._named)
        base = self._known.get(key)
        if base is None:
            rest = {name: filled(value, values) for name, value in self._rest.items()}
            base = self._known[key] = apply_fields(Rules(entry="close > 0"), rest)
        lines = {name: filled(self._fields[name], values) for name in _RULES if name in self._fields}
        rules = msgspec.structs.replace(
            base, **{name: None if line.lower() == "none" else " ".join(line.split()) for name, line in lines.items()}
        )
        return rules, compiled(rules, exit=True, trees=self._trees)


def _rules(text: str, values: dict[str, str]) -> Rules:
    return rules_from_source(filled(text, values))


def _first_strategy(asked: SweepRequest, total: int) -> Rules:
    for name in ("symbols", "timeframe"):
        if names_in(source_fields(asked.text).get(name, "")):
            raise RequestDeclined(f"{name} must be the same for all combinations, was a parameter; write it out")
    error: RequestDeclined | None = None
    for place in range(total):
        try:
            return _rules(asked.text, combination(asked.parameters, place))
        except RequestDeclined as refusal:
            error = error or refusal
    raise StrategyInvalid(f"a combination must be a strategy, none of {total:,} was; the first: {error}")


class _Line:
    """The sum of the curves of symbols that have the same bars."""

    def __init__(self, timestamp: Integers, rows: int) -> None:
        self.timestamp = timestamp
        self.rows: Floats = np.zeros((rows, len(timestamp)))
        self.symbols = 0


def _line_of(lines: list[_Line], timestamp: Integers, rows: int) -> _Line:
    for line in lines:
        if np.array_equal(line.timestamp, timestamp):
            return line
    lines.append(_Line(timestamp, rows))
    return lines[-1]


def _mean(lines: list[_Line]) -> tuple[Integers, Floats]:
    # A symbol is worth 1 before its first bar and keeps its last value after its last.
    symbols = sum(line.symbols for line in lines)
    if len(lines) == 1:
        return lines[0].timestamp, lines[0].rows / symbols
    timestamp = np.unique(np.concatenate([line.timestamp for line in lines]))
    total: Floats = np.zeros((len(lines[0].rows), len(timestamp)))
    for line in lines:
        latest = np.searchsorted(line.timestamp, timestamp, side="right") - 1
        total += np.where(latest >= 0, line.rows[:, latest], float(line.symbols))
    return timestamp, total / symbols


def _rows(asked: SweepRequest, table: Floats, places: Integers) -> list[dict[str, Any]]:
    names = list(asked.parameters)
    choices = [[typed(value) for value in values] for values in asked.parameters.values()]
    which = np.unravel_index(places, [len(values) for values in choices])
    values = zip(*([of[at] for at in each.tolist()] for of, each in zip(choices, which, strict=True)), strict=True)
    figures = table[places]
    known = np.where(np.isfinite(figures), figures, np.nan).tolist()
    return [
        {
            "parameters": dict(zip(names, of, strict=True)),
            **{name: value if value == value else None for name, value in zip(FIGURES, row, strict=False)},
            "total_trades": int(row[-2]),
            "win_rate": row[-1] / row[-2] if row[-2] else None,
        }
        for of, row in zip(values, known, strict=True)
    ]


def _heat_map(asked: SweepRequest, score: Floats) -> dict[str, Any] | None:
    # The last two of those with the most values: what is written last varies first.
    many = [name for name, values in asked.parameters.items() if len(values) > 1]
    if len(many) < 2:
        return None
    chosen = sorted(many, key=lambda name: -len(asked.parameters[name]))[:2]
    row, column = (name for name in asked.parameters if name in chosen)
    names = list(asked.parameters)
    cube = score.reshape([len(values) for values in asked.parameters.values()])
    others = tuple(at for at, name in enumerate(names) if name not in chosen)
    best = np.max(np.where(np.isfinite(cube), cube, -np.inf), axis=others)
    return {
        "rows": row,
        "columns": column,
        "row_values": [typed(value) for value in asked.parameters[row]],
        "column_values": [typed(value) for value in asked.parameters[column]],
        "values": [[finite(value) for value in line] for line in best.tolist()],
        "best_of": [names[at] for at in others if len(asked.parameters[names[at]]) > 1],
    }


def _doubt(metrics: dict[str, Any], sharpe: Floats) -> dict[str, Any]:
    periods = float(metrics["periods_per_year"])
    ratios = sharpe[np.isfinite(sharpe)] / math.sqrt(periods)
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    threshold = best_by_chance(variance, len(ratios))
    returns = returns_of(np.array([value for _, value in metrics["equity_curve"]]))
    own = metrics["sharpe_ratio"]
    skill = math.nan
    if own is not None and len(returns) > 1:
        skill = chance_of_skill(own / math.sqrt(periods), threshold, len(returns), *shape_of(returns))
    return {
        "deflated_sharpe_ratio": finite(skill),
        "best_sharpe_by_chance": finite(threshold * math.sqrt(periods)),
    }


def _warnings(
    asked: SweepRequest, known: list[str], doubt: dict[str, Any], refused: list[tuple[int, str]]
) -> list[str]:
    tries = math.prod(len(values) for values in asked.parameters.values()) - len(refused)
    said = [] if asked.planned["note"] is None else [str(asked.planned["note"])]
    if tries > 1:
        chance, skill = doubt["best_sharpe_by_chance"], doubt["deflated_sharpe_ratio"]
        sure = "" if skill is None else f"; the probability that there is more to it is {skill:.0%}"
        said.append(
            f"It is the best of {tries:,} tries: without any skill the best of so many has a Sharpe ratio of about "
            f"{chance:.2f}{sure}"
        )
    if refused:
        said.append(f"{len(refused):,} combinations are no strategies and were left out; the first: {refused[0][1]}")
    return said + known


def _walk(asked: SweepRequest, chunks: list[dict[str, Any]], found: dict[str, Any], context: Context) -> dict[str, Any]:
    # Each part that is followed goes on where the one before ended. A position that its combination holds at the border
    # is taken over at that close.
    metrics = found["performance_metrics"]
    held = np.array([value for _, value in metrics["buy_and_hold"]["equity_curve"]])
    timeframe = asked.planned["rules"]["timeframe"]
    scores = np.concatenate(
        [np.frombuffer(chunk["folds"]).reshape(asked.folds, chunk["count"]) for chunk in chunks], axis=1
    )
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    chosen = [int(each) for each in scores.argmax(axis=1)]
    places = sorted(set(chosen))
    run = _Run(asked, places, context)
    periods = float(metrics["periods_per_year"])
    borders = fold_borders(len(run.timestamp), asked.folds)
    curve: list[Floats] = [np.ones(1)]
    parts: list[dict[str, Any]] = []
    for (start, end, last), place, score in zip(borders, chosen, scores.max(axis=1).tolist(), strict=True):
        is_known = math.isfinite(score)
        equity = run.equity[places.index(place)][end : last + 1] if is_known else np.ones(last - end + 1)
        curve.append(curve[-1][-1] * equity[1:] / equity[0])
        parts.append(
            {
                "chosen_from": instant_text(int(run.timestamp[start]), timeframe),
                "followed_from": instant_text(int(run.timestamp[end]), timeframe),
                "followed_to": instant_text(int(run.timestamp[last]), timeframe),
                "parameters": {
                    name: typed(value) for name, value in combination(asked.parameters, place).items()
                } if is_known else None,
                "in_sample": finite(score),
                "out_of_sample": finite(measure_many(equity[np.newaxis], periods)[asked.metric][0]),
                "return": float(equity[-1] / equity[0] - 1.0),
            }
        )  # fmt: skip
    whole = np.concatenate(curve)
    first, last = borders[0][1], borders[-1][2]
    market = held[first : last + 1] / held[first]
    timestamp = run.timestamp[first : last + 1]
    in_sample = [part["in_sample"] for part in parts if part["in_sample"] is not None]
    return {
        "parts": parts,
        "performance_metrics": measure(whole, periods) | {"buy_and_hold": measure(market, periods)},
        "in_sample_mean": float(np.mean(in_sample)) if in_sample else None,
        "equity_curve": sample_curve(timestamp, whole),
        "buy_and_hold_curve": sample_curve(timestamp, market),
    }
