"""Calls of the gateway reach their topic, Elasticsearch and the archive, and no answer waits for any of these."""

import json
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from inflight.stack.process import free_port
from machine_learning_engineering.events.schemas import ApiCalled, decode_api_call
from machine_learning_engineering.events.topics import API_CALLS
from machine_learning_engineering.kafka.client import read_to_end
from monitoring.elastic.client import connect, request
from tests.support.deployment import Deployment
from tests.support.http_clients import Users, call
from tests.support.waiting import figures, until

ROW = {"carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2", "depth": 61.5, "table": 55.0}
ROW |= {"x": 3.95, "y": 3.98, "z": 2.43}
BASE = "http://127.0.0.1:"


@pytest.fixture
def port() -> int:
    return free_port()


def calls(deployment: Deployment) -> list[ApiCalled]:
    return [decode_api_call(record.value() or b"") for record in read_to_end(deployment.settings, API_CALLS)]


def test_calls_are_in_the_index_and_in_the_archive(
    deployment: Deployment, port: int, search: Any, tmp_path: Path
) -> None:
    """Answered, refused, late and malformed ones: each once, with the request that it belongs to."""
    deployment.worker()
    gateway = deployment.gateway(port)
    deployment.indexer()
    file = tmp_path / "archive.sqlite"
    archive = deployment.archive(f"sqlite:///{file}")
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway serves")
    wanted = Counter[tuple[str, int]]()

    def ask(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        answer = call(port, method, path, body, headers)
        wanted[method, answer.status] += 1
        return answer

    first = ask("POST", "/v1/diamonds/value", ROW, {"Idempotency-Key": "call-1"})
    assert first.status == 200
    assert ask("POST", "/v1/diamonds/value", ROW | {"carat": -1}).status == 422
    assert ask("POST", "/v1/models/diamonds/predictions", {"rows": [ROW] * 3}).status == 200
    later = ask("POST", "/v1/models/diamonds/predictions", {"features": ROW}, {"Prefer": "respond-async"})
    assert later.status == 202
    until(lambda: ask("GET", later.headers["location"]).status == 200, 120, "the later answer is there")
    assert ask("POST", "/v1/models/diamonds/predictions", "no body").status == 422
    tensor = {"name": "features", "datatype": "BYTES", "shape": [1], "data": [json.dumps(ROW)]}
    assert ask("POST", "/v2/models/diamonds/infer", {"inputs": [tensor], "id": "call-2"}).status == 200
    assert ask("GET", "/v1/diamonds/similar?cut=Ideal&color=E&clarity=SI2&carat=0.3").status == 200
    assert ask("GET", "/v1/nowhere/at/all").status == 404
    assert ask("POST", "/v1/predictions/call-1/label", {"label": 326}).status == 202

    def in_archive() -> Counter[tuple[str, int]]:
        if not file.exists():
            return Counter()
        connection = sqlite3.connect(file)
        try:
            return Counter(connection.execute("SELECT method, status FROM api_calls").fetchall())
        except sqlite3.OperationalError:
            return Counter()
        finally:
            connection.close()

    until(lambda: in_archive() == wanted, 300, "the archive has every call")
    connection = sqlite3.connect(file)
    story = (
        "SELECT c.caller, c.model, c.rows, json(c.request_body), p.outcome, p.prediction ->> 'price', l.label "
        "FROM api_calls c JOIN predictions p ON p.request_id = c.request_id "
        "JOIN labels l ON l.request_id = p.request_id WHERE c.request_id = 'call-1' AND c.route NOT LIKE '%label'"
    )
    until(lambda: len(connection.execute(story).fetchall()) == 1, 300, "log and label are there too")
    [(caller, model, rows, sent, outcome, price, label)] = connection.execute(story).fetchall()
    assert (caller, model, rows, json.loads(sent), outcome) == ("anybody", "diamonds", 1, ROW, "completed")
    assert (price, label) == (first.body["price"], "326")
    # Tensors are kept as the rows that they mean.
    sent_and_predicted = (
        "SELECT json(c.request_body), p.prediction ->> 'price' FROM api_calls c "
        "JOIN predictions p ON p.request_id = c.request_id WHERE c.request_id = 'call-2'"
    )
    until(lambda: len(connection.execute(sent_and_predicted).fetchall()) == 1, 300, "the log is there too")
    [(sent, predicted)] = connection.execute(sent_and_predicted).fetchall()
    assert (json.loads(sent), predicted) == ({"rows": [ROW]}, first.body["price"])
    connection.close()
    assert archive.metric("inflight_archive_records_total", result="unreadable") == 0

    events = calls(deployment)
    assert Counter((one.method, one.status) for one in events) == wanted
    assert gateway.metric("inflight_gateway_calls_logged_total") == len(events)
    assert gateway.metric("inflight_gateway_calls_lost_total") == 0
    ids = [one.call_id for one in events]
    with connect(deployment.settings) as client:

        def indexed() -> list[dict[str, Any]]:
            request(client, "POST", "/inference-api-*/_refresh")
            query = {"size": 100, "query": {"terms": {"inflight.api.call_id": ids}}}
            hits = request(client, "POST", "/inference-api-*/_search", query)["hits"]["hits"]
            return [hit["_source"] for hit in hits]

        until(lambda: len(indexed()) == len(ids), 300, "every call is a document")
        documents = {one["inflight"]["api"]["call_id"]: one for one in indexed()}
    for event in events:
        document = documents[event.call_id]
        assert document["http"]["response"]["status_code"] == event.status
        assert document["event"]["outcome"] == ("success" if event.status < 400 else "failure")
        # What no route has is asked by nobody in particular.
        assert document.get("user") == (None if event.route == "none" else {"name": "anybody"})


def test_answers_do_not_wait_for_the_log_of_calls(deployment: Deployment, broker: Any, port: int) -> None:
    """The broker is away: calls fail as soon as they would without a log, are kept, and written when it is back.

    Of a buffer that is full, the rest is lost and counted.
    """
    gateway = deployment.gateway(port, gateway_call_buffer_bytes=1 << 20, gateway_send_timeout=0.5)
    until(gateway.serves, 120, "the gateway serves")
    assert call(port, "GET", "/v1/models").status == 200
    until(lambda: gateway.metric("inflight_gateway_calls_logged_total") == 1, 120, "the first call is written")
    broker.kill()
    try:
        small = 50
        started = time.monotonic()
        assert {call(port, "GET", "/v1/nowhere").status for _ in range(small)} == {404}
        seconds = time.monotonic() - started
        assert seconds < 20
        assert gateway.metric("inflight_gateway_calls_lost_total") == 0
        large = {"features": ROW | {"cut": "x" * 200_000}}
        statuses = Counter(call(port, "POST", "/v1/models/diamonds/predictions", large).status for _ in range(10))
        assert set(statuses) == {503}
        lost = int(gateway.metric("inflight_gateway_calls_lost_total", reason="buffer_full"))
        assert 1 <= lost <= 10
    finally:
        broker.start()
    total = 1 + small + sum(statuses.values()) - lost
    until(lambda: gateway.metric("inflight_gateway_calls_logged_total") == total, 300, "what was kept is written")
    assert len(calls(deployment)) == total
    figures(lost=lost, per_call_ms=f"{1000 * seconds / small:.1f}")


def test_calls_of_a_gateway_that_ends_are_written(deployment: Deployment, port: int) -> None:
    """SIGTERM right after many answers, with load: what the clients saw is on the topic."""
    deployment.worker()
    gateway = deployment.gateway(port)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway serves")
    user = Users("user", [port], [ROW])
    user.start()
    until(lambda: len(user.answers) >= 30, 120, "the load runs")
    user.stop()
    deployment.stop(gateway)
    logged = Counter(one.request_id for one in calls(deployment) if one.status == 200)
    assert logged.keys() >= user.answers.keys()
