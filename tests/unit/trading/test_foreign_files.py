"""Files of bars as tools and vendors write them: `tests/data/bars`, written first and kept as they were written."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from aworker.cli.domain.bars import report_lines
from aworker.errors import AworkerError
from aworker.trading.bars import Bars, BarStore
from aworker.trading.bars.importing import import_bars
from aworker.trading.bars.values import Told

SETS = Path(__file__).parents[2] / "data/bars"
CASES: list[dict[str, Any]] = [
    {**case, "folder": folder}
    for folder in ("a", "b")
    for case in json.loads((SETS / folder / "manifest.json").read_text("utf-8"))
]
DISPUTED = {"duplicate-conflict": ("2024-06-03", "2024-06-28", "a later row has the same instant: 1")}
"""Read, with the row that is left out counted, where the answer asks for a refusal: first bar, last bar, words."""
OPTIONS = {
    r"\bzone\b|\btimes? are|UTC": "--tz",
    r"day first|month first|dd/mm/yy": "--date-format",
    r"lots of": "--volume-unit",
    r"scaled by": "--price-unit",
    r"decimal comma": "--decimal",
    r"order of columns|column order|the bid": "--columns",
}
"""What a person has to tell, and the option that the refusal has to name for it: one of those that are asked for."""
SAID = {
    r"no zone in": r"--tz",
    r"no volume|without a volume": r"volume missing",
    r"tick count": r"count of ticks|tick_volume|--tz",
    r"month first or day first|day/month order|day or month": r"--date-format|day first, for|--tz",
    r"Up and Down": r"Up and Down|--tz",
    r"next_page_token": r"there is more",
    r"unadjusted split": r"split of 9.9 to 1",
    r"adjusted|which set was taken|Adj Close|adjusted_close": r"--adjust",
    r"1 row without prices": r"cannot be read \(the first in line 10, column Open: 'null'\): 1",
    r"1 row dropped: a dividend": r"'0.35 Dividend'\): 1",
    r"footer line|trailer line": r"1 line below the bars left out",
    r"lots": r"--volume-unit 100",
    r"23:00Z of the evening": r"the day after the stamp",
    r"zero throughout": r"volume is 0 in every bar|--tz",
    r"bid and ask": r"bid and of ask",
    r"row must be named": r"line \d+",
    r"hours are missing|trading days are missing": r"gap: no bar between",
    r"the second column is the low|order of columns is not": r"another order",
    r"prices divided by 1e9": r"counted in billionths",
    r"zone named in the file": r"America/New_York, as the file says",
    r"prices are times 10000": r"--price-unit 0.0001",
    r"spreadsheet dates": r"as a workbook counts them",
    r"taken from sheet": r"sheet 'Price History'",
    r"Total and Average": r"'Total'\): 2",
    r"duplicated rows dropped": r"same instant: 5",
    r"names of the files": r"names of the files",
    r"decimal or thousands": r"--decimal",
    r"order was told": r"--columns",
}
"""What has to be said, and the words that say it; a claim without words here fails."""
UNSAID = {
    "polygon-day-gz": "the date is kept; that it is midnight in New York is not said",
    "tradegate-title-time": "the time of day stands in the title",
    "excel-mangled-exponents": "rounded volumes are read as they stand",
    "lse-pence": "a price in pence looks as any other",
}
NAMES = ("open", "high", "low", "close", "volume")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00") if "T" in text else f"{text}T00:00:00+00:00").timestamp()


def _told(options: str, refusal: str) -> Told:
    """Say to the importer what the answer says that a person has to tell."""
    told: dict[str, Any] = {}
    zone = re.search(r"(UTC[+-]\d+)", options) or re.search(r"zone ([A-Z][A-Za-z]+/[A-Za-z_]+|UTC)", options)
    if zone:
        told["tz"] = zone[1]
    for words, first in (("day first", "dmy"), ("dd/mm/yy", "dmy"), ("month first", "mdy")):
        if words in options:
            told["date_format"] = first
    if lots := re.search(r"lots of (\d+)", options):
        told["volume_unit"] = float(lots[1])
    if scale := re.search(r"scaled by (\S+)", options):
        told["price_unit"] = 1e-9 if scale[1] == "1e-9" else 1 / float(scale[1])
    if "decimal comma" in options:
        told["decimal"] = ","
    if "end of the bar" in options:
        told["stamps"] = "end"
    if order := re.search(r"order(?: of columns| is)?:? (?:is )?((?:\w+, )+\w+)", options):
        names = ["date" if name == "time" else name for name in order[1].split(", ")]
        told["columns"] = {name: str(place) for place, name in enumerate(names, 1)}
    if "the bid" in options and (named := re.search(r"--columns (\S+)", refusal)):
        told["columns"] = dict(pair.split("=", 1) for pair in named[1].split(","))
    return Told(**told)


def _imported(case: dict[str, Any], folder: Path, told: Told | None = None) -> tuple[BarStore, str]:
    store = BarStore(folder)
    timeframe = "1m" if case["timeframe"] == "tick" else case["timeframe"]
    symbol = "TEST" if "?" in (case.get("symbols") or "?") else None
    reports = import_bars(store, SETS / case["folder"] / case["file"], timeframe, symbol, told=told)
    return store, "\n".join(line for report in reports for line in (*report.taken, *report_lines(report)))


def _differs(bars: Bars, wanted: dict[str, Any], relative: float) -> bool:
    if len(bars) != wanted["bars"]:
        return True
    for place, row in ((0, wanted["first"]), (-1, wanted["last"]), (wanted["middle"][0], wanted["middle"][1:])):
        # A volume that is missing is stored as 0.
        values = [0.0 if value is None else value for value in row[1:]]
        got = [float(getattr(bars, name)[place]) for name in NAMES]
        if bars.timestamp[place] != _seconds(row[0]) or got != pytest.approx(values, rel=relative, abs=1e-12):
            return True
    return False


def _is_right(case: dict[str, Any], store: BarStore) -> bool:
    answers = [(case["symbols"], 1e-9), *((other["symbols"], 1e-4) for other in case.get("also_right", []))]
    return any(
        not any(
            _differs(
                store.load("TEST" if name == "?" else re.sub("[/:]", "-", name.upper()), case["timeframe"]), bars, near
            )
            for name, bars in symbols.items()
        )
        for symbols, near in answers
    )


def _check_said(case: dict[str, Any], said: str) -> None:
    for claim in case["must_say"] if case["id"] not in UNSAID else []:
        words = next((words for what, words in SAID.items() if re.search(what, claim)), None)
        assert words is not None, claim
        assert re.search(words, said), (claim, said)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_file_is_read_right_or_refused_with_what_reads_it(tmp_path: Path, case: dict[str, Any]) -> None:
    if case["id"] in DISPUTED:
        _check_disputed(case, tmp_path)
        return
    try:
        store, said = _imported(case, tmp_path)
    except AworkerError as error:
        refusal = str(error)
    else:
        is_also_right = any(other.startswith("read") for other in case.get("expect_also", []))
        assert case["expect"] == "read" or is_also_right
        assert not case.get("symbols") or _is_right(case, store)
        _check_said(case, said)
        return
    assert case["expect"] != "read"
    if case["expect"] == "read-with-option":
        asked = [option for what, option in OPTIONS.items() if re.search(what, case["options"])]
        assert any(option in refusal for option in asked), (asked, refusal)
        store, said = _imported(case, tmp_path, _told(case["options"], refusal))
        assert _is_right(case, store)
        _check_said(case, f"{refusal}\n{said}")


def _check_disputed(case: dict[str, Any], folder: Path) -> None:
    store, said = _imported(case, folder)
    first, last, words = DISPUTED[case["id"]]
    bars = store.load("TEST", case["timeframe"])
    assert [bars.timestamp[place] for place in (0, -1)] == [_seconds(first), _seconds(last)]
    assert words in said
