"""What a failover costs, kind by kind: ``python -m tests.bench.failover [KIND ..] [--server-option value ..]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import anyio

from tests.kit.failovers import COORDINATED, HEAD, KINDS, fail_over

NAMED = 5


def main(words: list[str]) -> None:
    first = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))
    kinds, options = words[:first], words[first:]
    print(HEAD, flush=True)
    for kind in kinds or (*KINDS, COORDINATED):
        with tempfile.TemporaryDirectory(prefix="aworker-failover-") as folder:
            told = anyio.run(fail_over, Path(folder), kind, *options)
        print(told.row, flush=True)
        for what, cases in (("lost", told.lost), ("twice", told.twice)):
            for case in cases[:NAMED]:
                print(f"  {what} {case.task_id}: {case.why}", flush=True)
            if len(cases) > NAMED:
                print(
                    f"  .. and {len(cases) - NAMED} more; of replication {sum(one.is_of_replication for one in cases)}"
                )
        print(f"  started after it, by worker: {sorted(told.starts_after.values())}; to the old: {told.to_the_old}")


if __name__ == "__main__":
    main(sys.argv[1:])
