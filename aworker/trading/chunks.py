"""Work of one task cut into chunks: planned, run by several children at once, merged, with progress on the way."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from aworker.execution.context import Context

_AT_ONCE = 32


class Chunked(msgspec.Struct, frozen=True):
    """Three functions of a module that children call, by name, and what is told of the work."""

    plan: str
    """request -> ``{"request": the one to merge with, "chunks": [requests]}``"""
    chunk: str
    merge: str
    """(the plan's request, what the chunks gave in their order) -> result"""
    stage: str
    noun: str
    """What is counted, in the plural."""
    counted: str
    """The chunks' field that is counted: a list, or a number."""
    share: float = 1.0
    """Which part of the task the chunks are."""


BACKTEST = Chunked(
    "aworker.trading.backtest.backtest:plan_chunks",
    "aworker.trading.backtest.backtest:backtest_chunk",
    "aworker.trading.backtest.backtest:merge_chunks",
    "backtest",
    "symbols",
    "symbols",
)
SWEEP = Chunked(
    "aworker.trading.backtest.sweep:plan_sweep",
    "aworker.trading.backtest.sweep:sweep_chunk",
    "aworker.trading.backtest.sweep:merge_sweep",
    "sweep",
    "combinations",
    "count",
    0.95,
)


async def in_chunks(work: Chunked, request: dict[str, Any], context: Context) -> dict[str, Any]:
    """Plan, run in children, merge. Raises what the first chunk that fails raises."""
    plan = await context.offload(work.plan, request, chunk=True)
    return await run_plan(work, plan, context)


async def run_plan(work: Chunked, plan: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run the chunks of a plan in children and merge them. Raises what the first chunk that fails raises."""
    chunks: list[dict[str, Any]] = plan["chunks"]
    sizes = [_size(chunk[work.counted]) for chunk in chunks]
    total = sum(sizes)
    made: list[Any] = [None] * len(chunks)
    done = 0
    at_once = anyio.CapacityLimiter(_AT_ONCE)

    async def run(place: int) -> None:
        nonlocal done
        async with at_once:
            made[place] = await context.offload(work.chunk, chunks[place], chunk=True)
        done += sizes[place]
        if len(chunks) > 1:
            data = {f"{work.noun}_done": done, f"{work.noun}_total": total}
            context.progress(work.stage, f"{done:,} of {total:,} {work.noun}", data, done / total * work.share)

    try:
        async with anyio.create_task_group() as group:
            for place in range(len(chunks)):
                group.start_soon(run, place)
    except ExceptionGroup as errors:
        # One chunk's error is the task's: its type decides what becomes of the task.
        raise errors.exceptions[0] from None
    result: dict[str, Any] = await context.offload(work.merge, plan["request"], made, chunk=True)
    return result


def _size(counted: Any) -> int:
    return counted if isinstance(counted, int) else len(counted)
