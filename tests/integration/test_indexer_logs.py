"""From the log topic into the index, on each kind of Elasticsearch node."""

import json
from typing import Any

from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import Error, encode
from machine_learning_engineering.events.topics import LOGS, MEBIBYTE
from machine_learning_engineering.kafka.client import topic_name
from tests.support.indexing import document, eventually, ids, indexer, lag, letters, log, publish, refused_log


def test_every_log_becomes_one_document(settings: Settings, each_search: Any) -> None:
    """More than one batch of them; reading them again changes nothing."""
    few = settings.model_copy(update={"elasticsearch_batch_records": 100})
    logs = [log(settings, number) for number in range(1_000)]
    publish(settings, *logs)
    with indexer(few) as running:
        eventually(lambda: running.results()["created"] == 1_000)
        publish(settings, *logs[:300])
        eventually(lambda: running.results()["replayed"] == 300)
        assert running.results() == {"created": 1_000, "replayed": 300}
    assert sorted(ids(settings)) == sorted(one.request_id for one in logs)
    assert lag(settings) == 0
    assert document(settings, 7)["inflight"]["prediction"] == {"price": 7.5}


FEATURES_OF_FAILED = [
    b"5",
    b"null",
    b'"text"',
    b"[1, [2]]",
    b"{}",
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"a":"' + b"x" * MEBIBYTE + b'"}',
    b'{"' + b"k" * 40_000 + b'":1}',
    b'{"a":1,"a":2}',
    b'{"a\\u0000":1}',
    b'{"":1,".":2,"a..b":3}',
    b'{"a":1e999}',
    b'{"a":"\xff"}',
    b"[\n1\n]",
]


def test_no_features_make_the_search_node_refuse_a_document(settings: Settings, each_search: Any) -> None:
    """Neither of failed requests, which may be anything, nor of completed ones whose model took them."""
    logs = [
        log(settings, f"{kind}-{number}", features, **error)
        for number, features in enumerate(FEATURES_OF_FAILED)
        for kind, error in (("failed", {"error": Error("invalid_features", "no")}), ("completed", {}))
    ]
    # The deepest that is still indexed as fields, and the first that is not.
    logs += [log(settings, f"deep-{depth}", b'{"a":' * depth + b"1" + b"}" * depth) for depth in (19, 20, 21)]
    publish(settings, *logs)
    with indexer(settings) as running:
        eventually(lambda: running.results().total() == len(logs))
        assert running.results() == {"created": len(logs)}, [origin.message for origin, _ in letters(settings)]
    assert len(ids(settings)) == len(logs)
    assert "features" in document(settings, "deep-20")["inflight"]
    assert document(settings, "failed-6")["inflight"]["features_text"].endswith('xx"}')


def test_predictions_of_any_shape_live_in_one_index(settings: Settings, each_search: Any) -> None:
    """An integer first and a fraction later, and the same name with another type in another model."""
    predictions = [
        b'{"y":1}',
        b'{"y":1.5}',
        b'{"y":"high"}',
        b'{"y":true}',
        b'{"y":{"low":0.1,"high":0.9}}',
        b'{"y":[0.1,1]}',
    ]
    publish(settings, *[log(settings, number, prediction=Raw(each)) for number, each in enumerate(predictions)])
    with indexer(settings) as running:
        eventually(lambda: running.results().total() == len(predictions))
        assert running.results() == {"created": len(predictions)}


def test_what_can_not_be_indexed_is_set_aside_with_its_bytes(settings: Settings, each_search: Any) -> None:
    """Poison, and a document that the mapping refuses; the records around them are indexed."""
    refused = refused_log(settings, "refused")
    poison = [b"", b"not json", b"\xff\xfe\x00", b'{"type":"prediction.completed.v1"}', b"[" * 50_000]
    publish(settings, log(settings, 1), *poison, refused, log(settings, 2))
    with indexer(settings) as running:
        eventually(lambda: running.results().total() == 8)
        assert running.results() == {"created": 2, "undecodable_log": 5, "index_rejected": 1}
    found = letters(settings)
    assert sorted(value for _, value in found) == sorted([*poison, encode(refused)])
    assert {(origin.stage, origin.topic) for origin, _ in found} == {("index", topic_name(settings, LOGS))}
    assert len({(origin.partition, origin.offset) for origin, _ in found}) == 6
    (origin,) = [origin for origin, _ in found if origin.reason == "index_rejected"]
    assert (origin.request_id, origin.model) == (refused.request_id, "diamonds")
    assert "prediction" in origin.message
    assert lag(settings) == 0


def test_the_first_use_of_an_id_wins_and_another_body_is_set_aside(settings: Settings, each_search: Any) -> None:
    """Whether the first one is in the same batch or was indexed long ago."""
    publish(settings, log(settings, 1, b'{"a":1}'), log(settings, 1, b'{"a":2}'))
    with indexer(settings) as running:
        eventually(lambda: running.results().total() == 2)
        publish(settings, log(settings, 1, b'{"a":3}'), log(settings, 1, b'{ "a": 1 }'))
        eventually(lambda: running.results().total() == 4)
        assert running.results() == {"created": 1, "replayed": 1, "conflicting_duplicate": 2}
    assert document(settings, 1)["inflight"]["features"] == {"a": 1}
    found = letters(settings)
    assert {origin.reason for origin, _ in found} == {"conflicting_duplicate"}
    assert [json.loads(value)["features"] for _, value in found] == [{"a": 2}, {"a": 3}]


def test_an_id_that_is_too_long_for_an_index_is_indexed(settings: Settings, each_search: Any) -> None:
    """256 characters are allowed in an id, and Elasticsearch counts bytes."""
    long = settings.topic_prefix + "\N{ROLLER COASTER}" * (256 - len(settings.topic_prefix))
    publish(settings, log(settings, 1, request_id=long))
    with indexer(settings) as running:
        eventually(lambda: running.results() == {"created": 1})
    assert ids(settings) == [long]


def test_a_first_record_that_is_refused_leaves_its_place_to_the_next(settings: Settings, each_search: Any) -> None:
    """In the same batch: only what is indexed can win."""
    refused = refused_log(settings, 1, b'{"a":1}')
    publish(settings, refused, log(settings, 1, b'{"a":2}'), log(settings, 1, b'{"a":2}'), log(settings, 1, b'{"a":3}'))
    with indexer(settings) as running:
        eventually(lambda: running.results().total() == 4)
        assert running.results() == {"index_rejected": 1, "created": 1, "replayed": 1, "conflicting_duplicate": 1}
    assert document(settings, 1)["inflight"]["features"] == {"a": 2}
