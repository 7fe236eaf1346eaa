"""Calls of the routes beside the predictions of the gateway's own interface: each is one event, redacted like them."""

import json
import struct
import threading
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from msgspec import UNSET

from machine_learning_engineering.events.schemas import ApiCalled, decode_api_call, encode
from producers.gateway.console.routes import ConsoleRoutes
from tests.support.gateway import Running, gateway, put_model
from tests.support.waiting import until
from tests.unit.producers.gateway.test_similar import PATH as SIMILAR
from tests.unit.producers.gateway.test_similar import QUESTION, STONES, put_diamonds

SECRET = "Braund, Mr. Owen Harris"
KEY = "a secret of 16 characters or more"
INFER = "/v2/models/line/infer"
UPLOAD = "/v1/models/line/predictions"
LINES = {"Content-Type": "application/x-ndjson"}
LENGTH = "Inference-Header-Content-Length"


def value(raw: Any) -> Any:
    return None if raw is UNSET else msgspec.json.decode(raw)


def last(running: Running) -> ApiCalled:
    """The newest event, as a reader of the topic gets it."""
    return decode_api_call(encode(running.events()[-1]))


def people(registry: Path, action: str = "hash") -> None:
    """A model `line` whose feature `name` is redacted."""
    schema = {"type": "object", "properties": {"number": {"type": "number"}, "name": {"type": "string"}}}
    put_model(registry, features_schema=schema, redacted_features={"name": action})


def tensors(*numbers: float, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "number", "datatype": "FP64", "shape": [len(numbers)], "data": list(numbers)}], **more}


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_tensors_are_logged_as_the_rows_they_are(tmp_path: Path, version: str) -> None:
    with gateway(tmp_path) as running:
        answer = running.client.post(f"/v2/models/line{version}/infer", json=tensors(4.0, 5.5, id="v2-1"))
        assert answer.status_code == 200
        event = last(running)
    route = "/v2/models/{model}/versions/{version}/infer" if version else "/v2/models/{model}/infer"
    assert (event.method, event.route, event.status, event.request_id) == ("POST", route, 200, "v2-1")
    assert (event.model, event.model_version, event.rows, event.caller) == ("line", "v1", 2, "anybody")
    assert value(event.request_body) == {"rows": [{"number": 4.0}, {"number": 5.5}]}
    assert value(event.response_body) == answer.json()
    assert event.traceparent == answer.headers["traceparent"]
    assert (event.request_bytes, event.response_bytes) == (
        int(answer.request.headers["content-length"]),
        len(answer.content),
    )


def test_binary_tensors_are_logged_as_rows_and_their_answers_counted(tmp_path: Path) -> None:
    part = struct.pack("<2f", 4.0, 5.5)
    described = {"name": "number", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": len(part)}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    with gateway(tmp_path) as running:
        answer = running.client.post(INFER, content=head + part, headers={LENGTH: str(len(head))})
        assert answer.status_code == 200
        event = last(running)
    assert value(event.request_body) == {"rows": [{"number": 4.0}, {"number": 5.5}]}
    assert (event.response_body, event.response_bytes) == (UNSET, len(answer.content))


def test_rows_that_are_much_longer_than_their_tensors_are_counted_only(tmp_path: Path) -> None:
    with gateway(tmp_path, gateway_call_body_bytes=1_000) as running:
        body = tensors(*[2] * 150)
        assert running.client.post(INFER, content=json.dumps(body, separators=(",", ":"))).status_code == 200
        event = last(running)
    assert event.request_bytes < 1_000
    assert (event.rows, event.request_body) == (150, UNSET)


@pytest.mark.parametrize(
    ("path", "content", "status", "problem"),
    [
        (INFER, b"{", 400, "malformed-request"),
        (INFER, json.dumps(tensors(-1.0)).encode(), 400, "invalid-features"),
        ("/v2/models/line/versions/9/infer", b"{}", 404, "unknown-version"),
        ("/v2/models/nobody/infer", b"{}", 404, "unknown-model"),
    ],
)
def test_an_inference_that_fails_is_an_event(
    tmp_path: Path, path: str, content: bytes, status: int, problem: str
) -> None:
    with gateway(tmp_path) as running:
        answer = running.client.post(path, content=content, headers={"Content-Type": "application/json"})
        event = last(running)
    assert (answer.status_code, event.status, event.problem) == (status, status, problem)
    assert value(event.response_body)["type"].endswith(problem)


def test_an_upload_is_one_event_with_its_lines(tmp_path: Path) -> None:
    content = b'{"number": 1}\n\n{"number": -1}\nno json\n{"number":2}'
    with gateway(tmp_path) as running:
        answer = running.client.post(UPLOAD, content=content, headers=LINES | {"Idempotency-Key": "file-1"})
        assert answer.status_code == 200
        [event] = running.events()
    assert (event.status, event.request_id, event.model, event.rows, event.problem) == (200, "file-1", "line", 4, UNSET)
    assert value(event.request_body) == [{"number": 1}, {"number": -1}, "no json", {"number": 2}]
    assert value(event.response_body) == [json.loads(line) for line in answer.text.splitlines()]
    assert (event.request_bytes, event.response_bytes) == (len(content), len(answer.content))


def test_a_large_upload_is_counted(tmp_path: Path) -> None:
    with gateway(tmp_path, gateway_call_body_bytes=100) as running:
        content = b'{"number": 1}\n' * 50
        running.client.post(UPLOAD, content=content, headers=LINES)
        event = last(running)
    assert (event.rows, event.request_bytes) == (50, len(content))
    assert (event.request_body, event.response_body) == (UNSET, UNSET)


def test_a_refused_upload_is_an_event(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        path = UPLOAD.replace("line", "nobody")
        running.client.post(path, content=b"{}", headers=LINES)
        running.client.post(UPLOAD, content=b"{}", headers=LINES | {"Idempotency-Key": "a b"})
        found = running.events()
    assert [(one.status, one.problem, one.rows) for one in found] == [
        (404, "unknown-model", UNSET),
        (400, "malformed-request", UNSET),
    ]


def inference(name: str) -> bytes:
    texts = [json.dumps({"number": 1, "name": name})]
    return json.dumps({"inputs": [{"name": "features", "datatype": "BYTES", "shape": [1], "data": texts}]}).encode()


REDACTED = [
    (INFER, inference(SECRET), {}),
    (INFER, inference(SECRET)[:-1], {}),
    (INFER, inference(SECRET).replace(b"BYTES", b"INT8"), {}),
    (UPLOAD, json.dumps({"number": 1, "name": SECRET}).encode(), LINES),
    (UPLOAD, json.dumps({"number": 1, "other": SECRET}).encode(), LINES),
    (UPLOAD, json.dumps(SECRET).encode() + b"\n" + SECRET.encode(), LINES),
    (UPLOAD, b'{"number": 1, "name": "%s"' % SECRET.encode(), LINES),
    (UPLOAD, b'{"number": "\xff%s"}' % SECRET.encode(), LINES),
    (UPLOAD.replace("line", "nobody"), SECRET.encode(), LINES),
]


@pytest.mark.parametrize("action", ["hash", "drop"])
@pytest.mark.parametrize(("path", "content", "headers"), REDACTED)
def test_no_event_holds_what_is_redacted(
    tmp_path: Path, path: str, content: bytes, headers: dict[str, str], action: str
) -> None:
    people(tmp_path / "registry", action)
    with gateway(tmp_path, log_redact_key=KEY) as running:
        answer = running.client.post(path, content=content, headers={"Content-Type": "application/json"} | headers)
        event = last(running)
    assert SECRET.split()[1].encode() not in encode(event)
    assert event.status == answer.status_code
    assert event.redacted is not UNSET or event.request_body is UNSET


def test_what_is_not_redacted_stays(tmp_path: Path) -> None:
    people(tmp_path / "registry")
    rows = [{"number": 1, "name": SECRET}, {"number": 2, "name": SECRET}]
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    with gateway(tmp_path, log_redact_key=KEY) as running:
        answered = running.client.post(UPLOAD, content=lines, headers=LINES)
        uploaded = last(running)
        running.client.post(INFER, content=inference(SECRET))
        inferred = last(running)
    for found in (value(uploaded.request_body), value(inferred.request_body)["rows"]):
        assert [row["number"] for row in found] == [1, 2][: len(found)]
        assert all(row["name"].startswith("hash-") for row in found)
    assert value(uploaded.response_body) == [json.loads(line) for line in answered.text.splitlines()]
    assert uploaded.redacted == inferred.redacted == ["name"]


@pytest.mark.parametrize("rules", [{}, {"titanic": {"name": "drop"}}, {"diamonds": {"carat": "drop"}}])
def test_similar_rows_are_logged_unless_the_model_has_rules(tmp_path: Path, rules: dict[str, Any]) -> None:
    """The rows are training data, of which only an older version may hold what the settings redact now."""
    put_diamonds(tmp_path / "registry", STONES)
    with gateway(tmp_path, log_redact=rules) as running:
        answer = running.client.get(f"{SIMILAR}?{QUESTION}")
        assert answer.status_code == 200
        found = last(running)
        running.client.get(f"{SIMILAR}?{QUESTION}&n=0")
        refused = last(running)
    assert (found.route, found.model, found.model_version) == ("/v1/{model}/similar", "diamonds", "v1")
    asked = {"cut": "Ideal", "color": "E", "clarity": "SI2", "carat": "0.3"}
    if "diamonds" in rules:
        del asked["carat"]
        assert (found.response_body, found.redacted) == (UNSET, ["*", "carat"])
    else:
        assert value(found.response_body) == answer.json()
    assert value(found.query) == asked
    assert (refused.status, refused.problem) == (422, "invalid-request")


def test_metadata_is_open(tmp_path: Path) -> None:
    people(tmp_path / "registry")
    with gateway(tmp_path, log_redact_key=KEY) as running:
        for path in ("/v2", "/v2/models/line", "/v2/models/line/ready"):
            answer = running.client.get(path)
            assert value(last(running).response_body) == answer.json()


def test_a_live_stream_is_one_event_at_its_end(tmp_path: Path) -> None:
    """With the bytes that were sent, and without the events."""
    with gateway(tmp_path) as running:
        answers: list[Any] = []
        path = "/v1/streams/results?model=line"
        reader = threading.Thread(target=lambda: answers.append(running.client.get(path)))
        reader.start()
        until(lambda: running.hub.subscribers == 1, 30, "the stream is open")
        assert running.calls == []
        running.run(running.hub.drain)
        reader.join(30)
        [event] = running.events()
        running.client.get("/v1/streams/nothing")
        refused = last(running)
    assert (event.route, event.status, event.problem) == ("/v1/streams/{streams}", 200, UNSET)
    assert value(event.query) == {"model": "line"}
    assert (event.response_body, event.response_bytes) == (UNSET, len(answers[0].content))
    assert (refused.status, refused.problem) == (404, "not-found")


def test_what_the_console_asks_every_few_seconds_is_no_call(tmp_path: Path) -> None:
    settings = MagicMock(registry_dir=tmp_path)
    addresses = ConsoleRoutes(settings, *[MagicMock()] * 5).addresses()
    logged = {(one.method, one.path) for one in addresses if one.is_logged and one.scope is not None}
    assert logged == {("POST", "/v1/console/dead-letters/replay"), ("GET", "/v1/console/dead-letters/{address}")}
