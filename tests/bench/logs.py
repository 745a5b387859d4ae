"""What two log lines a task cost: no-op tasks at INFO beside the same at WARNING, turn and turn about.

Run by hand: ``python -m tests.bench.logs``. The pipe has a reader that throws away what it reads. Processor time is
this process's own, all threads; it holds where other work shares the machine and the rate does not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import uvloop

from aworker.app import collect_less_often
from aworker.cli.bench.workers import config_of, fill, worker_rate
from aworker.cli.serving.embedded import embedded_server
from aworker.config import LoggingConfig
from aworker.logs import configure_logs

TASKS = 10_000
SLOTS = 100


Found = dict[str, list[tuple[float, float]]]
"""By target: tasks a second, processor time of one in microseconds."""


async def _measured(url: str, targets: dict[str, LoggingConfig], rounds: int, tasks: int) -> Found:
    found: Found = {name: [] for name in targets}
    for _ in range(rounds):
        for name, config in targets.items():
            configure_logs(config)
            await fill(url, tasks)
            began_s = time.process_time()
            rate = await worker_rate(config_of(url, SLOTS), tasks)
            found[name].append((rate, (time.process_time() - began_s) / tasks * 1e6))
            configure_logs(LoggingConfig(level="ERROR"))
            await asyncio.sleep(0.3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=TASKS)
    given = parser.parse_args()
    collect_less_often()
    reads, writes = os.pipe()
    with subprocess.Popen(["cat"], stdin=reads, stdout=subprocess.DEVNULL) as reader:
        with tempfile.TemporaryDirectory() as folder, embedded_server(Path(folder)) as server:
            pipe = f"/dev/fd/{writes}"
            targets = {
                "WARNING": LoggingConfig(level="WARNING", file=pipe),
                "INFO, text, pipe": LoggingConfig(file=pipe),
                "INFO, json, pipe": LoggingConfig(file=pipe, format="json"),
                "INFO, text, file": LoggingConfig(file=f"{folder}/log"),
                "INFO, json, file": LoggingConfig(file=f"{folder}/json", format="json"),
            }
            found = uvloop.run(_measured(server.url, targets, given.rounds, given.tasks))
        reader.terminate()
    for name, rows in found.items():
        rate = statistics.median(row[0] / of[0] for row, of in zip(rows, found["WARNING"], strict=True))
        cost = statistics.median(row[1] - of[1] for row, of in zip(rows, found["WARNING"], strict=True))
        each = statistics.median(row[1] for row in rows)
        print(f"{name:18} {rate:5.2f} of the rate at WARNING; {each:4.0f} us of processor a task, {cost:+4.0f}")


if __name__ == "__main__":
    main()
