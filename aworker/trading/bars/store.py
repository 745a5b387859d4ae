"""Price bars: one parquet file per symbol and timeframe, ``<path>/<timeframe>/<SYMBOL>.parquet``.

Invariant: what the store holds is in time order without duplicates, a file is either the old or the new one, never half
of one, and of the symbols written together all are new or none. A symbol reaches a path only through `safe_symbol`.

How symbols are written together, under the lock of the store: drafts ``.<SYMBOL>.draft`` are written and synced, then
one record ``.record`` names them, then each is renamed to its place, then the record is removed. Whoever next writes to
the store or lists the symbols of the timeframe finishes what a record left behind says; drafts without a record are
removed by the next to write. So a kill at any moment leaves all old or all new. Why a lock file and not one per symbol:
an import takes seconds and is rare, and one lock cannot deadlock.

Why files are read in batches: a call of polars costs 0.7 ms whatever it reads, so 500 symbols one by one take 350 ms,
in batches 65 ms, and the next batch is read while one is worked on. Why they are not compressed: adjusted prices hardly
compress (lz4 saves 8 %, zstd 15 %), and reading takes 90 ms with lz4, 150 ms with zstd. Compressed files are read all
the same.

Why 1,024 rows stand in a row group: it is the least that can be read of a file, so the last 300 of 2,520 daily bars
cost 23 KB instead of 123 KB, and of a million minute bars the same. Smaller groups make reading a whole file slower.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aworker.errors import AworkerError, RequestDeclined

BUNDLED_PATH = Path(__file__).parent.parent / "data"
"""The data set in the package: five US stocks, daily, 2000-03-01 to 2013-03-01, adjusted."""

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close")
MAX_EPOCH_S = 100_000_000_000
"""The year 5138; what is above it is no seconds but milliseconds."""
SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=_-]{0,31}")
_TIMEFRAME = re.compile(r"([1-9][0-9]{0,3})([mhdw])")
_LOCK = ".lock"
_RECORD = ".record"
_BATCH_BYTES = 4 << 20
_LARGE_BYTES = 8 << 20
_ROW_GROUP = 1 << 10
_ROW_BYTES = 8 * len(COLUMNS)
_TYPED = [pl.col(name).cast(pl.Int64 if name == "timestamp" else pl.Float64) for name in COLUMNS]
_Entry = tuple[str, Path, int]
"""A symbol, its file and the file's size in bytes."""


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


def safe_symbol(symbol: str) -> str | None:
    """Return the symbol in upper case, or None when it is none (and so could not name a file safely)."""
    upper = symbol.strip().upper()
    return upper if _SYMBOL.fullmatch(upper) else None


def checked_symbol(symbol: str) -> str:
    """Return the symbol as `safe_symbol` does. Raises BarsInvalid when it is none."""
    safe = safe_symbol(symbol)
    if safe is None:
        raise BarsInvalid(f"symbol must be 1 to 32 of A-Z 0-9 . ^ = _ -, was {symbol[:40]!r}; rename it")
    return safe


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
        folder = self.path / timeframe
        try:
            names = os.listdir(folder)
            if _RECORD in names:
                self._finish(folder)
                names = os.listdir(folder)
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
            table = _read_batch(batch, _TYPED[:1])
            if table is None:
                for entry in batch:
                    yield _extent(entry[0], self._read_one(entry, timeframe, None, None, 0).timestamp)
                continue
            timestamp = table.get_column("timestamp")
            for symbol, offset, length in _parts(table, batch):
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
        """Store the bars of several symbols as `write` does: all of a timeframe, or, when one cannot be written, none.

        The markets are drawn while nobody else writes, so what they read of the store is what they replace.
        """
        try:
            with self._locked():
                self._settle()
                try:
                    drafts = [self._draft_of(bars) for bars in markets]
                    for folder in {draft.parent for draft in drafts}:
                        _write_record(folder, [draft.name for draft in drafts if draft.parent == folder])
                finally:
                    self._settle()
        except OSError as error:
            raise BarsInvalid(
                f"{self.path} must be a folder to write bars to, was not ({error}); correct it"
            ) from error

    @contextmanager
    def _locked(self, wait: bool = True) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield
            finally:
                # Closing would not do: a child that was forked meanwhile has the file open too.
                fcntl.flock(stream, fcntl.LOCK_UN)

    def _finish(self, folder: Path) -> None:
        try:
            with self._locked(wait=False):
                _settle(folder)
        except OSError:
            # Somebody is writing now and finishes it, or the store is only to be read: go on with what is there.
            pass

    def _settle(self) -> None:
        for folder in self.path.iterdir():
            if _TIMEFRAME.fullmatch(folder.name) and folder.is_dir():
                _settle(folder)

    def _draft_of(self, bars: Bars) -> Path:
        safe = checked_symbol(bars.symbol)
        timeframe_s(bars.timeframe)
        if np.any(np.diff(bars.timestamp) <= 0):
            raise BarsInvalid(f"timestamps of {safe} must rise from bar to bar, was not so; sort them first")
        folder = self.path / bars.timeframe
        folder.mkdir(exist_ok=True)
        draft = folder / f".{safe}.draft"
        frame = pl.DataFrame({name: getattr(bars, name) for name in COLUMNS})
        with draft.open("wb") as stream:
            frame.write_parquet(stream, compression="uncompressed", row_group_size=_ROW_GROUP)
            stream.flush()
            os.fsync(stream.fileno())
        return draft

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


def _write_record(folder: Path, drafts: list[str]) -> None:
    # Its rename is the moment from which all is new, so the drafts must be on the disk before.
    draft = folder / f"{_RECORD}~"
    with draft.open("w", encoding="ascii") as stream:
        stream.write("\n".join(drafts))
        stream.flush()
        os.fsync(stream.fileno())
    _sync(folder)
    draft.replace(folder / _RECORD)
    _sync(folder)


def _settle(folder: Path) -> None:
    # Bring a timeframe's folder to rest, under the lock: do what its record says, remove drafts that none speaks of.
    record = folder / _RECORD
    if record.exists():
        for name in record.read_text(encoding="ascii", errors="replace").splitlines():
            draft = folder / name
            symbol = name[1:].removesuffix(".draft")
            if _SYMBOL.fullmatch(symbol) and draft.exists():
                draft.replace(folder / f"{symbol}.parquet")
        _sync(folder)
        record.unlink()
    for draft in folder.glob(".*.draft"):
        draft.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_ahead(batches: Iterable[list[_Entry]]) -> Iterator[tuple[list[_Entry], pl.DataFrame | None]]:
    # The next batch is read while this one is worked on: polars lets other threads run. A lone file is left to be read
    # by itself: it may be large.
    with ThreadPoolExecutor(1, "bars") as thread:
        last: tuple[list[_Entry], Future[pl.DataFrame | None]] | None = None
        for batch in batches:
            reading = thread.submit(lambda files: _read_batch(files, _TYPED) if len(files) > 1 else None, batch)
            if last is not None:
                yield last[0], last[1].result()
            last = batch, reading
        if last is not None:
            yield last[0], last[1].result()


def _read_batch(batch: list[_Entry], columns: list[pl.Expr]) -> pl.DataFrame | None:
    # None = to be read one by one: a file is broken or of other types, and the error is to name it.
    files = [file for _, file, _ in batch]
    try:
        return pl.scan_parquet(files, glob=False, include_file_paths="file").select(*columns, "file").collect()
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


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "unreadable"
        raise BarsInvalid(
            f"{file} must be a table with the columns {', '.join(COLUMNS)}, was {reason}; import it again"
        ) from error


def _bars_of(table: pl.DataFrame, symbol: str, timeframe: str) -> Bars:
    return Bars(symbol, timeframe, *(table.get_column(name).to_numpy() for name in COLUMNS))


def _sound(bars: Bars, file: Path) -> Bars:
    # A file may have been put there by hand: bars out of order would trade backwards in time without a word.
    timestamp = bars.timestamp
    if len(timestamp) and not (
        timestamp.dtype == np.int64 and (timestamp[1:] > timestamp[:-1]).all() and timestamp[-1] < MAX_EPOCH_S
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
