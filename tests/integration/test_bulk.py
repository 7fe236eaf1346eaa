"""Bulk uploads to a real broker and worker: many lines in bounded memory, kills, and clients that go."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import read_to_end
from monitoring.audit.readers import run_audit
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.durability import needs_durable_nodes
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

LINES = 100_000 if FULL else 10_000
PATH = "/v1/models/diamonds/predictions"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def gateway(deployment: Deployment, port: int) -> Supervised:
    deployment.worker()
    found = deployment.gateway(port)
    deployment.serving(1)
    until(found.serves, 120, "the gateway is ready")
    return found


def curl(port: int, *more: str) -> Any:
    command = ["curl", "-sN", f"http://127.0.0.1:{port}{PATH}", "-H", "Content-Type: application/x-ndjson"]
    return subprocess.Popen([*command, "-H", "Expect:", *more], stdout=subprocess.PIPE, text=True)


def outcomes(process: Any) -> Iterator[dict[str, Any]]:
    with process:
        for line in process.stdout:
            yield json.loads(line)
    assert process.returncode == 0


def sent(settings: Settings) -> list[str]:
    """The ids of all requests on their topic."""
    return sorted(json.loads(record.value())["request_id"] for record in read_to_end(settings, REQUESTS))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
def test_many_lines_in_bounded_memory(
    deployment: Deployment, settings: Settings, gateway: Supervised, port: int, tmp_path: Path
) -> None:
    """A file whose every 1,000th line is bad; the same file again is answered without a request more."""
    file = tmp_path / "rows.ndjson"
    with file.open("w") as lines:
        for number, row in enumerate(deployment.diamonds(LINES), 1):
            lines.write(json.dumps(row) if number % 1_000 else "{")
            lines.write("\n")
    arguments = ["-T", str(file), "-X", "POST", "-H", "Idempotency-Key: file-1"]
    before, most = gateway.rss(), 0
    requests: list[list[str]] = []
    wanted = {"lines": LINES, "predicted": LINES - LINES // 1_000, "running": 0, "failed": LINES // 1_000}
    for _ in range(2):
        number = 0
        for number, outcome in enumerate(outcomes(curl(port, *arguments)), 1):
            if number <= LINES:
                assert outcome["line"] == number
                assert ("problem" in outcome) == (number % 1_000 == 0), outcome
            else:
                assert outcome == wanted
            if number % 1_000 == 0:
                most = max(most, gateway.rss())
        assert number == LINES + 1
        requests.append(sent(settings))
    # A line whose acknowledgement is late, on a slow machine, is sent again with its id.
    assert len(set(requests[0])) == LINES - LINES // 1_000
    assert requests[1] == requests[0]
    found = run_audit(settings, index=False)
    assert found.passed, found
    assert found.conflicts == 0
    grown = (most - before) // 2**20
    # What is known of each request, some 500 bytes, and what is in progress.
    assert grown < 40 + LINES * 1_000 // 2**20
    figures(lines=LINES, megabytes=grown)


@needs_durable_nodes
def test_kills_in_the_middle(deployment: Deployment, settings: Settings, broker: Any, port: int) -> None:
    """The worker is killed -9 and the broker restarted: no line fails, and each has one outcome."""
    worker = deployment.worker()
    gateway = deployment.gateway(port)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway is ready")
    count, found = 3_000, []
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in deployment.diamonds(count))
    connection, sending = upload(port, lines)
    with connection.makefile("rb") as answer:
        assert b" 200 " in answer.readline()
        for line in answer:
            if line.startswith(b"{"):
                found.append(json.loads(line))
                if len(found) == 500:
                    deployment.kill(worker)
                elif len(found) == 1_500:
                    broker.restart(hard=True)
                if "lines" in found[-1]:
                    break
    sending.join(60)
    connection.close()
    end = found.pop()
    assert (end["lines"], end["failed"], end["predicted"] + end["running"]) == (count, 0, count), end
    # Where the broker was away for longer than a line waits, the outcome of the line says where its result will be.
    late = [one["location"] for one in found if one.get("status") == "running"]
    assert len(late) == end["running"]
    deployment.settles()
    for location in late:
        until(partial(is_predicted, port, location), 60, f"{location} has its result")
    audit = run_audit(settings, index=False)
    assert audit.passed, audit
    assert audit.conflicts == 0
    assert len(set(sent(settings))) == count


def is_predicted(port: int, location: str) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{location}", timeout=30) as answer:
        return answer.status == 200 and "prediction" in json.load(answer)


def upload(port: int, lines: bytes) -> tuple[socket.socket, threading.Thread]:
    """Send lines from a thread, so that somebody reads meanwhile."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=300)
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
    head += f"Content-Length: {len(lines)}\r\nIdempotency-Key: u\r\n\r\n"
    connection.sendall(head.encode())

    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(lines)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    return connection, sending


def test_a_client_that_goes(deployment: Deployment, settings: Settings, gateway: Supervised, port: int) -> None:
    """What it has sent is predicted and can be read; the gateway holds nothing of it."""
    connection, sending = upload(port, b"".join(json.dumps(row).encode() + b"\n" for row in deployment.diamonds(5_000)))
    with connection.makefile("rb") as answer:
        while not answer.readline().startswith(b"{"):
            pass
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    sending.join(60)
    until(lambda: gateway.metric("inflight_gateway_in_flight_rows") == 0, 120, "nothing is held")
    deployment.settles()
    requests = sent(settings)
    assert 0 < len(requests) < 5_000
    audit = run_audit(settings, index=False)
    assert audit.passed, audit
    assert audit.completed == len(requests)
