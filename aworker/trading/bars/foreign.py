"""Foreign files of bars, csv or parquet: opened, their columns found, their texts turned into numbers.

Invariant: nothing is guessed. What can be read in two ways (01/02/2024; 1,010 where no other number says what the comma
means) counts as unreadable, and a file whose columns would mix data (two of one meaning) is refused.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.trading.bars.store import MAX_EPOCH_S, PRICES, BarsInvalid

Numbers = NDArray[np.float64]

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "timestamp": ("timestamp",),
    "datetime": ("datetime", "date time"),
    "date": ("date",),
    "time": ("time",),
    **{price: (price,) for price in PRICES},
    "volume": ("volume", "vol"),
    "adjusted": ("adj close", "adj. close", "adjclose", "adjusted close"),
    "symbol": ("symbol", "ticker"),
}
"""What a column is, and what it may be called: in any case, with _ for a space, in < > as MetaTrader writes it."""

_MEANING = {name: meaning for meaning, names in COLUMN_NAMES.items() for name in names}
_TIMES = ("timestamp", "datetime", "date", "time")
_SEPARATORS = ",;\t|"
_HEAD_BYTES = 1 << 16
_PART_ROWS = 1 << 18
_MIN_EPOCH_S = -5_364_662_400
_SHOWN_CHARACTERS = 40
_POINT_NUMBER = r"^[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?$"
_COMMA_NUMBER = r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?$"
_DATE_ADVICE = "write dates as 2024-01-31"
_NUMBER_ADVICE = "write numbers as 1010.50"
_DAY_OR_MONTH_FIRST = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b")
# A file of junk makes the parser of parquet panic now and then, which is no PolarsError.
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


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
    that is written. ``adjusted`` is None without such a column.
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

    def __len__(self) -> int:
        return len(self.timestamp)


def read_foreign(file: Path, symbol: str | None, *, is_daily: bool, adjust: bool) -> list[ForeignBars]:
    """Read a csv (also gzipped) or parquet file of bars, one item per symbol in the order of their first rows.

    ``symbol`` names the bars of a file that holds those of one. ``is_daily`` says that the date of an instant counts as
    it is written, ``adjust`` that the adjusted close is needed. Raises BarsInvalid.
    """
    source = _open(file)
    columns = _columns(source, adjust)
    frame = _collected(source, list(columns.values()))
    symbols = _symbols(frame.drop_in_place(columns["symbol"])) if "symbol" in columns else None
    if symbol is not None:
        _refuse_many(symbols, symbol, file)
        symbols = None
    elif symbols is None:
        raise BarsInvalid(f"{file} must have a column symbol or ticker, was without; name the symbol instead")
    unread = _Unread(source)
    found: dict[str, Any] = {"timestamp": _instants(frame, columns, is_daily, unread)}
    found |= _numbers(frame, columns, source.separator, unread, needed=(*PRICES, "adjusted") if adjust else PRICES)
    first = unread.first(symbols)
    if symbols is None:
        return [ForeignBars(symbol or "", **found, first_unreadable=first.get(""))]
    groups = pl.DataFrame({"symbol": symbols}).with_row_index("row").group_by("symbol", maintain_order=True).agg("row")
    bars = []
    for name, rows in zip(groups.get_column("symbol"), groups.get_column("row"), strict=True):
        own: dict[str, Any] = {kind: None if values is None else values[rows] for kind, values in found.items()}
        bars.append(ForeignBars(name, **own, first_unreadable=first.get(name)))
    return bars


# ---- the file


@dataclass(frozen=True, slots=True)
class _Source:
    file: Path
    rows: pl.LazyFrame
    schema: pl.Schema
    separator: str | None
    """None for parquet."""
    header_line: int = 1


def _open(file: Path) -> _Source:
    try:
        head = _head(file)
    except FileNotFoundError:
        raise _refused(file, "not there", "check the name") from None
    except IsADirectoryError:
        raise _refused(file, "a folder", "name a file in it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _refused(file, f"unreadable ({getattr(error, 'strerror', None) or 'broken gzip'})", "check it") from error
    if file.suffix == ".parquet" or head.startswith(b"PAR1"):
        return _open_parquet(file)
    return _open_csv(file, head)


def _open_parquet(file: Path) -> _Source:
    try:
        rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        return _Source(file, rows, rows.collect_schema(), None)
    except _UNREADABLE as error:
        raise _refused(file, "no parquet that can be read", "write it again") from error


def _open_csv(file: Path, head: bytes) -> _Source:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _refused(file, "text in UTF-16", "save it as UTF-8")
    if b"\0" in head:
        raise _refused(file, "binary", "save it as csv in UTF-8, or as parquet")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise _refused(file, "text in another encoding than UTF-8, or binary", "save it as UTF-8") from error
    if not text.strip():
        raise _refused(file, "empty", "export it again")
    blank = len(text) - len(text.lstrip("\r\n"))
    header = re.split(r"[\r\n]", text[blank:], maxsplit=1)[0]
    unquoted = re.sub(r'"[^"]*"', "", header)
    separator = max(_SEPARATORS, key=unquoted.count)
    rows = pl.scan_csv(
        file,
        separator=separator,
        eol_char="\r" if "\r" in text and "\n" not in text else "\n",
        infer_schema=False,
        glob=False,
    )
    try:
        return _Source(file, rows, rows.collect_schema(), separator, 1 + len(re.findall(r"\r\n|\r|\n", text[:blank])))
    except _UNREADABLE as error:
        raise _refused(file, _flaw(file, separator), "correct it") from error


def _collected(source: _Source, names: list[str]) -> pl.DataFrame:
    try:
        frame = source.rows.select(names).collect()
    except _UNREADABLE as error:
        if source.separator is None:
            raise _refused(source.file, "no parquet that can be read", "write it again") from error
        raise _refused(source.file, _flaw(source.file, source.separator), "correct it") from error
    if not len(frame):
        raise BarsInvalid(f"{source.file} must have rows of bars, was a header that has no rows; export it again")
    return frame


def _refused(file: Path, was: str, do: str) -> BarsInvalid:
    return BarsInvalid(f"{file} must be a csv or parquet file of bars, was {was}; {do}")


def _head(file: Path) -> bytes:
    with _opened(file) as stream:
        return stream.read(_HEAD_BYTES)


def _opened(file: Path) -> gzip.GzipFile | io.BufferedReader:
    with file.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(file, "rb") if is_gzip else file.open("rb")


def _flaw(file: Path, separator: str) -> str:
    # What polars gave up on, in words: read again by a slower reader that knows its lines.
    try:
        with io.TextIOWrapper(_opened(file), "utf-8-sig", errors="replace", newline="") as text:
            rows = csv.reader(text, delimiter=separator, strict=True)
            header = next(row for row in rows if row)
            for row in rows:
                if len(row) > len(header):
                    return f"a table of {len(header)} columns whose line {rows.line_num} has {len(row)} fields"
                if any("\N{REPLACEMENT CHARACTER}" in value for value in row):
                    return f"text whose line {rows.line_num} is not UTF-8"
    except (csv.Error, OSError, EOFError, zlib.error):
        return "cut off, or has a quotation mark that is not closed"
    return "no table that can be read"


# ---- its columns


def _columns(source: _Source, adjust: bool) -> dict[str, str]:
    # What is needed -> the column's name in the file.
    file, found = source.file, dict[str, str]()
    for name in source.schema:
        plain = re.sub(r"_duplicated_\d+$", "", name)
        meaning = _MEANING.get(plain.strip().strip("<>").strip().lower().replace("_", " "))
        if meaning is None:
            continue
        if meaning in found:
            raise BarsInvalid(
                f"{file} must have one column of each kind, was with {_shown(found[meaning])} and {_shown(plain)}; "
                "remove one"
            )
        found[meaning] = name
    time = next((name for name in _TIMES if name in found), None)
    missing = [*(["date"] if time is None else []), *(price for price in PRICES if price not in found)]
    if missing:
        there = ", ".join(source.schema)[:200]
        if len(missing) == 1 + len(PRICES):
            advice = "write their names in the first line, separated by comma, semicolon, tab or |"
        else:
            advice = "add them"
        raise BarsInvalid(f"{file} must have the columns {', '.join(missing)}, was {_plain(there)}; {advice}")
    if adjust and "adjusted" not in found:
        raise BarsInvalid(f"{file} must have a column adj close to adjust by, was without; import without adjusting")
    for other in _TIMES:
        if other != time and not (time == "date" and other == "time"):
            found.pop(other, None)
    for meaning, name in found.items():
        _refuse_kind(file, meaning, name, source.schema[name], is_joined="date" in found and "time" in found)
    return found


def _refuse_kind(file: Path, meaning: str, name: str, kind: pl.DataType, *, is_joined: bool) -> None:
    is_text = isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null))
    if meaning == "symbol":
        fits, rule = is_text or kind.is_integer(), "text"
    elif meaning == "time" and is_joined:
        fits, rule = is_text or isinstance(kind, pl.Time), "times of day, to be joined with the dates"
    elif meaning == "date" and is_joined:
        is_naive = isinstance(kind, pl.Datetime) and kind.time_zone is None
        fits, rule = (
            is_text or kind.is_integer() or isinstance(kind, pl.Date) or is_naive,
            "dates to be joined with times",
        )
    elif meaning in _TIMES:
        fits, rule = is_text or kind.is_numeric() or isinstance(kind, (pl.Date, pl.Datetime)), "dates or instants"
    else:
        fits, rule = is_text or kind.is_numeric(), "numbers"
    if not fits:
        raise BarsInvalid(f"column {_shown(name)} of {file} must hold {rule}, was of type {kind}; convert it")


def _symbols(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).fill_null("").str.strip_chars().str.to_uppercase()


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
    source: _Source
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
        number = row["row"] + 1
        place = f"row {number}" if self.source.separator is None else f"line {self.source.header_line + number}"
        advice = row["advice"]
        if advice == _DATE_ADVICE and _DAY_OR_MONTH_FIRST.match(row["text"].strip()):
            advice += ", for whether the day or the month comes first cannot be told"
        return Unreadable(place, row["column"], row["text"], advice)


def _numbers(
    frame: pl.DataFrame, columns: Mapping[str, str], separator: str | None, unread: _Unread, needed: Sequence[str]
) -> dict[str, Numbers | None]:
    kinds = [kind for kind in (*PRICES, "volume", "adjusted") if kind in columns]
    read = _spelling([frame.get_column(columns[kind]) for kind in kinds], separator)
    found: dict[str, Numbers | None] = {"volume": np.full(len(frame), np.nan), "adjusted": None}
    for kind in kinds:
        # What was read is let go, so that a large file does not stand twice in memory.
        column = frame.drop_in_place(columns[kind])
        text = _text(column)
        values = _floats(column.cast(pl.Float64, strict=False) if text is None else read(text))
        if kind in needed:
            unread.note(values, column, columns[kind], _NUMBER_ADVICE)
        found[kind] = values
    return found


def _spelling(columns: Iterable[pl.Series], separator: str | None) -> Callable[[pl.Series], pl.Series]:
    # How the file writes numbers is known from those that can be read in one way only: 1,010.50 and 1.010,50 can, 1,010
    # cannot. Where both kinds or none are found, a number with a comma is unreadable.
    texts = [text for text in map(_text, columns) if text is not None]
    if not any(text.str.contains(",", literal=True).any() for text in texts):
        return _read_plain
    has_points = any((text.str.contains(_POINT_NUMBER) & ~text.str.contains(_COMMA_NUMBER)).any() for text in texts)
    has_commas = any((text.str.contains(_COMMA_NUMBER) & ~text.str.contains(_POINT_NUMBER)).any() for text in texts)
    if has_points and not has_commas:
        return _read_points
    if has_commas and not has_points and separator != ",":
        return _read_commas
    return _read_plain


def _read_plain(text: pl.Series) -> pl.Series:
    return text.cast(pl.Float64, strict=False)


def _read_points(text: pl.Series) -> pl.Series:
    fits = text.str.contains(_POINT_NUMBER).fill_null(False)
    return text.str.replace_all(",", "", literal=True).zip_with(fits, text).cast(pl.Float64, strict=False)


def _read_commas(text: pl.Series) -> pl.Series:
    plain = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return plain.set(~text.str.contains(_COMMA_NUMBER).fill_null(False), None).cast(pl.Float64, strict=False)


def _instants(frame: pl.DataFrame, columns: Mapping[str, str], is_daily: bool, unread: _Unread) -> Numbers:
    names = [columns[time] for time in _TIMES if time in columns]
    column = frame.drop_in_place(names[0])
    if len(names) == 2:
        column = _joined(column, frame.drop_in_place(names[1]), is_daily)
    text = _text(column)
    if text is not None:
        # In parts: the ways to write an instant are tried one after the other, each on copies.
        parts = [_text_seconds(text.slice(start, _PART_ROWS), is_daily) for start in range(0, len(text), _PART_ROWS)]
        seconds = np.concatenate(parts)
    elif column.dtype == pl.Date:
        seconds = _moment_seconds(column.cast(pl.Datetime("us")))
    elif isinstance(column.dtype, pl.Datetime):
        # Of days the date counts as it is written: midnight in Tokyo is still the day before in UTC.
        seconds = _moment_seconds(column.dt.replace_time_zone(None) if is_daily else column)
    else:
        seconds = _epoch_seconds(column.cast(pl.Float64, strict=False))
    seconds = np.where((seconds >= _MIN_EPOCH_S) & (seconds < MAX_EPOCH_S), seconds, np.nan)
    unread.note(seconds, column, " and ".join(names), _DATE_ADVICE)
    return seconds


def _joined(date: pl.Series, time: pl.Series, is_daily: bool) -> pl.Series:
    days = date.cast(pl.String).str.strip_chars().str.replace(r"[ T]00:00(:00(\.0+)?)?$", "")
    hours = time.cast(pl.String).str.strip_chars()
    digits = hours.filter(hours.str.contains(r"^\d+$").fill_null(False)).str.len_chars().unique().to_list()
    if digits in ([4], [6]):
        # 0930 or 093000; where both are found, or 93000, the zeros that are missing cannot be told.
        hours = hours.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "${1}:${2}:${3}").str.replace(r"^(\d\d)(\d\d)$", "${1}:${2}")
    # A day is known without its hour, an instant is not.
    hours = hours.fill_null("") if is_daily else hours.set(hours == "", None)
    return pl.select(pl.concat_str([days, hours], separator=" ")).to_series()


def _text(column: pl.Series) -> pl.Series | None:
    is_text = isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum))
    return column.cast(pl.String).str.strip_chars() if is_text else None


def _text_seconds(text: pl.Series, is_daily: bool) -> Numbers:
    other = r"^(\d{4})[/.](\d\d?)[/.](\d\d?)\b|^(\d{4})(\d\d)(\d\d)[ Tt]"
    if text.str.contains(other).any():
        text = text.str.replace(r"^(\d{4})[/.](\d\d?)[/.](\d\d?)\b", "${1}-${2}-${3}")
        text = text.str.replace(r"^(\d{4})(\d\d)(\d\d)[ Tt]", "${1}-${2}-${3} ")
    # Each reader gets what those before it could not read.
    readers = (_days, _own_clock, _written_days, _counts) if is_daily else (_days, _utc_clock, _other_clocks, _counts)
    seconds = np.full(len(text), np.nan)
    for read in readers:
        left = np.flatnonzero(np.isnan(seconds))
        if len(left):
            seconds[left] = read(text if len(left) == len(text) else text.gather(left))
    return seconds


def _days(text: pl.Series) -> Numbers:
    return _moment_seconds(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))


def _clock(plain: pl.Series) -> Numbers:
    plain = plain.str.strip_chars().str.replace("[Tt]", " ")
    seconds, minutes = (
        _moment_seconds(plain.str.to_datetime(form, strict=False, time_unit="us"))
        for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
    )
    return np.where(np.isnan(seconds), minutes, seconds)


def _utc_clock(text: pl.Series) -> Numbers:
    return _clock(text.str.replace(r"(?i)(z|utc|[+-]00:?00)$", ""))


def _own_clock(text: pl.Series) -> Numbers:
    return _clock(text.str.replace(r"(?i)(:\d\d\S*?)\s*(z|utc|[+-]\d\d:?\d\d)$", "${1}"))


def _other_clocks(text: pl.Series) -> Numbers:
    iso = text.str.replace(r"^(\S+) (\S+)$", "${1}T${2}")
    return _moment_seconds(iso.str.to_datetime("%+", strict=False, time_unit="us", time_zone="UTC"))


def _written_days(text: pl.Series) -> Numbers:
    return _days(text.str.extract(r"^(\d{4}-\d\d?-\d\d?)[ Tt]"))


def _counts(text: pl.Series) -> Numbers:
    return _epoch_seconds(text.cast(pl.Float64, strict=False))


def _epoch_seconds(column: pl.Series) -> Numbers:
    # Seconds reach 1e11 in the year 5138, milliseconds pass it in 1973: the size tells the unit. Seconds of August 1970
    # are days without their dashes, such as 20240131; those of the first day are no instants but row numbers, years or
    # the days of a spreadsheet.
    number = _floats(column)
    size = np.abs(number)
    seconds: Numbers = number / np.select([size >= 1e17, size >= 1e14, size >= 1e11], [1e9, 1e6, 1e3], 1.0)
    seconds[size < 86_400] = np.nan
    is_day = (number >= 19_000_101) & (number <= 21_001_231)
    if is_day.any():
        text = pl.Series(number[is_day].astype(np.int64)).cast(pl.String)
        seconds[is_day] = _moment_seconds(text.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us")))
    return seconds


def _moment_seconds(moments: pl.Series) -> Numbers:
    return _floats(moments.dt.epoch("us").cast(pl.Float64)) / 1e6


def _floats(column: pl.Series) -> Numbers:
    numbers: Numbers = column.fill_null(float("nan")).to_numpy()
    return numbers


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _plain(text: str) -> str:
    return repr(text)[1:-1]
