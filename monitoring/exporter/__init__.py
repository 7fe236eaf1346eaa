"""The exporter: topics to Prometheus metrics."""
