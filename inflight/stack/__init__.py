"""Brokers and search nodes on this machine, without Docker: the embedded default, real Kafka, real Elasticsearch."""
