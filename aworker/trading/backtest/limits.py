"""Where the stops and targets of a trade stand, and in which bar the first of them is met.

A limit is a fraction of the entry price or what a rule says (`Risk`); what rules say stands in ``levels``, one value a
bar. A stop moves only with what was known at the close before: the highest price since the entry, a rule's value. The
highest stop counts; where several stand at one price, the first of stop_loss, break_even, trailing_stop, stop_price.

Invariant: a bar's stop and target depend on earlier bars and the entry price only.

Why in blocks that grow: a long search costs its length, a short one does not pay for the rest of the data.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aworker.trading.bars.store import Bars
from aworker.trading.strategies.parts import name_of
from aworker.trading.strategies.strategy import LIMITS, Risk, multiple_of_risk

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

REASONS = (
    "signal",
    "stop_loss",
    "trailing_stop",
    "take_profit",
    "max_bars",
    "open",
    "break_even",
    "stop_price",
    "target_price",
    "flat",
    "ruin",
    "scale_out",
)
"""Why a trade ended; ``open`` is one that has not."""
(
    SIGNAL,
    STOP,
    TRAIL,
    TARGET,
    MAX_BARS,
    OPEN,
    BREAK_EVEN,
    STOP_PRICE,
    TARGET_PRICE,
    FLAT,
    RUIN,
    SCALE_OUT,
) = range(12)

Hit = tuple[int, float, int]
"""The bar, the price before slippage and the reason."""

_FIRST_SEARCH = 64


class Limits:
    """The limits of one side of a symbol's trades; ``levels`` are what the rules of ``risk`` say at the bars' closes.

    Of shorts (``side`` -1) all prices are counted negative, so that falling is rising; only the stop at which all is
    lost is theirs alone.
    """

    def __init__(self, bars: Bars, risk: Risk, levels: Mapping[str, Floats], side: int = 1) -> None:
        self._side = side
        self._open, self._high, self._low = bars.open, bars.high, bars.low
        if side < 0:
            self._open, self._high, self._low = -bars.open, -bars.low, -bars.high
            prices = {name: -levels[name] for name in ("stop_price", "target_price") if name in levels}
            levels = {**levels, **prices}
        self._risk = risk
        self._levels = levels
        has_rules = any(name in levels for name in LIMITS)
        is_plain = side > 0 and not has_rules and risk.break_even is None and not isinstance(risk.take_profit, str)
        self.first_hit = self._first_plain_hit if is_plain else self._first_hit
        self.is_there = side < 0 or any(getattr(risk, name) is not None for name in LIMITS)

    def known(self) -> Booleans | None:
        """Return at which closes all limits are defined, so that a trade may be signalled; None = at all."""
        known: Booleans | None = None
        for name, level in self._levels.items():
            is_known = ~np.isnan(level) if name in ("stop_price", "target_price") else level > 0.0
            known = is_known if known is None else known & is_known
        return known

    def _first_plain_hit(self, start: int, end: int, paid: float) -> Hit | None:
        # Fractions alone, as most strategies have them.
        risk, open_, high, low = self._risk, self._open, self._high, self._low
        floor = paid * (1.0 - _fraction(risk.stop_loss)) if risk.stop_loss is not None else 0.0
        target = paid * (1.0 + _fraction(risk.take_profit)) if risk.take_profit is not None else np.inf
        keep = 1.0 - _fraction(risk.trailing_stop) if risk.trailing_stop is not None else None
        peak, width = paid, _FIRST_SEARCH
        while start < end:
            stop = min(start + width, end)
            level: Floats | float = floor
            if keep is not None:
                peaks = np.empty(stop - start)
                peaks[0], peaks[1:] = peak, high[start : stop - 1]
                np.maximum.accumulate(peaks, out=peaks)
                peak = max(peaks.item(-1), high.item(stop - 1))
                level = np.maximum(peaks * keep, floor)
            hits = low[start:stop] <= level
            if target != np.inf:
                hits |= high[start:stop] >= target
            first = int(hits.argmax())
            if hits[first]:
                bar = start + first
                limit = level.item(first) if isinstance(level, np.ndarray) else level
                if low.item(bar) > limit:
                    return bar, target, TARGET
                return bar, min(limit, open_.item(bar)), TRAIL if limit > floor else STOP
            start, width = stop, width * 4
        return None

    def _first_hit(self, start: int, end: int, paid: float) -> Hit | None:
        side = self._side
        paid *= side
        floor = paid - self._distance("stop_loss", start, paid, np.inf)
        risked = paid - self._initial_stop(start, paid)
        target = paid + self._distance("take_profit", start, paid, np.inf, risked)
        even_from = paid + self._distance("break_even", start, paid, np.inf, risked)
        ruin = 2.0 * paid if side < 0 else -np.inf
        peak, trail, width = paid, -np.inf, _FIRST_SEARCH
        while start < end:
            stop = min(start + width, end)
            peaks = np.empty(stop - start)
            peaks[0], peaks[1:] = peak, self._high[start : stop - 1]
            np.maximum.accumulate(peaks, out=peaks)
            peak = max(peaks.item(-1), self._high.item(stop - 1))
            trails, prices = self._moving(start, stop, peaks, trail)
            trail = trails.item(-1)
            evens = np.where(peaks >= even_from, paid, -np.inf)
            level = np.maximum(np.maximum(np.maximum(trails, prices), evens), max(floor, ruin))
            hits = self._low[start:stop] <= level
            targets = np.fmin(self._before("target_price", start, stop, np.inf), target)
            hits |= self._high[start:stop] >= targets
            first = int(hits.argmax())
            if hits[first]:
                bar, limit, opened = start + first, level.item(first), self._open.item(start + first)
                if self._low.item(bar) > limit:
                    if targets.item(first) == target:
                        return bar, side * target, TARGET
                    return bar, side * max(targets.item(first), opened), TARGET_PRICE
                stops = (
                    (STOP, floor),
                    (BREAK_EVEN, evens.item(first)),
                    (TRAIL, trails.item(first)),
                    (STOP_PRICE, prices.item(first)),
                )
                reason = next((each for each, price in stops if price == limit), RUIN)
                got = min(limit, opened)
                return bar, side * got, RUIN if got <= ruin else reason
            start, width = stop, width * 4
        return None

    def opening(self, bar: int) -> float:
        """Return the opening price of a bar."""
        return self._side * self._open.item(bar)

    def target_of_part(self, place: int, start: int, paid: float) -> float:
        """Return the price at which a part of a trade is sold, counted as this side counts prices."""
        mirrored = self._side * paid
        at = self._risk.scale_out[place].at
        multiple = multiple_of_risk(at) if isinstance(at, str) else None
        if multiple is not None:
            return mirrored + multiple * self.risked(start, paid)
        if isinstance(at, str):
            return mirrored + self._levels[name_of(place)].item(start - 1)
        return mirrored + paid * (at or 0.0)

    def reached(self, start: int, end: int, target: float) -> int | None:
        """Return the first of the bars whose high is a target's price at least."""
        width = _FIRST_SEARCH
        while start < end:
            stop = min(start + width, end, len(self._high))
            if start >= stop:
                return None
            hits = self._high[start:stop] >= target
            first = int(hits.argmax())
            if hits[first]:
                return start + first
            start, width = stop, width * 4
        return None

    def risked(self, start: int, paid: float) -> float:
        """Return the distance from the entry price of a trade to the stop that it begins with; infinite without one."""
        return self._side * paid - self._initial_stop(start, self._side * paid)

    def _initial_stop(self, start: int, paid: float) -> float:
        floor = paid - self._distance("stop_loss", start, paid, np.inf)
        return max(floor, *(each.item(0) for each in self._moving(start, start + 1, np.array([paid]), -np.inf)))

    def _distance(self, name: str, start: int, paid: float, without: float, risked: float = 0.0) -> float:
        value = getattr(self._risk, name)
        if value is None:
            return without
        if name in self._levels:
            return self._levels[name].item(start - 1)
        multiple = multiple_of_risk(value) if isinstance(value, str) else None
        return abs(paid) * _fraction(value) if multiple is None else multiple * risked

    def _moving(self, start: int, stop: int, peaks: Floats, trail: float) -> tuple[Floats, Floats]:
        # The trailing stop, which never falls, and the one at a rule's price, in each bar.
        prices = self._before("stop_price", start, stop, -np.inf)
        distance = self._risk.trailing_stop
        if distance is None:
            return np.full(stop - start, -np.inf), prices
        if not isinstance(distance, str):
            # As the stop_loss is counted, so that one of the same size stands at the same price.
            return peaks - np.abs(peaks) * distance, prices
        trails = peaks - self._levels["trailing_stop"][start - 1 : stop - 1]
        trails[0] = np.fmax(trails[0], trail)
        return np.fmax.accumulate(trails), prices

    def _before(self, name: str, start: int, stop: int, without: float) -> Floats:
        level = self._levels.get(name)
        if level is None:
            return np.full(stop - start, without)
        before = level[start - 1 : stop - 1]
        return np.where(np.isnan(before), without, before)


def _fraction(value: float | str) -> float:
    # A text is a rule, whose values stand in the levels.
    return float(value)
