"""A server that refuses a command by its access list: the worker says so and waits, it does not end."""

from typing import Any

import anyio
import redis.asyncio

from aworker.client.client import Client
from tests.kit.workers import config_of, eventually, running_worker


async def test_a_command_that_is_not_permitted_is_waited_for(redis_url: str) -> None:
    admin: Any = redis.asyncio.Redis.from_url(redis_url)
    async with admin:
        await admin.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-xlen")
        limited = redis_url.replace("redis://", "redis://limited:pw@")
        config = config_of(limited)

        async def quick(args: dict[str, object], context: object) -> dict[str, object]:
            return {"success": True}

        try:
            async with Client(redis_url) as client, running_worker(config, {"quick": quick}):
                with anyio.fail_after(20):
                    record = await client.result(await client.enqueue("quick"), wait_s=15)
                assert record is not None
                assert record["status"] == "completed"
                await admin.execute_command("ACL", "SETUSER", "limited", "+xlen")
                await eventually(lambda: admin.exists("aworker:workers"))
        finally:
            await admin.execute_command("ACL", "DELUSER", "limited")
