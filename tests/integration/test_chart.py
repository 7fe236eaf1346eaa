"""The chart as Helm renders it: lint, every rule of ours, the schemas of Kubernetes, and Checkov."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.generate import CHART, PLAIN, ROOT, plain_manifest
from machine_learning_engineering.events.topics import REQUESTS
from monitoring.runtime.groups import READS, WORKER
from tests.support import manifests
from tests.support.tools import TOOLS, run, tool

VALUES = sorted((CHART.parent / "tests" / "values").glob("*.yaml"))
EXAMPLES = sorted((CHART.parent / "examples" / "values").glob("*.yaml"))
ALL = [*VALUES, *EXAMPLES, PLAIN / "values.yaml"]


def rendered(values: Path, *more: str) -> str:
    helm = tool("helm", "chart")
    return run(helm, "template", "inflight", CHART, "--namespace", "inflight", "--values", values, *more)


def test_there_are_twelve_files_of_values() -> None:
    assert len(VALUES) >= 12


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_it_lints_and_keeps_every_rule(values: Path) -> None:
    run(tool("helm", "chart"), "lint", "--strict", CHART, "--values", values)
    assert manifests.problems(manifests.read(rendered(values))) == []


def test_the_plain_manifest_is_what_helm_renders() -> None:
    assert (PLAIN / "inflight.yaml").read_text() == plain_manifest(tool("helm", "chart")), "python -m deploy.generate"


def test_the_scaler_asks_for_metrics_that_there_are_up_to_the_partitions() -> None:
    for name in ("everything", "autoscaled"):
        values = next(path for path in VALUES if path.stem.endswith(name))
        objects = manifests.read(rendered(values))
        (scaled,) = manifests.of_kind(objects, "ScaledObject")
        (worker,) = [one for one in manifests.pods(objects) if one.container["args"] == ["worker"]]
        partitions = int(manifests.environment(worker.container)["INFLIGHT_TOPIC_PARTITIONS"])
        assert 1 <= scaled["spec"]["minReplicaCount"] <= scaled["spec"]["maxReplicaCount"] <= partitions
        assert "replicas" not in worker.owner["spec"]
        assert scaled["spec"]["scaleTargetRef"]["name"] == worker.owner["metadata"]["name"]
        query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        assert set(re.findall(r"inflight_\w+", query)) <= manifests.exported_metrics()
        assert f'group="{WORKER}"' in query
        assert READS[WORKER] == (REQUESTS,)


def test_each_process_gets_what_it_needs_and_no_more() -> None:
    """Secrets and ways out of the pod."""
    objects = manifests.read(rendered(next(path for path in VALUES if path.stem.endswith("everything"))))
    by_name = {pod.metadata["labels"]["app.kubernetes.io/component"]: pod for pod in manifests.pods(objects)}
    secrets = {
        name: {one["valueFrom"]["secretKeyRef"]["name"] for one in pod.container["env"] if "valueFrom" in one}
        | {volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume}
        for name, pod in by_name.items()
    }
    assert secrets["worker"] == {"inflight-kafka", "inflight-signing"}
    assert secrets["indexer"] == {"inflight-kafka", "inflight-search", "search-ca"}
    assert secrets["archive"] == {"inflight-kafka", "inflight-archive"}
    assert secrets["archive-migrate"] == {"inflight-archive-owner"}
    assert {name for name, found in secrets.items() if "inflight-keys" in found} == {"gateway"}
    ports = {
        policy["metadata"]["name"].removeprefix("inflight-"): {
            port["port"] for rule in policy["spec"].get("egress", ()) for port in rule["ports"]
        }
        for policy in manifests.of_kind(objects, "NetworkPolicy")
    }
    assert ports["default"] == {53}
    assert ports["worker"] == {9093, 443}
    assert ports["indexer"] == {9093, 9200}
    assert ports["archive"] == {9093, 5432}
    assert ports["archive-migrate"] == {5432}
    assert ports.keys() == {*by_name, "default"}


def test_rules_and_boards_arrive_as_they_are_here() -> None:
    values = next(path for path in VALUES if path.stem.endswith("everything"))
    objects = manifests.read(rendered(values))
    (rule,) = manifests.of_kind(objects, "PrometheusRule")
    alerts = [one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one]
    source = (ROOT / "monitoring" / "deploy" / "prometheus" / "alerts.yml").read_text()
    assert [one["alert"] for one in alerts] == re.findall(r"- alert: (\w+)", source)
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].startswith("https://example.com/inflight/docs/runbooks.md#")
    boards = [one for one in manifests.of_kind(objects, "ConfigMap") if "dashboard" in one["metadata"]["name"]]
    folder = ROOT / "monitoring" / "deploy" / "grafana" / "dashboards"
    assert {name for board in boards for name in board["data"]} == {path.name for path in folder.glob("*.json")}


def test_the_schemas_of_kubernetes_and_of_custom_resources_take_it(tmp_path: Path) -> None:
    kubeconform = tool("kubeconform", "chart")
    run(sys.executable, "-m", "deploy.schemas", tmp_path / "schemas", cwd=ROOT)
    for values in ALL:
        (tmp_path / f"{values.stem}.yaml").write_text(rendered(values))
    location = str(tmp_path / "schemas") + "/{{.ResourceKind}}{{.KindSuffix}}.json"
    files = sorted(tmp_path.glob("*.yaml"))
    output = run(kubeconform, "-strict", "-summary", "-schema-location", location, *files)
    assert "Invalid: 0, Errors: 0, Skipped: 0" in output
    # And it finds what is wrong.
    wrong = files[0].read_text().replace("containerPort: 9101", "containerPorts: 9101", 1)
    (tmp_path / "wrong.yml").write_text(wrong)
    result = subprocess.run(
        [kubeconform, "-strict", "-schema-location", location, tmp_path / "wrong.yml"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "containerPorts" in result.stdout


def test_checkov_finds_nothing_but_what_its_configuration_explains(tmp_path: Path) -> None:
    checkov = tool("checkov-env/bin/checkov", "chart")
    (tmp_path / "all.yaml").write_text(rendered(VALUES[2]))
    # Its own updates and reports are calls to the network.
    environment = {**os.environ, "CKV_SKIP_PACKAGE_UPDATE": "true", "LOG_LEVEL": "ERROR"}
    config = CHART.parent / "checkov.yaml"
    output = run(checkov, "--config-file", config, "--file", tmp_path / "all.yaml", env=environment, cwd=tmp_path)
    assert int(re.findall(r"Passed checks: (\d+)", output)[-1]) > 500
    assert re.findall(r"Failed checks: (\d+)", output)[-1] == "0"
    assert TOOLS.exists()
