"""Metrics and health of a real worker over HTTP, as Prometheus and a load balancer ask."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import msgspec
import pytest
from loguru import logger
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from aworker import app
from aworker.config import Config, HttpConfig, LiveConfig, PoolConfig, RedisConfig, ResultsConfig, WorkerConfig
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.servers import Server, free_port
from tests.kit.workers import eventually


@asynccontextmanager
async def served(url: str, port: int, **sections: Any) -> AsyncIterator[httpx2.AsyncClient]:
    config = msgspec.structs.replace(
        Config(),
        redis=RedisConfig(url=url),
        http=HttpConfig(port=port),
        pool=PoolConfig(processes=1, warm=True),
        results=ResultsConfig(repeat_fast_after_s=0),
        **{"worker": WorkerConfig(slots=4, drain_timeout_s=1), **sections},
    )
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: app.serve(LiveConfig(config), burst=False))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
            await eventually(lambda: is_ready(client), within_s=60)
            yield client
        os.kill(os.getpid(), signal.SIGTERM)  # drained, as by anybody else


async def is_ready(client: httpx2.AsyncClient, status: int = 200) -> bool:
    try:
        return (await client.get("/readyz")).status_code == status
    except httpx2.HTTPError:
        return False


def values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read_text(text)
        for sample in family.samples
    }


async def test_a_scrape_says_what_waits_and_what_ended(queue: QueueScripts, redis_url: str) -> None:
    queue.client.hset(queue.keys.paused, "queue " + NORMAL, "1")
    async with served(redis_url, free_port()) as client:
        queue.client.lpush(NORMAL, task("n1"), task("n2"))
        queue.client.lpush(
            PRIORITY, task("p", task_type="create_strategy", args={"user_id": 1, "prompt": "golden cross"})
        )
        queue.client.lpush(PRIORITY, b"\x00 no task", task('odd"\n', task_type='no"such\ntype'))
        await eventually(lambda: _is(queue.client.xlen(queue.keys.dead) == 2))
        await eventually(lambda: _is(b'"completed"' in (queue.client.get("task_result:p") or b"")))
        await anyio.sleep(0.1)
        response = await client.get("/metrics")

    found = values(response.text)
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert found["aworker_queue_length", (("queue", "normal"),)] == 2
    assert found["aworker_queue_length", (("queue", "priority"),)] == 0
    assert found["aworker_queue_oldest_age_seconds", (("queue", "normal"),)] > 1_000
    assert found["aworker_dead_letters_kept", ()] == 2
    ended = {labels: value for (name, labels), value in found.items() if name == "aworker_tasks_total"}
    assert ended[("outcome", "completed"), ("queue", "priority"), ("task_type", "create_strategy")] >= 1
    assert ended[("outcome", "rejected"), ("queue", "priority"), ("task_type", "unknown")] >= 2
    assert not any("such" in str(labels) for labels in ended)
    run = {labels: value for (name, labels), value in found.items() if name == "aworker_task_run_seconds_count"}
    assert run[("queue", "priority"), ("task_type", "create_strategy")] >= 1
    assert found["aworker_slots", ()] == 4
    assert found["aworker_ready", ()] == found["aworker_redis_up", ()] == 1
    assert found["aworker_children", (("state", "idle"),)] == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in found)


async def test_openmetrics_is_spoken_where_it_is_asked_for(queue: QueueScripts, redis_url: str) -> None:
    async with served(redis_url, free_port()) as client:
        response = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families: Any = read_openmetrics  # has no types
    assert {family.name for family in families(response.text)} >= {"aworker_tasks", "aworker_queue_length"}


async def test_names_and_units_follow_the_conventions(queue: QueueScripts, redis_url: str) -> None:
    async with served(redis_url, free_port()) as client:
        text = (await client.get("/metrics")).text

    for family in read_text(text):
        if family.name.startswith("aworker"):
            assert re.fullmatch(r"aworker(_[a-z]+)+", family.name)
            assert family.documentation.endswith(".")
            assert not re.search(r"_(ms|us|seconds_total|count)$", family.name)


async def test_readiness_follows_the_server(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        async with served(server.url, free_port()) as client:
            server.freeze()
            try:
                await eventually(lambda: is_ready(client, 503))
                body = (await client.get("/readyz")).json()
                assert body["ready"] is False
                assert "Redis" in body["reasons"][0]
                assert (await client.get("/livez")).status_code == 200
                scraped = values((await client.get("/metrics")).text)
                assert scraped["aworker_redis_up", ()] == scraped["aworker_ready", ()] == 0
            finally:
                server.thaw()
            await eventually(lambda: is_ready(client))


async def why_not(client: httpx2.AsyncClient) -> str:
    return " ".join((await client.get("/readyz")).json()["reasons"])


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
async def test_a_server_that_cannot_serve_makes_it_unready(
    tmp_path: Path, delivery: Literal["leased", "at-most-once"]
) -> None:
    worker = WorkerConfig(slots=4, drain_timeout_s=1, delivery=delivery)
    with Server(tmp_path) as server:

        def told(*command: str) -> None:
            with server.client() as redis_client:
                redis_client.execute_command(*command)

        async with served(server.url, free_port(), worker=worker) as client:
            told("REPLICAOF", "127.0.0.1", "1")
            await eventually(lambda: _is_said(client, "Redis at"))
            told("REPLICAOF", "NO", "ONE")
            await eventually(lambda: is_ready(client))

            told("CONFIG", "SET", "maxmemory", "1")
            await eventually(lambda: _is_said(client, "is full and takes no new task"))
            told("CONFIG", "SET", "maxmemory", "0")
            await eventually(lambda: is_ready(client))

            server.stop()
            await eventually(lambda: _is_said(client, "Error 111"))
            server.start()
            await eventually(lambda: is_ready(client))


async def test_paused_levels_and_busy_slots_are_ready(queue: QueueScripts, redis_url: str) -> None:
    queue.client.hset(queue.keys.paused, mapping={"queue " + NORMAL: "1", "queue " + PRIORITY: "1"})
    async with served(redis_url, free_port()) as client:
        ages_s: list[float] = []

        async def claimed_again() -> bool:
            assert await is_ready(client), await why_not(client)
            found = values((await client.get("/metrics")).text)
            ages_s.append(found["aworker_claim_age_seconds", ()])
            return sum(later < earlier for earlier, later in pairwise(ages_s)) >= 2

        await eventually(claimed_again)


async def _is_said(client: httpx2.AsyncClient, reason: str) -> bool:
    return not await is_ready(client) and reason in await why_not(client)


async def test_a_port_that_is_taken_is_a_warning(queue: QueueScripts, redis_url: str) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{level} {message}")
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config = msgspec.structs.replace(
                Config(), redis=RedisConfig(url=redis_url), http=HttpConfig(port=taken.getsockname()[1])
            )
            await app.serve(LiveConfig(config), burst=True)
    finally:
        logger.remove(sink)

    assert any("WARNING http.port must be free" in line for line in lines)
    assert any("has drained" in line for line in lines)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_it_only_answers_questions(queue: QueueScripts, redis_url: str, method: str) -> None:
    async with served(redis_url, free_port()) as client:
        assert (await client.request(method, "/metrics")).status_code == 405
        assert (await client.get("/nosuch")).status_code == 404


async def _is(value: bool) -> bool:
    return value
