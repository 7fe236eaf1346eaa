"""Rules and alerts, by Prometheus's own tools, and against the metrics that our processes have."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from monitoring.archive.metrics import ArchiveMetrics
from monitoring.drift.metrics import DriftMonitorMetrics
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.feature_ingest.metrics import FeatureMetrics
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.quality.metrics import QualityMetrics
from monitoring.rollout.metrics import RolloutMetrics
from producers.gateway.metrics import GAUGES, GatewayMetrics
from stream_app.runtime.metrics import WorkerMetrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring" / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "monitoring" / "deploy" / "grafana" / "dashboards").glob("*.json"))
TESTS = sorted((Path(__file__).parent / "prometheus").glob("*.yml"))
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "rules.yml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yml").read_text())


def run(tool: str, *arguments: str) -> None:
    if shutil.which(tool) is None:
        assert not os.environ.get("REQUIRE_REAL"), f"{tool} is missing: install Debian's prometheus"
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([tool, *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def rules(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_files_are_valid() -> None:
    """Configuration, recording rules and alerts, as Prometheus reads them."""
    run("promtool", "check", "config", "prometheus.yml")


def test_the_routes_are_valid() -> None:
    """As Alertmanager reads them."""
    run("amtool", "check-config", "../alertmanager/alertmanager.yml")


def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    """See the cases in prometheus/*.yml."""
    run("promtool", "test", "rules", *map(str, TESTS))


def test_each_alert_has_both_cases() -> None:
    """One in which it fires, and one in which it does not."""
    tests = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    names = {rule["alert"] for rule in rules(ALERTS)}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_each_alert_says_what_to_do() -> None:
    """And how urgent it is."""
    for rule in rules(ALERTS):
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].count(".") >= 1
        page, _, heading = rule["annotations"]["runbook_url"].partition("#")
        assert heading == rule["alert"].lower()
        assert f"\n## {rule['alert']}\n" in (ROOT / page).read_text()


def test_every_metric_in_an_expression_exists() -> None:
    """A rule or a panel over a metric that nobody exposes would stay empty, and nobody would notice."""
    registries = [WorkerMetrics().registry]
    monitoring = (
        IndexerMetrics,
        DriftMonitorMetrics,
        LabelJoinerMetrics,
        QualityMetrics,
        FeatureMetrics,
        ArchiveMetrics,
        RolloutMetrics,
    )
    for metrics in (ExporterMetrics, *monitoring):
        registries.append(CollectorRegistry())
        metrics(registries[-1])
    registries.append(GatewayMetrics().registry)
    known = {"up"} | {rule["record"] for rule in rules(RULES)} | {f"inflight_gateway_{name}" for name in GAUGES}
    for registry in registries:
        for family in registry.collect():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            known |= {family.name + suffix for suffix in suffixes}
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    expressions = [rule["expr"] for rule in rules(RULES) + rules(ALERTS)]
    expressions += [
        target["expr"] for board in boards for panel in board["panels"] for target in panel.get("targets", ())
    ]
    # The lists above a board: label_values(metric, label).
    expressions += [variable["query"]["query"] for board in boards for variable in board["templating"]["list"]]
    named = set()
    for expression in expressions:
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', "", expression)
        named |= set(re.findall(r"\b(?:\w+:)?inflight_\w+(?::\w+)?", bare))
    assert len(named) > 15
    assert named <= known
