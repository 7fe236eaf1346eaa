"""`Idempotency-Key`: the same body gets the same answer, also after a restart; another body is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from machine_learning_engineering.events.fingerprint import fingerprint
from producers.gateway.stream import HistoryUnavailable, StoredPrediction
from tests.support.gateway import Topics, gateway
from tests.unit.producers.gateway.test_predictions import PREDICT, problem

KEY = {"Idempotency-Key": "order-1"}
ONE: dict[str, Any] = {"features": {"number": 4}}
ROWS: dict[str, Any] = {"rows": [{"number": 1}, {"number": 2}]}


class Log:
    """A prediction log with these outcomes; or one that does not respond."""

    def __init__(self, *stored: StoredPrediction, responds: bool = True) -> None:
        self._stored = {one.request_id: one for one in stored}
        self.responds = responds

    async def find(self, request_ids: Sequence[str]) -> dict[str, StoredPrediction]:
        if not self.responds:
            raise HistoryUnavailable("it is away")
        return {one: self._stored[one] for one in request_ids if one in self._stored}


@pytest.mark.parametrize("body", [ONE, ROWS])
def test_the_same_body_gets_the_same_answer(tmp_path: Path, body: Any) -> None:
    """From the gateway that knows it, and from one that starts afterwards; nothing is published twice."""
    topics = Topics()
    with gateway(tmp_path, topics=topics) as running:
        running.client.post(PREDICT, json=body, headers=KEY | {"Prefer": "respond-async"})
        running.answer_all()
        first = running.client.post(PREDICT, json=body, headers=KEY)
        assert first.status_code == 200
        assert first.json()["request_id"] == "order-1"
        published = len(topics.requests)
    with gateway(tmp_path, topics=topics) as restarted:
        again = restarted.client.post(PREDICT, json=body, headers=KEY)
        assert again.json() == first.json()
        assert len(topics.requests) == published


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ONE, {"features": {"number": 5}}),
        (ONE, ROWS),
        (ROWS, ONE),
        (ROWS, {"rows": [{"number": 1}, {"number": 3}]}),
        (ROWS, {"rows": [{"number": 1}]}),
        (ROWS, {"rows": [{"number": 1}, {"number": 2}, {"number": 3}]}),
    ],
)
@pytest.mark.parametrize("is_running", [True, False])
def test_another_body_is_refused(tmp_path: Path, first: Any, second: Any, is_running: bool) -> None:
    """Also while the first is running, and on a gateway that starts in between."""
    topics = Topics()
    with gateway(tmp_path, topics=topics) as running:
        assert running.client.post(PREDICT, json=first, headers=KEY | {"Prefer": "respond-async"}).status_code == 202
        if not is_running:
            running.answer_all()
        found = problem(running.client.post(PREDICT, json=second, headers=KEY), 422, "key-reused")
        assert found["field"] == "Idempotency-Key"
    with gateway(tmp_path, topics=topics) as restarted:
        problem(restarted.client.post(PREDICT, json=second, headers=KEY), 422, "key-reused")


def test_the_same_value_spelled_otherwise_is_the_same_body(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        headers = KEY | {"Content-Type": "application/json"}
        first = running.client.post("/v1/line/double", content=b'{"number": 4.0}', headers=headers)
        again = running.client.post("/v1/line/double", content=b'{ "number" :4.0}', headers=headers)
        assert first.json() == again.json()
        assert len(running.topics.requests) == 1


def test_the_same_key_for_another_model_is_refused(tmp_path: Path) -> None:
    from tests.support.gateway import put_model

    put_model(tmp_path / "registry", "line")
    put_model(tmp_path / "registry", "other", "double")
    with gateway(tmp_path) as running:
        assert running.client.post("/v1/line/double", json={"number": 4}, headers=KEY).status_code == 200
        problem(running.client.post("/v1/other/double", json={"number": 4}, headers=KEY), 422, "key-reused")


def test_still_running(tmp_path: Path) -> None:
    """409 with the address, from any gateway, also after a restart."""
    topics = Topics()
    with gateway(tmp_path, topics=topics) as running:
        running.client.post(PREDICT, json=ONE, headers=KEY | {"Prefer": "respond-async"})
        for one in (running, None):
            if one is None:
                with gateway(tmp_path, topics=topics) as restarted:
                    response = restarted.client.post(PREDICT, json=ONE, headers=KEY)
            else:
                response = one.client.post(PREDICT, json=ONE, headers=KEY)
            problem(response, 409, "still-running")
            assert response.headers["location"] == "/v1/predictions/order-1"
        assert len(topics.requests) == 1


def test_a_failed_prediction_is_an_answer_too(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        first = running.client.post("/v1/line/double", json={"number": 13}, headers=KEY)
        again = running.client.post("/v1/line/double", json={"number": 13}, headers=KEY)
        assert problem(first, 500, "prediction-error") == problem(again, 500, "prediction-error")
        assert len(running.topics.requests) == 1


def stored(request_id: str, features: bytes, *, comparable: bool = True) -> StoredPrediction:
    """An outcome in the prediction log."""
    from msgspec import Raw

    result = b'{"type":"prediction.completed.v1","request_id":"%s","model":"line","model_version":"v7","prediction":'
    result = result.replace(b"%s", request_id.encode()) + (
        b'{"answer":8},"requested_at":"2026-01-02T03:04:05Z","completed_at":"2026-01-02T03:04:05Z"}'
    )
    return StoredPrediction(request_id, "line", fingerprint("line", Raw(features)) if comparable else None, result)


def test_old_answers_come_from_the_prediction_log(tmp_path: Path) -> None:
    """When no topic has them any more."""
    with gateway(tmp_path, history=Log(stored("order-1", b'{"number":4}'))) as running:
        assert running.client.post(PREDICT, json=ONE, headers=KEY).json()["model_version"] == "v7"
        assert running.client.get("/v1/predictions/order-1").json()["model_version"] == "v7"
        problem(running.client.post(PREDICT, json={"features": {"number": 5}}, headers=KEY), 422, "key-reused")
        problem(running.client.post(PREDICT, json=ROWS, headers=KEY), 422, "key-reused")
        assert running.topics.requests == []


def test_old_batches_come_from_the_prediction_log(tmp_path: Path) -> None:
    log = Log(stored("order-1~0", b'{"number":1}'), stored("order-1~1", b'{"number":2}'))
    with gateway(tmp_path, history=log) as running:
        assert len(running.client.post(PREDICT, json=ROWS, headers=KEY).json()["predictions"]) == 2
        assert len(running.client.get("/v1/predictions/order-1").json()["predictions"]) == 2
        fewer = {"rows": ROWS["rows"][:1]}
        problem(running.client.post(PREDICT, json=fewer, headers=KEY), 422, "key-reused")
        problem(running.client.post(PREDICT, json=ONE, headers=KEY), 422, "key-reused")


def test_a_redacted_body_can_not_be_compared(tmp_path: Path) -> None:
    with gateway(tmp_path, history=Log(stored("order-1", b'{"number":4}', comparable=False))) as running:
        found = problem(running.client.post(PREDICT, json=ONE, headers=KEY), 422, "key-reused")
        assert "/v1/predictions/order-1" in found["detail"]


def test_the_stream_goes_on_without_the_prediction_log(tmp_path: Path) -> None:
    with gateway(tmp_path, history=Log(responds=False)) as running:
        assert running.client.post(PREDICT, json=ONE, headers=KEY).status_code == 200
        problem(running.client.get("/v1/predictions/unknown"), 503, "history-unavailable")


@pytest.mark.parametrize("key", ["", " ", "a b", "a~1", "a/b", "ä", "-x", "x" * 201])
def test_malformed_keys(tmp_path: Path, key: str) -> None:
    with gateway(tmp_path) as running:
        response = running.client.post(PREDICT, json=ONE, headers={"Idempotency-Key": key.encode()})
        assert problem(response, 400, "malformed-request")["field"] == "Idempotency-Key"


def test_a_quoted_key_is_the_same_key(tmp_path: Path) -> None:
    """The draft of the standard has quotes."""
    with gateway(tmp_path) as running:
        running.client.post(PREDICT, json=ONE, headers={"Idempotency-Key": '"order-1"'})
        running.client.post(PREDICT, json=ONE, headers=KEY)
        assert len(running.topics.requests) == 1
