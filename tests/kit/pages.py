"""A page on the tests' server, asked without a socket; what it costs Redis, counted."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
import redis

from aworker.clock import now_s, rfc3339
from aworker.queues.presence import EndedTask, Minute, Presence, RunningTask, TypeCounts, beat_command_parts
from aworker.queues.scripts import BEAT
from aworker.web import page
from tests.kit.queue_scripts import QueueScripts

TOKEN = "correct-horse-battery"


@asynccontextmanager
async def asked(
    url: str, *, token: str = "", base: str = "http://127.0.0.1:9464", **options: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=page(url, token=token, **options))
    async with httpx2.AsyncClient(transport=transport, base_url=base) as client:
        yield client


async def log_in(client: httpx2.AsyncClient, token: str = TOKEN) -> httpx2.Response:
    return await client.post("/login", data={"token": token})


def form_token(text: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', text)
    assert found is not None
    return found[1]


class Cost:
    """Commands and bytes that the server answered with."""

    commands = 0
    answered_bytes = 0


@contextmanager
def counted(client: redis.Redis) -> Iterator[Cost]:
    def seen() -> tuple[int, int]:
        stats: Any = client.info("commandstats")
        calls = sum(value["calls"] for name, value in stats.items() if name != "cmdstat_info")
        net: Any = client.info("stats")
        return calls, net["total_net_output_bytes"]

    seen()
    commands, size = seen()
    again, more = seen()
    cost = Cost()
    own_size = more - size
    assert again == commands
    yield cost
    after, bytes_after = seen()
    cost.commands = after - commands
    cost.answered_bytes = bytes_after - more - own_size


def bury(client: redis.Redis, *letters: dict[str, Any]) -> list[str]:
    """Write dead letters as a worker does; return their entries' ids."""
    pipeline = client.pipeline(transaction=False)
    for letter in letters:
        fields: Any = {
            "payload": b"{}",
            "queue": "strategy_queue",
            "reason": "HandlerRaised",
            "error": "no luck",
            "cause": "",
            "deliveries": 1,
            "worker_id": "w1",
            "task_id": "",
            "task_type": "backtest",
            "died_at": rfc3339(),
            **letter,
        }
        pipeline.xadd("aworker:dead", fields)
    return [entry.decode() for entry in pipeline.execute()]


def present(queue: QueueScripts, worker_id: str, *, at_s: float | None = None, **fields: Any) -> Presence:
    """Let a worker say what it does."""
    now = now_s() if at_s is None else at_s
    defaults: dict[str, Any] = {
        "version": "0.1.0",
        "host": "host-1",
        "delivery": "leased",
        "started_at_s": now - 60,
        "slots": 16,
        "busy": 1,
        "running": [RunningTask(f"{worker_id}-runs", "backtest", "normal", 1, now - 5)],
        "recent": [EndedTask(f"{worker_id}-ended", "alert", "normal", "completed", 0.2, now - 1)],
        "types": {"alert": TypeCounts({"completed": 9, "failed": 1}, {3: 10}, {9: 9, 12: 1})},
    }
    presence = Presence(worker_id, now, **{**defaults, **fields})
    names, arguments = beat_command_parts(queue.keys, presence, {"normal": Minute(3, 2, 1, 1)})
    arguments[4] = int(now)
    queue.client.eval(BEAT.text, len(names), *names, *arguments)
    return presence


def record(queue: QueueScripts, task_id: str, status: str, data: Any) -> None:
    text = {"task_id": task_id, "status": status, "data": data, "updated_at": rfc3339(), "worker_id": "w1"}
    queue.client.set(f"task_result:{task_id}", json.dumps(text))
