"""Labelled requests of a prediction log as examples: what is set aside, and what is said when there is none."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionRecord
from machine_learning_engineering.testing.log_store_examples import example
from machine_learning_engineering.training.log_source import read_label_file
from machine_learning_engineering.training.records import SourceUnreadable
from machine_learning_engineering.training.sources import collect


@pytest.fixture
def collected(doubler_class, settings, monkeypatch):
    """What is found in a source."""
    monkeypatch.setattr(doubler_class, "Label", float)
    return lambda source: collect(doubler_class, settings, [source])


@pytest.fixture
def read(collected):
    """The records of a source, as (number, features, label, group)."""

    def read(source: str):
        found = collected(source).records
        return [(one.number, msgspec.json.decode(one.features), one.label, one.group) for one in found]

    return read


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def logged(request_id: str, number: int, **more: Any) -> PredictionRecord:
    features = msgspec.Raw(b'{"number":%d}' % number)
    return example(request_id, "doubler", at=datetime(2026, 1, number, tzinfo=UTC), **({"features": features} | more))


@pytest.fixture
def log(settings):
    with SqlitePredictionLog(settings.prediction_log) as log:
        log.append([logged("a", 1), logged("b", 2), logged("c", 3)])
        log.label("b", 4)
        yield log


def test_labelled_requests_of_the_log_are_examples(read, log):
    assert read("log") == [(1, {"number": 2}, b"4", None)]


HASHED = msgspec.Raw(b'{"number": 5, "note": "hash-%s"}' % (b"0a" * 16))


def test_a_single_odd_request_is_set_aside_and_counted(collected, log):
    """Anyone may send one: a forged hash, features of an older schema, a label that is none."""
    log.append(
        [
            logged("forged", 5, features=HASHED),
            logged("old", 6, features=msgspec.Raw(b'{"count":1}')),
            logged("odd", 7),
            logged("null", 8),
            logged("refused", 9, features=msgspec.Raw(b"{}"), redacted=["*"], outcome="failed"),
        ]
    )
    for name, label in (("forged", 10), ("old", 12), ("odd", "many"), ("null", None), ("refused", 18)):
        log.label(name, label)
    found = collected("log")
    assert [record.features for record in found.records] == [b'{"number":2}']
    assert found.sources[0].skipped == {"hashed": 1, "unreadable": 1, "bad label": 2, "failed": 1}


@pytest.mark.parametrize(
    "features", [HASHED, msgspec.Raw(b'{"number": 5}'), msgspec.Raw(b'{"number": 5, "note": null}')]
)
def test_a_log_whose_features_are_redacted_by_rule_is_refused(read, log, features):
    """Whether a value was hashed or dropped: also rows that look whole are not as they were sent."""
    log.append([logged("d", 5, features=features, redacted=["note"])])
    log.label("d", 10)
    message = r"in 1 of 2 labelled requests .* does not hold `note` as sent \(INFLIGHT_LOG_REDACT.* with -ds FILE"
    with pytest.raises(SourceUnreadable, match=message):
        read("log")


def test_a_log_in_which_everything_is_redacted_is_refused(read, log):
    log.append([logged("d", 5, features=msgspec.Raw(b"{}"), redacted=["*"])])
    log.label("d", 10)
    with pytest.raises(SourceUnreadable, match="does not hold all features as sent"):
        read("log")


def test_redacted_requests_without_a_label_are_in_nobodys_way(read, log):
    log.append([logged("d", 5, features=HASHED, redacted=["note"])])
    assert read("log") == [(1, {"number": 2}, b"4", None)]


def test_a_log_without_an_example_says_what_was_set_aside(read, log):
    log.label("b", "many")
    with pytest.raises(
        SourceUnreadable, match=r"is a usable example: 1 bad label; request 'b': label `label`: Expected `float`"
    ):
        read("log")


def test_what_was_set_aside_is_in_the_training_log(doubler_class, settings, log):
    for extra in ("pyarrow", "optuna"):
        pytest.importorskip(extra, reason="needs the extra training")
    from machine_learning_engineering.training import run_log as training_log
    from machine_learning_engineering.training.pipeline import run_training

    log.append([logged(f"n{number}", number) for number in range(1, 29)])
    log.append([logged("forged", 5, features=HASHED)])
    for number in range(1, 29):
        log.label(f"n{number}", 2 * number)
    log.label("forged", 1)
    run_training(doubler_class, settings, sources=["log"])
    [entry] = training_log.read(settings.training_log)
    assert entry.rows_trained + entry.rows_held_out == 29
    assert [(source.rows, source.skipped) for source in entry.sources] == [(29, {"hashed": 1})]


def test_one_source_of_labels_may_have_a_share_of_a_log_only(doubler_class, settings):
    """The newest of its rows; who reported the others is told."""
    raw = msgspec.Raw
    records = [logged(f"a{n}", n, label=raw(b"%d" % n), label_source="/attacker") for n in range(1, 21)]
    records += [logged(f"s{n}", n, label=raw(b"%d" % n), label_source="/shop") for n in range(1, 4)]
    records += [logged(f"n{n}", n, label=raw(b"%d" % n)) for n in range(1, 4)]

    class Log:
        def read(self, model, **options):
            return iter(records)

    def found(share):
        limited = settings.model_copy(update={"train_max_source_share": share})
        return collect(doubler_class, limited, ["mine"], logs={"mine": Log()})

    free, half, none = found(1.0).sources[0], found(0.5), 0.01
    assert (free.rows, free.label_sources) == (26, {"/attacker": 20, "/shop": 3, "": 3})
    [source] = half.sources
    assert (source.rows, source.label_sources) == (12, {"/attacker": 6, "/shop": 3, "": 3})
    assert source.skipped == {"above the share of a source": 14}
    assert [one.label for one in half.records[:6]] == [b"15", b"16", b"17", b"18", b"19", b"20"]
    with pytest.raises(SourceUnreadable, match="26 above the share of a source"):
        found(none)


def test_labels_of_requests_that_are_not_there_are_counted(collected, log, tmp_path):
    path = write(tmp_path / "labels.csv", "request_id,label\na,2\nz,9\ny,9\n")
    assert collected(f"log:{path}").sources[0].skipped == {"label of no request": 2}
    write(path, "request_id,label\nz,9\n")
    log.label("b", None)
    with pytest.raises(SourceUnreadable, match="is a usable example: 1 bad label, 1 label of no request; request 'b'"):
        collected(f"log:{path}")


def test_labels_of_no_request_at_all_say_so(read, settings, tmp_path):
    with SqlitePredictionLog(settings.prediction_log) as log:
        log.append([logged("a", 1)])
    path = write(tmp_path / "labels.csv", "request_id,label\nz,9\n")
    with pytest.raises(
        SourceUnreadable, match=r"none of the 1 labels in .*labels.csv belongs to a request for `doubler`"
    ):
        read(f"log:{path}")


@pytest.mark.parametrize(
    ("kind", "cells", "values"),
    [
        (bool, "0 1 true False", [False, True, True, False]),
        (float, "0 1 2.5", [0, 1, 2.5]),
        (str, "0 abc", ["0", "abc"]),
    ],
)
def test_cells_of_labels_become_what_a_label_is(doubler_class, monkeypatch, tmp_path, kind, cells, values):
    """The same as in files of examples. Further columns don't matter, nor does a cell that is empty."""
    monkeypatch.setattr(doubler_class, "Label", kind)
    lines = [f"{n},x,{cell}\n" for n, cell in enumerate(cells.split())]
    path = write(tmp_path / "labels.csv", "request_id,when,label\n" + "".join(lines) + "empty,x,\n")
    found = {key: msgspec.json.decode(value) for key, value in read_label_file(path, doubler_class).items()}
    assert list(found.values()) == [*values, None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "request_id,label\na,2\nz,9\nb,5\n"),
        ("labels.jsonl", '{"request_id":"a","label":2}\n{"request_id":"b","label":5}\n'),
    ],
)
def test_a_file_of_labels_is_joined_by_request_id(read, log, tmp_path, name, content):
    path = write(tmp_path / name, content)
    assert read(f"log:{path}") == [(1, {"number": 1}, b"2", None), (2, {"number": 2}, b"5", None)]


def test_a_log_without_labels_says_so(read, settings):
    with SqlitePredictionLog(settings.prediction_log) as log:
        log.append([logged("a", 1)])
    with pytest.raises(SourceUnreadable, match=r"no request for `doubler` in .* has a label"):
        read("log")


def test_a_log_that_is_missing_or_damaged_says_so(read, settings):
    with pytest.raises(SourceUnreadable, match="there is no prediction log at"):
        read("log")
    write(settings.prediction_log, "x" * 5_000)
    with pytest.raises(SourceUnreadable, match="is not a prediction log"):
        read("log")


@pytest.mark.parametrize("content", ["id,label\na,2\n", "request_id\na\n"])
def test_labels_without_their_columns_are_refused(read, log, tmp_path, content):
    path = write(tmp_path / "labels.csv", content)
    with pytest.raises(SourceUnreadable, match=r"the labels in .*labels.csv can't be read"):
        read(f"log:{path}")
    with pytest.raises(SourceUnreadable, match="nowhere can't be read"):
        read("log:nowhere")
