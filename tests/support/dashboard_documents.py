"""Documents for the dashboards: an hour of all topics, made from events by the product's own functions.

So a field that a dashboard names and that no event feeds is missing here too.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from elasticsearch import Elasticsearch

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import (
    ApiCalled,
    DriftDetected,
    DriftMeasured,
    Error,
    FieldDrift,
    LiveMetric,
    ModelPromoted,
    PredictionLogged,
    PredictionShadowed,
    QualityMeasured,
    RolloutArm,
    RolloutChanged,
)
from monitoring.documents.api_call import call_document
from monitoring.documents.dead_letter import dead_letter_document
from monitoring.documents.drift import drift_documents
from monitoring.documents.log import document_id, index_name, label_fields, to_document
from monitoring.documents.model_event import model_event_document
from monitoring.documents.quality import quality_documents
from monitoring.documents.shadow import shadow_document
from monitoring.elastic.client import request

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SPAN = timedelta(hours=1)
FIELDS = {
    "diamonds": ["features.carat", "features.cut", "features.depth", "predictions.price"],
    "titanic": ["features.age", "features.sex", "predictions.probability"],
    "reviews": ["features.text", "predictions.score", "predictions.label"],
}
METRICS = {
    "diamonds": {"r2": 0.98, "mae": 270.0, "rmse": 540.0},
    "titanic": {"accuracy": 0.83, "roc_auc": 0.88, "f1": 0.77, "log_loss": 0.41},
    "reviews": {"macro_f1": 0.71, "accuracy": 0.72, "sentence_macro_f1": 0.66, "mae": 0.6},
}
SENTENCES = ["Great battery.", "It broke after a week.", "It is a cable."]

Document = tuple[str, str, bytes]
"""Index, id and document."""


def features_and_answer(model: str, chance: random.Random) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Features, prediction and label of one request."""
    if model == "diamonds":
        price = round(chance.lognormvariate(7.8, 0.9), 2)
        cut = chance.choice(["Fair", "Good", "Very Good", "Premium", "Ideal"])
        return {"carat": round(price / 4_000, 2), "cut": cut, "depth": 61.5}, {"price": price}, round(price * 1.04, 2)
    if model == "titanic":
        probability = chance.betavariate(0.8, 1.2)
        answer = {"survived": probability >= 0.5, "probability": probability}
        return (
            {"pclass": 3, "sex": chance.choice(["female", "male"]), "age": 22.0},
            answer,
            chance.random() < probability,
        )
    score = chance.betavariate(1.6, 1.1)
    label = "negative" if score < 1 / 3 else "neutral" if score <= 2 / 3 else "positive"
    rest = (1 - score) / 2
    answer = {
        "score": score,
        "label": label,
        "probabilities": {"negative": rest, "neutral": rest, "positive": score},
        "sentence_scores": [score, min(1.0, score + 0.1)],
    }
    return {"text": chance.choice(SENTENCES)}, answer, round(1 + 4 * score, 1)


def logged(count: int, until: datetime) -> Iterator[Document]:
    """Requests of the hour: three models in turn, some failed, every third one labelled, whether it failed or not."""
    chance = random.Random(7)
    for number in range(count):
        model = ("diamonds", "titanic", "reviews")[number % 3]
        accepted_at = until - SPAN * (1 - (number + 0.5) / count)
        features, prediction, label = features_and_answer(model, chance)
        failure = {11: "invalid_features", 23: "prediction_error", 35: "unknown_model"}.get(number % 37)
        queue, score = chance.expovariate(200), chance.expovariate(500)
        event = PredictionLogged(
            request_id=f"{model}-{number}",
            model="cars" if failure == "unknown_model" else model,
            outcome="failed" if failure else "completed",
            features=msgspec.Raw(msgspec.json.encode([1] if failure == "invalid_features" else features)),
            requested_at=accepted_at - timedelta(milliseconds=2),
            accepted_at=accepted_at,
            completed_at=accepted_at + timedelta(seconds=queue + score),
            queue_seconds=queue,
            score_seconds=score,
            total_seconds=queue + score,
            batch_size=chance.randint(1, 64),
            partition=number % 4,
            offset=number // 4,
            model_version=msgspec.UNSET if failure == "unknown_model" else "v2" if number > count / 2 else "v1",
            prediction=msgspec.UNSET if failure else msgspec.Raw(msgspec.json.encode(prediction)),
            error=Error(failure, f"{failure}: said for people") if failure else msgspec.UNSET,  # type: ignore[arg-type]
            traceparent=TRACEPARENT if number % 2 else msgspec.UNSET,
            rollout=RolloutArm("r-1", "champion", "v1", "v2", "pepper", 0) if model == "diamonds" else msgspec.UNSET,
        )
        document = to_document(event)
        if number % 9 < 3 and failure != "unknown_model":
            # The fields that the label joiner adds. It finds the document by the request id, so a failed request is
            # labelled too.
            fields = msgspec.json.decode(document)
            observed_at = accepted_at + timedelta(minutes=30)
            fields["inflight"] |= label_fields(msgspec.json.encode(label).decode(), observed_at, observed_at)
            document = msgspec.json.encode(fields)
        yield index_name(accepted_at), document_id(event.request_id), document


def measured(until: datetime) -> Iterator[tuple[str, str, msgspec.Struct]]:
    """Six windows of each model, of which the last two drifted, and as many measurements of live metrics."""
    chance = random.Random(8)
    for model, names in FIELDS.items():
        for number in range(6):
            end = until - SPAN * (5.5 - number) / 6
            drifted = model != "titanic" and number >= 4
            fields = [
                FieldDrift(
                    field=name,
                    kind="prediction" if name.startswith("predictions") else "feature",
                    statistic="chi-square" if name in ("features.cut", "features.text") else "kolmogorov-smirnov",
                    psi=(differs := 0.31 if drifted and place == 0 else chance.uniform(0.0, 0.05)),
                    p_value=1e-9 if differs > 0.1 else 0.4,
                    p_adjusted=1e-8 if differs > 0.1 else 1.0,
                    drifted=differs > 0.1,
                    missing_rate=0.2 if name == "features.age" else 0.0,
                    unseen_rate=chance.uniform(0.0, 0.02) + (0.7 if name == "features.text" else 0.0),
                    out_of_range_rate=chance.uniform(0.0, 0.01),
                    reference_missing_rate=0.19 if name == "features.age" else 0.0,
                    detail="battery" if name == "features.text" else "",
                    reference_unseen_rate=0.7 if name == "features.text" else 0.0,
                )
                for place, name in enumerate(names)
            ]
            shared: dict[str, Any] = {
                "model": model,
                "model_version": "v2",
                "window_id": f"{model}-{number}",
                "window_start": end - SPAN / 6,
                "window_end": end,
                "rows": 1_000,
                "significance": 0.01,
            }
            yield from drift_documents(DriftMeasured(closed_by="count", min_psi=0.1, fields=fields, **shared))
            if drifted:
                alarm = DriftDetected(detected_at=end, fields=[one for one in fields if one.drifted], **shared)
                yield model_event_document(alarm)
            metrics = [
                LiveMetric(name, value * factor, value * factor * 0.97, value * factor * 1.03, value)
                for name, value in METRICS[model].items()
                for factor in [chance.uniform(0.95, 1.0)]
            ]
            # Labels of the version before come in for a while, too.
            worse = [LiveMetric(one.name, one.value / 2, one.lower / 2, one.upper / 2, one.value) for one in metrics]
            for version, measured_metrics in (("v2", metrics), ("v1", worse)):
                yield from quality_documents(
                    QualityMeasured(model, version, end, end - SPAN, end, 500, 0.95, measured_metrics)
                )
        yield model_event_document(ModelPromoted(model, "v2", until - SPAN / 2, "r2 0.981 > 0.979", "v1"))


def dead_letters(until: datetime) -> Iterator[tuple[str, str, msgspec.Struct]]:
    """Some of each reason and stage."""
    reasons = (("undecodable", "score"), ("too_large", "score"), ("key-mismatch", "score"), ("index_rejected", "index"))
    for number in range(24):
        reason, stage = reasons[number % 7 % 4]
        known = number % 2 == 0
        origin = DeadLetterOrigin(
            reason=reason,
            message=f"{reason}: what to do",
            stage=stage,
            topic="prediction-requests" if stage == "score" else "prediction-logs",
            partition=number % 4,
            offset=number,
            model="diamonds" if known else None,
            request_id=f"dead-{number}" if known else None,
        )
        headers = dead_letter_headers(origin, [("traceparent", TRACEPARENT.encode())])
        at = round((until - SPAN * (number + 0.5) / 24).timestamp() * 1_000)
        yield dead_letter_document("prediction-dead-letters", number % 4, number, at, 40 + number, headers)


def calls(until: datetime) -> Iterator[tuple[str, str, msgspec.Struct]]:
    """Calls of the gateway, every fifth of which is refused."""
    for number in range(20):
        event = ApiCalled(
            call_id=f"call-{number}",
            method="POST",
            route="/v1/models/{model}/predictions",
            status=422 if number % 5 == 0 else 200,
            started_at=until - SPAN * (number + 0.5) / 20,
            seconds=0.01,
            request_bytes=30,
            response_bytes=120,
            caller="shop",
            model="titanic",
            model_version="v1",
            request_id=f"called-{number}",
            rows=1,
            problem="invalid-features" if number % 5 == 0 else msgspec.UNSET,
            request_body=msgspec.Raw(b'{"features":{"age":22}}'),
            response_body=msgspec.Raw(b'{"prediction":{"survived":false}}'),
            traceparent=TRACEPARENT,
        )
        yield call_document(event)


def rollouts(until: datetime) -> Iterator[tuple[str, str, msgspec.Struct]]:
    """A shadow of the hour: every fourth answer differs, some were dropped and some failed; and the steps around it."""
    for number in range(120):
        outcome = {7: "dropped", 9: "failed"}.get(number % 20, "completed")
        accepted_at = until - SPAN * (number + 0.5) / 120
        event = PredictionShadowed(
            request_id=f"diamonds-{3 * number}",
            model="diamonds",
            rollout_id="r-1",
            role="challenger",
            served_version="v1",
            shadow_version="v2",
            outcome=outcome,  # type: ignore[arg-type]
            accepted_at=accepted_at,
            completed_at=accepted_at + timedelta(milliseconds=4),
            partition=number % 4,
            offset=number,
            served_seconds=0.002,
            prediction=msgspec.Raw(b'{"price":%d}' % (300 + number)),
            shadow_prediction=msgspec.Raw(b'{"price":%d}' % (300 + number + (number % 4 == 0) * number))
            if outcome == "completed"
            else msgspec.UNSET,
            shadow_seconds=msgspec.UNSET if outcome == "dropped" else 0.003,
            error=Error("prediction_error", "ValueError in predict") if outcome == "failed" else msgspec.UNSET,
            memory_bytes=200_000_000,
        )
        yield shadow_document(event)
    for step, (action, stage) in enumerate((("started", "shadow"), ("widened", "canary"), ("rolled_back", "finished"))):
        yield model_event_document(
            RolloutChanged(
                model="diamonds",
                rollout_id="r-1",
                step=step + 1,
                action=action,
                changed_at=until - SPAN * (0.8 - 0.3 * step),
                by="controller",
                reason="better on 214 of 300 labels",
                stage=stage,
                percent=step % 2,
                champion="v1",
                challenger="v2",
            )
        )


def documents(until: datetime, requests: int = 720) -> Iterator[Document]:
    """Everything of the hour before `until`."""
    yield from logged(requests, until)
    for found in (measured(until), dead_letters(until), calls(until), rollouts(until)):
        for index, identity, document in found:
            yield index, identity, msgspec.json.encode(document)


def feed(client: Elasticsearch, until: datetime, requests: int = 720) -> None:
    """Index all of it; its templates have to be there."""
    lines = []
    for index, identity, document in documents(until, requests):
        lines += [msgspec.json.encode({"create": {"_index": index, "_id": identity}}), document]
    answer = call_bulk(client, b"\n".join([*lines, b""]))
    assert not answer["errors"], [item for item in answer["items"] if item["create"]["status"] != 201][:3]


def call_bulk(client: Elasticsearch, lines: bytes) -> Any:
    headers = {"accept": "application/json", "content-type": "application/x-ndjson"}
    return client.perform_request("POST", "/_bulk?refresh=true", headers=headers, body=lines).body


def forget(client: Elasticsearch) -> None:
    """Delete every index of the product: another test's may have other types for the same fields."""
    for index in request(client, "GET", "/inference-*/_settings", filter_path="*.settings.index.uuid"):
        request(client, "DELETE", f"/{index}")
