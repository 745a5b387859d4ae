"""Foreign files of bars, read as tools and vendors write them: what they are, which column is what, what stands there.

Each stage says what it took for what and why: `containers` (packing), `tables` (rows and columns), `columns` (which is
what), `values` (numbers and instants). Invariant: what no guess may decide is refused with the option that tells it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.trading.bars.columns import named_columns, placed_columns, speaks_comma, told_columns
from aworker.trading.bars.containers import Content, open_contents
from aworker.trading.bars.store import COLUMNS, PRICES, BarsInvalid
from aworker.trading.bars.tables import Table, table_of
from aworker.trading.bars.values import Numbers, Told, checked, instants, numbers, spelling_of

_SHOWN_CHARACTERS = 40
_FIXED_POINT = 1e-9
_FIXED_TICK, _LEAST_FIXED = 1e5, 1e7
_LARGE = 100_000
_ENOUGH = 10
_SURE = 0.7
_NUMBER_ADVICE = "write numbers as 1010.50"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that could not be read."""

    place: str
    """``line 7`` of a csv file, whose header is line 1, or ``row 6`` of a parquet file."""
    column: str
    text: str
    """As it stands in the file; empty where nothing stands."""
    advice: str
    """How to write it instead."""

    def __str__(self) -> str:
        return f"{self.place}, column {self.column}: {_shown(self.text) if self.text else 'nothing'}"


@dataclass(frozen=True, slots=True, eq=False)
class ForeignBars:
    """The rows of one symbol as the file has them, in its order; NaN where a value could not be read.

    ``timestamp`` is in epoch seconds; of daily and weekly bars by the clock of the source, so that the date is the one
    that is written. ``adjusted`` is None without such a column. ``notes`` say what was taken for what.
    """

    symbol: str
    timestamp: Numbers
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers
    adjusted: Numbers | None
    first_unreadable: Unreadable | None
    """Of the instants and prices, and of the adjusted closes when they are needed."""
    notes: tuple[str, ...] = ()
    rows: NDArray[np.uint32] | None = None
    """The rows of the file that these are; None = all of them in their order."""
    first_line: int | None = None
    """The line of the file's first row; None where rows are counted."""

    def __len__(self) -> int:
        return len(self.timestamp)

    def place_of(self, at: int) -> str:
        """Return where a row stands in the file: ``line 7`` or ``row 6``."""
        row = at if self.rows is None else int(self.rows[at])
        return f"row {row + 1}" if self.first_line is None else f"line {self.first_line + row}"


def read_foreign(
    file: Path, symbol: str | None, *, step_s: int, adjust: bool, told: Told | None = None
) -> list[ForeignBars]:
    """Read a file of bars of any shape, one item per symbol in the order of their first rows.

    ``symbol`` names the bars of a file that holds those of one. ``step_s`` is the length of a bar in seconds: of days
    the date of an instant counts as it is written. ``adjust`` says that the adjusted close is needed, ``told`` what
    cannot be told from the file. Raises BarsInvalid.
    """
    said = checked(told or Told())
    bars: list[ForeignBars] = []
    for content in open_contents(file):
        bars += _read(content, symbol, step_s, adjust, said)
    return _together(bars) if len(bars) > 1 else bars


def _read(content: Content, symbol: str | None, step_s: int, adjust: bool, said: Told) -> list[ForeignBars]:
    file = content.file
    content.needs_all = bool(said.columns)
    table = table_of(content)
    content.data = b""
    columns, notes = _columns(table, said, adjust)
    notes = [*table.notes, *notes]
    symbols = _symbols(table, columns)
    if symbol is not None:
        _refuse_many(symbols, symbol, file)
        symbols = None
    elif symbols is None and table.symbol is not None:
        symbol = table.symbol.replace("/", "-").replace(":", "-")
        notes.append(f"symbol: {symbol}, as the file says")
    elif symbols is None and content.inner:
        symbol = _symbol_of_name(file, content.inner)
        notes.append("symbols: the names of the files")
    elif symbols is None:
        raise BarsInvalid(
            f"{file} must have a column symbol or ticker, was without; name the symbol instead, with --symbol"
        )
    unread = _Unread(table)
    found: dict[str, Any] = {"timestamp": _instants(table, columns, step_s, said, unread, notes)}
    found |= _numbers(table, columns, said, unread, (*PRICES, "adjusted") if adjust else PRICES, notes)
    if symbols is None:
        _refuse_swapped(table, found["timestamp"], found)
    first = unread.first(symbols)
    if symbols is None:
        only = ForeignBars(symbol or "", **found, first_unreadable=first.get(""), notes=tuple(notes))
        return [replace(only, first_line=table.first_line)]
    groups = pl.DataFrame({"symbol": symbols}).with_row_index("row").group_by("symbol", maintain_order=True).agg("row")
    bars = []
    for name, rows in zip(groups.get_column("symbol"), groups.get_column("row"), strict=True):
        own: dict[str, Any] = {kind: None if values is None else values[rows] for kind, values in found.items()}
        of = ForeignBars(name, **own, first_unreadable=first.get(name), notes=tuple(notes))
        bars.append(replace(of, rows=np.array(rows, np.uint32), first_line=table.first_line))
    return bars


def _symbol_of_name(file: Path, inner: str) -> str:
    name = re.sub(r"(?i)(\.us)?\.(csv|txt|json|parquet|xlsx|feather)(\.gz)?$", "", PurePosixPath(inner).name)
    if re.search(r"\d{4}[-_]?\d{2}|[-_ ]", name):
        raise BarsInvalid(
            f"{file} must hold files whose names are symbols, was with {_shown(inner)}; "
            "name the symbol of all of them with --symbol, or unpack it and import one by one"
        )
    return name


def _together(bars: list[ForeignBars]) -> list[ForeignBars]:
    """Join what several files of an archive hold of one symbol, in their order."""
    parts: dict[str, list[ForeignBars]] = {}
    for each in bars:
        parts.setdefault(each.symbol, []).append(each)
    return [many[0] if len(many) == 1 else _one_after_the_other(many) for many in parts.values()]


def _one_after_the_other(many: list[ForeignBars]) -> ForeignBars:
    rows: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in many]) for name in COLUMNS}
    adjusted = [each.adjusted for each in many if each.adjusted is not None]
    return ForeignBars(
        many[0].symbol,
        **rows,
        adjusted=np.concatenate(adjusted) if len(adjusted) == len(many) else None,
        first_unreadable=next((each.first_unreadable for each in many if each.first_unreadable), None),
        notes=tuple(dict.fromkeys(note for each in many for note in each.notes)),
    )


def _columns(table: Table, told: Told, adjust: bool) -> tuple[dict[str, int], list[str]]:
    given = told_columns(table.file, told.columns, table.names)
    if table.has_header or given:
        columns, notes = named_columns(table.file, table.names, given, adjust)
    else:
        columns, notes = placed_columns(table.file, table.frame)
    for meaning, place in columns.items():
        is_joined = "date" in columns and "time" in columns
        _refuse_kind(table, meaning, place, is_joined=is_joined)
    return columns, notes


def _refuse_kind(table: Table, meaning: str, place: int, *, is_joined: bool) -> None:
    kind, name = table.frame.schema[f"c{place}"], table.names[place] or f"{place + 1}"
    is_string = isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null))
    if meaning == "symbol":
        fits, rule = is_string or kind.is_integer(), "text"
    elif meaning == "time" and is_joined:
        fits, rule = is_string or isinstance(kind, pl.Time), "times of day, to be joined with the dates"
    elif meaning == "date" and is_joined:
        is_naive = isinstance(kind, pl.Datetime) and kind.time_zone is None
        fits, rule = (
            is_string or kind.is_integer() or isinstance(kind, pl.Date) or is_naive,
            "dates to be joined with times",
        )
    elif meaning in ("timestamp", "datetime", "date", "time"):
        fits, rule = is_string or kind.is_numeric() or isinstance(kind, (pl.Date, pl.Datetime)), "dates or instants"
    else:
        fits, rule = is_string or kind.is_numeric(), "numbers"
    if not fits:
        raise BarsInvalid(f"column {_shown(name)} of {table.file} must hold {rule}, was of type {kind}; convert it")


def _symbols(table: Table, columns: Mapping[str, int]) -> pl.Series | None:
    if "symbol" not in columns:
        return None
    column = table.frame.get_column(f"c{columns['symbol']}").cast(pl.String).fill_null("")
    return column.str.strip_chars(" '\"").str.to_uppercase().str.replace_all(r"[/:]", "-")


def _refuse_many(symbols: pl.Series | None, symbol: str, file: Path) -> None:
    names = [] if symbols is None else symbols.unique(maintain_order=True).to_list()
    if len(names) > 1:
        listed = ", ".join(_plain(name)[:_SHOWN_CHARACTERS] or "nothing" for name in names[:5])
        raise BarsInvalid(
            f"{file} must hold one symbol to be named {_plain(symbol)}, was {len(names)} "
            f"({listed}{', ...' if len(names) > 5 else ''}); import it without naming one, or take out the others"
        )


# ---- its values


@dataclass(frozen=True, slots=True)
class _Unread:
    table: Table
    parts: list[pl.DataFrame] = field(default_factory=list)

    def note(self, values: Numbers, texts: pl.Series, column: str, advice: str) -> None:
        rows = np.flatnonzero(~np.isfinite(values))
        if len(rows):
            found = pl.DataFrame({"row": rows, "text": texts.gather(rows).cast(pl.String).fill_null("")})
            order = pl.lit(len(self.parts)).alias("order")
            self.parts.append(found.with_columns(order, column=pl.lit(column), advice=pl.lit(advice)))

    def first(self, symbols: pl.Series | None) -> dict[str, Unreadable]:
        # Of each symbol the first; of a file without symbols that of "".
        if not self.parts:
            return {}
        found = pl.concat(self.parts)
        of = pl.lit("") if symbols is None else symbols.gather(found.get_column("row"))
        found = found.with_columns(of.alias("symbol")).sort("row", "order").unique("symbol", keep="first")
        return {row["symbol"]: self._told(row) for row in found.iter_rows(named=True)}

    def _told(self, row: dict[str, Any]) -> Unreadable:
        line = self.table.first_line
        place = f"row {row['row'] + 1}" if line is None else f"line {line + row['row']}"
        return Unreadable(place, row["column"], row["text"], row["advice"])


def _column(table: Table, place: int) -> tuple[pl.Series, str]:
    return table.frame.get_column(f"c{place}"), table.names[place] or str(place + 1)


def _instants(
    table: Table, columns: Mapping[str, int], step_s: int, told: Told, unread: _Unread, notes: list[str]
) -> Numbers:
    kind = next(each for each in ("timestamp", "datetime", "date", "time") if each in columns)
    column, name = _column(table, columns[kind])
    time = None
    if kind == "date" and "time" in columns:
        time, other = _column(table, columns["time"])
        name = f"{name} and {other}"
    read = instants(table.file, column, time, is_daily=step_s >= 86_400, told=told, zone=_zone(table, name))
    unread.note(read.seconds, column, name, read.advice)
    notes += read.notes
    return read.seconds - step_s if told.stamps == "end" and step_s < 86_400 else read.seconds


def _zone(table: Table, name: str) -> str | None:
    in_name = next(
        (
            word
            for word in ("utc", "gmt")
            if word in name.lower().replace("_", " ").split() or f"({word})" in name.lower()
        ),
        None,
    )
    return table.zone or (in_name.upper() if in_name else None)


def _numbers(
    table: Table, columns: Mapping[str, int], told: Told, unread: _Unread, needed: Sequence[str], notes: list[str]
) -> dict[str, Numbers | None]:
    kinds = [kind for kind in (*PRICES, "volume", "adjusted") if kind in columns]
    texts = [_column(table, columns[kind])[0] for kind in kinds]
    spelling = spelling_of(texts, table.separator, told.decimal, speaks_comma(table.names))
    if spelling in (",", ":"):
        notes.append("numbers: decimal comma, points between thousands")
    found: dict[str, Numbers | None] = {"volume": np.full(len(table.frame), np.nan), "adjusted": None}
    for kind, column in zip(kinds, texts, strict=True):
        is_volume = kind == "volume"
        values = numbers(column, spelling, has_units=is_volume)
        if kind in needed:
            advice = _NUMBER_ADVICE + (", or say --decimal , or --decimal ." if spelling == "?" else "")
            unread.note(values, column, _column(table, columns[kind])[1], advice)
        found[kind] = values
    _add_sides(table, columns, found, spelling, notes)
    _take_ticks(table, columns, found, spelling, notes)
    volume = found["volume"]
    if told.volume_unit == 1 and "volume" in columns and _counts_lots(table, columns["volume"]):
        notes.append("volume: as it stands; such sources often count lots, say --volume-unit 100 where they do")
    if told.volume_unit != 1 and volume is not None:
        found["volume"] = volume * told.volume_unit
        notes.append(f"volume: in units of {told.volume_unit:g}, as told")
    _scale_prices(table, told, found, notes)
    return found


def _counts_lots(table: Table, place: int) -> bool:
    return table.names[place] in ("成交量", "成交量(手)") or (table.names[place] == "vol" and "ts_code" in table.names)


def _add_sides(
    table: Table, columns: Mapping[str, int], found: dict[str, Numbers | None], spelling: str, notes: list[str]
) -> None:
    """Add up the volume that TradeStation writes in two columns."""
    if "volume" not in columns and {"up", "down"} <= set(columns):
        up, down = (numbers(_column(table, columns[side])[0], spelling, has_units=True) for side in ("up", "down"))
        found["volume"] = up + down
        notes.append("volume: the columns Up and Down added up")


def _take_ticks(
    table: Table, columns: Mapping[str, int], found: dict[str, Numbers | None], spelling: str, notes: list[str]
) -> None:
    """Take the count of ticks where a broker of MetaTrader leaves the volume at zero."""
    volume = found["volume"]
    if "tick volume" in columns and volume is not None and not np.nansum(volume):
        found["volume"] = numbers(_column(table, columns["tick volume"])[0], spelling)
        notes.append("volume: a count of ticks, for the volume itself is 0")


def _scale_prices(table: Table, told: Told, found: dict[str, Numbers | None], notes: list[str]) -> None:
    """Turn prices that are counted in fractions into prices, such as Databento's billionths."""
    close = found["close"]
    usual = float(np.nanmedian(close)) if close is not None and np.isfinite(close).any() else 0.0
    factor = told.price_unit
    if factor != 1:
        notes.append(f"prices: in units of {factor:g}, as told")
    elif {"ts_event", "rtype"} <= set(table.names) and usual > 1e7:
        factor = _FIXED_POINT
        notes.append("prices: counted in billionths, divided")
    elif usual > _LEAST_FIXED and _is_fixed(found):
        raise BarsInvalid(
            f"prices of {table.file} must be in money, was {usual:,.0f} and the like, which looks like billionths; "
            "say what they are counted in with --price-unit 1e-9, or 1 for prices as they stand"
        )
    elif not table.has_header and usual > _LARGE and close is not None and np.all(close[np.isfinite(close)] % 1 == 0):
        raise BarsInvalid(
            f"prices of {table.file} must be in money, was {usual:,.0f} and the like without a decimal; "
            "say what they are counted in with --price-unit, such as --price-unit 0.0001, or 1"
        )
    if factor != 1:
        for kind in (*PRICES, "adjusted"):
            values = found[kind]
            found[kind] = None if values is None else values * factor


def _is_fixed(found: dict[str, Numbers | None]) -> bool:
    # No market has ticks of 100,000, as billionths with four decimals look.
    known = [values[np.isfinite(values)] for kind in PRICES if (values := found[kind]) is not None]
    return all(len(values) and np.all(values % _FIXED_TICK == 0) for values in known)


def _refuse_swapped(table: Table, timestamp: Numbers, found: Mapping[str, Numbers | None]) -> None:
    """Refuse prices without names whose first and last follow each other better the other way round."""
    opened, close = found["open"], found["close"]
    if table.has_header or opened is None or close is None or len(opened) < _ENOUGH:
        return
    order = np.argsort(timestamp, kind="stable")
    opened, close = opened[order], close[order]
    as_named = np.nanmean(np.abs(opened[1:] - close[:-1]))
    swapped = np.nanmean(np.abs(close[1:] - opened[:-1]))
    if swapped < _SURE * as_named:
        raise BarsInvalid(
            f"{table.file} must have names for its columns, was without, and its open looks like a close; "
            "say which is which with --columns date=1,open=5,high=3,low=4,close=2"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _plain(text: str) -> str:
    return repr(text)[1:-1]
