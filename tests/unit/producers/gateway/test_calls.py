"""Every call of the API is one event, whatever it ends in, with nothing that the prediction log would not hold."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from starlette.types import Message, Receive, Scope, Send

from machine_learning_engineering.events.schemas import ApiCalled, decode_api_call, encode
from producers.gateway.call_events import CallEvents
from producers.gateway.calls import CLIENT_GONE, Call, Recorder
from producers.gateway.catalog import Catalog
from producers.gateway.settings import GatewaySettings
from tests.support.gateway import Running, Topics, gateway, put_model

SECRET = "Braund, Mr. Owen Harris"
KEY = "a secret of 16 characters or more"
ROUTE = "/v1/models/{model}/predictions"
PATH = "/v1/models/line/predictions"


def value(raw: Any) -> Any:
    return None if raw is UNSET else msgspec.json.decode(raw)


def last(running: Running) -> ApiCalled:
    """The newest event, as a reader of the topic gets it."""
    return decode_api_call(encode(running.events()[-1]))


def test_a_prediction_is_an_event_with_both_bodies(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        answer = running.client.post(PATH, json={"features": {"number": 21}}, headers={"Idempotency-Key": "a-1"})
        event = last(running)
    assert (event.method, event.route, event.status, event.caller) == ("POST", ROUTE, 200, "anybody")
    assert (event.model, event.model_version, event.request_id, event.rows) == ("line", "v1", "a-1", 1)
    assert value(event.request_body) == {"features": {"number": 21}}
    assert value(event.response_body) == answer.json()
    assert (event.request_bytes, event.response_bytes) == (len(b'{"features":{"number":21}}'), len(answer.content))
    assert 0 < event.seconds < 60
    assert event.traceparent == answer.headers["traceparent"]
    assert (event.problem, event.query, event.redacted) == (UNSET, UNSET, UNSET)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "problem", "route"),
    [
        ("POST", PATH, b"{", 400, "malformed-request", ROUTE),
        ("POST", PATH, b"\xff", 400, "malformed-request", ROUTE),
        ("POST", PATH, b'{"features": 1}', 422, "invalid-request", ROUTE),
        ("POST", PATH, b'{"features": {"number": -1}}', 422, "invalid-features", ROUTE),
        ("POST", PATH, b'{"features": {"number": 13}}', 500, "prediction-error", ROUTE),
        # Its body is not read.
        ("POST", "/v1/models/none/predictions", b"", 404, "unknown-model", ROUTE),
        ("POST", "/v1/line/double", b'{"number": -1}', 422, "invalid-features", "/v1/{model}/{prediction}"),
        ("GET", "/v1/predictions/nobody-knows", b"", 404, "unknown-prediction", "/v1/predictions/{request_id:path}"),
        ("POST", "/v1/predictions/unknown/label", b'{"label": 1}', 404, "unknown-prediction", None),
        ("GET", "/nowhere?at=all", b"", 404, "not-found", "none"),
        ("DELETE", "/v1/models", b"", 405, "method-not-allowed", "none"),
    ],
)
def test_a_call_that_fails_is_an_event_too(
    tmp_path: Path, method: str, path: str, content: bytes, status: int, problem: str, route: str | None
) -> None:
    with gateway(tmp_path) as running:
        headers = {"Content-Type": "application/json"}
        answer = running.client.request(method, path, content=content, headers=headers)
        assert len(running.calls) == 1
        event = last(running)
    assert (answer.status_code, event.status, event.problem) == (status, status, problem)
    assert event.route == (route or "/v1/predictions/{request_id:path}/label")
    assert value(event.response_body) == answer.json()
    assert event.request_bytes == len(content)
    if content in (b"{", b"\xff"):
        assert value(event.request_body) == content.decode(errors="replace")
    elif content:
        assert value(event.request_body) == msgspec.json.decode(content)
    assert value(event.query) == ({"at": "all"} if "?" in path else None)


def test_later_answers_are_events_of_their_own(tmp_path: Path) -> None:
    """202, 504 and the poll: of the same request."""
    with gateway(tmp_path, topics=Topics()) as running:
        running.client.post(PATH, json={"features": {"number": 1}}, headers={"Prefer": "respond-async"})
        late = running.client.post("/v1/line/double", json={"number": 2}, headers={"Prefer": "wait=0.01"})
        running.client.get(f"/v1/predictions/{late.headers['x-request-id']}")
        running.answer_all()
        running.client.get(f"/v1/predictions/{late.headers['x-request-id']}")
        found = running.events()
    assert [(one.status, one.problem) for one in found] == [
        (202, UNSET),
        (504, "prediction-timeout"),
        (202, UNSET),
        (200, UNSET),
    ]
    assert len({one.request_id for one in found[1:]}) == 1
    assert len({one.call_id for one in found}) == 4
    assert value(found[3].response_body)["prediction"] == {"answer": 4}


def test_a_caller_is_the_name_of_the_key(tmp_path: Path) -> None:
    """Also where it may not do this; never the key, nor its id."""
    with gateway(tmp_path) as running:
        key, secret = running.keys.add("shop", ["predict"])
        running.keys.refresh()
        headers = {"Authorization": f"Bearer {secret}"}
        running.client.post(PATH, json={"features": {"number": 1}}, headers=headers)
        running.client.get("/v1/models", headers=headers)
        running.client.get("/v1/models", headers={"X-API-Key": "inflight_guess"})
        found = running.events()
    assert [(one.status, one.caller, one.problem) for one in found] == [
        (200, "shop", UNSET),
        (403, "shop", "forbidden"),
        (401, UNSET, "unauthorized"),
    ]
    for one in found:
        assert secret.encode() not in encode(one)
        assert key.id.encode() not in encode(one)
        assert b"inflight_guess" not in encode(one)


def test_health_and_documentation_are_no_events(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        for path in ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs"):
            assert running.client.get(path).status_code == 200
        assert running.calls == []


def test_a_large_body_is_counted_and_not_kept(tmp_path: Path) -> None:
    with gateway(tmp_path, gateway_call_body_bytes=100) as running:
        text = {"features": {"number": 1, "more": "x" * 200}}
        running.client.post(PATH, json=text)
        event = last(running)
        assert (event.request_body, event.request_bytes) == (UNSET, len(msgspec.json.encode(text)))
        running.client.post(PATH, json={"features": {"number": 1}})
        assert value(last(running).request_body) == {"features": {"number": 1}}
        assert last(running).response_body is UNSET
    with gateway(tmp_path, gateway_call_body_bytes=0) as running:
        running.client.post(PATH, json={"features": {"number": 1}})
        assert (last(running).request_body, last(running).response_body) == (UNSET, UNSET)


def people(registry: Path, redacted: dict[str, str] | None) -> None:
    schema = {"type": "object", "properties": {"number": {"type": "number"}, "name": {"type": "string"}}}
    put_model(registry, features_schema=schema, redacted_features=redacted)


BODIES = [
    (PATH, {"features": {"number": 1, "name": SECRET}}),
    (PATH, {"rows": [{"number": 1, "name": SECRET}, {"number": 2, "name": SECRET}]}),
    (PATH, {"rows": [{"number": 1, "name": SECRET}, SECRET]}),
    (PATH, {"features": {"number": 1, "other": SECRET}}),
    (PATH, {"features": SECRET}),
    (PATH, {"fields": {"name": SECRET}}),
    (PATH, SECRET),
    ("/v1/line/double", {"number": 1, "name": SECRET}),
    ("/v1/line/double", [SECRET]),
    ("/v1/models/unknown/predictions", {"features": {"name": SECRET}}),
    (f"{PATH}?name={SECRET}", {"features": {"number": 1}}),
    (f"/v1/models/unknown/predictions?name={SECRET}", {}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize("action", ["hash", "drop"])
@pytest.mark.parametrize("declared", [True, False], ids=["by the model", "by the settings"])
def test_no_event_holds_what_is_redacted(tmp_path: Path, path: str, body: Any, action: str, declared: bool) -> None:
    people(tmp_path / "registry", {"name": action} if declared else {})
    rules = {} if declared else {"log_redact": {"line": {"name": action}}}
    with gateway(tmp_path, log_redact_key=KEY, **rules) as running:
        answer = running.client.post(path, json=body)
        event = last(running)
    assert SECRET.encode() not in encode(event)
    assert SECRET.split()[1].encode() not in encode(event)
    # Of a model that nobody serves, the body is not read.
    assert event.redacted is not UNSET or (event.request_bytes == 0 and event.query is UNSET)
    assert event.status == answer.status_code


def test_what_is_not_redacted_stays(tmp_path: Path) -> None:
    people(tmp_path / "registry", {"name": "hash"})
    with gateway(tmp_path, log_redact_key=KEY) as running:
        rows = [{"number": 1, "name": SECRET}, {"number": 2, "name": SECRET}]
        running.client.post(PATH, json={"rows": rows})
        event = last(running)
        running.client.post(f"/v1/predictions/{event.request_id}/label", json={"label": SECRET, "model": "line"})
        labelled = last(running)
        running.client.get("/v1/models")
        listed = last(running)
    found = value(event.request_body)["rows"]
    assert [row["number"] for row in found] == [1, 2]
    assert found[0]["name"] == found[1]["name"]
    assert found[0]["name"].startswith("hash-")
    assert event.redacted == ["name"]
    # A label is not among what is redacted, in the prediction log either.
    assert value(labelled.request_body)["label"] == SECRET
    assert value(listed.response_body)["models"][0]["name"] == "line"
    assert "redacted_features" not in value(listed.response_body)["models"][0]


@pytest.mark.parametrize(
    ("redacted", "rules"),
    [
        (None, {}),
        ({"name": "mask"}, {}),
        ({"name": "hash"}, {}),
        ({"nobody": "drop"}, {}),
        ({}, {"log_redact": {"line": {"nobody": "drop"}}}),
    ],
    ids=["an old version", "an unknown action", "no key", "an unknown feature", "an unknown feature in the settings"],
)
def test_without_valid_rules_no_feature_is_logged(
    tmp_path: Path, redacted: dict[str, str] | None, rules: dict[str, Any]
) -> None:
    people(tmp_path / "registry", redacted)
    with gateway(tmp_path, **rules) as running:
        assert running.client.post(PATH, json={"features": {"number": 1, "name": SECRET}}).status_code == 200
        event = last(running)
    assert value(event.request_body) == {"features": {}}
    assert value(event.response_body)["prediction"] == {"answer": 2}


def test_rules_follow_a_promotion(tmp_path: Path) -> None:
    people(tmp_path / "registry", {})
    with gateway(tmp_path) as running:
        encode_call = CallEvents(running.settings, running.catalog)
        running.client.post(PATH, json={"features": {"number": 1, "name": SECRET}})
        assert SECRET.encode() in encode(encode_call(running.calls[-1]))
        people(tmp_path / "registry", {"name": "drop"})
        running.client.get("/v1/models")
        assert SECRET.encode() not in encode(encode_call(running.calls[0]))


@given(
    body=st.binary(max_size=200),
    response=st.none() | st.binary(max_size=50),
    query=st.binary(max_size=50),
    texts=st.lists(st.text(max_size=300), min_size=3, max_size=3),
    rows=st.lists(st.binary(max_size=30), max_size=2),
)
def test_any_call_becomes_an_event_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory,
    body: bytes,
    response: bytes | None,
    query: bytes,
    texts: list[str],
    rows: list[bytes],
) -> None:
    settings = GatewaySettings(_env_file=None, log_redact={"*": {"*": "drop"}})  # type: ignore[call-arg]
    for rules in (settings, GatewaySettings(_env_file=None)):  # type: ignore[call-arg]
        encode_call = CallEvents(rules, Catalog(Path("/nowhere")))
        model, request_id, version = texts
        call = Call("POST", query, model=model, request_id=request_id, model_version=version, status=200)
        call.request_body, call.response_body, call.rows = body, response, [Raw(row) for row in rows]
        event = decode_api_call(encode(encode_call(call)))
        assert event.call_id == call.call_id
        if rules is settings:
            assert event.request_body is UNSET


def test_a_client_that_leaves_is_an_event() -> None:
    """With what it had sent."""
    found: list[Call] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise asyncio.CancelledError

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError

    async def call() -> None:
        await Recorder(app, found.append, 100)({"type": "http", "method": "POST"}, receive, send)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call())
    [one] = found
    assert (one.status, one.request_bytes, one.request_body) == (CLIENT_GONE, 1, None)
