"""Predictions over HTTP: answers, waiting, later answers, batches, and what goes wrong."""

import gc
from pathlib import Path
from typing import Any

import pytest

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.fingerprint import fingerprint
from producers.gateway.stream import NotAccepted
from tests.support.gateway import MemoryStream, Topics, gateway, put_model, score

PREDICT = "/v1/models/line/predictions"


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    """The problem of a response, which has this status and type."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:inflight:problem:{kind}", found
    assert found["status"] == status
    return found


def test_one_row(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        response = running.client.post(PREDICT, json={"features": {"number": 4}})
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["prediction"] == {"answer": 8}
        assert (body["model"], body["model_version"]) == ("line", "v1")
        assert response.headers["x-request-id"] == body["request_id"]
        (request,) = running.topics.requests
        event = events.decode_request(request.value)
        assert bytes(event.features) == b'{"number":4}', "the features go to the stream as they came"
        assert request.fingerprint == fingerprint("line", event.features)
        again = running.client.get(f"/v1/predictions/{body['request_id']}")
        assert again.status_code == 200
        assert again.json() == body


def test_the_friendly_route_has_the_models_own_fields(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        response = running.client.post("/v1/line/double", json={"number": 21})
        assert response.status_code == 200, response.text
        assert response.json() == {
            "answer": 42,
            "request_id": response.headers["x-request-id"],
            "model_version": "v1",
        }
        assert "/v1/line/double" in problem(running.client.post("/v1/line/triple", json={}), 404, "not-found")["detail"]


def test_a_new_model_has_a_route_at_once(tmp_path: Path) -> None:
    """A fourth model needs no code: its champion is enough."""
    with gateway(tmp_path) as running:
        problem(running.client.post("/v1/fourth/result", json={}), 404, "unknown-model")
        put_model(tmp_path / "registry", "fourth", "result")
        listed = running.client.get("/v1/models").json()["models"]
        assert [one["name"] for one in listed] == ["fourth", "line"]
        assert running.client.post(listed[0]["path"], json=listed[0]["example"]).json()["answer"] == 42


def test_invalid_features_name_the_field_and_a_valid_example(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        for path, body in (("/v1/line/double", {"number": -1}), (PREDICT, {"features": {"number": -1}})):
            found = problem(running.client.post(path, json=body), 422, "invalid-features")
            assert found["field"] == "number"
            assert found["example"] == {"number": 21.0}
            later = running.client.get(f"/v1/predictions/{found['request_id']}")
            assert problem(later, 422, "invalid-features")["request_id"] == found["request_id"]


def test_a_model_that_raises_is_no_success(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        problem(running.client.post("/v1/line/double", json={"number": 13}), 500, "prediction-error")


def test_rows(tmp_path: Path) -> None:
    """All of them; some; none."""
    with gateway(tmp_path) as running:
        response = running.client.post(PREDICT, json={"rows": [{"number": 1}, {"number": 2}]})
        assert response.status_code == 200
        body = response.json()
        assert [one["prediction"]["answer"] for one in body["predictions"]] == [2, 4]
        assert running.client.get(f"/v1/predictions/{body['request_id']}").json() == body

        mixed = running.client.post(PREDICT, json={"rows": [{"number": 1}, {"number": -2}]})
        assert mixed.status_code == 207, "a failed row is no success"
        good, bad = mixed.json()["predictions"]
        assert good["prediction"] == {"answer": 2}
        assert bad["problem"]["status"] == 422

        bad_rows = running.client.post(PREDICT, json={"rows": [{"number": -1}, {"number": 13}]})
        found = problem(bad_rows, 422, "invalid-features")
        assert [one["problem"]["status"] for one in found["problems"]] == [422, 500]


@pytest.mark.parametrize(("path", "body"), [(PREDICT, {"features": {"number": 4}}), ("/v1/line/double", {"number": 4})])
def test_respond_async(tmp_path: Path, path: str, body: Any) -> None:
    with gateway(tmp_path, topics=Topics()) as running:
        response = running.client.post(path, json=body, headers={"Prefer": "respond-async"})
        assert response.status_code == 202
        where = response.headers["location"]
        waiting = running.client.get(where)
        assert waiting.status_code == 202
        assert waiting.headers["retry-after"] == "1"
        running.answer_all()
        assert running.client.get(where).json()["prediction"] == {"answer": 8}


def test_the_deadline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """202 where the caller has to expect it; 504 with the address where a 202 would pass for an answer."""
    with gateway(tmp_path, topics=Topics(), gateway_deadline=0.05) as running:
        response = running.client.post(PREDICT, json={"features": {"number": 4}})
        assert response.status_code == 202
        late = running.client.post("/v1/line/double", json={"number": 5}, headers={"Prefer": "wait=0"})
        found = problem(late, 504, "prediction-timeout")
        assert late.headers["location"] == f"/v1/predictions/{found['request_id']}"
        running.answer_all()
        assert running.client.get(late.headers["location"]).json()["prediction"] == {"answer": 10}
        assert running.stream.recall.waiting == 0, "nobody waits any more"
        gc.collect()
    assert not [one for one in caplog.records if one.name == "asyncio"], "what was waited for is no error"


def test_a_batch_later(tmp_path: Path) -> None:
    with gateway(tmp_path, topics=Topics()) as running:
        headers = {"Prefer": "respond-async", "Idempotency-Key": "b-1"}
        response = running.client.post(PREDICT, json={"rows": [{"number": 1}, {"number": 2}]}, headers=headers)
        assert response.headers["location"] == "/v1/predictions/b-1"
        first = running.topics.requests[0]
        running.run(running.topics.answer, first, score(first))
        assert running.client.get("/v1/predictions/b-1").status_code == 202, "one row is missing"
        running.answer_all()
        found = running.client.get("/v1/predictions/b-1").json()
        assert [one["prediction"]["answer"] for one in found["predictions"]] == [2, 4]
        assert running.client.get("/v1/predictions/b-1~1").json()["prediction"] == {"answer": 4}


def test_unknown_and_gone(tmp_path: Path) -> None:
    with gateway(tmp_path, max_bytes=1) as running:
        problem(running.client.get("/v1/predictions/nobody"), 404, "unknown-prediction")
        first = running.client.post(PREDICT, json={"features": {"number": 4}}).json()
        where = f"/v1/predictions/{first['request_id']}"
        assert running.client.get(where).json() == first, "read from the topic again"
        running.topics.deleted = 1
        problem(running.client.get(where), 410, "result-gone")


def test_the_stream_does_not_accept(tmp_path: Path) -> None:
    """503 with what to do, and the id is free for the retry that the message asks for."""
    with gateway(tmp_path) as running:
        running.stream.refusal = NotAccepted("the broker can't be reached", indeterminate=False)
        response = running.client.post(PREDICT, json={"features": {"number": 4}})
        found = problem(response, 503, "stream-unavailable")
        assert response.headers["retry-after"] == "1"
        running.stream.refusal = None
        headers = {"Idempotency-Key": found["request_id"]}
        assert running.client.post(PREDICT, json={"features": {"number": 4}}, headers=headers).status_code == 200


def test_nothing_is_sent_before_the_stream_is_ready(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert running.client.get("/v2/health/ready").status_code == 200
        running.stream.problem = "the stream is being read"
        response = running.client.get("/v2/health/ready")
        found = response.json()
        assert (response.status_code, found["error"]) == (503, found["detail"])
        assert "being read" in found["detail"]
        problem(running.client.post(PREDICT, json={"features": {"number": 4}}), 503, "not-ready")
        assert running.client.get("/v2/health/live").status_code == 200
        assert running.topics.requests == []


def test_any_gateway_answers(tmp_path: Path) -> None:
    """A second gateway on the same topics knows what runs and what is done, also one that starts later."""
    topics = Topics()
    with gateway(tmp_path, topics=topics) as running:
        other = MemoryStream(topics)
        headers = {"Prefer": "respond-async", "Idempotency-Key": "x"}
        running.client.post(PREDICT, json={"features": {"number": 4}}, headers=headers)
        entry = other.known("x")
        assert entry is not None
        assert entry.is_running
        with gateway(tmp_path, topics=topics) as second:
            assert second.client.get("/v1/predictions/x").status_code == 202
            running.answer_all()
            assert second.client.get("/v1/predictions/x").json()["prediction"] == {"answer": 8}
        with gateway(tmp_path, topics=topics) as third:
            assert third.client.get("/v1/predictions/x").json()["prediction"] == {"answer": 8}


def test_the_trace_goes_on(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with gateway(tmp_path) as running:
        response = running.client.post("/v1/line/double", json={"number": 1}, headers={"traceparent": parent})
        assert response.headers["traceparent"] == parent
        assert ("traceparent", parent.encode()) in running.topics.requests[0].headers
        fresh = running.client.post("/v1/line/double", json={"number": 1}, headers={"traceparent": "nonsense"})
        assert fresh.headers["traceparent"].startswith("00-")


def test_the_record_key_is_the_callers(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        running.client.post("/v1/line/double", json={"number": 1}, headers={"X-Record-Key": "customer-7"})
        response = running.client.post("/v1/line/double", json={"number": 1})
        first, second = running.topics.requests
        assert first.key == b"customer-7"
        assert second.key.decode() == response.headers["x-request-id"]


def test_draining_ends_the_waiting(tmp_path: Path) -> None:
    """After SIGTERM, callers get the address of their result instead of a closed connection."""
    with gateway(tmp_path, topics=Topics(), gateway_deadline=60) as running:
        running.run(running.predictor.drain)
        assert running.client.post(PREDICT, json={"features": {"number": 4}}).status_code == 202
