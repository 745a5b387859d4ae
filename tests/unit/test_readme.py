"""What the README says of files, commands and tests is there."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", README))))
def test_every_test_that_the_readme_names_exists(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]

    assert any(f"def {name}(" in source for source in sources)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_file_that_the_readme_links_exists(target: str) -> None:
    assert (ROOT / target).is_file()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^\.venv/bin/aworker (\w+)", README, re.MULTILINE))))
def test_every_command_that_the_readme_shows_exists(command: str) -> None:
    from aworker.cli.program import program

    assert CliRunner().invoke(program, [command, "--help"]).exit_code == 0
