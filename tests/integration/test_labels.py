"""Labels on real Kafka and Elasticsearch: late, early, shuffled, repeated and wrong; and the quality they give."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.dead_letters import reader
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, QualityMeasured
from machine_learning_engineering.events.topics import MEASUREMENTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from monitoring.elastic import client as elastic
from producers import dead_letter_replay as dead_letters
from producers.publisher import Outcome
from tests.support.deployment import Deployment
from tests.support.labelled import (
    DAY,
    caught_up,
    labelled_documents,
    logged_documents,
    publish,
    run_command,
    true_answers,
)
from tests.support.supervised import Supervised
from tests.support.waiting import until


def _empty(deployment: Deployment) -> None:
    """Without the documents of other tests, so that live quality is that of this one's."""
    client = elastic.connect(deployment.settings)
    try:
        for name in elastic.index_names(client, "inference-logs-*"):
            elastic.request(client, "DELETE", f"/{name}")
    finally:
        client.close()


def _measured(deployment: Deployment, joiner: Supervised, rows: int) -> QualityMeasured:
    """The last measurement, when it is one of so many rows."""
    until(lambda: joiner.metric("inflight_model_quality_rows") == rows, 300, f"{rows} rows are measured")
    found: list[QualityMeasured] = []

    def told() -> bool:
        records = list(read_to_end(deployment.settings, MEASUREMENTS))
        assert {record.key() for record in records} <= {b"diamonds"}
        found[:] = [event for record in records if (event := _quality(record.value())).rows == rows]
        return bool(found)

    until(told, 300, "the measurement is on its topic")
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
    joiner = deployment.label_joiner(quality_interval=1, label_joiner_batch_records=200)
    deployment.worker()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    deployment.load(2_000, prefix=prefix).report()
    deployment.settles()
    answers = true_answers(deployment, 2_000)
    chance = random.Random(deployment.settings.seed)
    wrong = [
        answer._replace(label=answer.label + 1.0, observed_at=DAY - timedelta(hours=1))
        for answer in chance.sample(answers, 300)
    ]
    chance.shuffle(answers)
    early, late = answers[:1_000], answers[1_000:]
    publish(deployment, early)
    caught_up(deployment)
    until(lambda: joiner.metric("inflight_pending_labels") == 1_000, 300, "half of the labels wait")
    assert logged_documents(deployment) == {}
    deployment.indexer()
    late = [*late, *wrong, *chance.sample(answers, 200)]
    chance.shuffle(late)
    publish(deployment, late)
    caught_up(deployment)
    documents = labelled_documents(deployment, 2_000)
    until(lambda: joiner.metric("inflight_pending_labels") == 0, 300, "no label waits any more")

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
            assert joiner.metric(f"inflight_model_quality{suffix}", **labels) == value
        assert joiner.metric("inflight_model_quality_reference", **labels) == metric.reference
    assert event.window_start < event.window_end

    # Everybody who reads labels from the log sees them.
    built = run_command(deployment, "features", "build", "diamonds", "--log", "elasticsearch", "--json")
    (mine,) = built if isinstance(built, list) else [built]
    assert (mine["labels"], mine["examples"]) == (2_000, 2_000)
    decision = run_command(
        deployment, "retrain", "diamonds", "--log", "elasticsearch", "--dry-run", "--json", "--significance", "0.05"
    )
    assert decision["evidence"]["labelled"] == 2_000
    deployment.stop(joiner)


@pytest.mark.usefixtures("search")
def test_the_labels_of_a_replay_are_published_by_a_command(deployment: Deployment, tmp_path: Path) -> None:
    """By the prefix of its ids, before or after; or by what is on the topic; or from a file."""
    deployment.worker()
    deployment.indexer()
    deployment.label_joiner()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    given = ("labels", "replay", "diamonds", "--id-prefix", prefix, "--limit", "300", "--shuffle", "--json")
    assert run_command(deployment, *given)["accepted"] == 300
    replayed = run_command(deployment, "replay", "diamonds", "--id-prefix", prefix, "--limit", "400", "--json")
    assert (replayed["accepted"], replayed["id_prefix"]) == (400, prefix)
    other = run_command(deployment, "replay", "diamonds", "--limit", "50", "--shift", "carat=2", "--json")
    assert other["id_prefix"] != prefix
    documents = labelled_documents(deployment, 300)
    answers = true_answers(deployment, 400)
    assert {name for name, one in documents.items() if "label" in one} == {one.request_id for one in answers[:300]}
    # The other hundred too, but none of the shifted ones, whose true answer nobody knows.
    assert run_command(deployment, "labels", "replay", "diamonds", "--json")["accepted"] == 400
    documents = labelled_documents(deployment, 400)
    assert {name: json.loads(one["label"]) for name, one in documents.items()} == {
        answer.request_id: answer.label for answer in answers
    }
    file = tmp_path / "sold.csv"
    now = datetime.now(UTC).isoformat()
    lines = [f"{one.request_id},diamonds,{one.label + 5},{now}" for one in answers[:20]]
    file.write_text("\n".join(["request_id,model,label,observed_at", *lines]) + "\n")
    assert run_command(deployment, "labels", "publish", str(file), "--json")["accepted"] == 20

    def corrected() -> bool:
        found = logged_documents(deployment)
        return all(json.loads(found[one.request_id]["label"]) == one.label + 5 for one in answers[:20])

    until(corrected, 300, "the labels of the file, observed later, are there")


@pytest.mark.usefixtures("search")
def test_labels_that_fit_nothing_are_dead_letters_which_can_be_replayed(deployment: Deployment) -> None:
    """By the reason; an unmatched one is joined when it is replayed after its request has come."""
    deployment.worker()
    deployment.indexer()
    deployment.serving(1)
    joiner = deployment.label_joiner(label_match_timeout=3)
    prefix = deployment.settings.topic_prefix
    deployment.load(10, prefix=prefix).report()
    deployment.settles(index=True)
    (right,) = true_answers(deployment, 1)
    unmatched = right._replace(request_id=f"{prefix}-00000011")
    answers = [
        right,
        right._replace(request_id=f"{prefix}-00000001", label="dear"),
        right._replace(request_id=f"{prefix}-00000002", model="titanic", label=True),
        unmatched,
    ]
    publish(deployment, answers)
    letters: list[reader.DeadLetter] = []

    def set_aside() -> bool:
        letters[:] = reader.select(deployment.settings, reader.Selection(stage="label"))
        return len(letters) >= 3

    until(set_aside, 300, "three labels are set aside")
    assert {letter.origin.reason: letter.origin.request_id for letter in letters} == {
        "invalid_label": f"{prefix}-00000001",
        "wrong_model_label": f"{prefix}-00000002",
        "unmatched_label": f"{prefix}-00000011",
    }
    assert {letter.key for letter in letters} == {(letter.origin.request_id or "").encode() for letter in letters}
    labelled_documents(deployment, 1)
    until(lambda: joiner.metric("inflight_pending_labels") == 0, 300, "no label waits any more")

    deployment.load(list(deployment.diamonds(12)), prefix=prefix).report()
    deployment.settles(index=True)
    outcomes: list[Outcome | str] = []
    again = reader.select(deployment.settings, reader.Selection(reason="unmatched_label"))
    report = dead_letters.replay(
        deployment.settings, again, on_result=lambda _letter, outcome: outcomes.append(outcome)
    )
    assert (report.accepted, outcomes) == (1, ["accepted"])
    documents = labelled_documents(deployment, 2)
    assert json.loads(documents[unmatched.request_id]["label"]) == unmatched.label
    shown = run_command(deployment, "dlq", "list", "--stage", "label", "--json")
    assert shown["matching"] == 3
