"""Who stands in a ranking, in which order, and how several rankings become one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.bars.store import Bars, BarStore, NoBars
from aworker.trading.rules import compile_program
from aworker.trading.rules.evaluate import evaluate
from aworker.trading.screening import latest, screen
from tests.kit.market import DAY_S, START_S, Recorder, context, make_bars, random_bars, store_of

NOW_S = float(START_S + 30 * DAY_S)
BY_PRICE = {"entry": "close > 15", "rank": "close"}
BY_CHEAPNESS = {"entry": "close > 15", "rank": "0 - close"}
NO_RANK = {"entry": "close > 15"}


def flat(symbol: str, price: float, count: int = 5) -> Bars:
    return make_bars([(price, price, price, price)] * count, symbol)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return store_of(tmp_path, flat("A", 10.0), flat("B", 30.0), flat("C", 20.0), flat("D", 30.0))


def request(path: str, *rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    strategies = [{"strategy_id": place, "rules": each} for place, each in enumerate(rules, start=7)]
    return {"strategies": strategies, "now_s": NOW_S, "market_data_path": path, **fields}


def test_the_highest_rank_stands_first_and_ties_are_alphabetic(path: str) -> None:
    result = screen(request(path, BY_PRICE), context())

    assert [each["symbol"] for each in result["ranked_results"]] == ["B", "D", "C", "A"]
    assert result["scores"] == {"B": 30.0, "D": 30.0, "C": 20.0, "A": 10.0}
    assert result["ranked_results"][3] == {
        "symbol": "A",
        "ticker": "A",
        "score": 10.0,
        "current_price": 10.0,
        "sector": None,
        "data": {
            "timestamp": START_S + 4 * DAY_S,
            "volume": 1_000.0,
            "entry": False,
            "strategy_id": 7,
            "strategies": {"7": {"place": 4, "score": 10.0}},
        },
    }
    assert (result["success"], result["execution_mode"], result["strategy_id"]) == (True, "screening", 7)
    assert (result["universe_size"], result["results_returned"]) == (4, 4)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_without_a_rank_rule_those_that_meet_the_entry_condition_score_one(path: str) -> None:
    result = screen(request(path, NO_RANK), context())

    assert result["scores"] == {"B": 1.0, "C": 1.0, "D": 1.0}


def test_the_limit_keeps_the_highest(path: str) -> None:
    result = screen(request(path, BY_PRICE, limit=2), context())

    assert list(result["scores"]) == ["B", "D"]
    assert len(result["strategies"][0]["ranked_results"]) == 2
    assert (result["universe_size"], result["results_returned"]) == (4, 2)


def test_the_universe_limits_who_is_ranked(path: str) -> None:
    result = screen(request(path, BY_PRICE, universe=["c", "A", "NOPE"]), context())

    assert list(result["scores"]) == ["C", "A"]
    assert result["universe_size"] == 2
    assert result["symbols_without_bars"] == ["NOPE"]


def test_a_strategys_own_symbols_do_not_limit_the_universe(path: str) -> None:
    result = screen(request(path, {**BY_PRICE, "symbols": ["A"]}), context())

    assert result["universe_size"] == 4


def test_every_strategy_is_screened_and_the_best_place_counts(path: str) -> None:
    result = screen(request(path, BY_PRICE, BY_CHEAPNESS), context())

    assert [each["strategy_id"] for each in result["strategies"]] == [7, 8]
    assert [
        [each["symbol"] for each in strategy["ranked_results"]] for strategy in result["strategies"]
    ] == [["B", "D", "C", "A"], ["A", "C", "B", "D"]]  # fmt: skip
    assert [(each["symbol"], each["score"], each["data"]["strategy_id"]) for each in result["ranked_results"]] == [
        ("B", 30.0, 7),
        ("A", -10.0, 8),
        ("D", 30.0, 7),
        ("C", -20.0, 8),
    ]
    assert result["ranked_results"][1]["data"]["strategies"] == {
        "7": {"place": 4, "score": 10.0},
        "8": {"place": 1, "score": -10.0},
    }
    assert result["results_returned"] == 4


def test_one_symbol_stands_once_however_many_strategies_rank_it(path: str) -> None:
    result = screen(request(path, BY_PRICE, BY_PRICE, BY_CHEAPNESS, limit=3), context())

    assert sorted(result["scores"]) == ["A", "B", "D"]
    assert result["results_returned"] == 3


def test_undefined_ranks_and_prices_are_left_out(tmp_path: Path) -> None:
    hole = make_bars([(10.0, 10.0, 10.0, 10.0)] * 9 + [(math.nan,) * 4], "HOLE")
    path = store_of(tmp_path, hole, flat("SHORT", 10.0, 5), random_bars(1, 30, "LONG"), make_bars([], "NONE"))

    by_average = screen(request(path, {"entry": "close > 0", "rank": "sma(close, 20)"}), context())
    by_constant = screen(request(path, {"entry": "close > 0", "rank": "lag(close, 1)"}), context())

    assert list(by_average["scores"]) == ["LONG"]
    assert sorted(by_constant["scores"]) == ["LONG", "SHORT"]
    assert by_average["universe_size"] == 4


def test_stale_bars_are_no_signal(tmp_path: Path) -> None:
    path = store_of(tmp_path, flat("OLD", 10.0, 5), flat("NEW", 10.0, 29))

    off = screen(request(path, BY_PRICE), context())
    on = screen(request(path, BY_PRICE, max_age_s=2.0 * DAY_S), context())
    strict = screen(request(path, BY_PRICE, max_age_s=1.0 * DAY_S), context())

    assert sorted(off["scores"]) == ["NEW", "OLD"]
    assert sorted(on["scores"]) == ["NEW"]
    assert strict["ranked_results"] == []
    assert strict["success"] is True


def test_strategies_of_two_timeframes_read_their_own_bars(tmp_path: Path) -> None:
    path = store_of(tmp_path, flat("DAY", 30.0), random_bars(1, 30, "BOTH"), random_bars(2, 9, "BOTH", step_s=60))

    result = screen(request(path, BY_PRICE, {**BY_PRICE, "timeframe": "1m"}), context())

    assert [len(each["ranked_results"]) for each in result["strategies"]] == [2, 1]
    assert result["strategies"][1]["ranked_results"][0]["score"] == random_bars(2, 9).close[-1]
    assert result["universe_size"] == 2
    assert result["symbols_without_bars"] == []


@pytest.mark.parametrize(
    "rank", ["rsi(close, 14)", "ema(close, 20)", "macd(close, 12, 26, 9)", "atr(14) / close", "adx(14)", "obv()"]
)
def test_the_latest_value_does_not_depend_on_how_much_is_read(rank: str) -> None:
    program = compile_program("close > 0", None, rank)
    bars = BarStore().load("IBM", "1d")

    found = latest(program, bars)

    assert found.rank == pytest.approx(float(evaluate(program, bars).rank[-1]), rel=1e-8)
    assert found.timestamp == bars.timestamp[-1]


def test_only_the_bars_that_the_rules_need_are_evaluated() -> None:
    program = compile_program("close > sma(close, 3)", None, "sma(close, 3)")
    bars = random_bars(1, 100)
    poisoned = bars.close.copy()
    poisoned[:90] = np.nan

    found = latest(program, Bars("TEST", "1d", bars.timestamp, bars.open, bars.high, bars.low, poisoned, bars.volume))

    assert program.tail_bars is not None
    assert program.tail_bars <= 10
    assert found.rank == pytest.approx(bars.close[-3:].mean())


def test_the_sector_is_told_where_it_is_known() -> None:
    asked = {"strategies": [{"strategy_id": 1, "rules": BY_PRICE}], "now_s": NOW_S, "universe": ["AAPL"]}

    (found,) = screen(asked, context())["ranked_results"]

    assert found["sector"] == "Information Technology"


@pytest.mark.parametrize(
    "fields, message",
    [({"limit": 0}, "limit must be >= 1, was 0"), ({"strategies": []}, "strategy_ids must name a strategy")],
)
def test_what_cannot_be_had_is_declined(path: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestDeclined, match=message):
        screen({**request(path, BY_PRICE), **fields}, context())


def test_a_universe_without_bars_is_declined(path: str) -> None:
    with pytest.raises(NoBars, match="was NOPE"):
        screen(request(path, BY_PRICE, universe=["NOPE"]), context())


def test_rules_that_do_not_compile_are_declined(path: str) -> None:
    with pytest.raises(RequestDeclined, match="rules that compile"):
        screen(request(path, {"entry": "close >"}), context())


def test_progress_is_told_and_a_cancel_is_heard(path: str) -> None:
    recorder = Recorder()

    screen(request(path, BY_PRICE), recorder.context())

    assert [report[1] for report in recorder.progress] == ["0 of 4 symbols"]
    with pytest.raises(TaskCancelled, match="cancelled at C"):
        screen(request(path, BY_PRICE), Recorder(cancel_after=2).context())
