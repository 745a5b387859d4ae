"""The task types: their arguments, and what they do with the store, the prompts and the pool's children.

The parent process stays small: whatever needs numpy, TA-Lib or polars is named as text and runs in a child.
Invariant: effects are keyed by the task, so a task that is delivered again finds what it did.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from aworker.clock import now_s, parse_rfc3339
from aworker.errors import RequestDeclined
from aworker.execution.context import Context
from aworker.execution.registry import Handler, Registry
from aworker.trading.backtest.parameters import read_values
from aworker.trading.chunks import BACKTEST, SWEEP, in_chunks
from aworker.trading.prompts import PromptNotUnderstood, understand
from aworker.trading.strategies.store import Store, check_owner
from aworker.trading.strategies.strategy import (
    Draft,
    Rules,
    Strategy,
    StrategyInvalid,
    check_rules,
    rules_from_source,
    source_text,
)

if TYPE_CHECKING:
    from aworker.trading.strategies.llm import Made

NEW_STRATEGY = -1
MAX_LIMIT = 10_000
MAX_STRATEGIES = 100

_RUN = "aworker.trading.backtest.backtest:run_backtest"
_REPORT = "aworker.trading.report.report:add_report"
_SWEEP_REPORT = "aworker.trading.report.sweep:add_sweep_report"
_SCREEN = "aworker.trading.screening:screen"
_ALERT = "aworker.trading.alerts:check_alert"

_SMALL_SYMBOLS = 20
"""Up to so many symbols of daily bars a backtest is one call of a child: cutting it costs more than it saves."""
_DAY_S = 86_400
_INT64 = 1 << 63


class LanguageModelLike(Protocol):
    """What can make a strategy of a prompt that the grammar does not understand."""

    async def draft(
        self, prompt: str, current: Draft | None = None, *, understood: str = "", say: Callable[[str], None]
    ) -> Made:
        """Return a checked draft and what it cost, or raise RequestDeclined."""
        ...


class CreateStrategyArgs(msgspec.Struct, kw_only=True):
    """What create_strategy takes."""

    user_id: int | str
    prompt: str
    strategy_id: int | str | None = NEW_STRATEGY
    """-1 or null = a new strategy, else the one to edit."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError(f"prompt must be not blank, was {self.prompt!r}; say when to buy")
        self.strategy_id = NEW_STRATEGY if self.strategy_id is None else _identifier("strategy_id", self.strategy_id)


class BacktestArgs(msgspec.Struct, kw_only=True):
    """What backtest takes; an empty list stands for null."""

    strategy_id: int | str | None = None
    rules: str | dict[str, Any] | None = None
    """In the place of a stored strategy: rules as text, or as the object that `aworker strategy schema` describes."""
    whole_curve: bool | None = False
    """Whether the equity curve has every bar and not only 200."""
    report: bool | None = False
    """Whether the result has ``report_html``, one HTML file."""
    benchmark: str | None = None
    """A symbol of the store that the report compares with."""
    user_id: int | str | None = None
    symbols: list[str] | None = None
    """null = the strategy's own."""
    securities: list[str] | None = None
    """A further filter on the symbols; null = none."""
    start_date: str | None = None
    end_date: str | None = None
    """``YYYY-MM-DD`` (the whole of that day) or RFC 3339; null = the task's run."""

    def __post_init__(self) -> None:
        if (self.strategy_id is None) == (self.rules is None):
            raise ValueError(
                "strategy_id or rules must be given, one of the two; name a stored strategy, or write rules"
            )
        if self.strategy_id is not None:
            self.strategy_id = _identifier("strategy_id", self.strategy_id)
        asked_instant("start_date", self.start_date)
        asked_instant("end_date", self.end_date)


class SweepArgs(msgspec.Struct, kw_only=True):
    """What sweep takes; an empty list stands for null."""

    rules: str
    """Rules as text, with ``{n}`` where a parameter stands."""
    set: dict[str, str | int | float | list[int | float | str]]
    """The values of each parameter: ``5..50:5`` (from, to, step), ``5,10,20`` or a list."""
    metric: str | None = "sharpe_ratio"
    """What the best has the most of."""
    walk_forward: int | None = 0
    """Parts of a walk forward; 0 = none."""
    report: bool | None = False
    """Whether the result has ``report_html``, one HTML file."""
    user_id: int | str | None = None
    symbols: list[str] | None = None
    """null = the rules' own."""
    securities: list[str] | None = None
    """A further filter on the symbols; null = none."""
    start_date: str | None = None
    end_date: str | None = None
    """``YYYY-MM-DD`` (the whole of that day) or RFC 3339; null = the task's run."""

    def __post_init__(self) -> None:
        if not self.set:
            raise ValueError('set must have a parameter at least, was {}; write {"n": "5..50:5"} for {n} in the rules')
        try:
            self.set = {name: list(read_values(f"set.{name}", values)) for name, values in self.set.items()}
        except RequestDeclined as error:
            raise ValueError(str(error)) from None
        asked_instant("start_date", self.start_date)
        asked_instant("end_date", self.end_date)


class ScreeningArgs(msgspec.Struct, kw_only=True):
    """What screening takes."""

    strategy_ids: list[int | str]
    universe: list[str] | None = None
    """null = every symbol in the store; an empty list stands for null."""
    limit: int | None = 100

    def __post_init__(self) -> None:
        if not 1 <= len(self.strategy_ids) <= MAX_STRATEGIES:
            raise ValueError(
                f"strategy_ids must be 1 to {MAX_STRATEGIES} ids, was {len(self.strategy_ids)}; name those to screen by"
            )
        self.strategy_ids = [
            _identifier(f"strategy_ids[{index}]", each) for index, each in enumerate(self.strategy_ids)
        ]
        self.limit = 100 if self.limit is None else self.limit
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"limit must be 1 to {MAX_LIMIT:,}, was {self.limit}; 100 is the default")


class AlertArgs(msgspec.Struct, kw_only=True):
    """What alert takes."""

    strategy_id: int | str
    symbols: list[str] | None = None
    """null = the strategy's own; an empty list stands for null."""
    user_id: int | str | None = None

    def __post_init__(self) -> None:
        self.strategy_id = _identifier("strategy_id", self.strategy_id)


class TradingHandlers:
    """The handlers of one worker.

    ``max_age_s`` (0 = off) is how long ago a symbol's latest bar may have begun to give a signal; ``commission`` and
    ``slippage`` are fractions a side, ``borrow`` is one a year; ``per_share`` is money, and ``per_order`` money of
    strategies with an account.
    """

    def __init__(
        self,
        store: Store,
        market_data_path: str | None,
        max_age_s: float,
        commission: float,
        slippage: float,
        llm: LanguageModelLike | None,
        *,
        borrow: float = 0.0,
        per_share: float = 0.0,
        per_order: float = 0.0,
    ) -> None:
        self._store = store
        self._market_data_path = market_data_path or None
        self._max_age_s = max_age_s
        self._commission = commission
        self._slippage = slippage
        self._further_costs = {"borrow": borrow, "per_share": per_share, "per_order": per_order}
        self._llm = llm

    def register(self, registry: Registry) -> None:
        """Add the handlers."""
        registry.add(Handler("create_strategy", self.create_strategy, timeout_s=180))
        registry.add(Handler("backtest", self.backtest, uses_pool=True, timeout_s=600))
        registry.add(Handler("report", self.report, uses_pool=True, timeout_s=600))
        registry.add(Handler("sweep", self.sweep, uses_pool=True, timeout_s=3_600))
        registry.add(Handler("screening", self.screening, uses_pool=True, timeout_s=300))
        registry.add(Handler("alert", self.alert, uses_pool=True, timeout_s=120))

    async def create_strategy(self, args: CreateStrategyArgs, context: Context) -> dict[str, Any]:
        """Make a strategy of a prompt, or edit one; ``success`` false with the reason when it cannot be."""
        try:
            strategy = await self._store.made_by(context.task_id)
            if strategy is None:
                context.progress("understanding", "reading the prompt", fraction=0.1)
                strategy = await self._made(args, context)
        except PromptNotUnderstood as error:
            return {"success": False, "error": str(error), "refusal": error.as_data()}
        except RequestDeclined as error:
            return {"success": False, "error": str(error)}
        return {"success": True, "strategy": _strategy_result(strategy), "validation_passed": True, **strategy.reading}

    async def backtest(self, args: BacktestArgs, context: Context) -> dict[str, Any]:
        """Trade a strategy on past bars.

        Raises RequestDeclined for an unknown strategy, symbols without bars, an end before the start.
        """
        started = time.perf_counter()
        rules, strategy_id, version, name = await self._rules_of(args)
        request: dict[str, Any] = {
            "rules": msgspec.to_builtins(rules),
            "now_s": now_s(),
            "strategy_id": strategy_id,
            "strategy_version": version,
            "whole_curve": bool(args.whole_curve or args.report),
            "symbols": _symbols(args.symbols),
            "securities": _symbols(args.securities),
            "start_s": asked_instant("start_date", args.start_date),
            "end_s": asked_instant("end_date", args.end_date, is_end=True),
            "market_data_path": self._market_data_path,
            "commission": self._commission,
            "slippage": self._slippage,
            **self._further_costs,
        }
        result = await _backtested(request, rules, context)
        if args.report:
            result = await self._with_report(args, request, rules, name, result, context)
        return {**result, "execution_time_ms": _elapsed_ms(started)}

    async def report(self, args: BacktestArgs, context: Context) -> dict[str, Any]:
        """Backtest and return the report, the figures beside it and no trades. Raises what `backtest` does."""
        result = await self.backtest(msgspec.structs.replace(args, report=True), context)
        return {**result, "execution_mode": "report", "instances": []}

    async def sweep(self, args: SweepArgs, context: Context) -> dict[str, Any]:
        """Trade rules with every combination of their parameters' values and rank them.

        Raises RequestDeclined where rules and parameters do not fit, and what `backtest` does.
        """
        started = time.perf_counter()
        request: dict[str, Any] = {
            "text": args.rules,
            "parameters": args.set,
            "now_s": now_s(),
            "metric": args.metric or "sharpe_ratio",
            "folds": args.walk_forward or 0,
            "symbols": _symbols(args.symbols),
            "securities": _symbols(args.securities),
            "start_s": asked_instant("start_date", args.start_date),
            "end_s": asked_instant("end_date", args.end_date, is_end=True),
            "market_data_path": self._market_data_path,
            "commission": self._commission,
            "slippage": self._slippage,
            **self._further_costs,
        }
        result = await in_chunks(SWEEP, request, context)
        if args.report:
            result = await context.offload(_SWEEP_REPORT, result, "Sweep", chunk=True)
        return {**result, "execution_time_ms": _elapsed_ms(started)}

    async def screening(self, args: ScreeningArgs, context: Context) -> dict[str, Any]:
        """Rank the universe by every strategy asked for. Raises RequestDeclined for an unknown strategy, no bars."""
        started = time.perf_counter()
        strategies = [await self._store.get(each) for each in dict.fromkeys(map(_number, args.strategy_ids))]
        request = {
            "strategies": [
                {"strategy_id": strategy.strategy_id, "rules": msgspec.to_builtins(strategy.rules)}
                for strategy in strategies
            ],
            "now_s": now_s(),
            "universe": _symbols(args.universe),
            "limit": args.limit,
            "max_age_s": self._max_age_s,
            "market_data_path": self._market_data_path,
        }
        result: dict[str, Any] = await context.offload(_SCREEN, request)
        return {**result, "execution_time_ms": _elapsed_ms(started)}

    async def alert(self, args: AlertArgs, context: Context) -> dict[str, Any]:
        """Report the symbols whose entry condition holds on the latest bar, each bar once for all tasks.

        Raises RequestDeclined for an unknown strategy, symbols without bars.
        """
        started = time.perf_counter()
        strategy = await self._store.get(_number(args.strategy_id))
        request = {
            "rules": msgspec.to_builtins(strategy.rules),
            "now_s": now_s(),
            "strategy_id": strategy.strategy_id,
            "symbols": _symbols(args.symbols),
            "max_age_s": self._max_age_s,
            "market_data_path": self._market_data_path,
        }
        result: dict[str, Any] = await context.offload(_ALERT, request)
        candidates = [
            (found["timestamp"], {key: value for key, value in found.items() if key != "timestamp"})
            for found in result["alerts"]
        ]
        claimed = await self._store.claim_alerts(strategy.strategy_id, context.task_id, candidates)
        alerts = [alert for (_, alert), is_ours in zip(candidates, claimed, strict=True) if is_ours]
        return {
            **result,
            "alerts": alerts,
            "alerts_generated": len(alerts),
            "execution_time_ms": _elapsed_ms(started),
            "error": None,
        }

    async def _rules_of(self, args: BacktestArgs) -> tuple[Rules, int, int | None, str]:
        """Return the rules to trade, their strategy (0 for rules of the task's own), its version and its name."""
        if args.strategy_id is not None:
            strategy = await self._store.get(_number(args.strategy_id))
            return strategy.rules, strategy.strategy_id, strategy.version, strategy.name
        rules = rules_given(args.rules or "")
        return rules, 0, None, rules.entry

    async def _with_report(
        self,
        args: BacktestArgs,
        request: dict[str, Any],
        rules: Rules,
        name: str,
        result: dict[str, Any],
        context: Context,
    ) -> dict[str, Any]:
        without_costs = None
        costs = {"commission": self._commission, "slippage": self._slippage, **self._further_costs}
        if any(costs.values()):
            free = await _backtested({**request, **dict.fromkeys(costs, 0.0)}, rules, context)
            without_costs = free["performance_metrics"]
        asked = {
            "result": result,
            "title": name,
            "benchmark": args.benchmark.strip().upper() if args.benchmark else None,
            "without_costs": without_costs,
            "market_data_path": self._market_data_path,
        }
        made: dict[str, Any] = await context.offload(_REPORT, asked, bool(args.whole_curve), chunk=True)
        return made

    async def _made(self, args: CreateStrategyArgs, context: Context) -> Strategy:
        user_id = owner_number(args.user_id)
        strategy_id = _number(args.strategy_id)
        if strategy_id == NEW_STRATEGY:
            draft, reading = await self._draft(args.prompt, None, context)
            return await self._store.create(
                draft, user_id=user_id, prompt=args.prompt, task_id=context.task_id, reading=reading
            )
        current = await self._store.get(strategy_id)
        # Before the prompt is read: a stranger is told of the owner, not of the grammar.
        check_owner(current, user_id)
        draft, reading = await self._draft(args.prompt, current, context)
        return await self._store.edit(
            current, draft, user_id=user_id, prompt=args.prompt, task_id=context.task_id, reading=reading
        )

    async def _draft(self, prompt: str, current: Strategy | None, context: Context) -> tuple[Draft, dict[str, Any]]:
        try:
            if current is None:
                made = understand(prompt)
            else:
                made = understand(prompt, current.rules, current.name, current.prompt)
            return made.draft, {"engine": "parser", "assumptions": list(made.assumptions)}
        except PromptNotUnderstood as error:
            if self._llm is None:
                raise
            understood = str(error)

        asked = 0

        def say(text: str) -> None:
            nonlocal asked
            asked += 1
            context.progress("asking", text, fraction=1 - 0.7 / asked)

        known = None if current is None else Draft(current.name, current.description, current.rules)
        answer = await self._llm.draft(prompt, known, understood=understood, say=say)
        return answer.draft, {
            "engine": "model",
            "assumptions": answer.assumptions,
            "model": answer.model,
            "attempts": answer.attempts,
            "tokens": answer.tokens,
        }


def rules_given(rules: str | dict[str, Any]) -> Rules:
    """Return rules that a task brings along, checked. Raises StrategyInvalid."""
    if isinstance(rules, str):
        return rules_from_source(rules)
    try:
        return check_rules(msgspec.convert(rules, Rules))
    except msgspec.ValidationError as error:
        raise StrategyInvalid(f"rules must be as `aworker strategy schema` says, was not; {error}") from None


def owner_number(user_id: int | str) -> int:
    """Return a user as the whole number that results carry; 0 is the public user.

    Numbers stay, also written as text; any other text becomes the same number each time, from 2**52 up to 2**53, where
    no counted user lies and every reader still holds it exactly.
    """
    text = str(user_id).strip()
    if not text:
        return 0
    if _is_decimal(text) and -_INT64 <= int(text) < _INT64:
        return int(text)
    digest = hashlib.sha256(text.encode()).digest()
    return (1 << 52) + (int.from_bytes(digest[:8], "big") >> 12)


def asked_instant(path: str, text: str | None, is_end: bool = False) -> float | None:
    """Return a ``YYYY-MM-DD`` or RFC 3339 text as epoch seconds, None for none; a day that is an end is meant whole.

    Raises ValueError that names the path.
    """
    if not text:
        return None
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        instant = parse_rfc3339(text)
        if instant is None:
            raise ValueError(f"{path} must be YYYY-MM-DD or RFC 3339, was {text[:40]!r}; write 2024-01-31") from None
        return instant
    # Through the whole of its last day.
    return day + _DAY_S - 1 if is_end else day


async def _backtested(request: dict[str, Any], rules: Rules, context: Context) -> dict[str, Any]:
    symbols = request["symbols"] or rules.symbols
    if symbols is not None and len(symbols) <= _SMALL_SYMBOLS and rules.timeframe in ("1d", "1w"):
        result: dict[str, Any] = await context.offload(_RUN, request, chunk=True)
        return result
    return await in_chunks(BACKTEST, request, context)


def _strategy_result(strategy: Strategy) -> dict[str, Any]:
    return {
        "strategyId": strategy.strategy_id,
        "userId": strategy.user_id,
        "name": strategy.name,
        "description": strategy.description,
        "prompt": strategy.prompt,
        "pythonCode": source_text(strategy.rules),
        "score": 0,
        "version": str(strategy.version),
        "createdAt": strategy.created_at,
        "updatedAt": strategy.updated_at,
        "isAlertActive": strategy.is_alert_active,
    }


def _identifier(path: str, value: int | str) -> int:
    if isinstance(value, str) and _is_decimal(value.strip()):
        value = int(value)
    if isinstance(value, str) or not -_INT64 <= value < _INT64:
        raise ValueError(f"{path} must be a whole number of 64 bits, was {str(value)[:40]!r}; give the strategy's id")
    return value


def _number(value: int | str | None) -> int:
    # What __post_init__ has made a number, for the type checker.
    return int(value or 0)


def _is_decimal(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 19


def _symbols(symbols: list[str] | None) -> list[str] | None:
    return [symbol.strip().upper() for symbol in symbols] if symbols else None


def _elapsed_ms(started: float) -> int:
    return int((time.perf_counter() - started) * 1_000)
