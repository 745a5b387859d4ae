"""One account for all symbols: a few bars by hand, the right answers written before the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aworker.trading.backtest.backtest import backtest_chunk, merge_chunks, plan_chunks, run_backtest
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.strategy import (
    Account,
    StrategyInvalid,
    check_rules,
    describe,
    rules_from_source,
    source_text,
)
from tests.kit.market import DAY_S, START_S, context, make_bars, random_bars, store_of


def priced(symbol: str, *prices: float) -> Bars:
    """Return bars that stand still at their price, which opens them."""
    return make_bars([(price, price, price, price) for price in prices], symbol)


A, B = priced("A", 10, 10, 12, 12, 12), priced("B", 20, 20, 20, 10, 10)
BUY_ALL = {"entry": "close > 0", "exit": None, "reentry": "edge", "rank": "close"}


def run(path: Path, account: dict[str, Any], *markets: Bars, rules: dict[str, Any] = BUY_ALL, **costs: float) -> Any:
    markets = markets or (A, B)
    request = {
        "now_s": float(START_S + 30 * DAY_S),
        "start_s": float(START_S),
        "market_data_path": store_of(path, *markets),
        "whole_curve": True,
        "rules": {**rules, "account": {"capital": 1000.0, **account}},
        **costs,
    }
    return run_backtest(request, context())


def worth(made: Any) -> list[float]:
    return [1000 * value for _, value in made["performance_metrics"]["equity_curve"]]


def shares(made: Any) -> dict[str, float]:
    return {trade["symbol"]: trade["strategy_results"]["shares"] for trade in made["instances"]}


@pytest.mark.parametrize(
    "account, bought, equity",
    [
        pytest.param({"max_positions": 2}, {"A": 50, "B": 25}, [1000, 1000, 1100, 850, 850], id="equal parts"),
        pytest.param({}, {"A": 50, "B": 25}, [1000, 1000, 1100, 850, 850], id="equal parts of all symbols"),
        pytest.param({"max_positions": 1}, {"B": 50}, [1000, 1000, 1000, 500, 500], id="the highest rank alone"),
        pytest.param({"size": 0.3}, {"A": 30, "B": 15}, [1000, 1000, 1060, 910, 910], id="a part of the equity"),
        pytest.param({"size": "700"}, {"A": 30, "B": 35}, [1000, 1000, 1060, 710, 710], id="money while there is some"),
        pytest.param(
            {"size": "710", "whole_shares": True}, {"A": 30, "B": 35}, [1000, 1000, 1060, 710, 710], id="whole shares"
        ),
        pytest.param(
            {"size": "15", "whole_shares": True}, {"A": 1, "B": 1}, [1000, 1000, 1002, 1002, 1002], id="dear at first"
        ),
    ],
)
def test_who_gets_how_much(
    tmp_path: Path, account: dict[str, Any], bought: dict[str, float], equity: list[float]
) -> None:
    made = run(tmp_path, account)

    assert shares(made) == pytest.approx(bought)
    assert worth(made) == pytest.approx(equity)


def test_what_is_risked_decides_the_size(tmp_path: Path) -> None:
    rules = {**BUY_ALL, "risk": {"stop_loss": "2"}}

    made = run(tmp_path, {"size": "1% risk"}, rules=rules)

    # 10 of 1,000 over 2 a share; B falls through its stop at 18 and is sold at its open, 10.
    assert shares(made) == pytest.approx({"A": 5, "B": 5})
    assert worth(made) == pytest.approx([1000, 1000, 1010, 960, 960])


def test_costs_of_a_share_and_an_order_are_paid_on_both_sides(tmp_path: Path) -> None:
    rules = {"entry": "close == 10", "exit": "close == 12", "reentry": "level"}

    made = run(tmp_path, {"max_positions": 1}, A, rules=rules, per_share=0.5, per_order=2.0)

    # 998 buy shares at 10.50; they are sold at 12, less 0.50 a share and 2.
    bought = 998 / 10.5
    assert shares(made) == pytest.approx({"A": bought})
    assert worth(made)[1] == pytest.approx(bought * 10)
    assert worth(made)[-1] == pytest.approx(bought * 11.5 - 2)
    assert made["instances"][0]["future_return"] == pytest.approx((bought * 11.5 - 2) / 1000 - 1)
    assert made["made_from"]["per_share"] == 0.5


def test_cash_of_an_open_is_there_for_the_same_open_and_that_of_a_stop_is_not(tmp_path: Path) -> None:
    # X is left at the open of the fourth bar, where Y is bought. Z has a stop inside the third, too late for its open.
    x = priced("X", 10, 10, 11, 11, 11)
    y = priced("Y", 1, 5, 5, 5, 6)
    rules = {"entry": "close == 10 or close == 5", "exit": "since(close == 10) == 1", "reentry": "level"}
    z = make_bars([(10, 10, 10, 10), (10, 10, 10, 10), (10, 10, 8, 8), (8, 8, 8, 8), (8, 8, 8, 8)], "Z")
    stopped = {"entry": "close == 10 or close == 5", "reentry": "level", "risk": {"stop_loss": 0.1}}

    by_rule = run(tmp_path / "1", {"max_positions": 1}, x, y, rules={**rules, "rank": "close"})
    by_stop = run(tmp_path / "2", {"max_positions": 1}, z, y, rules={**stopped, "rank": "close"})

    def bought(made: Any) -> list[tuple[str, int, float]]:
        days = [(trade["timestamp"] - START_S) // DAY_S for trade in made["instances"]]
        return list(zip([trade["symbol"] for trade in made["instances"]], days, shares(made).values(), strict=True))

    assert bought(by_rule) == [("X", 1, 100.0), ("Y", 3, 220.0)]
    assert bought(by_stop) == [("Z", 1, 100.0), ("Y", 3, 180.0)]


def test_the_size_follows_the_equity_of_the_close_before(tmp_path: Path) -> None:
    rules = {"entry": "close == 10 or close == 20", "exit": "close == 12", "reentry": "level"}
    late = priced("L", 1, 1, 1, 20, 20)

    made = run(tmp_path, {"size": 0.5}, A, late, rules=rules)

    # A gains 100 on 500 and is sold at 12; half of 1,100 buys L at 20.
    assert shares(made) == pytest.approx({"A": 50, "L": 27.5})


def test_one_symbol_with_all_the_money_is_the_backtest_without_an_account(tmp_path: Path) -> None:
    bars = random_bars(4, 300, "ONE")
    rules = {
        "entry": "close > sma(close, 5)",
        "exit": "close < sma(close, 5)",
        "short": "close < sma(close, 20)",
        "risk": {"stop_loss": "2 * atr(5)", "trailing_stop": 0.05},
    }
    request = {
        "now_s": float(START_S + 300 * DAY_S),
        "start_s": float(START_S + 30 * DAY_S),
        "market_data_path": store_of(tmp_path, bars),
        "commission": 0.001,
        "slippage": 0.0005,
        "borrow": 0.02,
        "whole_curve": True,
    }

    alone = run_backtest({**request, "rules": rules}, context())
    account = run_backtest({**request, "rules": {**rules, "account": {"max_positions": 1}}}, context())

    for name in ("symbol", "timestamp", "exit_timestamp", "entry_price", "exit_price", "future_return"):
        assert [each[name] for each in account["instances"]] == pytest.approx(
            [each[name] for each in alone["instances"]]
        )
    curves = [np.array(made["performance_metrics"].pop("equity_curve")) for made in (account, alone)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-10)
    held = [made["performance_metrics"].pop("buy_and_hold") for made in (account, alone)]
    assert held[0] == held[1]
    assert account["performance_metrics"] == pytest.approx(alone["performance_metrics"], rel=1e-9)


def test_an_account_is_one_chunk_whatever_the_symbols(tmp_path: Path) -> None:
    path = store_of(tmp_path, *(random_bars(seed, 60, f"S{seed:03}") for seed in range(300)))
    request = {
        "now_s": float(START_S + 60 * DAY_S),
        "market_data_path": path,
        "rules": {"entry": "close > sma(close, 5)", "exit": "close < sma(close, 5)", "account": {"max_positions": 7}},
    }

    plan = plan_chunks(request, context())
    made = merge_chunks(plan["request"], [backtest_chunk(each, context()) for each in plan["chunks"]], context())

    assert len(plan["chunks"]) == 1
    assert made["summary"]["symbols_processed"] == 300
    assert most_held(made["instances"]) == 7


def most_held(trades: list[dict[str, Any]]) -> int:
    """Return how many trades overlap at most; one that ends at an open makes room for one that begins there."""
    far = 1e18
    events = [(trade["timestamp"], 1) for trade in trades]
    events += [(trade["exit_timestamp"] or far, 0 if at_open(trade) else 2) for trade in trades]
    held = most = 0
    for _, kind in sorted(events):
        held += 1 if kind == 1 else -1
        most = max(most, held)
    return most


def at_open(trade: dict[str, Any]) -> bool:
    return trade["strategy_results"]["exit_reason"] in ("signal", "max_bars", "flat")


def test_an_account_is_written_as_it_is_read() -> None:
    rules = rules_from_source(
        "entry: close > 1 stop_loss: 5% capital: 50000 max_positions: 8 size: 1% risk whole_shares: yes"
    )

    assert rules.account == Account(capital=50_000.0, max_positions=8, size="1% risk", whole_shares=True)
    assert rules_from_source(source_text(rules)) == rules == check_rules(rules)
    assert "at most 8 positions" in describe(rules)


@pytest.mark.parametrize(
    "written, size",
    [
        ("size: 10%", 0.1),
        ("size: 0.25", 0.25),
        ("size: $5000", "5000"),
        ("size: risk 2%", "2% risk"),
        ("size: equal", None),
    ],
)
def test_a_size_is_a_part_money_or_a_risk(written: str, size: object) -> None:
    rules = rules_from_source(f"entry: close > 1 stop_loss: 5% max_positions: 4 {written}")

    assert rules.account is not None
    assert rules.account.size == size
    assert rules_from_source(source_text(rules)) == rules


@pytest.mark.parametrize(
    "written, message",
    [
        ("capital: 0", "rules.account.capital must be above 0"),
        ("max_positions: 0", "rules.account.max_positions must be 1 to 5,000"),
        ("max_positions: many", "source.max_positions must be a whole number"),
        ("size: 150%", "rules.account.size must be a fraction, 0 < x <= 1, was 1.5"),
        ("size: 1% risk", "rules.account.size must be with a stop, was '1% risk'"),
        ("size: lots", "source.size must be equal, a percentage of the equity, money or a risk, was 'lots'"),
        ("whole_shares: perhaps", "source.whole_shares must be yes or no, was 'perhaps'"),
    ],
)
def test_what_no_account_can_be_is_said(written: str, message: str) -> None:
    with pytest.raises(StrategyInvalid, match=message):
        rules_from_source(f"entry: close > 1 {written}")
