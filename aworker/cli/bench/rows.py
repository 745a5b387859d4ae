"""What a measure gives: rows, each with aworker's figure beside those of others from the same run."""

from __future__ import annotations

import os
import platform
import resource
import statistics
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import redis

FORGETS = "bare loop, keeps nothing"
KEEPS = "bare loop, stores and publishes"

Row = dict[str, Any]


class Sample(msgspec.Struct, frozen=True):
    """One round of one contender."""

    rate: float
    """Tasks a second."""
    worker_us: float
    """Processor time of this process a task."""
    server_us: float


class Meter:
    """Processor time of this process and of the server since it was made."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._worker_s, self._server_s = self._now()

    def _now(self) -> tuple[float, float]:
        usage, server = resource.getrusage(resource.RUSAGE_SELF), self._client.info("cpu")
        return usage.ru_utime + usage.ru_stime, server["used_cpu_user"] + server["used_cpu_sys"]

    def sample(self, rate: float, count: int) -> Sample:
        worker_s, server_s = self._now()
        return Sample(
            rate, (worker_s - self._worker_s) / count * 1e6, max(0.0, server_s - self._server_s) / count * 1e6
        )


def compared(what: str, rounds: dict[str, list[Sample]], against: str = FORGETS) -> Row:
    """Return a row of medians; the ratio is the median of each round's own."""
    row: Row = {"what": what}
    for name, samples in rounds.items():
        row[name] = round(statistics.median(sample.rate for sample in samples))
    ours, theirs = rounds["aworker"], rounds[against]
    row["ratio"] = round(statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True)), 2)
    row["us a task, worker and server"] = {
        name: [
            round(statistics.median(sample.worker_us for sample in samples), 1),
            round(statistics.median(sample.server_us for sample in samples), 1),
        ]
        for name, samples in rounds.items()
    }
    return row


def waits(what: str, ours_s: list[float], theirs_s: list[float] | None = None, beside: str = FORGETS) -> Row:
    """Return a row of milliseconds: the median and the 99th percentile."""
    row: Row = {"what": what, **_quantiles("", ours_s)}
    if theirs_s:
        row |= _quantiles(f"{beside}, ", theirs_s)
        row["ratio of p50"] = round(row["p50"] / row[f"{beside}, p50"], 2)
    return row


def _quantiles(name: str, waits_s: list[float]) -> Row:
    ordered = sorted(waits_s)
    return {
        f"{name}p50": round(ordered[len(ordered) // 2] * 1e3, 3),
        f"{name}p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3, 3),
    }


def machine(server: redis.Redis) -> Row:
    """Return where the figures come from."""
    info = server.info("server")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "server": f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
    }


def show(where: Row, rows: list[Row]) -> None:
    """Print rows as a table."""
    from rich.table import Table

    from aworker.cli.screen.show import open_console

    console = open_console()
    console.print(", ".join(f"{name} {value}" for name, value in where.items()), markup=False)
    table = Table(box=None)
    table.add_column("what")
    table.add_column("aworker", justify="right")
    table.add_column("beside it", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("us a task", justify="right")
    for row in rows:
        ratio = next((value for name, value in row.items() if name.startswith("ratio")), None)
        times = row.get("us a task, worker and server", {})
        beside = [
            f"{name} {value:,}" if isinstance(value, (int, float)) else f"{name} {value}"
            for name, value in row.items()
            if name not in ("what", "aworker") and not name.startswith("ratio") and not isinstance(value, dict)
        ]
        table.add_row(
            row["what"],
            f"{row['aworker']:,}" if "aworker" in row else "",
            "\n".join(beside),
            "" if ratio is None else f"{ratio:.2f}",
            "\n".join(f"{worker:.0f} + {server:.0f}" for worker, server in times.values()),
        )
    console.print(table)
