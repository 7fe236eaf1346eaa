"""The console of a real gateway: a real stream, real processes, a real browser, and a broker that is killed."""

import json
from typing import Any

from confluent_kafka import Producer
from playwright.sync_api import expect

from inflight.demo.bad_records import bad_records
from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from monitoring.elastic import client as elastic
from tests.support.browser import check_access, chromium, page_of
from tests.support.deployment import Deployment
from tests.support.durability import needs_durable_nodes
from tests.support.http_clients import call
from tests.support.waiting import figures, until

SECONDS = 120.0
ROWS = 40


def ask(port: int, path: str) -> Any:
    return call(port, "GET", f"/v1/console/{path}").body or {}


@needs_durable_nodes
def test_the_console_of_a_deployment(deployment: Deployment, settings: Settings, search: Any, broker: Any) -> None:
    """Counts, stories, labels, lag, dead letters and their replay; after a broker was killed it goes on by itself."""
    port = free_port()
    gateway, worker, indexer = deployment.gateway(port), deployment.worker(), deployment.indexer()
    deployment.serving(1)
    until(gateway.serves, SECONDS, "the gateway is ready")
    rows = [one for one, _ in zip(deployment.diamonds(ROWS), range(ROWS), strict=False)]
    answers = [
        call(port, "POST", "/v1/diamonds/value", row, {"Idempotency-Key": f"s{n}"}) for n, row in enumerate(rows)
    ]
    assert [one.status for one in answers] == [200] * ROWS
    bad = [one for one in bad_records("careless") if one.is_dead_letter and one.value]
    producer = Producer(producer_options(settings))
    for one in bad:
        producer.produce(topic_name(settings, REQUESTS), one.value, one.key)
    assert producer.flush(SECONDS) == 0

    until(lambda: counted(port) == (ROWS, len(bad)), SECONDS, "all is counted")
    assert call(port, "POST", "/v1/predictions/s0/label", {"label": 326}).status == 202
    until(lambda: "label" in ask(port, "predictions/s0"), SECONDS, "the label is in the story")
    story = ask(port, "predictions/s0")
    assert (story["status"], story["features"], story["label"]["value"]) == ("completed", rows[0], 326)
    assert story["prediction"]["price"] == answers[0].body["price"]
    assert 0 < story["score_seconds"] <= story["total_seconds"]
    until(lambda: settled(port, indexer is not None), SECONDS, "worker and indexer have read all")

    letters = ask(port, "dead-letters")["dead_letters"]
    assert len(letters) == len(bad)
    chosen = next(one for one in letters if not one["truncated"])
    body = {"addresses": [chosen["address"]]}
    first, again = (call(port, "POST", "/v1/console/dead-letters/replay", body).body["results"] for _ in range(2))
    assert [first[0]["outcome"], again[0]["outcome"]] == ["accepted", "already_replayed"]
    until(lambda: counted(port) == (ROWS, len(bad) + 1), SECONDS, "it is as wrong as before")

    pages(port)
    broker.restart(hard=True)
    until(lambda: call(port, "POST", "/v1/diamonds/value", rows[0]).status == 200, SECONDS, "predictions go on")
    until(lambda: counted(port)[0] > ROWS, SECONDS, "and so does the console")
    until(lambda: ask(port, "overview")["problem"] == ask(port, "overview")["lag_problem"] == "", SECONDS, "no problem")
    text = log_of(gateway)
    assert "careless" not in text
    assert json.dumps(rows[0]["carat"]) not in text.replace(str(port), "")
    assert worker.is_alive()


def test_a_story_outlives_the_stream(deployment: Deployment, settings: Settings, search: Any) -> None:
    """A gateway that has never seen the request finds it in the index, by its id, with its label."""
    port = free_port()
    gateway = deployment.gateway(port, gateway_recall_time=1)
    deployment.worker(), deployment.indexer()
    deployment.serving(1)
    until(gateway.serves, SECONDS, "the gateway is ready")
    row = next(iter(deployment.diamonds(1)))
    answer = call(port, "POST", "/v1/diamonds/value", row, {"Idempotency-Key": "kept"})
    assert answer.status == 200
    index = "inference-logs-*"
    with elastic.connect(settings) as client:

        def indexed() -> bool:
            elastic.request(client, "POST", f"/{index}/_refresh")
            found = elastic.request(
                client, "GET", f"/{index}/_count", {"query": {"term": {"inflight.request_id": "kept"}}}
            )
            return bool(found["count"])

        until(indexed, SECONDS, "it is in the index")
    other_port = free_port()
    # Topics of another deployment: its stream has never held this request.
    other = deployment.gateway(other_port, topic_prefix=f"{settings.topic_prefix}x-")
    until(lambda: call(other_port, "GET", "/v2/health/live").status == 200, SECONDS, "the other gateway runs")
    found = ask(other_port, "predictions/kept")
    assert (found["source"], found["features"], found["status"]) == ("Elasticsearch", row, "completed")
    assert found["prediction"]["price"] == answer.body["price"]
    assert call(other_port, "GET", "/v1/console/predictions/none").status == 404
    search.stop()
    try:
        away = call(other_port, "GET", "/v1/console/predictions/kept")
        assert (away.status, away.body["type"]) == (503, "urn:inflight:problem:history-unavailable")
    finally:
        search.start()
    until(lambda: ask(other_port, "predictions/kept").get("source") == "Elasticsearch", SECONDS, "it is there again")
    assert other.is_alive()


def counted(port: int) -> tuple[int, int]:
    total = ask(port, "overview?seconds=3600").get("total", {})
    return total.get("completed", 0) + total.get("failed", 0), total.get("dead_letters", 0)


def settled(port: int, indexed: bool) -> bool:
    groups = {"inflight-worker"} | ({"inflight-indexer"} if indexed else set())
    found = [one for one in ask(port, "overview")["lag"] if one["group"] in groups and one["topic"] != "model-events"]
    active = {one["group"] for one in found if one["active"]}
    return active == groups and not any(one["records"] for one in found if one["active"])


def pages(port: int) -> None:
    """The form predicts on the real stream, and the trace is there."""
    with chromium() as browser, page_of(browser) as page:
        page.goto(f"http://127.0.0.1:{port}/#/try/diamonds")
        page.get_by_role("button", name="Fill with the example").click()
        page.get_by_role("button", name="Predict").click()
        expect(page.locator(".answer")).to_contain_text("price")
        expect(page.get_by_text("Accepted by the broker")).to_be_visible()
        figures(answered=page.locator(".result .foot").first.inner_text())
        check_access(page)
        page.goto(f"http://127.0.0.1:{port}/#/dead-letters")
        page.locator("tbody input:enabled").last.check()
        page.get_by_role("button", name="Replay 1").click()
        page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        expect(page.get_by_text("1 of 1 published again.")).to_be_visible()
        page.goto(f"http://127.0.0.1:{port}/#/overview")
        expect(page.locator(".tile").first).to_contain_text("in 5 min")
        expect(page.get_by_role("row", name="worker prediction-requests")).to_be_visible()


def log_of(process: Any) -> str:
    return str(process.log_tail())
