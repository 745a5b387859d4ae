"""Everything that aworker does to a server, done once as one user: what its access list must hold."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import redis

from tests.kit.commands import Here, Running, eventually, running

Done = Callable[..., str]

FAST = {"AWORKER_WORKER__LEASE_TTL_S": "0.6", "AWORKER_WORKER__RENEW_INTERVAL_S": "0.1"}


def use_everything(here: Here, folder: Path, url: str, admin: redis.Redis) -> None:
    """Run every kind of task, command and recovery; ``admin`` is no part of it."""
    at = ("--redis-url", url)

    def done(*arguments: object, typed: str = "") -> str:
        ended = here(*arguments, *at, typed=typed, AWORKER_HANDLERS__MODULES='["tests.kit.task_handlers"]')
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return ended.stdout

    done("check")
    ended = here("enqueue", "echo", "--task-id", "early", "--wait", 1.2, *at)
    assert (ended.returncode, "no worker serves now" in ended.stderr) == (3, True), ended.stderr
    with running("run", *at, cwd=folder, **FAST) as worker:
        worker.logs("is ready")
        made = json.loads(done("strategy", "create", "-", "--json", typed="entry: rsi(close, 14) < 30"))
        strategy = str(made["strategy_id"])
        _tasks_of_all_kinds(here, done, strategy, at)
        _commands(here, done, strategy, at)
        _recoveries(folder, worker, admin, at)
    _page(folder, at)
    _other_ways_to_claim(folder, done, at)
    done("strategy", "delete", strategy)
    with running("run", *at, cwd=folder, AWORKER_WORKER__DELIVERY="at-most-once") as worker:
        worker.logs("is ready")
        done("enqueue", "echo", "--wait", 20)
        assert here("enqueue", "fail", "--wait", 20, *at).returncode == 1
        admin.rpush("strategy_queue", "no task")
        worker.logs("Rejected")
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0


def _other_ways_to_claim(folder: Path, done: Done, at: tuple[str, str]) -> None:
    # Without any limit, from either end, and with aging.
    no_limits = "".join(
        f"[tasks.{name}]\nmax_concurrent = 0\n"
        for name in ("backtest", "report", "sweep", "screening", "alert", "in_child")
    )
    level = '[[queues]]\nname = "strategy_queue{0}"\nlabel = "{1}"\ntake_from = "{2}"\npromote_after_s = {3}\n'
    for index, (end, age) in enumerate((("left", 0), ("right", 0), ("right", 5))):
        file = folder / f"claims-{index}.toml"
        levels = level.format("_priority", "priority", end, age) + level.format("", "normal", end, age)
        file.write_text(levels + no_limits, encoding="utf-8")
        with running("run", "--config", file, *at, cwd=folder) as worker:
            worker.logs("is ready")
            done("enqueue", "echo", "--wait", 20)
            worker.signal(signal.SIGTERM)
            assert worker.ends() == 0


def _tasks_of_all_kinds(here: Here, done: Done, strategy: str, at: tuple[str, str]) -> None:
    done("enqueue", "echo", "--arg", "steps=3", "--wait", 20)
    done("enqueue", "in_child", "--wait", 20)
    done(
        "enqueue",
        "create_strategy",
        "--arg",
        "user_id=1",
        "--arg",
        "prompt=buy when RSI(14) drops below 30",
        "--wait",
        20,
    )
    for task_type in ("backtest", "alert"):
        args = ("--arg", f"strategy_id={strategy}", "--arg", 'symbols=["AAPL"]')
        done("enqueue", task_type, *args, "--wait", 30)
    done("enqueue", "screening", "--arg", f"strategy_ids=[{strategy}]", "--wait", 30)
    done("enqueue", "later", "--wait", 20)
    done("enqueue", "echo", "--in", "0.1s", "--wait", 20)
    for task_type in ("fail", "decline", "nosuch"):
        assert here("enqueue", task_type, "--task-id", task_type, "--wait", 20, *at).returncode == 1


def _commands(here: Here, done: Done, strategy: str, at: tuple[str, str]) -> None:
    done("pause", "normal")
    done("pause", "echo")
    for name in ("one", "two"):
        done("enqueue", "echo", "--task-id", name)
    done("promote", "one")
    done("enqueue", "echo", "--task-id", "hurried", "--in", "1h")
    done("promote", "hurried")
    done("peek", "delayed")
    done("demote", "one")
    for command in (
        ("why", "one"),
        ("stats",),
        ("workers",),
        ("top", "--once"),
        ("peek", "normal"),
        ("cancel", "one"),
        ("clear", "normal", "--yes"),
    ):
        done(*command)
    assert here("cancel", "nobody", *at).returncode == 3
    schedules = Path("schedules.toml")
    schedules.write_text('[[schedule]]\nname = "often"\nevery_s = 1\ntask_type = "echo"\n', encoding="utf-8")
    for words in ("list", "pause often", "resume often", "run often"):
        done("schedule", *words.split(), "--config", schedules)
    done("resume", "normal")
    done("resume", "echo")
    done("enqueue", "echo", "--task-id", "again")
    done("enqueue", "echo", "--task-id", "again", "--wait", 20)
    done("why", "again")
    done("result", "again")
    for command in (("list",), ("show", "fail"), ("requeue", "fail"), ("drop", "--all", "--yes")):
        done("dead", *command)
    for command in (("list",), ("show", strategy), ("versions", strategy)):
        done("strategy", *command)
    done("strategy", "edit", strategy, "-", typed="entry: rsi(close, 14) < 20")
    done("backtest", strategy, "--symbols", "AAPL")
    done("alerts")


def _page(folder: Path, at: tuple[str, str]) -> None:
    secret = "a-token-that-is-long-enough"
    with running("web", "--port", 0, *at, cwd=folder, AWORKER_HTTP__TOKEN_ENV="SECRET", SECRET=secret) as web:
        web.logs("The page is at")
        found = re.search(r"The page is at (\S+)", web.stderr)
        assert found is not None
        with httpx2.Client(base_url=found[1], follow_redirects=True) as client:
            assert client.post("login", data={"token": secret}).status_code == 200
            for path in ("", "running", "delayed", "dead", "waiting?queue=normal", "task?id=fail", "task?id=again"):
                assert client.get(path).status_code == 200, path
            for name, target in (("pause-queue", "normal"), ("resume-queue", "normal"), ("cancel", "nobody")):
                csrf = re.findall(r'"csrf" value="(\w+)"', client.get(f"do/{name}?id={target}").text)[-1]
                assert client.post(f"do/{name}?id={target}", data={"csrf": csrf}).status_code == 200
        web.signal(signal.SIGTERM)
        assert web.ends() == 0


def _recoveries(folder: Path, worker: Running, admin: redis.Redis, at: tuple[str, str]) -> None:
    began, until = folder / "began", folder / "until"
    task = {"task_id": "held", "task_type": "hold", "args": {"began": str(began), "until": str(until)}}
    admin.rpush("strategy_queue", json.dumps(task))
    eventually(began.exists)
    with running("run", *at, cwd=folder, **FAST) as heir:
        heir.logs("is ready")
        worker.signal(signal.SIGKILL)
        worker.ends()
        heir.logs("Processing hold task held")
        admin.script_flush()
        admin.client_kill_filter(_type="normal", skipme=True)
        admin.client_kill_filter(_type="pubsub", skipme=True)
        until.touch()
        heir.logs("Completed hold task held")
        admin.rpush("strategy_queue", json.dumps({"task_id": "stays", "task_type": "hold", "args": task["args"]}))
        heir.logs("Completed hold task stays")
        heir.signal(signal.SIGTERM)
        assert heir.ends() == 0
