"""The nodes behind a deployment: those of the settings, those that run already, or its own."""

import contextlib
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from inflight.settings import Settings
from inflight.stack.embedded import EmbeddedNode, binary
from inflight.stack.process import Node, usable_port
from inflight.stack.stack import Endpoints, StackState, start_stack
from inflight.stack.status import with_endpoints

# Nodes on this machine ask for no secret.
_NO_SECRETS = {"INFLIGHT_KAFKA_OPTIONS": "{}", "INFLIGHT_ELASTICSEARCH_API_KEY": ""}


class Backing(NamedTuple):
    """Where a deployment finds its nodes.

    Attributes:
        settings: pointed at them.
        environment: the same for the processes.
        nodes: those that were started for it, which need to be kept running.
        summary: a line for people.
    """

    settings: Settings
    environment: dict[str, str]
    nodes: tuple[Node, ...]
    summary: str


@contextlib.contextmanager
def backing(settings: Settings, stack: Literal["embedded", "real"] | None) -> Iterator[Backing]:
    """Find the nodes, or start what is missing; what was started ends with the block.

    A broker in the settings is used as it is; without an address of Elasticsearch, one small node is started beside it.
    Without a broker, it is the stack that `inflight up` started, or else one of its own.

    Args:
        stack: which one to start, whatever the settings say; None: the embedded one, if none is set or runs.

    Raises:
        StackError: a node does not start.
    """
    given = settings.model_fields_set
    running = StackState.load(settings.home)
    if stack is None and "kafka_bootstrap_servers" in given:
        if "elasticsearch_url" in given:
            yield Backing(settings, {}, (), f"broker {settings.kafka_bootstrap_servers}")
            return
        with _search_node(settings) as node:
            environment = {"INFLIGHT_ELASTICSEARCH_URL": node.url, "INFLIGHT_ELASTICSEARCH_API_KEY": ""}
            pointed = settings.model_copy(update={"elasticsearch_url": node.url, "elasticsearch_api_key": None})
            summary = f"broker {settings.kafka_bootstrap_servers}, an embedded search node at {node.url}"
            yield Backing(pointed, environment, (node,), summary)
        return
    if stack is None and running is not None and running.is_alive():
        summary = f"the {running.kind} stack that runs"
        yield _pointed(settings, running.endpoints, (), summary)
        return
    started = start_stack(
        stack or "embedded",
        settings.home.absolute(),
        # Where the commands in other terminals look for it, if nobody else is there.
        kafka_port=usable_port(_port(settings.kafka_bootstrap_servers)),
        elasticsearch_port=usable_port(_port(settings.elasticsearch_url)),
    )
    with started:
        yield _pointed(settings, started.endpoints, started.nodes, f"an own {started.kind} stack")


def _pointed(settings: Settings, endpoints: Endpoints, nodes: tuple[Node, ...], what: str) -> Backing:
    summary = f"{what}: broker {endpoints.kafka_bootstrap_servers}, Elasticsearch {endpoints.elasticsearch_url}"
    if endpoints[:2] != (settings.kafka_bootstrap_servers, settings.elasticsearch_url):
        summary += '; other terminals find them after: eval "$(inflight up)"'
    return Backing(with_endpoints(settings, endpoints), endpoints.environment | _NO_SECRETS, nodes, summary)


def _port(address: str) -> int:
    """The port of an address on this machine; 0 of any other."""
    found = re.fullmatch(r"(?:https?://)?(?:127\.0\.0\.1|localhost):(\d{1,5})/?", address)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def _search_node(settings: Settings) -> Iterator[EmbeddedNode]:
    binary()
    node = EmbeddedNode(settings.home.absolute() / "stack" / "search", services=("elasticsearch",))
    try:
        node.start()
        yield node
    finally:
        node.stop()
