"""Price bars: one parquet file per symbol and timeframe, ``<path>/<timeframe>/<SYMBOL>.parquet``.

Invariant: what the store holds is in time order without duplicates, and a file is either the old or the new one, never
half of one. A symbol reaches a path only through `safe_symbol`.

Why files are read in batches: a call of polars costs 0.7 ms whatever it reads, so 500 symbols one by one take 350 ms,
in batches 65 ms, and the next batch is read while one is worked on. Why they are not compressed: adjusted prices hardly
compress (lz4 saves 8 %, zstd 15 %), and reading takes 90 ms with lz4, 150 ms with zstd. Compressed files are read all
the same.

Why 1,024 rows stand in a row group: it is the least that can be read of a file, so the last 300 of 2,520 daily bars
cost 23 KB instead of 123 KB, and of a million minute bars the same. Smaller groups make reading a whole file slower.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.errors import AworkerError, RequestDeclined

BUNDLED_PATH = Path(__file__).parent / "data"
"""The data set in the package: five US stocks, daily, 2000-03-01 to 2013-03-01, adjusted."""

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close")
SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=_-]{0,31}")
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
_BATCH_BYTES = 4 << 20
_LARGE_BYTES = 8 << 20
_ROW_GROUP = 1 << 10
_ROW_BYTES = 8 * len(COLUMNS)
_TYPED = [pl.col(name).cast(pl.Int64 if name == "timestamp" else pl.Float64) for name in COLUMNS]
_Entry = tuple[str, Path, int]
"""A symbol, its file and the file's size in bytes."""
GAPS_SHOWN = 20
_MAX_EPOCH_S = 100_000_000_000
_TIME_NAMES = ("timestamp", "date", "datetime", "time")
_ADJUSTED_NAMES = ("adj_close", "adj close", "adjclose", "adjusted_close", "adjusted close")


class NoBars(RequestDeclined):
    """The store has no bars of what was asked for; the message names what it has."""


class BarsInvalid(AworkerError):
    """A file is no bars: unreadable, or without a column that is needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """The bars of one symbol, oldest first.

    ``timestamp`` int64[n], the opening instant of a bar in epoch seconds (midnight UTC for daily and weekly bars);
    ``open``, ``high``, ``low``, ``close`` in the symbol's currency and ``volume`` in shares, all float64[n].
    """

    symbol: str
    timeframe: str
    timestamp: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.timestamp)

    def __getitem__(self, part: slice) -> Bars:
        """Return a view of some of the bars."""
        return Bars(self.symbol, self.timeframe, *(getattr(self, name)[part] for name in COLUMNS))


@dataclass(frozen=True, slots=True)
class Extent:
    """How many bars a symbol has, and the instants of the first and the last in epoch seconds; None without any."""

    symbol: str
    bars: int
    first_timestamp: int | None
    last_timestamp: int | None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import kept of one symbol, what it mended and what it dropped. Counts are rows."""

    symbol: str
    timeframe: str
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
    dropped_not_positive: int
    """Rows with a price of zero or below."""
    dropped_high_below_low: int
    widened: int
    """Rows whose open or close stood outside low to high; the range was widened to hold them."""
    volume_missing: int
    """Rows whose volume was missing or negative and is stored as 0."""
    gaps: list[list[int]]
    """[last timestamp before, first after] of holes: over five days, or over one bar inside a day. At most 20."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-like object."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def safe_symbol(symbol: str) -> str | None:
    """Return the symbol in upper case, or None when it is none (and so could not name a file safely)."""
    upper = symbol.strip().upper()
    return upper if _SYMBOL.fullmatch(upper) else None


def timeframe_s(timeframe: str) -> int:
    """Return the length of a bar in seconds: ``1m``, ``15m``, ``1h``, ``1d``, ``1w``.

    Raises RequestDeclined when it is no timeframe.
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if match is None:
        raise RequestDeclined(
            f"timeframe must be a number of m, h, d or w such as 1d or 15m, was {timeframe!r}; correct the strategy"
        )
    return int(match[1]) * SECONDS[match[2]]


def instant_text(timestamp: float, timeframe: str) -> str:
    """Format a bar's instant: ``2013-03-01`` for days and weeks, ``2013-03-01T14:30:00Z`` below."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.strftime("%Y-%m-%d" if timeframe[-1] in "dw" else "%Y-%m-%dT%H:%M:%SZ")


class BarStore:
    """The bars under one folder; None is the data set in the package."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = BUNDLED_PATH if path is None else Path(path)

    def symbols(self, timeframe: str) -> list[str]:
        """Return the symbols that have bars, sorted."""
        timeframe_s(timeframe)
        try:
            names = os.listdir(self.path / timeframe)
        except (FileNotFoundError, NotADirectoryError):
            return []
        stems = (name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))
        return sorted(stem for stem in stems if _SYMBOL.fullmatch(stem))

    def timeframes(self) -> list[str]:
        """Return the timeframes that have bars of any symbol, shortest bar first."""
        try:
            names = [name for name in os.listdir(self.path) if _TIMEFRAME.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((name for name in names if self.symbols(name)), key=timeframe_s)

    def choose(
        self,
        asked: Iterable[str] | None,
        own: Iterable[str] | None,
        timeframe: str,
        only: Iterable[str] | None = None,
    ) -> tuple[list[str], list[str]]:
        """Return the symbols to work on: those that have bars, and those that have none, both sorted.

        They are those asked for, else the strategy's own, else all in the store; of them only those in ``only``.
        Raises NoBars when none of them has bars, RequestDeclined when ``only`` leaves none.
        """
        there = self.symbols(timeframe)
        if asked is None and own is None:
            wanted = set(there)
        else:
            wanted = {_canonical(symbol) for symbol in (own or () if asked is None else asked)}
        if only is not None and wanted:
            kept = wanted & {_canonical(symbol) for symbol in only}
            if not kept:
                raise RequestDeclined(
                    f"securities must name one of the symbols {_listed(sorted(wanted))}, was {_listed(only)}; "
                    "correct one of the two"
                )
            wanted = kept
        found = sorted(wanted.intersection(there))
        if not found:
            raise self.no_bars(sorted(wanted), timeframe)
        return found, sorted(wanted.difference(there))

    def no_bars(self, symbols: Sequence[str], timeframe: str) -> NoBars:
        """Return the error that says which symbols were asked for and what there is."""
        there = self.symbols(timeframe)
        if not there:
            timeframes = self.timeframes()
            if not timeframes:
                return NoBars(
                    "market_data.path must hold bars, was without any; import some with `aworker bars import`"
                )
            return NoBars(
                f"timeframe must be one that has bars in the store ({_listed(timeframes)}), was {timeframe}; "
                "choose another or import such bars"
            )
        return NoBars(
            f"symbols must have {timeframe} bars in the store, was {_listed(symbols)}; "
            f"choose from the {len(there)} it has: {_listed(there)}"
        )

    def load(
        self,
        symbol: str,
        timeframe: str,
        start_s: float | None = None,
        end_s: float | None = None,
        before: int | None = 0,
    ) -> Bars:
        """Return the bars of one symbol with ``start_s <= timestamp <= end_s``.

        ``before`` bars more are put in front of the window (None = all there are).
        Raises NoBars when the symbol has none at all; a window that holds none gives 0 bars.
        """
        for bars in self.load_many([symbol], timeframe, start_s, end_s, before):
            return bars
        raise self.no_bars([symbol], timeframe)

    def load_many(
        self,
        symbols: Iterable[str],
        timeframe: str,
        start_s: float | None = None,
        end_s: float | None = None,
        before: int | None = 0,
    ) -> Iterator[Bars]:
        """Yield what `load` returns for each symbol, in their order; a symbol that has no bars is passed over."""
        timeframe_s(timeframe)
        for batch, table in _read_ahead(self._batches(symbols, timeframe)):
            if table is None:
                for entry in batch:
                    yield self._read_one(entry, timeframe, start_s, end_s, before)
                continue
            for (symbol, offset, length), (_, file, _) in zip(_parts(table, batch), batch, strict=True):
                bars = _sound(_bars_of(table.slice(offset, length), symbol, timeframe), file)
                yield bars[_window(bars.timestamp, start_s, end_s, before)]

    def load_latest(self, symbols: Iterable[str], timeframe: str, count: int) -> Iterator[Bars]:
        """Yield the last ``count`` bars of each symbol, in their order; a symbol that has no bars is passed over.

        No more is read of a file than the row groups that hold them.
        """
        timeframe_s(timeframe)
        for batch in self._batches(symbols, timeframe, (count + _ROW_GROUP) * _ROW_BYTES):
            latest = [pl.scan_parquet(file, glob=False).select(_TYPED).tail(count) for _, file, _ in batch]
            frames: Iterator[pl.DataFrame]
            try:
                # At once: one by one, 500 symbols take three times as long.
                frames = iter(pl.collect_all(latest))
            except (pl.exceptions.PolarsError, OSError):
                # One file is broken: read them one by one, so that the error names it.
                frames = (each.collect() for each in latest)
            for symbol, file, _ in batch:
                with _reading(file):
                    bars = _bars_of(next(frames), symbol, timeframe)
                yield _sound(bars, file)

    def last_timestamp(self, symbol: str, timeframe: str) -> int | None:
        """Return the instant of a symbol's newest bar in epoch seconds, None when it has none."""
        safe = safe_symbol(symbol)
        file = self.path / timeframe / f"{safe}.parquet"
        if safe is None or not file.is_file():
            return None
        with _reading(file):
            last = pl.scan_parquet(file, glob=False).select("timestamp").tail(1).collect().get_column("timestamp")
        return int(last[0]) if len(last) else None

    def extents(self, symbols: Iterable[str], timeframe: str) -> Iterator[Extent]:
        """Yield what each symbol has, in their order, without reading its prices; one without a file is passed over."""
        timeframe_s(timeframe)
        for batch in self._batches(symbols, timeframe):
            files = [file for _, file, _ in batch]
            try:
                frame = (
                    pl.scan_parquet(files, glob=False, include_file_paths="file").select("timestamp", "file").collect()
                )
            except (pl.exceptions.PolarsError, OSError):
                for entry in batch:
                    yield _extent(entry[0], self._read_one(entry, timeframe, None, None, 0).timestamp)
                continue
            timestamp = frame.get_column("timestamp").cast(pl.Int64)
            for symbol, offset, length in _parts(frame, batch):
                yield _extent(symbol, timestamp.slice(offset, length).drop_nulls().to_numpy())

    def sectors(self) -> dict[str, str]:
        """Return symbol -> sector from ``<path>/sectors.json``; the package's own when that file is not there.

        Raises BarsInvalid when the file is no object of strings.
        """
        file = self.path / "sectors.json"
        if not file.is_file():
            file = BUNDLED_PATH / "sectors.json"
        try:
            sectors = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BarsInvalid(f"{file} must be JSON, was unreadable: {error}; correct it") from error
        if not isinstance(sectors, dict) or not all(isinstance(sector, str) for sector in sectors.values()):
            raise BarsInvalid(f"{file} must map symbols to sector names, was {str(sectors)[:80]}; correct it")
        return sectors

    def write(self, bars: Bars) -> None:
        """Store the bars of a symbol in place of those it had: whole, or not at all.

        Raises BarsInvalid when the symbol is unsafe, the timestamps do not strictly rise or the disk refuses.
        """
        self.write_many([bars])

    def write_many(self, markets: Iterable[Bars]) -> None:
        """Store the bars of several symbols as `write` does: when one cannot be written, none is."""
        # All that can fail is done before the first file is put in its place.
        drafts: list[tuple[Path, Path]] = []
        try:
            drafts.extend(self._draft_of(bars) for bars in markets)
            for draft, file in drafts:
                draft.replace(file)
        except OSError as error:
            raise BarsInvalid(
                f"{self.path} must be a folder to write bars to, was not ({error}); correct it"
            ) from error
        finally:
            for draft, _ in drafts:
                draft.unlink(missing_ok=True)

    def _draft_of(self, bars: Bars) -> tuple[Path, Path]:
        safe = safe_symbol(bars.symbol)
        if safe is None:
            raise BarsInvalid(f"symbol must be 1 to 32 of A-Z 0-9 . ^ = _ -, was {bars.symbol[:40]!r}; rename it")
        timeframe_s(bars.timeframe)
        if np.any(np.diff(bars.timestamp) <= 0):
            raise BarsInvalid(f"timestamps of {safe} must rise from bar to bar, was not so; sort them first")
        folder = self.path / bars.timeframe
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{safe}.{os.getpid()}.{secrets.token_hex(4)}.draft"
        frame = pl.DataFrame({name: getattr(bars, name) for name in COLUMNS})
        try:
            with draft.open("wb") as stream:
                frame.write_parquet(stream, compression="uncompressed", row_group_size=_ROW_GROUP)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return draft, folder / f"{safe}.parquet"

    def import_bars(
        self,
        file: str | os.PathLike[str],
        timeframe: str = "1d",
        symbol: str | None = None,
        *,
        mode: Literal["replace", "merge"] = "replace",
        adjust: bool = False,
    ) -> list[ImportReport]:
        """Check the bars of a csv (also ``.csv.gz``) or parquet file and store them, one report per symbol.

        Columns, in any case and order: ``date``, ``datetime``, ``time`` or ``timestamp`` (ISO 8601, or epoch in
        seconds, milliseconds, microseconds or nanoseconds), ``open``, ``high``, ``low``, ``close``, ``volume``
        (optional), and ``symbol`` or ``ticker`` unless ``symbol`` is given. ``merge`` keeps older bars of other
        instants. ``adjust`` multiplies the prices by adjusted close / close (column ``adj close``) and divides the
        volume by it, so that the money traded in a bar stays and no split looks like a burst of volume.
        Raises BarsInvalid when a column is missing or no row of a symbol is usable; then nothing at all is stored.
        """
        step_s = timeframe_s(timeframe)
        frame = _read_foreign(Path(file), is_daily=step_s >= 86_400)
        if symbol is not None:
            groups = [(symbol, frame)]
        elif "symbol" in frame.columns:
            groups = [(str(key[0]), part) for key, part in frame.group_by(["symbol"], maintain_order=True)]
        else:
            raise BarsInvalid(f"{file} must have a column symbol or ticker, was without; name the symbol instead")
        checked = [self._check(name, timeframe, step_s, part, mode, adjust) for name, part in groups]
        self.write_many(bars for bars, _ in checked)
        return [report for _, report in checked]

    def _check(
        self, name: str, timeframe: str, step_s: int, frame: pl.DataFrame, mode: str, adjust: bool
    ) -> tuple[Bars, ImportReport]:
        safe = safe_symbol(name)
        if safe is None:
            raise BarsInvalid(f"symbol must be 1 to 32 of A-Z 0-9 . ^ = _ -, was {name[:40]!r}; rename it")
        columns = {column: frame.get_column(column).to_numpy() for column in ("timestamp", *PRICES, "volume")}
        if adjust:
            if "adjusted" not in frame.columns:
                raise BarsInvalid(
                    f"bars of {safe} must have a column adj close to adjust by, was without; import without adjusting"
                )
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = frame.get_column("adjusted").to_numpy() / columns["close"]
                columns |= {price: columns[price] * ratio for price in PRICES}
                columns["volume"] = columns["volume"] / ratio
        rows_read = len(frame)
        prices = np.stack([columns[price] for price in PRICES])
        readable = np.isfinite(columns["timestamp"]) & np.isfinite(prices).all(axis=0)
        positive = readable & (prices > 0).all(axis=0)
        ordered = positive & (columns["high"] >= columns["low"])
        kept = {column: values[ordered] for column, values in columns.items()}
        # Days and weeks start at midnight UTC, whatever hour the source gave them.
        grain_s = 86_400 if step_s >= 86_400 else 1
        instant = (kept["timestamp"] // grain_s).astype(np.int64) * grain_s
        out_of_order = int(np.count_nonzero(np.diff(instant) < 0))
        order = np.argsort(instant, kind="stable")
        instant = instant[order]
        last_of_instant = np.append(np.diff(instant) != 0, True)[: len(instant)]
        order = order[last_of_instant]
        instant = instant[last_of_instant]
        open_, high, low, close = (kept[price][order].astype(np.float64) for price in PRICES)
        top, bottom = np.maximum(high, np.maximum(open_, close)), np.minimum(low, np.minimum(open_, close))
        volume = kept["volume"][order].astype(np.float64)
        volume_ok = np.isfinite(volume) & (volume >= 0)
        new = Bars(safe, timeframe, instant, open_, top, bottom, close, np.where(volume_ok, volume, 0.0))
        if not len(new):
            raise BarsInvalid(
                f"bars of {safe} must hold a usable row, was {rows_read} rows without: "
                f"{np.count_nonzero(~readable)} with a date or price that cannot be read, "
                f"{np.count_nonzero(readable & ~positive)} with a price of zero or below, "
                f"{np.count_nonzero(positive & ~ordered)} with high below low; write dates as 2024-01-31"
            )
        stored = self._merged(new) if mode == "merge" else new
        report = ImportReport(
            symbol=safe,
            timeframe=timeframe,
            rows_read=rows_read,
            rows_stored=len(stored),
            first_timestamp=int(stored.timestamp[0]),
            last_timestamp=int(stored.timestamp[-1]),
            out_of_order=out_of_order,
            dropped_duplicate=int(np.count_nonzero(ordered)) - len(new),
            dropped_unreadable=int(np.count_nonzero(~readable)),
            dropped_not_positive=int(np.count_nonzero(readable & ~positive)),
            dropped_high_below_low=int(np.count_nonzero(positive & ~ordered)),
            widened=int(np.count_nonzero((top != high) | (bottom != low))),
            volume_missing=int(np.count_nonzero(~volume_ok)),
            gaps=_gaps(stored.timestamp, step_s),
        )
        return stored, report

    def _merged(self, new: Bars) -> Bars:
        try:
            old = self.load(new.symbol, new.timeframe)
        except NoBars:
            return new
        other = ~np.isin(old.timestamp, new.timestamp)
        order = np.argsort(np.concatenate([old.timestamp[other], new.timestamp]), kind="stable")
        joined = (np.concatenate([getattr(old, name)[other], getattr(new, name)])[order] for name in COLUMNS)
        return Bars(new.symbol, new.timeframe, *joined)

    def _batches(self, symbols: Iterable[str], timeframe: str, most_bytes: int | None = None) -> Iterator[list[_Entry]]:
        # ``most_bytes`` is what is read of a file at most; None = all of it.
        folder = self.path / timeframe
        batch: list[_Entry] = []
        batch_bytes = 0
        for symbol in symbols:
            safe = safe_symbol(symbol)
            if safe is None:
                continue
            file = folder / f"{safe}.parquet"
            try:
                size_bytes = file.stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                continue
            if most_bytes is not None:
                size_bytes = min(size_bytes, most_bytes)
            is_large = size_bytes > _LARGE_BYTES
            if batch and (is_large or batch_bytes + size_bytes > _BATCH_BYTES):
                yield batch
                batch, batch_bytes = [], 0
            batch.append((safe, file, size_bytes))
            batch_bytes += size_bytes
            if is_large:
                yield batch
                batch, batch_bytes = [], 0
        if batch:
            yield batch

    def _read_one(
        self,
        entry: _Entry,
        timeframe: str,
        start_s: float | None,
        end_s: float | None,
        before: int | None,
    ) -> Bars:
        symbol, file, size_bytes = entry
        with _reading(file):
            lazy = pl.scan_parquet(file, glob=False).select(_TYPED)
            if size_bytes > _LARGE_BYTES:
                # The instants first, so that only the row groups of the window are read.
                timestamp = lazy.select("timestamp").collect().get_column("timestamp").to_numpy()
                part = _window(timestamp, start_s, end_s, before)
                lazy = lazy.slice(part.start, part.stop - part.start)
            bars = _sound(_bars_of(lazy.collect(), symbol, timeframe), file)
        return bars[_window(bars.timestamp, start_s, end_s, before)]


def _read_ahead(batches: Iterable[list[_Entry]]) -> Iterator[tuple[list[_Entry], pl.DataFrame | None]]:
    # The next batch is read while this one is worked on: polars lets other threads run.
    with ThreadPoolExecutor(1, "bars") as thread:
        last: tuple[list[_Entry], Future[pl.DataFrame | None]] | None = None
        for batch in batches:
            reading = thread.submit(_read_batch, batch)
            if last is not None:
                yield last[0], last[1].result()
            last = batch, reading
        if last is not None:
            yield last[0], last[1].result()


def _read_batch(batch: list[_Entry]) -> pl.DataFrame | None:
    # None = to be read one by one: a lone file, or one is broken or of other types, and the error is to name it.
    if len(batch) == 1:
        return None
    files = [file for _, file, _ in batch]
    try:
        return pl.scan_parquet(files, glob=False, include_file_paths="file").select(*_TYPED, "file").collect()
    except (pl.exceptions.PolarsError, OSError):
        return None


def _parts(frame: pl.DataFrame, batch: list[_Entry]) -> Iterator[tuple[str, int, int]]:
    # Where each file's rows stand in the table that was read from all of them.
    runs = frame.get_column("file").rle()
    lengths = dict(zip(runs.struct.field("value").to_list(), runs.struct.field("len").to_list(), strict=True))
    offset = 0
    for symbol, file, _ in batch:
        length = lengths.get(str(file), 0)
        yield symbol, offset, length
        offset += length


def _extent(symbol: str, timestamp: NDArray[np.int64]) -> Extent:
    if not len(timestamp):
        return Extent(symbol, 0, None, None)
    return Extent(symbol, len(timestamp), int(timestamp[0]), int(timestamp[-1]))


class _reading:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (pl.exceptions.PolarsError, OSError)):
            raise BarsInvalid(
                f"{self.file} must be a table with the columns {', '.join(COLUMNS)}, was unreadable: {error}; "
                "import it again"
            ) from error


def _bars_of(table: pl.DataFrame, symbol: str, timeframe: str) -> Bars:
    return Bars(symbol, timeframe, *(table.get_column(name).to_numpy() for name in COLUMNS))


def _sound(bars: Bars, file: Path) -> Bars:
    # A file may have been put there by hand: bars out of order would trade backwards in time without a word.
    timestamp = bars.timestamp
    if len(timestamp) and not (
        timestamp.dtype == np.int64 and (timestamp[1:] > timestamp[:-1]).all() and timestamp[-1] < _MAX_EPOCH_S
    ):
        raise BarsInvalid(f"{file} must have rising timestamps in epoch seconds, was not so; import it again")
    return bars


def _canonical(symbol: str) -> str:
    return safe_symbol(symbol) or symbol


def _listed(symbols: Iterable[str]) -> str:
    names = list(symbols)
    return ", ".join(name[:40] for name in names[:20]) + (", ..." if len(names) > 20 else "") or "none"


def _window(timestamp: NDArray[np.int64], start_s: float | None, end_s: float | None, before: int | None) -> slice:
    first = 0 if start_s is None else int(np.searchsorted(timestamp, start_s, side="left"))
    stop = len(timestamp) if end_s is None else int(np.searchsorted(timestamp, end_s, side="right"))
    stop = max(stop, first)
    first = 0 if before is None else max(first - before, 0)
    return slice(first, stop)


def _gaps(timestamp: NDArray[np.int64], step_s: int) -> list[list[int]]:
    step = np.diff(timestamp)
    if step_s >= 86_400:
        is_gap = step > 5 * step_s
    else:
        is_gap = (step > step_s) & (timestamp[1:] // 86_400 == timestamp[:-1] // 86_400)
    places = np.flatnonzero(is_gap)[:GAPS_SHOWN]
    return [[int(timestamp[place]), int(timestamp[place + 1])] for place in places]


def _read_foreign(file: Path, is_daily: bool) -> pl.DataFrame:
    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file, glob=False)
        else:
            frame = pl.read_csv(file, infer_schema=False, glob=False)
        frame = frame.rename({name: name.strip().lower() for name in frame.columns})
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BarsInvalid(f"{file} must be a csv or parquet file of bars, was not ({reason}); check it") from error
    time_name = next((name for name in _TIME_NAMES if name in frame.columns), None)
    missing = [name for name in PRICES if name not in frame.columns]
    if time_name is None:
        missing.insert(0, "date")
    if time_name is None or missing:
        raise BarsInvalid(
            f"{file} must have the columns {', '.join(missing)}, was {', '.join(frame.columns)[:200]}; add them"
        )
    chosen = [_instants(frame.get_column(time_name), is_daily)]
    chosen += [_numbers(frame, name, name) for name in PRICES]
    chosen.append(_numbers(frame, "volume", "volume"))
    adjusted = next((name for name in _ADJUSTED_NAMES if name in frame.columns), None)
    if adjusted is not None:
        chosen.append(_numbers(frame, adjusted, "adjusted"))
    symbol_name = next((name for name in ("symbol", "ticker") if name in frame.columns), None)
    if symbol_name is not None:
        chosen.append(
            frame.get_column(symbol_name)
            .cast(pl.String)
            .fill_null("")
            .str.strip_chars()
            .str.to_uppercase()
            .alias("symbol")
        )
    return pl.DataFrame(chosen)


def _numbers(frame: pl.DataFrame, name: str, alias: str) -> pl.Series:
    if name not in frame.columns:
        return pl.Series(alias, np.full(len(frame), np.nan))
    column = frame.get_column(name)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
    return column.cast(pl.Float64, strict=False).fill_null(float("nan")).alias(alias)


def _instants(column: pl.Series, is_daily: bool) -> pl.Series:
    # Epoch seconds as float64, NaN where the text is no instant. Of days the date counts as it is written: midnight in
    # Tokyo is still the day before in UTC.
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        if is_daily:
            column = column.dt.replace_time_zone(None)
        seconds = column.dt.epoch("us").cast(pl.Float64) / 1e6
    elif column.dtype == pl.String:
        text = column.str.strip_chars()
        if is_daily:
            text = text.str.replace(r"^(\d{4}-\d\d-\d\d)[ Tt].*$", "${1}")
        numeric = _epoch_seconds(text.cast(pl.Float64, strict=False))
        plain = text.str.replace(r"(?i)(z|utc|[+-]00:?00)$", "").str.strip_chars().str.replace("[Tt]", " ")
        shifted = text.str.replace(r"^(\S+) (\S+)$", "${1}T${2}").str.to_datetime(
            "%+", strict=False, time_unit="us", time_zone="UTC"
        )
        found = pl.DataFrame({"numeric": numeric, "shifted": shifted.dt.epoch("us").cast(pl.Float64) / 1e6})
        for place, form in enumerate(("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")):
            moment = plain.str.to_datetime(form, strict=False, time_unit="us")
            found = found.with_columns((moment.dt.epoch("us").cast(pl.Float64) / 1e6).alias(f"text{place}"))
        day = plain.str.to_date("%Y-%m-%d", strict=False)
        found = found.with_columns((day.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6).alias("day"))
        seconds = found.select(pl.coalesce("day", "text0", "text1", "shifted", "numeric")).to_series()
    else:
        seconds = _epoch_seconds(column.cast(pl.Float64, strict=False))
    return seconds.fill_null(float("nan")).alias("timestamp")


def _epoch_seconds(number: pl.Series) -> pl.Series:
    # Seconds reach 1e11 in the year 5138, milliseconds pass it in 1973: the size tells the unit. Seconds of August 1970
    # are days without their dashes, such as 20240131.
    is_day = number.is_between(19_000_101, 21_001_231).fill_null(False)
    if is_day.any():
        text = pl.select(pl.when(is_day).then(number)).to_series().cast(pl.Int64, strict=False).cast(pl.String)
        day = text.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
        rest = _epoch_seconds(pl.select(pl.when(~is_day).then(number)).to_series())
        return pl.select(pl.when(is_day).then(day).otherwise(rest)).to_series()
    size = number.abs()
    divisor = pl.DataFrame({"size": size}).select(
        pl.when(pl.col("size") >= 1e17).then(1e9).when(pl.col("size") >= 1e14).then(1e6)
        .when(pl.col("size") >= 1e11).then(1e3).otherwise(1.0)
    )  # fmt: skip
    return number / divisor.to_series()
