"""The bar store: what a window holds, what an import refuses, and that no name leaves the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aworker.errors import RequestDeclined
from aworker.trading.bars import store as bars_module
from aworker.trading.bars.store import (
    BUNDLED_PATH,
    COLUMNS,
    Bars,
    BarsInvalid,
    BarStore,
    Extent,
    NoBars,
    instant_text,
    safe_symbol,
    timeframe_s,
)
from tests.kit.market import DAY_S, START_S, make_bars, random_bars, store_of


def test_bundled_bars_are_there_without_a_path() -> None:
    store = BarStore()

    bars = store.load("AAPL", "1d")

    assert store.symbols("1d") == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert store.timeframes() == ["1d"]
    assert len(bars) == 3270
    assert [instant_text(int(bars.timestamp[place]), "1d") for place in (0, -1)] == ["2000-03-01", "2013-03-01"]
    assert set(store.sectors()) == set(store.symbols("1d"))


@pytest.mark.parametrize("symbol, split", [("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")])
def test_bundled_prices_and_volumes_do_not_jump_at_a_split(symbol: str, split: str) -> None:
    bars = BarStore().load(symbol, "1d")

    day = [instant_text(int(instant), "1d") for instant in bars.timestamp].index(split)

    assert abs(bars.open[day] / bars.close[day - 1] - 1) < 0.05
    assert bars.volume[day] / np.mean(bars.volume[day - 20 : day]) < 2


def test_bundled_bars_hold_open_and_close_inside_their_range() -> None:
    for bars in BarStore().load_many(BarStore().symbols("1d"), "1d"):
        slack = 1e-12 * bars.close

        assert (bars.high + slack >= np.maximum(bars.open, bars.close)).all()
        assert (bars.low - slack <= np.minimum(bars.open, bars.close)).all()
        assert (bars.low > 0).all()
        assert (np.diff(bars.timestamp) > 0).all()


def _day(place: int) -> int:
    return START_S + place * DAY_S


def test_a_window_includes_both_ends_and_bars_before_it(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 50)))

    window = store.load("TEST", "1d", _day(10), _day(20))
    warm = store.load("TEST", "1d", _day(10), _day(20), before=4)
    whole = store.load("TEST", "1d", _day(10), _day(20), before=None)
    after = store.load("TEST", "1d", _day(60), _day(70), before=5)

    assert window.timestamp[[0, -1]].tolist() == [_day(10), _day(20)]
    assert warm.timestamp[[0, -1]].tolist() == [_day(6), _day(20)]
    assert whole.timestamp[[0, -1]].tolist() == [_day(0), _day(20)]
    assert after.timestamp.tolist() == [_day(place) for place in range(45, 50)]


def test_the_latest_bars_are_the_end_of_all(tmp_path: Path) -> None:
    markets = [random_bars(seed, length, f"S{length}") for seed, length in enumerate((3, 50, 1024, 1025, 2100))]
    store = BarStore(store_of(tmp_path, *markets))

    found = list(store.load_latest([*(bars.symbol for bars in markets), "NONE", "../S3"], "1d", 40))

    assert [bars.symbol for bars in found] == [bars.symbol for bars in markets]
    for written, read in zip(markets, found, strict=True):
        for column in COLUMNS:
            np.testing.assert_array_equal(getattr(read, column), getattr(written, column)[-40:])
            assert getattr(read, column).dtype == (np.int64 if column == "timestamp" else np.float64)


def test_of_the_latest_bars_no_more_is_read_than_holds_them(tmp_path: Path) -> None:
    written = random_bars(1, 5_000)
    store = BarStore(store_of(tmp_path, written))
    file = tmp_path / "1d" / "TEST.parquet"
    content = file.read_bytes()
    # The last of five row groups begins after four fifths; what stands before is made junk.
    junk = len(content) * 3 // 4
    file.write_bytes(content[:4] + b"\xff" * (junk - 4) + content[junk:])

    (latest,) = store.load_latest(["TEST"], "1d", 800)

    np.testing.assert_array_equal(latest.close, written.close[-800:])
    with pytest.raises(BarsInvalid):
        store.load("TEST", "1d")


def test_batched_large_and_single_reading_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    markets = [random_bars(seed, 40 + seed, f"S{seed}") for seed in range(7)]
    store = BarStore(store_of(tmp_path, *markets))
    names = [bars.symbol for bars in markets]
    window = (START_S + 9 * DAY_S, START_S + 42 * DAY_S)

    together = list(store.load_many(names, "1d", *window, before=3))
    alone = [store.load(name, "1d", *window, before=3) for name in names]
    monkeypatch.setattr(bars_module, "_BATCH_BYTES", 6_000)
    in_twos = list(store.load_many(names, "1d", *window, before=3))
    monkeypatch.setattr(bars_module, "_LARGE_BYTES", 0)
    as_large = list(store.load_many(names, "1d", *window, before=3))

    for other in (alone, in_twos, as_large):
        assert [bars.symbol for bars in other] == names
        for left, right in zip(together, other, strict=True):
            for column in COLUMNS:
                np.testing.assert_array_equal(getattr(left, column), getattr(right, column))


def test_what_was_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    written = random_bars(3, 100)

    read = BarStore(store_of(tmp_path, written)).load("test", "1d")

    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(read, column), getattr(written, column))
        assert getattr(read, column).dtype == (np.int64 if column == "timestamp" else np.float64)


def test_a_timeframe_without_bars_is_declined_with_those_there_are() -> None:
    with pytest.raises(NoBars, match=r"has bars in the store \(1d\), was 1w; choose another"):
        BarStore().choose(None, None, "1w")


def test_a_symbol_without_bars_is_declined_with_what_there_is() -> None:
    with pytest.raises(NoBars, match=r"was TSLA; choose from the 5 it has: AAPL, FB, GOOG, IBM, MSFT"):
        BarStore().load("TSLA", "1d")

    assert issubclass(NoBars, RequestDeclined)


@pytest.mark.parametrize(
    "symbol", ["../AAPL", "..", "/etc/passwd", "A/B", "A\\B", "", "A\x00", "A" * 33, ".HIDDEN", "Ä"]
)
def test_no_symbol_leaves_the_folder(tmp_path: Path, symbol: str) -> None:
    store = BarStore(store_of(tmp_path / "inside", random_bars(1, 5)))

    assert safe_symbol(symbol) is None
    assert list(store.load_many([symbol], "1d")) == []
    assert store.last_timestamp(symbol, "1d") is None
    with pytest.raises(BarsInvalid, match="symbol must be"):
        store.write(make_bars([(1, 1, 1, 1)], symbol))


@pytest.mark.parametrize("timeframe", ["", "1x", "0d", "../1d", "d", "1d/..", "99999m", "-1d"])
def test_no_timeframe_leaves_the_folder(timeframe: str) -> None:
    with pytest.raises(RequestDeclined, match="timeframe must be"):
        BarStore().load("AAPL", timeframe)


def test_timeframes_have_their_seconds() -> None:
    assert [timeframe_s(text) for text in ("1m", "15m", "1h", "1d", "1w")] == [60, 900, 3600, 86_400, 604_800]


@pytest.mark.parametrize("symbol", ["BRK.B", "BTC-USD", "^GSPC", "ES=F", "brk_a"])
def test_usual_symbols_can_be_stored(tmp_path: Path, symbol: str) -> None:
    store = BarStore(store_of(tmp_path, make_bars([(1, 1, 1, 1)], symbol)))

    assert store.symbols("1d") == [symbol.upper()]
    assert len(store.load(symbol, "1d")) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5)))
    new = random_bars(2, 9)
    broken = Bars("TEST", "1d", new.timestamp, new.open[:3], new.high, new.low, new.close, new.volume)

    with pytest.raises(pl.exceptions.PolarsError):
        store.write(broken)

    assert len(store.load("TEST", "1d")) == 5
    assert [file.name for file in (tmp_path / "1d").iterdir()] == ["TEST.parquet"]


def test_bars_out_of_order_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(BarsInvalid, match="timestamps of TEST must rise"):
        BarStore(tmp_path).write(random_bars(1, 5)[::-1])


def test_the_last_timestamp_is_the_newest_bar(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5), make_bars([], "NONE")))

    assert store.last_timestamp("TEST", "1d") == START_S + 4 * DAY_S
    assert store.last_timestamp("NONE", "1d") is None
    assert store.last_timestamp("GONE", "1d") is None


def test_extents_are_those_of_the_bars(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5, "A"), make_bars([], "NONE"), random_bars(2, 7, "Z")))

    extents = list(store.extents(["A", "GONE", "NONE", "Z"], "1d"))

    assert extents == [
        Extent("A", 5, START_S, START_S + 4 * DAY_S),
        Extent("NONE", 0, None, None),
        Extent("Z", 7, START_S, START_S + 6 * DAY_S),
    ]


def test_the_extent_of_a_broken_file_names_it(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5), random_bars(2, 5, "GOOD")))
    (tmp_path / "1d" / "TEST.parquet").write_bytes(b"PAR1 not at all PAR1")

    with pytest.raises(BarsInvalid, match=r"TEST\.parquet must be a table"):
        list(store.extents(["GOOD", "TEST"], "1d"))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5), random_bars(2, 5, "GOOD")))
    (tmp_path / "1d" / "TEST.parquet").write_bytes(b"PAR1 not at all PAR1")

    with pytest.raises(BarsInvalid, match=r"TEST\.parquet must be a table with the columns timestamp, open"):
        list(store.load_many(["GOOD", "TEST"], "1d"))
    with pytest.raises(BarsInvalid, match=r"TEST\.parquet must be a table with the columns"):
        list(BarStore(tmp_path).load_latest(["GOOD", "TEST"], "1d", 5))
    with pytest.raises(BarsInvalid, match=r"TEST\.parquet"):
        store.load("TEST", "1d")


def test_a_file_whose_columns_are_text_is_named(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5)))
    for name in ("A", "B"):
        frame = pl.DataFrame({"timestamp": [1, 2]} | {name: ["1.0", "no"] for name in COLUMNS[1:]})
        frame.write_parquet(tmp_path / "1d" / f"{name}.parquet")

    for read in (store.load_many(["A", "B"], "1d"), store.load_latest(["A", "B"], "1d", 1)):
        with pytest.raises(BarsInvalid, match=r"A\.parquet must be a table with the columns"):
            list(read)


def test_a_file_with_integer_prices_is_read_among_others(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5)))
    frame = pl.DataFrame({name: [1, 2, 3] for name in COLUMNS})
    frame.write_parquet(tmp_path / "1d" / "WHOLE.parquet")

    read = list(store.load_many(["TEST", "WHOLE"], "1d"))

    assert read[1].close.tolist() == [1.0, 2.0, 3.0]
    assert read[1].close.dtype == np.float64


@pytest.mark.parametrize(
    "instants",
    [[2, 1], [1, 1], [1, None], [1_577_836_800_000, 1_577_923_200_000]],
    ids=["falling", "same", "null", "ms"],
)
def test_a_file_put_there_by_hand_must_be_sound(tmp_path: Path, instants: list[int | None]) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5)))
    frame = pl.DataFrame({"timestamp": instants} | {name: [1.0, 2.0] for name in COLUMNS[1:]})
    frame.write_parquet(tmp_path / "1d" / "HAND.parquet")

    with pytest.raises(BarsInvalid, match=r"HAND\.parquet must have rising timestamps in epoch seconds"):
        list(store.load_many(["TEST", "HAND"], "1d"))
    with pytest.raises(BarsInvalid, match=r"HAND\.parquet must have rising timestamps in epoch seconds"):
        store.load("HAND", "1d")


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BarsInvalid, match="file must be a folder to write bars to, was not"):
        BarStore(tmp_path / "file").write(random_bars(1, 5))


def test_when_one_symbol_cannot_be_written_none_is(tmp_path: Path) -> None:
    store = BarStore(store_of(tmp_path, random_bars(1, 5, "A")))

    with pytest.raises(BarsInvalid, match="timestamps of B must rise"):
        store.write_many([random_bars(2, 3, "A"), random_bars(3, 3, "B")[::-1]])

    assert len(store.load("A", "1d")) == 5
    assert [file.name for file in (tmp_path / "1d").iterdir()] == ["A.parquet"]


def test_a_store_may_bring_its_own_sectors(tmp_path: Path) -> None:
    (tmp_path / "sectors.json").write_text('{"TEST": "Energy"}')

    assert BarStore(tmp_path).sectors() == {"TEST": "Energy"}


@pytest.mark.parametrize("text", ["[1]", '{"A": 1}', "{"])
def test_sectors_that_are_no_mapping_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sectors.json").write_text(text)

    with pytest.raises(BarsInvalid, match=r"sectors\.json must"):
        BarStore(tmp_path).sectors()


def test_symbols_are_chosen_from_what_was_asked_then_the_strategy_then_the_store() -> None:
    store = BarStore()

    assert store.choose(["msft", "ZZZ", "MSFT"], ["IBM"], "1d") == (["MSFT"], ["ZZZ"])
    assert store.choose(None, ["IBM"], "1d") == (["IBM"], [])
    assert store.choose(None, None, "1d", only=["FB", "XX"]) == (["FB"], [])
    with pytest.raises(NoBars, match="was YYY, ZZZ"):
        store.choose(["ZZZ", "YYY"], None, "1d")
    with pytest.raises(NoBars, match="was none"):
        store.choose([], None, "1d")
    with pytest.raises(RequestDeclined, match="securities must name one of the symbols AAPL, was IBM"):
        store.choose(["AAPL"], None, "1d", only=["IBM"])


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    store = BarStore(tmp_path / "nowhere")

    assert store.symbols("1d") == []
    assert store.timeframes() == []
    with pytest.raises(NoBars, match="must hold bars, was without any; import some"):
        store.choose(None, None, "1d")


def test_the_bundled_folder_says_where_it_comes_from() -> None:
    text = (BUNDLED_PATH / "README.md").read_text()

    assert "public domain" in text
    assert "bokeh_sampledata" in text
