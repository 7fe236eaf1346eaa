"""A real stream feeds the dashboards: every process runs, then every query of every panel answers with all columns."""

import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from elasticsearch import Elasticsearch

from inflight.demo.bad_records import bad_records
from inflight.settings import Settings
from inflight.stack.maven import missing_tools
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.kafka.promotions import announce_promotion
from machine_learning_engineering.registry.registry import Registry
from model.catalog import available
from monitoring.dashboards.lint import check_queries, count_queries
from monitoring.dashboards.source import Dashboard, load_all
from monitoring.elastic.client import connect, request
from producers.labels import RequestLabel, publish_labels
from producers.replay import replay
from tests.support.dashboard_documents import TRACEPARENT, forget
from tests.support.deployment import Deployment
from tests.support.waiting import figures, until

pytestmark = [
    pytest.mark.usefixtures("search"),
    pytest.mark.skipif(bool(missing_tools()), reason="ES|QL needs the real search node, and that Java and Maven"),
]

REQUESTS_EACH = 600
"""Of each model whose dataset has so many rows; from the middle on the diamonds are three times as heavy."""
WINDOW = 200


@pytest.fixture
def deployment(settings: Settings, all_models: Settings) -> Iterator[Deployment]:
    """A deployment with all models."""
    model = Registry(all_models.registry_dir).open("diamonds", model_class=available()["diamonds"])
    with Deployment(settings, all_models, model) as found:
        yield found


def examples(name: str, data_dir: Path) -> list[Example]:
    """The first rows of a model's dataset."""
    return list(islice(available()[name].examples(data_dir), REQUESTS_EACH))


def features(name: str, rows: list[Example]) -> Iterator[dict[str, Any]]:
    """As they are sent: a few can't be understood, and the later diamonds are heavy."""
    for number, row in enumerate(rows):
        if number % 97 == 5:
            yield {"nonsense": True}
        elif name == "diamonds" and number >= REQUESTS_EACH / 2:
            yield row.features | {"carat": row.features["carat"] * 3}
        else:
            yield row.features


def publish_bad_records(settings: Settings) -> int:
    """Records that end as dead letters or as failed requests, each with a trace; how many are dead letters."""
    producer = Producer(producer_options(settings))
    records = bad_records("bad")
    for record in records:
        headers = {"traceparent": TRACEPARENT.encode()}
        producer.produce(topic_name(settings, REQUESTS), record.value, record.key, headers=headers)
    assert producer.flush(30) == 0
    return sum(record.is_dead_letter for record in records)


def complaints(client: Elasticsearch, dashboards: list[Dashboard]) -> dict[tuple[str, str], list[str]]:
    """What the panels of dashboards still lack, by dashboard and panel."""
    found: dict[tuple[str, str], list[str]] = {}
    # A bucket is shown when it is whole: of a range of a week that takes half an hour.
    for one in check_queries(client, dashboards, datetime.now(UTC) + timedelta(minutes=31)):
        lacks = [str(problem) for problem in one.problems]
        if one.result is not None and not one.result.rows:
            lacks.append("no rows")
        for column in one.panel.columns if one.result is not None and not one.problems else ():
            place = one.result.names.index(column.column)
            if all(row[place] is None for row in one.result.rows):
                lacks.append(f"{column.column} is null in all rows")
        if lacks:
            found[one.dashboard.id, one.panel.id] = lacks
    return found


def only(dashboards: list[Dashboard], panels: Container[tuple[str, str]]) -> list[Dashboard]:
    """The dashboards with these panels alone, by dashboard and panel."""
    return [
        msgspec.structs.replace(board, panels=tuple(panel for panel in board.panels if (board.id, panel.id) in panels))
        for board in dashboards
    ]


def test_a_stream_feeds_every_panel(deployment: Deployment, all_models: Settings) -> None:
    """All processes, on requests for all models, bad records, a promotion and labels."""
    settings, prefix = deployment.settings, deployment.settings.topic_prefix.rstrip("-")
    with connect(settings) as client:
        forget(client)
        deployment.worker()
        deployment.indexer()
        deployment.drift_monitor(drift_window_rows=WINDOW, drift_rows_per_second=1e9)
        deployment.label_joiner(quality_interval=1.0)
        deployment.serving(1)
        started = time.monotonic()
        rows = {name: examples(name, all_models.data_dir) for name in available()}
        for name, of_model in rows.items():
            sent = replay(settings, features(name, of_model), model=name, id_prefix=f"{prefix}-{name}", trace=True)
            assert sent.accepted == len(of_model) > WINDOW
        dead = publish_bad_records(settings)
        announce_promotion(settings, "diamonds", "v1", reason="for the test", previous="v0")
        now = datetime.now(UTC)
        answers = [
            RequestLabel(f"{prefix}-{name}-{number:08d}", name, row.label, now)
            for name, of_model in rows.items()
            for number, row in enumerate(of_model)
        ]
        assert publish_labels(settings, answers).accepted == len(answers)

        # The documents only become more: a panel that has an answer keeps it.
        # Nothing is rolled out here: test_dashboard_queries executes the panels of rollouts on documents of one.
        left, wanted = {}, [board for board in load_all() if board.id != "inflight-rollouts"]

        def nothing_is_missing() -> bool:
            nonlocal left, wanted
            request(client, "POST", "/inference-*/_refresh")
            left = complaints(client, wanted)
            wanted = only(wanted, left)
            return not left

        try:
            until(nothing_is_missing, 300, "every panel has an answer")
        except AssertionError as error:
            raise AssertionError(f"{error}: {left}") from None
        took = time.monotonic() - started
        counted = request(client, "GET", "/inference-dead-letters-*/_count")["count"]
        forget(client)
    assert counted >= dead
    figures(panels=count_queries(load_all()), seconds=f"{took:.0f}", requests=len(answers), dead_letters=counted)
