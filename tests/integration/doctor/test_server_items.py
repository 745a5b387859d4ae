"""What the doctor says of a server: with the trouble planted on a real one, and without."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from aworker.config import WorkerConfig
from aworker.doctor import server
from aworker.doctor.access import access
from aworker.doctor.examination import Examination, Unknown
from aworker.doctor.items import Check, examine
from aworker.queues.connection import connect
from tests.kit.commands import ROOT, eventually
from tests.kit.pages import present
from tests.kit.queue_scripts import QueueScripts
from tests.kit.servers import Server, free_port
from tests.kit.wards import SlowWay, found_by, names
from tests.kit.workers import config_of

Set = Any


@pytest.fixture
def settings(redis_url: str) -> Iterator[Set]:
    """Set what the server is to be like; afterwards it is as it was."""
    with redis.Redis.from_url(redis_url) as client:
        before: dict[str, Any] = {}

        def change(**values: Any) -> None:
            for name, value in values.items():
                setting = name.replace("_", "-")
                before.setdefault(setting, client.config_get(setting)[setting])
                client.config_set(setting, value)

        yield change
        for setting, value in before.items():
            client.config_set(setting, value)


class Told(Examination):
    """An examination whose server says what no server of today says."""

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    async def info(self) -> dict[str, str]:
        return self._fields


async def test_the_version_is_told(redis_url: str) -> None:
    (finding,) = await found_by(server.version, redis_url)

    assert finding.severity == "well"
    assert re.match(r"(Valkey|Redis) \d+\.\d+", finding.what)


async def test_a_server_before_seven_is_too_old() -> None:
    (finding,) = await server.version(Told(redis_version="6.2.14"))

    assert (finding.name, finding.what) == ("old-server", "The server is Redis 6.2.14, older than 7.0")
    assert names(await server.version(Told(redis_version="7.0.0"))) == []
    with pytest.raises(Unknown):
        await server.version(Told(redis_version="next"))


async def test_a_cluster_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as cluster:
        assert names(await found_by(server.version, cluster.url)) == ["cluster"]


async def test_a_server_that_keeps_nothing(redis_url: str, settings: Set) -> None:
    settings(save="", appendonly="no")
    (finding,) = await found_by(server.persistence, redis_url)

    assert (finding.name, finding.severity) == ("no-persistence", "look")
    assert "CONFIG SET appendonly yes" in finding.mend


async def test_a_server_that_keeps_snapshots_alone(redis_url: str, settings: Set) -> None:
    settings(save="3600 1", appendonly="no")

    assert names(await found_by(server.persistence, redis_url)) == ["snapshots-only"]


async def test_an_append_only_file_is_well_and_better_synced(redis_url: str, settings: Set) -> None:
    settings(appendonly="yes", appendfsync="everysec")
    (finding,) = await found_by(server.persistence, redis_url)
    assert (finding.severity, finding.what) == ("well", "append-only file, appendfsync everysec")

    settings(appendfsync="no")
    assert names(await found_by(server.persistence, redis_url)) == ["append-unsynced"]


async def test_a_snapshot_that_could_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with Server(folder) as kept, kept.client() as client:
        assert "save-failed" not in names(await found_by(server.persistence, kept.url))
        shutil.rmtree(folder)
        client.bgsave()
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")

        assert "save-failed" in names(await found_by(server.persistence, kept.url))


async def test_a_file_that_could_not_be_appended_to() -> None:
    class Full(Told):
        async def setting(self, name: str) -> str:
            return "everysec"

        def redis_cli(self, *words: str) -> str:
            return "redis-cli"

    findings = await server.persistence(Full(aof_enabled="1", aof_last_write_status="err"))

    assert names(findings) == ["save-failed"]


@pytest.mark.parametrize(
    "policy, memory, name, severity",
    [
        ("allkeys-lru", 10**9, "evicts-tasks", "trouble"),
        ("volatile-ttl", 10**9, "evicts-results", "look"),
        ("allkeys-lru", 0, "evicts-tasks", "look"),
        ("noeviction", 10**9, "", "well"),
        ("noeviction", 0, "", "well"),
    ],
)
async def test_a_policy_that_evicts(
    redis_url: str, settings: Set, policy: str, memory: int, name: str, severity: str
) -> None:
    settings(maxmemory_policy=policy, maxmemory=memory)
    (finding,) = await found_by(server.eviction, redis_url)

    assert (finding.name, finding.severity) == (name, severity)


@pytest.mark.parametrize("part, severity", [(1.02, "trouble"), (1.17, "look"), (10, "well")])
async def test_memory_that_is_short(redis_url: str, settings: Set, part: float, severity: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        # Much beside what a client more or less takes.
        for number in range(50):
            client.set(f"weight-{number}", b"x" * 1_000_000)
        settings(maxmemory_policy="noeviction", maxmemory=int(client.info("memory")["used_memory"] * part))
    (finding,) = await found_by(server.memory, redis_url)

    assert finding.severity == severity
    assert finding.name == ("" if severity == "well" else "memory-short")


async def test_a_server_far_away_is_slow(redis_server_url: str, redis_url: str) -> None:
    async with SlowWay(redis.Redis.from_url(redis_server_url).connection_pool.connection_kwargs["port"], 0.01) as way:
        findings = await found_by(server.latency, f"redis://127.0.0.1:{way.port}/0")

    assert "slow-server" in names(findings)


async def test_a_server_that_is_held_up_now_and_then_is_uneven(redis_url: str) -> None:
    port = redis.Redis.from_url(redis_url).connection_pool.connection_kwargs["port"]
    async with SlowWay(port, 0, 0.6, every=30) as way:
        findings = await found_by(server.latency, f"redis://127.0.0.1:{way.port}/0")

    assert "uneven-server" in names(findings)


async def test_a_server_nearby_is_neither(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # However busy this machine is.
    monkeypatch.setattr(server, "SLOW_S", 60.0)
    monkeypatch.setattr(server, "UNEVEN_S", 60.0)

    assert names(await found_by(server.latency, redis_url)) == []


async def test_slow_commands_are_named(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SLOW_COMMAND_S", 0.02)
    with redis.Redis.from_url(redis_url) as client:
        client.slowlog_reset()
        assert names(await found_by(server.slow_log, redis_url)) == []
        client.eval("for _ = 1, 2e7 do end", 0)
        (finding,) = await found_by(server.slow_log, redis_url)
        client.slowlog_reset()

    assert finding.name == "slow-commands"
    assert "1 EVAL of up to" in finding.what


async def test_clocks_that_differ(redis_url: str) -> None:
    with QueueScripts(redis_url) as queue:
        present(queue, "steady")
        assert names(await found_by(server.clock, redis_url)) == []

        present(queue, "blocked", at_s=queue.client.time()[0] - 60, loop_lag_s=60.0)
        present(queue, "fast", at_s=queue.client.time()[0] + 60)
        queue.client.zadd("aworker:beats", {"fast": queue.client.time()[0], "blocked": queue.client.time()[0]})
        findings = await found_by(server.clock, redis_url)

    assert names(findings) == ["clock-off"]
    assert re.match(r"The clock of worker fast is \d\d\.\d s ahead of the server's", findings[0].what)


async def test_a_host_whose_clock_is_off(redis_url: str) -> None:
    (finding,) = await found_by(server.clock, redis_url, clock=lambda: time.time() - 120)

    assert finding.name == "clock-off"
    assert "behind the server's" in finding.what


async def test_a_replica_takes_no_writes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        Server(tmp_path / "a", "--repl-diskless-sync-delay", "60") as first,
        Server(tmp_path / "b", "--replicaof", f"127.0.0.1 {first.port}") as second,
        first.client() as client,
    ):
        assert names(await found_by(server.replicas, second.url)) == ["is-replica"]

        eventually(lambda: client.info("replication")["connected_slaves"] == 1)
        assert names(await found_by(server.replicas, first.url)) == ["replica-behind"]
        client.config_set("repl-diskless-sync-delay", 0)
        eventually(lambda: client.info("replication")["slave0"]["state"] == "online")
        (finding,) = await found_by(server.replicas, first.url)
        assert (finding.severity, finding.what) == ("well", "1 replica, none behind")


async def test_a_replica_that_lags() -> None:
    behind = "ip=10.0.0.7,port=6379,state=online,offset=17,lag=42"

    class Lags(Told):
        def redis_cli(self, *words: str) -> str:
            return "redis-cli"

    (finding,) = await server.replicas(Lags(role="master", slave0=behind))

    assert (finding.name, finding.what) == ("replica-behind", "Replica 10.0.0.7:6379 is online, 42 s behind")


DOCUMENTED = re.findall(
    r"^ACL SETUSER aworker on >PASSWORD (.*)$", (ROOT / "docs/redis.md").read_text("utf-8"), re.MULTILINE
)[0].split()
# What the client library says of itself and is refused in silence, and what a check would have to do to look at it.
NOT_LOOKED_AT = {"+client|setinfo", "+multi", "+exec", "+unsubscribe", "+select", "+pubsub|numsub"}
OF_PLAIN = {"+client|id", "+client|unblock", "+brpop"}


def limited(client: redis.Redis, url: str, words: list[str]) -> str:
    command: Any = client.execute_command
    command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *words)
    return url.replace("redis://", "redis://limited:secret@")


async def test_the_documented_user_may_do_all(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        (finding,) = await found_by(access, limited(client, redis_url, DOCUMENTED))

    assert (finding.severity, finding.what) == ("well", "limited may do all that a worker does")


@pytest.mark.parametrize("word", [one for one in DOCUMENTED if one[0] in "+~&" and one not in NOT_LOOKED_AT])
async def test_each_word_of_the_access_list_is_missed(redis_url: str, word: str) -> None:
    delivery = WorkerConfig(delivery="at-most-once" if word in OF_PLAIN else "leased")
    with redis.Redis.from_url(redis_url) as client:
        url = limited(client, redis_url, [one for one in DOCUMENTED if one != word])
        before = client.dbsize()
        (finding,) = await found_by(access, url, config=config_of(url, worker=delivery))

        assert finding.name == "may-not"
        assert f" {word}" in finding.what or f" '{word}'" in finding.mend
        assert client.dbsize() == before


async def test_a_user_without_transactions_cannot_be_looked_at(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        url = limited(client, redis_url, [one for one in DOCUMENTED if one != "+multi"])
        with pytest.raises(Unknown, match="MULTI is refused"):
            await found_by(access, url)


@pytest.mark.parametrize(
    "check, words",
    [
        (server.version, ["-info"]),
        (server.persistence, ["-info"]),
        (server.persistence, ["-config"]),
        (server.eviction, ["-info"]),
        (server.memory, ["-info"]),
        (server.replicas, ["-info"]),
    ],
)
async def test_what_is_withheld_is_said(redis_url: str, check: Check, words: list[str]) -> None:
    with redis.Redis.from_url(redis_url) as client:
        url = limited(client, redis_url, ["~*", "&*", "+@all", *words])
        with pytest.raises(Unknown, match=r"(INFO|CONFIG GET) is refused"):
            await found_by(check, url)


async def test_a_user_who_may_only_work_is_told_what_could_not_be_looked_at(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        url = limited(client, redis_url, DOCUMENTED)
    whole = connect(url)
    try:
        findings = await examine(whole, config_of(url))
    finally:
        await whole.aclose()

    unknown = {one.item for one in findings if one.severity == "unknown"}
    assert unknown == {
        *("version", "persistence", "eviction", "memory", "slow log", "replicas", "stray lists", "results", "leases")
    }
    assert all("refuse" in one.what for one in findings if one.severity == "unknown")
