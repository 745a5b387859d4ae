"""The embedded server: started, shared, found again, stopped by the last."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from aworker.cli.serving.embedded import EmbeddedServer, ServerAddress, embedded_server, server_binary
from aworker.errors import ConfigError


def answers(server: EmbeddedServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


LEAVE = """
import os, sys
from pathlib import Path
from aworker.cli.serving.embedded import embedded_server
with embedded_server(Path(sys.argv[1]), port=0) as server:
    print(server.port, server.pid, flush=True)
    os._exit(0)
"""


def left_behind(folder: Path) -> EmbeddedServer:
    # What a worker that is killed leaves: a server that runs, and nobody that uses it.
    command = [sys.executable, "-c", LEAVE, str(folder)]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    port, pid = map(int, printed.split())
    return EmbeddedServer(folder, ServerAddress(port, pid), None)


@pytest.fixture
def abandoned(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = left_behind(tmp_path / "data")
    yield server
    if answers(server):
        os.kill(server.pid, signal.SIGKILL)


def test_it_answers_while_used_and_is_gone_afterwards(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data", port=0) as server:
        was_up = answers(server)

    assert was_up
    assert not server.was_running
    assert not answers(server)


def test_its_data_is_there_again_the_next_time(tmp_path: Path) -> None:
    with embedded_server(tmp_path, port=0) as server, redis.Redis.from_url(server.url) as client:
        client.rpush("strategy_queue", "a", "b")

    with embedded_server(tmp_path, port=0) as server, redis.Redis.from_url(server.url) as client:
        assert client.lrange("strategy_queue", 0, -1) == [b"a", b"b"]


def test_it_is_reached_from_this_machine_only(tmp_path: Path) -> None:
    with embedded_server(tmp_path, port=0) as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_the_wanted_port_is_taken_when_it_is_free(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with embedded_server(tmp_path, port=port) as server:
        assert server.port == port


def test_a_taken_port_is_left_to_its_owner(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with embedded_server(tmp_path, port=taken.getsockname()[1]) as server:
            assert server.port != taken.getsockname()[1]
            assert answers(server)


def test_a_second_user_of_the_folder_shares_the_server_and_leaves_it(tmp_path: Path) -> None:
    with embedded_server(tmp_path, port=0) as first:
        with embedded_server(tmp_path, port=0) as second:
            assert second.was_running
            assert (second.port, second.pid) == (first.port, first.pid)

        assert answers(first)
    assert not answers(first)


def test_two_folders_have_two_servers(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "a", port=0) as a, embedded_server(tmp_path / "b", port=0) as b:
        assert a.port != b.port


def test_a_server_that_was_left_behind_is_found_and_stopped_at_the_end(abandoned: EmbeddedServer) -> None:
    assert answers(abandoned)

    with embedded_server(abandoned.folder, port=0) as server:
        assert server.was_running
        assert server.pid == abandoned.pid

    assert not answers(abandoned)


def test_another_server_on_the_remembered_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "other", port=0) as other:
        ours = tmp_path / "ours"
        ours.mkdir()
        shutil.copy(other.folder / "server.json", ours / "server.json")

        with embedded_server(ours, port=0) as server:
            assert server.port != other.port

        assert answers(other)


def test_a_server_that_is_not_found_again_is_not_doubled(abandoned: EmbeddedServer) -> None:
    (abandoned.folder / "server.json").unlink()

    with (
        pytest.raises(ConfigError, match=r"data-dir must not be in use"),
        embedded_server(abandoned.folder, port=0),
    ):
        pass

    assert answers(abandoned)


def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "appendonlydir"
    broken.mkdir()
    (broken / "appendonly.aof.manifest").write_text("no manifest\n")

    with (
        pytest.raises(
            ConfigError, match=r"(?s)embedded server must start, did not; its log .*server\.log ends:\n.*AOF"
        ),
        embedded_server(tmp_path, port=0),
    ):
        pass


def test_a_folder_that_cannot_be_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigError, match=r"data-dir must be a writable folder"),
        embedded_server(tmp_path / "file" / "data"),
    ):
        pass


def test_a_state_file_of_rubbish_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")

    with embedded_server(tmp_path, port=0) as server:
        assert answers(server)


def test_the_binary_is_there() -> None:
    assert os.access(server_binary(), os.X_OK)
