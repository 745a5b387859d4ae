"""`aworker alerts`: the triggers that the store keeps."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis.asyncio import Redis

from aworker.trading.strategies.store import Store
from tests.kit.commands import Here


@pytest.fixture
def at(redis_url: str) -> tuple[str, str]:
    async def fill() -> None:
        async with Redis.from_url(redis_url) as server:
            store = Store(server)
            await store.claim_alert(5, "AAPL", 86_400, "a", {"current_price": 56.1374, "score": 1.0})
            await store.claim_alert(6, "MSFT", 2 * 86_400, "b", {"current_price": 27.0, "score": 2.5})
            await store.claim_alert(5, "IBM", 2 * 86_400 + 1_800, "c")

    asyncio.run(fill())
    return "--redis-url", redis_url


def test_alerts_are_shown_newest_first(here: Here, at: tuple[str, str]) -> None:
    ended = here("alerts", *at)

    first, second, third = ended.stdout.splitlines()
    assert first.endswith("Z  strategy 5  IBM  bar 1970-01-03 00:30")
    assert second.endswith("Z  strategy 6  MSFT  bar 1970-01-03  price 27.00  score 2.50")
    assert third.endswith("Z  strategy 5  AAPL  bar 1970-01-02  price 56.14  score 1.00")


def test_alerts_of_one_strategy(here: Here, at: tuple[str, str]) -> None:
    ended = here("alerts", "--strategy", 5, "--json", *at)
    latest = here("alerts", "--strategy", 5, "--limit", 1, "--json", *at)
    none = here("alerts", "--strategy", 7, *at)

    assert [each["symbol"] for each in json.loads(ended.stdout)] == ["IBM", "AAPL"]
    assert [each["task_id"] for each in json.loads(latest.stdout)] == ["c"]
    assert none.stdout == "No alerts\n"
