"""The queue's scripts on the session's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.queue_scripts import QueueScripts


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueScripts]:
    with QueueScripts(redis_url) as scripts:
        yield scripts


@pytest.fixture
def full_queue(queue: QueueScripts) -> Iterator[QueueScripts]:
    """A queue whose server is made full by ``queue.fill_server()``, and let go afterwards."""
    try:
        yield queue
    finally:
        queue.client.config_set("maxmemory", 0)
