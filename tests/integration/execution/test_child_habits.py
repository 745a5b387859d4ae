"""A child is an ordinary main process for the code in it, and what one task leaves is not there for the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kit import child_habits as habits
from tests.kit.pools import OpenPool, eventually, pool_of

METHODS = ("fork", "spawn", "forkserver")


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


async def without_anything_left(opened: OpenPool) -> None:
    await eventually(lambda: opened.whole)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("function", "result"),
    [
        (habits.with_processes, [2, 4]),
        (habits.with_executor, [2, 4]),
        (habits.with_manager, [7]),
        (habits.with_a_process_that_is_ended, -15),
    ],
)
async def test_processes_of_its_own_work_in_every_start_method(function: Any, method: str, result: object) -> None:
    async with pool_of(1) as opened:
        assert await opened.run(function, method, timeout_s=20) == result
        await without_anything_left(opened)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (habits.with_a_program, "hello"),
        (habits.with_a_program_that_is_ended, -15),
        (habits.with_threads, [2, 4]),
        (habits.with_a_loop, "slept"),
        (habits.with_an_alarm, "rung"),
        (habits.reads_stdin, ""),
        (habits.is_the_main_thread, True),
    ],
)
async def test_what_a_main_process_may_do_works_and_costs_no_child(function: Any, result: object) -> None:
    async with pool_of(1) as opened:
        before = (await opened.run(habits.tells_what_it_finds))["pid"]
        assert await opened.run(function, timeout_s=20) == result
        assert (await opened.run(habits.tells_what_it_finds))["pid"] == before


async def test_what_a_task_changed_is_put_back(tmp_path: Path) -> None:
    async with pool_of(1) as opened:
        before = await opened.run(habits.tells_what_it_finds)
        await opened.run(habits.leaves_all_else, str(tmp_path))
        after = await opened.run(habits.tells_what_it_finds)

    assert after == before
    assert [record.message for record in opened.records].count("still there") == 2


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (habits.closes_its_output, "standard descriptors"),
        (habits.leaves_a_thread, "threads running"),
        (habits.leaves_a_program, "processes behind"),
        (habits.leaves_a_daemon, "processes behind"),
    ],
)
async def test_a_child_that_cannot_be_put_right_takes_no_other_task(function: Any, left: str) -> None:
    async with pool_of(1) as opened:
        before = await opened.run(habits.tells_what_it_finds)
        result = await opened.run(function)
        after = await opened.run(habits.tells_what_it_finds)
        if result is not None:
            await eventually(lambda: not lives(result))
        await without_anything_left(opened)

    assert after["pid"] != before["pid"]
    assert {**after, "pid": 0} == {**before, "pid": 0}
    assert any(left in record.message for record in opened.records)
    assert sum(record.message == "still there" for record in opened.records) == 2


async def test_what_a_killed_child_had_started_ends_with_it(tmp_path: Path) -> None:
    async with pool_of(1) as opened:
        with pytest.raises(Exception, match=r"longer than 0\.5 s"):
            await opened.run(habits.leaves_a_program_and_hangs, str(tmp_path / "pid"), timeout_s=0.5)
        shell = int((tmp_path / "pid").read_text())
        await eventually(lambda: not lives(shell))
        await without_anything_left(opened)


async def test_much_output_and_progress_costs_the_next_task_nothing() -> None:
    async with pool_of(1) as opened:
        assert await opened.run(habits.writes_without_an_end) == "written"
        assert await opened.run(habits.tells_much) == "told"
        assert await opened.run(habits.is_the_main_thread) is True

    assert len(opened.progress) < 1_000
    assert all(len(record.message) < 10_000 for record in opened.records)
