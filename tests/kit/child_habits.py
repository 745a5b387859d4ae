"""What tasks in a child do that an ordinary main process may do, and what they leave behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any


def double(number: int) -> int:
    return 2 * number


def with_processes(method: str, context: Any) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(double, [1, 2])


def with_executor(method: str, context: Any) -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        return list(pool.map(double, [1, 2]))


def with_manager(method: str, context: Any) -> list[int]:
    context_of: Any = multiprocessing.get_context(method)
    with context_of.Manager() as manager:
        shared = manager.list()
        worker = context_of.Process(target=append, args=(shared,))
        worker.start()
        worker.join()
        return list(shared)


def append(shared: Any) -> None:
    shared.append(7)


def with_a_process_that_is_ended(method: str, context: Any) -> int:
    context_of: Any = multiprocessing.get_context(method)
    process = context_of.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(5)
    return int(process.exitcode)


def with_a_program_that_is_ended(context: Any) -> int:
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    return program.wait(5)


def with_a_program(context: Any) -> str:
    done = subprocess.run([sys.executable, "-c", "print(input())"], input="hello", capture_output=True, text=True)
    return done.stdout.strip()


def with_threads(context: Any) -> list[int]:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(double, [1, 2]))


def with_a_loop(context: Any) -> str:
    return asyncio.run(asyncio.sleep(0, "slept"))


def with_an_alarm(context: Any) -> str:
    def ring(number: int, frame: object) -> None:
        raise TimeoutError("rung")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        time.sleep(5)
    except TimeoutError as error:
        return str(error)
    return "slept"


def reads_stdin(context: Any) -> str:
    return sys.stdin.read()


def is_the_main_thread(context: Any) -> bool:
    return threading.current_thread() is threading.main_thread()


# Left behind.


def leaves_all_else(folder: str, context: Any) -> None:
    os.chdir(folder)
    os.environ["LEFT"] = "behind"
    os.environ.pop("PATH", None)
    sys.setrecursionlimit(5_000)
    os.umask(0o000)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 600)
    sys.path.insert(0, folder)
    sys.stdout = sys.stderr
    sys.excepthook = print


def tells_what_it_finds(context: Any) -> dict[str, Any]:
    print("still there", flush=True)
    return {
        "pid": os.getpid(),
        "folder": os.getcwd(),
        "left": os.environ.get("LEFT"),
        "path": bool(os.environ.get("PATH")),
        "recursion": sys.getrecursionlimit(),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "handled": signal.getsignal(signal.SIGALRM) == signal.SIG_DFL,
        "threads": threading.active_count(),
    }


def closes_its_output(context: Any) -> None:
    os.close(1)
    os.close(2)


def leaves_a_thread(context: Any) -> None:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def leaves_a_program(context: Any) -> int:
    return subprocess.Popen(["sleep", "600"]).pid


def leaves_a_daemon(context: Any) -> int:
    done = subprocess.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True)
    return int(done.stdout)


def leaves_a_program_and_hangs(path: str, context: Any) -> None:
    program = subprocess.Popen(["sh", "-c", "sleep 600 & wait"])
    with open(path, "w") as file:
        file.write(str(program.pid))
    time.sleep(600)


def exits_at_once(context: Any) -> None:
    os._exit(3)


def writes_without_an_end(context: Any) -> str:
    sys.stdout.write("x" * 3_000_000)
    return "written"


def tells_much(context: Any) -> str:
    for number in range(100_000):
        context.progress("counting", str(number))
    return "told"
