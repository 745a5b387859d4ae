"""The alert rules as Prometheus reads them: each fires for what it is for, and for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.promtool.conftest import Promtool
from tests.promtool.series import CASES, Case

RULES = Path(__file__).parents[2] / "config/alert-rules.yml"
ALL = [(alert, case) for alert, cases in CASES.items() for case in cases]


def tried(promtool: Promtool, folder: Path, case: Case, **checks: Any) -> tuple[int, str]:
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        **checks,
    }
    path = folder / "test.json"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [test]}))
    found = promtool("test", "rules", str(path))
    return found.returncode, found.stdout + found.stderr


def _selector(labels: dict[str, str]) -> str:
    return f"{{{','.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def test_prometheus_reads_the_rules(promtool: Promtool) -> None:
    found = promtool("check", "rules", str(RULES))

    assert (found.returncode, found.stderr) == (0, "")
    assert f"{len(CASES)} rules found" in found.stdout


@pytest.mark.parametrize(("alert", "case"), ALL, ids=[f"{alert}: {case.what}" for alert, case in ALL])
def test_an_alert_fires_for_what_it_is_for_alone(promtool: Promtool, tmp_path: Path, alert: str, case: Case) -> None:
    # Severity is the rule's affair: here it matters which series fire.
    query = f'sum without (alertstate, severity) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    samples = [{"labels": _selector({"alertname": alert, **labels}), "value": 1} for labels in case.fires]

    code, said = tried(
        promtool, tmp_path, case, promql_expr_test=[{"expr": query, "eval_time": case.at, "exp_samples": samples}]
    )

    assert code == 0, said


def test_every_alert_is_tried_both_ways() -> None:
    assert set(re.findall(r"- alert: (\w+)", RULES.read_text())) == set(CASES)
    for cases in CASES.values():
        assert {bool(case.fires) for case in cases} == {True, False}


@pytest.mark.parametrize("alert", CASES)
def test_what_an_alert_says_is_whole(promtool: Promtool, tmp_path: Path, alert: str) -> None:
    case = next(case for case in CASES[alert] if case.fires)
    nothing = {"alertname": alert, "eval_time": case.at, "exp_alerts": []}

    code, said = tried(promtool, tmp_path, case, alert_rule_test=[nothing])

    assert code != 0
    (annotations,) = re.findall(r"Annotations:\{(.*)\}", said)
    (labels,) = re.findall(r"Labels:\{(.*)\}", said)
    assert re.search(r'severity="(critical|warning)"', labels)
    assert f'runbook_url="docs/operations.md#{alert.lower()}"' in annotations
    for value in re.findall(r'(?:summary|description)="([^"]*)"', annotations):
        assert re.fullmatch(r"[^<>{}]+", value)
        assert "  " not in value
