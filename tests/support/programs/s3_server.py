"""moto's S3 server for tests: one request at a time, so that conditional writes are atomic as in S3, and with faults.

``s3_server.py PORT_FILE FAULT_FILE``: the port is written to the first file. The second one, if it exists, says what
happens to requests: ``{"status": 403}`` or ``{"delay": 30}``, optionally only where ``"path"`` is part of the path, and
``"after"`` instead of before the request was carried out.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def with_faults(app: Wsgi, file: Path) -> Wsgi:
    def faulty(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            fault = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):
            fault = {}
        if fault.get("method", environ["REQUEST_METHOD"]) != environ["REQUEST_METHOD"]:
            fault = {}
        if fault.get("path", "") not in environ["PATH_INFO"]:
            fault = {}
        if fault:
            file.with_suffix(".met").touch()
        if not fault.get("after"):
            time.sleep(fault.get("delay", 0))
        if (status := fault.get("status")) and not fault.get("after"):
            return _refuse(status, start_response)
        answer = app(environ, start_response if not fault.get("after") else lambda *_: None)
        if fault.get("after"):
            list(answer)
            time.sleep(fault.get("delay", 0))
            file.unlink()
            return _refuse(fault.get("status", 500), start_response)
        return answer

    return faulty


def _refuse(status: int, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response(f"{status} Fault", [("Content-Type", "application/xml")])
    return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>" if status == 403 else b""]


def main() -> None:
    port_file, fault_file = map(Path, sys.argv[1:])
    app = with_faults(DomainDispatcherApplication(create_backend_app), fault_file)
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=MotoRequestHandler)
    port_file.write_text(str(server.port))
    server.serve_forever()


if __name__ == "__main__":
    main()
