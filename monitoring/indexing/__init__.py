"""From the topics into Elasticsearch, without losing a record: `inflight indexer`."""
