"""What runs and what it contains, asked of the nodes themselves."""

from typing import Any

from inflight.settings import Settings
from inflight.stack import probes
from inflight.stack.stack import Endpoints, StackState
from machine_learning_engineering.events.topics import TOPICS
from machine_learning_engineering.kafka.client import end_offsets, topic_name
from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import connect


def with_endpoints(settings: Settings, endpoints: Endpoints) -> Settings:
    """The same settings, pointed at these nodes, without any secret: nodes of the stack ask for none."""
    without: dict[str, Any] = {"elasticsearch_api_key": None, "kafka_options": {}}
    return settings.model_copy(update=endpoints._asdict() | without)


def read_status(settings: Settings) -> dict[str, Any]:
    """Nodes, whether they respond, records of each topic, and documents of each index.

    Asks the stack that `up` started if any part of it runs, otherwise the nodes in the settings. Figures of an
    unreachable node are None.
    """
    state = StackState.load(settings.home)
    if state is not None and any(node.is_alive() for node in state.nodes):
        settings = with_endpoints(settings, state.endpoints)
    broker, url = settings.kafka_bootstrap_servers, settings.elasticsearch_url
    broker_reachable, search_reachable = broker_responds(settings), elasticsearch_responds(settings)
    return {
        "kind": state.kind if state else None,
        "nodes": [
            {
                "name": node.name,
                "pid": node.process_id.pid,
                "alive": node.is_alive(),
                "endpoints": node.endpoints,
                "log": node.log,
            }
            for node in (state.nodes if state else ())
        ],
        "broker": {"bootstrap_servers": broker, "reachable": broker_reachable},
        "elasticsearch": {"url": redact_url(url), "reachable": search_reachable},
        "topics": _topics(settings) if broker_reachable else None,
        "indices": _indices(settings) if search_reachable else None,
    }


def broker_responds(settings: Settings) -> bool:
    """Whether the broker of the settings responds, asked with their security options."""
    return probes.broker_responds(settings.kafka_bootstrap_servers, settings.kafka_options)


def elasticsearch_responds(settings: Settings) -> bool:
    """Whether Elasticsearch of the settings responds, asked with their API key and certificates."""
    return probes.elasticsearch_responds(
        settings.elasticsearch_url, settings.elasticsearch_api_key, settings.elasticsearch_ca_certs
    )


def _topics(settings: Settings) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for topic in TOPICS:
        offsets = end_offsets(settings, topic.name, timeout=5.0)
        counts[topic_name(settings, topic.name)] = (
            sum(high - low for low, high in offsets.values()) if offsets else None
        )
    return counts


def _indices(settings: Settings) -> dict[str, int]:
    with connect(settings, timeout=5.0) as client:
        rows: Any = client.cat.indices(format="json", h=["index", "docs.count"]).body
    return {row["index"]: int(row["docs.count"] or 0) for row in sorted(rows, key=lambda row: row["index"])}
