"""The pool with children, fork servers and workers that die, hang, grow and talk nonsense."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aworker.errors import ChildDied, ChildOutOfMemory, ExecutionFailed, HandlerTimedOut
from tests.kit import pool_functions as functions
from tests.kit.pools import OpenPool, alive, children_of, eventually, exists, pool_of, server_pid


@pytest.mark.parametrize(
    ("function", "arguments", "cause"),
    [
        (functions.segfault, (), "was killed by SIGSEGV"),
        (functions.last_words, (), "was killed by SIGABRT"),
        (functions.exit_hard, (3,), "exited with code 3"),
        (functions.exit_hard, (0,), "exited with code 0"),
        (functions.kill_myself, (signal.SIGKILL,), "was killed by SIGKILL, by someone else or by the kernel"),
        (functions.kill_myself, (signal.SIGRTMIN + 5,), f"was killed by signal {signal.SIGRTMIN + 5}"),
        (functions.write_garbage, (), "wrote what is no frame"),
        (functions.close_sockets, (), "exited with code 0"),
        (functions.forget_a_process, (), "exited with code 9"),
    ],
)
async def test_a_child_that_ends_fails_its_own_call_alone(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], cause: str
) -> None:
    async with pool_of(2) as opened, anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, functions.wait_for_file, str(tmp_path / "go"))
        await exists(tmp_path / "go.started")

        with pytest.raises(ChildDied, match=cause) as died:
            await opened.run(function, *arguments)

        assert not isinstance(died.value, ChildOutOfMemory)
        assert await opened.run(functions.add, 1, 1) == 2
        (tmp_path / "go").touch()
    assert any(cause in record.message and record.source == "pool" for record in opened.records)


async def test_the_last_words_of_a_child_reach_the_log_with_its_task() -> None:
    async with pool_of(1) as opened:
        with pytest.raises(ChildDied):
            await opened.run(functions.last_words, task_id="task-3")

    said = {record.message: record.task_id for record in opened.records}
    assert said["these are my last words"] == "task-3"
    assert said["Fatal Python error: Aborted"] == "task-3"


async def test_the_pool_is_whole_again_within_a_second_of_a_death() -> None:
    async with pool_of(2) as opened:
        with pytest.raises(ChildDied):
            await opened.run(functions.segfault)

        await eventually(lambda: opened.whole, within_s=1.0)


async def test_idle_children_that_are_killed_are_replaced_and_fail_no_call() -> None:
    async with pool_of(2) as opened:
        victims = children_of(server_pid())
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

        # Called before the loop has heard of the deaths: the calls go to dead children first.
        answers = [await opened.run(functions.add, n, n) for n in range(4)]

        assert answers == [0, 2, 4, 6]
        await eventually(lambda: opened.whole, within_s=1.0)
        assert not set(victims) & set(children_of(server_pid()))
        assert opened.pool.stats().died == 3


async def test_a_killed_fork_server_is_started_again_while_calls_go_on(tmp_path: Path) -> None:
    async with pool_of(2) as opened, anyio.create_task_group() as tasks:
        results: list[str] = []

        async def wait() -> None:
            results.append(await opened.run(functions.wait_for_file, str(tmp_path / "go")))

        tasks.start_soon(wait)
        await exists(tmp_path / "go.started")
        killed = server_pid()

        os.kill(killed, signal.SIGKILL)

        assert await opened.run(functions.add, 1, 1) == 2
        await eventually(lambda: server_pid() not in (0, killed))
        for _ in range(3):
            with pytest.raises(ChildDied):
                await opened.run(functions.segfault)
        (tmp_path / "go").touch()
        await eventually(lambda: results == [str(tmp_path / "go")])
        await opened.run(functions.nothing)
        await eventually(lambda: opened.pool.stats().idle == 2)
        assert opened.pool.stats().recycled >= 1  # an orphan goes after its call
    assert any("fork server is gone" in record.message for record in opened.records)
    assert server_pid() == 0


@pytest.fixture
def adopter() -> Iterator[None]:
    """Make this process adopt orphans, as process 1 of a container does."""
    set_child_subreaper = 36
    libc = ctypes.CDLL(None)
    assert libc.prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    yield
    libc.prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.usefixtures("adopter")
async def test_orphans_that_the_worker_adopts_leave_no_zombies(tmp_path: Path) -> None:
    async with pool_of(2) as opened:
        running = asyncio.ensure_future(opened.run(functions.sleep, str(tmp_path / "mark")))
        await exists(tmp_path / "mark")
        killed = server_pid()
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: server_pid() not in (0, killed))

        with pytest.raises(ChildDied, match="exited with code 3"):
            await opened.run(functions.exit_hard, 3)

    with pytest.raises(ExecutionFailed, match="the pool was closed"):
        await running
    assert children_of(os.getpid(), zombies=True) == []


def killed_by(opened: OpenPool) -> dict[str, int]:
    return {cause: count for cause, count in opened.pool.stats().killed_by.items() if count}


async def test_fork_server_and_children_killed_at_once_come_back() -> None:
    async with pool_of(2) as opened:
        server = server_pid()
        for pid in [server, *children_of(server)]:
            os.kill(pid, signal.SIGKILL)

        answer = await opened.run(functions.add, 1, 1)

        assert answer == 2
        await eventually(lambda: opened.whole, within_s=2.0)


@pytest.mark.parametrize("function", [functions.spin, functions.sleep, functions.hold_the_interpreter])
async def test_a_call_that_never_returns_is_killed_after_its_timeout(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    async with pool_of(2) as opened, anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, functions.wait_for_file, str(tmp_path / "go"))
        await exists(tmp_path / "go.started")

        with pytest.raises(HandlerTimedOut, match=r"ran longer than 0\.1 s"):
            await opened.run(function, str(tmp_path / "mark"), timeout_s=0.1)

        assert (opened.pool.stats().killed, opened.pool.stats().died) == (1, 0)
        assert killed_by(opened) == {"timed_out": 1}
        assert await opened.run(functions.add, 1, 1) == 2
        (tmp_path / "go").touch()


@pytest.mark.parametrize("function", [functions.spin, functions.hold_the_interpreter])
async def test_a_cancelled_call_is_over_only_when_its_child_is_gone(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    async with pool_of(1) as opened:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(opened.run, function, str(tmp_path / "mark"))
                await exists(tmp_path / "mark")
                before = children_of(server_pid())
                scope.cancel()

        assert len([pid for pid in before if alive(pid)]) == 1
        assert killed_by(opened) == {"cancelled": 1}
        assert await opened.run(functions.add, 1, 1) == 2


async def test_cancelling_one_call_leaves_its_neighbour_alone(tmp_path: Path) -> None:
    async with pool_of(2, stop_grace_s=0.0) as opened, anyio.create_task_group() as tasks:
        results: list[int] = []

        async def neighbour() -> None:
            await opened.run(functions.wait_for_file, str(tmp_path / "go"))
            results.append(1)

        tasks.start_soon(neighbour)
        await exists(tmp_path / "go.started")

        with anyio.move_on_after(0.05):
            await opened.run(functions.spin, str(tmp_path / "mark"))

        (tmp_path / "go").touch()
        await eventually(lambda: results == [1])


async def test_a_stopped_child_blocks_neither_loop_nor_neighbours() -> None:
    async with pool_of(2) as opened, anyio.create_task_group() as tasks:
        for pid in children_of(server_pid()):
            os.kill(pid, signal.SIGSTOP)
        late: list[str] = []

        async def send_much() -> None:
            with pytest.raises(HandlerTimedOut):
                await opened.run(functions.echo, b"x" * 50_000_000, timeout_s=0.3)
            late.append("timed out")

        tasks.start_soon(send_much)
        await eventually(lambda: opened.pool.stats().busy == 1)
        with pytest.raises(HandlerTimedOut):
            await opened.run(functions.nothing, timeout_s=0.1)

        await eventually(lambda: late == ["timed out"])
        with pytest.raises(HandlerTimedOut):
            await opened.run(functions.nothing, timeout_s=0.1)  # the third that was stopped
        assert await opened.run(functions.add, 1, 1) == 2


async def test_a_child_that_grows_without_end_is_ended_at_its_limit(tmp_path: Path) -> None:
    async with pool_of(2, max_child_memory_bytes=300 << 20) as opened, anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, functions.wait_for_file, str(tmp_path / "go"))
        await exists(tmp_path / "go.started")

        with pytest.raises(ChildOutOfMemory, match=r"over pool\.max_child_memory_bytes of 300 MiB"):
            await opened.run(functions.allocate)

        assert await opened.run(functions.add, 1, 1) == 2
        (tmp_path / "go").touch()


async def test_interrupts_to_the_whole_group_end_no_child(tmp_path: Path) -> None:
    async with pool_of(1) as opened, anyio.create_task_group() as tasks:
        results: list[str] = []

        async def wait() -> None:
            results.append(await opened.run(functions.wait_for_file, str(tmp_path / "go")))

        tasks.start_soon(wait)
        await exists(tmp_path / "go.started")

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for pid in [server_pid(), *children_of(server_pid())]:
                os.kill(pid, number)

        (tmp_path / "go").touch()
        await eventually(lambda: len(results) == 1)
        assert opened.pool.stats().died == 0


async def test_random_kills_cost_only_the_calls_they_hit() -> None:
    chance = random.Random(5)
    async with pool_of(2) as opened:
        ended: list[str] = []

        async def work(n: int) -> None:
            try:
                ended.append("right" if await opened.run(functions.work_a_little, n) == n else "wrong")
            except ChildDied:
                ended.append("died")

        async def feed() -> None:
            async with anyio.create_task_group() as tasks:
                for n in range(400):
                    tasks.start_soon(work, n)

        def kill_one() -> None:
            os.kill(chance.choice(children_of(server_pid())), signal.SIGKILL)

        running = asyncio.ensure_future(feed())
        while not running.done():
            # In a thread: while it looks for a victim, the loop must keep the children busy.
            await anyio.to_thread.run_sync(kill_one)
            await anyio.sleep(0.05)
        await running
        await eventually(lambda: opened.whole, within_s=1.0)

        stats = opened.pool.stats()

    assert len(ended) == 400
    assert ended.count("wrong") == 0
    assert 0 < ended.count("died") <= stats.died


@pytest.mark.parametrize("also_the_server", [False, True])
def test_no_child_outlives_a_worker_that_is_killed(tmp_path: Path, also_the_server: bool) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.fault.orphan_maker", str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    try:
        assert worker.stdout is not None
        server, *children = map(int, worker.stdout.readline().split())
        assert len(children) == 4
        assert all(map(alive, children))

        if also_the_server:
            os.kill(server, signal.SIGSTOP)  # can help nobody, and does not start another
        worker.kill()

        give_up_at = time.monotonic() + 1.0
        while any(map(alive, children)):
            assert time.monotonic() < give_up_at, [pid for pid in children if alive(pid)]
        if also_the_server:
            os.kill(server, signal.SIGCONT)
        while alive(server):
            assert time.monotonic() < give_up_at
    finally:
        worker.kill()
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()


async def test_children_that_cannot_start_do_not_fill_the_machine() -> None:
    async with pool_of(1) as opened:
        deaths = 0

        async def kill_at_once() -> None:
            nonlocal deaths
            while True:
                for pid in children_of(server_pid()):
                    os.kill(pid, signal.SIGKILL)
                    deaths += 1
                await anyio.lowlevel.checkpoint()

        with anyio.move_on_after(1.0):
            await kill_at_once()

        assert 2 < deaths < 100
        await _works_again(opened)


async def _works_again(opened: OpenPool) -> None:
    with anyio.fail_after(7):
        assert await opened.run(functions.add, 1, 1) == 2
