"""Request records: from the bytes of a record to its outputs, and from these to whoever reads them."""

from typing import Any

import hypothesis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.letter import MAX_LETTER_BYTES, read_origin, without_origin
from machine_learning_engineering.events.headers import header_size
from machine_learning_engineering.events.schemas import MAX_ERROR_CHARACTERS, decode_log, decode_result
from machine_learning_engineering.observability.redaction import Redaction, Redactor
from monitoring.documents.searchable import fits_flattened
from monitoring.indexer.batch import Batch
from monitoring.indexer.projections import PROJECTIONS
from stream_app.serving.batch import split_into_batches
from stream_app.serving.outcomes import OutputTopics
from stream_app.serving.scorer import Scorer
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, check_message, dose, mutated

TOPICS = OutputTopics("results", "logs", "dead-letters")
REASONS = {
    *("empty_value", "too_large", "not_utf8", "not_json", "invalid_request", "invalid_timestamp"),
}
MAX_BYTES = 100_000
DOORS = (
    "stream_app/serving/request.py:read_request",
    "stream_app/serving/request.py:_best_effort_ids",
    "stream_app/serving/batch.py:split_into_batches",
    "mle_package/machine_learning_engineering/core/json_values.py:with_integers",
    "mle_package/machine_learning_engineering/core/json_values.py:canonical_json",
    "mle_package/machine_learning_engineering/core/validation.py:find_non_json_value",
    "mle_package/machine_learning_engineering/core/model.py:Model.decode",
    "monitoring/documents/searchable.py:searchable_part",
)

keys = st.none() | st.binary(max_size=40) | st.sampled_from([b"", b"k" * 20_000, "ключ".encode()])
headers = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "ce_source", "ce_specversion", "ce_id", "dlq_reason", "dlq_x"])
        | st.text(max_size=8),
        st.none() | st.binary(max_size=80) | st.sampled_from([b"x" * 300, b"y" * 70_000, b"\xff"]),
    ),
    max_size=6,
) | st.just([("h", b"v")] * 150)
timestamps = st.tuples(
    st.sampled_from([0, 1, 2]),
    st.sampled_from([-1, 0, corpus.MILLISECONDS, 253_402_300_799_999, 253_402_300_800_000, -(2**63), 2**63 - 1]),
)


def scorer(redaction: Redaction | None = None) -> Scorer:
    return Scorer({"houses": corpus.fitted()}, TOPICS, max_request_bytes=MAX_BYTES, redaction=redaction)


def outcome(record: Any, redaction: Redaction | None = None) -> tuple[str, Any]:
    """Score one record; check that it has exactly one outcome of a known kind, which every reader can read."""
    [batch] = split_into_batches([record], 10**9)
    reading = scorer(redaction)
    with bounded(len(record)):
        [scored] = reading.score([batch])
    results, logs, letters = (scored.outputs[topic] for topic in TOPICS)
    if letters:
        assert (len(letters), len(results), len(logs)) == (1, 0, 0)
        _check_letter(record, letters[0])
        return "dead letter", letters[0]
    [(key, value, _)], [(_, log_value, log_headers)] = results, logs
    assert key == record.key()
    result, log = decode_result(value), decode_log(log_value)
    assert result.request_id == log.request_id
    assert (result.completed_at, result.requested_at) == (log.completed_at, log.requested_at)
    if log.outcome == "failed":
        assert len(log.error.message) <= MAX_ERROR_CHARACTERS
        check_message(log.error.message)
    assert sum(map(header_size, log_headers or ())) <= 64 * 1024
    _check_indexed(corpus.message("prediction-logs", log_value, key, headers=log_headers))
    return log.outcome, (result, log)


def _check_letter(record: Any, letter: Any) -> None:
    key, value, found = letter
    origin = read_origin(found)
    assert origin.reason in REASONS
    assert origin.offset == record.offset()
    check_message(origin.message)
    assert len(key or b"") + len(value or b"") + sum(map(header_size, found)) <= MAX_LETTER_BYTES
    assert origin.truncated is not None or (record.value() or b"").startswith(value or b"")
    if origin.reason != "too_large":
        # A replay gets the same record back.
        assert (key, value) == (record.key(), record.value())
        assert without_origin(found) == list(record.headers() or ())
    batch = Batch(PROJECTIONS)
    batch.add(corpus.message("prediction-dead-letters", value, key, headers=found))
    assert (len(batch.entries), batch.dead_letters) == (1, [])
    msgspec.json.decode(batch.entries[0].document)


def _check_indexed(record: Any) -> None:
    """A log record that the worker wrote becomes a document, or the indexer's dead letter about its time alone."""
    batch = Batch(PROJECTIONS)
    with bounded(len(record)):
        batch.add(record)
    for letter in batch.dead_letters:
        assert "its time is more than" in letter.explanation, letter.explanation
    for entry in batch.entries:
        assert entry.document.count(b"\n") == entry.action.count(b"\n") == 0
        document = msgspec.json.decode(entry.document)
        features = document["inflight"].get("features")
        assert features is None or fits_flattened(msgspec.json.encode(features, order="deterministic"))


@dose(50)
@given(value=mutated(corpus.REQUESTS))
@hypothesis.example(value=b'{"request_id":"r","model":"houses","features":{"area":1,"rooms":' + b"9" * 30 + b"}}")
@hypothesis.example(value=b'{"request_id":"r","model":"houses","features":{"area":1,"rooms":3.0,"sizes":[1e300]}}')
def test_a_value_has_one_outcome(value: bytes) -> None:
    record = corpus.message("prediction-requests", value, b"k")
    kind, found = outcome(record)
    if kind != "dead letter":
        # Outputs depend on the record alone.
        again = outcome(corpus.message("prediction-requests", value, b"k"))[1]
        assert bytes(found[1].features) == bytes(again[1].features)
        assert found[1].prediction == again[1].prediction


@dose(20)
@given(value=mutated(corpus.REQUESTS, most=1), key=keys, headers=headers, timestamp=timestamps)
def test_a_whole_record_has_one_outcome(value: bytes, key: Any, headers: Any, timestamp: Any) -> None:
    outcome(corpus.message("prediction-requests", value, key, headers=headers, timestamp=timestamp))


@dose(13)
@given(value=mutated(corpus.REQUESTS))
def test_redacted_features_are_in_no_output(value: bytes) -> None:
    token = Redactor({"owner": "hash", "area": "drop"}, "keep", lambda _value: "hash-" + "0" * 32)
    kind, found = outcome(corpus.message("prediction-requests", value), Redaction({"houses": token}, active=True))
    if kind == "dead letter" or found[1].model != "houses":
        return
    assert b"area" not in bytes(found[1].features)


@dose(10)
@given(values=st.lists(mutated(corpus.REQUESTS, most=2), max_size=6))
def test_records_of_one_batch_do_not_touch_each_other(values: list[bytes]) -> None:
    records = [corpus.message("prediction-requests", value, b"k", offset=n) for n, value in enumerate(values)]
    scored = scorer().score(split_into_batches(records, 50_000))
    together = [output[1] for one in scored for output in one.outputs["dead-letters"]]
    alone = [outcome(record) for record in records]
    assert together == [found[1] for kind, found in alone if kind == "dead letter"]
    completed = [decode_result(output[1]).request_id for one in scored for output in one.outputs["results"]]
    assert completed == [found[0].request_id for kind, found in alone if kind != "dead letter"]
