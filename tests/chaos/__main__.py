"""``python -m tests.chaos --seconds 60 --seed 7 [--folder FOLDER]``: exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.chaos.driver import run_chaos, schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break workers and see what holds.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="an empty folder to keep logs, effects and the server's file in")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s, {len(schedule(options.seed, options.seconds))} faults")
    report = asyncio.run(run_chaos(options.seconds, options.seed, options.folder))
    print(*report.lines, sep="\n")
    print(*(f"BROKEN  {text}" for text in report.violations[:50]), sep="\n", end="\n" if report.violations else "")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
