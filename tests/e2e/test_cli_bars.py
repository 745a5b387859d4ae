"""`aworker bars`: bringing bars in, and looking at what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aworker.trading.bars.store import BUNDLED_PATH, BarStore
from tests.kit.commands import ROOT, Here

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume\n"
SOUND = "2024-01-02,10,12,9,11,11,100\n2024-01-03,11,13,10,12,12,200\n"


def test_import_says_what_it_dropped(here: Here, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(
        HEADER
        + "2024-01-03,11,13,10,12,12,200\n2024-01-02,10,12,9,11,11,100\n"  # out of order
        + "2024-01-03,11,13,10,12.5,12.5,200\n"  # duplicate
        + "2024-01-04,-1,13,10,12,12,200\n"
        + "2024-01-05,11,9,10,12,12,200\n"
        + "2024-01-08,NaN,13,10,12,12,200\n"
        + "2024-01-09,11,13,10,14,14,\n"  # close above high, no volume
        + "2024-02-09,11,13,10,12,12,200\n"
    )

    ended = here("bars", "import", "bad.csv", "--symbol", "acme", "--path", "bars")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "ACME 1d: 8 rows read, 4 bars stored, 2024-01-02 to 2024-02-09",
        "  dropped, cannot be read (the first in line 7, column Open: 'NaN'): 1",
        "  dropped, a price is zero or negative: 1",
        "  dropped, high is below low (the first in line 6): 1",
        "  dropped, a later row has the same instant: 1",
        "  out of order, sorted: 1",
        "  open or close outside low to high, these were widened: 1",
        "  volume missing or negative, stored as 0: 1",
        "  gap: no bar between 2024-01-03 and 2024-01-09",
        "  gap: no bar between 2024-01-09 and 2024-02-09",
        f"A worker uses them with [market_data] path = {str(tmp_path / 'bars')!r}",
    ]
    assert BarStore(tmp_path / "bars").load("ACME", "1d").close.tolist() == [11.0, 12.5, 14.0, 12.0]


def test_merge_keeps_what_is_older_and_replace_does_not(here: Here, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(HEADER + SOUND)
    (tmp_path / "new.csv").write_text(HEADER + "2024-01-03,1,3,1,2,1,5\n2024-01-04,1,3,1,2,1,5\n")
    given = ("--symbol", "ACME", "--path", "bars", "--json")

    here("bars", "import", "old.csv", *given)
    merged = here("bars", "import", "new.csv", "--mode", "merge", *given)
    replaced = here("bars", "import", "new.csv", "--adjust", *given)

    assert json.loads(merged.stdout)[0]["rows_stored"] == 3
    assert json.loads(replaced.stdout)[0]["rows_stored"] == 2
    assert BarStore(tmp_path / "bars").load("ACME", "1d").close.tolist() == [1.0, 1.0]


def test_list_and_show(here: Here, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("symbol," + HEADER + "".join(f"B,{row}\na,{row}\n" for row in SOUND.split()))
    here("bars", "import", "two.csv", "--path", "bars")

    listed = here("bars", "list", "--path", "bars")
    as_json = here("bars", "list", AWORKER_MARKET_DATA__PATH="bars")
    shown = here("bars", "show", "a", "-n", 1, "--path", "bars")
    row = here("bars", "show", "A", "-n", 1, "--json", "--path", "bars")
    none = here("bars", "show", "NONE", "--path", "bars")
    empty = here("bars", "list", "--path", "nowhere")

    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["symbol", "timeframe", "bars", "first", "last"],
        ["A", "1d", "2", "2024-01-02", "2024-01-03"],
        ["B", "1d", "2", "2024-01-02", "2024-01-03"],
    ]
    assert as_json.stdout == listed.stdout
    assert shown.stdout.splitlines()[-1].split() == ["2024-01-03", "11.0000", "13.0000", "10.0000", "12.0000", "200"]
    assert json.loads(row.stdout) == [
        {"timestamp": 1_704_240_000, "open": 11.0, "high": 13.0, "low": 10.0, "close": 12.0, "volume": 200.0}
    ]
    assert none.returncode == 1
    assert "symbols must have 1d bars in the store, was NONE; choose from the 2 it has: A, B" in none.stderr
    assert empty.stdout == "No bars under nowhere\n"


def test_one_wrong_symbol_leaves_all_as_they_were(here: Here, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("symbol," + HEADER + "A,2024-01-02,10,12,9,11,11,100\nB,2024-01-02,0,0,0,0,0,0\n")

    ended = here("bars", "import", "two.csv", "--path", "bars")

    assert ended.returncode == 1
    assert "bars of B must hold a usable row, was 1 row without: 1 with a price of zero or below" in ended.stderr
    assert BarStore(tmp_path / "bars").symbols("1d") == []


@pytest.mark.parametrize("path", [(), ("--path", BUNDLED_PATH)], ids=["unset", "named"])
def test_the_bundled_bars_are_not_imported_into(here: Here, tmp_path: Path, path: tuple[object, ...]) -> None:
    (tmp_path / "one.csv").write_text(HEADER + SOUND)

    ended = here("bars", "import", "one.csv", "--symbol", "AAPL", *path)

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "set [market_data] path in the configuration, or give --path DIR" in ended.stderr


@pytest.mark.parametrize(
    "text, arguments, code, told",
    [
        (HEADER + SOUND, (), 1, "must have a column symbol or ticker, was without; name the symbol instead"),
        (HEADER + SOUND, ("--symbol", "../x"), 1, "symbol must be 1 to 32 of A-Z 0-9"),
        (HEADER + SOUND, ("--symbol", "A", "--timeframe", "2d"), 2, "--timeframe must be one of 1m, 5m, 15m"),
        (HEADER + SOUND, ("--symbol", "A", "--mode", "append"), 2, "append"),
        ("Date,Close\n2024-01-02,1\n", ("--symbol", "A"), 1, "must have the columns open, high, low"),
        ("Date,Open,High,Low,Close\n2024-01-02,1,1,1,1\n", ("--symbol", "A", "--adjust"), 1, "column adj close"),
        ("", ("--symbol", "A"), 1, "x.csv must be a csv or parquet file of bars, was empty; export it again"),
        (None, ("--symbol", "A"), 1, "x.csv must be a csv or parquet file of bars, was not there; check the name"),
        (HEADER + SOUND, ("--symbol", "A", "-t", "1w"), 1, "was one every 1d; say --timeframe 1d"),
        (
            "Date,Open,High,Low,Close\n2/1/24,1,1,1,1\n",
            ("--symbol", "A"),
            1,
            "was '2/1/24' and the like; say it with --date-format",
        ),
        (HEADER + SOUND, ("--symbol", "A", "--path", "x.csv"), 1, "x.csv must be a folder to write bars to, was not"),
    ],
)
def test_a_file_that_is_no_bars_is_told_in_words(
    here: Here, tmp_path: Path, text: str | None, arguments: tuple[str, ...], code: int, told: str
) -> None:
    if text is not None:
        (tmp_path / "x.csv").write_text(text)

    ended = here("bars", "import", "x.csv", "--path", "bars", *arguments)

    assert ended.returncode == code
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "bars").glob("**/*"))


def test_import_says_what_it_replaced_and_did_not_adjust(here: Here, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(HEADER + SOUND)
    (tmp_path / "new.csv").write_text(HEADER + "2024-01-03,1,3,1,2,1,5\n")
    given = ("--symbol", "ACME", "--path", "bars")

    here("bars", "import", "old.csv", *given)
    ended = here("bars", "import", "new.csv", *given)

    assert ended.stdout.splitlines()[:-1] == [
        "ACME 1d: 1 row read, 1 bar stored in place of 2, 2024-01-03 to 2024-01-03",
        "  adj close differs from close in 1 row: splits or dividends are not taken out; --adjust does it",
    ]


def test_list_shows_the_others_when_one_is_broken(here: Here, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("symbol," + HEADER + "".join(f"B,{row}\na,{row}\n" for row in SOUND.split()))
    here("bars", "import", "two.csv", "--path", "bars")
    (tmp_path / "bars" / "1d" / "A.parquet").write_bytes(b"PAR1 not at all PAR1")

    listed = here("bars", "list", "--path", "bars")
    as_json = here("bars", "list", "--json", "--path", "bars")

    told = "aworker: bars/1d/A.parquet must be a table with the columns timestamp, open, high, low, close, volume, "
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["symbol", "timeframe"], ["B", "1d"]]
    assert [extent["symbol"] for extent in json.loads(as_json.stdout)] == ["B"]
    for ended in (listed, as_json):
        assert ended.returncode == 1
        assert ended.stderr == told + "was unreadable; import it again\n"


def test_the_example_of_the_documentation_is_true(here: Here, tmp_path: Path) -> None:
    text = (ROOT / "docs/bars.md").read_text(encoding="utf-8")
    example = text.partition("```\n$ aworker bars import ")[2].partition("```")[0]
    (tmp_path / "MSFT Historical Data.csv").write_bytes(
        (ROOT / "tests/data/bars/c/MSFT Historical Data.csv").read_bytes()
    )

    ended = here("bars", "import", "MSFT Historical Data.csv", "--symbol", "MSFT", "--path", "bars", "--dry-run")

    assert f'"MSFT Historical Data.csv" --symbol MSFT --path bars --dry-run\n{ended.stdout}' == example
