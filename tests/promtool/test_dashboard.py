"""The dashboard's queries as Prometheus reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.promtool.conftest import Promtool

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "config/grafana-dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_prometheus_reads_every_query(promtool: Promtool, tmp_path: Path) -> None:
    filled = [
        re.sub(r"\$(job|instance)", ".*", query.replace("$__rate_interval", "1m"))
        for query in [*QUERIES, *(note["expr"] for note in DASHBOARD["annotations"]["list"])]
    ]
    rules = [{"record": f"query_{index}", "expr": query} for index, query in enumerate(filled)]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    found = promtool("check", "rules", str(path))

    assert (found.returncode, found.stderr) == (0, "")
    assert f"{len(filled)} rules found" in found.stdout
    assert "$" not in "".join(filled)


def test_panels_lie_beside_each_other_and_are_told_apart() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            assert x < 24
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(numbers)
