"""Live streams from a real broker over real HTTP: kills, restarts, retention, slow clients, and their end."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events.topics import MEASUREMENTS, MODEL_EVENTS, RESULTS
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end, topic_name
from tests.support.deployment import Deployment
from tests.support.durability import needs_durable_nodes
from tests.support.live import Event, EventReader
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until


class Browser(threading.Thread):
    """Reads a stream as an `EventSource` does: over one connection, and again with its last id whenever that ends.

    It takes turns between the gateways.
    """

    def __init__(self, ports: list[int], path: str, last_id: str = "") -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._ports = ports
        self._path = path
        self._last_id = last_id

    def run(self) -> None:
        while not self.stopping.is_set():
            port = self._ports[self.connections % len(self._ports)]
            self.connections += 1
            try:
                self._read(port)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    def _read(self, port: int) -> None:
        reader = EventReader()
        reader.last_id = self._last_id
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        try:
            connection.request("GET", self._path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                assert response.status == 503, response.read()
                return
            while not self.stopping.is_set() and (piece := response.read1(65_536)):
                for event in reader.feed(piece):
                    self._last_id = event.id
                    if event.name:
                        self.events.append(event)
        finally:
            connection.close()

    @property
    def ids(self) -> list[str]:
        """The request ids of all results."""
        return [event.data["request_id"] for event in self.events if event.name == "result"]


@pytest.fixture
def browsers() -> Iterator[list[Browser]]:
    found: list[Browser] = []
    yield found
    for one in found:
        one.stopping.set()


def open_browser(browsers: list[Browser], ports: list[int], path: str, last_id: str = "") -> Browser:
    browser = Browser(ports, path, last_id)
    browsers.append(browser)
    browser.start()
    return browser


def watched(gateway: Supervised, streams: int) -> None:
    until(lambda: gateway.metric("inflight_gateway_streams") == streams, 60, f"{streams} streams are open")


def result(number: int, model: str = "diamonds", size: int = 0) -> bytes:
    content = {
        "type": "prediction.completed.v1",
        "request_id": f"n{number}",
        "model": model,
        "model_version": "v1",
        "prediction": {"price": number, "more": "x" * size},
        "requested_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:00Z",
    }
    return json.dumps(content).encode()


def publish(settings: Settings, topic: str, values: list[bytes], **options: Any) -> None:
    producer = Producer(producer_options(settings) | {"linger.ms": 5})
    for number, value in enumerate(values):
        producer.produce(topic_name(settings, topic), value, str(number), **options)
        producer.poll(0)
    assert producer.flush(120) == 0


@needs_durable_nodes
def test_no_hole_and_no_duplicate_whatever_is_killed(
    deployment: Deployment, settings: Settings, broker: Any, browsers: list[Browser]
) -> None:
    """Two gateways killed -9 in turn, and the broker restarted, under load: each result comes once, in order."""
    ports = [free_port(), free_port()]
    gateways = [deployment.gateway(port) for port in ports]
    deployment.worker()
    deployment.serving(1)
    until(lambda: all(one.serves() for one in gateways), 120, "the gateways are ready")
    browser = open_browser(browsers, ports, "/v1/streams/results?model=diamonds")
    until(lambda: any(one.metric("inflight_gateway_streams") for one in gateways), 60, "the stream is open")
    load = deployment.load(100_000, rate=100)

    def go_on() -> None:
        count = len(browser.ids)
        until(lambda: len(browser.ids) > count + 100, 120, "events come")

    go_on()
    for turn in range(4):
        deployment.kill(gateways[turn % 2])
        go_on()
    broker.restart(hard=True)
    go_on()
    load.stop()
    load.join(120)
    deployment.settles()
    wanted = [
        (record.partition(), json.loads(record.value())["request_id"]) for record in read_to_end(settings, RESULTS)
    ]
    until(lambda: len(browser.ids) >= len(wanted), 120, "all events have come")
    assert sorted(browser.ids) == sorted(name for _, name in wanted)
    # Where a result comes first: a worker may publish one again after a restart of the broker.
    position = {name: -number for number, name in enumerate(reversed(browser.ids), 1)}
    for partition in {one for one, _ in wanted}:
        order = [position[name] for name in dict.fromkeys(name for one, name in wanted if one == partition)]
        assert order == sorted(order), f"partition {partition}"
    assert all(event.name == "result" for event in browser.events), "no gap"
    assert browser.connections > 2
    figures(results=len(wanted), connections=browser.connections)


def test_measurements_and_events(deployment: Deployment, settings: Settings, browsers: list[Browser]) -> None:
    """All three streams over one connection; those of another model are left out."""
    port = free_port()
    gateway = deployment.gateway(port)
    until(gateway.serves, 120, "the gateway is ready")
    browser = open_browser(browsers, [port], "/v1/streams/all?model=diamonds")
    watched(gateway, 1)
    promoted = b'{"type":"model.promoted.v1","model":"%s","model_version":"v2",\n"promoted_at":"2026-01-01T00:00:00Z"}'
    publish(settings, MODEL_EVENTS, [promoted % b"titanic", promoted % b"diamonds"])
    publish(settings, MEASUREMENTS, [b'{"type":"drift.measured.v1","model":"diamonds","rows":500}', b"no json"])
    publish(settings, RESULTS, [result(1), result(2, "titanic")])
    until(lambda: len(browser.events) == 3, 60, "the events have come")
    assert {event.name for event in browser.events} == {"result", "measurement", "model_event"}
    assert {event.data["model"] for event in browser.events} == {"diamonds"}


def test_what_retention_has_deleted(deployment: Deployment, settings: Settings, browsers: list[Browser]) -> None:
    port = free_port()
    gateway = deployment.gateway(port)
    until(gateway.serves, 120, "the gateway is ready")
    publish(settings, RESULTS, [result(number) for number in range(50)], partition=0)
    admin = AdminClient(client_options(settings))
    topic = topic_name(settings, RESULTS)
    for future in admin.delete_records([TopicPartition(topic, 0, 40)]).values():
        future.result(60)
    browser = open_browser(browsers, [port], "/v1/streams/results", "r0:15")
    until(lambda: len(browser.events) == 11, 60, "the gap and what is left have come")
    gap, *events = browser.events
    assert (gap.name, gap.data) == ("gap", {"reason": "retention", "offsets": 25})
    assert [event.data["request_id"] for event in events] == [f"n{number}" for number in range(40, 50)]


def test_a_slow_client_gets_a_gap_and_costs_no_memory(deployment: Deployment, settings: Settings) -> None:
    """It reads nothing while 60 MB pass by; another client gets all of it."""
    port = free_port()
    gateway = deployment.gateway(port, gateway_stream_backlog=200)
    until(gateway.serves, 120, "the gateway is ready")
    slow = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    slow.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    slow.request("GET", "/v1/streams/results")
    response = slow.getresponse()
    watched(gateway, 1)
    before = gateway.rss()
    total = 30_000
    publish(settings, RESULTS, [result(number, size=2_000) for number in range(total)], partition=0)
    until(lambda: gateway.metric("inflight_gateway_streams") == 1, 60, "it is still open")
    reader, numbers, missing = EventReader(), [], 0
    while not numbers or numbers[-1] < total - 1:
        for event in reader.feed(response.read1(65_536)):
            if event.name == "gap":
                assert event.data["reason"] == "overflow"
                missing += event.data["offsets"]
            elif event.name:
                numbers.append(int(event.data["request_id"][1:]))
    slow.close()
    assert missing > 0
    assert len(numbers) + missing == total, "what does not come is counted"
    assert numbers == sorted(set(numbers))
    grown = gateway.rss() - before
    assert grown < 100 * 1024 * 1024
    assert gateway.metric("inflight_gateway_stream_overflows") >= 1
    figures(events=len(numbers), missing=missing, megabytes=grown // 2**20)


def test_the_end_with_open_streams(deployment: Deployment, settings: Settings, browsers: list[Browser]) -> None:
    """SIGTERM: streams end at once, and one whose client takes nothing does not hold the gateway up for long."""
    ports = [free_port(), free_port()]
    gateways = [deployment.gateway(port) for port in ports]
    until(lambda: all(one.serves() for one in gateways), 120, "the gateways are ready")
    browser = open_browser(browsers, ports, "/v1/streams/all")
    stuck = socket.create_connection(("127.0.0.1", ports[0]), timeout=60)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    stuck.sendall(b"GET /v1/streams/all HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    watched(gateways[0], 2)
    publish(settings, RESULTS, [result(number, size=2_000) for number in range(10_000)], partition=0)
    until(lambda: len(browser.ids) == 10_000, 120, "the events have come")
    seconds = deployment.stop(gateways[0])
    stuck.close()
    assert seconds < 13, "10 s, and what the machine takes"
    watched(gateways[1], 1)
    publish(settings, RESULTS, [result(10_000)], partition=0)
    until(lambda: len(browser.ids) == 10_001, 60, "it goes on at the other gateway")
    assert browser.ids[-1] == "n10000"
    figures(seconds=round(seconds, 1))
