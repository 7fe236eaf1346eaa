"""The loop that most people write: dictionaries for `elasticsearch.helpers.bulk`, which makes JSON of them again.

Its documents are those of the indexer too, and are made as quickly; only how they are handed over differs.
"""

import json

from elasticsearch import Elasticsearch
from elasticsearch.helpers import bulk

from benchmarks.cases.bare_bulk import bare_consumer, next_values
from benchmarks.cases.task import until_sigterm
from inflight.settings import load_settings
from machine_learning_engineering.events.schemas import decode_log
from monitoring.documents.log import document_id, index_name, to_document


def main() -> None:
    """Index until SIGTERM."""
    stop, settings = until_sigterm(), load_settings()
    consumer, client = bare_consumer(settings), Elasticsearch(settings.elasticsearch_url, request_timeout=120)
    while not stop:
        events = [decode_log(value) for value in next_values(consumer, settings.elasticsearch_batch_records)]
        if not events:
            continue
        bulk(
            client,
            (
                {
                    "_op_type": "create",
                    "_index": index_name(event.accepted_at),
                    "_id": document_id(event.request_id),
                    "_source": json.loads(to_document(event)),
                }
                for event in events
            ),
            chunk_size=settings.elasticsearch_batch_records,
        )
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main()
