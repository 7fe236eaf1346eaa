"""The indexer: topics to Elasticsearch."""
