"""What callers of the gateway send: bodies, headers, addresses, HTTP itself; and what the gateway reads elsewhere."""

import contextlib
import json
import re
import socket
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import msgspec
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from inflight.adapters import history
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import FINGERPRINT
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from monitoring.documents.log import to_document
from producers.gateway import answers
from producers.gateway.keys import KeyFile, KeysError
from producers.gateway.problems import CONTENT_TYPE, Problem
from producers.gateway.recall import Recall
from producers.gateway.settings import GatewaySettings
from producers.gateway.tail import Tail
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import SECRET, TOKENS, bounded, check_message, dose, mutated
from tests.support.gateway import Running, gateway
from tests.support.http_server import serving

DOORS = (
    "inflight/adapters/history.py:_stored",
    "producers/gateway/answers.py:one",
    "producers/gateway/bodies.py:decode",
    "producers/gateway/keys.py:KeyFile.read",
    "producers/gateway/recall.py:decode_view",
)
BODIES = (
    b'{"features": {"number": 4}}',
    b'{"rows": [{"number": 4}, {"number": 5.5}, {"number": -1}]}',
    b'{"number": 21}',
    b'{"features": {"number": "' + SECRET.encode() + b'"}}',
    b'{"label": 326.5, "observed_at": "2026-01-01T00:00:00Z", "model": "line"}',
    b'{"label": {"a": ["' + SECRET.encode() + b'"]}, "model": "line"}',
)
PATHS = ("/v1/models/line/predictions", "/v1/line/double", "/v1/predictions/r-1/label")
HEADERS = {
    "Idempotency-Key": b"order-1",
    "Prefer": b"wait=0.1, respond-async",
    "X-Record-Key": b"customer-7",
    "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": b"vendor=1",
    "Authorization": b"Bearer inflight_0123456789ab_" + b"x" * 43,
    "X-API-Key": b"inflight_0123456789ab_" + b"x" * 43,
    "Content-Type": b"application/json",
    "Content-Encoding": b"identity",
    "Host": b"127.0.0.1:8080",
    "Origin": b"https://shop.example",
}
STATUSES = {200, 202, 207, 400, 401, 403, 404, 409, 413, 415, 422, 504}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway")) as found:
        yield found


def check(running: Running, response: Any, before: int) -> None:
    """A documented outcome that quotes nothing; what was published can be read by a worker."""
    kind = response.headers.get("content-type", "")
    # The model of this gateway fails at 13.
    failed = response.status_code == 500 and response.json()["type"].endswith(":prediction-error")
    assert failed or response.status_code in STATUSES, (response.status_code, response.text[:500])
    if response.status_code >= 400:
        assert kind == CONTENT_TYPE
        document = response.json()
        assert document["status"] == response.status_code
        # An example is the author's own, and an id what the caller chose.
        check_message(json.dumps({name: document.get(name) for name in ("title", "detail", "field")}))
    else:
        assert kind == "application/json"
        msgspec.json.decode(response.content)
    for request in running.topics.requests[before:]:
        event = events.decode_request(request.value)
        assert event.request_id == request.request_id
        assert isinstance(msgspec.json.decode(event.features), dict)
        assert all(len(value) <= 512 for _, value in request.headers)
    for label in running.topics.labels:
        events.decode_label(label)
    running.topics.labels.clear()


@dose(150)
@given(body=mutated(BODIES), path=st.sampled_from(PATHS))
@hypothesis.example(body=b"[" * 100_000, path=PATHS[0])
@hypothesis.example(body=b'{"features": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, path=PATHS[0])
@hypothesis.example(body=b'{"rows": [' + b"{}," * 5_000 + b"{}]}", path=PATHS[0])
@hypothesis.example(body=b'{"label": "\\ud800", "model": "line"}', path=PATHS[2])
@hypothesis.example(body=b'{"label": 1, "observed_at": "0001-01-01T00:00:00+18:00", "model": "line"}', path=PATHS[2])
@hypothesis.example(body=b'{"label": 1, "observed_at": "9999-12-31T23:59:59-18:00", "model": "line"}', path=PATHS[2])
def test_bodies(body: bytes, path: str, running: Running) -> None:
    before = len(running.topics.requests)
    with bounded(len(body)):
        response = running.client.post(path, content=body, headers={"Content-Type": "application/json"})
    check(running, response, before)


@dose(150)
@given(
    name=st.sampled_from(sorted(HEADERS)),
    change=mutated(tuple(HEADERS.values())).filter(lambda value: not set(value) & set(b"\r\n\0")),
    path=st.sampled_from(PATHS),
)
@hypothesis.example(name="Prefer", change=b"wait=" + b"9" * 400, path=PATHS[0])
@hypothesis.example(name="Host", change=b"", path=PATHS[0])
@hypothesis.example(name="Idempotency-Key", change=b"a~0", path=PATHS[0])
@hypothesis.example(name="traceparent", change=b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", path=PATHS[0])
def test_headers(name: str, change: bytes, path: str, running: Running) -> None:
    before = len(running.topics.requests)
    headers = {"Content-Type": b"application/json", name: change}
    with bounded(len(change)):
        response = running.client.post(path, content=b'{"features": {"number": 4}}', headers=headers)
    check(running, response, before)


@dose(100)
@given(text=st.text(max_size=40) | st.sampled_from([token.decode(errors="replace") for token in TOKENS]))
@hypothesis.example(text="../../models")
@hypothesis.example(text="a/label")
@hypothesis.example(text="%")
def test_addresses(text: str, running: Running) -> None:
    part = quote(text[:300], safe="/")
    models = (f"/v1/models/{part}", f"/v2/models/{part}", f"/v2/models/line/versions/{part}")
    for path in (*models, f"/v1/predictions/{part}", f"/v1/{part}", f"/docs/{part}"):
        response = running.client.get(path)
        assert response.status_code in (200, 400, 404, 405), (path, response.status_code, response.text[:300])
        if response.status_code >= 400:
            # The Open Inference Protocol wants its own.
            assert response.headers["content-type"] in (CONTENT_TYPE, "application/json" if path[:3] == "/v2" else "")
            check_message(response.text)


WIRE = (
    b"POST /v1/line/double HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n"
    b'{"number": 21}',
    b"POST /v1/line/double HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b'Transfer-Encoding: chunked\r\n\r\ne\r\n{"number": 21}\r\n0\r\n\r\n',
    b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server that answers with the length of the body."""
    with serving() as (found, _):
        yield found


@dose(40)
@given(sent=mutated(WIRE))
@hypothesis.example(sent=b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n")
@hypothesis.example(sent=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
@hypothesis.example(sent=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
def test_http(sent: bytes, port: int) -> None:
    """Whatever comes is answered or cut off, and the server goes on."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        # A connection that is kept alive says no more.
        connection.settimeout(0.4)
        found = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while chunk := connection.recv(65_536):
                found += chunk
    assert set(re.findall(rb"HTTP/1\.1 (\d{3}) ", found)) <= {b"100", b"200", b"400", b"408", b"413", b"415", b"431"}, (
        found[:500]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


KEYS = msgspec.json.encode(
    {
        "keys": [
            {
                "id": "0123456789ab",
                "name": "shop",
                "scopes": ["predict", "read"],
                "sha256": "0" * 64,
                "created_at": "2026-01-01T00:00:00Z",
                "expires_at": None,
                "revoked_at": "2026-02-01T00:00:00Z",
            }
        ]
    }
)


@dose(66)
@given(content=mutated([KEYS]))
@hypothesis.example(content=b'{"keys":' * 20_000)
@hypothesis.example(content=KEYS.replace(b'"predict"', b'"all"'))
@hypothesis.example(content=KEYS.replace(b'"2026-02-01T00:00:00Z"', b'"0001-01-01T00:00:00+18:00"'))
def test_files_of_keys(content: bytes, tmp_path: Path) -> None:
    """Keys, or one error that names the file; a key is never found by what is in the file."""
    path = tmp_path / "gateway-keys.json"
    path.write_bytes(content)
    file = KeyFile(path)
    try:
        with bounded(len(content)):
            found = file.read()
            file.refresh()
    except KeysError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 1_000
        return
    for key in found:
        key.is_valid(corpus.NOW)
        key.allows("admin")
    assert file.find(f"inflight_0123456789ab_{'x' * 43}") is None


@dose(100)
@given(
    value=mutated((*corpus.RESULTS, *corpus.REQUESTS)),
    mark=st.sampled_from([b"0f", b"0f-3", b"0f-99999", b"-", b"\xff\xfe", b"x" * 64]) | st.binary(max_size=70),
    topic=st.sampled_from([REQUESTS, RESULTS]),
)
@hypothesis.example(value=b'{"request_id":' * 20_000, mark=b"0f", topic=RESULTS)
def test_records_of_both_topics(value: bytes, mark: bytes, topic: str) -> None:
    """Noted or passed over; a result that is noted is an answer, or a problem that is no fault of the caller."""
    tail: Any = object.__new__(Tail)
    tail._requests, tail._results = REQUESTS, RESULTS
    record: Message = corpus.message(topic, value, headers=[(FINGERPRINT, mark)])
    with bounded(len(value)):
        seen = tail._seen(record)
    if seen is None:
        return
    recall = Recall(10, 1 << 20)
    recall.note([seen])
    assert recall.get(seen.request_id) is not None
    if seen.kind == "request":
        return
    with bounded(len(value)):
        for show in (
            lambda: answers.one(seen.value, None, flat=True),
            lambda: answers.one(seen.value, None, flat=False),
            lambda: answers.many("batch", [seen.value], None),
        ):
            try:
                response = show()
            except Problem as problem:
                response = problem.response()
            assert response.status_code in (200, 404, 422, 500)
            if b'"prediction":' not in response.body:
                # Which is handed on as it is.
                msgspec.json.decode(response.body)
            for _, text in response.raw_headers:
                assert set(text.decode("latin-1")) <= set(string.printable) - set("\r\n\x0b\x0c")


SOURCES = tuple(
    msgspec.json.encode(msgspec.json.decode(to_document(log)))
    for log in (corpus.logged(0), corpus.logged(1, redacted=["owner"]), corpus._failed("invalid_features"))
)


@dose(100)
@given(source=mutated(SOURCES))
@hypothesis.example(source=SOURCES[0].replace(b'"outcome"', b'"income"'))
@hypothesis.example(source=b"{}")
def test_documents_of_the_index(source: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome, or Elasticsearch has not answered as it should."""
    try:
        document: Any = msgspec.json.decode(source)
    except (ValueError, RecursionError):
        return
    monkeypatch.setattr(history, "hits", lambda *_: [{"_source": document}])
    monkeypatch.setattr(history, "documents", lambda *_: [])
    index = history.IndexHistory(GatewaySettings(_env_file=None))  # type: ignore[call-arg,arg-type]
    index._client = object()
    try:
        found = index._find(["r-00000000", "r-00000001"])
    except history.HistoryUnavailable as error:
        check_message(str(error), limit=500)
        return
    for stored in found.values():
        assert stored.request_id in ("r-00000000", "r-00000001")
        try:
            answers.one(stored.result, None, flat=False)
        except Problem as problem:
            json.loads(problem.response().body)
