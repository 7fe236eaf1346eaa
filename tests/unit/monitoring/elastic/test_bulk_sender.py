"""Bulk requests that are too large to be executed in time become smaller, and grow again."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from elasticsearch import ConnectionTimeout, Elasticsearch

from monitoring.elastic.bulk import BulkSender, action

DOCUMENTS = [action("create", "logs", str(number)) + b'\n{"text":"%b"}' % (b"x" * 100) for number in range(64)]


class Slow:
    """A server that answers requests of at most `actions` actions, and leaves others without an answer."""

    def __init__(self) -> None:
        self.actions = 1_000
        self.executed: list[int] = []
        self.ended = Event()
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kinds = [next(iter(json.loads(line))) for line in body.splitlines() if b'"_index"' in line]
                if len(kinds) > slow.actions:
                    slow.ended.wait(60)
                    return
                slow.executed.append(len(kinds))
                answer = json.dumps({"items": [{kind: {"status": 200}} for kind in kinds]}).encode()
                self.send_response(200)
                for name, value in (("content-type", "application/json"), ("x-elastic-product", "Elasticsearch")):
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.ended.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def client(slow: Slow) -> Iterator[Elasticsearch]:
    url = f"http://127.0.0.1:{slow.server.server_port}"
    with Elasticsearch(url, request_timeout=1.0, max_retries=0) as made:
        yield made


def attempts(sender: BulkSender) -> int:
    """Send all documents as often as it takes: how often it failed."""
    for failed in range(20):
        try:
            assert [one.status for one in sender.send(DOCUMENTS)] == [200] * len(DOCUMENTS)
            return failed
        except ConnectionTimeout:
            continue
    raise AssertionError("it never comes through")


def test_requests_become_small_enough_and_grow_again(slow: Slow, client: Elasticsearch) -> None:
    sender = BulkSender(client, 1_000_000)
    assert attempts(sender) == 0
    assert slow.executed == [64]
    slow.actions = 9
    assert 3 <= attempts(sender) <= 12
    slow.actions = 1_000
    slow.executed.clear()
    assert attempts(sender) == attempts(sender) == 0
    assert slow.executed[-1] == 64


def test_deletions_are_sent_in_the_same_way(slow: Slow, client: Elasticsearch) -> None:
    sender = BulkSender(client, 1_000_000)
    assert sender.delete([("logs", str(number)) for number in range(10)]) == [True] * 10
    assert slow.executed == [10]
