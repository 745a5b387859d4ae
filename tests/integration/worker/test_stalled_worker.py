"""What the heartbeat thread does for the tasks beside one that blocks the loop."""

import anyio.to_thread

from aworker.client.client import Client
from aworker.config import LiveConfig
from aworker.queues.lane.leased import open_leased_queue
from aworker.queues.upkeep.renewal import Renewer
from tests.kit.workers import config_of


async def test_tasks_beside_one_that_blocks_the_loop_go_back_uncounted(redis_url: str) -> None:
    live = LiveConfig(config_of(redis_url))
    async with Client(redis_url) as client, open_leased_queue(live, "worker_a_1_ff", dict) as queue:
        for task_id in ("blocker", "older", "younger"):
            await client.enqueue("work", task_id=task_id)
        blocker, older, younger = [await queue.claim() for _ in range(3)]
        assert blocker is not None
        assert older is not None
        assert younger is not None
        renewer = Renewer(live, "worker_a_1_ff")

        await anyio.to_thread.run_sync(renewer.send, queue.give_back_command([younger, older]))
        renewer.close()

        keys = queue.keys
        assert await client._redis.hkeys(keys.leases("worker_a_1_ff")) == [str(blocker.lease_id).encode()]
        assert await client._redis.hkeys(keys.claimed) == [b"blocker"]
        assert not await client._redis.exists(keys.deliveries)
        record = await client.result("older")
        assert record is not None
        assert record["status"] == "queued"
        again = [await queue.claim() for _ in range(2)]
        assert [lease.payload for lease in again if lease is not None] == [older.payload, younger.payload]
