"""What an import reads, mends, refuses and reports; and that nothing is mixed or made up."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aworker.trading.bars.importing import import_bars
from aworker.trading.bars.store import Bars, BarsInvalid, BarStore
from aworker.trading.bars.values import Told
from tests.kit.market import DAY_S, START_S, make_bars, random_bars, store_of

CSV = """Date,Open,High,Low,Close,Volume
2020-01-03,10,12,9,11,100
2020-01-02,10,12,9,11,100
2020-01-06,10,12,9,11,100
2020-01-06,20,22,19,21,200
2020-01-07,-1,12,9,11,100
2020-01-08,10,8,9,9,100
2020-01-09,10,nan,9,11,100
2020-01-10,13,12,9,8,
soon,10,12,9,11,100
2020-02-10,10,12,9,11,100
"""


def test_an_import_says_what_it_dropped_and_mended(tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text(CSV)
    store = BarStore(tmp_path / "store")

    (report,) = import_bars(store, file, "1d", "new")

    bars = store.load("NEW", "1d")
    assert report.as_dict() == {
        "symbol": "NEW",
        "timeframe": "1d",
        "rows_before": 0,
        "rows_read": 10,
        "rows_stored": 5,
        "first_timestamp": START_S + DAY_S,
        "last_timestamp": START_S + 40 * DAY_S,
        "out_of_order": 1,
        "dropped_duplicate": 1,
        "dropped_unreadable": 2,
        "first_unreadable": {
            "place": "line 8",
            "column": "High",
            "text": "nan",
            "advice": "write numbers as 1010.50",
        },
        "dropped_not_positive": 1,
        "dropped_high_below_low": 1,
        "first_high_below_low": "line 7",
        "widened": 1,
        "volume_missing": 1,
        "unadjusted": 0,
        "taken": [],
        "warnings": [
            "2020-01-06: the close goes from 11 to 21, as a reverse split of 1.9 to 1 that nobody took out; "
            "adjust the prices",
            "2020-01-10: the close goes from 21 to 8; look whether that is so",
        ],
        "gaps": [[START_S + 9 * DAY_S, START_S + 40 * DAY_S]],
    }
    assert bars.close.tolist() == [11, 11, 21, 8, 11]
    assert bars.low[3] == 8
    assert bars.high[3] == 13
    assert bars.volume.tolist() == [100, 100, 200, 0, 100]
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "first, second",
    [
        ("2020-01-02T14:30:00Z", "2020-01-02T14:31:00Z"),
        ("2020-01-02 14:30:00", "2020-01-02 14:31"),
        ("2020-01-02T15:30:00+01:00", "2020-01-02 09:31:00-05:00"),
        ("1577975400", "1577975460"),
        ("1577975400000", "1577975460000"),
        ("1577975400000000000", "1577975460000000000"),
    ],
)
def test_instants_are_read_in_many_spellings(tmp_path: Path, first: str, second: str) -> None:
    file = tmp_path / "minutes.csv"
    file.write_text(f"Time,open,high,low,close\n{first},1,1,1,1\n{second},1,1,1,1\n")
    store = BarStore(tmp_path / "store")

    import_bars(store, file, "1m", "M", told=Told(tz="UTC"))

    assert store.load("M", "1m").timestamp.tolist() == [1_577_975_400, 1_577_975_460]


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-02",
        "20200102",
        "2020-01-02 00:00:00+09:00",
        "2020-01-02T23:00:00-05:00",
        "2020-01-02T00:00",
        "1577923200",
    ],
)
@pytest.mark.parametrize("timeframe", ["1d", "1w"])
def test_a_day_is_the_date_that_is_written(tmp_path: Path, text: str, timeframe: str) -> None:
    file = tmp_path / "days.csv"
    file.write_text(f"date,open,high,low,close\n{text},1,1,1,1\n")
    store = BarStore(tmp_path / "store")

    import_bars(store, file, timeframe, "D")

    assert store.load("D", timeframe).timestamp.tolist() == [START_S + DAY_S]


@pytest.mark.parametrize(
    "dates",
    [
        pl.Series("date", [20200102]),
        pl.Series("date", ["2020-01-02"]).str.to_datetime().dt.replace_time_zone("Asia/Tokyo"),
        pl.Series("date", [1_577_923_200_000]),
    ],
    ids=["compact", "zoned", "ms"],
)
def test_days_of_a_parquet_file_are_those_that_are_written(tmp_path: Path, dates: pl.Series) -> None:
    file = tmp_path / "days.parquet"
    pl.DataFrame([dates, *(pl.Series(name, [1.0]) for name in ("open", "high", "low", "close"))]).write_parquet(file)
    store = BarStore(tmp_path / "store")

    import_bars(store, file, "1d", "D")

    assert store.load("D", "1d").timestamp.tolist() == [START_S + DAY_S]


def test_a_parquet_file_with_dates_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "foreign.parquet"
    days = pl.Series("Date", ["2020-01-02", "2020-01-03"]).str.to_date()
    pl.DataFrame([days, *(pl.Series(name, [5, 6]) for name in ("Open", "High", "Low", "Close"))]).write_parquet(file)
    store = BarStore(tmp_path / "store")

    (report,) = import_bars(store, file, "1d", "P")

    assert report.rows_stored == 2
    assert store.load("P", "1d").timestamp.tolist() == [START_S + DAY_S, START_S + 2 * DAY_S]


def test_a_file_of_many_symbols_is_taken_apart(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text(
        "ticker,date,open,high,low,close\nA,2020-01-02,1,1,1,1\nB,2020-01-02,2,2,2,2\nA,2020-01-03,3,3,3,3\n"
    )
    store = BarStore(tmp_path / "store")

    reports = import_bars(store, file)

    assert [(report.symbol, report.rows_stored) for report in reports] == [("A", 2), ("B", 1)]
    assert store.load("A", "1d").close.tolist() == [1, 3]


def test_a_symbol_in_two_spellings_is_one(tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("symbol,date,open,high,low,close\nA,2020-01-02,1,1,1,1\n a ,2020-01-03,3,3,3,3\n")
    store = BarStore(tmp_path / "store")

    reports = import_bars(store, file)

    assert [(report.symbol, report.rows_stored) for report in reports] == [("A", 2)]


def test_merging_keeps_older_bars_and_prefers_new_ones(tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("date,open,high,low,close\n2020-01-03,9,9,9,9\n2020-01-04,9,9,9,9\n")
    flat = make_bars([(1, 1, 1, 1)] * 3, "M")
    store = BarStore(store_of(tmp_path / "store", flat))

    import_bars(store, file, "1d", "M", mode="merge")

    assert store.load("M", "1d").close.tolist() == [1, 1, 9, 9]


def test_adjusting_keeps_the_money_traded(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text(
        "date,open,high,low,close,volume,adj close\n2020-01-02,10,12,8,10,100,5\n2020-01-03,5,6,4,5,200,5\n"
    )
    store = BarStore(tmp_path / "store")

    import_bars(store, file, "1d", "S", adjust=True)

    bars = store.load("S", "1d")
    assert [bars.open[0], bars.high[0], bars.low[0], bars.close[0], bars.volume[0]] == [5, 6, 4, 5, 200]
    assert bars.volume.tolist() == [200, 200]


@pytest.mark.parametrize(
    "text, message",
    [
        ("date,open,high,low\n2020-01-02,1,1,1\n", "must have the columns close"),
        ("when,open,high,low,close\n2020-01-02,1,1,1,1\n", "must have the columns date"),
        (
            "date,open,high,low,close\n2020-01-02,0,0,0,0\n",
            "was 1 row without: 1 with a price of zero or below; correct",
        ),
        ("date,open,high,low,close\n", r"bad\.csv must have rows of bars, was a header that has no rows"),
        (
            "date,open,high,low,close\n01/02/2020,1,1,1,1\n",
            "must say whether the day or the month comes first, was '01/02/2020' and the like; "
            "say it with --date-format dmy or --date-format mdy",
        ),
        ("date,open,high,low,close\n2-Jax-2020,1,1,1,1\n", "column date: '2-Jax-2020'.*; write dates as 2024-01-31$"),
        ("date,open,high,low,close\n20201332,1,1,1,1\n", "1 with a date or price that cannot be read"),
        ("date,open,high,low,close\n01-02-20,1,1,1,1\n", "must say whether the day or the month comes first"),
        ("date,open,high,low,close\n45292,1,1,1,1\n", "column date: '45292'.*; write dates as 2024-01-31$"),
        (
            "date,open,high,low,close\n2020-01-02,1,1,1,~1\n",
            r"line 2, column close: '~1'\); write numbers as 1010.50$",
        ),
        ("date,open,high,low,close\n2020-01-02,1,,1,1\n", r"line 2, column high: nothing\); write numbers as 1010.50$"),
        ("Date,date,open,high,low,close\n2020-01-02,2020-01-02,1,1,1,1\n", "one column .*, was with 'Date' and 'date'"),
        ("date,open,high,low,Close,close\n2020-01-02,1,1,1,1,2\n", "was with 'Close' and 'close'; remove one"),
        ("date,open,high,low,close,close\n2020-01-02,1,1,1,1,2\n", "was with 'close' and 'close'; remove one"),
        (
            "date,open,high,low,close,adj_close,Adj Close\n2020-01-02,1,1,1,1,2,3\n",
            "was with 'adj_close' and 'Adj Close'",
        ),
        (
            "date,open,high,low,close\n2020-01-02,1,1,1,1\n2020-01-03,1,1,1,1,9\n",
            "of 5 columns whose line 3 has 6 fields",
        ),
        ('date,open,high,low,close\n2020-01-02,1,1,1,"1\n', "quotation mark that is not closed"),
        ("date open high low close\n2020-01-02 1 1 1 1\n", "separated by comma, semicolon, tab or |"),
        ("a b c\n2020-01-02 1 1 1 1\n", "write their names in the first line"),
        ("", r"bad\.csv must be a csv or parquet file of bars, was empty"),
        ("\n\n", r"bad\.csv must be a csv or parquet file of bars, was empty"),
    ],
)
def test_a_file_that_is_no_bars_stores_nothing(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    store = BarStore(store_of(tmp_path / "store", random_bars(1, 5)))

    with pytest.raises(BarsInvalid, match=message):
        import_bars(store, file, "1d", "TEST")

    assert len(store.load("TEST", "1d")) == 5


def test_a_file_without_symbols_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("date,open,high,low,close\n2020-01-02,1,1,1,1\n")

    with pytest.raises(BarsInvalid, match="column symbol or ticker"):
        import_bars(BarStore(tmp_path), file)


HEADER = "date,open,high,low,close\n"


def _imported(tmp_path: Path, text: str | bytes, timeframe: str = "1d", symbol: str | None = "TEST") -> Bars:
    file = tmp_path / "foreign.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    store = BarStore(tmp_path / "store")
    import_bars(store, file, timeframe, symbol, told=Told(tz="UTC"))
    return store.load(symbol or "TEST", timeframe)


def _refused(tmp_path: Path, content: str | bytes | pl.DataFrame, timeframe: str = "1d", **options: Any) -> str:
    file = tmp_path / "foreign.csv"
    if isinstance(content, pl.DataFrame):
        content.write_parquet(file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BarsInvalid) as refused:
        import_bars(
            BarStore(tmp_path / "store"), file, timeframe, **{"symbol": "TEST", "told": Told(tz="UTC"), **options}
        )
    assert not (tmp_path / "store").exists()
    message = str(refused.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


def test_one_symbol_is_never_made_of_many(tmp_path: Path) -> None:
    text = "symbol,date,open,high,low,close\nAAA,2020-01-02,1,1,1,1\nBBB,2020-01-03,2,2,2,2\n"

    message = _refused(tmp_path, text)

    assert message == (
        "foreign.csv must hold one symbol to be named TEST, was 2 (AAA, BBB); "
        "import it without naming one, or take out the others"
    )


def test_one_symbol_may_be_named_anew(tmp_path: Path) -> None:
    bars = _imported(tmp_path, "symbol,date,open,high,low,close\nAAA,2020-01-02,1,1,1,1\n aaa,2020-01-03,2,2,2,2\n")

    assert bars.close.tolist() == [1, 2]


def test_a_column_of_symbols_by_another_name_is_noticed(tmp_path: Path) -> None:
    rows = "".join(f"N{number},2020-01-02,{number},{number},{number},{number}\n" for number in range(1, 5))

    message = _refused(tmp_path, "Name,date,open,high,low,close\n" + rows)

    assert message.startswith("rows of TEST must have an instant each, was 4 rows of 1 instant; give the column")


@pytest.mark.parametrize(
    "header, first, second",
    [
        ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>", "2020.01.02\t14:30:00", "2020.01.02\t14:31:00"),
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>", "20200102,143000", "20200102,143100"),
        ("Date,Time,Open,High,Low,Close", "2020-01-02,14:30", "2020-01-02,14:31"),
        ("Time,Date,Open,High,Low,Close", "1430,2020/01/02", "1431,2020/01/02"),
        ("Date,Time,Open,High,Low,Close", "2020-01-02 00:00:00,14:30", "2020-01-02 00:00:00,14:31"),
    ],
)
def test_a_date_and_a_time_are_joined(tmp_path: Path, header: str, first: str, second: str) -> None:
    separator = "\t" if "\t" in header else ","
    prices = separator.join(["", "1", "1", "1", "1"])

    bars = _imported(tmp_path, f"{header}\n{first}{prices}\n{second}{prices}\n", "1m")

    assert bars.timestamp.tolist() == [1_577_975_400, 1_577_975_460]


def _typed(**columns: pl.Series) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    prices = {price: pl.Series([1.0] * count) for price in ("open", "high", "low", "close")}
    return pl.DataFrame(prices | columns)


DAYS = pl.Series([date(2020, 1, 2), date(2020, 1, 3)])
HOURS = pl.Series([time(14, 30), time(14, 30)])


@pytest.mark.parametrize("days", [DAYS, DAYS.cast(pl.Datetime), DAYS.cast(pl.String)], ids=["date", "datetime", "text"])
@pytest.mark.parametrize("hours", [HOURS, HOURS.cast(pl.String)], ids=["time", "text"])
def test_typed_dates_and_times_are_joined(tmp_path: Path, days: pl.Series, hours: pl.Series) -> None:
    file = tmp_path / "typed.parquet"
    _typed(date=days, time=hours).write_parquet(file)
    store = BarStore(tmp_path / "store")

    import_bars(store, file, "1h", "TEST", told=Told(tz="UTC"))
    import_bars(store, file, "1d", "TEST")

    assert store.load("TEST", "1h").timestamp.tolist() == [1_577_975_400, 1_577_975_400 + DAY_S]
    assert store.load("TEST", "1d").timestamp.tolist() == [START_S + DAY_S, START_S + 2 * DAY_S]


def test_of_daily_bars_the_date_counts_where_the_time_is_none(tmp_path: Path) -> None:
    text = "date,time,open,high,low,close\n2020-01-02,,1,1,1,1\n2020-01-03,close,1,1,1,1\n"

    assert _imported(tmp_path, text).timestamp.tolist() == [START_S + DAY_S, START_S + 2 * DAY_S]


@pytest.mark.parametrize("times", [("930", "100000"), ("93000", "100000"), ("", ""), ("9.30", "10.00")])
def test_times_that_do_not_join_are_refused(tmp_path: Path, times: tuple[str, str]) -> None:
    rows = "".join(f"2020-01-02,{time},1,1,1,1\n" for time in times)

    message = _refused(tmp_path, "date,time,open,high,low,close\n" + rows, "1m")

    assert "2 with a date or price that cannot be read (the first in line 2, column date and time: " in message


@pytest.mark.parametrize(
    "timeframe, step_s, told",
    [
        ("1d", 3_600, "was one every 1h; say --timeframe 1h"),
        ("1d", 43_200, "was one every 12h; say --timeframe 4h"),
        ("1h", 60, "was one every 1m; say --timeframe 1m"),
        ("1h", 1_800, "was one every 30m; say --timeframe 30m"),
        ("1w", DAY_S, "was one every 1d; say --timeframe 1d"),
        ("1m", 1, "was one every 1s; join them to bars of a minute or more"),
    ],
)
@pytest.mark.parametrize("spelling", ["text", "epoch", "zoned"])
def test_rows_finer_than_the_timeframe_are_refused(
    tmp_path: Path, timeframe: str, step_s: int, told: str, spelling: str
) -> None:
    instants = [START_S + place * step_s for place in range(30)]
    moments = [datetime.fromtimestamp(instant, UTC) for instant in instants]
    texts = {
        "text": [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in moments],
        "epoch": [str(instant) for instant in instants],
        "zoned": [f"{moment:%Y-%m-%dT%H:%M:%S}-05:00" for moment in moments],
    }[spelling]

    message = _refused(tmp_path, HEADER + "".join(f"{text},1,1,1,1\n" for text in texts), timeframe)

    assert message == f"rows of TEST must be about as far apart as the timeframe {timeframe}, {told}"


def test_months_are_no_days(tmp_path: Path) -> None:
    rows = [f"{year}-{month:02}-01,1,1,1,1\n" for year in (2020, 2021) for month in range(1, 13)]

    assert "was one every 4.43w; no --timeframe is longer than a week, take bars of a week or less" in _refused(
        tmp_path, HEADER + "".join(rows)
    )


def test_two_bars_of_a_session_are_no_days(tmp_path: Path) -> None:
    rows = [f"2020-01-{day:02} {hour}:30,1,1,1,1\n" for day in (2, 3, 6, 7) for hour in ("09", "13")]

    assert "was one every 4h; say --timeframe 4h" in _refused(tmp_path, HEADER + "".join(rows))


def test_days_that_start_at_another_hour_in_summer_are_days(tmp_path: Path) -> None:
    file = tmp_path / "summer.parquet"
    days = pl.datetime_range(datetime(2020, 1, 1), datetime(2020, 12, 31), "1d", eager=True, time_zone="US/Eastern")
    _typed(timestamp=days.dt.convert_time_zone("UTC").dt.replace_time_zone(None)).write_parquet(file)

    (report,) = import_bars(BarStore(tmp_path / "store"), file, "1d", "TEST")

    assert report.rows_stored == 366


@pytest.mark.parametrize(
    "columns, told",
    [
        ({"time": HOURS}, "column 'time' of foreign.csv must hold dates or instants, was of type Time; convert it"),
        ({"date": DAYS - DAYS}, "column 'date' of foreign.csv must hold dates or instants, was of type Duration"),
        ({"date": DAYS == DAYS}, "column 'date' of foreign.csv must hold dates or instants, was of type Boolean"),
        (
            {"date": DAYS, "close": pl.Series([True, False])},
            "column 'close' of foreign.csv must hold numbers, was of type B",
        ),
        ({"date": DAYS, "close": pl.Series([[1.0], [2.0]])}, "must hold numbers, was of type List(Float64)"),
        ({"date": DAYS, "close": pl.Series([{"a": 1.0}] * 2)}, "must hold numbers, was of type Struct"),
        ({"date": DAYS, "close": pl.Series([b"1", b"2"])}, "must hold numbers, was of type Binary"),
        ({"date": DAYS, "close": DAYS}, "must hold numbers, was of type Date"),
        ({"date": DAYS, "volume": pl.Series([True, False])}, "must hold numbers, was of type Boolean"),
        (
            {"date": DAYS, "time": pl.Series([93_000, 100_000])},
            "must hold times of day, to be joined with the dates, was",
        ),
        (
            {"date": DAYS.cast(pl.Datetime("us", "UTC")), "time": HOURS},
            "must hold dates to be joined with times, was of",
        ),
        (
            {"date": DAYS, "symbol": pl.Series([1.5, 2.5])},
            "column 'symbol' of foreign.csv must hold text, was of type Float",
        ),
    ],
)
def test_columns_of_a_wrong_type_are_refused(tmp_path: Path, columns: dict[str, pl.Series], told: str) -> None:
    assert told in _refused(tmp_path, _typed(**columns))


@pytest.mark.parametrize(
    "kind",
    [pl.Int8, pl.UInt16, pl.Int64, pl.Float32, pl.Float64, pl.Decimal(10, 2), pl.String, pl.Categorical],
    ids=str,
)
def test_prices_of_every_numeric_type_are_read(tmp_path: Path, kind: Any) -> None:
    file = tmp_path / "typed.parquet"
    close = pl.Series(["1", "2"]).cast(kind) if kind == pl.Categorical else pl.Series([1, 2]).cast(kind)
    _typed(date=DAYS, close=close, high=pl.Series([3.0, 3.0])).write_parquet(file)
    store = BarStore(tmp_path / "store")

    import_bars(store, file, "1d", "TEST")

    assert store.load("TEST", "1d").close.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "content, told",
    [
        (b"what is\nthis,\xe9?\n", "was text whose line 2 is not UTF-8, or binary; save it as UTF-8"),
        (b"date\0\0\1\2", "was binary; save it as csv in UTF-8"),
        (b"PK\x03\x04\x00\x00\x00\xff", "was an archive that is broken; download it again"),
        (b"\x89PNG\xff\xfe", "was a picture; download the data itself"),
        (b"<!DOCTYPE html><title>Error</title>", "was a web page; download the data itself"),
        (b"%PDF-1.7", "was a PDF"),
        (b"PAR1 not at all PAR1", "was no parquet that can be read; write it again"),
        (b"\x1f\x8b\x08\x00cut off", "was unreadable (broken gzip)"),
    ],
    ids=["another text", "binary", "zip", "png", "html", "pdf", "parquet", "gzip"],
)
def test_a_file_of_another_kind_is_told_in_words(tmp_path: Path, content: bytes, told: str) -> None:
    message = _refused(tmp_path, content)

    assert message.startswith("foreign.csv must be a csv or parquet file of bars, was ")
    assert told in message


def test_a_broken_parquet_file_never_ends_in_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "foreign.parquet"
    _typed(date=DAYS).write_parquet(file)
    sound = file.read_bytes()
    store = BarStore(tmp_path / "store")

    for place in range(4, len(sound) - 4, 7):
        file.write_bytes(sound[:place] + b"\xff\xff\xff" + sound[place + 3 :])
        try:
            import_bars(store, file, "1d", "TEST")
        except BarsInvalid:
            continue


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    for name, told in ((".", "was a folder; name a file in it"), ("gone.csv", "was not there; check the name")):
        with pytest.raises(BarsInvalid, match=told):
            import_bars(BarStore(tmp_path / "store"), tmp_path / name, "1d", "TEST")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_separators_and_line_ends_are_found(tmp_path: Path, separator: str, end: str) -> None:
    lines = ["date,open,high,low,close,volume", "2020-01-02,1,1,1,1,5", "2020-01-03,2,2,2,2,6", ""]

    bars = _imported(tmp_path, end.join(lines).replace(",", separator))

    assert bars.close.tolist() == [1, 2]
    assert bars.volume.tolist() == [5, 6]


@pytest.mark.parametrize(
    "rows, separator, close",
    [
        (["10,5", "9,25", "10"], ";", [10.5, 9.25, 10]),
        (["1.010,50", "990,5"], ";", [1010.5, 990.5]),
        (["1,010.50", "990.5", "1,000"], ",", [1010.5, 990.5, 1000]),
        (["1,234,567.5"], "\t", [1_234_567.5]),
    ],
)
def test_numbers_that_read_one_way_are_read(
    tmp_path: Path, rows: list[str], separator: str, close: list[float]
) -> None:
    lines = [separator.join(["date", "open", "high", "low", "close"])]
    lines += [separator.join([f"2020-01-{day:02}", *[f'"{row}"'] * 4]) for day, row in enumerate(rows, 1)]

    assert _imported(tmp_path, "\n".join(lines)).close.tolist() == close


@pytest.mark.parametrize(
    "rows, separator",
    [(["1,010", "1,020"], ";"), (["1,010", "1,020"], ","), (["1,01,0"], ";"), (["1,5", "1.5"], ";")],
)
def test_numbers_that_read_two_ways_are_not(tmp_path: Path, rows: list[str], separator: str) -> None:
    lines = [separator.join(["date", "open", "high", "low", "close"])]
    lines += [separator.join([f"2020-01-{day:02}", "1", "1", "1", f'"{row}"']) for day, row in enumerate(rows, 1)]
    file = tmp_path / "foreign.csv"
    file.write_text("\n".join([*lines, separator.join(["2020-02-01", "1", "1", "1", "1"])]))

    (report,) = import_bars(BarStore(tmp_path / "store"), file, "1d", "TEST")

    first = report.first_unreadable
    assert report.dropped_unreadable == sum("," in row for row in rows)
    assert first is not None
    assert (first.place, first.column, first.text, first.advice) == (
        "line 2",
        "close",
        rows[0],
        "write numbers as 1010.50, or say --decimal , or --decimal .",
    )


def test_volumes_with_thousands_are_read(tmp_path: Path) -> None:
    bars = _imported(tmp_path, 'date,open,high,low,close,volume\n2020-01-02,1.5,1.5,1.5,1.5,"1,234"\n')

    assert bars.volume.tolist() == [1234]


@pytest.mark.parametrize("text", ["2020/01/02", "2020.01.02", "2020/1/2", "20200102", "2020-01-02T00:00:00.000Z"])
def test_dates_that_begin_with_the_year_are_read(tmp_path: Path, text: str) -> None:
    assert _imported(tmp_path, f"{HEADER}{text},1,1,1,1\n").timestamp.tolist() == [START_S + DAY_S]


def test_each_symbol_has_its_first_unreadable_value(tmp_path: Path) -> None:
    file = tmp_path / "foreign.csv"
    file.write_text(
        "\nsymbol,date,open,high,low,close\nA,2020-01-02,1,1,1,1\nB,2020-01-02,1,1,1,1\nC,2020-01-02,1,1,1,1\n"
        "B,2020-01-03,1,1,x,y\nA,2020-01-03,1,1,1,\nB,never,1,1,1,1\n"
    )

    reports = import_bars(BarStore(tmp_path / "store"), file)

    assert [str(report.first_unreadable) for report in reports] == [
        "line 7, column close: nothing",
        "line 6, column low: 'x'",
        "None",
    ]


def test_of_a_parquet_file_the_row_is_told(tmp_path: Path) -> None:
    frame = _typed(date=DAYS, close=pl.Series([None, None], dtype=pl.Float64))

    assert "(the first in row 1, column close: nothing)" in _refused(tmp_path, frame)


def test_a_report_says_what_was_there_before(tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text(HEADER + "2020-01-03,1,1,1,1\n")
    store = BarStore(store_of(tmp_path / "store", random_bars(1, 5)))

    (merged,) = import_bars(store, file, "1d", "TEST", mode="merge")
    (replaced,) = import_bars(store, file, "1d", "TEST")
    (first,) = import_bars(store, file, "1d", "OTHER")
    (tmp_path / "store" / "1d" / "OTHER.parquet").write_bytes(b"broken")
    (mended,) = import_bars(store, file, "1d", "OTHER")

    pairs = [(report.rows_before, report.rows_stored) for report in (merged, replaced, first, mended)]
    assert pairs == [(5, 5), (5, 1), (0, 1), (0, 1)]


def test_a_report_says_that_splits_are_not_taken_out(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text(
        "date,open,high,low,close,adj close\n2020-01-02,10,12,8,10,5\n2020-01-03,5,6,4,5,5.004\n2020-01-06,5,6,4,5,\n"
    )
    store = BarStore(tmp_path / "store")

    (plain,) = import_bars(store, file, "1d", "S")
    (adjusted,) = import_bars(store, file, "1d", "S", adjust=True)

    assert (plain.unadjusted, plain.dropped_unreadable) == (1, 0)
    assert (adjusted.unadjusted, adjusted.dropped_unreadable) == (0, 1)
    assert str(adjusted.first_unreadable) == "line 4, column adj close: nothing"
