"""Symbols as one portfolio: exact sums, and parts that join in any order."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import pytest

from aworker.errors import RequestDeclined
from aworker.trading.backtest.portfolio import Joined, Portfolio, join
from aworker.trading.backtest.simulation import Simulation, simulate
from aworker.trading.bars.store import Bars
from aworker.trading.strategies.strategy import Risk
from tests.kit.market import DAY_S, START_S, flags, make_bars, random_bars


def held(bars: Bars) -> Simulation:
    return simulate(bars, flags(len(bars), 0), None, Risk())


def joined(*parts: list[Bars], limit: int = 100) -> Joined:
    packed = []
    for markets in parts:
        portfolio = Portfolio(commission=0.0)
        for bars in markets:
            portfolio.add(bars, held(bars))
        packed.append(msgspec.msgpack.decode(msgspec.msgpack.encode(portfolio.packed(limit))))
    found = join(packed, limit)
    assert found is not None
    return found


def test_nothing_joins_to_nothing() -> None:
    assert join([], 10) is None
    assert join([Portfolio(0.0).packed(10)], 10) is None


def test_a_part_without_symbols_changes_nothing() -> None:
    bars = random_bars(1, 20)

    assert joined([bars], []).equity.tolist() == joined([bars]).equity.tolist()


def test_one_symbol_is_the_portfolio_to_the_bit() -> None:
    bars = make_bars([(10.0, 40.0, 10.0, 10.0 + day * 0.37) for day in range(50)])

    found = joined([bars])

    assert found.equity.tolist() == held(bars).equity.tolist()
    assert found.market.tolist() == (bars.close / bars.close[0]).tolist()


def test_the_mean_is_that_of_exact_arithmetic() -> None:
    markets = [random_bars(seed, 30, f"S{seed}") for seed in range(50)]

    found = joined(markets)

    for bar in range(30):
        exact = sum(Fraction(held(bars).equity[bar]) for bars in markets) / 50
        assert found.equity[bar] == pytest.approx(float(exact), rel=1e-15)


def test_curves_are_one_before_their_first_bar_and_stay_after_their_last() -> None:
    early = make_bars([(10.0, 20.0, 10.0, 10.0), (10.0, 20.0, 10.0, 20.0)], "EARLY")
    late = make_bars([(10.0, 20.0, 10.0, 10.0), (10.0, 20.0, 5.0, 5.0)], "LATE", start_s=START_S + 3 * DAY_S)

    for parts in ([[early, late]], [[early], [late]], [[late], [early]]):
        found = joined(*parts)

        assert found.timestamp.tolist() == [START_S + day * DAY_S for day in (0, 1, 3, 4)]
        assert found.equity.tolist() == [1.0, 1.5, 1.5, 1.25]


def test_the_latest_trades_are_listed_by_entry_then_symbol() -> None:
    markets = [random_bars(seed, 9, f"S{seed}", START_S + (seed % 2) * DAY_S) for seed in range(6)]

    every = joined(markets[:3], markets[3:]).instances
    some = joined(markets[3:], markets[:3], limit=4).instances

    assert [trade["symbol"] for trade in every] == ["S0", "S2", "S4", "S1", "S3", "S5"]
    assert some == every[-4:]


def test_sums_that_would_not_be_exact_are_declined() -> None:
    rows = [(1.0, 1.0, 1.0, 1.0), (1.0, 2e9, 1.0, 2e9)]

    fits = joined([make_bars(rows, f"S{number}") for number in range(60)])

    assert fits.equity[-1] == 2e9
    with pytest.raises(RequestDeclined, match="equity of all symbols must stay below 137438953472 times"):
        joined([make_bars(rows, f"S{number}") for number in range(40)], [make_bars(rows, f"T{n}") for n in range(40)])


def test_wins_and_losses_are_counted_over_all_parts() -> None:
    up = make_bars([(10.0, 20.0, 10.0, 10.0), (10.0, 20.0, 10.0, 15.0)], "UP")
    down = make_bars([(10.0, 20.0, 10.0, 10.0), (10.0, 20.0, 5.0, 8.0)], "DOWN")

    found = joined([up], [down])

    assert (found.symbols, found.bars, found.bars_held) == (["DOWN", "UP"], 4, 2)
    assert (found.trades, found.wins, found.open_trades) == (2, 1, 2)
    assert [found.best, found.worst] == pytest.approx([0.5, -0.2])
    assert [found.profit, found.loss, found.returns] == pytest.approx([0.5, 0.2, 0.3])
    assert found.traded == pytest.approx(2.0)
    assert np.mean(found.equity) == pytest.approx((1 + 1.15) / 2)
