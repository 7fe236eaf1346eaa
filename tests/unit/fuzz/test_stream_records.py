"""Records of the other topics, as each process and command reads them."""

import socket
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from prometheus_client import CollectorRegistry, generate_latest

from inflight.adapters.evaluator import RegistryEvaluator, _decoded
from inflight.settings import Settings
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.feature_store.examples import ExampleBuilder
from machine_learning_engineering.feature_store.store import FeatureStore
from monitoring.archive.prediction_log import ArchivePredictionLog
from monitoring.archive.rows import PROJECTIONS as PROJECTIONS_OF_ARCHIVE
from monitoring.archive.rows import UNREADABLE
from monitoring.archive.store import Store
from monitoring.audit import readers as audit_readers
from monitoring.drift import history
from monitoring.drift.batch import decode_objects, read_batch
from monitoring.drift.state import StateReader, state_key
from monitoring.drift.windows import Limits, State, Windows
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.feature_ingest.metrics import FeatureMetrics
from monitoring.feature_ingest.process import Follower
from monitoring.indexer.batch import Batch
from monitoring.indexer.projections import PROJECTIONS
from monitoring.labels import pending, reports
from monitoring.labels.reports import Report
from monitoring.trace import readers as trace_readers
from monitoring.trace import results as trace_results
from producers import labels as producer_labels
from stream_app.shadow import frames
from stream_app.shadow.process import ShadowEnded, ShadowProcess
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, check_message, dose, mutated

DOORS = (
    "monitoring/indexer/projections.py:log_entries",
    "monitoring/indexer/projections.py:measurement_entries",
    "monitoring/indexer/projections.py:model_event_entries",
    "monitoring/exporter/observer.py:decode_observed",
    "monitoring/exporter/observer.py:decode_observed_shadow",
    "monitoring/indexer/projections.py:shadow_entries",
    "monitoring/drift/batch.py:_decode",
    "monitoring/drift/batch.py:decode_objects",
    "monitoring/drift/batch.py:_decode_one",
    "monitoring/drift/state.py:StateReader._last",
    "monitoring/drift/history.py:last_windows",
    "mle_package/machine_learning_engineering/drift/serialization.py:deserialize",
    "monitoring/feature_ingest/process.py:Follower._add",
    "monitoring/labels/reports.py:read",
    "monitoring/labels/pending.py:_bytes",
    "monitoring/audit/readers.py:_decode_request",
    "monitoring/audit/readers.py:_decode_result",
    "monitoring/audit/readers.py:_decode_log",
    "monitoring/trace/readers.py:_decode_request",
    "monitoring/trace/results.py:newest_results",
    "producers/labels.py:_decode_request",
    "producers/labels.py:labels_by_requests",
    "inflight/adapters/evaluator.py:_decoded",
    "mle_package/machine_learning_engineering/core/json_values.py:decode_as",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_request",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_result",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_log",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_shadow",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_label",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_model_event",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_measurement",
    "mle_package/machine_learning_engineering/events/schemas.py:decode_api_call",
    "stream_app/serving/arms.py:_decode",
    "stream_app/shadow/frames.py:decode_opened",
    "stream_app/shadow/frames.py:decode_reply",
    "stream_app/shadow/frames.py:_decode_array",
    "monitoring/archive/prediction_log.py:_decode_names",
    "mle_package/machine_learning_engineering/events/schemas.py:parse",
    "mle_package/machine_learning_engineering/observability/redaction.py:_decode_fields",
)
DEEP = b"[" * 20_000 + b"]" * 20_000
TIMES = st.sampled_from(
    [(2, corpus.MILLISECONDS), (1, 0), (0, -1), (1, 2**62), (2, -(2**62)), (1, 253_402_300_800_000)]
)
EVENTS = (*corpus.API_CALLS, *corpus.LOGS, *corpus.MEASUREMENTS, *corpus.MODEL_EVENTS, *corpus.LABELS, *corpus.RESULTS)


@dose(83)
@given(
    topic=st.sampled_from(["prediction-logs", "prediction-shadows", "model-measurements", "model-events", "api-calls"]),
    value=mutated(EVENTS),
    timestamp=TIMES,
)
@hypothesis.example("prediction-logs", corpus.LOGS[0].replace(b'"batch_size":7', b'"batch_size":' + b"9" * 25), (2, 0))
@hypothesis.example("model-measurements", corpus.MEASUREMENTS[0].replace(b'"rows":500', b'"rows":' + b"9" * 25), (2, 0))
def test_the_indexer_makes_documents_or_a_dead_letter(topic: str, value: bytes, timestamp: tuple[int, int]) -> None:
    batch = Batch(PROJECTIONS)
    with bounded(len(value)):
        batch.add(corpus.message(topic, value, timestamp=timestamp))
    assert batch.records == 1
    for letter in batch.dead_letters:
        assert batch.entries == []
        assert letter.reason == PROJECTIONS[topic].undecodable
        check_message(letter.explanation)
    for entry in [*batch.entries, *batch.deferred]:
        assert b"\n" not in entry.action + entry.document
        assert len(msgspec.json.decode(entry.action)["create"]["_id"].encode()) <= 512
        assert msgspec.json.decode(entry.document)["inflight"]
    again = Batch(PROJECTIONS)
    again.add(corpus.message(topic, value, timestamp=timestamp))
    assert [one.lines for one in again.entries] == [one.lines for one in batch.entries]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an archive."""
    return f"sqlite:///{tmp_path_factory.mktemp('archive') / 'archive.sqlite'}"


@dose(60)
@given(
    topic=st.sampled_from(["prediction-logs", "prediction-labels", "api-calls"]),
    value=mutated((*corpus.LOGS, *corpus.LABELS, *corpus.API_CALLS)),
    timestamp=TIMES,
)
@hypothesis.example("prediction-logs", corpus.LOGS[0].replace(b'"batch_size":7', b'"batch_size":' + b"9" * 25), (2, 0))
def test_the_archive_takes_a_record_or_it_is_unreadable(
    archived: str, topic: str, value: bytes, timestamp: tuple[int, int]
) -> None:
    """What it takes is read back; the database refuses none."""
    record = corpus.message(topic, value, timestamp=timestamp)
    try:
        with bounded(len(value)):
            row = PROJECTIONS_OF_ARCHIVE[topic].row(record)
    except UNREADABLE:
        return
    with ArchivePredictionLog(archived) as log:
        results = Store(log._database).write([row])
        assert sum(results.values()) == 1
        assert not [result for _, result in results if result == "refused"]
        if row.table == "predictions":
            read = list(log.read(row.values["model"], since=row.at, until=row.at + timedelta(microseconds=1)))
            assert row.key[0] in [one.request_id for one in read]
            msgspec.json.encode(read)


@dose(33)
@given(value=mutated((*corpus.LOGS, *corpus.RESULTS)))
def test_the_exporter_counts_every_record(value: bytes) -> None:
    registry = CollectorRegistry()
    observer = Observer(ExporterMetrics(registry))
    with bounded(len(value)):
        observer.observe_log_record(value)
        observer.observe_shadow_record(value)
    text = generate_latest(registry)
    kinds = (
        b"inflight_predictions_total{",
        b"inflight_exporter_unreadable_records_total",
        b"inflight_rollout_shadows_total{",
    )
    counted = [float(line.rpartition(b" ")[2]) for line in text.splitlines() if line.startswith(kinds)]
    # As a log record or unreadable, and as a shadow or unreadable.
    assert sum(counted) == 2, text[-2_000:]


@dose(33)
@given(values=st.lists(mutated((*corpus.LOGS, *corpus.RESULTS)), min_size=1, max_size=4))
def test_the_drift_monitor_takes_or_leaves_each_record(values: list[bytes]) -> None:
    messages = [corpus.message("prediction-logs", value, offset=number) for number, value in enumerate(values)]
    with bounded(sum(map(len, values))):
        batch = read_batch(messages)
        rows = [row for run in batch.runs.values() for row in run]
        for part in ([row.features for row in rows], [row.prediction for row in rows]):
            decoded = decode_objects(part)
            assert len(decoded) == len(part)
            assert all(one is None or isinstance(one, dict) for one in decoded)
    assert len(rows) + batch.left_out.total() == len(values)
    assert batch.next_offsets == {0: len(values)}


def _windows() -> tuple[Windows, State]:
    model = corpus.fitted()
    examples = list(corpus.Houses.examples())
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    profile = reference_profile(model, rows, model.predict(rows))
    references: Any = SimpleNamespace(get=lambda *_: SimpleNamespace(profile=profile, digest="d1"))
    windows = Windows(references, Limits(500, timedelta(hours=1), 50, 1e6))
    windows.add(read_batch([corpus.message("prediction-logs", corpus.LOGS[0], offset=number) for number in range(5)]))
    return windows, windows.state(0)


def test_the_drift_monitor_continues_from_a_state_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, state = _windows()
    reader: Any = object.__new__(StateReader)
    reader._topic = "drift-state"
    reader._consumer = SimpleNamespace(get_watermark_offsets=lambda *_, **__: (0, 1))
    monkeypatch.setattr(StateReader, "partition_of", lambda _self, _partition: 0)

    @dose(50)
    @given(value=mutated([msgspec.json.encode(state)]))
    @hypothesis.example(value=b"\xff" + msgspec.json.encode(state))
    @hypothesis.example(value=msgspec.json.encode(state).replace(b'Z"', b'"'))
    @hypothesis.example(value=msgspec.json.encode(state).replace(b'"counts":[[[5', b'"counts":[[["5"'))
    @hypothesis.example(value=b'{"next_offset":1,"other":' + DEEP + b"}")
    def restore(value: bytes) -> None:
        monkeypatch.setattr(
            StateReader, "_from", lambda *_: [corpus.message("drift-state", value, state_key(0))], raising=True
        )
        with bounded(len(value)):
            found = reader._last(0)
            if found is None:
                return
            windows.clear()
            windows.restore(0, found)
            windows.add(
                read_batch(
                    [corpus.message("prediction-logs", corpus.LOGS[0], offset=min(abs(found.next_offset), 2**62))]
                )
            )
            assert msgspec.json.decode(msgspec.json.encode(windows.state(0)), type=State).next_offset >= 0

    restore()


@dose(50)
@given(value=mutated(corpus.LABELS), timestamp=TIMES, source=st.binary(max_size=300))
def test_a_label_is_a_report_or_a_dead_letter(value: bytes, timestamp: tuple[int, int], source: bytes) -> None:
    record = corpus.message("prediction-labels", value, b"k", headers=[("ce_source", source)], timestamp=timestamp)
    with bounded(len(value)):
        found = reports.read(record)
    if not isinstance(found, Report):
        assert found.reason in (reports.UNDECODABLE, reports.INVALID)
        check_message(found.explanation)
        return
    assert msgspec.json.decode(found.label) is not None
    assert len(found.source) <= 256
    # Parked and read back it is the same report.
    document = msgspec.json.decode(msgspec.json.encode(pending._document(found, corpus.NOW)))
    again = reports.read(pending.StoredRecord(document["inflight"]["record"]))
    assert isinstance(again, Report)
    assert (again.rank, again.source, again.request_id) == (found.rank, found.source, found.request_id)


@dose(20)
@given(label=mutated([b"326.5", b'{"price": 3}', b'"x"', b"[1]"]))
def test_the_evaluator_refuses_labels_without_their_value(label: bytes, tmp_path_factory: Any) -> None:
    evaluator: Any = object.__new__(RegistryEvaluator)
    evaluator._classes = SimpleNamespace(of=lambda model: corpus.Houses)
    reason = evaluator.rejection_reason("houses", label)
    check_message(reason or "")
    predictions, labels = _decoded(corpus.fitted(), [(b'{"price":1.0,"kind":"flat"}', label), (label, b"1.0")])
    assert len(predictions) == len(labels) == (reason is None)


def _topics(monkeypatch: pytest.MonkeyPatch, module: Any) -> dict[str, list[Any]]:
    topics: dict[str, list[Any]] = {}
    monkeypatch.setattr(module, "read_to_end", lambda _settings, topic, *_, **__: iter(topics.get(topic, ())))
    monkeypatch.setattr(module, "end_offsets", lambda *_, **__: {0: 1}, raising=False)
    return topics


@dose(40)
@given(
    topic=st.sampled_from(["prediction-logs", "prediction-requests", "prediction-results", "prediction-labels"]),
    value=mutated((*EVENTS, *corpus.REQUESTS)),
    timestamp=TIMES,
)
def test_trace_shows_what_it_can_read(
    topic: str, value: bytes, timestamp: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = _topics(monkeypatch, trace_readers)
    topics[topic] = [corpus.message(topic, value, b"r-00000000", timestamp=timestamp)]
    with bounded(len(value)):
        steps = list(trace_readers.RequestReader(Settings(_env_file=None), "r-00000000", values=True).steps())  # type: ignore[call-arg]
    assert len(steps) <= 1
    for step in steps:
        assert step.at.tzinfo is not None
        msgspec.json.encode({name: one for name, one in step.details.items() if not isinstance(one, Raw)})


@dose(26)
@given(value=mutated((*corpus.RESULTS, *corpus.MEASUREMENTS)))
@hypothesis.example(value=corpus.RESULTS[0][:-1] + b',"prediction":' + DEEP + b"}")
@hypothesis.example(value=corpus.MEASUREMENTS[0][:-1] + b',"other":' + DEEP + b"}")
def test_results_and_windows_are_read_or_left_out(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    _topics(monkeypatch, trace_results)["prediction-results"] = [corpus.message("prediction-results", value)]
    found = trace_results.newest_results(settings, 5, model="houses")
    assert len(found.results) + found.unreadable <= 1
    _topics(monkeypatch, history)["model-measurements"] = [corpus.message("model-measurements", value, b"houses")]
    assert len(history.last_windows(settings, "houses", 3)) <= 1


@dose(26)
@given(value=mutated((*corpus.REQUESTS, *corpus.RESULTS, *corpus.LOGS)), timestamp=TIMES)
def test_the_audit_counts_every_record(
    value: bytes, timestamp: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    topics, settings = _topics(monkeypatch, audit_readers), Settings(_env_file=None)  # type: ignore[call-arg]
    for topic in ("prediction-requests", "prediction-results", "prediction-logs"):
        topics[topic] = [corpus.message(topic, value, timestamp=timestamp)]
    assert len(list(audit_readers.requests(settings))) == 1
    assert len(list(audit_readers.results(settings))) == 1
    assert len(list(audit_readers.logs(settings))) <= 1


@dose(20)
@given(value=mutated(corpus.REQUESTS))
def test_labels_of_published_requests_are_found_or_not(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = _topics(monkeypatch, producer_labels)
    topics["prediction-requests"] = [corpus.message("prediction-requests", value)]
    examples = list(corpus.Houses.examples())
    assert len(list(producer_labels.labels_by_requests(Settings(_env_file=None), examples, "houses"))) <= 1  # type: ignore[call-arg]


def test_the_feature_store_takes_or_counts_each_record(tmp_path: Path) -> None:
    with FeatureStore(tmp_path) as store:
        follower: Any = object.__new__(Follower)
        follower._labels, follower._offsets, follower._metrics = "labels", {}, FeatureMetrics(CollectorRegistry())
        follower._records = follower.unreadable = follower.others = 0

        @dose(20)
        @given(log=mutated(corpus.LOGS), label=mutated(corpus.LABELS), timestamp=TIMES)
        def follow(log: bytes, label: bytes, timestamp: tuple[int, int]) -> None:
            builder = ExampleBuilder(store, corpus.Houses)
            follower._builders = {"houses": builder}
            before = follower.unreadable + follower.others
            with bounded(len(log) + len(label)):
                follower._add(corpus.message("logs", log))
                follower._add(corpus.message("labels", label, timestamp=timestamp))
                builder.flush()
            assert follower.unreadable + follower.others - before + builder.requests + builder.labels == 2

        follow()
        report = ExampleBuilder(store, corpus.Houses).write_examples(tmp_path / "examples")
        lines = Path(report.path).read_bytes().splitlines() if report.examples else []
        assert len(lines) == report.examples
        for line in lines:
            msgspec.json.decode(line)


@dose(60)
@given(value=mutated(corpus.SHADOWS))
@hypothesis.example(corpus.SHADOWS[0].replace(b'"offset":40', b'"offset":' + b"9" * 30))
@hypothesis.example(corpus.SHADOWS[0].replace(b'{"price":4}', DEEP))
def test_a_shadow_is_read_or_refused(value: bytes) -> None:
    """What is read comes back equal."""
    try:
        with bounded(len(value)):
            found = events.decode_shadow(value)
    except UNREADABLE:
        return
    assert events.decode_shadow(events.encode(found)) == found


ANSWERS = (
    frames.frame(
        frames.Reply([b"1", b"", b'{"price":3.5}'], [frames.Failure(1, "prediction_error", "it raised")], 0.1)
    ),
    frames.frame(frames.Reply([b"1,2", b"null", b"[]"], [], 0.1)),
    frames.frame(frames.Opened("no such type")),
)


@dose(60)
@given(answer=mutated(ANSWERS))
@hypothesis.example(ANSWERS[0].replace(b"3.5", b"NaN"))
@hypothesis.example(b"\xff\xff\xff\xff")
def test_whatever_the_process_of_a_shadow_says_ends_at_most_that_process(answer: bytes) -> None:
    """It runs code that nobody has judged yet, which may write to the socket, too."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    process: Any = object.__new__(ShadowProcess)
    process._connection, process._timeout, process._memory_bytes = ours, 60.0, 1
    process._is_stopping, process.pid, process._resources = bool, 0, ExitStack()
    process._process = SimpleNamespace(returncode=0)
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        try:
            reply = process.ask([b"{}", b"{}", b"{}"])
        except ShadowEnded as ended:
            check_message(str(ended))
            return
        for prediction in reply.predictions:
            events.parse(Raw(prediction or b"0"))


@given(
    features=mutated([b'{"customer": {"id": 7}}', b'{"customer": {"id": "a"}}', b'{"customer": 1}']),
    key=st.none() | st.binary(),
)
@hypothesis.example(b'{"customer": {"id": ' + DEEP + b"}}", None)
def test_every_request_has_an_arm(features: bytes, key: bytes | None) -> None:
    """Features that are no JSON fail later; until then, they have the arm of their key or id."""
    entity = corpus.arms("customer.id").entity(Raw(features), key, "r-1")
    assert isinstance(entity, bytes)
