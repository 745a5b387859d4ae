"""The strategy store against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aworker.errors import QueueUnavailable
from aworker.trading.strategies import store as store_module
from aworker.trading.strategies.store import (
    MAX_VERSIONS,
    Store,
    StrategyChanged,
    StrategyLegacy,
    StrategyNotOurs,
    StrategyUnknown,
    Trigger,
)
from aworker.trading.strategies.strategy import Draft, Risk, Rules, Strategy

DRAFT = Draft("Dip", "Buys dips", Rules("rsi(close, 14) < 30", exit="rsi(close, 14) > 70"))
OTHER = Draft("Deep dip", "Buys deep dips", Rules("rsi(close, 14) < 20", risk=Risk(stop_loss=0.05)))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
    yield client
    await client.aclose()


@pytest.fixture
def store(client: Redis) -> Store:
    return Store(client, first_id=5_000)


async def test_create_gives_ids_from_the_first_on(store: Store) -> None:
    first = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    second = await store.create(DRAFT, user_id=1, prompt="p", task_id="b")

    assert (first.strategy_id, second.strategy_id) == (5_000, 5_001)
    assert await store.get(5_000) == first
    assert (first.version, first.task_id, first.rules) == (1, "a", DRAFT.rules)


async def test_create_delivered_again_finds_what_it_made(store: Store) -> None:
    first = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    again = await store.create(OTHER, user_id=1, prompt="p", task_id="a")

    assert again == first
    assert len(await store.list_strategies()) == 1


async def test_creates_of_one_task_at_once_make_one_strategy(store: Store) -> None:
    made: list[Strategy] = []

    async def create() -> None:
        made.append(await store.create(DRAFT, user_id=1, prompt="p", task_id="a"))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(create)

    assert len({strategy.strategy_id for strategy in made}) == 1
    assert len(await store.list_strategies()) == 1


async def test_create_steps_over_ids_that_an_older_system_holds(store: Store, client: Redis) -> None:
    await client.set("aworker:strategy:5000", "def strategy(): pass")

    made = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    assert made.strategy_id == 5_001
    assert await client.get("aworker:strategy:5000") == b"def strategy(): pass"


async def test_ids_go_on_when_the_first_id_is_raised(store: Store, client: Redis) -> None:
    await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    raised = await Store(client, first_id=9_000).create(DRAFT, user_id=1, prompt="p", task_id="b")
    lowered = await Store(client, first_id=1).create(DRAFT, user_id=1, prompt="p", task_id="c")

    assert (raised.strategy_id, lowered.strategy_id) == (9_000, 9_001)


async def test_edit_keeps_every_version(store: Store) -> None:
    first = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    second = await store.edit(first, OTHER, user_id=1, prompt="q", task_id="b")

    assert (second.version, second.created_at, second.prompt, second.rules) == (2, first.created_at, "q", OTHER.rules)
    assert await store.get(first.strategy_id) == second
    assert await store.versions(first.strategy_id) == [first, second]


async def test_edit_delivered_again_does_not_edit_twice(store: Store) -> None:
    first = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    second = await store.edit(first, OTHER, user_id=1, prompt="q", task_id="b")

    again = await store.edit(second, DRAFT, user_id=1, prompt="q", task_id="b")

    assert again == second
    assert await store.made_by("b") == second
    assert len(await store.versions(first.strategy_id)) == 2


async def test_of_two_edits_at_once_one_wins_and_the_other_is_told(store: Store) -> None:
    first = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    await store.edit(first, OTHER, user_id=1, prompt="q", task_id="b")

    with pytest.raises(StrategyChanged, match=rf"strategy {first.strategy_id} .* was version 1"):
        await store.edit(first, DRAFT, user_id=1, prompt="r", task_id="c")

    assert (await store.get(first.strategy_id)).task_id == "b"
    assert await store.made_by("c") is None


async def test_only_the_owner_edits_and_deletes(store: Store) -> None:
    mine = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    with pytest.raises(StrategyNotOurs, match="user 2"):
        await store.edit(mine, OTHER, user_id=2, prompt="q", task_id="b")
    with pytest.raises(StrategyNotOurs, match="user 0"):
        await store.delete(mine.strategy_id, user_id=0)

    assert await store.get(mine.strategy_id) == mine


async def test_a_public_strategy_is_edited_by_anyone(store: Store) -> None:
    public = await store.create(DRAFT, user_id=0, prompt="p", task_id="a")

    edited = await store.edit(public, OTHER, user_id=7, prompt="q", task_id="b")

    assert (edited.user_id, edited.version) == (0, 2)


async def test_old_versions_fall_off(store: Store) -> None:
    latest = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    for number in range(MAX_VERSIONS):
        latest = await store.edit(latest, OTHER, user_id=1, prompt="q", task_id=f"edit {number}")

    kept = await store.versions(latest.strategy_id)

    assert [kept[0].version, kept[-1].version] == [2, MAX_VERSIONS + 1]
    assert await store.made_by("a") == latest


async def test_list_is_newest_first_and_of_one_user(store: Store) -> None:
    made = [await store.create(DRAFT, user_id=user, prompt="p", task_id=f"{user}") for user in (1, 2, 0)]

    assert await store.list_strategies() == made[::-1]
    assert await store.list_strategies(2) == [made[1]]
    assert await store.list_strategies(limit=1) == [made[2]]
    assert await store.list_strategies(9) == []


async def test_delete_forgets_the_strategy(store: Store) -> None:
    made = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")

    await store.delete(made.strategy_id)

    with pytest.raises(StrategyUnknown, match=f"was {made.strategy_id}"):
        await store.get(made.strategy_id)
    with pytest.raises(StrategyUnknown):
        await store.edit(made, OTHER, user_id=1, prompt="q", task_id="b")
    with pytest.raises(StrategyUnknown):
        await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    assert await store.list_strategies() == []


@pytest.mark.parametrize(
    "record, what",
    [
        (b'{"strategyId": 7, "name": "x", "pythonCode": "def strategy(): ..."}', "Python source"),
        (b"import numpy as np\n\ndef strategy(data): ...", "Python source"),
        (b"\xff\xfe\x00", "no record"),
        (b"[" * 100_000, "no record"),
        (b'{"strategy_id": 7}', "no record"),
    ],
    ids=["json with source", "source", "bytes", "deep", "half"],
)
async def test_a_record_of_an_older_system_is_refused_in_words(
    store: Store, client: Redis, record: bytes, what: str
) -> None:
    await client.set("aworker:strategy:7", record)

    with pytest.raises(StrategyLegacy, match=f"strategy 7 must be data .* was {what}"):
        await store.get(7)


async def test_a_hash_of_an_older_system_is_refused_in_words(store: Store, client: Redis) -> None:
    await client.hset("aworker:strategy:7", "pythonCode", "def strategy(): ...")

    with pytest.raises(StrategyLegacy, match=r"strategy 7 must be data .* was no record"):
        await store.get(7)


async def test_an_alert_is_claimed_once_and_again_by_its_own_task(store: Store) -> None:
    assert await store.claim_alert(7, "AAPL", 86_400, "a")
    assert not await store.claim_alert(7, "AAPL", 86_400, "b")
    assert await store.claim_alert(7, "AAPL", 86_400, "a")
    assert await store.claim_alert(7, "AAPL", 172_800, "b")
    assert await store.claim_alert(7, "MSFT", 86_400, "b")
    assert await store.claim_alert(8, "AAPL", 86_400, "b")


async def test_a_trigger_is_recorded_and_published_exactly_once(store: Store, client: Redis) -> None:
    alert = {"symbol": "AAPL", "score": 1.5, "data": {"bar": "2013-03-01"}}
    async with client.pubsub() as subscription:
        await subscription.subscribe("aworker:alerts")
        await subscription.get_message(timeout=5)

        answers = [await store.claim_alerts(7, task_id, [(86_400, alert)]) for task_id in ("a", "a", "b")]
        await client.publish("aworker:alerts", b"end")
        heard: list[bytes] = []
        while not heard or heard[-1] != b"end":
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
            assert message is not None
            heard.append(message["data"])

    assert answers == [[True], [True], [False]]
    (trigger,) = await store.recent_alerts()
    assert trigger == Trigger(7, "AAPL", 86_400, "a", alert, trigger.triggered_at)
    assert [msgspec.json.decode(each, type=Trigger) for each in heard[:-1]] == [trigger]


async def test_alert_marks_expire(store: Store, client: Redis) -> None:
    await store.claim_alert(7, "AAPL", 86_400, "a")

    assert 0 < await client.ttl("aworker:alert:7:AAPL:86400") <= 30 * 86_400


async def test_recent_alerts_are_newest_first(store: Store) -> None:
    for bar in (1, 2, 3):
        await store.claim_alert(7, "AAPL", bar, "a")

    assert [trigger.bar_timestamp for trigger in await store.recent_alerts(2)] == [3, 2]


async def test_recent_alerts_of_one_strategy_are_found_behind_those_of_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_ALERTS_A_PAGE", 2)
    for bar in range(7):
        await store.claim_alert(7 if bar in (0, 3) else 8, "AAPL", bar, "a")

    both, latest = await store.recent_alerts(strategy_id=7), await store.recent_alerts(1, strategy_id=7)

    assert [trigger.bar_timestamp for trigger in both] == [3, 0]
    assert [trigger.bar_timestamp for trigger in latest] == [3]
    assert await store.recent_alerts(strategy_id=9) == []


async def test_a_cut_connection_is_waited_for(store: Store, client: Redis, redis_url: str) -> None:
    made = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    async with Redis.from_url(redis_url) as other:
        await other.client_kill_filter(_type="normal")

    assert await store.get(made.strategy_id) == made


async def test_a_server_that_is_away_is_said_so() -> None:
    async with Redis.from_url("redis://127.0.0.1:1/0", retry=Retry(NoBackoff(), 0)) as nowhere:
        store = Store(nowhere, patience_s=0.1)

        with pytest.raises(QueueUnavailable, match=r"must answer within 0\.1 s"):
            await store.get(1)


async def test_keys_stand_under_the_prefix(client: Redis) -> None:
    store = Store(client, prefix="desk:", first_id=1)
    made = await store.create(DRAFT, user_id=1, prompt="p", task_id="a")
    await store.claim_alert(made.strategy_id, "AAPL", 1, "a")

    keys = sorted(await client.keys("*"))

    assert keys == [
        b"desk:alert:1:AAPL:1",
        b"desk:alerts",
        b"desk:strategies",
        b"desk:strategies:user:1",
        b"desk:strategy:1",
        b"desk:strategy:1:versions",
        b"desk:strategy_ids",
        b"desk:strategy_task:a",
    ]


async def test_a_server_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with (
        silent,
        Redis(host="127.0.0.1", port=silent.sockets[0].getsockname()[1], retry=Retry(NoBackoff(), 0)) as hung,
    ):
        with pytest.raises(QueueUnavailable, match=r"must answer within 0\.2 s"):
            await Store(hung, patience_s=0.2).get(1)
