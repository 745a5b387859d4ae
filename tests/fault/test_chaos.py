"""A short run of the chaos driver; ``python -m tests.chaos --seconds 60`` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.driver import run_chaos, schedule


def test_a_seed_reproduces_the_schedule() -> None:
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


async def test_nothing_is_lost_or_done_twice_whatever_is_killed_stopped_and_cut(tmp_path: Path) -> None:
    report = await run_chaos(8, seed=7, folder=tmp_path)

    print(*report.lines, sep="\n")
    assert report.violations == []
