"""What the pages for contributors name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
NAMED = sorted(
    {
        name
        for page in PAGES
        for name in re.findall(
            r"(?:\.\./|`|\()((?:aworker|tests|docs|config)/[\w./-]+)", (ROOT / page).read_text(encoding="utf-8")
        )
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_every_file_that_is_named_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_room_is_in_the_picture() -> None:
    picture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    parts = {
        path.stem for path in (ROOT / "aworker").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert parts - {"__init__", "__main__"} <= set(re.findall(r"\w+", picture))


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "aworker/queues/scripts").glob("*.lua")))
def test_every_script_is_told_of(script: str) -> None:
    assert script in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
