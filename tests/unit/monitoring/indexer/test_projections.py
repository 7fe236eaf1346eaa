"""What becomes of the records of each topic."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import (
    DriftDetected,
    DriftMeasured,
    FieldDrift,
    LiveMetric,
    ModelPromoted,
    QualityMeasured,
    encode,
)
from machine_learning_engineering.events.topics import API_CALLS, DEAD_LETTERS, LOGS, MEASUREMENTS, MODEL_EVENTS
from monitoring.indexer.batch import Batch
from monitoring.indexer.projections import PROJECTIONS, Entry
from monitoring.runtime.groups import INDEXER, READS

Event = DriftMeasured | QualityMeasured | ModelPromoted | DriftDetected
START = datetime(2026, 3, 1, 23, 0, tzinfo=UTC)
END = START + timedelta(hours=2)
COMMON = {"ecs": {"version": "8.11.0"}, "service": {"name": "inflight"}}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CARAT = FieldDrift("features.carat", "feature", "ks", 0.4, 1e-9, 1e-8, True, 0.01, 0.0, 0.2, 0.005)
CUT = FieldDrift("features.cut", "feature", "chi-square", 0.0, 0.5, 1.0, False, 0.0, 0.0, 0.0, 0.0, "Ideal")
DRIFT = DriftMeasured("diamonds", "v3", "w7", START, END, "count", 1_000, 0.05, 0.1, [CARAT, CUT])
QUALITY = QualityMeasured(
    "diamonds",
    "v3",
    END,
    START,
    END,
    400,
    0.95,
    [LiveMetric("rmse", 560.0, 540.0, 580.0, 550.0), LiveMetric("r2", 1, 0, 1)],
)
PROMOTED = ModelPromoted("diamonds", "v3", END, "better", "v2")
DETECTED = DriftDetected("diamonds", "v3", "w7", END, START, END, 1_000, 0.05, [CARAT])


def entries(make: Any, topic: str, event: Event) -> list[Entry]:
    return list(PROJECTIONS[topic].entries(make(encode(event), topic=topic)))


def documents(found: list[Entry]) -> list[Any]:
    return [json.loads(entry.document) for entry in found]


def test_the_indexer_reads_what_it_has_a_projection_for() -> None:
    """So that its lag is that of all it brings in."""
    assert set(READS[INDEXER]) == set(PROJECTIONS)


def test_a_measured_window_is_a_document_for_each_field(make: Any) -> None:
    """Every field of the event, at the end of its window."""
    first, second = entries(make, MEASUREMENTS, DRIFT)
    assert {first.index_name, second.index_name} == {"inference-drift-2026.03"}
    carat, cut = documents([first, second])
    assert carat == COMMON | {
        "@timestamp": "2026-03-02T01:00:00Z",
        "event": {"kind": "metric", "action": "drift_measured", "module": "inflight", "dataset": "inflight.drift"},
        "inflight": {
            "model": {"name": "diamonds", "version": "v3"},
            "drift": {
                "window": {
                    "id": "w7",
                    "start": "2026-03-01T23:00:00Z",
                    "end": "2026-03-02T01:00:00Z",
                    "closed_by": "count",
                },
                "rows": 1_000,
                "significance": 0.05,
                "min_psi": 0.1,
                "field": "features.carat",
                "kind": "feature",
                "statistic": "ks",
                "psi": 0.4,
                "p_value": 1e-9,
                "p_adjusted": 1e-8,
                "drifted": True,
                "missing_rate": 0.01,
                "unseen_rate": 0.0,
                "out_of_range_rate": 0.2,
                "reference_missing_rate": 0.005,
            },
        },
    }
    assert (cut["inflight"]["drift"]["field"], cut["inflight"]["drift"]["detail"]) == ("features.cut", "Ideal")


def test_measured_quality_is_a_document_for_each_metric(make: Any) -> None:
    """With the reference where there is one."""
    found = entries(make, MEASUREMENTS, QUALITY)
    rmse, r2 = documents(found)
    assert {entry.index_name for entry in found} == {"inference-quality-2026.03"}
    assert rmse == COMMON | {
        "@timestamp": "2026-03-02T01:00:00Z",
        "event": {"kind": "metric", "action": "quality_measured", "module": "inflight", "dataset": "inflight.quality"},
        "inflight": {
            "model": {"name": "diamonds", "version": "v3"},
            "quality": {
                "metric": "rmse",
                "value": 560.0,
                "lower": 540.0,
                "upper": 580.0,
                "reference": 550.0,
                "rows": 400,
                "confidence": 0.95,
                "window": {"start": "2026-03-01T23:00:00Z", "end": "2026-03-02T01:00:00Z"},
            },
        },
    }
    assert "reference" not in r2["inflight"]["quality"]


def test_a_promotion_is_a_document(make: Any) -> None:
    """At the time of the promotion."""
    found = entries(make, MODEL_EVENTS, PROMOTED)
    assert documents(found) == [
        COMMON
        | {
            "@timestamp": "2026-03-02T01:00:00Z",
            "event": {
                "kind": "event",
                "action": "model_promoted",
                "module": "inflight",
                "dataset": "inflight.model_events",
            },
            "inflight": {
                "model": {"name": "diamonds", "version": "v3"},
                "model_event": {"previous_version": "v2", "reason": "better"},
            },
        }
    ]
    assert found[0].index_name == "inference-model-events-2026.03"


def test_a_drift_is_a_document(make: Any) -> None:
    """With the names of what drifted."""
    (document,) = documents(entries(make, MODEL_EVENTS, DETECTED))
    assert document["event"]["action"] == "drift_detected"
    assert document["inflight"]["model_event"] == {"rows": 1_000, "fields": ["features.carat"], "window_id": "w7"}


def test_a_tombstone_is_no_document_and_no_error(make: Any) -> None:
    """A compacted topic forgets a key by it."""
    batch = Batch()
    batch.add(make(None, 4, topic=MODEL_EVENTS))
    assert (batch.entries, batch.dead_letters, batch.next_offsets) == ([], [], {(MODEL_EVENTS, 0): 5})


def letter(make: Any, offset: int = 9, **known: Any) -> Any:
    origin = DeadLetterOrigin("malformed_request", "no JSON", "decode", "prediction-requests", 2, 40, **known)
    headers = dead_letter_headers(origin, [("traceparent", TRACE.encode())])
    return make(b"secret", offset, partition=1, topic=DEAD_LETTERS, headers=headers)


def test_a_dead_letter_is_a_document_without_its_payload(make: Any) -> None:
    """Why, and where the record was and is."""
    (entry,) = PROJECTIONS[DEAD_LETTERS].entries(letter(make, model="diamonds", request_id="r1"))
    assert b"secret" not in entry.document
    assert entry.index_name == "inference-dead-letters-2026.03"
    assert json.loads(entry.document) == COMMON | {
        "@timestamp": "2026-03-01T12:00:00Z",
        "event": {
            "kind": "event",
            "action": "dead_letter",
            "outcome": "failure",
            "module": "inflight",
            "dataset": "inflight.dead_letters",
        },
        "error": {"type": "malformed_request", "message": "no JSON"},
        "inflight": {
            "request_id": "r1",
            "model": {"name": "diamonds"},
            "dead_letter": {
                "reason": "malformed_request",
                "stage": "decode",
                "topic": "prediction-requests",
                "partition": 2,
                "offset": 40,
                "size": 6,
                "kafka": {"partition": 1, "offset": 9},
            },
        },
        "trace": {"id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        "span": {"id": "00f067aa0ba902b7"},
    }
    (unknown,) = documents(list(PROJECTIONS[DEAD_LETTERS].entries(letter(make))))
    assert set(unknown["inflight"]) == {"dead_letter"}


def test_ids_are_those_of_the_content(make: Any) -> None:
    """Read again, wherever it is then, a record has the same ids; another one has others."""
    for topic, event in (
        (MEASUREMENTS, DRIFT),
        (MEASUREMENTS, QUALITY),
        (MODEL_EVENTS, PROMOTED),
        (MODEL_EVENTS, DETECTED),
    ):
        first = entries(make, topic, event)
        again = PROJECTIONS[topic].entries(make(encode(event), 77, partition=3, topic=topic))
        assert [entry.action for entry in first] == [entry.action for entry in again]
        assert len({entry.id for entry in first}) == len(first)
        other = entries(make, topic, type(event)(**{**_plain(event), "model": "titanic"}))
        assert not {entry.id for entry in first} & {entry.id for entry in other}
    (here,) = PROJECTIONS[DEAD_LETTERS].entries(letter(make, 9))
    (same,) = PROJECTIONS[DEAD_LETTERS].entries(letter(make, 9))
    (next_,) = PROJECTIONS[DEAD_LETTERS].entries(letter(make, 10))
    assert here.id == same.id != next_.id


def _plain(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_the_time_zone_that_a_moment_is_written_in_is_not_its_identity(make: Any) -> None:
    """The same moment has the same id."""
    elsewhere = timezone(timedelta(hours=-5))
    moved = QualityMeasured(**{**_plain(QUALITY), "measured_at": END.astimezone(elsewhere)})
    actions = [[entry.action for entry in entries(make, MEASUREMENTS, event)] for event in (QUALITY, moved)]
    assert actions[0] == actions[1]


def test_quality_measured_again_later_is_another_document(make: Any) -> None:
    """Labels come late: the later measurement of a window is a further point in time."""
    later = QualityMeasured(**{**_plain(QUALITY), "measured_at": END + timedelta(minutes=1)})
    first, second = (entries(make, MEASUREMENTS, event) for event in (QUALITY, later))
    assert not {entry.id for entry in first} & {entry.id for entry in second}


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (LOGS, "undecodable_log"),
        (MEASUREMENTS, "undecodable_measurement"),
        (MODEL_EVENTS, "undecodable_model_event"),
        (API_CALLS, "undecodable_api_call"),
        (DEAD_LETTERS, "undecodable_dead_letter"),
    ],
)
@pytest.mark.parametrize("value", [b"", b"\xff", b"[" * 100_000, b'{"type":"label.reported.v1"}'])
def test_what_can_not_be_read_is_named_and_passed_over(make: Any, topic: str, reason: str, value: bytes) -> None:
    """Whatever is on a topic, the batch goes on behind it. (A dead letter has no origin here.)"""
    batch = Batch()
    batch.add(make(value, 3, topic=topic))
    assert [letter.reason for letter in batch.dead_letters] == [reason]
    assert batch.next_offsets == {(topic, 0): 4}


def test_a_dead_letter_with_an_impossible_time_is_unreadable(make: Any) -> None:
    """Any producer may write any time."""
    record = letter(make)
    record._milliseconds = 10**18
    batch = Batch()
    batch.add(record)
    assert [letter.reason for letter in batch.dead_letters] == ["undecodable_dead_letter"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
@pytest.mark.parametrize("event", [DRIFT, QUALITY, PROMOTED])
def test_a_moment_beyond_the_calendar_is_unreadable(make: Any, event: Event, moment: str) -> None:
    """In UTC it would be before the year 1 or after 9999. Uncaught, it would end every indexer that reads it."""
    fields = msgspec.to_builtins(event)
    fields |= {name: moment for name in fields if name in ("window_end", "measured_at", "promoted_at")}
    topic = MODEL_EVENTS if event is PROMOTED else MEASUREMENTS
    batch = Batch()
    batch.add(make(json.dumps(fields).encode(), topic=topic))
    assert [letter.reason for letter in batch.dead_letters] == [PROJECTIONS[topic].undecodable]
    assert batch.entries == []


@pytest.mark.parametrize("field", ["partition", "offset"])
def test_an_origin_that_is_none_is_not_quoted(make: Any, field: str) -> None:
    """Whoever writes dead letters by hand may write anything into the headers."""
    record = letter(make)
    record._headers = [(name, b"CANARY" if name == f"dlq_{field}" else value) for name, value in record._headers]
    batch = Batch()
    batch.add(record)
    assert [one.explanation for one in batch.dead_letters] == [
        f"not a dead letter: not a dead letter: header dlq_{field} is missing or wrong"
    ]


def test_a_window_that_is_measured_twice_is_sent_once(make: Any) -> None:
    """Its documents of the second time wait until the first ones are settled."""
    batch = Batch()
    for offset in range(2):
        batch.add(make(encode(DRIFT), offset, topic=MEASUREMENTS))
    assert (len(batch.entries), len(batch.deferred), batch.records) == (2, 2, 2)


@pytest.mark.parametrize(
    ("kind", "written", "happened", "is_indexed"),
    [
        (2, "2026-03-01T12:00:00Z", "2026-03-01T12:59:00Z", True),
        (2, "2026-03-01T12:00:00Z", "3000-01-01T00:00:00Z", False),
        # A topic that is read years later.
        (2, "2010-03-01T12:00:00Z", "2010-03-01T12:59:00Z", True),
        (2, "2010-03-01T12:00:00Z", "2010-03-01T13:01:00Z", False),
        (2, "2010-03-01T12:00:00Z", "2006-01-01T00:00:00Z", True),
        (2, "2010-03-01T12:00:00Z", "2004-01-01T00:00:00Z", False),
        # The sender chose the time of the record, too.
        (1, "3000-01-01T00:00:00Z", "3000-01-01T00:00:00Z", False),
        (1, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", False),
    ],
)
def test_no_sender_names_an_index_of_another_age(
    make: Any, kind: int, written: str, happened: str, is_indexed: bool
) -> None:
    """A thousand days in the future would be a thousand shards, all that a node takes."""
    value = encode(ModelPromoted("m", "v1", datetime.fromisoformat(happened), "because"))
    record = make(value, topic=MODEL_EVENTS)
    record.timestamp = lambda: (kind, int(datetime.fromisoformat(written).timestamp() * 1000))
    batch = Batch()
    batch.add(record)
    assert (len(batch.entries), [one.reason for one in batch.dead_letters]) == (
        (1, []) if is_indexed else (0, ["undecodable_model_event"])
    )


def test_a_log_of_the_future_names_no_index(record: Any) -> None:
    """On a topic of requests with the senders' times."""
    batch = Batch()
    batch.add(record(0, accepted_at=datetime(3000, 1, 1, tzinfo=UTC)))
    assert [one.reason for one in batch.dead_letters] == ["undecodable_log"]
