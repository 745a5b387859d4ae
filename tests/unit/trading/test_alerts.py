"""Which symbols raise an alert, and what an alert says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from aworker.errors import RequestDeclined, TaskCancelled
from aworker.trading.alerts import check_alert
from aworker.trading.bars.store import Bars, NoBars
from tests.kit.market import DAY_S, START_S, Recorder, context, make_bars, store_of

NOW_S = float(START_S + 10 * DAY_S)
ABOVE = {"entry": "close > 15"}


def closing(symbol: str, *closes: float) -> Bars:
    return make_bars([(close, close, close, close) for close in closes], symbol)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return store_of(
        tmp_path, closing("UP", 10, 20), closing("DOWN", 20, 10), closing("HIGH", 30, 30), closing("LATE", 9, 9, 40)
    )


def request(path: str, rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rules": rules, "now_s": NOW_S, "strategy_id": 7, "market_data_path": path, **fields}


def test_the_condition_is_asked_of_the_latest_bar(path: str) -> None:
    result = check_alert(request(path, ABOVE), context())

    assert result == {
        "success": True,
        "execution_mode": "realtime",
        "strategy_id": 7,
        "alerts": [
            {
                "symbol": symbol,
                "timestamp": START_S + day * DAY_S,
                "score": 1.0,
                "current_price": price,
                "sector": None,
                "data": {"timestamp": START_S + day * DAY_S, "timeframe": "1d", "volume": 1_000.0},
            }
            for symbol, day, price in (("HIGH", 1, 30.0), ("LATE", 2, 40.0), ("UP", 1, 20.0))
        ],
        "symbols_monitored": 4,
        "symbols_stale": 0,
        "symbols_without_bars": [],
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_crossing_alerts_on_its_own_bar_only(path: str) -> None:
    result = check_alert(request(path, {"entry": "crosses_above(close, 15)"}), context())

    assert [alert["symbol"] for alert in result["alerts"]] == ["LATE", "UP"]


def test_the_rank_rule_gives_the_score_and_the_order(path: str) -> None:
    result = check_alert(request(path, {**ABOVE, "rank": "close"}), context())

    assert [(alert["symbol"], alert["score"]) for alert in result["alerts"]] == [
        ("LATE", 40.0),
        ("HIGH", 30.0),
        ("UP", 20.0),
    ]


def test_an_undefined_score_is_one(path: str) -> None:
    result = check_alert(request(path, {**ABOVE, "rank": "sma(close, 50)"}), context())

    assert {alert["score"] for alert in result["alerts"]} == {1.0}


def test_symbols_asked_for_come_before_the_strategys_own(path: str) -> None:
    rules = {**ABOVE, "symbols": ["UP", "DOWN"]}

    own = check_alert(request(path, rules), context())
    asked = check_alert(request(path, rules, symbols=["high", "NOPE"]), context())

    assert ([alert["symbol"] for alert in own["alerts"]], own["symbols_monitored"]) == (["UP"], 2)
    assert ([alert["symbol"] for alert in asked["alerts"]], asked["symbols_monitored"]) == (["HIGH"], 1)
    assert asked["symbols_without_bars"] == ["NOPE"]


def test_stale_bars_raise_no_alert(path: str) -> None:
    fresh = check_alert(request(path, ABOVE, max_age_s=8.5 * DAY_S), context())
    off = check_alert(request(path, ABOVE, max_age_s=0.0), context())

    assert [alert["symbol"] for alert in fresh["alerts"]] == ["LATE"]
    assert (fresh["symbols_monitored"], fresh["symbols_stale"]) == (4, 3)
    assert len(off["alerts"]) == 3


def test_a_bar_without_a_price_raises_no_alert(tmp_path: Path) -> None:
    path = store_of(tmp_path, make_bars([(20.0, 21.0, 19.0, math.nan)], "HOLE"), closing("NONE"))

    result = check_alert(request(path, {"entry": "open > 15"}), context())

    assert result["alerts"] == []
    assert result["symbols_monitored"] == 2


def test_what_cannot_be_had_is_declined(path: str) -> None:
    with pytest.raises(NoBars, match="was NOPE"):
        check_alert(request(path, ABOVE, symbols=["NOPE"]), context())
    with pytest.raises(RequestDeclined, match="rules that compile"):
        check_alert(request(path, {"entry": "close"}), context())


def test_a_cancel_is_heard(path: str) -> None:
    with pytest.raises(TaskCancelled, match="cancelled at HIGH"):
        check_alert(request(path, ABOVE), Recorder(cancel_after=1).context())
