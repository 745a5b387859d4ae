"""`aworker doctor` as it is typed: its words, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aworker.doctor import items, server
from tests.kit.commands import Here
from tests.kit.pages import bury, present
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.servers import Server


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    # However busy this machine is.
    for name in ("SLOW_S", "UNEVEN_S", "SLOW_COMMAND_S"):
        monkeypatch.setattr(server, name, 60.0)
    return Here(monkeypatch)


def test_a_healthy_server_and_one_with_five_troubles(here: Here, tmp_path: Path) -> None:
    with Server(tmp_path, "--appendonly", "yes") as site, QueueScripts(site.url) as queue:
        served: dict[str, Any] = {"reserved": {"priority": 2, "normal": 0}}
        present(queue, "w1", **served)
        queue.client.rpush(NORMAL, task("one"))
        ended = here("doctor", "--redis-url", site.url)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
        assert "Nothing found" in ended.stdout
        assert "why" not in ended.stdout

        queue.client.config_set("maxmemory-policy", "allkeys-lru")
        queue.client.config_set("maxmemory", 10**9)
        queue.client.rpush("strategy_queues", task("astray"))
        queue.client.sadd("aworker:cancelled", "odd")
        queue.client.hset("aworker:leases:ghost", "7", b"head\n" + task("lost"))
        for name, version in (("w1", "0.1.0"), ("w2", "0.0.9")):
            present(queue, name, **served, version=version)
        ended = here("doctor", "--json", "--redis-url", site.url)

        assert ended.returncode == 20
        told = json.loads(ended.stdout)
        assert told["exit_code"] == 20
        found = {one["name"]: one for one in told["findings"] if one["name"]}
        assert set(found) == {"evicts-tasks", "stray-list", "wrong-type", "lost-leases", "versions-differ"}
        assert all(one["what"] and one["why"] and one["mend"] for one in found.values())
        assert found["stray-list"]["see"] == "docs/operations.md#stray-list"
        text = here("doctor", "--redis-url", site.url).stdout
        assert "✗ eviction: The server evicts keys when it is full (maxmemory-policy allkeys-lru)" in text
        assert "3 in trouble, 2 worth a look" in text


def test_what_is_only_worth_a_look_is_no_trouble(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        bury(queue.client, *[{}] * 20)

    ended = here("doctor", "--redis-url", redis_url)

    assert ended.returncode == 10
    assert "! dead letters: 20 dead letters within the last hour" in ended.stdout


def test_a_key_of_the_wrong_type_stops_no_other_item(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        for name in (NORMAL, "aworker:dead", "aworker:beats", "aworker:workers", "aworker:minutes"):
            queue.client.set(name, "odd")

    ended = here("doctor", "--json", "--redis-url", redis_url)

    findings = json.loads(ended.stdout)["findings"]
    assert ended.returncode == 20
    assert sum(one["name"] == "wrong-type" for one in findings) == 5
    assert {one["item"] for one in findings if one["severity"] == "unknown"} >= {"consumers", "stale workers"}


def test_hostile_names_cannot_steer_the_terminal(redis_url: str, here: Here) -> None:
    with QueueScripts(redis_url) as queue:
        queue.client.rpush("\x1b[2J\n$(reboot)", task("one"))
        queue.client.hset("aworker:leases:\x1b]0;x\x07", "7", b"head\n" + task("lost"))
        bury(queue.client, *[{"reason": "\x1b[31m"}] * 20)

    ended = here("doctor", "--redis-url", redis_url)

    assert "\x1b" not in ended.stdout
    assert "'\\x1b[2J\\n$(reboot)'" in ended.stdout


@pytest.mark.parametrize("kind", ["full", "replica", "frozen"])
def test_a_server_in_trouble_is_looked_at_as_far_as_it_answers(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    options = ("--replicaof", "127.0.0.1 1") if kind == "replica" else ("--maxmemory", "1") if kind == "full" else ()
    monkeypatch.setattr(items, "ANSWER_TIMEOUT_S", 1.0 if kind == "frozen" else 60.0)
    with Server(tmp_path, *options) as site:
        if kind == "frozen":
            site.freeze()
        ended = here("doctor", "--redis-url", site.url)

    assert ended.returncode == (69 if kind == "frozen" else 20)
    assert {"full": "memory-short", "replica": "is-replica", "frozen": ""}[kind] in ended.stdout
    assert "no answer within" in ended.stderr or kind != "frozen"


def test_a_server_that_is_not_there(here: Here) -> None:
    ended = here("doctor", "--redis-url", "redis://127.0.0.1:1/0")

    assert (ended.returncode, ended.stdout) == (69, "")
    assert "Redis at 127.0.0.1:1/0 must answer" in ended.stderr
