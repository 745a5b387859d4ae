"""What handlers enqueue and groups count, while workers and the server are killed: neither lost nor doubled."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aworker import Client, NewTask
from tests.chaos.driver import WorkerProcess
from tests.chaos.history import FINAL, read_stored
from tests.kit.sites import NORMAL, Site, open_site

ROWS, LINKS = 6, 8


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


def links_done(site: Site) -> Counter[tuple[str, str]]:
    """How often each link of each row has completed, by whichever task."""
    ends = (one.task_id.split(".") for one in read_stored(site.folder) if one.status == "completed")
    return Counter((row, left) for row, left, *_ in ends)


def has_done(site: Site, most: int) -> bool:
    return sum(links_done(site).values()) >= most


async def test_a_row_of_tasks_goes_on_over_killed_workers_and_a_killed_server(site: Site) -> None:
    workers = [await site.worker(), await site.worker()]
    for row in range(ROWS):
        site.push(f"row{row}.{LINKS}.0", task_type="hands_on", row=f"row{row}", left=LINKS, sleep_s=0.3)

    for fault in ("kill", "cut", "server", "kill", "cut"):
        await site.until(partial(has_done, site, sum(links_done(site).values()) + 4))
        await strike(site, workers, fault)
    await site.until(lambda: len(links_done(site)) == ROWS * (LINKS + 1), within_s=60)

    assert links_done(site) == dict.fromkeys(links_done(site), 1)
    starts = Counter(tuple(start.task_id.split(".")[:2]) for start in site.effects("start"))
    assert set(starts) == set(links_done(site))
    assert not site.keys() & {NORMAL, "aworker:claimed", "aworker:delayed"}


async def strike(site: Site, workers: list[WorkerProcess], fault: str) -> None:
    if fault == "kill":
        victim = workers.pop(0)
        await site.until(partial(site.effects, "start", victim))
        victim.send(signal.SIGKILL)
        workers.append(await site.worker())
    elif fault == "cut":
        with site.server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    else:
        site.server.stop(signal.SIGKILL)
        site.server.start()


def members_of(group: str) -> list[NewTask]:
    def member(name: str, task_type: str, sleep_s: float = 0.2, **more: Any) -> NewTask:
        return NewTask(task_type=task_type, args={"sleep_s": sleep_s}, task_id=f"{group} {name}", **more)

    return [
        *(member(f"work{index}", "work", 0.1 * index) for index in range(6)),
        member("heavy", "heavy"),
        member("fails", "fails"),
        member("dies", "dies"),
        member("again", "again"),
        member("chain", "work", then=[member("chain2", "heavy"), member("chain3", "work")]),
        member("broken chain", "work", then=[member("chain5", "fails"), member("never", "work")]),
        member("cancelled", "work", delay_s=3_600),
        member("unknown", "no such type"),
    ]


async def test_groups_call_back_once_and_last_whatever_becomes_of_members_and_workers(site: Site) -> None:
    workers = [await site.worker(), await site.worker()]
    groups = [f"group{index}" for index in range(4)]
    async with Client(site.server.url) as client:
        for group in groups:
            then = NewTask(task_type="collect", task_id=f"{group} then")
            for _ in range(2):  # as after a reply that was lost
                await client.enqueue_group(members_of(group), then, group_id=group)
            # Pushed by somebody a second time.
            site.push(f"{group} work1", sleep_s=0.1)

    for fault in ("kill", "server", "cut", "kill"):
        await site.until(partial(has_ended, site, sum(site.ends().values()) + 6))
        await strike(site, workers, fault)
    async with Client(site.server.url) as client:
        for group in groups:
            assert await client.cancel(f"{group} cancelled") == "waiting"
    await site.until(lambda: site.completed([f"{group} then" for group in groups]), within_s=60)

    for group in groups:
        told = (site.record(f"{group} then") or {})["data"]["group"]
        bad = {"fails", "dies", "chain5", "cancelled", "unknown"}
        assert told["ended"]["completed"] == len(members_of(group)) - len(bad)
        assert set(told["ended"]["failed"]) == {f"{group} {name}" for name in bad}
        stored = read_stored(site.folder)
        began = next(at for at, one in enumerate(stored) if one.task_id == f"{group} then")
        ends = {
            one.task_id: at for at, one in enumerate(stored) if one.status in FINAL and one.task_id in told["task_ids"]
        }
        assert max(ends.values()) < began or set(ends) == {f"{group} work1"}
    assert all(site.ends()[f"{group} then"] == 1 for group in groups)
    assert not site.keys() & {NORMAL, "aworker:claimed", "aworker:delayed", *(f"aworker:group:{one}" for one in groups)}


def has_ended(site: Site, most: int) -> bool:
    return sum(site.ends().values()) >= most
