"""Which list a task goes to, by the rules of the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from aworker.client import routing
from aworker.client.routing import Router
from aworker.clock import rfc3339
from aworker.config import Config, load_config
from aworker.errors import ConfigError
from tests.kit.queue_scripts import NORMAL, task

DEFAULTS = """
[[routing]]
queue = "normal"
"""
VIP = """
[[queues]]
name = "a"
label = "vip"
[[queues]]
name = "b"
label = "bulk"
"""


def configured(folder: Path, text: str) -> Config:
    path = folder / "aworker.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environment={})


async def routed(
    config: Config, task_type: str, args: Mapping[str, Any] | None = None, priority: str = "normal"
) -> str:
    async with fakeredis.FakeAsyncRedis() as client:
        return (await Router(config, client).route(task_type, args or {}, priority)).label


@pytest.mark.parametrize(
    ("task_type", "priority", "label"),
    [
        ("create_strategy", "high", "priority"),
        ("create_strategy", "normal", "priority"),
        ("backtest", "high", "priority"),
        ("backtest", "normal", "normal"),
        ("anything", "urgent", "normal"),
    ],
)
async def test_shipped_rules_send_strategies_and_what_is_marked_high_to_priority(
    task_type: str, priority: str, label: str
) -> None:
    assert await routed(Config(), task_type, priority=priority) == label


async def test_shipped_rules_serve_levels_of_other_names(tmp_path: Path) -> None:
    config = configured(tmp_path, VIP)

    assert await routed(config, "create_strategy") == "vip"
    assert await routed(config, "backtest") == "bulk"


async def test_the_first_rule_that_fits_decides(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        '[[routing]]\ntask_type = "alert"\nqueue = "priority"\n[[routing]]\ntask_type = "alert"\nqueue = "normal"\n',
    )

    assert await routed(config, "alert") == "priority"


async def test_a_task_that_no_rule_fits_goes_to_the_lowest_level(tmp_path: Path) -> None:
    config = configured(tmp_path, '[[routing]]\ntask_type = "alert"\nqueue = "priority"\n')

    assert await routed(config, "create_strategy") == "normal"


@pytest.mark.parametrize(
    ("wanted", "value", "label"),
    [
        ('"gold"', "gold", "priority"),
        ('["gold", "pro"]', "pro", "priority"),
        ('["gold", "pro"]', "free", "normal"),
        ("7", 7, "priority"),
        ("7", "7", "priority"),
        ('"7"', 7, "priority"),
        ("true", True, "priority"),
        ("true", 1, "normal"),
        ("1", True, "normal"),
        ('"gold"', ["gold"], "normal"),
        ('"gold"', None, "normal"),
    ],
)
async def test_a_rule_looks_at_any_field_of_the_args(tmp_path: Path, wanted: str, value: object, label: str) -> None:
    config = configured(tmp_path, f'[[routing]]\nargs = {{user_tier = {wanted}}}\nqueue = "priority"\n')

    assert await routed(config, "backtest", {"user_tier": value}) == label
    assert await routed(config, "backtest", {}) == "normal"


async def test_every_condition_of_a_rule_must_fit(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        '[[routing]]\ntask_type = "backtest"\nargs = {tier = "gold", beta = true}\nqueue = "priority"\n',
    )

    assert await routed(config, "backtest", {"tier": "gold", "beta": True}) == "priority"
    assert await routed(config, "backtest", {"tier": "gold", "beta": False}) == "normal"
    assert await routed(config, "alert", {"tier": "gold", "beta": True}) == "normal"


@pytest.mark.parametrize(("waiting", "label"), [(2, "normal"), (3, "priority")])
async def test_a_long_list_sends_tasks_elsewhere(tmp_path: Path, waiting: int, label: str) -> None:
    config = configured(
        tmp_path, '[[routing]]\nwhen = {queue = "normal", longer_than = 2}\nqueue = "priority"\n' + DEFAULTS
    )
    async with fakeredis.FakeAsyncRedis() as client:
        await client.rpush(NORMAL, *["x"] * waiting)

        level = await Router(config, client).route("backtest", {}, "normal")

    assert level.label == label


@pytest.mark.parametrize(("age_s", "label"), [(10, "normal"), (50, "priority")])
@pytest.mark.parametrize("left", [True, False])
async def test_an_old_task_at_either_end_sends_tasks_elsewhere(
    tmp_path: Path, age_s: float, label: str, left: bool
) -> None:
    config = configured(
        tmp_path, '[[routing]]\nwhen = {queue = "normal", oldest_older_than_s = 30}\nqueue = "priority"\n' + DEFAULTS
    )
    async with fakeredis.FakeAsyncRedis() as client:
        payloads = [task("old", rfc3339(time.time() - age_s)), task("new", rfc3339()), b"no task"]
        await client.rpush(NORMAL, *(payloads if left else payloads[::-1]))

        level = await Router(config, client).route("backtest", {}, "normal")

    assert level.label == label


async def test_both_bounds_of_a_load_must_be_passed(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        '[[routing]]\nwhen = {queue = "normal", longer_than = 0, oldest_older_than_s = 30}\nqueue = "priority"\n'
        + DEFAULTS,
    )
    async with fakeredis.FakeAsyncRedis() as client:
        await client.rpush(NORMAL, task("new", rfc3339()))

        level = await Router(config, client).route("backtest", {}, "normal")

    assert level.label == "normal"


async def test_a_load_is_looked_at_only_when_a_rule_needs_it_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "LOOK_INTERVAL_S", 3_600)
    config = configured(
        tmp_path,
        '[[routing]]\ntask_type = "alert"\nqueue = "priority"\n'
        '[[routing]]\nwhen = {queue = "normal", longer_than = 0}\nqueue = "priority"\n' + DEFAULTS,
    )
    async with fakeredis.FakeAsyncRedis() as client:
        router = Router(config, client)
        await router.route("alert", {}, "normal")
        await client.rpush(NORMAL, "x")

        first = await router.route("backtest", {}, "normal")
        await client.delete(NORMAL)
        second = await router.route("backtest", {}, "normal")

    assert (first.label, second.label) == ("priority", "priority")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('queue = "vip"', r"routing\[0\].queue must be the label of a level \(priority, normal\), was 'vip'"),
        ("task_type = 'x'", r"routing.* missing required field `queue`"),
        ('queue = "normal"\ntask = "x"', r"routing.*task must be a known field"),
        ('queue = "normal"\nwhen = {queue = "x", longer_than = 1}', r"routing\[0\].when.queue must be the label"),
        ('queue = "normal"\nwhen = {queue = "normal"}', r"routing\[0\].when must be bounded by longer_than or"),
        ('queue = "normal"\nwhen = {queue = "normal", longer_than = -1}', r"routing\[0\].when must be bounded by num"),
        ('queue = "normal"\nargs = {a = {b = 1}}', r"routing\[0\].args.a must be text, a number"),
        ('queue = "normal"\nargs = {a = []}', r"routing\[0\].args.a must be text, a number"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, f"[[routing]]\n{text}\n")
