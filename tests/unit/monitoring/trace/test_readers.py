"""Which records are about a request, and what is shown of them, on topics in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import (
    Error,
    LabelReported,
    PredictionCompleted,
    PredictionFailed,
    PredictionLogged,
    encode,
)
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, LOGS, REQUESTS, RESULTS, SHADOWS
from monitoring.trace import readers
from monitoring.trace.path import Step
from monitoring.trace.readers import RequestReader
from tests.support.rollout_records import CANARY, SHADOW, shadowed
from tests.support.rollout_records import logged as arm_record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret"


class Record:
    """As confluent-kafka has it, as far as readers look."""

    def __init__(self, topic: str, offset: int, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        self._fields = topic, offset, key, value, headers
        self._at = NOW + timedelta(seconds=offset)

    def topic(self) -> str:
        return self._fields[0]

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return self._fields[1]

    def key(self) -> bytes | None:
        return self._fields[2]

    def value(self) -> bytes | None:
        return self._fields[3]

    def headers(self) -> Any:
        return self._fields[4]

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self._at.timestamp() * 1000)


class Topics:
    """Topics in memory; `read` are the names of those that were read, with the time they were read from."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}
        self.read: list[tuple[str, datetime | None]] = []

    def put(self, topic: str, value: Any, key: str | bytes | None = None, headers: Any = None) -> None:
        records = self._records.setdefault(topic, [])
        encoded = value if value is None or isinstance(value, bytes) else encode(value)
        records.append(Record(topic, len(records), key.encode() if isinstance(key, str) else key, encoded, headers))

    def read_to_end(self, _settings: Settings, topic: str, *, since: datetime | None = None) -> list[Record]:
        self.read.append((topic, since))
        return self._records.get(topic, [])


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    found = Topics()
    monkeypatch.setattr(readers, "read_to_end", found.read_to_end)
    monkeypatch.setattr(readers, "end_offsets", lambda *_, **__: {})
    return found


def reader(request_id: str = "r", **options: Any) -> RequestReader:
    return RequestReader(Settings(_env_file=None, topic_prefix="p-"), request_id, **options)  # type: ignore[call-arg]


def steps(request_id: str = "r", **options: Any) -> list[Step]:
    return list(reader(request_id, **options).steps())


def request(request_id: str, carat: float = 0.5, **fields: Any) -> bytes:
    features = {"carat": carat, "note": SECRET}
    return msgspec.json.encode({"request_id": request_id, "model": "diamonds", "features": features} | fields)


def logged(request_id: str, offset: int = 0) -> PredictionLogged:
    values = Raw(b'{"note":"a secret"}')
    seconds = 0.1, 0.2, 0.3
    return PredictionLogged(
        request_id, "diamonds", "completed", values, NOW, NOW, NOW, *seconds, 4, 1, offset, "3", values
    )


def test_every_topic_is_searched_for_the_request_and_nothing_else(topics: Topics) -> None:
    """Ids that contain the id, and records that only mention it, are of other requests."""
    for one in ("other", "r", "r2"):
        topics.put(REQUESTS, request(one), one)
        topics.put(RESULTS, PredictionCompleted(one, "diamonds", "3", Raw(b'{"price":1}'), NOW, NOW), one)
        topics.put(LOGS, logged(one, 1), one)
        topics.put(LABELS, LabelReported(one, "diamonds", Raw(b"1"), NOW), one)
    found = steps()
    assert [(one.stage, one.position) for one in found] == [
        ("request", (REQUESTS, 1, 1)),
        ("result", (RESULTS, 1, 1)),
        ("log", (LOGS, 1, 1)),
        ("label", (LABELS, 1, 1)),
    ]
    assert found[2].origin == (REQUESTS, 1, 1)
    assert found[2].details["model_version"] == "3"
    assert [topic for topic, _ in topics.read] == [REQUESTS, RESULTS, LOGS, SHADOWS, DEAD_LETTERS, LABELS]


def test_values_are_shown_on_demand_only(topics: Topics) -> None:
    """By default their sizes."""
    topics.put(REQUESTS, request("r"), "r")
    topics.put(RESULTS, PredictionCompleted("r", "diamonds", "3", Raw(b'{"note":"a secret"}'), NOW, NOW), "r")
    topics.put(LOGS, logged("r"), "r")
    topics.put(LABELS, LabelReported("r", "diamonds", Raw(b'"a secret"'), NOW), "r")
    assert SECRET.encode() not in msgspec.json.encode(steps())
    assert msgspec.json.encode(steps(values=True)).count(SECRET.encode()) == 5
    assert steps()[0].details["features_bytes"] == len(b'{"carat":0.5,"note":"a secret"}')


def test_duplicates_are_told_from_conflicts(topics: Topics) -> None:
    """Equal is the same model and an equal JSON value, however it is spelled."""
    topics.put(REQUESTS, request("r"), "r")
    topics.put(REQUESTS, request("r").replace(b":", b" : "), "r")
    topics.put(REQUESTS, request("r", carat=2.0), "r")
    assert [one.repeat for one in steps()] == [None, "equal", "different"]
    for error in ("no x", "no x", "no y"):
        topics.put(RESULTS, PredictionFailed("r", "diamonds", Error("invalid_features", error), NOW, NOW), "r")
    results = [one for one in steps() if one.stage == "result"]
    assert [one.repeat for one in results] == [None, "equal", "different"]
    assert results[0].details["error_message"] == "no x"


def test_unreadable_requests_are_known_by_their_key_or_their_text(topics: Topics) -> None:
    """And their dead letters by the position of the request."""
    topics.put(REQUESTS, b"no JSON", "r")
    topics.put(REQUESTS, None, "r")
    topics.put(REQUESTS, b'{"request_id" : "r", "model": "diam', "customer-7")
    topics.put(REQUESTS, b'{"request_id" : "r2", "model": "diam', "customer-7")
    origin = DeadLetterOrigin("not_json", "the value is no JSON", "decode", "p-" + REQUESTS, 1, 0)
    topics.put(DEAD_LETTERS, b"no JSON", None, dead_letter_headers(origin, None))
    other = origin._replace(offset=9)
    topics.put(DEAD_LETTERS, b"no JSON", "another", dead_letter_headers(other, None))
    topics.put(DEAD_LETTERS, b"{}", "another", dead_letter_headers(other._replace(request_id="r"), None))
    topics.put(DEAD_LETTERS, b"r", "r", [("of", b"another product")])
    found = steps()
    assert [one.stage for one in found] == ["request", "request", "request", "dead_letter", "dead_letter"]
    assert {one.details.get("unreadable") for one in found[:3]} == {True}
    assert [one.details["address"] for one in found[3:]] == ["1:0", "1:2"]
    assert (found[3].origin, found[3].details["reason"]) == ((REQUESTS, 1, 0), "not_json")


def test_a_key_that_equals_the_id_makes_no_record_the_request(topics: Topics) -> None:
    """The key belongs to the producer: a customer may be called like another one's request."""
    topics.put(REQUESTS, request("other"), "r")
    topics.put(RESULTS, PredictionCompleted("other", "diamonds", "3", Raw(b'{"price":1}'), NOW, NOW), "r")
    topics.put(LOGS, logged("other"), "r")
    origin = DeadLetterOrigin("too_large", "no", "decode", "p-" + REQUESTS, 1, 9, request_id="other")
    topics.put(DEAD_LETTERS, b"{}", "r", dead_letter_headers(origin, None))
    topics.put(LABELS, LabelReported("other", "diamonds", Raw(b"1"), NOW), "r")
    assert steps() == []
    assert [one.stage for one in steps("other")] == ["request", "result", "log", "dead_letter", "label"]


@pytest.mark.parametrize("key", [None, b"", b"customer-7", b"\xff\x00"])
def test_the_path_is_found_under_any_key(topics: Topics, key: bytes | None) -> None:
    """By the id in the values."""
    topics.put(REQUESTS, request("r"), key)
    topics.put(RESULTS, PredictionCompleted("r", "diamonds", "3", Raw(b'{"price":1}'), NOW, NOW), key)
    topics.put(LOGS, logged("r"), key)
    assert [one.stage for one in steps()] == ["request", "result", "log"]


def test_an_id_is_found_however_its_json_is_escaped(topics: Topics) -> None:
    """Without its key, as a producer may have written it."""
    name = 'é "1"'
    topics.put(REQUESTS, request(name))
    topics.put(REQUESTS, request("x").replace(b'"x"', b'"\\u00e9 \\"1\\""'))
    assert [one.repeat for one in steps(name)] == [None, "equal"]


def test_what_is_no_event_is_skipped(topics: Topics) -> None:
    """Anything may be on a topic."""
    for topic in (REQUESTS, RESULTS, LOGS, SHADOWS, LABELS, DEAD_LETTERS):
        for value in (b"\xff r", b'"r"', b"[" * 100_000 + b"r", None):
            topics.put(topic, value, "another")
    assert steps() == []


def test_a_topic_full_of_one_request_is_cut_and_counted(topics: Topics) -> None:
    """A path is bounded, whatever a producer repeats."""
    for _ in range(readers.MAX_STEPS + 7):
        topics.put(REQUESTS, request("r"), "r")
    found = reader()
    assert len(list(found.steps())) == readers.MAX_STEPS
    assert found.omitted == {"request": 7}


def test_reading_begins_at_a_time(topics: Topics) -> None:
    """Of each topic."""
    list(reader().steps(since=NOW))
    assert {since for _, since in topics.read} == {NOW}


def test_documents_of_an_unreachable_elasticsearch_are_a_reason() -> None:
    """And so are those of a setting that is no URL."""
    for url in ("http://127.0.0.1:1", "nonsense"):
        settings = Settings(_env_file=None, elasticsearch_url=url)  # type: ignore[call-arg]
        assert "Elasticsearch did not respond" in str(readers.read_documents(settings, "r", set()))


def test_arm_and_shadow_are_shown(topics: Topics) -> None:
    """Which version answered, and what the other one would have."""
    event = arm_record(CANARY, 1, "challenger")
    topics.put(LOGS, encode(event), "q-1")
    topics.put(SHADOWS, encode(shadowed(SHADOW, 1, 10.0, 11.0)), "q-1")
    topics.put(SHADOWS, encode(shadowed(SHADOW, 1, 10.0, 12.0)), "q-1")
    log, shadow, other = steps("q-1", values=True)
    arm = {"arm": "challenger", "percent": 5, "rollout": "r-1", "salt": "pepper"}
    assert arm.items() <= log.details.items()
    assert (shadow.stage, shadow.details["model_version"], shadow.details["role"]) == ("shadow", "v2", "challenger")
    assert bytes(shadow.details["prediction"]) == b'{"price": 11.0}'
    assert other.repeat == "different"
