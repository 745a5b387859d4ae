"""What a backtest's figures assume, checked against the bars they were made of, and what they were made from.

Invariant: a figure that the bars do not carry is said beside it, in words, in the same order whatever the chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aworker.trading.backtest.performance import TRADING_DAYS_PER_YEAR
from aworker.trading.bars.store import COLUMNS, Bars, instant_text, timeframe_s
from aworker.trading.strategies.strategy import Rules, source_text

_DAY_S = 86_400
_NAMED = 5
_LATE_DAYS = 10
"""Days that a symbol's bars may end before those of the others."""
_COARSE = 4.5
"""Times the timeframe that bars may usually lie apart; over a weekend of holidays daily bars are 4 days apart."""
_FEW_BARS = 30


def facts_of(window: Bars, entry_at: NDArray[np.int64], is_open: bool) -> list[Any]:
    """Return what is to be known of one symbol: name, first and last bar, bars, usual step, fills, open trade, print.

    ``entry_at`` are the instants of the entries. Fills count those at bars that had no volume, of a symbol that has
    volume at all.
    """
    steps = np.diff(window.timestamp)
    usual = float(np.median(steps)) if len(steps) else 0.0
    has_volume = bool((window.volume > 0).any())
    entered = np.searchsorted(window.timestamp, entry_at)
    quiet = int(np.count_nonzero(window.volume[entered] <= 0)) if has_volume else 0
    first, last = (int(window.timestamp[place]) for place in (0, -1))
    return [window.symbol, first, last, len(window), usual, quiet, is_open, _fingerprint(window)]


def facts_of_bars(bars: Bars) -> list[Any]:
    """Return what is to be known of a symbol that the rules look at: name, first and last bar or None, bars, print."""
    first, last = (int(bars.timestamp[place]) if len(bars) else None for place in (0, -1))
    return [bars.symbol, first, last, len(bars), _fingerprint(bars)]


def _fingerprint(bars: Bars) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name in COLUMNS:
        digest.update(np.ascontiguousarray(getattr(bars, name)).data)
    return digest.hexdigest()


def warnings_of(
    timeframe: str, facts: Iterable[list[Any]], others: list[list[Any]], periods: float, note: str | None
) -> list[str]:
    """Return what somebody must know before believing the figures, each in a sentence."""
    known = sorted(facts)
    said = [] if note is None else [note]
    bar_s = timeframe_s(timeframe)
    coarse = [each for each in known if each[3] > 2 and each[4] >= _COARSE * bar_s]
    if coarse:
        days = coarse[0][4] / _DAY_S
        said.append(
            f"The bars of {_names(coarse)} lie about {days:.3g} days apart and are taken as {timeframe}: "
            "import them with their own timeframe"
        )
    usual = {365.0, float(TRADING_DAYS_PER_YEAR), 52.0}
    if bar_s >= _DAY_S and min(abs(periods / each - 1) for each in usual) > 1e-9:
        said.append(f"A year is counted with {periods:.4g} bars, as many as there are, not with 252 or 365")
    end = max((each[2] for each in known), default=0)
    ended = [each for each in known if each[2] < end - max(_LATE_DAYS * _DAY_S, 3 * bar_s)]
    if ended:
        held = [each for each in ended if each[6]]
        said.append(
            f"The bars of {_names(ended)} end before the others'"
            + (f"; trades of {_names(held)} are still open there, at the last close" if held else "")
            + f" (the first at {instant_text(min(each[2] for each in ended), timeframe)})"
        )
    for name, first, last, *_ in others:
        if last is None or last < end - max(_LATE_DAYS * _DAY_S, 3 * bar_s):
            there = "are all later" if last is None else f"end on {instant_text(last, timeframe)}"
            said.append(f"The bars of {name}, which the rules look at, {there}: such a rule is undefined there")
        elif first > min(each[1] for each in known):
            said.append(
                f"The bars of {name}, which the rules look at, begin on {instant_text(first, timeframe)}: "
                "such a rule is undefined before"
            )
    quiet = [each for each in known if each[5]]
    if quiet:
        count = sum(each[5] for each in quiet)
        said.append(f"{count:,} entries of {_names(quiet)} are at bars without volume, where nobody traded")
    short = [each for each in known if each[3] < _FEW_BARS]
    if short:
        said.append(f"{_names(short)} {'has' if len(short) == 1 else 'have'} fewer than {_FEW_BARS} bars in the window")
    return said


def made_from(
    rules: Rules,
    facts: Iterable[list[Any]],
    window: list[str],
    costs: dict[str, float],
    version: int | None,
    others: list[list[Any]],
) -> dict[str, Any]:
    """Return what a result was made from: the same of all of it gives the same figures to the last bit."""
    digest = hashlib.blake2b(digest_size=8)
    count = 0
    for each in sorted(facts):
        digest.update(f"{each[0]} {each[3]} {each[7]}\n".encode())
        count += each[3]
    return {
        "aworker": version_of("aworker"),
        "rules": source_text(rules).splitlines(),
        "strategy_version": version,
        "window": window,
        "bars": {"count": count, "fingerprint": digest.hexdigest()},
        **({"others": {each[0]: {"count": each[3], "fingerprint": each[4]} for each in others}} if others else {}),
        **costs,
    }


def _names(found: list[list[Any]]) -> str:
    names = [str(each[0]) for each in found]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
