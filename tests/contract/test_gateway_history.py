"""The prediction log as the gateway asks it: what the indexer wrote, as it was on the topic of results."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from inflight.adapters.history import IndexHistory
from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.events.schemas import Error, PredictionLogged
from monitoring.documents.log import document_id, index_name, to_document
from monitoring.elastic import bulk, templates
from monitoring.elastic import client as elastic
from producers.gateway.stream import HistoryUnavailable, StoredPrediction


@pytest.fixture
def settings(each_search: Any, tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path, elasticsearch_url=each_search.url)  # type: ignore[call-arg]


def logged(request_id: str, accepted_at: datetime, **changes: Any) -> PredictionLogged:
    event = PredictionLogged(
        request_id=request_id,
        model="diamonds",
        outcome="completed",
        features=Raw(b'{"carat":0.5}'),
        requested_at=accepted_at,
        accepted_at=accepted_at,
        completed_at=accepted_at,
        queue_seconds=0.0,
        score_seconds=0.0,
        total_seconds=0.0,
        batch_size=1,
        partition=0,
        offset=0,
        model_version="v3",
        prediction=Raw(b'{"price":326.5,"by":{"b":1,"a":[1,2]}}'),
    )
    return msgspec.structs.replace(event, **changes)


def find(settings: Settings, *ids: str) -> dict[str, StoredPrediction]:
    return asyncio.run(IndexHistory(settings).find(ids))


def test_outcomes_are_found_at_once(settings: Settings) -> None:
    """Today's without a refresh, older ones too; failures, long ids, and features that are redacted."""
    now, prefix = datetime.now(UTC), f"h{datetime.now(UTC).timestamp()}-"
    long = prefix + "x" * (256 - len(prefix))
    stored = [
        logged(prefix + "today", now),
        logged(prefix + "old", now - timedelta(days=20)),
        logged(prefix + "hidden", now, redacted=["carat"]),
        logged(
            prefix + "failed",
            now,
            outcome="failed",
            prediction=UNSET,
            model_version=UNSET,
            error=Error("invalid_features", "carat: is missing"),
        ),
        logged(long, now),
    ]
    with elastic.connect(settings) as client:
        templates.put_templates(client, settings)
        assert find(settings, prefix + "today") == {}, "there is no index yet"
        lines = [
            bulk.action("create", index_name(one.accepted_at), document_id(one.request_id)) + b"\n" + to_document(one)
            for one in stored
        ]
        assert all(item.status < 300 for item in bulk.bulk(client, lines))
        elastic.request(client, "POST", f"/{index_name(stored[1].accepted_at)}/_refresh")
    found = find(settings, *(one.request_id for one in stored), prefix + "unknown")
    assert set(found) == {one.request_id for one in stored}
    today = events.decode_result(found[prefix + "today"].result)
    assert isinstance(today, events.PredictionCompleted)
    assert (today.model, today.model_version) == ("diamonds", "v3")
    assert msgspec.json.decode(today.prediction) == {"price": 326.5, "by": {"b": 1, "a": [1, 2]}}
    assert found[prefix + "today"].fingerprint == fingerprint("diamonds", Raw(b'{"carat":0.5}'))
    assert found[prefix + "hidden"].fingerprint is None
    failed = events.decode_result(found[prefix + "failed"].result)
    assert isinstance(failed, events.PredictionFailed)
    assert failed.error == Error("invalid_features", "carat: is missing")


def test_a_node_that_is_away(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path,
        elasticsearch_url=f"http://127.0.0.1:{free_port()}",
    )
    with pytest.raises(HistoryUnavailable):
        find(settings, "r")
