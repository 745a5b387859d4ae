"""What is open around all tasks: begun before the first, ended after the last, given by type and by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aworker.client.client import Client
from aworker.config import PoolConfig, WorkerConfig
from aworker.errors import ExecutionFailed, LifespanFailed
from aworker.execution.context import Context
from aworker.execution.lifespan import Lifespan
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.workers import config_of, running_worker


class Pool:
    """Stands for a pool of connections."""


class Repository:
    """Needs a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool


seen: list[str] = []


async def pool() -> AsyncIterator[Pool]:
    seen.append("begin pool")
    yield Pool()
    seen.append("end pool")


async def repository(pool: Pool) -> AsyncIterator[Repository]:
    seen.append("begin repository")
    yield Repository(pool)
    seen.append("end repository")


async def settings() -> AsyncIterator[dict[str, Any]]:
    yield {"limit": 5, "names": ["a"]}


async def breaks() -> AsyncIterator[None]:
    raise ConnectionRefusedError("nobody is there")
    yield


async def breaks_at_its_end() -> AsyncIterator[None]:
    yield
    raise ConnectionResetError("gone")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    record = await client.result(task_id, wait_s=60)
    assert record is not None
    return record


async def test_handlers_are_given_by_type_and_by_name_what_lifespans_yield(redis_url: str) -> None:
    async def uses(args: dict[str, Any], context: Context, repository: Repository, pool: Pool) -> dict[str, Any]:
        seen.append("task")
        state = context.state
        return {"same": repository.pool is pool is state.pool, "limit": state.limit, "names": state.names}

    lifespans = (pool, repository, settings)
    async with Client(redis_url) as client, running_worker(config_of(redis_url), {"uses": uses}, lifespans=lifespans):
        record = await ended(client, await client.enqueue("uses"))

    assert (record["data"]["same"], record["data"]["limit"], record["data"]["names"]) == (True, 5, ["a"])
    assert seen == ["begin pool", "begin repository", "task", "end repository", "end pool"]


async def test_they_end_after_what_runs_when_the_worker_drains(redis_url: str) -> None:
    runs = anyio.Event()

    async def slow(args: dict[str, Any], context: Context) -> dict[str, Any]:
        runs.set()
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("task ends")
        return {}

    config = config_of(redis_url, worker=WorkerConfig(drain_timeout_s=0.1))
    lifespans = (breaks_at_its_end, pool, breaks_at_its_end)
    async with Client(redis_url) as client, running_worker(config, {"slow": slow}, lifespans=lifespans):
        await client.enqueue("slow")
        await runs.wait()

    assert seen == ["begin pool", "task ends", "end pool"]


async def test_one_that_fails_says_so_and_no_task_is_taken(queue: QueueScripts, redis_url: str) -> None:
    async def work(args: dict[str, Any], context: Context) -> dict[str, Any]:
        seen.append("task")
        return {}

    queue.client.rpush(NORMAL, task("a", task_type="work"))

    with pytest.raises(ExceptionGroup) as raised:
        async with running_worker(config_of(redis_url), {"work": work}, lifespans=(pool, breaks, repository)):
            pass

    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, LifespanFailed)
    assert str(error) == (
        "lifespan breaks must begin before the worker takes a task, raised ConnectionRefusedError: nobody is there"
    )
    assert seen == ["begin pool", "end pool"]
    assert queue.waiting() == [task("a", task_type="work")]


async def test_a_handler_that_wants_what_nobody_yields_is_refused_at_the_start(redis_url: str) -> None:
    async def wants(args: dict[str, Any], context: Context, where: Path) -> dict[str, Any]:
        return {}

    with pytest.raises(ExceptionGroup) as raised:
        async with running_worker(config_of(redis_url), {"wants": wants}, lifespans=(pool,)):
            pass

    told = repr(raised.value.exceptions)
    assert "handler wants: parameter where must be of a type that a @lifespan yields, was Path; they yield Pool" in told


def test_what_does_not_yield_is_no_lifespan() -> None:
    async def connects() -> None: ...

    with pytest.raises(LifespanFailed, match="lifespan connects must be a function that yields once"):
        Lifespan(connects)


def in_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "lifespans"
    monkeypatch.setenv("AWORKER_TEST_LIFESPANS", str(file))
    return file


def plain_one() -> Iterator[None]:
    """Stands for those that the children find in their own module."""
    yield


async def test_each_child_has_its_own_and_ends_them_when_it_goes(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = in_children(monkeypatch, tmp_path)
    from tests.kit import lifespan_handlers

    config = config_of(redis_url, pool=PoolConfig(processes=1, max_tasks_per_child=1))
    handlers: dict[str, Any] = {"uses": lifespan_handlers.uses, "wants": lifespan_handlers.wants_what_is_not_there}
    preload = ("tests.kit.lifespan_handlers",)
    worker = running_worker(config, handlers, preload=preload, lifespans=(plain_one,))
    async with Client(redis_url) as client, worker:
        records = [await ended(client, await client.enqueue("uses")) for _ in range(2)]
        wrong = await ended(client, await client.enqueue("wants"))

    assert [record["data"]["same"] for record in records] == [True, True]
    assert "parameter path must be of a type that a @lifespan yields" in wrong["data"]["error"]
    lines = file.read_text().splitlines()
    for record in records:
        pid = record["data"]["pid"]
        mine = [line.rpartition(" ")[0] for line in lines if line.endswith(f" {pid}")]
        assert mine == ["begin connection", "begin store", "end store", "end connection"]
    assert len([line for line in lines if line.startswith("begin")]) == len(
        [line for line in lines if line.startswith("end")]
    )


async def test_a_child_whose_lifespan_fails_is_one_that_cannot_start(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_children(monkeypatch, tmp_path)
    monkeypatch.setenv("AWORKER_TEST_BREAKS", "yes")
    from tests.kit import lifespan_handlers

    handlers = {"uses": lifespan_handlers.uses}
    config = config_of(redis_url, pool=PoolConfig(processes=1))
    preload = ("tests.kit.lifespan_handlers",)
    worker = running_worker(config, handlers, preload=preload, lifespans=(plain_one,))
    async with Client(redis_url) as client, worker:
        record = await ended(client, await client.enqueue("uses"))

    assert record["status"] == "error"
    assert "the pool's children end before they are ready" in record["data"]["error"]
    assert (
        "lifespan connection must begin before the child takes a task, raised ConnectionRefusedError"
        in (record["data"]["error"])
    )

    warm = config_of(redis_url, pool=PoolConfig(processes=1, warm=True))
    with pytest.raises(ExceptionGroup) as raised:
        async with running_worker(warm, handlers, preload=preload, lifespans=(plain_one,)):
            pass
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ExecutionFailed)
    assert "nobody is there" in str(error)
