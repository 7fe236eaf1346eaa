"""The exporter: Prometheus metrics from logs, dead letters and consumer lag."""
