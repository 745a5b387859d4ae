"""A real browser, Debian's chromium, and the page of a real server in a process of its own.

Without chromium these tests are skipped, and the suite's last lines say so; where AWORKER_TEST_BROWSER is ``required``
they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.kit.commands import running
from tests.kit.pages import TOKEN
from tests.kit.queue_scripts import QueueScripts

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

Open = Callable[..., Page]

expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("AWORKER_TEST_CHROMIUM") or shutil.which("chromium")
    if found is None:
        assert os.environ.get("AWORKER_TEST_BROWSER") != "required", (
            "chromium must be installed: apt-get install chromium"
        )
        pytest.skip("no chromium")
    return found


# Not for the session: while Playwright is open its loop runs, and other tests of the process could run none.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def queue(redis_url: str) -> Iterator[QueueScripts]:
    with QueueScripts(redis_url) as scripts:
        yield scripts


@pytest.fixture
def address(tmp_path: Path, redis_url: str, chromium: str) -> Iterator[str]:
    """Where the page is; it has a token."""
    variables = {"AWORKER_HTTP__TOKEN_ENV": "PAGE_TOKEN", "PAGE_TOKEN": TOKEN}
    with running("web", "--port", 0, "--redis-url", redis_url, cwd=tmp_path, **variables) as web:
        web.logs("The page is at")
        found = re.search(r"The page is at (http://\S+)/", web.stderr)
        assert found is not None
        yield found[1]


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Open pages whose every complaint fails the test: errors of scripts, refusals of the content policy, dialogs."""
    complaints: list[str] = []
    contexts = []

    def opened(path: str = "/", *, scheme: str = "light", width: int = 1280, scripts: bool = True) -> Page:
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 900},
            java_script_enabled=scripts,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.goto(address + path)
        return page

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 40" not in message.text:
            complaints.append(message.text)

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
