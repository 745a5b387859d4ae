"""What type checkers say of calls of handlers: an error in each wrong line and in no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = Path(__file__).parent / "calls.py"
ROOT = CALLS.parents[2]
WRONG = {
    number for number, line in enumerate(CALLS.read_text(encoding="utf-8").splitlines(), 1) if line.endswith("# wrong")
}


def checked(*command: str) -> str:
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    found = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=110, env=environment
    )
    assert found.returncode in (0, 1), found.stdout + found.stderr
    return found.stdout


def test_mypy_finds_every_wrong_call_and_no_other() -> None:
    said = checked("mypy", "--no-error-summary", str(CALLS))  # strict, and with the cache of `make check`

    lines = [line.split(":") for line in said.splitlines() if ": error:" in line]
    assert {line[0].rpartition("/")[2] for line in lines} == {"calls.py"}, said
    assert {int(line[1]) for line in lines} == WRONG, said


@pytest.mark.skipif(shutil.which("node") is None, reason="pyright needs node")
def test_pyright_finds_every_wrong_call_and_no_other() -> None:
    said = json.loads(checked("pyright", "--outputjson", "--pythonpath", sys.executable, str(CALLS)))

    errors = [one for one in said["generalDiagnostics"] if one["severity"] == "error"]
    assert {one["range"]["start"]["line"] + 1 for one in errors} == WRONG, errors
