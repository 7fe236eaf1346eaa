"""What `inflight doctor` finds, and how `inflight status` asks."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from inflight.settings import Settings
from inflight.stack.doctor import Check, _registry, examine
from inflight.stack.probes import addresses
from inflight.stack.status import broker_responds, elasticsearch_responds
from tests.support.object_store import S3Server

PLAINTEXT_REQUEST, TLS_HANDSHAKE = 0x00, 0x16


@pytest.mark.parametrize(("no_cython", "status"), [(None, "ok"), ("1", "fail")])
def test_a_faust_without_its_compiled_iterator_is_a_failure(
    no_cython: str | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pure Python, Faust counts the messages of an old assignment as processed."""
    if no_cython is not None:
        monkeypatch.setenv("NO_CYTHON", no_cython)

    found = {check.name: check for check in examine(Settings(_env_file=None))}

    assert found["faust's iterator"].status == status
    assert ("NO_CYTHON" in found["faust's iterator"].fix) == (status == "fail")


class Listener:
    """Takes connections and answers nothing; keeps the first byte of each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.first_bytes: list[int] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.first_bytes += connection.recv(1)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


@pytest.mark.parametrize(("protocol", "byte"), [("PLAINTEXT", PLAINTEXT_REQUEST), ("SSL", TLS_HANDSHAKE)])
def test_a_broker_is_asked_with_the_security_of_the_settings(listener: Listener, protocol: str, byte: int) -> None:
    """In plain text, a healthy one with TLS would look dead; and the finding tells nobody to stop it."""
    options = {"security.protocol": protocol}
    settings = Settings(kafka_bootstrap_servers=listener.address, kafka_options=options, _env_file=None)  # type: ignore[call-arg]
    assert not broker_responds(settings)
    assert byte in listener.first_bytes
    (found,) = (check for check in examine(settings) if check.name == "broker")
    assert found.status == "fail"
    assert protocol in found.found
    assert "INFLIGHT_KAFKA_OPTIONS" in found.fix


def test_a_search_node_is_asked_with_the_key_of_the_settings() -> None:
    """Without it, it would refuse, and look dead."""
    keys = []

    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers["Authorization"])
            self.send_response(200 if keys[-1] == "ApiKey secret" else 401)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"status":"green"}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Node) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answers = [
            elasticsearch_responds(Settings(elasticsearch_url=url, elasticsearch_api_key=key, _env_file=None))  # type: ignore[call-arg]
            for key in ("secret", None)
        ]
        server.shutdown()
    assert (answers, keys) == ([True, False], ["ApiKey secret", None])


def test_addresses_are_read_as_librdkafka_does() -> None:
    """A port that is left out is 9092, and one of several servers may be away."""
    servers = "kafka, 10.0.0.1:19092,[::1]:9093,SASL_SSL://broker:9094,no:port,"
    assert list(addresses(servers)) == [
        ("kafka", 9092),
        ("10.0.0.1", 19092),
        ("::1", 9093),
        ("broker", 9094),
    ]


def found_registry(settings: Settings) -> Check:
    [found] = _registry(settings)
    return found


def test_a_registry_behind_a_url_is_looked_at(s3: S3Server, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, registry=s3.new_bucket() + "/registry")
    assert found_registry(settings).status == "warn"
    assert "not signed" in found_registry(settings).found
    assert "inflight models sign" in found_registry(settings).fix
    signed = Settings(_env_file=None, home=tmp_path, registry=str(settings.registry), registry_signing_key="k" * 32)
    assert found_registry(signed).status == "ok"
    assert found_registry(signed).found == f"{settings.registry}: 0 champions, signed"
    with s3.fault(status=403):
        assert found_registry(signed).status == "warn"
        assert "its cache is used" in found_registry(signed).found
        cold = settings.model_copy(update={"home": tmp_path / "cold"})
        assert found_registry(cold).status == "fail"
        assert "denies access" in found_registry(cold).found
    assert list(_registry(Settings(_env_file=None, home=tmp_path))) == []
