"""Children that start with the first call that needs one."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import anyio
import pytest

from aworker.config import PoolConfig
from aworker.errors import ChildDied, ExecutionFailed
from aworker.execution.pool import PoolSettings
from tests.kit import pool_functions as functions
from tests.kit.pools import children_of, eventually, pool_of, server_pid
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.task_handlers import in_child
from tests.kit.workers import config_of, running_worker
from tests.kit.workers import eventually as eventually_so


async def test_the_first_call_starts_a_child_and_a_spare() -> None:
    async with pool_of(2, warm=False) as opened:
        before, cold = children_of(os.getpid()), opened.pool.stats()

        result = await opened.run(functions.add, 2, 3)

        assert result == 5
        assert (cold.is_cold, cold.started, cold.size) == (True, 0, 2)
        assert server_pid() not in before
        await eventually(lambda: opened.pool.stats().idle == 2)
        assert not opened.pool.stats().is_cold
        assert opened.pool.stats().started == 2
    assert server_pid() == 0


async def test_there_are_as_many_children_as_calls_were_there_at_once(tmp_path: Path) -> None:
    async with pool_of(4, warm=False) as opened:

        async def together(turn: int, count: int) -> int:
            go = tmp_path / f"go{turn}"
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(partial(opened.run, functions.wait_for_file, str(go), task_id=f"{count}.{number}"))
                await eventually(lambda: opened.pool.stats().busy == min(count, 4))
                go.touch()
            await eventually(
                lambda: opened.pool.stats().idle + opened.pool.stats().spare == opened.pool.stats().started
            )
            return opened.pool.stats().started

        assert [await together(*each) for each in enumerate((1, 1, 3, 2, 9))] == [2, 2, 4, 4, 5]


async def test_a_child_that_was_needed_and_dies_is_replaced() -> None:
    async with pool_of(4, warm=False) as opened:
        await opened.run(functions.nothing)
        await eventually(lambda: opened.pool.stats().idle == 2)

        with pytest.raises(ChildDied):
            await opened.run(functions.exit_hard, 3)

        await eventually(lambda: opened.pool.stats().idle == 2)
        assert opened.pool.stats().started == 3


async def test_a_pool_that_no_call_needed_starts_nothing() -> None:
    async with pool_of(2, warm=False) as opened:
        opened.pool.resize(3)
        await anyio.lowlevel.checkpoint()

        assert server_pid() == 0
        assert opened.pool.stats().started == 0


async def test_calls_that_come_while_the_children_start_all_run() -> None:
    results: list[int] = []

    async with pool_of(2, warm=False) as opened:

        async def one(number: int) -> None:
            results.append(await opened.run(functions.add, number, 0, task_id=f"t{number}"))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, number)

    assert sorted(results) == [0, 1, 2, 3, 4]


async def test_a_call_cancelled_before_its_child_is_there_runs_nowhere() -> None:
    async with pool_of(1, warm=False) as opened:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await opened.run(functions.add, 1, 1)

        assert opened.pool.stats().waiting == 0
        assert await opened.run(functions.add, 1, 2) == 3


async def test_closing_while_the_children_start_leaves_nothing_behind() -> None:
    async def call() -> None:
        with pytest.raises(ExecutionFailed, match="closed"):
            await opened.run(functions.nothing)

    async with anyio.create_task_group() as group, pool_of(2, warm=False) as opened:
        group.start_soon(call)
        await eventually(lambda: server_pid() != 0)

    assert server_pid() == 0


async def test_settings_that_want_it_warm_start_the_children() -> None:
    async with pool_of(1, warm=False) as opened:
        opened.pool.reconfigure(PoolSettings(processes=1, warm=True))

        await eventually(lambda: opened.whole)


async def test_every_call_hears_what_cannot_be_imported() -> None:
    async with pool_of(1, warm=False, preload=("no_such_module",)) as opened:
        assert opened.pool.stats().is_cold
        for _ in range(3):
            with pytest.raises(ExecutionFailed, match=r"pool\.preload .*no_such_module"):
                await opened.run(functions.nothing)

        assert server_pid() == 0
        assert not opened.pool.stats().is_cold, "nothing is said to be well that never worked"


async def test_calls_hear_of_children_that_never_become_ready_until_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(server: object) -> None:
        raise OSError("no more processes")

    async with pool_of(1, warm=False) as opened:
        with monkeypatch.context() as patched:
            patched.setattr(opened.pool, "_start_child", fail)
            for _ in range(2):
                with pytest.raises(ExecutionFailed, match="end before they are ready"):
                    await opened.run(functions.nothing)

        assert await opened.run(functions.add, 1, 2) == 3
        assert not opened.pool.stats().is_cold


async def test_a_worker_starts_children_with_the_task_that_needs_one(queue: QueueScripts, redis_url: str) -> None:
    async def in_the_loop(args: dict[str, object], context: object) -> dict[str, bool]:
        return {"success": True}

    config = config_of(redis_url, pool=PoolConfig(processes=1))
    async with running_worker(config, {"light": in_the_loop, "heavy": in_child}) as supervisor:
        queue.client.lpush(NORMAL, task("light_1", task_type="light"))
        await eventually_so(lambda: completed(queue, "light_1"))
        cold = supervisor.state().pool

        queue.client.lpush(NORMAL, task("heavy_1", task_type="heavy"))
        await eventually_so(lambda: completed(queue, "heavy_1"))
        warm = supervisor.state().pool

    assert cold is not None
    assert (cold.is_cold, cold.started) == (True, 0)
    assert warm is not None
    assert not warm.is_cold


async def completed(queue: QueueScripts, task_id: str) -> bool:
    record = queue.client.get(f"task_result:{task_id}")
    return record is not None and b'"completed"' in record
