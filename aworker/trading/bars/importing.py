"""Bars brought into the store from foreign files: checked, mended or refused, merged, and a report of what was done.

Invariant: an import is whole or not at all, and what it stores is what the file says; rows that would have to be made
up or mixed are dropped and counted, or the file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aworker.trading.bars.foreign import ForeignBars, Unreadable, read_foreign
from aworker.trading.bars.store import (
    COLUMNS,
    PRICES,
    Bars,
    BarsInvalid,
    BarStore,
    checked_symbol,
    instant_text,
    timeframe_s,
)
from aworker.trading.bars.values import Told
from aworker.trading.strategies.strategy import TIMEFRAMES

GAPS_SHOWN = 20
_DAY_S = 86_400
_TOO_FAR = "no --timeframe is longer than a week, take bars of a week or less"
_FEW = 0.2
"""The share of rows that may be dropped for their prices."""
_FEW_UNREADABLE = 0.3
_MANY = 10
_COARSE = 4.5
"""Times the timeframe that rows may usually lie apart: a share that seldom trades has holes."""
_JUMP = 0.4
_JUMPS_SHOWN = 5
_SPLITS = (1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 50.0, 100.0)
_SPLIT_NEAR = 0.08
_UNADJUSTED = 1e-3


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import kept of one symbol, what it mended and what it dropped. Counts are rows."""

    symbol: str
    timeframe: str
    rows_before: int
    """Bars that were stored of the symbol; 0 when their file could not be read."""
    rows_read: int
    rows_stored: int
    first_timestamp: int | None
    last_timestamp: int | None
    out_of_order: int
    """Rows that stood before an older one; they were sorted."""
    dropped_duplicate: int
    """Rows of an instant that a later row has too; the last one was kept."""
    dropped_unreadable: int
    """Rows whose instant or a price is no number."""
    first_unreadable: Unreadable | None
    """The first of them; None when all could be read."""
    dropped_not_positive: int
    """Rows with a price of zero or below."""
    dropped_high_below_low: int
    first_high_below_low: str | None
    """Where the first of them stands: ``line 7`` or ``row 6``."""
    widened: int
    """Rows whose open or close stood outside low to high; the range was widened to hold them."""
    volume_missing: int
    """Rows whose volume was missing or negative and is stored as 0."""
    unadjusted: int
    """Rows whose adjusted close differs from the close by more than 0.1 %, when they were not adjusted by it."""
    taken: list[str]
    """What was taken for what: columns, zone, units, spelling, what was left out."""
    warnings: list[str]
    """What may be wrong with the bars: jumps, splits that look as if nobody took them out."""
    gaps: list[list[int]]
    """[last timestamp before, first after] of holes: over five days, or over one bar inside a day. At most 20."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-like object."""
        return asdict(self)


def import_bars(
    store: BarStore,
    file: str | os.PathLike[str],
    timeframe: str | None = None,
    symbol: str | None = None,
    *,
    mode: Literal["replace", "merge"] = "replace",
    adjust: bool = False,
    told: Told | None = None,
    is_dry: bool = False,
) -> list[ImportReport]:
    """Check the bars of a file as tools write it and store them, one report per symbol.

    What a file may be is in docs/bars.md; ``timeframe`` None = found from how far apart the rows are, ``told`` says
    what cannot be told from the file, ``is_dry`` stores nothing.
    ``merge`` keeps older bars of other instants. ``adjust`` multiplies the prices by
    adjusted close / close (column ``adj close``) and divides the volume by it, so that the money traded in a bar stays
    and no split looks like a burst of volume.
    Raises BarsInvalid when a column is missing, no row of a symbol is usable or its rows are finer than the timeframe;
    then nothing at all is stored.
    """
    found: list[ForeignBars] | None = None
    if timeframe is None:
        # As days, for then nothing need be told to see how far apart rows are.
        found = read_foreign(Path(file), symbol, step_s=_DAY_S, adjust=adjust, told=told)
        timeframe = _timeframe_of(found)
        found = found if timeframe_s(timeframe) >= _DAY_S else None
    step_s = timeframe_s(timeframe)
    if found is None:
        found = read_foreign(Path(file), symbol, step_s=step_s, adjust=adjust, told=told)
    checked = [_check(rows, timeframe, step_s, adjust) for rows in found]
    reports: list[ImportReport] = []

    def stored() -> Iterator[Bars]:
        for new, report in checked:
            bars, before = _joined(store, new) if mode == "merge" else (new, _count(store, new))
            reports.append(
                replace(
                    report,
                    rows_before=before,
                    rows_stored=len(bars),
                    first_timestamp=int(bars.timestamp[0]),
                    last_timestamp=int(bars.timestamp[-1]),
                    gaps=_gaps(bars.timestamp, step_s),
                )
            )
            yield bars

    if is_dry:
        for _ in stored():
            pass
    else:
        store.write_many(stored())
    return reports


def _check(rows: ForeignBars, timeframe: str, step_s: int, adjust: bool) -> tuple[Bars, ImportReport]:
    safe = checked_symbol(rows.symbol)
    prices = [getattr(rows, price) for price in PRICES]
    if adjust and rows.adjusted is not None:
        prices.append(rows.adjusted)
    readable = np.isfinite(rows.timestamp)
    positive = np.ones(len(rows), np.bool_)
    for price in prices:
        readable &= np.isfinite(price)
        positive &= price > 0
    positive &= readable
    usable = positive & (rows.high >= rows.low)
    unreadable, not_positive, high_below_low = (
        int(np.count_nonzero(found)) for found in (~readable, readable & ~positive, positive & ~usable)
    )
    kept = np.flatnonzero(usable)
    if len(kept) and not_positive > _FEW * len(rows):
        raise BarsInvalid(
            f"bars of {safe} must have prices above zero, was {not_positive:,} of {len(rows):,} rows without; "
            "prices that were adjusted below zero cannot be traded, take unadjusted ones"
        )
    if not len(kept):
        raise _unusable(safe, rows, unreadable, not_positive, high_below_low)
    first = rows.first_unreadable
    if len(rows) >= _MANY and unreadable > _FEW_UNREADABLE * len(rows) and first is not None:
        raise BarsInvalid(
            f"bars of {safe} must be readable, was {unreadable:,} of {len(rows):,} rows with a date or price that "
            f"cannot be read (the first in {first}); {first.advice}"
        )
    _refuse_finer(safe, rows.timestamp[kept], timeframe, step_s)
    # Days and weeks start at midnight UTC, whatever hour the source gave them.
    grain_s = 86_400 if step_s >= 86_400 else 1
    instant = (rows.timestamp[kept] // grain_s).astype(np.int64) * grain_s
    out_of_order = int(np.count_nonzero(np.diff(instant) < 0))
    if out_of_order:
        order = np.argsort(instant, kind="stable")
        kept, instant = kept[order], instant[order]
    last_of_instant = np.append(np.diff(instant) != 0, True)
    duplicates = int(np.count_nonzero(~last_of_instant))
    if duplicates:
        _refuse_conflicts(safe, rows.close[kept], instant)
        kept, instant = kept[last_of_instant], instant[last_of_instant]
    open_, high, low, close, volume = (getattr(rows, name)[kept] for name in COLUMNS[1:])
    unadjusted = 0
    if rows.adjusted is not None:
        ratio = rows.adjusted[kept] / close
        if adjust:
            open_, high, low, close, volume = open_ * ratio, high * ratio, low * ratio, close * ratio, volume / ratio
        else:
            unadjusted = int(np.count_nonzero(np.abs(ratio - 1.0) > _UNADJUSTED))
    top, bottom = np.maximum(high, np.maximum(open_, close)), np.minimum(low, np.minimum(open_, close))
    volume_ok = np.isfinite(volume) & (volume >= 0)
    report = ImportReport(
        symbol=safe,
        timeframe=timeframe,
        rows_before=0,
        rows_read=len(rows),
        rows_stored=len(instant),
        first_timestamp=None,
        last_timestamp=None,
        out_of_order=out_of_order,
        dropped_duplicate=duplicates,
        dropped_unreadable=unreadable,
        first_unreadable=rows.first_unreadable,
        taken=list(rows.notes),
        dropped_not_positive=not_positive,
        dropped_high_below_low=high_below_low,
        first_high_below_low=rows.place_of(int(np.flatnonzero(positive & ~usable)[0])) if high_below_low else None,
        widened=int(np.count_nonzero((top != high) | (bottom != low))),
        volume_missing=int(np.count_nonzero(~volume_ok)),
        unadjusted=unadjusted,
        warnings=[*_no_volume(volume), *_implausible(instant, close, timeframe)],
        gaps=[],
    )
    return Bars(safe, timeframe, instant, open_, top, bottom, close, np.where(volume_ok, volume, 0.0)), report


def _no_volume(volume: NDArray[np.float64]) -> list[str]:
    return ["volume is 0 in every bar: rules that ask for volume say nothing"] if not volume.any() else []


def _implausible(instant: NDArray[np.int64], close: NDArray[np.float64], timeframe: str) -> list[str]:
    """Return what a person would look at twice: jumps above 40 %, and those that are the ratio of a split."""
    if len(close) < 2:
        return []
    ratio = close[1:] / close[:-1]
    places = np.flatnonzero((ratio > 1 + _JUMP) | (ratio < 1 / (1 + _JUMP)))
    said: list[str] = []
    for place in places[:_JUMPS_SHOWN]:
        factor = max(ratio[place], 1 / ratio[place])
        is_split = any(abs(factor / split - 1) < _SPLIT_NEAR for split in _SPLITS)
        when = instant_text(int(instant[place + 1]), timeframe)
        of = f"{close[place]:.6g} to {close[place + 1]:.6g}"
        side = "split" if ratio[place] < 1 else "reverse split"
        said.append(
            f"{when}: the close goes from {of}, as a {side} of {factor:.2g} to 1 that nobody took out; "
            "adjust the prices"
            if is_split
            else f"{when}: the close goes from {of}; look whether that is so"
        )
    if len(places) > _JUMPS_SHOWN:
        said.append(f"{len(places) - _JUMPS_SHOWN:,} more jumps above {_JUMP:.0%}")
    return said


def _unusable(symbol: str, rows: ForeignBars, unreadable: int, not_positive: int, high_below_low: int) -> BarsInvalid:
    first = rows.first_unreadable
    why = [
        f"{count:,} with {what}"
        for count, what in (
            (unreadable, f"a date or price that cannot be read (the first in {first})"),
            (not_positive, "a price of zero or below"),
            (high_below_low, "high below low"),
        )
        if count
    ]
    return BarsInvalid(
        f"bars of {symbol} must hold a usable row, was {len(rows):,} row{'' if len(rows) == 1 else 's'} without: "
        f"{', '.join(why)}; {'correct the prices' if first is None else first.advice}"
    )


def _refuse_finer(symbol: str, instants: NDArray[np.float64], timeframe: str, step_s: int) -> None:
    # Bars of an hour imported as days would leave the last hour of each. Of two steps in the middle the shorter counts:
    # bars of half a session and of the night are as many.
    steps = np.diff(np.unique(instants))
    if not len(steps):
        return
    middle = (len(steps) - 1) // 2
    usual_s = float(np.partition(steps, middle)[middle])
    if usual_s >= _COARSE * step_s and len(steps) >= _MANY:
        fitting = [name for name, seconds in TIMEFRAMES.items() if 0.8 * usual_s <= seconds <= 1.25 * usual_s]
        raise BarsInvalid(
            f"rows of {symbol} must be about as far apart as the timeframe {timeframe}, was one every "
            f"{_span(usual_s)}; " + (f"say --timeframe {fitting[0]}" if fitting else _TOO_FAR)
        )
    if usual_s > step_s / 2:
        return
    fitting = [name for name, seconds in TIMEFRAMES.items() if seconds <= 1.25 * usual_s]
    raise BarsInvalid(
        f"rows of {symbol} must be about as far apart as the timeframe {timeframe}, was one every {_span(usual_s)}; "
        + (f"say --timeframe {fitting[-1]}" if fitting else "join them to bars of a minute or more")
    )


def _timeframe_of(found: list[ForeignBars]) -> str:
    """Return the timeframe of rows by how far they usually lie apart, 1d of a single one. Raises BarsInvalid."""
    most = max(found, key=len)
    known = np.unique(most.timestamp[np.isfinite(most.timestamp)])
    if len(known) < 2:
        return "1d"
    steps = np.diff(known)
    usual_s = float(np.partition(steps, (len(steps) - 1) // 2)[(len(steps) - 1) // 2])
    fitting = [name for name, seconds in TIMEFRAMES.items() if 0.8 * usual_s <= seconds <= 1.25 * usual_s]
    if len(fitting) == 1:
        return fitting[0]
    if len(steps) < _MANY and _DAY_S <= usual_s <= 5 * _DAY_S:
        return "1d"
    advice = (
        "join them to bars of a minute or more" if usual_s < 48 else f"say which they are with --timeframe; {_TOO_FAR}"
    )
    raise BarsInvalid(
        f"rows of {most.symbol} must be as far apart as bars of one of {', '.join(TIMEFRAMES)}, was one every "
        f"{_span(usual_s)}; {advice}"
    )


def _refuse_conflicts(symbol: str, close: NDArray[np.float64], instant: NDArray[np.int64]) -> None:
    # A few rows that correct others are usual; more than there are instants are other symbols, or hours left out.
    same = np.diff(instant) == 0
    instants = len(instant) - int(np.count_nonzero(same))
    conflicts = same & (np.diff(close) != 0)
    if 2 * np.count_nonzero(conflicts) > instants:
        raise BarsInvalid(
            f"rows of {symbol} must have an instant each, was {len(instant):,} rows of {instants:,} "
            f"instant{'' if instants == 1 else 's'}; give the column that tells them apart the name symbol, or time"
        )


def _span(seconds: float) -> str:
    for unit, length in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g}{unit}"
    return f"{seconds:.3g}s"


def _count(store: BarStore, new: Bars) -> int:
    try:
        extent = next(store.extents([new.symbol], new.timeframe), None)
    except BarsInvalid:
        # What cannot be read is to be replaced: that mends it.
        return 0
    return 0 if extent is None else extent.bars


def _joined(store: BarStore, new: Bars) -> tuple[Bars, int]:
    old = next(store.load_many([new.symbol], new.timeframe), None)
    if old is None:
        return new, 0
    other = ~np.isin(old.timestamp, new.timestamp)
    order = np.argsort(np.concatenate([old.timestamp[other], new.timestamp]), kind="stable")
    joined = (np.concatenate([getattr(old, name)[other], getattr(new, name)])[order] for name in COLUMNS)
    return Bars(new.symbol, new.timeframe, *joined), len(old)


def _gaps(timestamp: NDArray[np.int64], step_s: int) -> list[list[int]]:
    step = np.diff(timestamp)
    if step_s >= 86_400:
        is_gap = step > 5 * step_s
    else:
        is_gap = (step > step_s) & (timestamp[1:] // 86_400 == timestamp[:-1] // 86_400)
    places = np.flatnonzero(is_gap)[:GAPS_SHOWN]
    return [[int(timestamp[place]), int(timestamp[place + 1])] for place in places]
