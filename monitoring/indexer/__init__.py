"""The indexer: logs, measurements, dead letters and model events, from Kafka to Elasticsearch."""
