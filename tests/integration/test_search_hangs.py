"""Elasticsearch accepts requests and answers none: processes that wait for it can still be stopped."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from producers.labels import RequestLabel, publish_labels
from tests.support.deployment import Deployment
from tests.support.waiting import figures, until

pytestmark = pytest.mark.usefixtures("search")

GRACE_SECONDS = 40
"""What `docker-compose.yml` gives a container, which is then killed."""


class Hose:
    """A way to Elasticsearch that can be squeezed: connections stay, and nothing comes through."""

    def __init__(self, url: str) -> None:
        self._node = (urlsplit(url).hostname, urlsplit(url).port)
        self._squeezed = threading.Event()
        self.swallowed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def squeeze(self) -> None:
        self._squeezed.set()

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._node)  # type: ignore[arg-type]
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self._squeezed.is_set():
                    self.swallowed += 1
                else:
                    target.sendall(data)


@pytest.fixture
def hose(deployment: Deployment) -> Iterator[Hose]:
    found = Hose(deployment.settings.elasticsearch_url)
    yield found
    found.close()


def test_a_label_joiner_ends_in_time_while_elasticsearch_hangs(deployment: Deployment, hose: Hose) -> None:
    """SIGTERM in the middle of a request: it ends by itself, long before it would be killed, and loses no label."""
    joiner = deployment.label_joiner(elasticsearch_url=hose.url)
    until(joiner.serves, 300, "the joiner serves")
    until(lambda: "ready" in joiner.log_tail(), 300, "templates and topics are there")
    hose.squeeze()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    name = f"{deployment.settings.topic_prefix}-sold"
    assert publish_labels(deployment.settings, [RequestLabel(name, "diamonds", 5.0, at)]).accepted == 1
    until(lambda: hose.swallowed > 0, 300, "a request hangs")
    seconds = deployment.stop(joiner)
    figures(stopped=f"{seconds:.1f} s")
    assert seconds < GRACE_SECONDS / 2


@pytest.mark.parametrize("process", ["label_joiner", "indexer"])
def test_what_never_came_up_ends_in_time(deployment: Deployment, hose: Hose, process: str) -> None:
    """It still waits for its first answer."""
    hose.squeeze()
    started = getattr(deployment, process)(elasticsearch_url=hose.url)
    until(lambda: hose.swallowed > 0, 300, "its first request hangs")
    assert deployment.stop(started) < GRACE_SECONDS / 2
