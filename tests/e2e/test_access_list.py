"""The access list of the documentation is enough for everything, and names nothing that is not needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.access import use_everything
from tests.kit.commands import ROOT, Here
from tests.kit.servers import Server

# What the admin and the server's own start-up do here, and what needs no permission.
NOT_OURS = {"acl|setuser", "acl|log", "auth", "hello", "info", "config|get", "client|kill", "script|flush"}
# Sent when a connection closes in an orderly way, or to a database that is not the first.
SELDOM = {"unsubscribe", "select"}


def test_everything_works_with_the_documented_access_list(
    monkeypatch: pytest.MonkeyPatch, here: Here, tmp_path: Path
) -> None:
    page = (ROOT / "docs/redis.md").read_text("utf-8")
    found = re.search(r"^ACL SETUSER aworker on >PASSWORD (.*)$", page, re.MULTILINE)
    assert found is not None
    allowed = {word.removeprefix("+") for word in found[1].split() if word.startswith("+")}

    with Server(tmp_path) as server, server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "aworker", "on", ">PASSWORD", *found[1].split())
        use_everything(here, tmp_path, server.url.replace("redis://", "redis://aworker:PASSWORD@"), admin)
        refused = {entry[b"object"].decode() for entry in admin.execute_command("ACL", "LOG")}
        used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")} - NOT_OURS

    # INFO alone is asked for without being needed.
    assert refused == {"info"}
    assert allowed - used <= SELDOM
    assert used <= allowed
