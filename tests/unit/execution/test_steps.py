"""A handler whose steps are timed is awaited like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from aworker.execution import steps
from aworker.execution.steps import stepped


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(steps, "time", made)
    return made


async def test_each_step_that_holds_the_loop_for_long_is_noted(clock: Clock) -> None:
    async def handler() -> str:
        clock.now_s += 0.5
        await asyncio.sleep(0)
        clock.now_s += 0.05
        await asyncio.sleep(0)
        clock.now_s += 2
        return "done"

    noted: list[float] = []

    assert await stepped(handler(), noted.append) == "done"
    assert noted == pytest.approx([0.5, 2])


async def test_what_it_waits_for_holds_nobody_up(clock: Clock) -> None:
    async def handler() -> None:
        await asyncio.sleep(0)

    async def meanwhile() -> None:
        clock.now_s += 60

    noted: list[float] = []
    await asyncio.gather(stepped(handler(), noted.append), meanwhile())

    assert noted == []


async def test_what_it_raises_comes_through_and_a_step_that_fails_counts(clock: Clock) -> None:
    async def handler() -> None:
        await asyncio.sleep(0)
        clock.now_s += 1
        raise ValueError("no")

    noted: list[float] = []
    with pytest.raises(ValueError, match="no"):
        await stepped(handler(), noted.append)

    assert noted == [1]


async def test_a_cancel_is_the_handlers_to_hear() -> None:
    heard: list[str] = []

    async def handler() -> str:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            heard.append("cancelled")
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            heard.append("put away")
            raise
        return "never"

    with anyio.CancelScope() as scope:
        scope.deadline = anyio.current_time()
        await stepped(handler(), lambda held_s: None)

    assert (scope.cancelled_caught, heard) == (True, ["cancelled", "put away"])


async def test_groups_scopes_and_contexts_work_within() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        await asyncio.sleep(0)
        yield "open"
        await asyncio.sleep(0)

    async def handler() -> list[Any]:
        found: list[Any] = []
        async with opened() as state, anyio.create_task_group() as group:
            group.start_soon(asyncio.sleep, 0)
            found.append(state)
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        found.append(await asyncio.wait_for(asyncio.sleep(0, "in time"), 30))
        found.append(asyncio.current_task())
        return found

    assert await stepped(handler(), lambda held_s: None) == ["open", "in time", asyncio.current_task()]


def test_one_that_is_closed_is_closed_within() -> None:
    left: list[str] = []

    async def handler() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append("closed")

    async def run() -> None:
        await stepped(handler(), lambda held_s: None)

    loop = asyncio.new_event_loop()
    coroutine = run()
    try:
        loop.call_soon(coroutine.send, None)
        loop.call_soon(loop.stop)
        loop.run_forever()
        coroutine.close()
    finally:
        loop.close()

    assert left == ["closed"]
