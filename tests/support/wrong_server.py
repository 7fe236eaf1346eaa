"""A server in place of Elasticsearch that answers wrongly, request by request."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any] | None
"""Status and body of a wrong answer; None to answer as Elasticsearch would."""


class WrongServer(ThreadingHTTPServer):
    """Knows `create` and `_mget`; `fault(attempt, ids, bytes)` spoils a bulk request, `item` a document."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents: dict[str, Any] = {}
        self.attempts: list[list[str]] = []
        self.fault: Callable[[int, list[str], int], Answer] = lambda _attempt, _ids, _size: None
        self.item: Callable[[int, str], dict[str, Any] | None] = lambda _attempt, _id: None
        self.lock = threading.Lock()

    def bulk(self, body: bytes) -> tuple[int, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        pairs = [(action["create"]["_id"], document) for action, document in zip(lines[::2], lines[1::2], strict=True)]
        with self.lock:
            attempt = len(self.attempts)
            self.attempts.append([identity for identity, _ in pairs])
            wrong = self.fault(attempt, self.attempts[-1], len(body))
            if wrong is not None:
                return wrong
            items = []
            for identity, document in pairs:
                item = self.item(attempt, identity)
                if item is None:
                    item = {"status": 409 if identity in self.documents else 201}
                    self.documents.setdefault(identity, document)
                items.append({"create": item})
            return 200, {"items": items}


class _Handler(BaseHTTPRequestHandler):
    server: WrongServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/_bulk"):
            status, answer = self.server.bulk(body)
        else:
            found = [(doc["_id"], self.server.documents.get(doc["_id"])) for doc in json.loads(body)["docs"]]
            status, answer = (
                200,
                {"docs": [{"_id": key, "found": doc is not None, "_source": doc} for key, doc in found]},
            )
        if status == 0:
            self.close_connection = True
            return
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("x-elastic-product", "Elasticsearch")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: Any) -> None:
        """Quiet."""
