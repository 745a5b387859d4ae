"""A worker process whose handlers write down what they do: ``python -m tests.chaos.worker URL``.

Every start and end of a handler is one line in the file that ``AWORKER_CHAOS_EFFECTS`` names; a line is written in one
step, so lines of many processes never mix.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

import anyio
import msgspec

from aworker.config import Config, LiveConfig, LoggingConfig, PoolConfig, RedisConfig, WorkerConfig
from aworker.execution.context import Context
from aworker.execution.registry import Handler, Registry
from aworker.execution.retry import Retry
from aworker.logs import configure_logs
from aworker.worker.supervisor import Supervisor

SLOTS = 8
LEASE_TTL_S = 2.0
DRAIN_TIMEOUT_S = 0.3


def effect(what: str, context: Context) -> None:
    """Write one line about the task."""
    line = {
        "what": what,
        "task_id": context.task_id,
        "lease_id": context.lease_id,
        "delivery": context.delivery,
        "worker_pid": int(os.environ["AWORKER_CHAOS_WORKER"]),
        "at": time.time(),
    }
    file = os.open(os.environ["AWORKER_CHAOS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(line).encode() + b"\n")
    finally:
        os.close(file)


def told(context: Context) -> dict[str, Any]:
    return {"success": True, "lease_id": context.lease_id}


async def work(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    await anyio.sleep(args["sleep_s"])
    effect("end", context)
    return told(context)


async def slow_once(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    if context.delivery == 1:
        await anyio.sleep(args["sleep_s"])
    effect("end", context)
    return told(context)


def heavy(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    time.sleep(args["sleep_s"])
    effect("end", context)
    return told(context)


def dies(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    os.kill(os.getpid(), signal.SIGSEGV)
    return told(context)


async def fails(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    raise ValueError(f"{context.task_id} never works")


async def again(args: dict[str, Any], context: Context) -> dict[str, Any] | Retry:
    effect("start", context)
    if context.delivery == 1:
        effect("retry", context)
        return Retry(args["sleep_s"], "not yet")
    effect("end", context)
    return told(context)


async def blocks(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    time.sleep(args["sleep_s"])  # noqa: ASYNC251 - a handler that blocks the loop is what is tested
    effect("end", context)
    return told(context)


def go_on(args: dict[str, Any], context: Context) -> None:
    """Enqueue the next of a row, in a child every other time; its id says who enqueued it."""
    if left := args["left"]:
        kind = ("hands_on", "hands_on_in_child")[left % 2]
        args = {**args, "left": left - 1}
        context.enqueue(kind, args, task_id=f"{args['row']}.{left - 1}.{context.lease_id}")


async def hands_on(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    go_on(args, context)
    await anyio.sleep(args["sleep_s"])
    effect("end", context)
    return told(context)


def hands_on_in_child(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    go_on(args, context)
    time.sleep(args["sleep_s"])
    effect("end", context)
    return told(context)


async def collect(args: dict[str, Any], context: Context) -> dict[str, Any]:
    effect("start", context)
    return {**told(context), "group": args["group"]}


def main() -> None:
    os.environ["AWORKER_CHAOS_WORKER"] = str(os.getpid())
    options: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    worker = {"slots": SLOTS, "lease_ttl_s": LEASE_TTL_S, "renew_interval_s": 0.5, "drain_timeout_s": DRAIN_TIMEOUT_S}
    config = msgspec.structs.replace(
        Config(),
        redis=RedisConfig(url=sys.argv[1]),
        worker=msgspec.convert({**worker, **options}, WorkerConfig),
        pool=PoolConfig(processes=2, stop_grace_s=0.2),
        logging=LoggingConfig(level="INFO"),
    )
    configure_logs(config.logging)
    registry = Registry()
    for function in (work, slow_once, heavy, dies, fails, again, blocks, hands_on, hands_on_in_child, collect):
        module = sys.modules["tests.chaos.worker"] if __name__ != "__main__" else _as_imported()
        registry.add(Handler(function.__name__, getattr(module, function.__name__)))
    anyio.run(Supervisor(LiveConfig(config), registry).run)


def _as_imported() -> Any:
    # A child finds a handler by the name of its module, which must not be __main__.
    from tests.chaos import worker

    return worker


if __name__ == "__main__":
    main()
