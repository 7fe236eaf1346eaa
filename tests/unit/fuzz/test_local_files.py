"""Files that Inflight wrote for itself, and that others may have damaged: state of the stack, spool, log, features."""

import warnings
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from inflight.stack.process import ProcessId
from inflight.stack.stack import NodeState, StackState
from machine_learning_engineering.core import files
from machine_learning_engineering.core.validation import parse_decoder_message
from machine_learning_engineering.feature_store import offline
from machine_learning_engineering.feature_store.example_file import LabelValue
from machine_learning_engineering.observability.redaction import Redactor
from machine_learning_engineering.prediction_log.predict import replay_spool
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLogError, PredictionRecord
from machine_learning_engineering.retraining import live_rows
from machine_learning_engineering.retraining.fresh_rows import rows_of_stream
from machine_learning_engineering.rollout.record import Rollouts
from machine_learning_engineering.settings import KernelSettings as Settings
from machine_learning_engineering.training.log_source import read_log
from machine_learning_engineering.training.records import SourceUnreadable
from machine_learning_engineering.training.sources import stream_examples
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, dose, mutated

_K = "mle_package/machine_learning_engineering/"
DOORS = (
    "inflight/stack/stack.py:StackState.load",
    _K + "prediction_log/predict.py:replay_spool",
    _K + "prediction_log/rows.py:_loggable",
    _K + "prediction_log/sqlite.py:_decode",
    _K + "observability/redaction.py:_decode",
    _K + "retraining/fresh_rows.py:_of_log",
    _K + "retraining/fresh_rows.py:_of_stream",
    _K + "retraining/live_rows.py:read",
    _K + "feature_store/offline.py:decode",
)
DEEP = b"[" * 20_000 + b"]" * 20_000


def _record(number: int, **fields: Any) -> PredictionRecord:
    known: dict[str, Any] = {
        "request_id": f"r-{number}",
        "model": "houses",
        "model_version": "v1",
        "outcome": "completed",
        "features": Raw(msgspec.json.encode(corpus.FEATURES[number % 2])),
        "created_at": corpus.NOW,
        "score_seconds": 0.1,
        "batch_size": 1,
        "prediction": Raw(b'{"price":3.5,"kind":"flat"}'),
        "label": Raw(b"3.5"),
        "label_source": "till",
    }
    return PredictionRecord(**known | fields)


@pytest.mark.parametrize("kind", ["embedded", "real"])
def test_state_of_the_stack(kind: Any, tmp_path: Path) -> None:
    names = ("embedded",) if kind == "embedded" else ("kafka", "elasticsearch")
    addresses = {"kafka": "127.0.0.1:9092", "elasticsearch": "http://127.0.0.1:9200"}
    nodes = tuple(
        NodeState(name, ProcessId(4_000_000, "1"), addresses, str(tmp_path / "stack" / name / f"{name}.log"))
        for name in names
    )
    StackState(kind, nodes).save(tmp_path)
    path = tmp_path / "stack" / "state.json"
    assert StackState.load(tmp_path) == StackState(kind, nodes)

    @dose(50)
    @given(content=mutated([path.read_bytes()]))
    @hypothesis.example(content=b"[" * 100_000)
    @hypothesis.example(content=path.read_bytes().replace(b"4000000", b"Infinity"))
    @hypothesis.example(content=path.read_bytes().replace(b"4000000", b"1" * 30))
    @hypothesis.example(content=path.read_bytes().replace(b"4000000", b"-1"))
    @hypothesis.example(content=path.read_bytes().replace(b'"127.0.0.1:9092"', b"9092"))
    @hypothesis.example(content=path.read_bytes().replace(b'"' + kind.encode() + b'"', b"[]"))
    def load(content: bytes) -> None:
        files.write(path, content)
        with bounded(len(content)):
            state = StackState.load(tmp_path)
            if state is None:
                return
            # `up` prints it for a shell, `down` signals it.
            assert state.is_alive() in (True, False)
            assert all("\n" not in value for value in state.endpoints.environment.values())
        for node in state.nodes:
            assert node.process_id.pid > 1

    load()


def test_spool_of_predictions(tmp_path: Path) -> None:
    lines = b"".join(msgspec.json.encode(_record(number)) + b"\n" for number in range(3))
    number = 0

    @dose(8)
    @given(content=mutated([lines]))
    @hypothesis.example(content=lines + b'{"features":' + DEEP + b"}\n")
    @hypothesis.example(
        content=msgspec.json.encode(_record(0)).replace(b'"batch_size":1', b'"batch_size":' + b"9" * 30)
    )
    @hypothesis.example(content=msgspec.json.encode(_record(0)).replace(b'"price":3.5', b'"price":"\xff"'))
    def replay(content: bytes) -> None:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        files.make_folder(folder)
        path = folder / "spool.jsonl"
        files.write(path, content)
        with SqlitePredictionLog(folder / "log.sqlite") as log:
            with bounded(len(content)), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                count = replay_spool(log, folder)
            assert path.read_bytes() == b""
            read = list(log.read("houses"))
            assert len(read) <= count
            _train_from(log)

    replay()


def _train_from(log: SqlitePredictionLog) -> None:
    """Training and retraining take what a log holds, or count it."""
    from collections import Counter

    model = corpus.fitted()
    rows = live_rows.read(model, log, None, version="v1", max_rows=10)
    assert len(rows.rows) == len(rows.predictions)
    skipped: Counter[str] = Counter()
    try:
        found = list(read_log(corpus.Houses, log, "log", skipped))
    except SourceUnreadable as error:
        assert len(str(error)) < 3_000
    else:
        assert found


@dose(26)
@given(
    features=mutated([bytes(corpus.REQUESTS[0][60:]), *(msgspec.json.encode(one) for one in corpus.FEATURES)]),
    prediction=mutated([b'{"price":3.5,"kind":"flat"}']),
    label=mutated([b"3.5", b'"x"']),
)
@hypothesis.example(b"{}", b'{"price":3.5,"kind":"\xff"}', b"1")
@hypothesis.example(b"{}", b'{"other":' + DEEP + b',"price":1,"kind":""}', b"1")
@hypothesis.example(b'{"area":1}', b'{"price":3.5,"kind":"flat"}', b"[" * 20_000)
def test_a_log_whose_json_was_damaged(features: bytes, prediction: bytes, label: bytes) -> None:
    record = _record(0, features=Raw(features), prediction=Raw(prediction), label=Raw(label))
    log: Any = type("Log", (), {"read": lambda *_, **__: iter([record])})()
    with bounded(len(features) + len(prediction) + len(label)):
        _train_from(log)
        found = rows_of_stream(corpus.Houses, Settings(), log, Rollouts(), since=corpus.NOW, now=corpus.NOW)
    assert len(found.examples) + sum(found.counts.values()) >= 1


@dose(26)
@given(
    content=mutated(
        [
            b'{"features":{"area":1.5,"rooms":2},"label":3.5,"request_id":"r","observed_at":"2026-01-01T00:00:00Z"}\n'
            * 2,
            *(msgspec.json.encode({"features": one, "label": 1.0}) + b"\n" for one in corpus.FEATURES),
        ]
    )
)
@hypothesis.example(content=b'{"features":' + DEEP + b"}")
@hypothesis.example(content=DEEP)
def test_examples_of_the_stream_that_were_damaged(content: bytes, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    path = stream_examples("houses", settings) / "examples.jsonl"
    files.make_folder(path.parent)
    path.write_bytes(content)
    log: Any = type("Log", (), {"read": lambda *_, **__: iter([])})()
    with bounded(len(content) * 4):
        try:
            rows_of_stream(corpus.Houses, settings, log, Rollouts(), since=corpus.NOW, now=corpus.NOW)
        except ValueError as error:
            assert str(error)


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqlitePredictionLog(path) as log:
        log.append([_record(number) for number in range(3)])
    content = path.read_bytes()
    number = 0

    @dose(8)
    @given(content=mutated([content]))
    @hypothesis.example(content=content.replace(b'"batch_size":1', b'"batch_size":{'))
    def read(content: bytes) -> None:
        nonlocal number
        number += 1
        damaged = tmp_path / f"{number}.sqlite"
        damaged.write_bytes(content)
        try:
            with bounded(len(content)), SqlitePredictionLog(damaged, timeout=0.1) as log:
                list(log.read("houses"))
        except PredictionLogError as error:
            assert str(damaged) in str(error)

    read()


@dose(33)
@given(features=mutated([msgspec.json.encode(one) for one in corpus.FEATURES]))
def test_redaction_withholds_what_it_can_not_read(features: bytes) -> None:
    redact = Redactor({"owner": "hash", "area": "drop"}, "keep", lambda _: "hash-" + "0" * 32)
    with bounded(len(features)):
        kept = msgspec.json.decode(redact(Raw(features)), type=dict[str, Raw])
    assert "area" not in kept
    assert bytes(kept.get("owner", Raw(b"null"))) in (b"null", b'"hash-' + b"0" * 32 + b'"')


@dose(20)
@given(record=mutated([msgspec.json.encode(LabelValue(3.5)), msgspec.json.encode(corpus.FEATURES[0])]))
@hypothesis.example(record=DEEP)
@hypothesis.example(record=b"{")
def test_a_row_of_the_feature_store_is_read_or_named(record: bytes) -> None:
    try:
        offline.decode(record, corpus.HouseFeatures)
    except offline.FeatureStoreError as error:
        assert str(error)


@dose(33)
@given(
    text=st.text(max_size=200)
    | mutated([b"Expected `int`, got `str` - at `$.sizes[0]`"]).map(lambda b: b.decode(errors="replace"))
)
def test_messages_of_the_decoder_are_taken_apart_in_linear_time(text: str) -> None:
    with bounded(len(text)):
        parse_decoder_message(ValueError(text))
