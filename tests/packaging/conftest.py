"""The built wheel in environments that hold what it asks for and nothing else: no checkout, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.commands import ROOT, run_to_end

SLOW_S = 240.0
SOURCES = ("aworker", "pyproject.toml", "README.md", "LICENSE")


class Installation:
    """An environment that the wheel was installed into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        (self.packages,) = folder.glob("lib/python3*/site-packages")

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment, without what the tests' own would lend it."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        variables = {**kept, "PATH": str(self.folder / "bin"), "COLUMNS": "120", **variables}
        return run_to_end([str(self.folder / "bin" / arguments[0]), *arguments[1:]], cwd or self.folder, variables)

    @property
    def size_mb(self) -> float:
        """What its packages take, without compiled Python."""
        files = (path for path in self.packages.rglob("*") if "__pycache__" not in path.parts)
        return sum(path.lstat().st_size for path in files if path.is_file()) / 1e6


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the source distribution, and the wheel made of it."""
    folder = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    ended = run_to_end(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "made"],
        folder,
        dict(os.environ),
        timeout_s=SLOW_S,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "made"


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Installation]]:
    """Install the wheel with extras (``"web,trading"``, or none), and what they ask for."""
    made: dict[str, Installation] = {}

    def install(extras: str) -> Installation:
        if extras not in made:
            folder = tmp_path_factory.mktemp("environment")
            venv.create(folder, with_pip=False, symlinks=True)
            made[extras] = Installation(folder)
            for name in _closure(f"aworker[{extras}]") - {"aworker"}:
                _copy(name, made[extras].packages)
            (wheel,) = built.glob("*.whl")
            pip = [
                sys.executable,
                "-m",
                "pip",
                "--python",
                str(made[extras].python),
                "install",
                "--quiet",
                "--no-compile",
            ]
            ended = run_to_end(
                [*pip, "--no-index", "--no-deps", str(wheel)], folder, dict(os.environ), timeout_s=SLOW_S
            )
            assert ended.returncode == 0, ended.stderr
        return made[extras]

    yield install
    for installation in made.values():
        shutil.rmtree(installation.folder)


def _closure(wanted: str) -> set[str]:
    found: set[str] = set()
    waiting, seen = [Requirement(wanted)], set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            name = canonicalize_name(requirement.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found.add(name)
            for text in distribution(name).requires or ():
                further = Requirement(text)
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting.append(further)
    return found


def _copy(name: str, to: Path) -> None:
    for file in distribution(name).files or ():
        source = Path(str(file.locate()))
        if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
            continue  # its programs
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copy(source, target)
