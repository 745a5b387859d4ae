"""Where sentinels lead, when they are right, late, wrong, or not there."""

from __future__ import annotations

import json
import signal
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from aworker.client.client import Client
from aworker.errors import QueueUnavailable
from aworker.queues import primary as primaries
from aworker.queues.connection import Link, connect, connect_synchronously, primary_of
from tests.kit.commands import Here
from tests.kit.sentinels import PASSWORD, SENTINEL_PASSWORD, SERVICE, Watched
from tests.kit.servers import Server, free_port
from tests.kit.workers import config_of, eventually, running_worker


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched"), replicas=1) as started:
        yield started


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


async def quick(args: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"success": True}


def test_the_sentinels_say_where_the_primary_is(watched: Watched) -> None:
    found = primary_of(watched.url)
    assert found is not None
    assert found.find() == ("127.0.0.1", watched.primary_port())


async def test_a_worker_and_a_client_follow_the_primary(watched: Watched) -> None:
    old = watched.primary_port()
    async with Client(watched.url) as client, running_worker(config_of(watched.url), {"quick": quick}):
        before = await client.result(await client.enqueue("quick"), wait_s=15)
        watched.fail_over()
        await eventually(lambda: _is_another(watched, old))

        async def pushed() -> str:
            try:
                return await client.enqueue("quick")
            except QueueUnavailable:
                return ""

        # An acknowledged push may have been made to the old primary, which is not told at once: a few are made.
        async def completed() -> bool:
            task_id = await pushed()
            return bool(task_id) and (await client.result(task_id, wait_s=2) or {}).get("status") == "completed"

        await eventually(completed)

    assert (before or {})["status"] == "completed"


async def _is_another(watched: Watched, old: int) -> bool:
    return watched.primary_port() != old


@pytest.mark.parametrize("silence", ["stopped", "frozen"])
def test_a_sentinel_that_is_away_costs_its_time_once(
    watched: Watched, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primaries, "FRESH_S", 0.0)
    first = watched.sentinels[0]
    url = watched.url
    if silence == "stopped":
        url = url.replace(f"127.0.0.1:{first.port}", f"127.0.0.1:{free_port()}")
    else:
        first.send(signal.SIGSTOP)
    try:
        found = primary_of(url)
        assert found is not None
        assert found.find()[0] == "127.0.0.1"
        assert found._order[-1] == found.sentinels[0]
        assert found.find()[0] == "127.0.0.1"
    finally:
        first.send(signal.SIGCONT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((SENTINEL_PASSWORD, "wrong"), "no sentinel names the primary of mymaster"),
        ((f"sentinel_password={SENTINEL_PASSWORD}", ""), "no sentinel names the primary of mymaster"),
        ((f"/{SERVICE}/", "/nobody/"), "no sentinel names the primary of nobody"),
        ((f":{PASSWORD}@", ":wrong@"), "invalid username-password pair"),
    ],
)
async def test_what_is_wrong_is_said_in_words(watched: Watched, change: tuple[str, str], words: str) -> None:
    link = Link(watched.url.replace(*change).rstrip("?"), "words")

    with pytest.raises(QueueUnavailable, match=words) as refused:
        await link.call([("PING",)])

    assert "secret" not in str(refused.value)


def test_commands_take_such_a_url(watched: Watched, here: Here) -> None:
    task_id = here("enqueue", "screening", "--arg", "strategy_ids=[1]", "--redis-url", watched.url).stdout.strip()
    checked = here("check", "--json", "--redis-url", watched.url)
    told = here("doctor", "--redis-url", watched.url)
    stats = here("stats", "--json", "--redis-url", watched.url)

    assert json.loads(checked.stdout)["redis"]["answers"] is True
    assert f"{SERVICE} of 127.0.0.1:" in told.stdout
    assert [level["length"] for level in json.loads(stats.stdout)["queues"]] == [0, 1]
    everything = [one.stdout + one.stderr for one in (checked, told, stats)]
    assert not [text for text in everything if PASSWORD in text or SENTINEL_PASSWORD in text]
    assert here("cancel", task_id, "--redis-url", watched.url).returncode == 0


# Sentinels that are wrong: nobody can make real ones so, in a test.


class _Says(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                self.rfile.readline()
                words.append(self.rfile.readline().strip().upper())
            port, epoch, asked = self.server.says  # type: ignore[attr-defined]
            if words[:2] == [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]:
                asked.append(port)
                self.wfile.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port))
            elif words[:2] == [b"SENTINEL", b"MASTER"] and epoch is not None:
                self.wfile.write(b"*2\r\n$12\r\nconfig-epoch\r\n$1\r\n%d\r\n" % epoch)
            else:
                self.wfile.write(b"-NOPERM this user has no permissions\r\n")


@contextmanager
def saying(*told: tuple[int, int | None]) -> Iterator[tuple[str, list[int]]]:
    """Serve sentinels that name a port and an epoch each; gives the URL and what was asked."""
    asked: list[int] = []
    servers = []
    for port, epoch in told:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Says)
        server.daemon_threads = True
        server.says = (port, epoch, asked)  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    try:
        hosts = ",".join(f"127.0.0.1:{server.server_address[1]}" for server in servers)
        yield f"redis+sentinel://{hosts}/{quote(SERVICE)}", asked
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_a_sentinel_that_was_cut_off_with_the_old_primary_is_not_believed() -> None:
    with saying((1001, 3), (1002, 4), (1002, 4)) as (url, _):
        found = primary_of(url)
        assert found is not None
        assert found.find() == ("127.0.0.1", 1002)


def test_sentinels_that_tell_no_epoch_are_asked_all_the_same() -> None:
    with saying((1001, None), (1001, None)) as (url, _):
        found = primary_of(url)
        assert found is not None
        assert found.find() == ("127.0.0.1", 1001)


async def test_sentinels_are_asked_a_few_times_a_second_while_they_name_what_is_gone() -> None:
    gone = free_port()
    with saying((gone, 1)) as (url, asked):
        links = [Link(url, f"link-{number}") for number in range(20)]

        for link in links:
            with pytest.raises(QueueUnavailable, match=f"connecting to 127.0.0.1:{gone}"):
                await link.call([("PING",)])

    # Twenty connections one after the other within a moment: one answer is everybody's for a while.
    assert 1 <= len(asked) < len(links)


async def test_an_idle_connection_is_left_when_the_primary_is_another(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with Server(tmp_path) as old, Server(tmp_path / "new") as new, saying((old.port, 1)) as (url, _):
        link, client = Link(url, "idle"), connect(url)
        renewer = connect_synchronously(url, name="renewer", timeout_s=5)
        found = primary_of(url)
        assert found is not None
        for answer in (await link.call([("CONFIG", "GET", "port")]), [await client.config_get("port")]):
            assert str(old.port) in str(answer)
        renewer.ping()

        found.known = ("127.0.0.1", new.port)
        found._ask_all = lambda: None  # type: ignore[method-assign]

        (reply,) = await link.call([("CONFIG", "GET", "port")])
        assert reply == [b"port", str(new.port).encode()]
        assert await client.config_get("port") == {"port": str(new.port)}
        assert renewer.config_get("port") == {"port": str(new.port)}
        await link.close()
        await client.aclose()
        renewer.close()


async def test_a_reply_that_never_comes_is_given_up_when_the_primary_is_another(tmp_path: Path) -> None:
    with Server(tmp_path) as old, saying((old.port, 1)) as (url, _):
        client = connect(url)
        await client.ping()
        found = primary_of(url)
        assert found is not None
        old.freeze()
        found._ask_all = lambda: setattr(found, "known", ("127.0.0.1", 1))  # type: ignore[method-assign]

        with pytest.raises(redis.ConnectionError):
            await client.ping()

        old.thaw()
        await client.aclose()


async def test_a_connection_to_a_server_that_becomes_a_replica_is_left(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        link, client = Link(server.url, "link"), connect(server.url)
        await link.call([("SET", "a", 1)])
        await client.set("a", 1)
        with server.client() as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", free_port())

            (refused,) = await link.call([("SET", "a", 2)])
            assert str(refused).startswith("READONLY") or "read only" in str(refused)
            assert not link.is_connected
            with pytest.raises(redis.ConnectionError, match="read only"):
                await client.set("a", 2)

            admin.execute_command("REPLICAOF", "NO", "ONE")
        assert await client.set("a", 3)
        await link.close()
        await client.aclose()
