"""Logged requests and labels that came later become training data by themselves."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from msgspec import Raw

from machine_learning_engineering.feature_store import example_file
from machine_learning_engineering.feature_store import examples as examples_module
from machine_learning_engineering.feature_store.examples import (
    EXAMPLES_FILE,
    ExampleBuilder,
    Label,
    build,
    label_view,
    read_labels,
    request_view,
)
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.testing.log_store_examples import example

pytest.importorskip("pyarrow", reason="needs the extra parquet")

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def log(tmp_path):
    """Three requests, a minute apart; one that the model refuses; one of another model."""
    with SqlitePredictionLog(tmp_path / "log.sqlite") as opened:
        records = [_asked(f"r{n}", n, b'{"number":%d}' % n) for n in range(3)]
        opened.append([*records, _asked("bad", 3, b'{"number":"many"}'), example("other", "halver", at=START)])
        yield opened


@pytest.fixture
def store(tmp_path):
    with FeatureStore(tmp_path / "features") as opened:
        yield opened


def _asked(request_id, minute, features):
    at = START + timedelta(minutes=minute)
    return example(request_id, "doubler", at=at, features=Raw(features))


def label(request_id, value, minute=60, model="doubler"):
    return Label(request_id, model, value, START + timedelta(minutes=minute))


@pytest.fixture
def run(store, log, doubler_class, tmp_path):
    def run(*labels):
        return build(store, doubler_class, log.read("doubler"), labels, tmp_path / "examples")

    return run


def lines(built):
    return [json.loads(line) for line in Path(built.path).read_text().splitlines()]


def test_labelled_requests_become_examples(run):
    built = run(label("r2", 4.0), label("r0", 0.0, minute=70), label("r1", 2.0, model="halver"))
    assert (built.requests, built.new_requests, built.refused) == (4, 3, 1)
    assert (built.labels, built.new_labels, built.unmatched, built.examples) == (2, 2, 0, 2)
    first, second = lines(built)
    assert first == {
        "features": {"number": 2.0, "unit": "m", "count": None, "note": None},
        "label": 4.0,
        "request_id": "r2",
        "observed_at": "2026-01-01T01:00:00Z",
    }
    assert second["request_id"] == "r0"


def test_building_again_adds_only_what_is_new(run, log):
    run(label("r0", 0.0))
    log.append([_asked("r9", 9, b'{"number":9}')])
    built = run(label("r0", 0.0), label("r9", 18.0))
    assert (built.new_requests, built.new_labels, built.examples) == (1, 1, 2)
    assert [one["request_id"] for one in lines(built)] == ["r0", "r9"]
    assert run(label("r9", 18.0)).examples == 2


def test_any_number_of_rows_is_built_in_pages(run, log, monkeypatch):
    monkeypatch.setattr(examples_module, "_PAGE", 2)
    log.append([_asked(f"more{n}", n, b'{"number":1}') for n in range(7)])
    built = run(*(label(f"more{n}", 2.0) for n in range(7)))
    assert (built.new_requests, built.new_labels, built.examples) == (10, 7, 7)


def taught(builder, *numbers):
    """The builder, given requests and their labels."""
    for number in numbers:
        builder.add_request(f"r{number}", START, Raw(b'{"number":%d}' % number))
        builder.add_label(f"r{number}", START + timedelta(hours=1), 2.0 * number)
    return builder


def test_what_was_kept_by_whoever_was_killed_makes_the_examples_stale(store, doubler_class, tmp_path):
    """For its successor, and for one that has been running: nothing is new to the store, and no file has it."""
    running = ExampleBuilder(store, doubler_class)
    assert running.write_examples(tmp_path).examples == 0
    assert not running.is_dirty
    taught(ExampleBuilder(store, doubler_class), 1, 2).flush()
    taught(running, 1, 2).flush()
    assert running.new_labels == 0
    assert running.is_dirty
    assert ExampleBuilder(store, doubler_class).is_dirty
    assert running.write_examples(tmp_path).examples == 2
    running.flush()
    assert not running.is_dirty


def test_a_full_page_makes_the_examples_stale(store, doubler_class, tmp_path, monkeypatch):
    """It is kept in between, and leaves nothing for the one who calls `flush`."""
    monkeypatch.setattr(examples_module, "_PAGE", 1)
    builder = ExampleBuilder(store, doubler_class)
    builder.write_examples(tmp_path)
    taught(builder, 1).flush()
    assert builder.is_dirty


def test_of_two_that_write_examples_none_loses_what_the_other_has(store, doubler_class, tmp_path, monkeypatch):
    """The one that began first is not the last to write, with less than the other."""
    replace = example_file.durable.replace
    one, other = taught(ExampleBuilder(store, doubler_class), 1), ExampleBuilder(store, doubler_class)

    def meanwhile():
        taught(other, 2).flush()
        other.write_examples(tmp_path)

    second = threading.Thread(target=meanwhile)

    def slowly(path, content):
        if path.name == EXAMPLES_FILE and second.ident is None:
            second.start()
            # Where nothing keeps the second one waiting, it is done long before this.
            second.join(1.0)
        replace(path, content)

    monkeypatch.setattr(example_file.durable, "replace", slowly)
    one.flush()
    one.write_examples(tmp_path)
    second.join()
    assert (tmp_path / EXAMPLES_FILE).read_text().count("request_id") == 2


def test_what_is_new_is_appended_and_what_has_changed_is_written_anew(store, doubler_class, tmp_path, monkeypatch):
    """In the order in which a stream brings it: labels before requests, twice, corrected."""
    replaced = []
    replace = example_file.durable.replace
    monkeypatch.setattr(
        example_file.durable, "replace", lambda path, content: replaced.append(path.name) or replace(path, content)
    )
    builder = taught(ExampleBuilder(store, doubler_class), 1)
    path = tmp_path / EXAMPLES_FILE

    def written():
        builder.flush()
        built = builder.write_examples(tmp_path)
        lines = {one["request_id"]: one["label"] for one in map(json.loads, path.read_text().splitlines())}
        assert built.examples == len(lines) == path.read_text().count("\n")
        rewritten = EXAMPLES_FILE in replaced
        replaced.clear()
        return lines, built.unmatched, rewritten

    assert written() == ({"r1": 2.0}, 0, True)
    taught(builder, 2, 3)
    assert written() == ({"r1": 2.0, "r2": 4.0, "r3": 6.0}, 0, False)
    builder.add_label("r4", START, 8.0)
    assert written() == ({"r1": 2.0, "r2": 4.0, "r3": 6.0}, 1, False)
    builder.add_request("r4", START, Raw(b'{"number":4}'))
    taught(builder, 2)
    assert written() == ({"r1": 2.0, "r2": 4.0, "r3": 6.0, "r4": 8.0}, 0, False)
    builder.add_label("r2", START + timedelta(hours=2), 5.0)
    assert written() == ({"r1": 2.0, "r2": 5.0, "r3": 6.0, "r4": 8.0}, 0, True)
    taught(builder, 5)
    assert written()[2] is False


@pytest.mark.parametrize("harm", ["torn", "gone"])
def test_a_file_that_is_not_as_it_was_left_is_written_anew(store, doubler_class, tmp_path, harm):
    """A writer that was killed while it appended, or somebody who cleaned up."""
    builder = taught(ExampleBuilder(store, doubler_class), 1, 2)
    builder.flush()
    builder.write_examples(tmp_path)
    path = tmp_path / EXAMPLES_FILE
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b'{"features":{"number":3')
    taught(builder, 4).flush()
    assert builder.write_examples(tmp_path).examples == 3
    assert [json.loads(line)["request_id"] for line in path.read_text().splitlines()] == ["r1", "r2", "r4"]


def test_without_the_online_file_no_example_is_lost(tmp_path, doubler_class):
    with FeatureStore(tmp_path / "features") as store:
        taught(ExampleBuilder(store, doubler_class), 1, 2).flush()
    for file in (tmp_path / "features").glob("online.sqlite*"):
        file.unlink()
    with FeatureStore(tmp_path / "features") as store:
        assert ExampleBuilder(store, doubler_class).write_examples(tmp_path).examples == 2


def test_two_processes_that_share_the_stream_write_each_example_once(store, doubler_class, tmp_path):
    """One has the request, the other one its label."""
    one, other = ExampleBuilder(store, doubler_class), ExampleBuilder(store, doubler_class)
    for builder in (one, other):
        builder.write_examples(tmp_path)
    for number in range(20):
        one.add_request(f"r{number}", START, Raw(b'{"number":%d}' % number))
        other.add_label(f"r{number}", START, 2.0 * number)
        both = [threading.Thread(target=lambda b=b: (b.flush(), b.write_examples(tmp_path))) for b in (one, other)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    text = (tmp_path / EXAMPLES_FILE).read_text()
    assert text.count("\n") == len({json.loads(line)["request_id"] for line in text.splitlines()}) == 20


def test_records_of_other_models_are_left_out(store, doubler_class, log, tmp_path):
    built = build(store, doubler_class, [*log.read("halver"), *log.read("doubler")], [], tmp_path / "examples")
    assert (built.requests, built.new_requests) == (4, 3)


def test_the_store_keeps_what_the_log_has_forgotten(run, store, doubler_class, tmp_path):
    """The index of an old day may be dropped before the labels come."""
    run()
    built = build(store, doubler_class, [], [label("r1", 2.0)], tmp_path / "examples")
    assert [one["features"]["number"] for one in lines(built)] == [1.0]


def test_a_corrected_label_counts_as_it_is_now(run):
    run(label("r0", 1.0, minute=60))
    built = run(label("r0", 0.5, minute=61), label("r0", 7.0, minute=59))
    assert [one["label"] for one in lines(built)] == [0.5]


def test_a_label_in_the_log_counts_until_another_comes(run, log):
    log.label("r0", 0.25)
    assert [one["label"] for one in lines(run())] == [0.25]
    log.label("r0", 0.5)
    assert [one["label"] for one in lines(run())] == [0.5]
    assert [one["label"] for one in lines(run(label("r0", 0.75)))] == [0.75]


def test_a_label_without_a_request_is_counted(run):
    built = run(label("nobody", 1.0), label("r1", 2.0))
    assert (built.labels, built.unmatched, built.examples) == (2, 1, 1)


@pytest.mark.parametrize("minute", [1, -60 * 24 * 365])
def test_a_label_that_bears_a_time_before_its_request_is_its_label(run, minute):
    """A clock that is a little slow, or a history that is replayed now with the dates of then."""
    built = run(label("r2", 4.0, minute=minute))
    assert (built.unmatched, built.examples) == (0, 1)


def test_nothing_is_written_without_an_example(run):
    built = run()
    assert built.examples == 0
    assert not Path(built.path).exists()


def test_labels_are_of_the_models_kind(store, doubler_class, log, tmp_path):
    class Evaluator(doubler_class):
        Label = bool

    labels = [label("r0", 1), label("r1", "false"), label("r2", "perhaps")]
    built = build(store, Evaluator, log.read("doubler"), labels, tmp_path / "examples")
    assert [one["label"] for one in lines(built)] == [True, False]
    assert built.refused_labels == 1


def test_a_text_label_may_look_like_a_number(store, doubler_class, log, tmp_path):
    class Stars(doubler_class):
        Label = Literal["1", "2"]

    labels = [label("r0", 1), label("r1", "2"), label("r2", 3)]
    built = build(store, Stars, log.read("doubler"), labels, tmp_path / "examples")
    assert [one["label"] for one in lines(built)] == ["1", "2"]
    assert built.refused_labels == 1


def test_features_and_labels_are_found_online(run, store, doubler_class):
    run(label("r2", 4.0))
    assert store.online(request_view(doubler_class), "r2").features.number == 2.0
    assert store.online(label_view(doubler_class), "r2").features.label == 4.0
    assert [one.view for one in store.summaries()] == ["doubler", "doubler.labels"]
    at, record = store.latest("doubler.labels", "r2")
    assert (at, msgspec.json.decode(record)) == (START + timedelta(hours=1), {"label": 4.0})


def test_examples_train_the_model(run, doubler_class):
    """They are what a training reads."""
    built = run(*(label(f"r{n}", 2.0 * n) for n in range(3)))
    model = doubler_class()
    rows = [model.decode(msgspec.json.encode(one["features"])) for one in lines(built)]
    model.fit(rows, [one["label"] for one in lines(built)], seed=1)
    [answer] = model.predict([doubler_class.Features(number=10.0)])
    assert answer.double == pytest.approx(20.0)


def test_labels_are_read_from_jsonl(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"request_id":"a","model":"m","label":{"x":1},"observed_at":"2026-01-01T00:00:00+01:00"}\n\n')
    [found] = read_labels(path)
    assert found == Label("a", "m", {"x": 1}, datetime(2025, 12, 31, 23, tzinfo=UTC))


def test_labels_are_read_from_csv(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "\ufeffrequest_id,model,label,observed_at\n"
        "a,m,1.5,2026-01-01T00:00:00Z\nb,m,true,2026-01-01T00:00:00Z\n"
        'c,m,very good,2026-01-01T00:00:00Z\n7,m,"""quoted""",2026-01-01T00:00:00Z\n',
        encoding="utf-8",
    )
    assert [(one.request_id, one.label) for one in read_labels(path)] == [
        ("a", 1.5),
        ("b", True),
        ("c", "very good"),
        ("7", "quoted"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "request_id,model,label,observed_at\na,m,{},2026-01-01T00:00:00Z"),
        ("l.jsonl", '{{"request_id":"a","model":"m","label":{},"observed_at":"2026-01-01T00:00:00Z"}}'),
    ],
)
def test_labels_of_a_known_model_have_its_type_or_are_refused_at_once(tmp_path, name, text):
    (tmp_path / name).write_text(text.format("1"))
    assert [one.label for one in read_labels(tmp_path / name, {"m": bool})] == [True]
    (tmp_path / name).write_text(text.format("7"))
    with pytest.raises(FeatureStoreError, match=rf"{name} line \d, label 1: no label of `m`: Expected `bool`"):
        list(read_labels(tmp_path / name, {"m": bool}))


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("l.jsonl", '{"request_id":"a","model":"m","label":1}', "label 1: .*`observed_at`"),
        ("l.jsonl", '{"request_id":"a","model":"m","label":1,"observed_at":"2026-01-01T00:00:00"}', "has no offset"),
        ("l.jsonl", "request a was true", "line 1: JSON is malformed"),
        ("l.csv", "request_id,model,label\na,m,1", "label 1: .*`observed_at`"),
        ("l.csv", "request_id,model,label,observed_at\na,m,1,yesterday", "label 1: "),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path, name, line, complaint):
    (tmp_path / name).write_text(line)
    with pytest.raises(FeatureStoreError, match=rf"{name}, {complaint}|{complaint}"):
        list(read_labels(tmp_path / name))


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_outside_of_the_calendar_is_refused(store, doubler_class, tmp_path, moment):
    """It comes from the stream: kept, it would stop whoever reads it at each start."""
    at = msgspec.convert(moment, datetime)
    records = [example("r1", "doubler", at=at, features=Raw(b'{"number":1}')), _asked("r2", 0, b'{"number":2}')]
    built = build(store, doubler_class, records, [Label("r2", "doubler", 4.0, at), label("r2", 4.0)], tmp_path)
    assert (built.new_requests, built.refused, built.new_labels, built.refused_labels) == (1, 1, 1, 1)
    assert [line["request_id"] for line in lines(built)] == ["r2"]


def test_an_integer_that_no_file_has_room_for_is_refused(store, doubler_class, tmp_path):
    """It fits the model's schema, and would keep the other rows out of the store."""
    whole = type("Whole", (doubler_class,), {"Features": msgspec.defstruct("Features", [("number", int)])})
    records = [_asked("r1", 0, b'{"number":%d}' % 2**63), _asked("r2", 0, b'{"number":%d}' % -(2**63))]
    built = build(store, whole, records, [], tmp_path)
    assert (built.new_requests, built.refused) == (1, 1)


@pytest.mark.parametrize(
    ("features", "redacted"),
    [(b'{"number":8,"note":"hash-%s"}' % (b"0a" * 16), ["note"]), (b'{"number":8}', ["note"])],
    ids=["hashed", "dropped"],
)
def test_redacted_requests_are_no_examples_and_counted(run, log, features, redacted):
    """A model that learned from them would meet other values when it is asked."""
    log.append([msgspec.structs.replace(_asked("r8", 8, features), redacted=redacted)])
    built = run(label("r8", 16.0), label("r1", 2.0))
    assert (built.requests, built.redacted, built.refused, built.unmatched) == (5, 1, 1, 1)
    assert [one["request_id"] for one in lines(built)] == ["r1"]
