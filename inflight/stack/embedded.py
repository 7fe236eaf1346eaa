"""The embedded node: noida-db, one small binary from PyPI that speaks the Kafka and Elasticsearch protocols."""

import importlib.util
from collections.abc import Collection
from pathlib import Path

from inflight.stack import probes
from inflight.stack.process import Launch, Node, StackError, foreign_environment, free_port
from machine_learning_engineering.core.extras import install_command

SERVICES = ("kafka", "elasticsearch")
INSTALL = f"run `make setup`, or {install_command('embedded')}"


def binary() -> Path:
    """
    Raises:
        StackError: the package is not installed: it is the extra `embedded`.
    """
    # Found, not imported: the package is nothing but this file. Its console script would be a second process.
    spec = importlib.util.find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise StackError(f"the embedded node is not installed: {INSTALL}")
    return Path(spec.origin).parent / "noida-db"


class EmbeddedNode(Node):
    """Broker and Elasticsearch in one process on the loopback interface; by default on free ports, which it keeps.

    Args:
        services: one or both of `kafka` and `elasticsearch`.
    """

    name = "embedded"
    seconds_to_ready = 60.0

    def __init__(
        self,
        directory: Path,
        *,
        services: Collection[str] = SERVICES,
        kafka_port: int | None = None,
        elasticsearch_port: int | None = None,
        die_with_parent: bool = True,
    ) -> None:
        super().__init__(directory, die_with_parent=die_with_parent)
        self.services = tuple(services)
        self.kafka_port = kafka_port or free_port()
        self.elasticsearch_port = elasticsearch_port or free_port()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.kafka_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.elasticsearch_port}"

    @property
    def endpoints(self) -> dict[str, str]:
        addresses = {"kafka": self.bootstrap_servers, "elasticsearch": self.url}
        return {service: addresses[service] for service in self.services}

    def is_ready(self) -> bool:
        return ("kafka" not in self.services or probes.broker_responds(self.bootstrap_servers)) and (
            "elasticsearch" not in self.services or probes.elasticsearch_responds(self.url)
        )

    def prepare(self) -> Launch:
        ports = {"kafka": self.kafka_port, "elasticsearch": self.elasticsearch_port}
        argv = [str(binary()), "start", "--data-dir", str(self.directory / "data"), "--only", ",".join(self.services)]
        for service in self.services:
            argv += [f"--{service}-port", str(ports[service])]
        return Launch(argv, foreign_environment())
