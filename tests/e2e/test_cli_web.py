"""``aworker web`` and the page of ``aworker run``, as processes: where they say they are, and how they end."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import httpx2
import pytest
import redis

from tests.kit.commands import ROOT, Here, Running, eventually, running
from tests.kit.servers import free_port


def address(process: Running) -> str:
    process.logs("The page is at")
    found = re.search(r"The page is at (http://\S+?/)", process.stderr)
    assert found is not None
    return found[1]


def test_the_page_stands_without_a_worker(tmp_path: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.rpush("strategy_queue", json.dumps({"task_id": "lonely", "task_type": "backtest", "args": {}}))
    with running("web", "--port", 0, "--redis-url", redis_url, cwd=tmp_path) as web:
        at = address(web)
        assert "No worker is there" in httpx2.get(at).text
        assert "lonely" in httpx2.get(f"{at}waiting?queue=normal").text
        web.signal(signal.SIGTERM)
        assert web.ends() == 0


def test_a_worker_serves_it_and_ends_while_somebody_looks_on(tmp_path: Path, redis_url: str) -> None:
    with running("run", "--redis-url", redis_url, cwd=tmp_path, AWORKER_HTTP__PORT=str(free_port())) as worker:
        worker.logs("is ready")
        at = address(worker)
        assert "metrics and health at /metrics, /livez, /readyz" in worker.stderr
        eventually(lambda: "All is well" in httpx2.get(at).text)
        with httpx2.stream("GET", f"{at}live") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("data: "))
            worker.signal(signal.SIGTERM)
            list(lines)
        assert worker.ends() == 0
        assert "ERROR" not in worker.stderr
        assert "Traceback" not in worker.stderr


def test_whoever_starts_it_is_told_where_to_look(tmp_path: Path) -> None:
    variables = {"AWORKER_HTTP__PORT": str(free_port())}
    sample = ROOT / "config/sample-tasks.jsonl"
    with running("run", "--embedded", "--feed", sample, cwd=tmp_path, **variables) as worker:
        worker.prints("goes on serving")
        assert f"What it does, on a page: http://127.0.0.1:{variables['AWORKER_HTTP__PORT']}/\n" in worker.stdout
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0


def test_who_has_the_token_of_the_environment_acts(tmp_path: Path, redis_url: str) -> None:
    token = "a-token-of-the-environment"
    variables = {"AWORKER_HTTP__TOKEN_ENV": "PAGE_TOKEN", "PAGE_TOKEN": token}
    with running("web", "--port", 0, "--redis-url", redis_url, cwd=tmp_path, **variables) as web:
        with httpx2.Client(base_url=address(web), follow_redirects=True) as client:
            shown = client.post("login", data={"token": token})
            assert "You may act" in shown.text
            asks = client.get("do/pause-queue?id=normal").text
            csrf = re.findall(r'name="csrf" value="(\w+)"', asks)[-1]
            assert "Nothing of it starts" in client.post("do/pause-queue?id=normal", data={"csrf": csrf}).text
        web.logs("From the page, by 127.0.0.1: pause-queue normal: Nothing of it starts any more until it is resumed")
        assert token not in web.stderr


@pytest.mark.parametrize(
    "variables, said",
    [
        ({"AWORKER_HTTP__TOKEN_ENV": "NO_SUCH"}, "http.token_env must name an environment variable that is set"),
        ({"AWORKER_HTTP__TOKEN_ENV": "SHORT", "SHORT": "x"}, "SHORT must be at least 16 characters long, was 1"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused(here: Here, variables: dict[str, str], said: str) -> None:
    ended = here("web", "--port", 0, **variables)

    assert ended.returncode == 2
    assert said in ended.stderr


def test_a_port_that_is_taken_is_refused(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = here("web", "--port", taken.getsockname()[1])

    assert ended.returncode == 2
    assert "http.port must be free on 127.0.0.1" in ended.stderr
