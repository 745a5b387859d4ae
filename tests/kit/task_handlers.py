"""Handlers for the command line's tests."""

from __future__ import annotations

import os
from typing import Any

import anyio

from aworker import Context, RequestDeclined, Retry, handler


@handler("echo")
async def echo(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the arguments after as many progress messages as asked."""
    steps = int(args.get("steps", 0))
    for step in range(steps):
        context.progress("echo", f"step {step} of {steps}", {"step": step}, step / steps)
        if args.get("log"):
            context.logger.info(f"the echo logs {step}")
        await anyio.sleep(0.01)
    return {"echo": args}


@handler("fail")
async def fail(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Raise."""
    raise ValueError("told to fail")


@handler("decline")
async def decline(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Refuse."""
    raise RequestDeclined("nothing to be had")


@handler("hold", timeout_s=60)
async def hold(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run until a file is there."""
    began, until = anyio.Path(args["began"]), anyio.Path(args["until"])
    await began.touch()
    while not await until.exists():  # noqa: ASYNC110 - the file comes from another process
        await anyio.sleep(0.02)
    return {"held": True}


@handler("in_child")
def in_child(args: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run whole in a child."""
    return {"pid": os.getpid()}


@handler("later")
async def later(args: dict[str, Any], context: Context) -> dict[str, Any] | Retry:
    """Ask to be run again, once."""
    return Retry(0.05, "not yet") if context.delivery == 1 else {"delivery": context.delivery}
