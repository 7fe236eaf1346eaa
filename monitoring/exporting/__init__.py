"""From the topics to Prometheus: `inflight exporter`."""
