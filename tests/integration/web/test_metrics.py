"""What a worker counts: each number before and after what it is a number of, and what no payload can do to it."""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Sample

from aworker.config import (
    Config,
    DeadLettersConfig,
    LiveConfig,
    MonitorConfig,
    PoolConfig,
    QueueConfig,
    ResultsConfig,
    TaskConfig,
    WorkerConfig,
)
from aworker.errors import QueueUnavailable
from aworker.execution.registry import Handler, Registry
from aworker.execution.retry import Retry
from aworker.lease import Lease
from aworker.metrics import tally, totals
from aworker.outcome import Completed
from aworker.queues.connection import Link
from aworker.queues.lane.leased import open_leased_queue
from aworker.web.metrics import scrape
from aworker.worker.supervisor import Supervisor
from tests.kit import pool_functions as functions
from tests.kit.queue_scripts import NORMAL, PRIORITY, QueueScripts, task
from tests.kit.servers import Server
from tests.kit.workers import config_of, eventually, running_worker

FAST: dict[str, Any] = {"pool": PoolConfig(processes=1), "results": ResultsConfig(repeat_fast_after_s=0)}
TEXT = "text/plain"


async def series(supervisor: Supervisor, config: Config) -> list[Sample]:
    body, _ = await scrape(supervisor.queue, config, supervisor.state(), tally, TEXT)
    return [sample for family in read_text(body.decode()) for sample in family.samples]


class Watch:
    """Values of series as they are scraped, and by how much they have grown since the first time."""

    def __init__(self, supervisor: Supervisor, config: Config) -> None:
        self._supervisor = supervisor
        self._config = config
        self._first: dict[Any, float] = {}

    async def all(self) -> dict[Any, float]:
        found = await series(self._supervisor, self._config)
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in found}

    async def begin(self) -> None:
        self._first = await self.all()

    async def value(self, name: str, **labels: str) -> float | None:
        return (await self.all()).get((name, tuple(sorted(labels.items()))))

    async def grown(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return (await self.all())[key] - self._first.get(key, 0.0)


async def test_every_way_a_task_ends_is_counted_once(queue: QueueScripts, redis_url: str) -> None:
    async def works(args: dict[str, Any], context: Any) -> None: ...

    async def breaks(args: dict[str, Any], context: Any) -> None:
        raise ValueError("no")

    async def again(args: dict[str, Any], context: Any) -> Any:
        return Retry(delay_s=0.01, reason="not yet") if context.delivery == 1 else {}

    handlers = {"metrics_works": works, "metrics_breaks": breaks, "metrics_again": again}
    tasks = {"metrics_breaks": TaskConfig(retries=1)}
    config = config_of(redis_url, tasks=tasks, dead_letters=DeadLettersConfig(max_entries=2), **FAST)
    async with running_worker(config, handlers) as supervisor:
        watch = Watch(supervisor, config)
        await watch.begin()
        works_is = {"task_type": "metrics_works", "queue": "normal"}
        assert await watch.value("aworker_tasks_total", **works_is, outcome="completed") == 0

        for index in range(3):
            queue.client.lpush(NORMAL, task(f"w{index}", task_type="metrics_works"))
        queue.client.lpush(PRIORITY, task("a", task_type="metrics_again"), task("b", task_type="metrics_breaks"))
        queue.client.lpush(NORMAL, b"no task", task("u", task_type="metrics_unheard"))

        async def over() -> bool:
            fallen = await watch.grown("aworker_dead_letters_dropped_total")
            again = await watch.value(
                "aworker_tasks_total", task_type="metrics_again", queue="priority", outcome="completed"
            )
            return fallen == 1 and again == 1

        await eventually(over)
        assert await watch.value("aworker_tasks_total", **works_is, outcome="completed") == 3
        breaks_is = {"task_type": "metrics_breaks", "queue": "priority"}
        assert await watch.value("aworker_tasks_total", **breaks_is, outcome="retried") == 1
        assert await watch.value("aworker_tasks_total", **breaks_is, outcome="failed") == 1
        retries = "aworker_task_retries_total"
        assert await watch.value(retries, task_type="metrics_breaks", reason="handler_raised") == 1
        assert await watch.value(retries, task_type="metrics_again", reason="asked") == 1
        for reason, count in (("PayloadInvalid", 1), ("UnknownTaskType", 1), ("handler_raised", 1), ("other", 0)):
            assert await watch.grown("aworker_dead_letters_total", reason=reason) == count
        assert await watch.value("aworker_dead_letters_kept") == 2
        assert await watch.grown("aworker_leases_claimed_total", queue="normal") == 5
        assert await watch.grown("aworker_leases_claimed_total", queue="priority") == 4
        for name in ("wait", "run"):
            assert await watch.value(f"aworker_task_{name}_seconds_count", **works_is) == 3
        assert await watch.value("aworker_task_run_seconds_bucket", **works_is, le="3600.0") == 3
        assert await watch.grown("aworker_redis_round_trips_total", connection="lane") > 0
        assert await watch.value("aworker_claim_age_seconds") is not None


async def test_what_a_limit_or_a_pause_holds_back_is_seen(queue: QueueScripts, redis_url: str) -> None:
    go_on = anyio.Event()

    async def hold(args: dict[str, Any], context: Any) -> None:
        await go_on.wait()

    tasks = {"hold": TaskConfig(max_concurrent=2)}
    worker = WorkerConfig(slots=8, max_per_user=5, reserved={})
    async with running_worker(config_of(redis_url, tasks=tasks, worker=worker, **FAST), {"hold": hold}) as supervisor:
        watch = Watch(supervisor, config_of(redis_url))
        queue.client.lpush(NORMAL, *(task(f"h{index}", task_type="hold") for index in range(9)))

        async def held_back() -> bool:
            return await watch.value("aworker_queue_held_back", queue="normal") == 7

        await eventually(held_back)
        assert await watch.value("aworker_task_limit", task_type="hold") == 2
        assert await watch.value("aworker_user_limit") == 5
        assert await watch.value("aworker_tasks_running", task_type="hold", queue="normal") == 2
        assert await watch.value("aworker_slots_busy") == await watch.value("aworker_leases_held") == 2
        queue.client.hset(queue.keys.paused, mapping={"type hold": "1", "queue " + PRIORITY: "1", "type other": "1"})
        queue.client.publish(queue.keys.control, '{"pauses_changed": true}')

        async def paused() -> bool:
            return await watch.value("aworker_queue_paused", queue="priority") == 1

        await eventually(paused)
        assert await watch.value("aworker_queue_paused", queue="normal") == 0
        assert await watch.value("aworker_task_limit", task_type="hold") == 0
        assert await watch.value("aworker_task_limit", task_type="other") is None
        queue.client.delete(queue.keys.paused, NORMAL)
        go_on.set()


async def test_the_age_is_that_of_the_oldest_task_not_of_the_next(queue: QueueScripts, redis_url: str) -> None:
    levels = (QueueConfig(name=PRIORITY, label="priority"), QueueConfig(name=NORMAL, label="normal", take_from="left"))
    config = config_of(redis_url, queues=levels, **FAST)
    queue.client.hset(queue.keys.paused, "queue " + NORMAL, "1")
    queue.client.rpush(NORMAL, task("next", "2026-06-02T00:00:00Z"), task("oldest", "2026-06-01T00:00:00Z"))
    queue.client.rpush(NORMAL, task("newest", "2026-06-03T00:00:00Z"))
    async with running_worker(config, {"none": _nothing}) as supervisor:
        watch = Watch(supervisor, config)
        oldest_s = await watch.value("aworker_queue_oldest_age_seconds", queue="normal")
        queue.client.script_flush()  # it is loaded again
        queue.client.lrem(NORMAL, 1, task("oldest", "2026-06-01T00:00:00Z"))
        second_s = await watch.value("aworker_queue_oldest_age_seconds", queue="normal")

        assert oldest_s is not None
        assert second_s is not None
        assert round((oldest_s - second_s) / 86_400, 2) == 1
        assert await watch.value("aworker_queue_oldest_age_seconds", queue="priority") == 0


async def test_foreign_words_make_no_series(queue: QueueScripts, redis_url: str) -> None:
    async with running_worker(config_of(redis_url, **FAST), {"none": _nothing}) as supervisor:
        watch = Watch(supervisor, config_of(redis_url))
        queue.client.lpush(NORMAL, task("first", task_type="foreign"))
        await eventually(lambda: _holds(queue.client.xlen(queue.keys.dead) == 1))
        before = set(await watch.all())

        for index in range(200):
            queue.client.lpush(
                NORMAL, task(f"t{index}", task_type=f"foreign {index}", priority=f"p{index}", args={"user_id": index})
            )
        await eventually(lambda: _holds(queue.client.xlen(queue.keys.dead) == 201))

        assert set(await watch.all()) == before


async def test_a_lease_that_is_gone_is_counted_with_what_was_refused(queue: QueueScripts, redis_url: str) -> None:
    async with running_worker(config_of(redis_url, **FAST), {"none": _nothing}) as supervisor:
        watch = Watch(supervisor, config_of(redis_url))
        await watch.begin()
        async with open_leased_queue(LiveConfig(config_of(redis_url)), "w2", dict) as other:
            queue.client.hset(queue.keys.paused, "queue " + NORMAL, "1")
            queue.client.publish(queue.keys.control, '{"pauses_changed": true}')
            await eventually(lambda: _holds("normal" in supervisor.state().paused))
            queue.client.lpush(NORMAL, task("gone"))
            lease = await other.claim()
            assert isinstance(lease, Lease)
            queue.client.delete(queue.keys.leases("w2"))
            other.settle(lease, Completed({}), 0.0)
            await eventually(lambda: _holds(lease.lost))

        assert await watch.grown("aworker_writes_refused_total", kind="end") == 1
        assert await watch.grown("aworker_leases_lost_total") == 1


async def test_a_dead_workers_tasks_are_counted_by_who_puts_them_back(queue: QueueScripts, redis_url: str) -> None:
    queue.client.lpush(NORMAL, task("orphan", task_type="metrics_orphan"))
    queue.claim("dead", now_ms=1)
    worker = WorkerConfig(slots=1, renew_interval_s=0.05, lease_ttl_s=0.2)
    config = config_of(redis_url, worker=worker, **FAST)
    async with running_worker(config, {"metrics_orphan": _nothing}) as supervisor:
        watch = Watch(supervisor, config)
        await eventually(lambda: _holds(b"completed" in (queue.client.get("task_result:orphan") or b"")))

        assert (await watch.value("aworker_leases_reclaimed_total") or 0) >= 1
        assert (await watch.value("aworker_lease_renewals_total", result="renewed") or 0) >= 2
        assert await watch.value("aworker_event_loop_lag_seconds_count") is not None


async def test_children_are_counted_by_how_they_end(queue: QueueScripts, redis_url: str, tmp_path: Path) -> None:
    tasks = {"spin": TaskConfig(timeout_s=0.2), "die": TaskConfig()}
    config = config_of(
        redis_url,
        tasks=tasks,
        pool=PoolConfig(processes=1, stop_grace_s=0.05),
        results=ResultsConfig(repeat_fast_after_s=0),
        worker=WorkerConfig(slots=2, max_deliveries=1),
    )
    handlers = {"spin": spin, "die": die}
    async with running_worker(config, handlers) as supervisor:
        watch = Watch(supervisor, config)
        assert await watch.value("aworker_children_ended_total", cause="memory") == 0
        queue.client.lpush(NORMAL, task("d", task_type="die"))

        async def died() -> bool:
            return await watch.value("aworker_children_ended_total", cause="died") == 1

        await eventually(died)
        queue.client.lpush(NORMAL, task("s", task_type="spin"))

        async def killed() -> bool:
            return await watch.value("aworker_children_ended_total", cause="timed_out") == 1

        await eventually(killed)
        one = await watch.value("aworker_child_resident_memory_max_bytes")
        all_ = await watch.value("aworker_children_resident_memory_bytes")
        assert one is not None
        assert all_ is not None
        assert 1e6 < one <= all_


def spin(args: dict[str, Any], context: Any) -> None:
    functions.hold_the_interpreter("/dev/null", context)


def die(args: dict[str, Any], context: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("delivery", ["leased", "at-most-once"])
async def test_errors_of_redis_are_counted_by_connection(queue: QueueScripts, redis_url: str, delivery: Any) -> None:
    config = config_of(redis_url, worker=WorkerConfig(slots=1, delivery=delivery), **FAST)
    async with running_worker(config, {"none": _nothing}) as supervisor:
        watch = Watch(supervisor, config)
        await watch.begin()
        queue.client.config_set("timeout", 0)
        queue.client.client_kill_filter(_type="normal", skipme=True)

        async def counted() -> bool:
            found = await watch.all()
            errors = [
                value
                for (name, labels), value in found.items()
                if name == "aworker_redis_errors_total" and ("error", "connection") in labels
            ]
            return sum(errors) > 0

        await eventually(counted)
        assert await watch.value("aworker_redis_up") in (0, 1)


async def test_a_connection_that_is_dropped_for_its_silence_is_an_error(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        link = Link(server.url, "silent", "lane")
        await link.call([("PING",)])
        before = totals.redis_errors["lane", "timeout"]
        server.freeze()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_refused, link)
                await eventually(lambda: _holds(link._reading is not None))
                link.drop()
        finally:
            server.thaw()
        await link.close()

    assert totals.redis_errors["lane", "timeout"] == before + 1


async def _refused(link: Link) -> None:
    with pytest.raises(QueueUnavailable, match="connection was dropped"):
        await link.call([("PING",)])


async def test_no_counter_falls_while_the_process_lives(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        live = LiveConfig(config_of(server.url, worker=WorkerConfig(slots=2), **FAST))
        registry = Registry()
        registry.add(Handler("metrics_steady", _nothing))
        path = tmp_path / "aworker.toml"
        path.write_text("")

        def load() -> Config:
            return msgspec.structs.replace(
                live.value, monitor=MonitorConfig(interval_s=live.value.monitor.interval_s + 1)
            )

        ready = anyio.Event()
        supervisor = Supervisor(live, registry, on_ready=ready.set, config_path=path, load=load)
        watch = Watch(supervisor, live.value)
        scrapes = []
        async with anyio.create_task_group() as group:
            group.start_soon(supervisor.run)
            await ready.wait()
            scrapes.append(await watch.all())
            for number in range(3):
                with server.client() as client:
                    client.lpush(NORMAL, task(f"t{number}", task_type="metrics_steady"), b"no task")
                    await eventually(partial(_is_counted, watch, number + 1))
                scrapes.append(await watch.all())
                if number == 0:
                    server.stop(signal.SIGKILL)  # and all that it held
                    server.start()
                    scrapes.append(await watch.all())
                if number == 1:
                    os.kill(os.getpid(), signal.SIGHUP)
                    await eventually(lambda: _is_reloaded(watch))
                    scrapes.append(await watch.all())
            supervisor.drain()

    for earlier, later in pairwise(scrapes):
        fallen = {
            key: (earlier[key], later.get(key))
            for key in earlier
            if key[0].endswith(("_total", "_count", "_bucket", "_sum")) and later.get(key, 0.0) < earlier[key]
        }
        assert fallen == {}


async def _is_counted(watch: Watch, count: int) -> bool:
    labels = {"task_type": "metrics_steady", "queue": "normal", "outcome": "completed"}
    return await watch.value("aworker_tasks_total", **labels) == count


async def _is_reloaded(watch: Watch) -> bool:
    return await watch.value("aworker_config_reloads_total", result="applied") == 1


async def _nothing(args: dict[str, Any], context: Any) -> None: ...


async def _holds(value: bool) -> bool:
    return value
