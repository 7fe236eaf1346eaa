"""Access to Elasticsearch."""
