"""Labels on real Kafka and Elasticsearch: late, early, shuffled and repeated, through kills and outages."""

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from inflight.demo.processes import Process
from machine_learning_engineering import events
from machine_learning_engineering.events import PredictionCompleted, QualityMeasured
from machine_learning_engineering.kafka import read_to_end
from machine_learning_engineering.model import MLEModel
from machine_learning_engineering.prediction_log.examples import example
from machine_learning_engineering.registry import Registry
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.topics import LABELS, MEASUREMENTS, RESULTS
from monitoring import search as search_node
from monitoring.groups import JOINER
from monitoring.lag import LagReader
from monitoring.prediction_log import ElasticsearchPredictionLog
from producers import dead_letters
from producers.labels import TrueAnswer, publish_labels
from producers.publisher import Outcome
from tests.integration.deployment import Deployment, Supervised, figures, until

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def _answers(deployment: Deployment, count: int) -> list[TrueAnswer]:
    """The true answers of the first diamonds, as a replay with the test's prefix numbers them."""
    prefix = deployment.settings.topic_prefix
    return [TrueAnswer(f"{prefix}-{n:08d}", "diamonds", label, DAY) for n, label in enumerate(deployment.prices(count))]


def _published(deployment: Deployment, answers: list[TrueAnswer]) -> None:
    report = publish_labels(deployment.settings, answers)
    assert report.accepted == len(answers)


def _documents(deployment: Deployment, pattern: str = "inference-logs-*") -> dict[str, dict[str, Any]]:
    """The field `inference` of each document of the test, by request id."""
    found: dict[str, dict[str, Any]] = {}
    client = search_node.connect(deployment.settings)
    try:
        search_node.call(client, "POST", f"/{pattern}/_refresh")
        body: dict[str, Any] = {
            "size": 5_000,
            "sort": [{"inference.request_id": "asc"}],
            "query": {"prefix": {"inference.request_id": deployment.settings.topic_prefix}},
        }
        while hits := search_node.hits(client, pattern, body):
            for hit in hits:
                inference = hit["_source"]["inference"]
                assert inference["request_id"] not in found
                found[inference["request_id"]] = inference
            body["search_after"] = hits[-1]["sort"]
    finally:
        client.close()
    return found


def _behind(deployment: Deployment) -> int:
    return deployment._lag.read()[JOINER, LABELS]


def _caught_up(deployment: Deployment, seconds: float = 60.0) -> None:
    until(lambda: _behind(deployment) == 0, seconds, "every label is read and committed")


def _behind_less_than(deployment: Deployment, labels: int) -> None:
    until(lambda: _behind(deployment) < labels, 60, f"fewer than {labels} labels are to be joined")


def _killed(joiner: Supervised, times: int) -> None:
    until(lambda: len(joiner.exit_codes) == times, 10, "it was killed")


def _labelled(deployment: Deployment, count: int, seconds: float = 90.0) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def all_labelled() -> bool:
        found.update(_documents(deployment))
        return sum("label" in document for document in found.values()) >= count

    until(all_labelled, seconds, f"{count} documents are labelled")
    return found


def _empty(deployment: Deployment) -> None:
    """Without the documents of other tests, so that live quality is that of this one's."""
    client = search_node.connect(deployment.settings)
    try:
        for name in search_node.index_names(client, "inference-logs-*"):
            search_node.call(client, "DELETE", f"/{name}")
    finally:
        client.close()


def _cli(deployment: Deployment, *arguments: str) -> Any:
    environment = {**os.environ, **deployment.environment}
    done = subprocess.run(
        [sys.executable, "-m", "inflight.cli", *arguments], env=environment, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _measured(deployment: Deployment, joiner: Supervised, rows: int) -> QualityMeasured:
    """The last measurement, when it is one of so many rows."""
    until(lambda: joiner.metric("inflight_live_quality_rows") == rows, 60, f"{rows} rows are measured")
    found: list[QualityMeasured] = []

    def told() -> bool:
        records = list(read_to_end(deployment.settings, MEASUREMENTS))
        assert {record.key() for record in records} <= {b"diamonds"}
        found[:] = [event for record in records if (event := _quality(record.value())).rows == rows]
        return bool(found)

    until(told, 30, "the measurement is on its topic")
    return found[-1]


def _quality(value: bytes) -> QualityMeasured:
    event = events.decode_measurement(value)
    assert isinstance(event, QualityMeasured)
    return event


@pytest.mark.usefixtures("search")
def test_labels_late_early_and_shuffled_are_joined_and_the_quality_is_the_models_own(
    deployment: Deployment, diamonds: MLEModel
) -> None:
    """Half of the labels come before their requests are in the log; some come thrice, some wrong at first."""
    _empty(deployment)
    joiner = deployment.joiner(joiner_measure_seconds=1, joiner_batch_records=200)
    deployment.worker()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(2_000, prefix=prefix).report()
    deployment.settles()
    answers = _answers(deployment, 2_000)
    chance = random.Random(deployment.settings.seed)
    wrong = [
        answer._replace(label=answer.label + 1.0, observed_at=DAY - timedelta(hours=1))
        for answer in chance.sample(answers, 300)
    ]
    chance.shuffle(answers)
    early, late = answers[:1_000], answers[1_000:]
    _published(deployment, early)
    _caught_up(deployment)
    until(lambda: joiner.metric("inflight_waiting_labels") == 1_000, 30, "half of the labels wait")
    assert _documents(deployment) == {}
    deployment.indexer()
    late = [*late, *wrong, *chance.sample(answers, 200)]
    chance.shuffle(late)
    _published(deployment, late)
    _caught_up(deployment)
    documents = _labelled(deployment, 2_000)
    until(lambda: joiner.metric("inflight_waiting_labels") == 0, 60, "no label waits any more")

    assert len(documents) == 2_000
    for answer in answers:
        document = documents[answer.request_id]
        assert json.loads(document["label"]) == answer.label
        assert (document["label_observed_at"], document["labelled"]) == ("2026-01-01T00:00:00Z", True)
    results = {
        result: joiner.metric("inflight_labels_total", result=result)
        for result in ("joined", "replaced", "repeated", "superseded")
    }
    assert results["joined"] == 2_000
    assert sum(results.values()) == joiner.metric("inflight_labels_total") == 2_500
    assert results["superseded"] + results["replaced"] == 300
    assert results["repeated"] == 200

    # What the model itself says of the same answers.
    predictions = {}
    for record in read_to_end(deployment.settings, RESULTS):
        result = events.decode_result(record.value())
        assert isinstance(result, PredictionCompleted)
        predictions[result.request_id] = msgspec.json.decode(result.prediction, type=diamonds.Prediction)
    ordered = sorted(answers, key=lambda answer: answer.request_id)
    expected = diamonds.evaluate([predictions[one.request_id] for one in ordered], [one.label for one in ordered])
    event = _measured(deployment, joiner, 2_000)
    assert (event.model, event.model_version, event.confidence) == ("diamonds", diamonds.version, 0.95)
    assert {metric.name for metric in event.metrics} == expected.keys()
    recorded = Registry(deployment._models.registry_dir).manifest("diamonds", diamonds.version).metrics
    for metric in event.metrics:
        assert metric.value == pytest.approx(expected[metric.name], rel=1e-9)
        assert metric.lower < metric.value < metric.upper
        assert metric.reference == recorded[metric.name]
        labels = {"model": "diamonds", "model_version": diamonds.version, "metric": metric.name}
        labels["primary"] = "true" if metric.name == "r2" else "false"
        for suffix, value in (("", metric.value), ("_lower", metric.lower), ("_upper", metric.upper)):
            assert joiner.metric(f"inflight_live_quality{suffix}", **labels) == value
        assert joiner.metric("inflight_live_quality_reference", **labels) == metric.reference
    assert event.window_start < event.window_end

    # Everybody who reads labels from the log sees them.
    built = _cli(deployment, "features", "build", "diamonds", "--log", "elasticsearch", "--json")
    (mine,) = built if isinstance(built, list) else [built]
    assert (mine["labels"], mine["examples"]) == (2_000, 2_000)
    decision = _cli(
        deployment, "retrain", "diamonds", "--log", "elasticsearch", "--dry-run", "--json", "--significance", "0.05"
    )
    assert decision["evidence"]["labelled"] == 2_000
    assert deployment.stop(joiner) < 15


@pytest.mark.usefixtures("search")
def test_a_joiner_killed_in_the_middle_joins_each_label_once(deployment: Deployment) -> None:
    """kill -9, three times, with labels of requests that are there and of ones that are not yet."""
    deployment.worker()
    indexer = deployment.indexer()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(3_000, prefix=prefix).report()
    deployment.settles(index=True)
    answers = _answers(deployment, 4_000)
    random.Random(deployment.settings.seed).shuffle(answers)
    _published(deployment, answers)
    joiner = deployment.joiner(joiner_batch_records=20)
    for kills in range(1, 4):
        waiting = _behind(deployment)
        _behind_less_than(deployment, max(waiting - 200, 1))
        deployment.kill(joiner)
        _killed(joiner, kills)
    _caught_up(deployment)
    until(joiner.serves, 30, "the joiner serves")
    until(lambda: joiner.metric("inflight_waiting_labels") == 1_000, 30, "what is not logged yet waits")
    labelled = {name for name, document in _documents(deployment).items() if "label" in document}
    assert len(labelled) == 3_000
    # The other requests come now: their labels are days older and survive one more kill.
    deployment.kill(joiner)
    load = deployment.load(list(deployment.diamonds(4_000)), prefix=prefix)
    load.report()
    documents = _labelled(deployment, 4_000)
    expected = {answer.request_id: answer.label for answer in answers}
    assert {name: json.loads(document["label"]) for name, document in documents.items()} == expected
    until(lambda: joiner.metric("inflight_waiting_labels") == 0, 60, "no label waits any more")
    assert indexer.exit_codes == []
    assert not list(dead_letters.select(deployment.settings, dead_letters.Selection(stage="label")))


def test_a_search_node_that_is_away_costs_no_label(deployment: Deployment, search: Any) -> None:
    """Killed while labels are joined: the joiner waits, commits nothing meanwhile, and stays in its group."""
    deployment.worker()
    deployment.indexer()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(2_000, prefix=prefix).report()
    deployment.settles(index=True)
    joiner = deployment.joiner(joiner_batch_records=50)
    until(joiner.serves, 30, "the joiner serves")
    answers = _answers(deployment, 2_000)
    _published(deployment, answers[:1_000])
    until(lambda: _behind(deployment) < 900, 60, "labels are joined")
    search.kill()
    stopped = time.monotonic()
    _published(deployment, answers[1_000:])
    until(lambda: joiner.metric("inflight_joiner_retries_total") >= 3, 60, "it tries again")
    behind = _behind(deployment)
    assert behind >= 1_000
    search.start()
    _caught_up(deployment, 120)
    documents = _labelled(deployment, 2_000)
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
        "INFLIGHT_JOINER_BATCH_RECORDS": "20",
    }
    variable = "INFLIGHT_JOINER_METRICS_PORT"
    first, second = (
        Process(name, ["inflight.cli", "joiner"], settings.home / "processes", environment, port_variable=variable)
        for name in ("first", "second")
    )
    model = settings.topic_prefix + "unknown"
    ids = [f"{model}-{n}" for n in range(1_000)]
    random.Random(settings.seed).shuffle(ids)
    lag = LagReader(settings)

    def behind() -> int:
        return lag.read()[JOINER, LABELS]

    def labels() -> dict[str, str]:
        return {one.request_id: bytes(one.label).decode() for one in log.read(model) if isinstance(one.label, Raw)}

    with ElasticsearchPredictionLog(settings) as log:
        log.append([example(one, model) for one in ids[:900]])
        try:
            first.start()
            report = publish_labels(settings, [TrueAnswer(one, model, one) for one in ids])
            assert report.accepted == 1_000
            until(lambda: behind() < 900, 60, "labels are joined")
            second.start()
            until(lambda: behind() < 500, 60, "more labels are joined")
            first.stop()
            until(lambda: behind() == 0 and len(labels()) == 900, 60, "all labels are joined or wait")
            log.append([example(one, model) for one in ids[900:]])
            until(lambda: len(labels()) == 1_000, 60, "those that waited are joined by the second joiner")
        finally:
            first.kill()
            second.kill()
            lag.close()
        assert labels() == {one: f'"{one}"' for one in ids}


@pytest.mark.usefixtures("search")
def test_labels_that_fit_nothing_are_dead_letters_which_can_be_replayed(deployment: Deployment) -> None:
    """By the reason; an unmatched one is joined when it is replayed after its request has come."""
    deployment.worker()
    deployment.indexer()
    deployment.serving(1)
    joiner = deployment.joiner(joiner_label_patience=3)
    prefix = deployment.settings.topic_prefix
    deployment.load(10, prefix=prefix).report()
    deployment.settles(index=True)
    (right,) = _answers(deployment, 1)
    unmatched = right._replace(request_id=f"{prefix}-00000011")
    answers = [
        right,
        right._replace(request_id=f"{prefix}-00000001", label="dear"),
        right._replace(request_id=f"{prefix}-00000002", model="titanic", label=True),
        unmatched,
    ]
    _published(deployment, answers)
    letters: list[dead_letters.DeadLetter] = []

    def set_aside() -> bool:
        letters[:] = dead_letters.select(deployment.settings, dead_letters.Selection(stage="label"))
        return len(letters) >= 3

    until(set_aside, 60, "three labels are set aside")
    assert {letter.origin.reason: letter.origin.request_id for letter in letters} == {
        "invalid-label": f"{prefix}-00000001",
        "wrong-model-label": f"{prefix}-00000002",
        "unmatched-label": f"{prefix}-00000011",
    }
    assert {letter.key for letter in letters} == {(letter.origin.request_id or "").encode() for letter in letters}
    _labelled(deployment, 1)
    until(lambda: joiner.metric("inflight_waiting_labels") == 0, 30, "no label waits any more")

    deployment.load(list(deployment.diamonds(12)), prefix=prefix).report()
    deployment.settles(index=True)
    outcomes: list[Outcome | str] = []
    again = dead_letters.select(deployment.settings, dead_letters.Selection(reason="unmatched-label"))
    report = dead_letters.replay(
        deployment.settings, again, on_letter=lambda _letter, outcome: outcomes.append(outcome)
    )
    assert (report.accepted, outcomes) == (1, ["accepted"])
    documents = _labelled(deployment, 2)
    assert json.loads(documents[unmatched.request_id]["label"]) == unmatched.label
    shown = _cli(deployment, "dlq", "list", "--stage", "label", "--json")
    assert shown["matching"] == 3


@pytest.mark.usefixtures("search")
def test_the_labels_of_a_replay_are_published_by_a_command(deployment: Deployment, tmp_path: Path) -> None:
    """By the prefix of its ids, before or after; or by what is on the topic; or from a file."""
    deployment.worker()
    deployment.indexer()
    deployment.joiner()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    given = ("labels", "replay", "diamonds", "--id-prefix", prefix, "--limit", "300", "--shuffle", "--json")
    assert _cli(deployment, *given)["accepted"] == 300
    replayed = _cli(deployment, "replay", "diamonds", "--id-prefix", prefix, "--limit", "400", "--json")
    assert (replayed["accepted"], replayed["id_prefix"]) == (400, prefix)
    other = _cli(deployment, "replay", "diamonds", "--limit", "50", "--shift", "carat=2", "--json")
    assert other["id_prefix"] != prefix
    documents = _labelled(deployment, 300)
    answers = _answers(deployment, 400)
    assert {name for name, one in documents.items() if "label" in one} == {one.request_id for one in answers[:300]}
    # The other hundred too, but none of the shifted ones, whose true answer nobody knows.
    assert _cli(deployment, "labels", "replay", "diamonds", "--json")["accepted"] == 400
    documents = _labelled(deployment, 400)
    assert {name: json.loads(one["label"]) for name, one in documents.items()} == {
        answer.request_id: answer.label for answer in answers
    }
    file = tmp_path / "sold.csv"
    lines = [f"{one.request_id},diamonds,{one.label + 5},2036-01-01T00:00:00Z" for one in answers[:20]]
    file.write_text("\n".join(["request_id,model,label,observed_at", *lines]) + "\n")
    assert _cli(deployment, "labels", "publish", str(file), "--json")["accepted"] == 20

    def corrected() -> bool:
        found = _documents(deployment)
        return all(json.loads(found[one.request_id]["label"]) == one.label + 5 for one in answers[:20])

    until(corrected, 60, "the labels of the file, observed later, are there")
