"""What the page asks: scopes, stories, models, and how problems are told. Over real HTTP, without Kafka."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import LABELS, LOGS
from producers.gateway.console.reader import note
from producers.gateway.console.sources import StoredStory
from producers.gateway.console.watch import LagReading
from producers.gateway.stream import HistoryUnavailable
from tests.support.console import Console, console, fill, log
from tests.support.waiting import until

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ASKED = {
    "/v1/console/overview": "read",
    "/v1/console/models": "read",
    "/v1/console/models/diamonds": "read",
    "/v1/console/predictions": "read",
    "/v1/console/predictions/diamonds-00001": "read",
    "/v1/console/dead-letters": "admin",
}


class Book:
    """A prediction log with one request, or one that is away."""

    def __init__(self) -> None:
        self.away = False

    async def find(self, request_id: str) -> StoredStory | None:
        if self.away:
            raise HistoryUnavailable("Elasticsearch did not respond as expected (ConnectionError)")
        event = log("old", "diamonds", NOW)
        return StoredStory(event, Raw(b"552"), NOW, "Elasticsearch") if request_id == "old" else None


@pytest.fixture(scope="module")
def book() -> Book:
    return Book()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, book: Book) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console"), logbook=book) as found:
        fill(found.watch, 500, 280)
        yield found


def ask(running: Console, path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    """Status and content of an answer."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(running.url + path, content, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_overview(running: Console) -> None:
    status, found = ask(running, "/v1/console/overview?seconds=300")
    assert status == 200
    total = found["total"]
    assert total["completed"] + total["failed"] == 500
    assert 0.001 < total["p50"] < total["p95"] < total["p99"] < 0.1
    assert len(found["series"]["at"]) == len(found["series"]["p99"]) == 60
    assert {one["name"] for one in found["models"]} >= {"diamonds", "titanic", "reviews"}
    worker = next(one for one in found["lag"] if one["group"] == "inflight-worker")
    assert (worker["records"], worker["active"]) == (17, True)
    assert found["events"][0]["event"]["type"] == "model.promoted.v1"
    assert ask(running, "/v1/console/overview?seconds=7")[1]["field"] == "seconds"


def test_the_last_predictions(running: Console) -> None:
    _, found = ask(running, "/v1/console/predictions?limit=20&model=diamonds")
    times = [one["at"] for one in found["predictions"]]
    assert len(times) == 20
    assert times == sorted(times, reverse=True)
    assert "features" not in found["predictions"][0]
    _, one = ask(running, "/v1/console/predictions?id=diamonds-00001")
    assert [row["request_id"] for row in one["predictions"]] == ["diamonds-00001"]
    assert ask(running, "/v1/console/predictions?limit=none")[0] == 400


def test_a_story_of_the_stream(running: Console) -> None:
    status, found = ask(running, "/v1/console/predictions/diamonds-00001")
    assert status == 200
    assert found["source"] == "stream"
    assert found["label"]["value"] == 552
    assert found["features"] == {"carat": 0.23, "cut": "Ideal"}
    times = [found["times"][name] for name in ("requested", "accepted", "scoring", "scored", "completed")]
    assert times == sorted(times)
    assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_a_story_of_the_log(running: Console, book: Book) -> None:
    """Also while it is away, and of an id that nobody knows."""
    status, found = ask(running, "/v1/console/predictions/old")
    assert (status, found["source"], found["label"]["value"]) == (200, "Elasticsearch", 552)
    assert ask(running, "/v1/console/predictions/none")[0] == 404
    book.away = True
    try:
        status, found = ask(running, "/v1/console/predictions/old")
        assert (status, found["type"]) == (503, "urn:inflight:problem:history-unavailable")
        assert ask(running, "/v1/console/predictions/diamonds-00001")[0] == 200
    finally:
        book.away = False


def test_a_story_of_a_request_that_runs(running: Console) -> None:
    """It waits for a worker; then its result is there, then its log; a label comes later."""
    running.topics.working = False
    example = ask(running, "/v1/models/titanic")[1]["example"]
    request = urllib.request.Request(
        running.url + "/v1/models/titanic/predictions",
        json.dumps({"features": example}).encode(),
        {"Content-Type": "application/json", "Prefer": "respond-async", "Idempotency-Key": "waits"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 202
    assert ask(running, "/v1/console/predictions/waits")[1]["status"] == "running"
    running.topics.working = True
    running.topics.work(running.topics.requests[-1])
    assert ask(running, "/v1/console/predictions/waits")[1]["status"] == "completed"
    label = b'{"request_id":"waits","model":"titanic","label":true,"observed_at":"2026-11-30T10:00:00Z"}'
    note(running.watch.memory, LABELS, label, NOW.timestamp())
    assert ask(running, "/v1/console/predictions/waits")[1]["label"]["value"] is True


def test_a_story_of_a_batch(running: Console) -> None:
    """Each row has its own."""
    example = ask(running, "/v1/models/titanic")[1]["example"]
    batch = ask(running, "/v1/models/titanic/predictions", body={"rows": [example, example]})[1]["request_id"]
    found = ask(running, f"/v1/console/predictions/{batch}")[1]
    assert (found["status"], found["rows"]) == ("batch", [f"{batch}~0", f"{batch}~1"])
    assert ask(running, f"/v1/console/predictions/{batch}~1")[1]["status"] == "completed"


def test_a_story_of_a_rejected_record(running: Console) -> None:
    status, found = ask(running, "/v1/console/predictions/careless-1")
    assert (status, found["status"]) == (200, "dead_letter")
    assert found["dead_letters"][0]["reason"] == "missing_field"


def test_models(running: Console) -> None:
    assert ask(running, "/v1/console/models")[1]["models"][0] == {"name": "diamonds", "champion": "v3"}
    found = ask(running, "/v1/console/models/diamonds")[1]
    assert [one["version"] for one in found["versions"]] == ["v3", "v2", "v1"]
    assert found["versions"][0]["aliases"] == ["champion"]
    assert found["history"][0]["version"] == "v3"
    assert len(found["drift"]) == 18
    assert found["quality"][0]["rows"] == 1_840
    for name in ("emeralds", "..", "%2e%2e", "a%2Fb"):
        assert ask(running, f"/v1/console/models/{name}")[0] == 404


def test_a_damaged_manifest_names_no_path(running: Console) -> None:
    path = running.home / "registry" / "reviews" / "v1" / "manifest.json"
    content = path.read_text()
    path.write_text("{")
    try:
        found = ask(running, "/v1/console/models/reviews")[1]["versions"][-1]
        assert "inflight models show" in found["error"]
        assert str(running.home) not in json.dumps(found)
    finally:
        path.write_text(content)


def test_dead_letters(running: Console) -> None:
    found = ask(running, "/v1/console/dead-letters?limit=5")[1]
    assert (len(found["dead_letters"]), found["matching"]) == (5, 24)
    assert found["reasons"] == ["index_rejected", "invalid_json", "missing_field", "unknown_field"]
    some = ask(running, "/v1/console/dead-letters?reason=invalid_json")[1]
    assert {one["reason"] for one in some["dead_letters"]} == {"invalid_json"}
    for body, field in (
        ({"addresses": []}, "addresses"),
        ({"addresses": ["0:1"] * 51}, "addresses"),
        ({"addresses": ["x"]}, "address"),
        ({}, "addresses"),
        ({"addresses": ["0:1"], "again": "yes"}, "again"),
    ):
        status, problem = ask(running, "/v1/console/dead-letters/replay", body=body)
        assert status in (400, 422), body
        assert problem["field"] == field


def test_away(running: Console) -> None:
    """The page is told what is wrong, and keeps what it has."""
    running.watch.problem = "the broker does not respond (_TRANSPORT): is it running?"
    lag, running.watch.lag = running.watch.lag, LagReading([], "the lag can't be read (_TRANSPORT)")
    running.stream.problem = "the broker does not respond"
    try:
        status, found = ask(running, "/v1/console/overview")
        assert status == 200
        assert "does not respond" in found["problem"]
        assert "can't be read" in found["lag_problem"]
        assert found["gateway"] == {"ready": False, "problem": "the broker does not respond"}
        assert found["total"]["completed"] > 0
    finally:
        running.watch.problem = running.stream.problem = ""
        running.watch.lag = lag


def test_scopes(tmp_path: Path) -> None:
    """The page is open to everybody, and shows nothing without a key."""
    with console(tmp_path) as found:
        fill(found.watch, 20, 60)
        keys = {scope: found.add_key(scope, name=scope) for scope in ("predict", "read", "label", "admin")}
        session = "/v1/console/session"
        until(lambda: ask(found, session, keys["admin"])[1].get("name") == "admin", 30, "the gateway knows all keys")
        assert ask(found, session)[1] == {"keys_required": True, "name": None, "scopes": []}
        assert ask(found, session, "inflight_x")[0] == 401
        assert ask(found, session, keys["read"])[1]["scopes"] == ["read"]
        assert ask(found, session, keys["admin"])[1]["scopes"] == ["predict", "label", "read", "admin"]
        for path, scope in ASKED.items():
            assert ask(found, path)[0] == 401
            for name, key in keys.items():
                allowed = name in (scope, "admin")
                assert ask(found, path, key)[0] == (200 if allowed else 403), (path, name)
        body = {"addresses": ["0:1"]}
        assert ask(found, "/v1/console/dead-letters/replay", keys["read"], body)[0] == 403
        assert ask(found, "/v1/console/dead-letters/0:1", keys["read"])[0] == 403
        story = ask(found, "/v1/console/predictions/diamonds-00001", keys["read"])[1]
        assert (story["features"], story["features_hidden"]) == (None, True)
        assert story["prediction"] == {"price": 541.5}


def test_redaction_is_kept(running: Console) -> None:
    """The story tells what the log tells: values that the worker has redacted are nowhere else."""
    event = log("private", "titanic", NOW, features={"name": "sha256:0011", "age": 22})
    value = events.encode(event).replace(b'"batch_size"', b'"redacted":["name"],"batch_size"')
    note(running.watch.memory, LOGS, value, NOW.timestamp())
    assert ask(running, "/v1/console/predictions/private")[1]["redacted"] == ["name"]


def test_files(running: Console) -> None:
    """Nothing inline, nothing of others, and a policy that forbids both."""
    for path, kind in {
        "/": "text/html",
        "/console/app.js": "text/javascript",
        "/console/style.css": "text/css",
    }.items():
        with urllib.request.urlopen(running.url + path, timeout=30) as response:
            policy, text = response.headers["content-security-policy"], response.read().decode()
            assert response.headers["content-type"].startswith(kind)
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
    for path in ("/console/index.html", "/console/none.js", "/console/..%2Froutes.py", "/console/"):
        assert ask(running, path)[0] == 404
