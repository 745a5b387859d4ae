"""Debian's promtool (package prometheus), which reads metrics, rules and queries as Prometheus does.

Without it these tests are skipped, and the suite's last lines say so; where AWORKER_TEST_PROMTOOL is ``required`` they
fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.kit.queue_scripts import QueueScripts

Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Run promtool with arguments and an input, and return what it said; it is not asked whether it was content."""
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("AWORKER_TEST_PROMTOOL") != "required", (
            "promtool must be installed: apt-get install prometheus"
        )
        pytest.skip("no promtool")

    def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([found, *arguments], input=text, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueScripts]:
    with QueueScripts(redis_url) as scripts:
        yield scripts
