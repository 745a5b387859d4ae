"""What the pool's tests run in child processes; imports nothing heavy."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from aworker.errors import ArgumentsInvalid, RequestDeclined
from aworker.execution.context import Context
from aworker.execution.retry import Retry


class Order(msgspec.Struct):
    symbol: str
    quantity: int


class NoBars(RequestDeclined):
    """No bars for a symbol."""


class _Opaque:
    pass


def nothing(context: Context) -> None:
    """Do nothing."""


def echo(value: Any, context: Context) -> Any:
    return value


def add(left: int, right: int, context: Context) -> int:
    return left + right


def who(context: Context) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "task_id": context.task_id,
        "task_type": context.task_type,
        "delivery": context.delivery,
        "lease_id": context.lease_id,
    }


def environment(name: str, context: Context) -> str | None:
    return os.environ.get(name)


def imported(name: str, context: Context) -> bool:
    return name in sys.modules


def buy(order: Order, context: Context) -> dict[str, Any]:
    return {"symbol": order.symbol, "cost": order.quantity * 2}


def raise_value_error(context: Context) -> None:
    raise ValueError("the price is negative")


def decline(context: Context) -> None:
    raise NoBars("no bars for ABC")


def refuse(context: Context) -> None:
    raise ArgumentsInvalid("args.symbol must be known, was ABC; correct it")


def leave_by_sys_exit(context: Context) -> None:
    sys.exit(3)


def give_opaque(context: Context) -> Any:
    return {"value": [_Opaque()]}


def ask_again(context: Context) -> Retry:
    return Retry(delay_s=2.5, reason="the exchange is closed")


def give_numpy(context: Context) -> Any:
    import numpy as np

    return {"mean": np.float64(1.5), "count": np.int64(3), "bars": np.array([1.0, 2.0])}


def report(count: int, context: Context) -> str:
    for index in range(count):
        context.progress("work", f"step {index}", {"index": index}, index / count)
    return "done"


def say(context: Context) -> None:
    print("printed")
    print("to stderr", file=sys.stderr)
    os.write(1, b"written\n")
    ctypes.CDLL(None).puts(b"by C")
    subprocess.run(["echo", "by another process"], check=True)
    context.logger.info("logged with the context")
    logger.warning("logged with loguru")
    logging.getLogger("library").error("logged with logging")
    print("without an end", end="")


def say_much(lines: int, context: Context) -> None:
    for index in range(lines):
        print(f"line {index}")


def wait_for_file(path: str, context: Context) -> str:
    Path(path + ".started").touch()
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


def note_and_wait(name: str, directory: str, context: Context) -> str:
    """Append the name to ``order``, then wait until ``go`` stands there."""
    with open(os.path.join(directory, "order"), "a", encoding="utf-8") as order:
        order.write(name + "\n")
    while not os.path.exists(os.path.join(directory, "go")):
        time.sleep(0.005)
    return name


def stop_when_asked(path: str, context: Context) -> str:
    Path(path).touch()
    while not context.cancelled:
        time.sleep(0.005)
    Path(path + ".stopped").touch()
    return "stopped early"


def spin(path: str, context: Context) -> None:
    Path(path).touch()
    while True:
        pass


def sleep(path: str, context: Context) -> None:
    Path(path).touch()
    time.sleep(60)


def hold_the_interpreter(path: str, context: Context) -> None:
    """Stay in C code that never lets another thread run."""
    Path(path).touch()
    re.match(r"(a+)+$", "a" * 64 + "b")


def segfault(context: Context) -> None:
    ctypes.string_at(0)


def exit_hard(code: int, context: Context) -> None:
    os._exit(code)


def kill_myself(number: int, context: Context) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def last_words(context: Context) -> None:
    print("these are my last words", flush=True)
    os.abort()


def sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
        except OSError:
            continue
    return found


def write_garbage(context: Context) -> None:
    for fd in sockets():
        os.write(fd, b"HTTP/1.1 200 OK\r\n\r\nthis is no frame")
    time.sleep(60)


def close_sockets(context: Context) -> None:
    for fd in sockets():
        os.close(fd)


def forget_a_process(context: Context) -> int:
    """Leave a forked process behind that holds the socket, and die."""
    pid = os.fork()
    if pid == 0:
        time.sleep(2)
        os._exit(0)
    os._exit(9)


def allocate(context: Context) -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1024) * 1024 * 8))


def hold(megabytes: int, context: Context) -> int:
    _kept.append(bytearray(b"x") * (megabytes << 20))
    return os.getpid()


_kept: list[bytearray] = []


def work_a_little(value: int, context: Context) -> int:
    time.sleep(0.01)
    return value
