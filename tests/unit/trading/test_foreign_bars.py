"""The third and fourth sets of files, `tests/data/bars/c` and `d`: each claim of their answers is tested.

What an answer claims: the bars, by symbol; or a refusal that names the option (``names``), with which the bars are read
(``told``); and what has to be said (``says``, patterns) on the way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aworker.cli.domain.bars import report_lines
from aworker.errors import AworkerError
from aworker.trading.bars.importing import import_bars
from aworker.trading.bars.store import Bars, BarStore
from aworker.trading.bars.values import Told

SETS = Path(__file__).parents[2] / "data/bars"
SET = SETS / "c"
CASES: list[dict[str, Any]] = [
    {**case, "folder": folder}
    for folder in ("c", "d")
    for case in json.loads((SETS / folder / "manifest.json").read_text("utf-8"))
]
NAMES = ("open", "high", "low", "close", "volume")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00") if "T" in text else f"{text}T00:00:00+00:00").timestamp()


def _brought_in(case: dict[str, Any], folder: Path, told: Told | None = None) -> tuple[BarStore, str]:
    store = BarStore(folder)
    reports = import_bars(
        store,
        SETS / case["folder"] / case["file"],
        case["given_timeframe"],
        case["symbol"],
        adjust=case["adjust"],
        told=told,
    )
    said = [line for report in reports for line in (*report.taken, *report_lines(report))]
    return store, "\n".join(said)


def _check_bars(bars: Bars, wanted: dict[str, Any]) -> None:
    assert len(bars) == wanted["bars"]
    for place, row in ((0, wanted["first"]), (-1, wanted["last"]), (wanted["middle"][0], wanted["middle"][1:])):
        assert bars.timestamp[place] == _seconds(row[0]), row[0]
        assert [float(getattr(bars, name)[place]) for name in NAMES] == pytest.approx(row[1:], rel=1e-9, abs=1e-12)


def _check(case: dict[str, Any], store: BarStore, said: str) -> None:
    wanted = {re.sub("[/:]", "-", name): bars for name, bars in case["symbols"].items()}
    assert store.symbols(case["timeframe"]) == sorted(wanted)
    for name, bars in wanted.items():
        _check_bars(store.load(name, case["timeframe"]), bars)
    for pattern in case["says"]:
        assert re.search(pattern, said), said


@pytest.fixture(params=["small", "large"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read each file as it is, and as if it were too large to be taken apart line by line."""
    if request.param == "large":
        monkeypatch.setattr("aworker.trading.bars.tables._LARGE_BYTES", 1)
        monkeypatch.setattr("aworker.trading.bars.values._LONG", 1)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_file_is_read_right_or_refused_with_what_reads_it(tmp_path: Path, case: dict[str, Any]) -> None:
    if case["expect"] == "read":
        _check(case, *_brought_in(case, tmp_path))
        return
    try:
        found = _brought_in(case, tmp_path)
    except AworkerError as error:
        refusal = str(error)
    else:
        assert case.get("also_read"), "was read without a word"
        _check(case, *found)
        return
    for name in case["names"]:
        assert name in refusal, refusal
    if case["expect"] == "refuse":
        for pattern in case["says"]:
            assert re.search(pattern, refusal), refusal
    else:
        _check(case, *_brought_in(case, tmp_path, Told(**case["told"])))


def test_a_large_file_takes_a_few_times_its_size(tmp_path: Path) -> None:
    rows = 800_000
    # Instants of one length each, so that the file is written at once.
    instants = np.datetime_as_string(np.datetime64("2010-01-04T00:00:00") + np.arange(rows) * np.timedelta64(60, "s"))
    with (tmp_path / "big.csv").open("w") as stream:
        stream.write("timestamp,open,high,low,close,volume\n")
        stream.writelines(f"{instant}Z,100.25,101.50,99.50,100.75,1000\n" for instant in instants.tolist())
    size_bytes = (tmp_path / "big.csv").stat().st_size
    code = (
        "import resource, sys\n"
        "from aworker.trading.bars.importing import import_bars\n"
        "from aworker.trading.bars.store import BarStore\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "report, = import_bars(BarStore(sys.argv[2]), sys.argv[1], '1m', 'BIG')\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(report.rows_stored, (after - before) * 1024)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.csv"), str(tmp_path / "bars")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )

    stored, taken_bytes = map(int, ended.stdout.split())
    assert stored == rows
    assert size_bytes > 32 << 20
    # 2 GB must not take 10.
    assert taken_bytes < 4.5 * size_bytes
