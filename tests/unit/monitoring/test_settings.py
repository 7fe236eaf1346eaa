"""Keys and data of Elasticsearch and Kibana: encrypted in production, never printed, with a private authority."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from elasticsearch import ConnectionError as NoConnection
from pydantic import ValidationError

from inflight.settings import Settings
from inflight.stack.status import elasticsearch_responds
from monitoring.dashboards.kibana import Kibana, KibanaError
from monitoring.elastic.client import connect, request

SECURE_KAFKA = {"security.protocol": "SSL"}


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"elasticsearch_url": "http://search:9200"}, "INFLIGHT_ELASTICSEARCH_URL would send data"),
        ({"elasticsearch_api_key": "k"}, "INFLIGHT_ELASTICSEARCH_URL would send a secret"),
        ({"elasticsearch_url": "http://u:p@127.0.0.1:9200"}, "INFLIGHT_ELASTICSEARCH_URL would send a secret"),
        ({"elasticsearch_url": "HTTP://search:9200"}, "INFLIGHT_ELASTICSEARCH_URL"),
        ({"elasticsearch_url": "search:9200"}, "INFLIGHT_ELASTICSEARCH_URL"),
        ({"kibana_url": "http://kibana:5601"}, "INFLIGHT_KIBANA_URL would send data"),
        ({"kibana_api_key": "k"}, "INFLIGHT_KIBANA_URL would send a secret"),
        ({"kibana_url": "http://u:p@localhost:5601"}, "INFLIGHT_KIBANA_URL would send a secret"),
    ],
)
def test_production_requires_encryption(given: dict[str, str], name: str) -> None:
    """As it does of Kafka. Elsewhere a laptop may do without."""
    settings(**given)
    with pytest.raises(ValidationError, match=name) as error:
        settings(production=True, kafka_options=SECURE_KAFKA, **given)
    assert "u:p" not in str(error.value)


def test_production_accepts_what_is_encrypted_or_stays_on_the_machine() -> None:
    settings(production=True, kafka_options=SECURE_KAFKA)
    urls = {"elasticsearch_url": "https://u:p@search:9200", "kibana_url": "https://kibana:5601"}
    settings(production=True, kafka_options=SECURE_KAFKA, kibana_api_key="k", elasticsearch_api_key="k", **urls)


def test_keys_are_in_no_representation() -> None:
    urls = {"elasticsearch_url": "https://u:hunter2@search", "kibana_url": "https://u:hunter2@kibana"}
    found = settings(elasticsearch_api_key="hunter2", kibana_api_key="hunter2", **urls)
    assert "hunter2" not in repr(found) + str(found)
    assert "https://search" in repr(found)


class Secured(NamedTuple):
    url: str
    ca: Path
    headers: list[str | None]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of a server that signs for itself."""
    folder = tmp_path_factory.mktemp("authority")
    certificate, key = folder / "ca.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    return certificate, key


@pytest.fixture
def secured(authority: tuple[Path, Path]) -> Iterator[Secured]:
    """A server with a certificate of a private authority, which answers as Elasticsearch and as Kibana."""
    headers: list[str | None] = []

    class Node(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(
                b'{"status": {"overall": {"level": "available"}}}' if "api" in self.path else b'{"status": "green"}'
            )

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    with HTTPServer(("127.0.0.1", 0), Node) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Secured(f"https://127.0.0.1:{server.server_port}", authority[0], headers)
        server.shutdown()


def test_elasticsearch_is_verified_by_a_private_authority(secured: Secured) -> None:
    """By every client: that of the processes, and the probe of `status` and `doctor`."""
    with_ca = settings(elasticsearch_url=secured.url, elasticsearch_ca_certs=secured.ca, elasticsearch_api_key="k")
    with connect(with_ca) as client:
        assert request(client, "GET", "/_cluster/health") == {"status": "green"}
    assert elasticsearch_responds(with_ca)
    assert secured.headers == ["ApiKey k", "ApiKey k"]

    without = settings(elasticsearch_url=secured.url, elasticsearch_api_key="k")
    with connect(without) as client, pytest.raises(NoConnection, match="TLS error"):
        request(client, "GET", "/_cluster/health")
    assert not elasticsearch_responds(without)
    assert len(secured.headers) == 2


def test_kibana_is_verified_by_a_private_authority(secured: Secured) -> None:
    Kibana(secured.url, ca_certs=secured.ca).wait(0)
    with pytest.raises(KibanaError, match="certificate verify failed"):
        Kibana(secured.url).wait(0)


def test_a_user_in_the_address_of_kibana_is_sent_and_not_told(secured: Secured) -> None:
    """An API key goes before it."""
    named = secured.url.replace("https://", "https://me:p%40ss@")
    Kibana(named, ca_certs=secured.ca).wait(0)
    Kibana(named, settings(kibana_api_key="k").kibana_api_key, secured.ca).wait(0)
    assert secured.headers == ["Basic bWU6cEBzcw==", "ApiKey k"]
    for url in (named, "https://me:hunter2@127.0.0.1:1", "https://me:hunter2@127.0.0.1:no"):
        with pytest.raises(KibanaError) as error:
            Kibana(url).wait(0)
        assert "hunter2" not in str(error.value)
        assert "p%40ss" not in str(error.value)


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path) -> None:
    """A missing one when settings are read, a wrong one when it is used."""
    with pytest.raises(ValidationError):
        settings(elasticsearch_ca_certs=tmp_path / "missing.pem")
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ValueError, match=r"wrong\.pem has no certificates"):
        connect(settings(elasticsearch_url="https://search", elasticsearch_ca_certs=wrong))
    with pytest.raises(KibanaError, match=r"wrong\.pem has no certificates"):
        Kibana("https://kibana", ca_certs=wrong)
