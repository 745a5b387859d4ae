"""What handlers enqueue, while workers and the server are killed: neither lost between two tasks nor doubled."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.history import read_stored
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
    await site.until(lambda: len(links_done(site)) == ROWS * (LINKS + 1), within_s=60)

    assert links_done(site) == dict.fromkeys(links_done(site), 1)
    starts = Counter(tuple(start.task_id.split(".")[:2]) for start in site.effects("start"))
    assert set(starts) == set(links_done(site))
    assert not site.keys() & {NORMAL, "aworker:claimed", "aworker:delayed"}
