"""Labels for the requests of a deployment, and what of them stands in its log."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from machine_learning_engineering.events.topics import LABELS
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from monitoring.runtime.groups import LABEL_JOINER
from producers.labels import RequestLabel, publish_labels
from tests.support.deployment import Deployment
from tests.support.waiting import until

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def true_answers(deployment: Deployment, count: int) -> list[RequestLabel]:
    """The true answers of the first diamonds, as a replay with the test's prefix numbers them."""
    prefix = deployment.settings.topic_prefix
    return [
        RequestLabel(f"{prefix}-{n:08d}", "diamonds", label, DAY) for n, label in enumerate(deployment.prices(count))
    ]


def publish(deployment: Deployment, answers: list[RequestLabel]) -> None:
    report = publish_labels(deployment.settings, answers)
    assert report.accepted == len(answers)


def logged_documents(deployment: Deployment, pattern: str = "inference-logs-*") -> dict[str, dict[str, Any]]:
    """The field `inference` of each document of the test, by request id."""
    found: dict[str, dict[str, Any]] = {}
    client = elastic.connect(deployment.settings)
    try:
        elastic.request(client, "POST", f"/{pattern}/_refresh")
        body: dict[str, Any] = {
            "size": 5_000,
            "sort": [{"inflight.request_id": "asc"}],
            "query": {"prefix": {"inflight.request_id": deployment.settings.topic_prefix}},
        }
        while hits := scan.hits(client, pattern, body):
            for hit in hits:
                inference = hit["_source"]["inflight"]
                assert inference["request_id"] not in found
                found[inference["request_id"]] = inference
            body["search_after"] = hits[-1]["sort"]
    finally:
        client.close()
    return found


def labels_behind(deployment: Deployment) -> int:
    return deployment._lag.read()[LABEL_JOINER, LABELS]


def caught_up(deployment: Deployment, seconds: float = 300.0) -> None:
    until(lambda: labels_behind(deployment) == 0, seconds, "every label is read and committed")


def labelled_documents(deployment: Deployment, count: int, seconds: float = 300.0) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def all_labelled() -> bool:
        found.update(logged_documents(deployment))
        return sum("label" in document for document in found.values()) >= count

    until(all_labelled, seconds, f"{count} documents are labelled")
    return found


def run_command(deployment: Deployment, *arguments: str) -> Any:
    environment = {**os.environ, **deployment.environment}
    done = subprocess.run(
        [sys.executable, "-m", "inflight.cli", *arguments], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
