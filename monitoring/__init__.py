"""What watches the stream: the indexer for Elasticsearch and the exporter for Prometheus."""
