"""`aworker run` as a process: its log lines, its exit codes, its ends, its embedded server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.kit.commands import Here, aworker, eventually, running
from tests.kit.servers import Server, free_port

AT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
READY = "is ready:"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    yield folder
    state = folder / "server.json"
    if state.exists():
        os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)


def push(client: redis.Redis, task_type: str, task_id: str, **args: Any) -> None:
    client.rpush("strategy_queue", json.dumps({"task_id": task_id, "task_type": task_type, "args": args}))


def result(client: redis.Redis, task_id: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(client.get(f"task_result:{task_id}") or "{}")
    return record


def port_of(log: str) -> int:
    found = re.search(r"Embedded Valkey \w+(?: \w+)? at redis://127\.0\.0\.1:(\d+)/0", log)
    assert found is not None, log
    return int(found.group(1))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_burst_works_off_what_waits_with_these_log_lines(tmp_path: Path, redis_url: str, client: redis.Redis) -> None:
    push(client, "echo", "abc123")
    push(client, "fail", "abc124")

    ended = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    lengths = r"Priority Queue: 0 tasks, Normal Queue: \d tasks, Total: \d tasks"
    for line in (
        rf"INFO     \[QUEUE STATUS\] Worker worker_\S+: {lengths}",
        r"INFO     Processing echo task abc123 from normal queue",
        r"INFO     Completed echo task abc123 from normal queue in \d+\.\ds",
        r"ERROR    Failed fail task abc124 from normal queue after \d+\.\ds: ValueError: told to fail",
    ):
        assert re.search(rf"^{AT} {line}$", ended.stderr, re.MULTILINE), (line, ended.stderr)
    assert "\x1b" not in ended.stderr, "no colours where there is no terminal"
    assert result(client, "abc123")["status"] == "completed"
    assert client.llen("strategy_queue") == 0


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("[worker]\nslotz = 4\n", [], "worker.slotz must be a known field"),
        ("[worker]\nlease_ttl_s = 1.5\n", [], "worker.lease_ttl_s must be > 2 * renew_interval_s, was 1.5"),
        ("[worker\n", [], "the file must be TOML"),
        ("", ["--slots", "0"], "worker.slots must be 1 to 10000, was 0"),
        ("", ["--log-level", "loud"], "logging.level must be"),
        ("", ["--redis-url", "http://:hidden@host"], "redis.url must be a redis://"),
        ("", ["--redis-url", "redis://:hidden/secret@host/0"], "redis.url must be a redis://"),
        ("[handlers]\nmodules = ['no.such']\n", [], "handlers.modules must be importable, 'no.such' was not"),
        ("[logging]\nfile = '/no/such/folder/log'\n", [], "logging.file must be writable"),
    ],
)
def test_a_wrong_configuration_ends_it_with_2_and_one_line(
    here: Here, tmp_path: Path, text: str, options: list[str], words: str
) -> None:
    config = tmp_path / "aworker.toml"
    config.write_text(text)

    ended = here("run", "--config", config, *options)

    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "hidden" not in ended.stderr


def test_a_missing_configuration_file_ends_it_with_2(here: Here, tmp_path: Path) -> None:
    ended = here("run", "--config", "none.toml")

    assert ended.returncode == 2
    assert "none.toml: the file must be readable text" in ended.stderr


def test_a_wrong_feed_ends_it_with_2_before_a_server_is_started(here: Here, tmp_path: Path) -> None:
    (tmp_path / "feed.jsonl").write_text("nonsense\n")

    ended = here("run", "--embedded", "--feed", "feed.jsonl")

    assert ended.returncode == 2
    assert "feed.jsonl: line 1 must be a task" in ended.stderr
    assert not (tmp_path / ".aworker").exists()


def test_contradicting_options_are_a_usage_error(here: Here, tmp_path: Path) -> None:
    both = here("run", "--embedded", "--redis-url", "redis://127.0.0.1/0")
    folder = here("run", "--data-dir", "data")

    assert (both.returncode, folder.returncode) == (2, 2)
    assert not (tmp_path / "data").exists()


def test_a_folder_without_bars_is_told_at_the_start(tmp_path: Path, redis_url: str) -> None:
    ended = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path, AWORKER_MARKET_DATA__PATH="nowhere")
    bundled = aworker("run", "--burst", "--redis-url", redis_url, cwd=tmp_path)

    assert ended.returncode == 0
    assert "WARNING  market_data.path must hold bars, was 'nowhere' without any; import some" in ended.stderr
    assert "market_data.path" not in bundled.stderr


def test_redis_away_at_the_start_is_told_once_with_its_address(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"

        with running("run", "--redis-url", f"redis://:hidden@{address}/0", cwd=tmp_path) as worker:
            worker.logs(f"Redis at {address}/0 is unavailable")
            worker.signal(signal.SIGTERM)

            assert worker.ends() == 0
    assert worker.stderr.count("is unavailable") == 1
    assert "Traceback" not in worker.stderr
    assert "hidden" not in worker.stderr


def test_sigterm_lets_running_tasks_end_and_leaves_the_others(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    began, until = tmp_path / "began", tmp_path / "until"
    with running("run", "--redis-url", redis_url, "--slots", 1, cwd=tmp_path) as worker:
        push(client, "hold", "first", began=str(began), until=str(until))
        eventually(began.exists, told=lambda: worker.stderr)
        push(client, "echo", "second")

        worker.signal(signal.SIGTERM)
        worker.logs("SIGTERM: draining, 1 running tasks have 25 s to end")
        until.touch()

        assert worker.ends() == 0
    assert result(client, "first")["status"] == "completed"
    assert client.llen("strategy_queue") == 1
    assert client.zcard("aworker:workers") == 0


def test_a_second_signal_does_not_wait_and_puts_the_task_back(
    tmp_path: Path, redis_url: str, client: redis.Redis
) -> None:
    began = tmp_path / "began"
    with running("run", "--redis-url", redis_url, cwd=tmp_path) as worker:
        push(client, "hold", "first", began=str(began), until=str(tmp_path / "never"))
        eventually(began.exists, told=lambda: worker.stderr)

        worker.signal(signal.SIGINT)
        worker.logs("SIGINT: draining")
        worker.signal(signal.SIGINT)

        assert worker.ends() == 0
    assert result(client, "first")["status"] == "queued"
    assert client.llen("strategy_queue") == 1


def test_a_reload_keeps_what_the_flags_say(tmp_path: Path, redis_url: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[redis]\nurl = "redis://127.0.0.1:1/0"\n[worker]\nslots = 3\n')
    with running("run", "--config", config, "--redis-url", redis_url, "--slots", 2, cwd=tmp_path) as worker:
        worker.logs("is ready: 2 slots")

        config.write_text(config.read_text() + "max_per_user = 1\n")
        worker.signal(signal.SIGHUP)

        worker.logs("The configuration was reloaded")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0
    assert "was not reloaded" not in worker.stderr


def test_the_embedded_server_keeps_its_data_and_is_stopped_last(tmp_path: Path, data: Path) -> None:
    with running("run", "--embedded", "--data-dir", data, cwd=tmp_path) as worker:
        worker.logs(READY)
        port = port_of(worker.stderr)
        with redis.Redis(port=port, decode_responses=True) as client:
            push(client, "echo", "kept")
            eventually(lambda: result(client, "kept").get("status") == "completed")

        worker.signal(signal.SIGTERM)

        assert worker.ends() == 0
    assert not listens(port)
    again = aworker("result", "kept", "--redis-url", f"redis://127.0.0.1:{port}/0", cwd=tmp_path)
    assert again.returncode == 69, "the server is gone"
    with running("run", "--embedded", "--data-dir", data, cwd=tmp_path) as worker:
        worker.logs(READY)
        with redis.Redis(port=port_of(worker.stderr), decode_responses=True) as client:
            assert result(client, "kept")["status"] == "completed"
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0


def test_the_server_of_a_killed_worker_is_found_again_and_its_task_run(tmp_path: Path, data: Path) -> None:
    began, until = tmp_path / "began", tmp_path / "until"
    soon = {"AWORKER_WORKER__LEASE_TTL_S": "1", "AWORKER_WORKER__RENEW_INTERVAL_S": "0.2"}
    with running("run", "--embedded", "--data-dir", data, cwd=tmp_path, **soon) as killed:
        killed.logs(READY)
        port = port_of(killed.stderr)
        with redis.Redis(port=port, decode_responses=True) as client:
            push(client, "hold", "first", began=str(began), until=str(until))
        eventually(began.exists, told=lambda: killed.stderr)
        killed.signal(signal.SIGKILL)
        killed.ends()
    assert listens(port)

    until.touch()
    with running("run", "--embedded", "--data-dir", data, cwd=tmp_path, **soon) as worker:
        worker.logs(f"Embedded Valkey found running at redis://127.0.0.1:{port}/0")
        worker.logs("Completed hold task first from normal queue")
        worker.signal(signal.SIGTERM)

        assert worker.ends() == 0
    assert not listens(port)


def test_two_workers_on_a_folder_share_its_server_until_the_last_leaves(tmp_path: Path, data: Path) -> None:
    with running("run", "--embedded", "--data-dir", data, cwd=tmp_path) as first:
        first.logs(READY)
        port = port_of(first.stderr)
        with running("run", "--embedded", "--data-dir", data, cwd=tmp_path) as second:
            second.logs(READY)
            assert port_of(second.stderr) == port

            first.signal(signal.SIGTERM)
            assert first.ends() == 0
            with redis.Redis(port=port, decode_responses=True) as client:
                push(client, "echo", "later")
                eventually(lambda: result(client, "later").get("status") == "completed", told=lambda: second.stderr)

            second.signal(signal.SIGTERM)
            assert second.ends() == 0
    assert not listens(port)


def test_a_server_that_cannot_start_ends_it_with_2_and_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "data" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("no manifest\n")

    ended = aworker("run", "--embedded", "--data-dir", "data", cwd=tmp_path)

    assert ended.returncode == 2
    assert "the embedded server must start, did not" in ended.stderr
    assert "AOF" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_cluster_is_refused_in_words(tmp_path: Path) -> None:
    # Its bus would be on the port + 10,000, which may be no port.
    with Server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as cluster:
        refused = aworker("run", "--redis-url", cluster.url, cwd=tmp_path)

    assert refused.returncode == 2
    assert refused.stderr.startswith("aworker: redis.url must be a single server")
    assert "Traceback" not in refused.stderr
