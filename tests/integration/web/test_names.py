"""The dashboard, the alert rules and the handbook name what a worker shows, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.integration.web.test_listener import served
from tests.kit.queue_scripts import NORMAL, QueueScripts, task
from tests.kit.servers import free_port
from tests.kit.workers import eventually

ROOT = Path(__file__).parents[3]
RULES = (ROOT / "config/alert-rules.yml").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((ROOT / "config/grafana-dashboard.json").read_text(encoding="utf-8"))
HANDBOOK = (ROOT / "docs/operations.md").read_text(encoding="utf-8")

LABELS_OF_THE_SCRAPE = {"job", "instance"}


def queries() -> list[str]:
    """Return every query of rules and dashboard."""
    rules = re.findall(r"^        expr: (?:>-\n)?((?:.+\n(?:          .+\n)*))", RULES, re.MULTILINE)
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    variables = [one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return [*rules, *panels, *variables, *(note["expr"] for note in DASHBOARD["annotations"]["list"])]


@pytest.fixture
async def scraped(queue: QueueScripts, redis_url: str) -> str:
    async with served(redis_url, free_port()) as client:
        queue.client.lpush(NORMAL, task("f", args={"strategy_id": 7}), b"no task")

        async def after_tasks() -> str:
            text = (await client.get("/metrics")).text
            return text if "aworker_task_run_seconds_count{" in text and 'outcome="rejected"' in text else ""

        text: str = await eventually(after_tasks)
        return text


async def test_every_query_asks_for_series_that_are_there(scraped: str) -> None:
    labels: dict[str, set[str]] = {}
    for family in read_text(scraped):
        # One without a series yet has none of its labels.
        labels.setdefault(family.name + "_total" * (family.type == "counter"), set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    labels["aworker_task_retries_total"] |= {"task_type", "reason"}
    labels["aworker_tasks_running"] |= {"task_type", "queue"}

    found = queries()
    assert len(found) > 70
    for query in found:
        names = re.findall(r"\b((?:aworker|process)_\w+)", query)
        for name in names:
            assert name in labels, query
        for name, matchers in re.findall(r"\b((?:aworker|process)_\w+)\{([^}]*)\}", query):
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
                assert label in labels[name] | LABELS_OF_THE_SCRAPE, query
        known = set().union(*(labels[name] for name in names)) | LABELS_OF_THE_SCRAPE
        for grouped in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", query):
            assert set(re.split(r",\s*", grouped)) <= known, query


async def test_the_handbook_tells_of_every_metric_and_of_no_other(scraped: str) -> None:
    shown: dict[str, set[str]] = {}
    for family in read_text(scraped):
        if family.name.startswith("aworker"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            shown[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    rows = dict(re.findall(r"^\| `(aworker_\w+)(.*?)` \|", HANDBOOK, re.MULTILINE))

    assert set(rows) == set(shown)
    for name, labels in shown.items():
        assert not labels or labels == set(re.findall(r"\w+", rows[name])), name


def test_every_alert_has_its_section() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES)
    links = re.findall(r"runbook_url: docs/operations\.md#(\w+)", RULES)

    assert links == [alert.lower() for alert in alerts]
    sections = HANDBOOK.partition("\n## Alerts\n")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert [section.split("\n")[0] for section in sections] == alerts
    for section in sections:
        assert len(section.split()) > 40, section.split("\n")[0]
