"""Whether a broker or a search node answers, asked as a client would."""

import http.client
import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from inflight.stack.process import is_listening

KAFKA_PORT = 9092
"""That of librdkafka, where an address names none."""


def addresses(bootstrap_servers: str) -> Iterator[tuple[str, int]]:
    """Host and port of each server, as librdkafka reads them; what is none is left out."""
    for server in bootstrap_servers.split(","):
        try:
            # Without the protocol, which may come before the host, and whose name is none of a URL's.
            found = urlsplit("//" + server.strip().rpartition("://")[2])
            if found.hostname:
                yield found.hostname, found.port or KAFKA_PORT
        except ValueError:
            continue


def anything_listens(bootstrap_servers: str) -> bool:
    """Whether any of the servers accepts connections."""
    return any(is_listening(port, host) for host, port in addresses(bootstrap_servers))


def broker_answers(bootstrap_servers: str, timeout: float = 2.0, options: Mapping[str, str] | None = None) -> bool:
    """Whether the broker answers a metadata request, and each partition that it knows has a leader.

    Args:
        options: further ones of librdkafka, such as those of its security.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # librdkafka complains about a closed port on stderr and waits before it tries again: look at the port first.
    if not anything_listens(bootstrap_servers):
        return False
    base = {"bootstrap.servers": bootstrap_servers, "broker.address.family": "v4", "log_level": 0}
    try:
        cluster = AdminClient({**base, **(options or {})}).list_topics(timeout=timeout)
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
