"""The shipped configuration file: all of the defaults, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from aworker import config as config_module
from aworker.config import Config, Section, load_config

SHIPPED = Path(__file__).parents[2] / "config" / "aworker.toml"


def sections() -> list[type[Section]]:
    return [
        struct
        for struct in vars(config_module).values()
        if isinstance(struct, type) and issubclass(struct, Section) and struct not in (Section, Config)
    ]


def test_the_shipped_file_says_what_holds_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    shipped = load_config(SHIPPED, environment={})

    # But for one: nothing listens unless a file says so, and the shipped one does.
    assert (shipped.http.port, Config().http.port) == (9464, 0)
    assert msgspec.structs.replace(shipped, http=Config().http) == Config() == load_config(environment={})


@pytest.mark.parametrize("struct", sections(), ids=lambda struct: struct.__name__)
def test_the_shipped_file_names_and_explains_every_field(struct: type[Section]) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()

    for field in msgspec.structs.fields(struct):
        explained = [line for line in lines if re.match(rf"(# )?{field.name} = .+ # \S", line)]
        assert explained, field.name


def test_the_shipped_file_has_every_section() -> None:
    text = SHIPPED.read_text(encoding="utf-8")

    for field in msgspec.structs.fields(Config):
        assert re.search(rf"^(# )?\[\[?{field.name}[\].]", text, re.MULTILINE), field.name
