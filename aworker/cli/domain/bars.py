"""``aworker bars``: the price bars that a worker trades on, brought in and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aworker.cli.options import ConfigOption, JsonOption, configured
from aworker.errors import ConfigError

if TYPE_CHECKING:
    from aworker.trading.bars.importing import ImportReport
    from aworker.trading.bars.store import BarsInvalid, BarStore, Extent

program = typer.Typer(help="The price bars in store.", no_args_is_help=True, rich_markup_mode=None)

PathOption = Annotated[
    Path | None, typer.Option("--path", help="Folder of bars [default: [market_data] path, else the bundled ones]")
]
TimeframeOption = Annotated[str, typer.Option("--timeframe", "-t", help="Such as 1d, 1h, 15m")]


@program.command("import")
def import_bars(
    file: Annotated[
        Path, typer.Argument(help="csv, JSON, xlsx, parquet or feather, also in zip or gz; of a zip all files")
    ],
    symbol: Annotated[str | None, typer.Option("--symbol", help="[default: what the file says]")] = None,
    timeframe: Annotated[
        str | None,
        typer.Option("--timeframe", "-t", help="Such as 1d, 1h, 15m [default: as far apart as the rows are]"),
    ] = None,
    mode: Annotated[
        Literal["replace", "merge"], typer.Option("--mode", help="merge keeps the older bars of other instants")
    ] = "replace",
    adjust: Annotated[bool, typer.Option("--adjust", help="Adjust by the column adj close, for splits")] = False,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Which column is what, by name or place: date=Datum,close=5")
    ] = None,
    date_format: Annotated[
        str | None, typer.Option("--date-format", help="dmy, mdy, ymd or a pattern such as %d.%m.%Y")
    ] = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of times that say none: America/New_York, UTC")] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="What stands before decimals: , or .")] = None,
    volume_unit: Annotated[float, typer.Option("--volume-unit", help="How many shares a volume of 1 is")] = 1.0,
    price_unit: Annotated[float, typer.Option("--price-unit", help="How much money a price of 1 is")] = 1.0,
    stamps: Annotated[str, typer.Option("--stamps", help="open, or end where a bar is stamped at its end")] = "open",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing")] = False,
    path: PathOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check the bars of a file and store them, all or none.

    It says what it takes for what. What no guess may decide is refused, with the option that tells it. When one of the
    file's symbols is wrong nothing is stored.
    """
    store = _store(config, path)
    from aworker.cli.screen.show import open_console, plain, print_json
    from aworker.trading.bars.importing import import_bars as bring_in
    from aworker.trading.bars.store import BUNDLED_PATH
    from aworker.trading.bars.values import Told
    from aworker.trading.strategies.strategy import TIMEFRAMES

    if not dry_run and store.path.resolve().is_relative_to(BUNDLED_PATH.resolve()):
        raise ConfigError(
            "market_data.path must be a folder of your own to import into, was the bundled data set; "
            "set [market_data] path in the configuration, or give --path DIR"
        )
    if timeframe is not None and timeframe not in TIMEFRAMES:
        raise typer.BadParameter(f"--timeframe must be one of {', '.join(TIMEFRAMES)}, was {timeframe!r}")
    told = Told(tz, date_format, decimal, volume_unit, price_unit, {} if columns is None else _named(columns), stamps)
    reports = bring_in(store, file, timeframe, symbol, mode=mode, adjust=adjust, told=told, is_dry=dry_run)
    if as_json:
        print_json([report.as_dict() for report in reports])
        return
    console = open_console()
    for line in dict.fromkeys(note for report in reports for note in report.taken):
        console.print(plain(f"taken: {line}"), soft_wrap=True)
    for report in reports:
        for line in report_lines(report):
            console.print(plain(line), soft_wrap=True)
    if dry_run:
        console.print("Nothing was stored (--dry-run)", soft_wrap=True)
    elif path is not None:
        console.print(f"A worker uses them with [market_data] path = {str(path.resolve())!r}", soft_wrap=True)


def _named(columns: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in columns.split(",")]
    if not all(name.strip() and column.strip() for name, _, column in pairs):
        raise typer.BadParameter(f"--columns must be pairs such as date=Datum,close=5, was {columns!r}")
    return {name.strip(): column.strip() for name, _, column in pairs}


@program.command("list")
def list_bars(
    timeframe: Annotated[str | None, typer.Option("--timeframe", "-t", help="[default: all there are]")] = None,
    path: PathOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the symbols that have bars."""
    store = _store(config, path)
    from aworker.cli.screen.show import open_console, plain, print_json

    found: list[tuple[str, Extent]] = []
    broken: list[BarsInvalid] = []
    for each in store.timeframes() if timeframe is None else [timeframe]:
        extents, errors = _extents(store, each)
        found += ((each, extent) for extent in extents)
        broken += errors
    if as_json:
        import msgspec

        print_json([{"timeframe": each, **msgspec.to_builtins(extent)} for each, extent in found])
    elif found:
        _print_extents(found)
    elif not broken:
        what = "" if timeframe is None else f" {plain(timeframe)}"
        open_console().print(f"No{what} bars under {plain(store.path)}", soft_wrap=True)
    for error in broken:
        typer.echo(f"aworker: {error}", err=True)
    if broken:
        raise typer.Exit(1)


def _extents(store: BarStore, timeframe: str) -> tuple[list[Extent], list[BarsInvalid]]:
    from aworker.trading.bars.store import BarsInvalid

    symbols = store.symbols(timeframe)
    try:
        return list(store.extents(symbols, timeframe)), []
    except BarsInvalid:
        # One file is broken: one by one, so that the others are shown.
        extents: list[Extent] = []
        broken: list[BarsInvalid] = []
        for symbol in symbols:
            try:
                extents += store.extents([symbol], timeframe)
            except BarsInvalid as error:
                broken.append(error)
        return extents, broken


def _print_extents(found: list[tuple[str, Extent]]) -> None:
    from rich.table import Table

    from aworker.cli.screen.show import open_console
    from aworker.trading.bars.store import instant_text

    table = Table("symbol", "timeframe", box=None, padding=(0, 2, 0, 0))
    for heading in ("bars", "first", "last"):
        table.add_column(heading, justify="right")
    for each, extent in found:
        ends = (extent.first_timestamp, extent.last_timestamp)
        texts = ("-" if instant is None else instant_text(instant, each) for instant in ends)
        table.add_row(extent.symbol, each, f"{extent.bars:,}", *texts)
    open_console().print(table)


@program.command()
def show(
    symbol: str,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="So many of the latest")] = 10,
    timeframe: TimeframeOption = "1d",
    path: PathOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show the latest bars of a symbol, oldest first."""
    store = _store(config, path)
    bars = next(store.load_latest([symbol], timeframe, count), None)
    if bars is None:
        raise store.no_bars([symbol], timeframe)
    from aworker.cli.screen.show import open_console, print_json
    from aworker.trading.bars.store import COLUMNS, instant_text

    rows = list(zip(*(getattr(bars, name).tolist() for name in COLUMNS), strict=True))
    if as_json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
        return
    from rich.table import Table

    table = Table("bar", title=f"{bars.symbol} {timeframe}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in COLUMNS[1:]:
        table.add_column(name, justify="right")
    for timestamp, *prices, volume in rows:
        table.add_row(instant_text(timestamp, timeframe), *(f"{price:,.4f}" for price in prices), f"{volume:,.0f}")
    open_console().print(table)


def report_lines(report: ImportReport) -> list[str]:
    """Return what an import did with one symbol, in words: a line for what is stored, one for each thing amiss."""
    from aworker.trading.bars.importing import GAPS_SHOWN
    from aworker.trading.bars.store import instant_text

    def instant(timestamp: int | None) -> str:
        return "?" if timestamp is None else instant_text(timestamp, report.timeframe)

    instead = f" in place of {report.rows_before:,}" if report.rows_before else ""
    lines = [
        f"{report.symbol} {report.timeframe}: {_counted(report.rows_read, 'row')} read, "
        f"{_counted(report.rows_stored, 'bar')} stored{instead}, "
        f"{instant(report.first_timestamp)} to {instant(report.last_timestamp)}"
    ]
    amiss = (
        (report.dropped_unreadable, f"dropped, cannot be read (the first in {report.first_unreadable})"),
        (report.dropped_not_positive, "dropped, a price is zero or negative"),
        (report.dropped_high_below_low, f"dropped, high is below low (the first in {report.first_high_below_low})"),
        (report.dropped_duplicate, "dropped, a later row has the same instant"),
        (report.out_of_order, "out of order, sorted"),
        (report.widened, "open or close outside low to high, these were widened"),
        (report.volume_missing, "volume missing or negative, stored as 0"),
    )
    lines += [f"  {what}: {count:,}" for count, what in amiss if count]
    if report.unadjusted:
        lines.append(
            f"  adj close differs from close in {_counted(report.unadjusted, 'row')}: "
            "splits or dividends are not taken out; --adjust does it"
        )
    lines += [f"  look: {each}" for each in report.warnings]
    lines += [f"  gap: no bar between {instant(before)} and {instant(after)}" for before, after in report.gaps]
    if len(report.gaps) >= GAPS_SHOWN:
        lines.append(f"  (these are the first {GAPS_SHOWN} gaps)")
    return lines


def _counted(count: int, what: str) -> str:
    from aworker.cli.screen.show import plural

    return f"{count:,} {plural(what, count)}"


def _store(config: Path | None, path: Path | None) -> BarStore:
    settings = configured(config, market_data={"path": None if path is None else str(path)})
    from aworker.trading.bars.store import BarStore

    return BarStore(settings.market_data.path or None)
