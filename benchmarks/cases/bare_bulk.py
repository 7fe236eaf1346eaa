"""A bare loop from the log topic into Elasticsearch: the indexer's documents, one bulk request at a time, then commit.

It has none of what the indexer has beside that: no retries, no dead letters, no look at what a refused document was.
What fails ends the process.
"""

import os
import sys

from confluent_kafka import Consumer, KafkaException
from elasticsearch import Elasticsearch

from benchmarks.cases.task import GROUP_VARIABLE, until_sigterm
from inflight.settings import Settings, load_settings
from machine_learning_engineering.events.schemas import decode_log
from machine_learning_engineering.events.topics import LOGS
from machine_learning_engineering.kafka.client import consumer_options, topic_name
from monitoring.documents.log import document_id, index_name, to_document

SECONDS = 0.25
"""So long a batch waits for its last record: no longer than the indexer's first one."""
_HEADERS = {
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
    "content-type": "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
}


def bare_consumer(settings: Settings) -> Consumer:
    """A member of the case's group, on the log topic."""
    options = {"group.id": os.environ[GROUP_VARIABLE], "enable.auto.offset.store": True}
    consumer = Consumer(consumer_options(settings, "") | options)
    consumer.subscribe([topic_name(settings, LOGS)])
    return consumer


def next_values(consumer: Consumer, count: int) -> list[bytes]:
    """At most so many records."""
    values = []
    for message in consumer.consume(count, SECONDS):
        if message.error() is not None:
            raise KafkaException(message.error())
        values.append(message.value())
    return values


def main() -> None:
    """Index until SIGTERM."""
    stop, settings = until_sigterm(), load_settings()
    consumer, client = bare_consumer(settings), Elasticsearch(settings.elasticsearch_url, request_timeout=120)
    while not stop:
        values = next_values(consumer, settings.elasticsearch_batch_records)
        if not values:
            continue
        parts: list[bytes] = []
        for value in values:
            event = decode_log(value)
            index, identity = index_name(event.accepted_at), document_id(event.request_id)
            parts += (
                b'{"create":{"_index":"%b","_id":"%b"}}' % (index.encode(), identity.encode()),
                to_document(event),
            )
        parts.append(b"")
        params = {"filter_path": "errors"}
        answer = client.perform_request("POST", "/_bulk", params=params, headers=_HEADERS, body=b"\n".join(parts))
        if answer.body["errors"]:
            sys.exit("a document was refused")
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main()
