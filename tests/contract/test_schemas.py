"""The schemas that we publish, the bytes that we write, and those that we wrote once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from cloudevents.conversion import to_dict
from cloudevents.http import CloudEvent
from cloudevents.kafka import KafkaMessage, from_binary, to_binary
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from machine_learning_engineering.events import json_schema as schemas
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import carried
from machine_learning_engineering.events.schemas import (
    ApiCalled,
    DriftDetected,
    DriftMeasured,
    Error,
    FieldDrift,
    LabelReported,
    LiveMetric,
    ModelPromoted,
    PredictionCompleted,
    PredictionFailed,
    PredictionLogged,
    PredictionRequested,
    PredictionShadowed,
    QualityMeasured,
    RolloutArm,
    RolloutChanged,
    SourcePosition,
)
from machine_learning_engineering.events.topics import TOPICS

GENERATED = Path(__file__).parents[2] / "docs" / "schemas"
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
DECODERS: dict[str, Any] = {
    "prediction.requested": events.decode_request,
    "prediction.completed": events.decode_result,
    "prediction.failed": events.decode_result,
    "prediction.logged": events.decode_log,
    "prediction.shadowed": events.decode_shadow,
    "label.reported": events.decode_label,
    "drift.measured": events.decode_measurement,
    "drift.detected": events.decode_model_event,
    "quality.measured": events.decode_measurement,
    "rollout.changed": events.decode_model_event,
    "model.promoted": events.decode_model_event,
    "api.called": events.decode_api_call,
}

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
SECONDS = st.floats(0, 1e6)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), TEXTS)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5).map(lambda value: Raw(msgspec.json.encode(value)))
ERRORS = st.builds(Error, st.sampled_from(["unknown_model", "invalid_features", "prediction_error"]), TEXTS)
UNSET_ = st.just(UNSET)
PLACES = st.builds(SourcePosition, TEXTS, st.integers(0, 100), st.integers(0, 2**53))
FIELDS = st.lists(
    st.builds(
        FieldDrift,
        TEXTS,
        st.sampled_from(["feature", "prediction"]),
        TEXTS,
        *[SECONDS] * 3,
        st.booleans(),
        *[SECONDS] * 4,
        TEXTS,
        SECONDS | UNSET_,
    ),
    max_size=3,
)
LIVE = st.lists(st.builds(LiveMetric, TEXTS, SECONDS, SECONDS, SECONDS, SECONDS | UNSET_), max_size=3)
ROWS = st.integers(0, 2**53)
ARMS = st.builds(RolloutArm, TEXTS, st.sampled_from(["champion", "challenger"]), *[TEXTS] * 3, st.integers(0, 100))
ATTRIBUTES = st.from_regex("[a-z][a-z0-9]{0,15}", fullmatch=True)
EVENTS = st.one_of(
    st.builds(PredictionRequested, NAMES, NAMES, OBJECTS, TIMES | UNSET_),
    st.builds(
        PredictionCompleted,
        NAMES,
        NAMES,
        TEXTS,
        OBJECTS,
        TIMES,
        TIMES,
        PLACES | UNSET_,
        OBJECTS | UNSET_,
        ARMS | UNSET_,
    ),
    st.builds(
        PredictionFailed,
        NAMES,
        NAMES,
        ERRORS,
        TIMES,
        TIMES,
        TEXTS | UNSET_,
        PLACES | UNSET_,
        OBJECTS | UNSET_,
        ARMS | UNSET_,
    ),
    st.builds(
        PredictionLogged,
        NAMES,
        NAMES,
        st.sampled_from(["completed", "failed"]),
        OBJECTS,
        TIMES,
        TIMES,
        TIMES,
        SECONDS,
        SECONDS,
        SECONDS,
        st.integers(1, 4096),
        st.integers(0, 100),
        st.integers(0, 2**53),
        TEXTS | UNSET_,
        OBJECTS | UNSET_,
        ERRORS | UNSET_,
        TEXTS | UNSET_,
        UNSET_,
        TEXTS | UNSET_,
        ARMS | UNSET_,
    ),
    st.builds(
        PredictionShadowed,
        request_id=NAMES,
        model=NAMES,
        rollout_id=TEXTS,
        role=st.sampled_from(["champion", "challenger"]),
        served_version=TEXTS,
        shadow_version=TEXTS,
        outcome=st.sampled_from(["completed", "failed", "dropped"]),
        accepted_at=TIMES,
        completed_at=TIMES,
        partition=st.integers(0, 100),
        offset=ROWS,
        served_seconds=SECONDS,
        prediction=OBJECTS | UNSET_,
        shadow_prediction=OBJECTS | UNSET_,
        shadow_seconds=SECONDS | UNSET_,
        error=ERRORS | UNSET_,
        memory_bytes=ROWS | UNSET_,
        topic=TEXTS | UNSET_,
    ),
    st.builds(
        RolloutChanged,
        model=NAMES,
        rollout_id=TEXTS,
        step=ROWS,
        action=TEXTS,
        changed_at=TIMES,
        by=TEXTS,
        reason=TEXTS,
        stage=TEXTS,
        percent=st.integers(0, 100),
        champion=TEXTS,
        challenger=TEXTS,
        trigger=TEXTS,
        verdict=OBJECTS | UNSET_,
    ),
    st.builds(LabelReported, NAMES, NAMES, VALUES.map(lambda value: Raw(msgspec.json.encode(value))), TIMES),
    st.builds(
        DriftMeasured,
        NAMES,
        *[TEXTS] * 2,
        TIMES,
        TIMES,
        st.sampled_from(["count", "time"]),
        ROWS,
        SECONDS,
        SECONDS,
        FIELDS,
    ),
    st.builds(DriftDetected, NAMES, TEXTS, TEXTS, TIMES, TIMES, TIMES, ROWS, SECONDS, FIELDS),
    st.builds(QualityMeasured, NAMES, TEXTS, TIMES, TIMES, TIMES, ROWS, SECONDS, LIVE),
    st.builds(ModelPromoted, NAMES, TEXTS, TIMES, TEXTS, TEXTS | UNSET_),
    st.builds(
        ApiCalled,
        call_id=NAMES,
        method=st.sampled_from(["GET", "POST"]),
        route=TEXTS,
        status=st.integers(100, 599),
        started_at=TIMES,
        seconds=SECONDS,
        request_bytes=ROWS,
        response_bytes=ROWS,
        caller=TEXTS | UNSET_,
        model=TEXTS | UNSET_,
        request_id=TEXTS | UNSET_,
        rows=ROWS | UNSET_,
        problem=TEXTS | UNSET_,
        query=OBJECTS | UNSET_,
        request_body=OBJECTS | UNSET_,
        response_body=OBJECTS | UNSET_,
        redacted=st.lists(TEXTS, max_size=3) | UNSET_,
    ),
)


def _validator(schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


VALIDATORS = {schemas.tag(event): _validator(schemas.json_schema(event)) for event in schemas.EVENTS}


def test_the_committed_files_are_what_the_events_give() -> None:
    """Run `inflight schemas` after changing an event."""
    assert schemas.stale(GENERATED) == []


def test_a_missing_changed_or_superfluous_file_is_noticed(tmp_path: Path) -> None:
    """Each way of being out of date is named."""
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "prediction.failed.v1.json").unlink()
    (tmp_path / "prediction.failed.v0.json").write_text("{}")
    assert schemas.stale(tmp_path) == ["asyncapi.json", "prediction.failed.v0.json", "prediction.failed.v1.json"]


@given(EVENTS)
def test_every_event_that_we_can_write_fits_its_schema_and_comes_back_equal(event: events.Event) -> None:
    """The schema says no less than the code does, and decoding is the inverse of encoding."""
    data = events.encode(event)
    value = msgspec.json.decode(data)
    VALIDATORS[value["type"]].validate(value)
    decode = DECODERS[value["type"].removesuffix(".v1")]
    assert events.encode(decode(data)) == data


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["prediction.requested.v1", "prediction.requested.v9", 3]),
            "request_id": NAMES | st.just("") | st.integers(),
            "model": NAMES | st.none(),
            "features": st.just({}) | st.just({"x": 1}),
            "requested_at": st.sampled_from(["2026-01-01T00:00:00Z", 3]),
            "extra": st.just(1),
        },
    )
)
def test_the_schema_of_a_request_accepts_what_the_worker_accepts(value: dict[str, Any]) -> None:
    """A producer that validates against the schema is never surprised, either way."""
    try:
        events.decode_request(msgspec.json.encode(value))
        accepted = True
    except msgspec.DecodeError:
        accepted = False
    assert VALIDATORS["prediction.requested.v1"].is_valid(value) is accepted


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_bytes_that_were_written_once_are_read_for_ever(path: Path) -> None:
    """Old records decode, and encode to the same bytes. Never edit these files: add one for a new version."""
    data = path.read_bytes().rstrip(b"\n")
    # What follows a dash tells which optional fields it has.
    stem = path.stem.partition("-")[0]
    name, _, version = stem.rpartition(".")
    assert version.startswith("v")
    assert events.encode(DECODERS[name](data)) == data
    VALIDATORS[stem].validate(msgspec.json.decode(data))


def test_every_version_of_every_event_has_golden_bytes() -> None:
    """An event without one could change unnoticed."""
    assert {schemas.tag(event) for event in schemas.EVENTS} <= {path.stem for path in GOLDEN}


def test_a_request_needs_no_type() -> None:
    """Plain enough for any producer."""
    plain = {"request_id": "r", "model": "m", "features": {}}
    VALIDATORS["prediction.requested.v1"].validate(plain)
    assert events.decode_request(msgspec.json.encode(plain)).model == "m"


def test_asyncapi_describes_every_topic_and_all_its_references_lead_somewhere() -> None:
    """AsyncAPI 3: the channels are the topics that others may use, and no `$ref` dangles."""
    document = schemas.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    public = {topic.name for topic in TOPICS if not topic.internal}
    assert {channel["address"] for channel in document["channels"].values()} == public

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    found = references(document)
    assert len(found) > 20
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@given(
    source=st.sampled_from(["//shop.example/checkout", "urn:shop", "/checkout"]),
    extensions=st.dictionaries(ATTRIBUTES, st.text("abcXYZ 019-", min_size=1), max_size=3),
    subject=st.none() | st.just("order-1"),
    traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
def test_the_cloudevents_sdk_reads_what_we_answer_to_an_event_that_it_wrote(
    source: str, extensions: dict[str, str], subject: str | None, traceparent: str | None
) -> None:
    """Source, subject and extensions pass through; id and type are those of the answer."""
    reserved = {"id", "source", "type", "specversion", "time", "subject", "datacontenttype", "dataschema", "data"}
    extensions = {name: value for name, value in extensions.items() if name not in reserved | {"partitionkey"}}
    attributes = {"source": source, "type": "prediction.requested.v1", "id": "r-1", **extensions}
    if subject is not None:
        attributes["subject"] = subject
    if traceparent is not None:
        attributes["traceparent"] = traceparent
    # The SDK can't write an event without it; it becomes the header `content-type`, which is about one record's bytes.
    event = CloudEvent({**attributes, "datacontenttype": "application/json"}, {})
    written = to_binary(event, key_mapper=lambda _: "r-1")
    answer = carried(written.headers.items(), event_type="prediction.completed.v1", event_id="r-1-result")
    read = to_dict(from_binary(KafkaMessage(dict(answer), "r-1", b"{}")))

    expected = {**attributes, "type": "prediction.completed.v1", "id": "r-1-result"}
    assert {name: read.get(name) for name in expected} == expected
    assert len({name for name, _ in answer}) == len(answer)


def test_a_producer_without_headers_gets_none() -> None:
    """No CloudEvents, no trace, no headers."""
    assert carried(None, event_type="t", event_id="i") == []
    assert carried([("other", b"x")], event_type="t", event_id="i") == []
