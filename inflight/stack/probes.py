"""Whether a broker or Elasticsearch responds, asked as a client would."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inflight.stack.process import is_listening

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

KAFKA_PORT, ELASTICSEARCH_PORT = 9092, 9200
"""Default ports of the clients."""
PROBE_SECONDS = 2.0


def addresses(bootstrap_servers: str) -> Iterator[tuple[str, int]]:
    """Host and port of each server, as librdkafka reads them; malformed ones are skipped."""
    for server in bootstrap_servers.split(","):
        try:
            # Without the protocol that may precede the host: its name is not valid in a URL.
            parts = urlsplit("//" + server.strip().rpartition("://")[2])
            if parts.hostname:
                yield parts.hostname, parts.port or KAFKA_PORT
        except ValueError:
            continue


def anything_listens(bootstrap_servers: str) -> bool:
    """Whether any of the servers accepts connections."""
    return any(is_listening(port, host) for host, port in addresses(bootstrap_servers))


def broker_responds(bootstrap_servers: str, options: Mapping[str, str] | None = None) -> bool:
    """Whether the broker responds to a metadata request, and each partition that it knows has a leader.

    Args:
        options: further options of librdkafka, such as those for security.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # librdkafka complains about a closed port on standard error and waits before it retries: check the port first.
    if not anything_listens(bootstrap_servers):
        return False
    base = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
    try:
        cluster = AdminClient({**base, **(options or {})}).list_topics(timeout=PROBE_SECONDS)
    except KafkaException:
        return False
    partitions = (partition for topic in cluster.topics.values() for partition in topic.partitions.values())
    return bool(cluster.brokers) and all(partition.leader >= 0 for partition in partitions)


def elasticsearch_responds(url: str, api_key: "SecretStr | None" = None, ca_certs: "Path | None" = None) -> bool:
    """Whether Elasticsearch reports that its cluster serves reads and writes."""
    from elasticsearch import ApiError, Elasticsearch, TransportError

    from monitoring.elastic.client import access

    try:
        parts = urlsplit(url)
        # The client logs a warning about a closed port.
        if not is_listening(parts.port or ELASTICSEARCH_PORT, parts.hostname or ""):
            return False
        with Elasticsearch(
            url, **access(url, api_key, ca_certs), request_timeout=PROBE_SECONDS, max_retries=0
        ) as client:
            return client.cluster.health()["status"] in ("yellow", "green")
    except (ApiError, TransportError, ValueError, KeyError, TypeError):
        # ValueError: the setting is no URL. KeyError and TypeError: the response is not one of Elasticsearch.
        return False
