"""A bare loop from the topic of labels into the log: bulk updates by document id, one request at a time, then commit.

It knows each label's document beforehand, as the day of its request is given to it. It does not look whether a later
label is there, what the request's model was, nor whether there is a request at all; what fails ends the process.
"""

import os
import sys

import msgspec
from confluent_kafka import Consumer
from elasticsearch import Elasticsearch

from benchmarks.cases.bare_bulk import next_values
from benchmarks.cases.task import GROUP_VARIABLE, until_sigterm
from inflight.settings import load_settings
from machine_learning_engineering.events.schemas import decode_label
from machine_learning_engineering.events.topics import LABELS
from machine_learning_engineering.kafka.client import consumer_options, topic_name

INDEX = b"inference-logs-2026.01.01"
_HEADERS = {
    "accept": "application/vnd.elasticsearch+json; compatible-with=8",
    "content-type": "application/vnd.elasticsearch+x-ndjson; compatible-with=8",
}


def main() -> None:
    """Label until SIGTERM."""

    stop, settings = until_sigterm(), load_settings()
    options = {"group.id": os.environ[GROUP_VARIABLE], "enable.auto.offset.store": True}
    consumer = Consumer(consumer_options(settings, "") | options)
    consumer.subscribe([topic_name(settings, LABELS)])
    client = Elasticsearch(settings.elasticsearch_url)
    while not stop:
        values = next_values(consumer, settings.label_joiner_batch_records)
        if not values:
            continue
        parts: list[bytes] = []
        for value in values:
            event = decode_label(value)
            fields = {"label": bytes(event.label).decode(), "label_observed_at": event.observed_at, "labelled": True}
            parts += (
                b'{"update":{"_index":"%b","_id":"%b"}}' % (INDEX, event.request_id.encode()),
                msgspec.json.encode({"doc": {"inflight": fields}}),
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
