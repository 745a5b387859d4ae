"""Every finding is in the catalogue, has a section in the handbook, and an exit code by how bad it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aworker.doctor.catalogue import EXIT_CODES, KINDS
from aworker.doctor.examination import Examination, Finding, Unknown, found, well
from aworker.doctor.items import ITEMS, exit_code
from tests.kit.workers import config_of

ROOT = Path(__file__).parents[3]
HANDBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SOURCES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aworker/doctor").glob("*.py"))
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/integration/doctor").glob("*.py"))


@pytest.mark.parametrize("name", KINDS)
def test_every_finding_has_its_section(name: str) -> None:
    section = re.search(rf"^### {name}\n\n(.*?)(?=^##|\Z)", HANDBOOK, re.MULTILINE | re.DOTALL)

    assert section is not None
    assert len(section[1].split()) > 15
    assert "**See:**" in section[1]
    assert "**Do:**" in section[1]


@pytest.mark.parametrize("name", KINDS)
def test_every_finding_is_made_somewhere_and_planted_in_a_test(name: str) -> None:
    assert f'"{name}"' in SOURCES
    assert f'"{name}"' in TESTS


def test_the_handbook_links_sections_that_are_there() -> None:
    headings = re.findall(r"^#+ (.+)$", HANDBOOK, re.MULTILINE)
    sections = {heading.lower().replace(" ", "-") for heading in headings}

    assert set(re.findall(r"\]\(#([\w-]+)\)", HANDBOOK)) <= sections


@pytest.mark.parametrize("severity, code", [("well", 0), ("unknown", 0), ("look", 10), ("trouble", 20)])
def test_the_worst_finding_decides_the_exit_code(severity: str, code: int) -> None:
    findings = [well("a"), Finding(severity=severity, what="b"), well("c")]  # type: ignore[arg-type]

    assert exit_code(findings) == code
    assert f"| `{severity}` | {code} |" in HANDBOOK
    assert exit_code([]) == 0


def test_severities_rise_with_their_exit_codes() -> None:
    assert list(EXIT_CODES.values()) == sorted(EXIT_CODES.values())


def test_a_finding_says_what_why_and_what_mends_it() -> None:
    finding = found("paused", "12 tasks", "aworker resume normal")

    assert (finding.severity, finding.why, finding.mend) == ("look", KINDS["paused"].why, "aworker resume normal")


@pytest.mark.parametrize(
    "url, command",
    [
        ("redis://127.0.0.1:6380/0", "redis-cli -h 127.0.0.1 -p 6380 PING"),
        ("redis://joe:s3cret@db.example.com/2", "redis-cli -h db.example.com -p 6379 -n 2 PING"),
        ("unix:///run/valkey.sock?db=3", "redis-cli -s /run/valkey.sock -n 3 PING"),
        ("rediss://host:6390/0", "redis-cli -h host -p 6390 --tls PING"),
    ],
)
def test_a_command_for_the_server_names_it_without_its_password(url: str, command: str) -> None:
    exam = Examination(None, None, config_of(url))  # type: ignore[arg-type]

    assert exam.redis_cli("PING") == command


def test_a_hostile_name_is_quoted_in_a_command() -> None:
    exam = Examination(None, None, config_of("redis://h:1/0"))  # type: ignore[arg-type]

    assert exam.redis_cli("TYPE", "x; rm -rf ~ $(y)").endswith("TYPE 'x; rm -rf ~ $(y)'")


def test_items_are_named_as_people_say_them() -> None:
    assert all(re.fullmatch(r"[a-z][a-z ]+", name) for name in ITEMS)
    assert str(Unknown("why")) == "why"
