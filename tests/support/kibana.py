"""A stand-in for Kibana's API over HTTP, as strict as the real one about what an import has to be.

Kibana itself can't run in these tests. What it does with a request is told here after its documentation: the header
`kbn-xsrf` is a must, the file is a part called `file` of a form, each line is a saved object. An object is refused
whose references are neither in the file nor there already, or whose type has a version that it does not know.
"""

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

KNOWN_VERSIONS = {"index-pattern": (8, 0), "search": (10, 5), "dashboard": (10, 3)}


class FakeKibana(ThreadingHTTPServer):
    """`objects` is what has been imported. It answers "not ready" to the first `starting` looks at its status."""

    daemon_threads = True

    def __init__(self, *, api_key: str | None = None, starting: int = 0, space: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api_key, self.starting, self.space = api_key, starting, space
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.imports = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.space}"

    def take(self, lines: bytes, *, overwrite: bool) -> dict[str, Any]:
        """Import; what the answer says."""
        self.imports += 1
        found = [json.loads(line) for line in lines.splitlines() if line.strip()]
        there = set(self.objects) | {(one["type"], one["id"]) for one in found}
        errors = []
        for one in found:
            key = (one["type"], one["id"])
            missing = [ref for ref in one["references"] if (ref["type"], ref["id"]) not in there]
            version = tuple(map(int, one["typeMigrationVersion"].split(".")[:2]))
            if one["type"] not in KNOWN_VERSIONS:
                error: dict[str, Any] | None = {"type": "unsupported_type"}
            elif version > KNOWN_VERSIONS[one["type"]]:
                error = {"type": "unknown", "message": "Document belongs to a more recent version of Kibana"}
            elif missing:
                error = {"type": "missing_references", "references": missing}
            elif key in self.objects and not overwrite:
                error = {"type": "conflict"}
            else:
                error = None
                self.objects[key] = one
            if error:
                errors.append({"type": one["type"], "id": one["id"], "error": error, "meta": {"title": ""}})
        answer: dict[str, Any] = {"success": not errors, "successCount": len(found) - len(errors)}
        return answer | ({"errors": errors} if errors else {})


class _Handler(BaseHTTPRequestHandler):
    server: FakeKibana
    protocol_version = "HTTP/1.1"
    _unavailable: ClassVar[dict[str, Any]] = {"status": {"overall": {"level": "unavailable"}}}

    def do_GET(self) -> None:
        if self.path != self.server.space + "/api/status":
            return self._answer(404, {"statusCode": 404})
        if self.server.starting > 0:
            self.server.starting -= 1
            if self.server.starting % 2:
                return self._answer(503, b"Kibana server is not ready yet")
            return self._answer(503, self._unavailable)
        return self._answer(200, {"status": {"overall": {"level": "available"}}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        path, _, query = self.path.partition("?")
        if self.server.api_key and self.headers["authorization"] != f"ApiKey {self.server.api_key}":
            return self._answer(401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"})
        if "kbn-xsrf" not in self.headers:
            return self._answer(400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."})
        if path != self.server.space + "/api/saved_objects/_import":
            return self._answer(404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"})
        kind = self.headers["content-type"]
        if not kind.startswith("multipart/form-data"):
            return self._answer(415, {"statusCode": 415, "message": "Unsupported Media Type"})
        form = email.message_from_bytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
        )
        (part,) = form.iter_parts()
        if part.get_param("name", header="content-disposition") != "file":
            return self._answer(400, {"statusCode": 400, "message": "[request body.file]: expected value"})
        if not str(part.get_filename()).endswith(".ndjson"):
            return self._answer(400, {"statusCode": 400, "message": "Invalid file extension"})
        lines = part.get_payload(decode=True)
        assert isinstance(lines, bytes)
        return self._answer(200, self.server.take(lines, overwrite="overwrite=true" in query))

    def _answer(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Not a word."""


@contextmanager
def running(**options: Any) -> Iterator[FakeKibana]:
    """A stand-in that answers while the block runs."""
    with FakeKibana(**options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
