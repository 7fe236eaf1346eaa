"""A broker that listens, and tells its clients to connect, at an IPv6 address only."""

import socket
from pathlib import Path

import pytest

from inflight.settings import Settings
from inflight.stack import kafka
from inflight.stack.kafka import KafkaNode
from inflight.stack.maven import missing_tools
from inflight.stack.status import read_status
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import create_topics, read_to_end
from producers.replay import replay
from tests.support.programs.streaming import count_of, running, until


class IPv6Node(KafkaNode):
    @property
    def bootstrap_servers(self) -> str:
        return f"[::1]:{self.port}"


@pytest.mark.skipif(bool(missing_tools()), reason="no real broker without Java and Maven")
def test_requests_are_answered_by_a_broker_at_an_ipv6_address(
    tmp_path: Path, stack_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clients of the worker, of the producers and of the commands."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")
    properties = kafka.SERVER_PROPERTIES.replace("PLAINTEXT://127.0.0.1:{port}", "PLAINTEXT://[::1]:{port}")
    monkeypatch.setattr(kafka, "SERVER_PROPERTIES", properties)
    node = IPv6Node(stack_home / "ipv6")
    node.start()
    try:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path,
            kafka_bootstrap_servers=node.bootstrap_servers,
            worker_metrics_port=0,
        )
        create_topics(settings)
        assert replay(settings, [{"n": number} for number in range(20)], model="doubling").accepted == 20
        with running("streaming_worker", settings, metrics_host="::1") as program:
            until(lambda: count_of(settings) == 20, 300, "all are answered")
            until(lambda: program.completed() == 20, 60, "its metrics are served at an IPv6 address, too")
            assert program.terminate() == 0
        assert len(list(read_to_end(settings, RESULTS))) == len(list(read_to_end(settings, REQUESTS))) == 20
        assert read_status(settings)["broker"]["reachable"]
    finally:
        node.stop()
