"""Every prediction is in the index, on each kind of node, and is read as it was: whatever a model answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.testing.log_store_examples import START, example, fresh
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog

DEEP = b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"
PREDICTIONS = [
    b'{"label":"cat","top":[["cat",0.9],["dog",0.1]]}',
    b'{"a":[1,"x"]}',
    b'{"a":[true,1]}',
    b'{"a":["x",true]}',
    b'{"a":[{"x":1},{"x":"1"}]}',
    b'{"a.b":1,"a":{"b":"x"}}',
    b'{"a":{"b":1},"b":[{"b":null}]}',
    b'{"":1," ":2}',
    b'{".":1,"a.":2,".a":3,"a..b":4,"*":5,"_id":6}',
    b"[1,2]",
    b'["a",1]',
    b'"cat"',
    b"0.5",
    b"true",
    b'{"a":' + b"9" * 1_200 + b"}",
    b'{"a":1,"a":"x"}',
    b'{"a":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    DEEP,
]


@pytest.fixture
def settings(each_search: Any, tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path, elasticsearch_url=each_search.url)  # type: ignore[call-arg]


@pytest.fixture
def client(settings: Settings) -> Iterator[Elasticsearch]:
    with elastic.connect(settings) as connected:
        yield connected


# Terminal sequences, text that is turned around, markup, a path, bytes above the limit of Elasticsearch's ids.
ODD_IDS = (
    "\u0000x",
    "\x1b]0;owned\x07\x1b[2J",
    "\u009b31mred",
    "\u202etxt.exe",
    "a\nWARNING a line",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "é" * 240,
    "\U0001f600" * 100,
    "../../_all/_doc/1?routing=x",
    '"}}\n{"delete":{}}',
)


def test_any_request_id_is_indexed(settings: Settings) -> None:
    """Under its own name, and as nothing else."""
    name = fresh()
    with ElasticsearchPredictionLog(settings) as log:
        log.append([example(f"{name}{odd}", name) for odd in ODD_IDS])
        assert {record.request_id for record in log.read(name)} == {f"{name}{odd}" for odd in ODD_IDS}


def test_any_prediction_is_indexed_and_read_as_it_was(client: Elasticsearch, settings: Settings) -> None:
    """Each as the first one of a new index, which its types make, and then all of them in one."""
    name = fresh()
    day = START.replace(year=2003)
    with ElasticsearchPredictionLog(settings) as log:
        for index, prediction in enumerate(PREDICTIONS):
            moment = day.replace(day=index + 1)
            log.append([example(f"{name}-{index}", name, at=moment, prediction=Raw(prediction))])
        last = day.replace(month=3)
        log.append(
            [
                example(f"{name}-all-{index}", name, at=last, prediction=Raw(prediction))
                for index, prediction in enumerate(PREDICTIONS)
            ]
        )
        found = {record.request_id: record.prediction for record in log.read(name)}
    for index, prediction in enumerate(PREDICTIONS):
        for identity in (f"{name}-{index}", f"{name}-all-{index}"):
            read = found[identity]
            assert isinstance(read, Raw)
            assert json.loads(bytes(read)) == json.loads(prediction), prediction
    query = {"query": {"term": {"inflight.prediction.label": "cat"}}}
    (hit,) = scan.hits(client, f"inference-logs-{day:%Y.%m}.01", query)
    assert hit["_id"] == f"{name}-0"
    for index in elastic.index_names(client, "inference-logs-2003.*"):
        elastic.request(client, "DELETE", f"/{index}")
