"""A real server for the tests that need one: one process for the session, emptied before each test.

It is the embedded Valkey, or the server that AWORKER_TEST_SERVER names.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.kit.servers import Server

LEFT_OUT = {
    "/browser/": "tests of the page in a browser: there is no chromium (apt-get install chromium)",
    "/typing/": "test of typed calls with pyright: there is no node (apt-get install nodejs)",
    "/promtool/": "tests of metrics, alert rules and dashboard: there is no promtool (apt-get install prometheus)",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line each what was left out for want of a program."""
    skipped = terminalreporter.stats.get("skipped", [])
    for folder, what in LEFT_OUT.items():
        if count := sum(folder in report.nodeid for report in skipped):
            terminalreporter.write_line(f"Left out: {count} {what}")


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url
