"""The plain manifest and the generated files of the chart. They are rules about files: no Helm is needed."""

from pathlib import Path

import pytest
import yaml

from deploy.generate import CHART, HEAD, PLAIN, PROMETHEUS, described_values, generated, outdated
from inflight.settings import Settings
from inflight.supervisor.specs import READY as SUPERVISED
from machine_learning_engineering.observability.health import READY
from tests.support import manifests

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"


@pytest.fixture(scope="module")
def objects() -> list[manifests.Manifest]:
    return manifests.read((PLAIN / "inflight.yaml").read_text())


def test_generated_files_are_those_of_their_sources() -> None:
    """Rules, alerts, boards, ports, and the README's table."""
    assert outdated(generated()) == [], "run: python -m deploy.generate"


def test_the_plain_manifest_keeps_every_rule(objects: list[manifests.Manifest]) -> None:
    assert (PLAIN / "inflight.yaml").read_text().startswith(HEAD)
    assert manifests.problems(objects) == []
    assert len(list(manifests.pods(objects))) >= 9


def test_every_process_with_metrics_is_in_the_chart_and_scraped() -> None:
    table = yaml.safe_load((CHART / "files" / "processes.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    ports = {name: one["port"] for name, one in table.items() if one["kind"] == "Deployment"}
    # The retrainer is the CronJob for machines without one.
    assert ports == {name: port for name, port in Settings().metrics_ports.items() if name != "retrainer"}
    assert set(ports) <= set(values["processes"])
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["job_name"].removeprefix("inflight-"): job["dns_sd_configs"][0]["port"] for job in jobs}
    assert scraped == ports


def test_probes_ask_for_what_the_supervisor_asks_for() -> None:
    assert all(any(name in pattern for pattern in SUPERVISED.values()) for name in READY)
    assert len(READY) == len(SUPERVISED)


def test_each_value_says_what_it_is() -> None:
    """The schema knows it, and it is not said twice."""
    text = (CHART / "values.yaml").read_text()
    paths = [path for path, _, _ in described_values(text)]
    assert len(paths) == len(set(paths)) > 60
    values = yaml.safe_load(text)
    for path in paths:
        found = values
        for key in path.split("."):
            found = found[key]


def test_the_page_says_what_ran() -> None:
    text = PAGE.read_text()
    for command in ("make chart", "make cluster", "make terraform"):
        assert command in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"), "may gain rights"),
        (lambda pod: pod["containers"][0].update(image="inflight:latest"), "has no version"),
        (lambda pod: pod["containers"][0].update(args=["wroker"]), "is no command"),
        (lambda pod: pod["containers"][0]["env"].append({"name": "INFLIGHT_KAFKA_SERVER", "value": ""}), "no setting"),
        (lambda pod: pod["containers"][0]["resources"].pop("limits"), "no limits"),
        (lambda pod: pod["containers"][0].pop("readinessProbe"), "no readinessProbe"),
        (lambda pod: pod["containers"][0]["ports"][0].update(containerPort=9999), "not that of its metrics"),
        (lambda pod: pod.update(automountServiceAccountToken=True), "has a token"),
        (lambda pod: pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}}), "a folder of the node"),
        (lambda pod: pod.update(serviceAccountName="other"), "no such service account"),
    ],
)
def test_the_rules_find_what_breaks_them(change, problem) -> None:
    objects = manifests.read((PLAIN / "inflight.yaml").read_text())
    worker = next(
        pod for pod in manifests.pods(objects) if pod.metadata["labels"]["app.kubernetes.io/component"] == "worker"
    )
    change(worker.spec)
    assert any(problem in found for found in manifests.problems(objects))
