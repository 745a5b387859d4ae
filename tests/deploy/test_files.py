"""The files that deploy a worker, each before a schema or a parser that is not ours, and against what it does."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from aworker.config import Config, load_config
from tests.kit.commands import ROOT

SCHEMAS = ROOT / "tests" / "data" / "schemas"
KUBERNETES = "1.34"
DRAIN_S = Config().worker.drain_timeout_s + Config().pool.stop_grace_s + 3
"""What a worker may take to end: `drain_timeout_s`, then what handlers have to stop."""

Documents = list[dict[str, Any]]


def documents(name: str) -> Documents:
    return [each for each in yaml.safe_load_all((ROOT / name).read_text()) if each]


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text())


# compose.yaml


def check_compose(compose: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(schema("compose-spec.json")).validate(compose)


def test_compose_is_as_its_specification_says() -> None:
    (compose,) = documents("compose.yaml")

    check_compose(compose)


@pytest.mark.parametrize(
    "service, field, value",
    [("worker", "read_onli", True), ("valkey", "healthcheck", {"tests": []}), ("worker", "cap_drop", "ALL")],
)
def test_compose_would_be_refused_if_it_were_wrong(service: str, field: str, value: Any) -> None:
    (compose,) = documents("compose.yaml")
    compose["services"][service][field] = value

    with pytest.raises(jsonschema.ValidationError):
        check_compose(compose)


def test_compose_keeps_what_the_worker_asks_for() -> None:
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    worker, valkey = services["worker"], services["valkey"]

    assert seconds(worker["stop_grace_period"]) > DRAIN_S
    assert worker["image"] == f"aworker:{version('aworker')}"
    assert (worker["read_only"], worker["cap_drop"]) == (True, ["ALL"])
    assert "noeviction" in valkey["command"]
    assert valkey["command"][valkey["command"].index("--appendonly") + 1] == "yes"
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))
    for service in services.values():
        assert re.search(r":v?\d+\.\d+", service["image"]), "pinned"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists()


def test_the_environment_that_compose_gives_is_a_configuration(tmp_path: Path) -> None:
    (compose,) = documents("compose.yaml")

    config = load_config(None, environment={k: str(v) for k, v in compose["services"]["worker"]["environment"].items()})

    assert (config.http.host, config.http.port, config.http.hosts) == ("0.0.0.0", 9464, ("worker",))
    assert config.redis.url == "redis://valkey:6379/0"


def test_prometheus_reads_its_configuration() -> None:
    (told,) = documents("config/prometheus.yml")
    (compose,) = documents("compose.yaml")
    (source,) = documents("config/grafana/datasources/prometheus.yml")
    (provider,) = documents("config/grafana/dashboards/aworker.yml")

    (target,) = told["scrape_configs"][0]["dns_sd_configs"]
    assert target["names"] == ["worker"]
    assert target["port"] == int(compose["services"]["worker"]["environment"]["AWORKER_HTTP__PORT"])
    assert (
        f"./config/{told['rule_files'][0]}:/etc/prometheus/{told['rule_files'][0]}:ro"
        in (compose["services"]["prometheus"]["volumes"])
    )
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    folder = provider["providers"][0]["options"]["path"]
    assert any(f":{folder}/" in volume for volume in compose["services"]["grafana"]["volumes"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_it_too(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "alert-rules.yml"):
        shutil.copy(ROOT / "config" / name, tmp_path)

    def verdict() -> int:
        return subprocess.run(
            ["promtool", "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, check=False
        ).returncode

    assert verdict() == 0
    (tmp_path / "prometheus.yml").write_text("scrape_configs: [{jobs: x}]\n")
    assert verdict() != 0


# Kubernetes


def check_kubernetes(many: Documents) -> None:
    for document in many:
        if document["apiVersion"].startswith("keda.sh/"):
            if document["kind"] == "ScaledObject":
                jsonschema.validate(document, schema("keda-scaledobject.json"))
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def manifests() -> Documents:
    return documents("config/kubernetes/aworker.yaml") + documents("config/kubernetes/scaling.yaml")


def the(kind: str, many: Documents) -> dict[str, Any]:
    (found,) = [document for document in many if document["kind"] == kind]
    return found


def test_the_manifests_are_as_kubernetes_and_keda_say() -> None:
    many = manifests()

    check_kubernetes(many)
    assert {document["kind"] for document in many} == {
        *("ConfigMap", "Deployment", "PodDisruptionBudget", "ScaledObject", "TriggerAuthentication")
    }


def _misspell(many: Documents) -> None:
    the("Deployment", many)["spec"]["template"]["spec"]["terminationGracePeriod"] = 45


def _no_number(many: Documents) -> None:
    the("PodDisruptionBudget", many)["spec"]["minAvailable"] = ["1"]


def _no_selector(many: Documents) -> None:
    del the("Deployment", many)["spec"]["selector"]


def _no_target(many: Documents) -> None:
    del the("ScaledObject", many)["spec"]["scaleTargetRef"]


def _number_for_text(many: Documents) -> None:
    the("ScaledObject", many)["spec"]["triggers"][0]["metadata"]["listLength"] = 50


@pytest.mark.parametrize("spoil", [_misspell, _no_number, _no_selector, _no_target, _number_for_text])
def test_manifests_would_be_refused_if_they_were_wrong(spoil: Callable[[Documents], None]) -> None:
    many = copy.deepcopy(manifests())
    spoil(many)

    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check_kubernetes(many)


def test_the_manifests_keep_what_the_worker_asks_for(tmp_path: Path) -> None:
    many = manifests()
    pod = the("Deployment", many)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (tmp_path / "aworker.toml").write_text(the("ConfigMap", many)["data"]["aworker.toml"])

    config = load_config(tmp_path / "aworker.toml", environment={})

    assert pod["terminationGracePeriodSeconds"] > config.worker.drain_timeout_s + config.pool.stop_grace_s + 3
    assert container["image"] == f"aworker:{version('aworker')}"
    assert container["ports"] == [{"name": "http", "containerPort": config.http.port}]
    assert container["env"][0]["name"] == "AWORKER_REDIS__URL"
    assert "password" not in (ROOT / "config/kubernetes/aworker.yaml").read_text().split("apiVersion")[1]
    for probe, path in (("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    # A worker that waits for Redis is not ready and lives; it must not be restarted while a handler may hold the loop.
    assert container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"] >= 60
    labels = the("Deployment", many)["spec"]["template"]["metadata"]["labels"]
    assert the("PodDisruptionBudget", many)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scaled = the("ScaledObject", many)["spec"]
    assert scaled["scaleTargetRef"]["name"] == the("Deployment", many)["metadata"]["name"]
    assert {trigger["metadata"]["listName"] for trigger in scaled["triggers"]} == {one.name for one in Config().queues}


# The image


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile: (instruction, value)."""
    parser = DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes()))
    found: list[list[tuple[str, str]]] = []
    for each in parser.structure:
        if each["instruction"] == "FROM":
            found.append([])
        if each["instruction"] != "COMMENT":
            found[-1].append((each["instruction"], each["value"]))
    return found


def told(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [value for name, value in stage if name == instruction]


def test_the_last_stage_is_small_pinned_and_nobodys() -> None:
    build, last = stages()
    commands = " ".join(told(last, "RUN"))

    for stage in (build, last):
        (base,) = told(stage, "FROM")
        assert re.match(r"python:3\.\d+\.\d+-slim-\w+", base)
    assert told(last, "USER") == ["10001:10001"]
    assert [name for name, _ in last].index("USER") > max(at for at, (name, _) in enumerate(last) if name == "RUN")
    assert not re.search(r"\b(gcc|g\+\+|build-essential|make|cmake|rustc|pip)\b", commands)
    assert "--no-install-recommends" in commands
    assert "rm -rf /var/lib/apt/lists/*" in commands
    assert all(re.search(r"=\d", word) for word in re.findall(r"recommends (.*?) &&", commands)[0].split())
    assert told(last, "STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(told(last, "ENTRYPOINT")[0]) == ["tini", "--", "aworker"]
    assert json.loads(told(last, "CMD")[0]) == ["run"]
    (health,) = told(last, "HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == ["aworker", "check", "--ready"]


def test_what_the_image_copies_is_there_and_not_kept_from_it() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for stage in stages()
        for value in told(stage, "COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    ]

    assert sorted(copied) == sorted(kept)
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_installs_extras_that_there_are() -> None:
    extras = re.search(r"\.\[([\w,]+)\]", (ROOT / "Dockerfile").read_text())
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert extras is not None
    assert set(extras[1].split(",")) <= known.keys()


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))
