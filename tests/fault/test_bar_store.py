"""The store of bars when several processes write to it, and when one is killed: nothing is lost, nothing is half."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aworker.trading.bars.store import BarStore
from tests.kit.commands import ROOT
from tests.kit.market import random_bars, store_of

SYMBOLS = ("A", "B", "C")
OLD, NEW = 5, 9

# argv: the store, a step. Writes three symbols and is killed before the step-th rename or removal.
KILLED = f"""
import os, signal, sys
from pathlib import Path
from aworker.trading.bars.store import BarStore
from tests.kit.market import random_bars

store, step = BarStore(sys.argv[1]), int(sys.argv[2])
done = 0

def deadly(real):
    def call(self, *arguments, **options):
        global done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return real(self, *arguments, **options)
    return call

Path.replace, Path.unlink = deadly(Path.replace), deadly(Path.unlink)
store.write_many(random_bars(1, {NEW}, symbol) for symbol in {SYMBOLS})
"""
STEPS = len(SYMBOLS) + 2
"""The rename of the record, those of the drafts, the removal of the record."""

# argv: the store, a csv file, a folder, how many. Each waits for a moment until all others have read what they merge
# with, which never comes when only one may write.
MERGING = """
import sys, time
from pathlib import Path
from aworker.trading.bars import importing
from aworker.trading.bars.store import BarStore

store, file, folder, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
real = importing._joined

def joined(*arguments):
    found = real(*arguments)
    (folder / Path(file).name).touch()
    give_up_at = time.monotonic() + 0.5
    while len(list(folder.iterdir())) < count and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return found

importing._joined = joined
importing.import_bars(BarStore(store), file, "1d", "TEST", mode="merge")
"""


def _start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT)


def _lengths(store: BarStore) -> dict[str, int]:
    return {extent.symbol: extent.bars for extent in store.extents(store.symbols("1d"), "1d")}


def _hidden(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name.startswith("."))


def _old_store(folder: Path) -> BarStore:
    return BarStore(store_of(folder, *(random_bars(2, OLD, symbol) for symbol in SYMBOLS)))


def test_imports_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    files = [tmp_path / f"{day}.csv" for day in range(1, 5)]
    for day, file in enumerate(files, 1):
        file.write_text(f"date,open,high,low,close\n2020-01-0{day},{day},{day},{day},{day}\n")

    processes = [_start(MERGING, tmp_path / "store", file, there, len(files)) for file in files]
    codes = [process.wait(60) for process in processes]

    assert codes == [0, 0, 0, 0]
    assert BarStore(tmp_path / "store").load("TEST", "1d").close.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_at_any_step_leaves_all_old_or_all_new(tmp_path: Path, step: int) -> None:
    store = _old_store(tmp_path)

    assert _start(KILLED, tmp_path, step).wait(60) == -signal.SIGKILL
    left_behind = _hidden(tmp_path / "1d")
    found = _lengths(store)

    assert left_behind
    assert found == dict.fromkeys(SYMBOLS, OLD if step == 0 else NEW)
    assert step == 0 or _hidden(tmp_path / "1d") == []
    store.write(random_bars(3, 7, "D"))
    assert _hidden(tmp_path / "1d") == []
    assert _lengths(store) == found | {"D": 7}


def test_there_are_as_many_steps_as_are_killed(tmp_path: Path) -> None:
    assert _start(KILLED, tmp_path, STEPS).wait(60) == 0
    assert _lengths(BarStore(tmp_path)) == dict.fromkeys(SYMBOLS, NEW)


def test_the_next_to_write_merges_with_what_a_killed_one_has_promised(tmp_path: Path) -> None:
    store = _old_store(tmp_path)
    _start(KILLED, tmp_path, 1).wait(60)

    store.write_many(bars for symbol in SYMBOLS for bars in store.load_many([symbol], "1d"))

    assert _lengths(store) == dict.fromkeys(SYMBOLS, NEW)


def test_new_symbols_of_a_killed_import_are_listed_at_once(tmp_path: Path) -> None:
    _start(KILLED, tmp_path, 1).wait(60)

    assert BarStore(tmp_path).symbols("1d") == list(SYMBOLS)


def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    store = _old_store(tmp_path)
    _start(KILLED, tmp_path, 2).wait(60)

    with BarStore(tmp_path)._locked():
        found = store.symbols("1d")

    assert found == list(SYMBOLS)
    assert ".record" in _hidden(tmp_path / "1d")


def test_a_store_whose_lock_cannot_be_had_is_read_all_the_same(tmp_path: Path) -> None:
    store = _old_store(tmp_path)
    _start(KILLED, tmp_path, 2).wait(60)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").mkdir()

    assert store.symbols("1d") == list(SYMBOLS)
    assert len(store.load("C", "1d")) == OLD
    assert ".record" in _hidden(tmp_path / "1d")


def test_a_record_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    store = _old_store(tmp_path)
    (tmp_path / "1d" / ".record").write_bytes(b"../../x\n.\n\n.../y.draft\n.NONE.draft\n\xff\n")

    assert store.symbols("1d") == list(SYMBOLS)
    assert _hidden(tmp_path / "1d") == []
