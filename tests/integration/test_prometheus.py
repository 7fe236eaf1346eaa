"""A real Prometheus scrapes a run of the stream: every rule and every alert is executed on what it found."""

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inflight.demo.bad_records import DIAMOND, bad_records
from inflight.stack.process import free_port
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import read_to_end
from producers.labels import RequestLabel, publish_labels
from producers.request_builder import Record, Source
from tests.support.deployment import Deployment
from tests.support.http_clients import call
from tests.support.prometheus import FOLDER, Prometheus, observed
from tests.support.waiting import until

DASHBOARDS = sorted((FOLDER.parent / "grafana" / "dashboards").glob("*.json"))
ROLLOUTS = FOLDER.parent / "grafana" / "dashboards" / "rollouts.json"
"""Nothing is rolled out in this run: see test_rollout_board."""
METRICS_PAGE = FOLDER.parents[2] / "docs" / "metrics.md"
ONLY_OF_FAULTS = {
    "inflight_archive_retries_total",
    "inflight_indexer_retries_total",
    "inflight_label_joiner_retries_total",
    "inflight_retrainer_errors_total",
    "inflight_retrainer_look_timestamp_seconds",
    "inflight_retrainer_running_timestamp_seconds",
    "inflight_retrainer_runs_total",
    "inflight_rollout_challenger_ratio",
    "inflight_rollout_check",
    "inflight_rollout_controller_errors_total",
    "inflight_rollout_counted_requests",
    "inflight_rollout_different_answers_total",
    "inflight_rollout_ended_rollouts",
    "inflight_rollout_ended_timestamp_seconds",
    "inflight_rollout_labelled_requests",
    "inflight_rollout_left_out_labels",
    "inflight_rollout_limit_seconds",
    "inflight_rollout_mature_requests",
    "inflight_rollout_mean_loss",
    "inflight_rollout_paused",
    "inflight_rollout_requests_total",
    "inflight_rollout_score_seconds",
    "inflight_rollout_shadows_total",
    "inflight_rollout_stage",
    "inflight_rollout_stage_seconds",
    "inflight_rollout_step_info",
    "inflight_rollout_verdict",
    "inflight_worker_arm_records_total",
    "inflight_worker_rollout_info",
    "inflight_worker_rollout_percent",
    "inflight_worker_rollout_refused",
    "inflight_worker_shadow_memory_bytes",
    "inflight_worker_shadow_records_total",
    "inflight_worker_shadow_restarts_total",
    "inflight_worker_shadow_up",
    "inflight_worker_shadow_waiting_records",
    "inflight_worker_source_tombstones_total",
    "inflight_worker_source_unknown_fields_total",
    "inflight_worker_unusual_values_total",
}
"""Without a fault, a rollout, a retrainer, a source or an adopted model they have no series: see test_rollout_board,
test_shadow, test_retrainer_processes, test_archive, test_faults_search, test_labels_faults, test_bound_topics and
test_adopt."""


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / file).read_text())["groups"] for rule in group["rules"]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def running(deployment: Deployment, tmp_path: Path, port: int) -> Iterator[tuple[Deployment, Prometheus]]:
    with observed(deployment, tmp_path / "prometheus", quality_interval=1, gateway_port=port) as (prometheus, _):
        yield deployment, prometheus


@pytest.mark.usefixtures("search")
def test_every_rule_and_every_panel_finds_something_and_no_alert_fires(
    running: tuple[Deployment, Prometheus], port: int
) -> None:
    """Requests, failures and dead letters flow: each recording rule has a series. Alerts execute, and are silent."""
    deployment, prometheus = running

    def source() -> Iterator[Source]:
        # A hundredth of them bad, as the threshold for dead letters is.
        # In the order of the dataset, which is roughly that of their prices, they would look drifted.
        yield from random.Random(1).sample(list(deployment.diamonds(50_000)), 4_000)
        yield from (Record(bad.value, bad.key) for bad in bad_records("bad-"))

    until(lambda: prometheus.has("up == 1"), 300, "Prometheus scrapes")
    prefix = deployment.settings.topic_prefix
    load = deployment.load(source(), rate=400, prefix=prefix)
    started = time.monotonic()
    recorded = [rule["record"] for rule in rules("rules.yml")]
    missing = set(recorded)

    def all_recorded() -> bool:
        # Some come over HTTP all the time, and some of these are wrong.
        assert call(port, "POST", "/v1/diamonds/value", DIAMOND).status == 200
        assert call(port, "POST", "/v1/diamonds/value", DIAMOND | {"carat": -1}).status == 422
        missing.difference_update([name for name in missing if prometheus.has(name)])
        return not missing

    load.report()
    # The same draw from the labels as from the features.
    labels = random.Random(1).sample(list(deployment.prices(50_000)), 4_000)
    publish_labels(
        deployment.settings, (RequestLabel(f"{prefix}-{n:08d}", "diamonds", label) for n, label in enumerate(labels))
    )
    for expression in ("inflight_model_quality_rows >= 2000", 'sum(inflight_labels_total{result="joined"}) >= 4000'):
        until(lambda expression=expression: prometheus.has(expression), 300, f"labels are joined: {expression}")  # type: ignore[misc]
    try:
        until(all_recorded, 300, "each recording rule has a series")
    except AssertionError:
        raise AssertionError(f"no series after {time.monotonic() - started:.0f} s: {sorted(missing)}") from None
    (completed,) = prometheus.query('sum(inflight_predictions_total{outcome="completed"})')
    assert float(completed["value"][1]) >= 4_000
    for rule in rules("alerts.yml"):
        prometheus.query(rule["expr"])
    assert not prometheus.query('ALERTS{alertstate="firing"}')
    boards = [json.loads(path.read_text()) for path in DASHBOARDS if path != ROLLOUTS]
    panels = [panel for board in boards for panel in board["panels"] if "targets" in panel]
    assert panels
    for panel in panels:
        for target in panel["targets"]:
            expression = re.sub(r"\$(model|job|route)", ".*", target["expr"])
            if "ALERTS" not in expression:
                # A zero that stands in for a series that does not exist proves nothing.
                expression = expression.removesuffix(" or vector(0)")
            found = prometheus.query(expression)
            assert found, f"panel {panel['title']!r} shows nothing: {expression}"
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert labels <= found[0]["metric"].keys(), f"panel {panel['title']!r} names labels that it does not have"
            if target.get("exemplar"):
                traces = {exemplar["labels"]["trace_id"] for exemplar in prometheus.exemplars(expression)}
                assert traces & traced(deployment), f"panel {panel['title']!r} has no exemplar of a request"
    assert any(target.get("exemplar") for panel in panels for target in panel["targets"])
    known = described()
    fed = scraped(prometheus, known)
    assert fed - known == set(), "not in docs/metrics.md"
    assert known - fed == ONLY_OF_FAULTS, "nothing feeds them"


def described() -> set[str]:
    """The metrics of docs/metrics.md."""
    return set(re.findall(r"^\| `(inflight_\w+)` \|", METRICS_PAGE.read_text(), re.MULTILINE))


def scraped(prometheus: Prometheus, known: set[str]) -> set[str]:
    """The metrics of ours that have a series, by the names that they are declared with."""
    found = set()
    for one in prometheus.query('count by (__name__) ({__name__=~"inflight_.+", job=~"inflight-.+"})'):
        name = one["metric"]["__name__"]
        stem = re.sub(r"_(bucket|count|sum|created)$", "", name)
        found.add(next((whole for whole in (name, stem, f"{stem}_total") if whole in known), name))
    return found


def traced(deployment: Deployment) -> set[str]:
    """The trace ids of the requests."""
    return {
        value.decode().split("-")[1]
        for message in read_to_end(deployment.settings, REQUESTS)
        for name, value in message.headers() or ()
        if name == "traceparent"
    }
