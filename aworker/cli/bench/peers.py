"""Other libraries beside aworker, in an environment that has them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import redis

from aworker.cli.bench import peer_loops
from aworker.cli.bench.rows import Row
from aworker.cli.bench.workers import config_of, fill, worker_rate
from aworker.errors import ConfigError

TASKS = 2_000
SLOTS = 100
_LONGEST_S = 60.0


async def measure_peers(python: Path, url: str, less: int) -> list[Row]:
    """Run each library that ``python`` has with tasks without work, 100 at once, after aworker with as many.

    Raises ConfigError where there is no such Python.
    """
    count = TASKS // less
    await fill(url, count)
    ours = await worker_rate(config_of(url, SLOTS), count)
    rows: list[Row] = []
    for name in peer_loops.PEERS:
        with redis.Redis.from_url(url) as client:
            client.flushall()
        said = await anyio.to_thread.run_sync(_said, python, name, url, count)
        if said.get("missing"):
            continue
        row: Row = {"what": f"tasks a second, {SLOTS} at once, beside {name}", "aworker": round(ours)}
        if "rate" in said:
            row |= {f"{name} {said['version']}": round(said["rate"]), "ratio": round(ours / said["rate"], 1)}
        else:
            row[name] = said["why not"]
        rows.append(row)
    return rows


def _said(python: Path, name: str, url: str, count: int) -> dict[str, Any]:
    command = [str(python), "-I", str(Path(peer_loops.__file__)), name, url, str(SLOTS), str(count)]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return {"why not": f"not done after {_LONGEST_S:g} s"}
    except OSError as error:
        raise ConfigError(f"--peers must be a Python interpreter, was {str(python)!r} ({error}); check it") from None
    try:
        said: dict[str, Any] = msgspec.json.decode(ended.stdout.strip().splitlines()[-1])
    except (IndexError, msgspec.DecodeError):
        return {"why not": f"it ended with code {ended.returncode}"}
    return said
