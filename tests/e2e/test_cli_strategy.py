"""`aworker strategy` against a store, and what it says of rules that are wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from aworker.trading.strategies.store import Store
from aworker.trading.strategies.strategy import Draft, Risk, Rules, draft_from_json
from tests.kit.commands import Here


def filled(redis_url: str, fill: Callable[[Store], Awaitable[int]]) -> int:
    async def run() -> int:
        async with Redis.from_url(redis_url) as server:
            return await fill(Store(server))

    return asyncio.run(run())


async def two_versions(store: Store) -> int:
    rules = Rules("rsi(close, 14) < 30", risk=Risk(stop_loss=0.05))
    made = await store.create(Draft("Dip", "", rules), user_id=7, prompt="Buy dips", task_id="a")
    draft = Draft("Deep dip", "", Rules("rsi(close, 14) < 20"))
    await store.edit(made, draft, user_id=7, prompt="Make it 20", task_id="b")
    return made.strategy_id


def test_strategies_are_listed_shown_and_deleted(here: Here, redis_url: str) -> None:
    at = ("--redis-url", redis_url)
    strategy_id = filled(redis_url, two_versions)

    listed = here("strategy", "list", *at)
    others = here("strategy", "list", "--user", 8, *at)
    as_json = here("strategy", "list", "--user", 7, "--json", *at)
    shown = here("strategy", "show", strategy_id, *at)
    first = here("strategy", "show", strategy_id, "--version", 1, *at)
    versions = here("strategy", "versions", strategy_id, *at)
    versions_json = here("strategy", "versions", strategy_id, "--json", *at)
    never = here("strategy", "show", strategy_id, "--version", 9, *at)
    deleted = here("strategy", "delete", strategy_id, *at)
    gone = here("strategy", "show", strategy_id, *at)

    assert listed.stdout == f"{strategy_id}  version 2  user 7  Deep dip\n"
    assert others.stdout == "No strategies\n"
    assert [each["name"] for each in json.loads(as_json.stdout)] == ["Deep dip"]
    assert "  entry: rsi(close, 14) < 20\n" in shown.stdout
    assert shown.stdout.endswith("Versions that are kept: 1, 2\n")
    assert "prompt: Buy dips\n  entry: rsi(close, 14) < 30\n  stop_loss: 5%\n" in first.stdout
    assert versions.stdout.index("version 1: Dip") < versions.stdout.index("version 2: Deep dip")
    assert [each["version"] for each in json.loads(versions_json.stdout)] == [1, 2]
    assert never.returncode == 1
    assert "--version must be one that is kept, 1 to 2, was 9" in never.stderr
    assert deleted.returncode == 0
    assert gone.returncode == 1
    assert f"strategy_id must be that of a stored strategy, was {strategy_id}" in gone.stderr


def test_a_strategy_is_made_of_words_rules_or_json(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url, "--json")
    (tmp_path / "dips.txt").write_text("entry: rsi(close, 14) < 30\nexit: rsi(close, 14) > 70\nstop_loss: 5%\n")
    (tmp_path / "dips.json").write_text('{"name": "J", "description": "", "rules": {"entry": "close > open"}}')

    words = here("strategy", "create", "--prompt", "buy when RSI(14) drops below 30", "--user", 7, *at)
    rules = here("strategy", "create", "dips.txt", *at)
    drafted = here("strategy", "create", "dips.json", *at)
    both = here("strategy", "create", "dips.txt", "--prompt", "x", *at)
    shown = here("strategy", "create", "dips.txt", "--redis-url", redis_url)

    made = json.loads(words.stdout)
    assert (made["user_id"], made["version"], made["prompt"]) == (7, 1, "buy when RSI(14) drops below 30")
    assert "rsi(close, 14)" in made["rules"]["entry"]
    made = json.loads(rules.stdout)
    assert (made["user_id"], made["name"], made["rules"]["risk"]) == (0, "dips", {"stop_loss": 0.05})
    assert json.loads(drafted.stdout)["rules"]["entry"] == "close > open"
    assert both.returncode == 2
    assert "  exit: rsi(close, 14) > 70\n" in shown.stdout


def test_a_strategy_is_edited_by_words_fields_or_json(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url, "--json")
    strategy_id = filled(redis_url, two_versions)
    (tmp_path / "fields.txt").write_text("take_profit: 20%\n")
    (tmp_path / "whole.json").write_text('{"name": "J", "description": "", "rules": {"entry": "close > open"}}')

    words = json.loads(here("strategy", "edit", strategy_id, "--prompt", "add a 4% stop loss", *at).stdout)
    fields = json.loads(here("strategy", "edit", strategy_id, "fields.txt", "--version", 3, *at).stdout)
    late = here("strategy", "edit", strategy_id, "fields.txt", "--version", 3, *at)
    whole = json.loads(here("strategy", "edit", strategy_id, "whole.json", *at).stdout)
    unread = here("strategy", "edit", strategy_id, "--prompt", "make it better", *at)
    unknown = here("strategy", "edit", 77, "--prompt", "add a 4% stop loss", *at)
    neither = here("strategy", "edit", strategy_id, *at)
    shown = here("strategy", "edit", strategy_id, "--prompt", "call it K", "--redis-url", redis_url)

    assert (words["version"], words["user_id"], words["name"]) == (3, 7, "Deep dip")
    assert words["rules"]["risk"] == {"stop_loss": 0.04}
    assert fields["rules"]["risk"] == {"stop_loss": 0.04, "take_profit": 0.2}
    assert fields["rules"]["entry"] == "rsi(close, 14) < 20"
    assert late.returncode == 1
    assert f"--version must be the latest of strategy {strategy_id}, 4, was 3" in late.stderr
    assert (whole["version"], whole["name"], whole["rules"]["entry"]) == (5, "J", "close > open")
    assert (unread.returncode, unread.stdout) == (1, "")
    assert "prompt" in unread.stderr
    assert "strategy_id must be that of a stored strategy, was 77" in unknown.stderr
    assert neither.returncode == 2
    assert f"Strategy {strategy_id}, version 6: K\n" in shown.stdout


def test_an_edit_in_fields_keeps_what_it_does_not_name(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url)
    rules = "name: Mine\nentry: close > 5\nexit: close < 4\nstop_loss: 5%\nsymbols: AAPL\n"
    (tmp_path / "rules.txt").write_text(rules)
    strategy_id = json.loads(here("strategy", "create", "rules.txt", "--json", *at).stdout)["strategy_id"]
    (tmp_path / "entry.txt").write_text("# deeper\nentry: close > 6\n")
    (tmp_path / "none.txt").write_text("exit: none\nstop_loss: none\nsymbols: all\n")

    here("strategy", "edit", strategy_id, "entry.txt", *at)
    deeper = here("strategy", "show", strategy_id, "--rules", *at).stdout
    here("strategy", "edit", strategy_id, "none.txt", *at)
    bare = here("strategy", "show", strategy_id, "--rules", *at).stdout

    assert deeper == rules.replace("close > 5", "close > 6")
    assert bare == "name: Mine\nentry: close > 6\n"


def test_rules_are_read_from_stdin(here: Here, redis_url: str) -> None:
    at = ("--redis-url", redis_url, "--json")

    made = json.loads(here("strategy", "create", "-", *at, typed="\ufeffentry: close > 5\n").stdout)
    edited = json.loads(here("strategy", "edit", made["strategy_id"], "-", *at, typed="stop_loss: 5%\n").stdout)
    unreadable = here("strategy", "create", "-", *at, typed="\udcff\udcfe")

    assert (made["name"], made["rules"]["entry"]) == ("close > 5", "close > 5")
    assert (edited["version"], edited["rules"]["risk"]) == (2, {"stop_loss": 0.05})
    assert (unreadable.returncode, unreadable.stdout) == (2, "")
    assert "'-' must be a readable text file" in unreadable.stderr


@pytest.mark.parametrize("user", [-1, 2**63, 99999999999999999999999])
def test_an_owner_is_an_int64(here: Here, redis_url: str, user: int) -> None:
    ended = here("strategy", "create", "--prompt", "entry: close > 5", "--user", user, "--redis-url", redis_url)

    assert ended.returncode == 2
    assert f"must be a whole number from 0 to 9223372036854775807 (an int64), was {user}" in ended.stderr


def test_an_edit_names_a_strategy_anew_that_nobody_named(here: Here, redis_url: str) -> None:
    at = ("--redis-url", redis_url, "--json")
    made = json.loads(here("strategy", "create", "--prompt", "buy when RSI(14) drops below 30", *at).stdout)

    edited = json.loads(
        here("strategy", "edit", made["strategy_id"], "--prompt", "set the RSI period to 21", *at).stdout
    )

    assert made["name"] == "buy when RSI(14) drops below 30"
    assert edited["name"] == edited["rules"]["entry"] == "rsi(close, 21) < 30"


def test_rules_that_are_shown_can_be_stored_again(here: Here, tmp_path: Path, redis_url: str) -> None:
    at = ("--redis-url", redis_url)
    strategy_id = filled(redis_url, two_versions)

    shown = here("strategy", "show", strategy_id, "--version", 1, "--rules", *at)
    (tmp_path / "again.txt").write_text(shown.stdout)
    made = json.loads(here("strategy", "create", "again.txt", "--json", *at).stdout)

    assert shown.stdout == "name: Dip\nentry: rsi(close, 14) < 30\nstop_loss: 5%\n"
    assert made["name"] == "Dip"
    assert made["rules"]["risk"] == {"stop_loss": 0.05}


def test_the_schema_describes_what_create_takes(here: Here, tmp_path: Path, redis_url: str) -> None:
    ended = here("strategy", "schema")

    schema = json.loads(ended.stdout)
    draft = schema["$defs"]["Draft"]
    assert draft["required"] == ["name", "description", "rules"]
    example = {name: {"rules": {"entry": "close > open"}}.get(name, "x") for name in draft["required"]}
    assert draft_from_json(json.dumps(example)).rules.entry == "close > open"


@pytest.mark.parametrize(
    "rule, message, caret, suggestion",
    [
        ("rsii(close, 14) < 30", "name must be a price or a function, was rsii", "^", "rsi"),
        ("close", "rule must be true or false, was the number close", "^", "close > 0"),
        ("sma(close, 2000) > 1", "must be a whole number from 1 to 1000, was 2000", "           ^", None),
        ("close > 0 and", "must stand before the end, is missing", "             ^", None),
        ("rsi(close, 14) = 30", "a comparison must be written with '==', was '='", "               ^", "=="),
        ("close > 5%", "number must have digits and a point only, was '5%'", "        ^", "0.05"),
        ("lag(close, -1) > close", "a rule cannot look ahead", "           ^", None),
        ("__import__('os')", "a name must stand without quotes", "           ^", None),
    ],
)
@pytest.mark.parametrize("by", ["file", "prompt"])
def test_a_wrong_rule_is_shown_with_a_caret(
    here: Here, tmp_path: Path, rule: str, message: str, caret: str, suggestion: str | None, by: str
) -> None:
    (tmp_path / "wrong.txt").write_text(f"entry: {rule}\n")
    given = ("wrong.txt",) if by == "file" else ("--prompt", f"entry: {rule}")

    ended = here("strategy", "create", *given)

    first, text, pointer = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert first.startswith("aworker: rules.entry must be a condition in the rule language, was ")
    assert message in first
    assert (text, pointer) == (f"  {rule}", f"  {caret}")
    assert suggestion is None or first.endswith(f"did you mean {suggestion}?")


@pytest.mark.parametrize(
    "text, told",
    [
        ("def strategy(data):\n    return data\n", "source must be fields of the form key: value"),
        ("exit: close < 3", "source.entry must be given"),
        ("", "source.entry must be given, was None; write entry: and the condition to buy"),
        ("# nothing yet\n", "source.entry must be given"),
        ("entry: close > 3\nstoploss: 5%", "only, was 'stoploss'; did you mean stop_loss?"),
        ("entry: close > 3 entry: close > 4", "source.entry must be given once"),
        ("entry: close > 3\nstop_loss: lots", "source.stop_loss must be a percentage or a fraction, was 'lots'"),
        ("entry: close > 3\ntimeframe: 3d", "rules.timeframe must be one of 1m, 5m"),
        ('{"name": "x", "rules": {}}', "strategy must be JSON of its schema, was not; Object missing required field"),
        ("{nonsense", "strategy must be JSON of its schema, was not; JSON is malformed"),
    ],
)
def test_a_file_that_is_no_strategy_is_told_in_a_line(here: Here, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "wrong.txt").write_text(text)

    ended = here("strategy", "create", "wrong.txt")

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert told in ended.stderr


def test_a_strategy_of_an_older_system_is_refused_in_words(here: Here, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("aworker:strategy:12", json.dumps({"pythonCode": "def strategy(): ..."}))

    ended = [here("strategy", name, 12, "--redis-url", redis_url) for name in ("show", "versions", "delete")]

    assert [each.returncode for each in ended] == [1, 1, 1]
    assert all("must be data (rules), was Python source of an older system" in each.stderr for each in ended)
