"""The four handlers on the bundled bars, with a context whose children are this process."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import loguru
import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aworker.errors import ChildDied, RequestDeclined
from aworker.execution.context import Context
from aworker.execution.registry import Registry
from aworker.trading.handlers import (
    AlertArgs,
    BacktestArgs,
    CreateStrategyArgs,
    ScreeningArgs,
    SweepArgs,
    TradingHandlers,
    owner_number,
)
from aworker.trading.strategies.llm import LanguageModelFailed, Made
from aworker.trading.strategies.store import Store, StrategyUnknown
from aworker.trading.strategies.strategy import Draft, Rules

DIPS = "buy when RSI(14) drops below 30, sell above 70, 5% stop loss, only AAPL and MSFT"


class Children:
    """An offload that calls the function in this process, arguments and results as the wire carries them."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.stages: list[str] = []

    def context(self, task_id: str) -> Context:
        return Context(
            task_id=task_id,
            task_type="test",
            delivery=1,
            lease_id=1,
            logger=loguru.logger,
            progress=lambda stage, message, data, fraction: self.stages.append(stage),
            is_cancelled=lambda: False,
            offload=self,
        )

    async def __call__(self, function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any:
        assert isinstance(function, str)
        self.called.append(function.partition(":")[2])
        module, _, name = function.partition(":")
        arguments = msgspec.msgpack.decode(msgspec.msgpack.encode(args))
        result = getattr(importlib.import_module(module), name)(*arguments, self.context("child"))
        return msgspec.msgpack.decode(msgspec.msgpack.encode(result))


class SplittingChildren(Children):
    """Children that get one symbol a chunk; the chunk of a symbol may fail."""

    def __init__(self, failing: str = "") -> None:
        super().__init__()
        self.failing = failing

    async def __call__(self, function: Callable[..., Any] | str, *args: Any, chunk: bool = False) -> Any:
        assert chunk
        if function == "aworker.trading.backtest.backtest:backtest_chunk" and self.failing in args[0]["symbols"]:
            raise ChildDied("the child must live, was killed")
        result = await super().__call__(function, *args, chunk=chunk)
        if function == "aworker.trading.backtest.backtest:plan_chunks":
            symbols = result["request"]["symbols"]
            result["chunks"] = [
                {**result["request"], "symbols": [symbol], "chunks": len(symbols)} for symbol in symbols
            ]
        return result


class Model:
    """A language model that knows one strategy, or none."""

    def __init__(self, known: Draft | None) -> None:
        self.known = known
        self.asked: list[tuple[str, Draft | None]] = []
        self.understood = ""

    async def draft(
        self, prompt: str, current: Draft | None = None, *, understood: str = "", say: Callable[[str], None]
    ) -> Made:
        self.asked.append((prompt, current))
        self.understood = understood
        say("asking the language model")
        if self.known is None:
            raise LanguageModelFailed("the language model must answer, did not")
        return Made(self.known, ("50 day: simple average of closes",), "small", 2, 310)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    client = Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
    yield Store(client, first_id=1_000)
    await client.aclose()


@pytest.fixture
def children() -> Children:
    return Children()


@pytest.fixture
def handlers(store: Store) -> TradingHandlers:
    return TradingHandlers(store, None, 0.0, 0.0, 0.0, None)


async def made(store: Store, rules: Rules, task_id: str = "make") -> int:
    return (await store.create(Draft("Name", "", rules), user_id=1, prompt="p", task_id=task_id)).strategy_id


async def test_create_strategy_returns_what_the_wire_promises(handlers: TradingHandlers, children: Children) -> None:
    result = await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt=DIPS), children.context("t"))

    strategy = result["strategy"]
    assert (result["success"], result["validation_passed"]) == (True, True)
    assert strategy.pop("createdAt") == strategy.pop("updatedAt")
    assert strategy == {
        "strategyId": 1_000,
        "userId": 1,
        "name": "buy when RSI(14) drops below 30, sell above 70, 5% stop...",
        "description": "Buys when rsi(close, 14) < 30; sells when rsi(close, 14) > 70; stops out at a loss of 5%. "
        "Trades AAPL, MSFT on 1d bars.",
        "prompt": DIPS,
        "pythonCode": "entry: rsi(close, 14) < 30\nexit: rsi(close, 14) > 70\nstop_loss: 5%\nsymbols: AAPL, MSFT",
        "score": 0,
        "version": "1",
        "isAlertActive": False,
    }


async def test_create_strategy_delivered_again_finds_its_strategy(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    args = CreateStrategyArgs(user_id=1, prompt="Create momentum strategy")

    first = await handlers.create_strategy(args, children.context("t"))
    again = await handlers.create_strategy(args, children.context("t"))

    assert again == first
    assert len(await store.list_strategies()) == 1


async def test_an_edit_makes_the_next_version_once(handlers: TradingHandlers, children: Children) -> None:
    created = await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt=DIPS), children.context("a"))
    edit = CreateStrategyArgs(user_id="1", prompt="set the RSI period to 21", strategy_id="1000")

    edited = await handlers.create_strategy(edit, children.context("b"))
    again = await handlers.create_strategy(edit, children.context("b"))

    assert again == edited
    assert edited["strategy"]["version"] == "2"
    assert edited["strategy"]["pythonCode"] == created["strategy"]["pythonCode"].replace("14", "21")


@pytest.mark.parametrize(
    "args, reason",
    [
        (CreateStrategyArgs(user_id=1, prompt="make me rich"), "prompt must be understood"),
        (
            CreateStrategyArgs(user_id=1, prompt="add GOOG", strategy_id=5),
            "strategy_id must be that of a stored strategy",
        ),
        (
            CreateStrategyArgs(user_id=2, prompt="only AAPL", strategy_id=1_000),
            "must be edited by its owner, was by user 2",
        ),
        (CreateStrategyArgs(user_id=1, prompt="make it better", strategy_id=1_000), "'better'"),
    ],
    ids=["prompt", "unknown", "owner", "edit"],
)
async def test_create_strategy_says_no_with_the_reason(
    handlers: TradingHandlers, children: Children, args: CreateStrategyArgs, reason: str
) -> None:
    await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt=DIPS), children.context("a"))

    result = await handlers.create_strategy(args, children.context("b"))

    assert result["success"] is False
    assert reason in result["error"]
    assert set(result) - {"refusal"} == {"success", "error"}


async def test_the_language_model_is_asked_only_for_what_the_grammar_refuses(store: Store, children: Children) -> None:
    model = Model(Draft("Model", "From a model", Rules("close > open")))
    handlers = TradingHandlers(store, None, 0.0, 0.0, 0.0, model)

    await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt=DIPS), children.context("a"))
    asked = await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt="surprise me"), children.context("b"))

    assert [prompt for prompt, _ in model.asked] == ["surprise me"]
    assert asked["strategy"]["pythonCode"] == "entry: close > open"
    assert "it does not say when to buy" in model.understood
    again = await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt="surprise me"), children.context("b"))
    assert [(one["engine"], one["model"], one["attempts"], one["tokens"]) for one in (asked, again)] == [
        ("model", "small", 2, 310)
    ] * 2
    assert list(again["assumptions"]) == ["50 day: simple average of closes"]


async def test_the_language_model_is_given_the_strategy_to_edit(store: Store, children: Children) -> None:
    model = Model(None)
    handlers = TradingHandlers(store, None, 0.0, 0.0, 0.0, model)
    await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt="golden cross"), children.context("a"))

    result = await handlers.create_strategy(
        CreateStrategyArgs(user_id=1, prompt="make it better", strategy_id=1_000), children.context("b")
    )

    assert result == {"success": False, "error": "the language model must answer, did not"}
    (_, current), *_ = model.asked
    assert current is not None
    assert current.name == "Golden cross"


async def test_a_backtest_runs_what_the_prompt_made(handlers: TradingHandlers, children: Children) -> None:
    created = await handlers.create_strategy(CreateStrategyArgs(user_id=1, prompt=DIPS), children.context("a"))
    args = BacktestArgs(
        strategy_id=str(created["strategy"]["strategyId"]), start_date="2008-01-01", end_date="2009-12-31"
    )

    result = await handlers.backtest(args, children.context("b"))

    assert (result["success"], result["execution_mode"], result["strategy_id"]) == (True, "backtest", 1_000)
    assert {instance["symbol"] for instance in result["instances"]} <= {"AAPL", "MSFT"}
    assert result["summary"]["total_instances"] == len(result["instances"]) > 0
    assert result["summary"]["date_range"] == ["2008-01-02", "2009-12-31"]
    assert type(result["execution_time_ms"]) is int
    assert all(type(instance["timestamp"]) is int for instance in result["instances"])
    assert "NaN" not in str(msgspec.json.encode(result))
    assert children.called == ["run_backtest"]


@pytest.mark.parametrize(
    "rules",
    ["entry: rsi(close, 14) < 30\nsymbols: AAPL", {"entry": "rsi(close, 14) < 30", "symbols": ["AAPL"]}],
    ids=["text", "object"],
)
async def test_a_backtest_takes_rules_in_the_place_of_a_strategy(
    handlers: TradingHandlers, children: Children, rules: str | dict[str, Any]
) -> None:
    args = BacktestArgs(rules=rules, start_date="2008-01-01", end_date="2009-12-31", whole_curve=True)

    result = await handlers.backtest(args, children.context("b"))

    assert result["strategy_id"] == 0
    assert result["made_from"]["rules"] == ["entry: rsi(close, 14) < 30", "symbols: AAPL"]
    assert len(result["performance_metrics"]["equity_curve"]) == result["made_from"]["bars"]["count"] == 505


@pytest.mark.parametrize("rules", ["entry: rsii(close) < 30", {"entry": "close > open", "exits": "x"}, {}, ""])
async def test_rules_that_are_none_are_declined(
    handlers: TradingHandlers, children: Children, rules: str | dict[str, Any]
) -> None:
    with pytest.raises(RequestDeclined):
        await handlers.backtest(BacktestArgs(rules=rules), children.context("b"))


async def test_a_backtest_brings_its_report_on_request(store: Store, children: Children) -> None:
    handlers = TradingHandlers(store, None, 0.0, 0.001, 0.0, None)
    strategy_id = await made(store, Rules(entry="close > sma(close, 20)", exit="close < sma(close, 20)"))
    asked: dict[str, Any] = {
        "strategy_id": strategy_id, "start_date": "2008-01-01", "end_date": "2009-12-31", "benchmark": " ibm ",
    }  # fmt: skip

    plain = await handlers.backtest(BacktestArgs(**asked), children.context("a"))
    told = await handlers.backtest(BacktestArgs(**asked, report=True), children.context("b"))
    alone = await handlers.report(BacktestArgs(**asked), children.context("c"))

    html = told.pop("report_html")
    assert "IBM, held" in html
    assert "Without costs" in html
    assert {**told, "execution_time_ms": 0} == {**plain, "execution_time_ms": 0}
    assert alone["report_html"] == html
    assert (alone["success"], alone["execution_mode"], alone["instances"]) == (True, "report", [])
    assert alone["summary"] == plain["summary"]


async def test_a_report_with_an_unknown_benchmark_is_declined(handlers: TradingHandlers, children: Children) -> None:
    args = BacktestArgs(rules="entry: close > open", end_date="2009-12-31", benchmark="SPY")

    with pytest.raises(RequestDeclined, match="was SPY"):
        await handlers.report(args, children.context("a"))


async def test_a_backtest_in_chunks_is_the_same_as_in_one_call(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    rules = Rules("rsi(close, 14) < 30", exit="rsi(close, 14) > 60")
    every = await made(store, rules, "a")
    named = await made(store, msgspec.structs.replace(rules, symbols=("AAPL", "FB", "GOOG", "IBM", "MSFT")), "b")

    chunked = await handlers.backtest(BacktestArgs(strategy_id=every, end_date="2012-06-30"), children.context("c"))
    whole = await handlers.backtest(BacktestArgs(strategy_id=named, end_date="2012-06-30"), children.context("d"))

    assert children.called[:3] == ["plan_chunks", "backtest_chunk", "merge_chunks"]
    assert children.called[-1] == "run_backtest"
    assert chunked["instances"] == whole["instances"]
    assert chunked["performance_metrics"] == whole["performance_metrics"]


async def test_a_backtest_of_many_chunks_merges_them_and_tells_how_far_it_is(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    strategy_id = await made(store, Rules("rsi(close, 14) < 30", exit="rsi(close, 14) > 60"))
    args, split = BacktestArgs(strategy_id=strategy_id, end_date="2012-06-30"), SplittingChildren()

    many = await handlers.backtest(args, split.context("a"))
    few = await handlers.backtest(args, children.context("b"))

    assert split.called.count("backtest_chunk") == 5
    assert split.stages == ["backtest"] * 5
    del many["execution_time_ms"], few["execution_time_ms"]
    assert many == few


async def test_the_error_of_one_chunk_is_that_of_the_task(handlers: TradingHandlers, store: Store) -> None:
    strategy_id = await made(store, Rules("close > open"))

    with pytest.raises(ChildDied, match="was killed"):
        await handlers.backtest(BacktestArgs(strategy_id=strategy_id), SplittingChildren("IBM").context("a"))


SWEEP = """entry: crosses_above(sma(close, {fast}), sma(close, {slow}))
exit: crosses_below(sma(close, {fast}), sma(close, {slow}))"""


async def test_a_sweep_ranks_every_combination(handlers: TradingHandlers, children: Children) -> None:
    args = msgspec.convert(
        {
            "user_id": 7,
            "rules": SWEEP,
            "set": {"fast": "5..20:5", "slow": [30, 50]},
            "walk_forward": 3,
            "report": True,
            "symbols": ["ibm", "MSFT"],
            "start_date": "2005-01-01",
            "end_date": "2009-12-31",
        },
        SweepArgs,
    )

    result = await handlers.sweep(args, children.context("s"))

    assert (result["success"], result["execution_mode"], result["strategy_id"]) == (True, "sweep", 0)
    assert (result["tries"], len(result["combinations"])) == (8, 8)
    assert result["summary"]["date_range"] == ["2005-01-03", "2009-12-31"]
    assert len(result["walk_forward"]["parts"]) == 3
    assert result["report_html"].startswith("<!doctype html>")
    assert isinstance(result["execution_time_ms"], int)
    assert children.called == ["plan_sweep", "sweep_chunk", "merge_sweep", "add_sweep_report"]


async def test_a_sweep_in_chunks_tells_how_far_it_is(
    handlers: TradingHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = SweepArgs(rules=SWEEP, set={"fast": "5..9", "slow": "20,30"}, end_date="2009-12-31")
    children = Children()
    whole = await handlers.sweep(args, children.context("a"))
    monkeypatch.setattr("aworker.trading.backtest.sweep._CHUNK_S", 1e-9)
    split = Children()

    cut = await handlers.sweep(args, split.context("b"))

    assert split.called.count("sweep_chunk") == 10
    assert split.stages.count("sweep") == 10
    assert {**cut, "execution_time_ms": 0} == {**whole, "execution_time_ms": 0}


@pytest.mark.parametrize(
    "args, told",
    [
        ({"rules": SWEEP, "set": {}}, "set must have a parameter at least"),
        ({"rules": SWEEP, "set": {"fast": "x y"}}, "set.fast must be FROM..TO:STEP"),
        ({"rules": SWEEP, "set": {"fast": "9..1"}}, "set.fast must rise"),
        ({"rules": SWEEP, "set": {"fast": "5"}, "start_date": "soon"}, "start_date must be YYYY-MM-DD"),
        ({"set": {"fast": "5"}}, "rules"),
    ],
)
def test_arguments_of_a_sweep_are_checked_before_it_runs(args: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told.replace("(", r"\(")):
        msgspec.convert(args, SweepArgs)


async def test_a_backtest_takes_symbols_and_securities(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    strategy_id = await made(store, Rules("close > open", symbols=("IBM",)))
    args = BacktestArgs(strategy_id=strategy_id, symbols=["aapl", "MSFT"], securities=["AAPL"], start_date="2012-01-01")

    result = await handlers.backtest(args, children.context("b"))

    assert {instance["ticker"] for instance in result["instances"]} == {"AAPL"}


@pytest.mark.parametrize(
    "args, reason",
    [
        (BacktestArgs(strategy_id=1_000, symbols=["NOPE"]), "NOPE"),
        (
            BacktestArgs(strategy_id=1_000, start_date="2010-01-01", end_date="2009-01-01"),
            "end_date must be on or after",
        ),
        (BacktestArgs(strategy_id=999), "was 999"),
    ],
    ids=["symbol", "dates", "strategy"],
)
async def test_a_backtest_of_what_cannot_be_had_is_declined(
    handlers: TradingHandlers, children: Children, store: Store, args: BacktestArgs, reason: str
) -> None:
    await made(store, Rules("close > open"))

    with pytest.raises(RequestDeclined, match=reason):
        await handlers.backtest(args, children.context("b"))


async def test_a_screening_ranks_by_every_strategy(handlers: TradingHandlers, children: Children, store: Store) -> None:
    first = await made(store, Rules("close > open", rank="roc(close, 20)"), "a")
    second = await made(store, Rules("close > open", rank="-roc(close, 20)"), "b")

    result = await handlers.screening(ScreeningArgs(strategy_ids=[first, str(second), first]), children.context("c"))

    assert (result["success"], result["execution_mode"], result["strategy_id"]) == (True, "screening", first)
    assert (result["universe_size"], result["results_returned"]) == (5, 5)
    assert [each["strategy_id"] for each in result["strategies"]] == [first, second]
    assert set(result["ranked_results"][0]) == {"symbol", "ticker", "score", "current_price", "sector", "data"}
    assert type(result["execution_time_ms"]) is int


async def test_a_screening_keeps_to_universe_and_limit(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    strategy_id = await made(store, Rules("close > open", rank="close"))
    args = ScreeningArgs(strategy_ids=[strategy_id], universe=["aapl", "MSFT", "IBM"], limit=2)

    result = await handlers.screening(args, children.context("c"))

    assert list(result["scores"]) == ["IBM", "AAPL"]
    assert (result["universe_size"], result["results_returned"]) == (3, 2)


async def test_a_screening_of_an_unknown_strategy_is_declined(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    strategy_id = await made(store, Rules("close > open"))

    with pytest.raises(StrategyUnknown, match="was 7"):
        await handlers.screening(ScreeningArgs(strategy_ids=[strategy_id, 7]), children.context("c"))


async def test_an_alert_is_raised_once_a_bar_and_again_for_its_own_task(
    handlers: TradingHandlers, children: Children, store: Store
) -> None:
    strategy_id = await made(store, Rules("close > 0", symbols=("AAPL", "MSFT")))
    args = AlertArgs(strategy_id=strategy_id)

    first = await handlers.alert(args, children.context("a"))
    redelivered = await handlers.alert(args, children.context("a"))
    later = await handlers.alert(args, children.context("b"))

    assert (first["success"], first["execution_mode"], first["error"]) == (True, "realtime", None)
    assert [alert["symbol"] for alert in first["alerts"]] == ["AAPL", "MSFT"]
    assert set(first["alerts"][0]) == {"symbol", "score", "current_price", "sector", "data"}
    assert (first["symbols_monitored"], first["alerts_generated"]) == (2, 2)
    assert redelivered["alerts"] == first["alerts"]
    assert (later["alerts"], later["alerts_generated"], later["symbols_monitored"]) == ([], 0, 2)
    assert len(await store.recent_alerts()) == 2


async def test_stale_bars_raise_no_alert(store: Store, children: Children) -> None:
    handlers = TradingHandlers(store, None, 86_400.0, 0.0, 0.0, None)
    strategy_id = await made(store, Rules("close > 0", symbols=("AAPL",)))

    result = await handlers.alert(AlertArgs(strategy_id=strategy_id), children.context("a"))

    assert (result["alerts"], result["symbols_monitored"]) == ([], 1)


def test_the_types_are_registered(handlers: TradingHandlers) -> None:
    registry = Registry()

    handlers.register(registry)

    assert {each.task_type: (each.uses_pool, each.timeout_s, each.args_type) for each in registry} == {
        "create_strategy": (False, 180, CreateStrategyArgs),
        "backtest": (True, 600, BacktestArgs),
        "report": (True, 600, BacktestArgs),
        "sweep": (True, 3_600, SweepArgs),
        "screening": (True, 300, ScreeningArgs),
        "alert": (True, 120, AlertArgs),
    }


@pytest.mark.parametrize(
    "kind, args",
    [
        (CreateStrategyArgs, {"user_id": 0, "prompt": "p", "strategy_id": None, "retry_count": 2, "retry_reason": "x"}),
        (CreateStrategyArgs, {"user_id": "7", "prompt": "p", "strategy_id": "-1"}),
        (BacktestArgs, {"strategy_id": "12", "user_id": None, "symbols": None, "securities": None, "start_date": None}),
        (BacktestArgs, {"strategy_id": 12, "start_date": "2024-01-31", "end_date": "2024-02-01T10:00:00+01:00"}),
        (BacktestArgs, {"strategy_id": 12, "symbols": [], "start_date": ""}),
        (ScreeningArgs, {"strategy_ids": [1, "2"], "universe": None, "limit": None}),
        (AlertArgs, {"strategy_id": "3", "symbols": ["AAPL"], "user_id": "u"}),
    ],
)
def test_arguments_are_read_leniently_where_the_wire_says_so(kind: type[Any], args: dict[str, Any]) -> None:
    converted = msgspec.convert(args, kind)

    for name in ("strategy_id", "strategy_ids"):
        value = getattr(converted, name, 0)
        assert all(type(each) is int for each in (value if isinstance(value, list) else [value]))


@pytest.mark.parametrize(
    "kind, args, message",
    [
        (CreateStrategyArgs, {"prompt": "p"}, "missing required field `user_id`"),
        (CreateStrategyArgs, {"user_id": 1}, "missing required field `prompt`"),
        (CreateStrategyArgs, {"user_id": 1, "prompt": " \n"}, "prompt must be not blank, was ' \\\\n'"),
        (CreateStrategyArgs, {"user_id": 1, "prompt": 5}, r"Expected `str`, got `int` - at `\$.prompt`"),
        (CreateStrategyArgs, {"user_id": 1, "prompt": "p", "strategy_id": "x"}, "strategy_id must be a whole number"),
        (CreateStrategyArgs, {"user_id": True, "prompt": "p"}, r"\$.user_id"),
        (BacktestArgs, {"strategy_id": None}, "strategy_id or rules must be given"),
        (BacktestArgs, {"strategy_id": 1, "rules": "entry: close > open"}, "one of the two"),
        (BacktestArgs, {"rules": 7}, r"\$.rules"),
        (BacktestArgs, {"strategy_id": 2**63}, "64 bits"),
        (
            BacktestArgs,
            {"strategy_id": 1, "start_date": "soon"},
            "start_date must be YYYY-MM-DD or RFC 3339, was 'soon'",
        ),
        (BacktestArgs, {"strategy_id": 1, "end_date": "2024-02-31"}, "end_date must be"),
        (BacktestArgs, {"strategy_id": 1, "symbols": "AAPL"}, r"\$.symbols"),
        (ScreeningArgs, {"strategy_ids": []}, "strategy_ids must be 1 to 100 ids, was 0"),
        (ScreeningArgs, {"strategy_ids": [1, "b"]}, r"strategy_ids\[1\] must be"),
        (ScreeningArgs, {"strategy_ids": [1], "limit": 0}, "limit must be 1 to 10,000, was 0"),
        (AlertArgs, {}, "strategy_id"),
    ],
)
def test_wrong_arguments_name_the_path_and_the_value(kind: type[Any], args: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(args, kind)


def test_every_user_has_a_number_that_readers_can_hold() -> None:
    assert (owner_number(7), owner_number("7"), owner_number(0), owner_number("")) == (7, 7, 0, 0)
    assert owner_number("auth0|abc") == owner_number(" auth0|abc ") != owner_number("auth0|abd")
    assert 1 << 52 <= owner_number("auth0|abc") < 1 << 53
    assert 1 << 52 <= owner_number("9" * 19) < 1 << 53
