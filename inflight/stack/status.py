"""What runs and what it holds, asked of the nodes themselves."""

from typing import Any

from inflight.stack import probes
from inflight.stack.stack import Endpoints, StackState
from machine_learning_engineering.settings import Settings, shown
from machine_learning_engineering.stream.kafka import end_offsets, topic_name
from machine_learning_engineering.stream.topics import TOPICS


def with_endpoints(settings: Settings, endpoints: Endpoints) -> Settings:
    """The same settings, pointed at these nodes."""
    return settings.model_copy(update=endpoints._asdict())


def read_status(settings: Settings) -> dict[str, Any]:
    """Nodes, whether they answer, records of each topic, and documents of each index.

    Looks at the stack that `up` started; without one at the nodes that the settings name.
    What can't be reached is None.
    """
    state = StackState.load(settings.home)
    if state is not None:
        settings = with_endpoints(settings, state.endpoints)
    broker, url = settings.kafka_bootstrap_servers, settings.elasticsearch_url
    broker_reachable, search_reachable = probes.broker_answers(broker), probes.search_answers(url)
    return {
        "kind": state.kind if state else None,
        "nodes": [
            {
                "name": node.name,
                "pid": node.process_id.pid,
                "alive": node.process_id.is_alive(),
                "endpoints": node.endpoints,
                "log": node.log,
            }
            for node in (state.nodes if state else ())
        ],
        "broker": {"bootstrap_servers": broker, "reachable": broker_reachable},
        "search": {"url": shown(url), "reachable": search_reachable},
        "topics": _topics(settings) if broker_reachable else None,
        "indices": _indices(url) if search_reachable else None,
    }


def _topics(settings: Settings) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for topic in TOPICS:
        offsets = end_offsets(settings, topic.name, timeout=5.0)
        counts[topic_name(settings, topic.name)] = (
            sum(high - low for low, high in offsets.values()) if offsets else None
        )
    return counts


def _indices(url: str) -> dict[str, int]:
    rows = probes.get_json(f"{url}/_cat/indices?format=json&h=index,docs.count", timeout=5.0)
    return {row["index"]: int(row["docs.count"] or 0) for row in sorted(rows, key=lambda row: row["index"])}
