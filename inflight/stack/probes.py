"""Whether a broker or a search node answers, asked as a client would."""

import http.client
import json
import urllib.request
from typing import Any

from inflight.stack.process import is_listening


def broker_answers(bootstrap_servers: str, timeout: float = 2.0) -> bool:
    """Whether the broker answers a metadata request, and each partition that it knows has a leader."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    host, _, port = bootstrap_servers.split(",")[0].rpartition(":")
    # librdkafka complains about a closed port on stderr and waits before it tries again: look at the port first.
    if not is_listening(int(port), host):
        return False
    options = {"bootstrap.servers": bootstrap_servers, "broker.address.family": "v4", "log_level": 0}
    try:
        cluster = AdminClient(options).list_topics(timeout=timeout)
    except KafkaException:
        return False
    partitions = (partition for topic in cluster.topics.values() for partition in topic.partitions.values())
    return bool(cluster.brokers) and all(partition.leader >= 0 for partition in partitions)


def get_json(url: str, timeout: float = 2.0) -> Any:
    """The JSON answer of a search node.

    Raises:
        OSError: no answer, or one with an error status, or one that is no JSON.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - our own http address
            return json.load(answer)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{url} answered with something else than JSON: {error}") from error


def search_answers(url: str, timeout: float = 2.0) -> bool:
    """Whether the node says that its cluster serves reads and writes."""
    try:
        health = get_json(f"{url}/_cluster/health", timeout)
    except OSError:
        return False
    return isinstance(health, dict) and health.get("status") in ("yellow", "green")
