"""Coroutine handlers that treat the worker's loop and process as if they were theirs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from aworker import Context, handler


async def _raise(error: BaseException) -> None:
    await asyncio.sleep(0.01)
    raise error


async def leaves_a_thousand_tasks() -> None:
    for _ in range(1_000):
        asyncio.get_running_loop().create_task(asyncio.sleep(3_600))


async def raises_in_tasks_of_its_own() -> None:
    for error in (ValueError("a"), asyncio.CancelledError(), GeneratorExit(), BaseException("b")):
        asyncio.get_running_loop().create_task(_raise(error))
    await asyncio.sleep(0.05)


async def exits_in_a_task_of_its_own() -> None:
    asyncio.get_running_loop().create_task(_raise(SystemExit(3)))
    await asyncio.sleep(0.05)


async def interrupts_in_a_task_of_its_own() -> None:
    asyncio.get_running_loop().create_task(_raise(KeyboardInterrupt()))
    await asyncio.sleep(0.05)


async def exits_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.05)


async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)


async def closes_the_loop() -> None:
    asyncio.get_running_loop().close()


async def runs_a_loop_in_the_loop() -> None:
    asyncio.run(asyncio.sleep(0))


async def sets_the_loops_exception_handler() -> None:
    def handle(loop: Any, context: Any) -> None:
        raise RuntimeError("no handler at all")

    asyncio.get_running_loop().set_exception_handler(handle)
    asyncio.get_running_loop().create_task(_raise(ValueError("unheard")))
    await asyncio.sleep(0.05)


async def changes_the_hooks() -> None:
    def hook(*args: Any) -> None:
        raise RuntimeError("no hook at all")

    sys.excepthook = hook
    threading.excepthook = hook
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    await asyncio.to_thread(thread.join)


async def swallows_its_cancellation() -> None:
    for _ in range(30):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


async def blocks_the_loop() -> None:
    time.sleep(1.5)  # noqa: ASYNC251 - longer than the lease of the test


async def writes_without_an_end() -> None:
    sys.stdout.write("x" * 3_000_000)
    sys.stdout.flush()


async def tells_much(context: Context) -> None:
    for number in range(100_000):
        context.progress("much", str(number))


async def sends_itself_a_signal() -> None:
    signal.raise_signal(signal.SIGHUP)


HABITS: dict[str, Callable[..., Any]] = {
    name: value
    for name, value in list(globals().items())
    if asyncio.iscoroutinefunction(value) and value.__module__ == __name__ and not name.startswith("_")
}


@handler("habit")
async def habit(args: dict[str, Any], context: Context) -> dict[str, Any]:
    function = HABITS[args["name"]]
    await (function(context) if args["name"] == "tells_much" else function())
    return {"done": True}
