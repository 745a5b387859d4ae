"""The pool with children that behave."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import uvloop

from aworker.errors import ArgumentsInvalid, ConfigError, ExecutionFailed, HandlerTimedOut, RequestDeclined
from aworker.execution.pool import LogRecord, PoolSettings, RaisedInChild, open_pool
from aworker.execution.retry import Retry
from tests.kit import pool_functions as functions
from tests.kit.pools import OpenPool, children_of, eventually, exists, pool_of, server_pid


async def test_a_call_runs_in_a_child_with_the_context_of_its_task() -> None:
    async with pool_of() as opened:
        seen = await opened.run(functions.who)

    assert seen.pop("pid") != os.getpid()
    assert seen == {"task_id": "task-1", "task_type": "who", "delivery": 2, "lease_id": 77}


async def test_a_function_may_be_given_by_name() -> None:
    async with pool_of() as opened:
        result = await opened.run("tests.kit.pool_functions:add", 2, 3)

    assert result == 5


@pytest.mark.parametrize("function", [lambda context: None, "no_module", "module:", "__main__:main"])
async def test_a_function_that_a_child_cannot_import_is_refused(function: Any) -> None:
    async with pool_of(1) as opened:
        with pytest.raises(ValueError, match="top level of an importable module"):
            await opened.run(function)


async def test_values_pass_unharmed_in_both_directions() -> None:
    value = {
        "text": "x" * 1_000_000,
        "bytes": b"\x00\xff",
        "deep": [[1, 2.5, None, True, {"a": "\u20ac"}]],
        "n": -(2**63),
    }

    async with pool_of() as opened:
        assert await opened.run(functions.echo, value) == value
        assert math.isnan(await opened.run(functions.echo, math.nan))
        assert await opened.run(functions.echo, -math.inf) == -math.inf


async def test_numpy_values_come_back_as_plain_ones() -> None:
    async with pool_of() as opened:
        result = await opened.run(functions.give_numpy)

    assert result == {"mean": 1.5, "count": 3, "bars": [1.0, 2.0]}


async def test_a_retry_comes_back_as_one() -> None:
    async with pool_of() as opened:
        with pytest.raises(Retry) as asked:
            await opened.run(functions.ask_again)

    assert (asked.value.delay_s, asked.value.reason) == (2.5, "the exchange is closed")


async def test_arguments_that_no_frame_can_hold_are_refused() -> None:
    async with pool_of() as opened:
        with pytest.raises(ArgumentsInvalid, match="JSON-like"):
            await opened.run(functions.echo, 2**70)
        with pytest.raises(ArgumentsInvalid, match="JSON-like"):
            await opened.run(functions.echo, object())


async def test_arguments_are_converted_to_the_annotation() -> None:
    async with pool_of() as opened:
        result = await opened.run(functions.buy, {"symbol": "AAPL", "quantity": 4}, is_handler=True)

        assert msgspec.json.decode(result) == {"symbol": "AAPL", "cost": 8}
        with pytest.raises(ArgumentsInvalid, match=r"args\.quantity must .*was 'four'"):
            await opened.run(functions.buy, {"symbol": "AAPL", "quantity": "four"}, is_handler=True)


async def test_an_exception_comes_back_with_type_text_and_traceback() -> None:
    async with pool_of() as opened:
        with pytest.raises(RaisedInChild, match=r"^ValueError: the price is negative$") as raised:
            await opened.run(functions.raise_value_error)
        with pytest.raises(RaisedInChild, match="SystemExit: 3"):
            await opened.run(functions.leave_by_sys_exit)
        with pytest.raises(RaisedInChild, match=r"AttributeError: .*no attribute 'nowhere'"):
            await opened.run("tests.kit.pool_functions:nowhere")

        assert opened.pool.stats().died == 0
    assert raised.value.type_name == "ValueError"
    assert 'raise ValueError("the price is negative")' in raised.value.traceback_text
    assert "pool/child.py" not in raised.value.traceback_text


async def test_a_declined_request_keeps_its_class_name() -> None:
    async with pool_of() as opened:
        with pytest.raises(RequestDeclined, match=r"^no bars for ABC") as declined:
            await opened.run(functions.decline)
        with pytest.raises(ArgumentsInvalid, match=r"args\.symbol must be known"):
            await opened.run(functions.refuse)

    assert type(declined.value).__name__ == "NoBars"


async def test_a_result_that_cannot_be_encoded_names_the_type() -> None:
    async with pool_of() as opened:
        with pytest.raises(RaisedInChild, match=r"tests\.kit\.pool_functions\._Opaque"):
            await opened.run(functions.give_opaque)


async def test_progress_arrives_in_order_and_before_the_result() -> None:
    async with pool_of() as opened:
        result = await opened.run(functions.report, 5)

        assert result == "done"
        assert opened.progress == [("work", f"step {n}", {"index": n}, n / 5) for n in range(5)]


async def test_progress_is_thinned_when_there_is_too_much() -> None:
    async with pool_of() as opened:
        await opened.run(functions.report, 5_000)

        assert 100 <= len(opened.progress) < 1_000


async def test_what_a_handler_prints_and_logs_becomes_log_records_of_its_task() -> None:
    async with pool_of() as opened:
        await opened.run(functions.say, task_id="task-9")
        await opened.run(functions.nothing)

    said = {(record.level, record.message, record.source) for record in opened.records}
    assert said == {
        ("INFO", "printed", "output"),
        ("INFO", "to stderr", "output"),
        ("INFO", "written", "output"),
        ("INFO", "by C", "output"),
        ("INFO", "by another process", "output"),
        ("INFO", "without an end", "output"),
        ("INFO", "logged with the context", "logger"),
        ("WARNING", "logged with loguru", "logger"),
        ("ERROR", "logged with logging", "logger"),
    }
    assert {(record.task_id, record.task_type) for record in opened.records} == {("task-9", "say")}
    assert all(record.pid > 0 and record.logged_at > 0 for record in opened.records)


async def test_a_chatty_handler_does_not_fill_the_log() -> None:
    async with pool_of() as opened:
        await opened.run(functions.say_much, 100_000)

    assert len(opened.records) < 2_000
    assert opened.records[-1].message.endswith("more lines of output were dropped)")


async def test_a_sink_that_raises_harms_nobody() -> None:
    caught: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: caught.append(context))

    def refuse(*_: Any) -> None:
        raise RuntimeError("full")

    def refuse_record(record: LogRecord) -> None:
        raise RuntimeError("full")

    async with open_pool(PoolSettings(processes=1), log=refuse_record) as pool:
        opened = OpenPool(pool, [])
        result = await opened.run(functions.report, 2, on_progress=refuse)
        await opened.run(functions.say)

        assert result == "done"
        assert pool.stats().died == pool.stats().killed == 0
    assert len(caught) == 11


async def test_children_have_the_modules_and_the_single_threads() -> None:
    async with pool_of(preload=("colorsys",)) as opened:
        assert await opened.run(functions.imported, "colorsys")
        assert not await opened.run(functions.imported, "numpy")
        assert await opened.run(functions.environment, "POLARS_MAX_THREADS") == "1"
        assert await opened.run(functions.environment, "OMP_NUM_THREADS") == "1"


async def test_a_module_that_cannot_be_imported_ends_the_start() -> None:
    with pytest.raises(ConfigError, match=r"pool\.preload .*no_such_module"):
        async with pool_of(preload=("no_such_module",)):
            pass

    assert server_pid() == 0


async def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pool\.processes must be >= 1, was 0"):
        async with pool_of(0):
            pass


async def test_calls_run_side_by_side_up_to_the_size(tmp_path: Path) -> None:
    async with pool_of(2) as opened, anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(opened.run, functions.note_and_wait, name, str(tmp_path))
        await eventually(lambda: sorted(_order(tmp_path)) == ["a", "b"])

        stats = opened.pool.stats()

        assert (stats.busy, stats.idle, stats.waiting) == (2, 0, 1)
        (tmp_path / "go").touch()


async def test_waiting_calls_go_by_level_and_then_by_turns(tmp_path: Path) -> None:
    async with pool_of(1) as opened, anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, functions.note_and_wait, "first", str(tmp_path))
        await eventually(lambda: _order(tmp_path) == ["first"])
        for name, task_id, level in [("a1", "a", 1), ("a2", "a", 1), ("b1", "b", 1), ("high", "c", 0)]:
            tasks.start_soon(_note_at, opened, name, task_id, level, tmp_path)
            await eventually(lambda: opened.pool.stats().busy == 1)
        await eventually(lambda: opened.pool.stats().waiting == 4)

        (tmp_path / "go").touch()

    assert _order(tmp_path) == ["first", "high", "a1", "b1", "a2"]


async def _note_at(opened: Any, name: str, task_id: str, level: int, directory: Path) -> None:
    await opened.run(functions.note_and_wait, name, str(directory), task_id=task_id, level=level)


async def test_one_child_never_takes_chunks(tmp_path: Path) -> None:
    async def chunk(name: str) -> None:
        await opened.run(functions.note_and_wait, name, str(tmp_path), chunk=True)

    async with pool_of(3) as opened, anyio.create_task_group() as tasks:
        for name in ("a", "b", "c", "d"):
            tasks.start_soon(chunk, name)
        await eventually(lambda: len(_order(tmp_path)) == 2)

        answer = await opened.run(functions.add, 1, 1)

        assert answer == 2
        assert opened.pool.stats().busy == opened.pool.stats().waiting == 2
        (tmp_path / "go").touch()


async def test_a_lone_child_takes_chunks() -> None:
    async with pool_of(1) as opened:
        assert await opened.run(functions.add, 1, 1, chunk=True) == 2


async def test_a_cancelled_call_that_waits_never_runs(tmp_path: Path) -> None:
    async with pool_of(1) as opened, anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, functions.note_and_wait, "first", str(tmp_path))
        await eventually(lambda: _order(tmp_path) == ["first"])

        with anyio.move_on_after(0.05) as scope:
            await opened.run(functions.note_and_wait, "second", str(tmp_path))

        assert scope.cancelled_caught
        assert opened.pool.stats().waiting == 0
        (tmp_path / "go").touch()
    assert _order(tmp_path) == ["first"]


async def test_a_cancelled_call_may_stop_by_itself(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async with pool_of(stop_grace_s=30.0) as opened:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(opened.run, functions.stop_when_asked, str(mark))
                await exists(mark)
                scope.cancel()

        await exists(Path(f"{mark}.stopped"))
        assert (opened.pool.stats().killed, opened.pool.stats().busy) == (0, 0)


async def test_a_native_cancel_waits_for_the_child_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async with pool_of(stop_grace_s=30.0) as opened:
        running = asyncio.ensure_future(opened.run(functions.stop_when_asked, str(mark)))
        await exists(mark)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        await exists(Path(f"{mark}.stopped"))


async def test_a_timeout_counts_although_the_function_returns_in_its_grace(tmp_path: Path) -> None:
    async with pool_of(stop_grace_s=30.0) as opened:
        with pytest.raises(HandlerTimedOut, match=r"stop_when_asked ran longer than 0\.05 s"):
            await opened.run(functions.stop_when_asked, str(tmp_path / "mark"), timeout_s=0.05)

        assert opened.pool.stats().killed == 0
        assert await opened.run(functions.add, 1, 1) == 2


async def test_a_stop_of_one_call_is_not_seen_by_the_next(tmp_path: Path) -> None:
    async with pool_of(1, stop_grace_s=30.0) as opened:
        with pytest.raises(HandlerTimedOut):
            await opened.run(functions.stop_when_asked, str(tmp_path / "first"), timeout_s=0.05)

        with anyio.move_on_after(0.3) as scope:
            await opened.run(functions.stop_when_asked, str(tmp_path / "second"))

        assert scope.cancelled_caught


async def test_a_child_is_replaced_after_its_share_of_calls() -> None:
    async with pool_of(1, max_tasks_per_child=3) as opened:
        pids = [(await opened.run(functions.who))["pid"] for _ in range(9)]

        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]
        assert opened.pool.stats().recycled == 3
        await eventually(lambda: opened.whole)
        await eventually(lambda: not set(pids) & set(children_of(server_pid())))


async def test_a_child_that_has_grown_is_replaced_after_its_call() -> None:
    async with pool_of(1, max_child_memory_bytes=400 << 20) as opened:
        small, also_small = [await opened.run(functions.hold, 1) for _ in range(2)]
        large = await opened.run(functions.hold, 330)
        after = await opened.run(functions.hold, 1)

        assert small == also_small == large != after
        assert (opened.pool.stats().recycled, opened.pool.stats().killed) == (1, 0)


async def test_a_larger_size_gives_waiting_calls_a_child(tmp_path: Path) -> None:
    async with pool_of(1) as opened, anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(opened.run, functions.note_and_wait, name, str(tmp_path))
        await eventually(lambda: _order(tmp_path) == ["a"])

        opened.pool.resize(3)

        await eventually(lambda: sorted(_order(tmp_path)) == ["a", "b", "c"])
        (tmp_path / "go").touch()


async def test_a_smaller_size_waits_for_running_calls(tmp_path: Path) -> None:
    async with pool_of(3) as opened:
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b", "c"):
                tasks.start_soon(opened.run, functions.note_and_wait, name, str(tmp_path))
            await eventually(lambda: len(_order(tmp_path)) == 3)

            opened.pool.resize(1)
            tasks.start_soon(opened.run, functions.note_and_wait, "late", str(tmp_path))

            (tmp_path / "go").touch()
        await eventually(lambda: opened.whole)

        stats = opened.pool.stats()

    assert (stats.size, stats.idle, stats.killed, stats.died) == (1, 1, 0, 0)
    assert _order(tmp_path)[3] == "late"


async def test_an_error_of_the_block_passes_unwrapped_and_leaves_no_process() -> None:
    with pytest.raises(KeyError):
        async with pool_of():
            raise KeyError("mine")

    assert server_pid() == 0


async def test_closing_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    async with pool_of(1) as opened:
        running = asyncio.ensure_future(opened.run(functions.sleep, str(tmp_path / "mark")))
        await exists(tmp_path / "mark")
        waiting = asyncio.ensure_future(opened.run(functions.nothing))
        await eventually(lambda: opened.pool.stats().waiting == 1)

    for call in (running, waiting):
        with pytest.raises(ExecutionFailed, match="the pool was closed"):
            await call
    with pytest.raises(ExecutionFailed, match="closed"):
        await opened.run(functions.nothing)
    assert server_pid() == 0


async def test_nothing_is_left_after_many_calls() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with pool_of(2, max_tasks_per_child=200) as opened:
        await opened.run(functions.nothing)
        await eventually(lambda: opened.whole)
        open_before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                for n in range(100):
                    tasks.start_soon(opened.run, functions.echo, n)
        await eventually(lambda: opened.whole)

        assert opened.pool.stats().recycled >= 9
        assert len(os.listdir("/proc/self/fd")) == open_before
        assert threading.active_count() == threads
        assert children_of(server_pid(), zombies=True) == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert server_pid() == 0


def test_the_pool_runs_under_uvloop(tmp_path: Path) -> None:
    async def main() -> tuple[int, str]:
        async with pool_of(2) as opened:
            with pytest.raises(HandlerTimedOut):
                await opened.run(functions.sleep, str(tmp_path / "mark"), timeout_s=0.05)
            text = await opened.run(functions.echo, "x" * 3_000_000)
            await eventually(lambda: opened.whole)
            return await opened.run(functions.add, 1, 1), text

    answer, text = uvloop.run(main())

    assert (answer, len(text)) == (2, 3_000_000)


def _order(directory: Path) -> list[str]:
    path = directory / "order"
    return path.read_text(encoding="utf-8").split() if path.exists() else []
