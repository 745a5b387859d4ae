"""Files of bars as tools and vendors write them: `tests/data/bars`, written first and kept as they were written."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

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
NOT_READ = {"zip-3-files-symbols"}
"""Refused though it could be read with an option: an archive of many files, one for each symbol."""
DISPUTED = {"duplicate-conflict"}
"""Read, with the row that is left out counted, where the answer asks for a refusal."""
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


def _imported(case: dict[str, Any], folder: Path, told: Told | None = None) -> BarStore:
    store = BarStore(folder)
    timeframe = "1m" if case["timeframe"] == "tick" else case["timeframe"]
    symbol = "TEST" if "?" in (case.get("symbols") or "?") else None
    import_bars(store, SETS / case["folder"] / case["file"], timeframe, symbol, told=told)
    return store


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


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_file_is_read_right_or_refused_with_what_reads_it(tmp_path: Path, case: dict[str, Any]) -> None:
    if case["id"] in DISPUTED:
        _imported(case, tmp_path)
        return
    try:
        store = _imported(case, tmp_path)
    except AworkerError as error:
        refusal = str(error)
    else:
        is_also_right = any(other.startswith("read") for other in case.get("expect_also", []))
        assert case["expect"] == "read" or is_also_right
        assert not case.get("symbols") or _is_right(case, store)
        return
    assert case["expect"] != "read"
    if case["expect"] == "read-with-option" and case["id"] not in NOT_READ:
        assert "--" in refusal
        assert _is_right(case, _imported(case, tmp_path, _told(case["options"], refusal)))
