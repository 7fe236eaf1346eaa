"""No label is lost or joined twice when joiners are killed, come and go, or Elasticsearch is unavailable."""

import json
import random
import time
from typing import Any

import pytest
from msgspec import Raw

from inflight.demo.processes import Process
from inflight.settings import Settings
from machine_learning_engineering.dead_letters import reader
from machine_learning_engineering.events.topics import LABELS
from machine_learning_engineering.testing.log_store_examples import example
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import LABEL_JOINER
from producers.labels import RequestLabel, publish_labels
from tests.support.deployment import Deployment
from tests.support.labelled import (
    caught_up,
    labelled_documents,
    labels_behind,
    logged_documents,
    publish,
    true_answers,
)
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until


def _behind_less_than(deployment: Deployment, labels: int) -> None:
    until(lambda: labels_behind(deployment) < labels, 300, f"fewer than {labels} labels are to be joined")


def _killed(joiner: Supervised, times: int) -> None:
    until(lambda: len(joiner.exit_codes) == times, 300, "it was killed")


@pytest.mark.usefixtures("search")
def test_a_joiner_killed_in_the_middle_joins_each_label_once(deployment: Deployment) -> None:
    """kill -9, three times, with labels of requests that are there and of ones that are not yet."""
    deployment.worker()
    indexer = deployment.indexer()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(1_500, prefix=prefix).report()
    deployment.settles(index=True)
    answers = true_answers(deployment, 2_000)
    random.Random(deployment.settings.seed).shuffle(answers)
    publish(deployment, answers)
    joiner = deployment.label_joiner(label_joiner_batch_records=20)
    for kills in range(1, 4):
        waiting = labels_behind(deployment)
        _behind_less_than(deployment, max(waiting - 200, 1))
        deployment.kill(joiner)
        _killed(joiner, kills)
    caught_up(deployment)
    until(joiner.serves, 300, "the joiner serves")
    until(lambda: joiner.metric("inflight_pending_labels") == 500, 300, "labels without a logged request wait")
    labelled = {name for name, document in logged_documents(deployment).items() if "label" in document}
    assert len(labelled) == 1_500
    # The other requests come now: their labels are days older and survive one more kill.
    deployment.kill(joiner)
    load = deployment.load(list(deployment.diamonds(2_000)), prefix=prefix)
    load.report()
    documents = labelled_documents(deployment, 2_000)
    expected = {answer.request_id: answer.label for answer in answers}
    assert {name: json.loads(document["label"]) for name, document in documents.items()} == expected
    until(lambda: joiner.metric("inflight_pending_labels") == 0, 300, "no label waits any more")
    assert indexer.exit_codes == []
    assert not list(reader.select(deployment.settings, reader.Selection(stage="label")))


def test_a_search_node_that_is_away_costs_no_label(deployment: Deployment, search: Any) -> None:
    """Killed while labels are joined: the joiner waits, commits nothing meanwhile, and stays in its group."""
    deployment.worker()
    deployment.indexer()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(2_000, prefix=prefix).report()
    deployment.settles(index=True)
    joiner = deployment.label_joiner(label_joiner_batch_records=50)
    until(joiner.serves, 300, "the joiner serves")
    answers = true_answers(deployment, 2_000)
    publish(deployment, answers[:1_000])
    until(lambda: labels_behind(deployment) < 900, 300, "labels are joined")
    search.kill()
    stopped = time.monotonic()
    publish(deployment, answers[1_000:])
    until(lambda: joiner.metric("inflight_label_joiner_retries_total") >= 3, 300, "it tries again")
    behind = labels_behind(deployment)
    assert behind >= 1_000
    search.start()
    caught_up(deployment, 120)
    documents = labelled_documents(deployment, 2_000)
    expected = {answer.request_id: answer.label for answer in answers}
    assert {name: json.loads(document["label"]) for name, document in documents.items()} == expected
    assert joiner.exit_codes == []
    figures(away_and_caught_up=f"{time.monotonic() - stopped:.0f} s", behind=behind)


def test_joiners_come_and_go_on_each_kind_of_search_node(settings: Settings, each_search: Any) -> None:
    """A second one joins the group in the middle, and the first one is stopped: what waits is handed over."""
    environment = {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_LABEL_JOINER_BATCH_RECORDS": "20",
    }
    first, second = (
        Process(name, "label-joiner", settings.home / "processes", environment) for name in ("first", "second")
    )
    model = settings.topic_prefix + "unknown"
    ids = [f"{model}-{n}" for n in range(1_000)]
    random.Random(settings.seed).shuffle(ids)
    lag = LagReader(settings)

    def behind() -> int:
        return lag.read()[LABEL_JOINER, LABELS]

    def labels() -> dict[str, str]:
        return {one.request_id: bytes(one.label).decode() for one in log.read(model) if isinstance(one.label, Raw)}

    with ElasticsearchPredictionLog(settings) as log:
        log.append([example(one, model) for one in ids[:900]])
        try:
            first.start()
            report = publish_labels(settings, [RequestLabel(one, model, one) for one in ids])
            assert report.accepted == 1_000
            until(lambda: behind() < 900, 300, "labels are joined")
            second.start()
            until(lambda: behind() < 500, 300, "more labels are joined")
            first.stop()
            until(lambda: behind() == 0 and len(labels()) == 900, 300, "all labels are joined or wait")
            log.append([example(one, model) for one in ids[900:]])
            until(lambda: len(labels()) == 1_000, 300, "those that waited are joined by the second joiner")
        finally:
            first.kill()
            second.kill()
            lag.close()
        assert labels() == {one: f'"{one}"' for one in ids}
