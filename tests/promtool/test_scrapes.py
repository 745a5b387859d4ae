"""What a worker answers on /metrics, as Prometheus's own checker judges it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2

from tests.kit.commands import running
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.servers import free_port
from tests.kit.workers import eventually
from tests.promtool.conftest import Promtool


async def test_promtool_has_nothing_to_say(
    promtool: Promtool, tmp_path: Path, queue: QueueScripts, redis_url: str
) -> None:
    port = free_port()
    variables = {"AWORKER_HTTP__PORT": str(port), "AWORKER_POOL__PROCESSES": "1"}
    with running("run", "--redis-url", redis_url, cwd=tmp_path, **variables) as worker:
        worker.logs("is ready")
        prompt = {"user_id": 1, "prompt": "golden cross on AAPL"}
        queue.client.lpush(PRIORITY, task("c", task_type="create_strategy", args=prompt))
        queue.client.lpush(NORMAL, b"no task", task("u", task_type='odd"\n{}\\'), task("f", args={"strategy_id": 7}))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def scraped() -> str:
                text = (await client.get("/metrics")).text
                ended = re.findall(r"^aworker_tasks_total\{.*\} ([0-9.]+)", text, re.MULTILINE)
                return text if sum(map(float, ended)) >= 4 else ""

            text = await eventually(scraped)

    found = promtool("check", "metrics", text=text)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
