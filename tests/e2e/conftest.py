"""A folder without a configuration, and commands run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.commands import Here


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(monkeypatch)
