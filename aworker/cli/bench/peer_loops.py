"""Other libraries with tasks without work; a script for the Python that has them, which need not have aworker.

Each pushes its tasks, then runs its own worker in this process with as many at once as asked, with its own defaults
otherwise, until the last has ended. Prints one JSON object a line: name, version, tasks a second, or why not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


class Done:
    """Counts tasks until the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.event = asyncio.Event()

    def one(self) -> None:
        self.left -= 1
        if not self.left:
            self.event.set()


async def until(done: Done, work: Coroutine[Any, Any, Any], count: int) -> float:
    """Run a worker until the last task; tasks a second."""
    started = time.perf_counter()
    running = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(done.event.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    elapsed = time.perf_counter() - started
    if not done.event.is_set():
        running.result()
        raise RuntimeError("its worker ended before its tasks")
    return count / elapsed


async def arq(url: str, slots: int, count: int) -> float:
    connections, workers = import_module("arq.connections"), import_module("arq.worker")
    done = Done(count)

    async def noop(context: Any, number: int) -> dict[str, bool]:
        done.one()
        return {"success": True}

    settings = connections.RedisSettings.from_dsn(url)
    pool = await connections.create_pool(settings)
    for at in range(0, count, 100):
        await asyncio.gather(*(pool.enqueue_job("noop", number) for number in range(at, min(at + 100, count))))
    functions = [workers.func(noop, name="noop")]
    worker = workers.Worker(functions=functions, redis_settings=settings, max_jobs=slots, handle_signals=False)
    return await until(done, worker.async_run(), count)


async def saq(url: str, slots: int, count: int) -> float:
    module = import_module("saq")
    done = Done(count)

    async def noop(context: Any, *, number: int) -> dict[str, bool]:
        done.one()
        return {"success": True}

    queue = module.Queue.from_url(url)
    await queue.connect()
    for at in range(0, count, 100):
        await asyncio.gather(*(queue.enqueue("noop", number=number) for number in range(at, min(at + 100, count))))
    worker = module.Worker(queue, functions=[("noop", noop)], concurrency=slots)
    return await until(done, worker.start(), count)


async def taskiq(url: str, slots: int, count: int) -> float:
    redis_parts, receiver = import_module("taskiq_redis"), import_module("taskiq.receiver").Receiver
    broker = redis_parts.ListQueueBroker(url).with_result_backend(redis_parts.RedisAsyncResultBackend(url))
    done = Done(count)

    async def noop(number: int) -> dict[str, bool]:
        done.one()
        return {"success": True}

    task = broker.register_task(noop, task_name="noop")
    await broker.startup()
    for at in range(0, count, 100):
        await asyncio.gather(*(task.kiq(number) for number in range(at, min(at + 100, count))))
    broker.is_worker_process = True
    return await until(done, receiver(broker, max_async_tasks=slots).listen(asyncio.Event()), count)


async def streaq(url: str, slots: int, count: int) -> float:
    worker = import_module("streaq").Worker(redis_url=url, concurrency=slots, handle_signals=False)
    done = Done(count)

    @worker.task()  # type: ignore[untyped-decorator]
    async def noop(number: int) -> dict[str, bool]:
        done.one()
        return {"success": True}

    async with worker:
        await worker.enqueue_many([noop.enqueue(number) for number in range(count)])
    return await until(done, worker.run_async(), count)


PEERS: dict[str, Callable[[str, int, int], Coroutine[Any, Any, float]]] = {
    "arq": arq,
    "saq": saq,
    "taskiq": taskiq,
    "streaq": streaq,
}


def main(name: str, url: str, slots: int, count: int) -> None:
    async def measure() -> None:
        try:
            said: dict[str, Any] = {"version": version(name), "rate": await PEERS[name](url, slots, count)}
        except PackageNotFoundError:
            said = {"missing": True}
        except BaseException as error:  # noqa: BLE001 - whatever a library does, the bench says it
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            said = {"why not": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)
        os._exit(0)  # not every worker can be stopped from within

    logging.disable(logging.CRITICAL)
    run: Callable[..., None] = asyncio.run
    with contextlib.suppress(ImportError):
        run = import_module("uvloop").run
    run(measure())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
