"""Addresses of brokers as librdkafka reads them, IPv6 among them, in every client and probe."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from inflight.adapters import promotions
from inflight.settings import Settings
from inflight.stack import probes
from inflight.stack.process import is_listening
from machine_learning_engineering.kafka import promotions as kernel_promotions
from machine_learning_engineering.kafka.client import (
    client_options,
    consumer_options,
    producer_options,
    unpolled_consumer,
)
from machine_learning_engineering.settings import http_url
from monitoring.top.sources import endpoints
from producers.client import producer_options as kafka_python_options


class Listener:
    """Accepts connections on the IPv6 loopback address and answers nothing; `called` is set at the first one."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.port = self._socket.getsockname()[1]
        self.address = f"[::1]:{self.port}"
        self.called = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                self.called.set()
                connection.close()
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    try:
        found = Listener()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    yield found
    found.close()


def _listed(client: Any) -> None:
    with pytest.raises(KafkaException):
        client.list_topics(timeout=2)


CLIENTS: dict[str, Callable[[Settings], None]] = {
    "admin": lambda settings: _listed(AdminClient(client_options(settings))),
    "consumer": lambda settings: _listed(Consumer(consumer_options(settings, "g"))),
    "consumer of offsets": lambda settings: _listed(unpolled_consumer(settings, "g")),
    "producer": lambda settings: _listed(Producer(producer_options(settings))),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_connects_to_an_ipv6_address(listener: Listener, name: str) -> None:
    """The listener is no broker, but it was called."""
    CLIENTS[name](Settings(_env_file=None, kafka_bootstrap_servers=listener.address))  # type: ignore[call-arg]
    assert listener.called.wait(10)


def test_every_probe_connects_to_an_ipv6_address(listener: Listener) -> None:
    """Status, doctor and promotions ask so whether anything listens."""
    assert is_listening(listener.port, "::1")
    assert probes.anything_listens(f"127.0.0.1:1,{listener.address}")
    assert not probes.broker_responds(listener.address)
    assert not probes.elasticsearch_responds(f"http://{listener.address}")


def test_producers_have_the_addresses_as_they_are(listener: Listener) -> None:
    """kafka-python reads brackets and protocols itself."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers=f"{listener.address},SSL://b:2")  # type: ignore[call-arg]
    assert kafka_python_options(settings)["bootstrap_servers"] == [listener.address, "SSL://b:2"]


@pytest.mark.parametrize("form", ["[::1]:{}", "PLAINTEXT://[::1]:{}", "127.0.0.1:1,[::1]:{}"])
def test_a_promotion_is_announced_wherever_a_broker_listens(
    listener: Listener, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is one reader of addresses; a second one took such for no broker."""
    announced: list[str] = []
    monkeypatch.setattr(kernel_promotions, "announce_promotion", lambda *given, **_: announced.append(given[2]))
    servers = form.format(listener.port)
    settings = Settings(_env_file=None, kafka_bootstrap_servers=servers)  # type: ignore[call-arg]
    promotions.announce_champion(settings, "line", "v1", reason="", previous=None)
    assert announced == ["v1"], capsys.readouterr().err


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")])
def test_urls_of_metrics_have_brackets_where_they_need_them(host: str, url: str) -> None:
    """Printed at the start, and asked by `top`."""
    assert http_url(host, 1) == url
    ports = dict.fromkeys(("worker", "exporter", "indexer", "drift-monitor", "label-joiner"), 1)
    assert endpoints(host, ports, {})["worker"] == [f"{url}/metrics"]
