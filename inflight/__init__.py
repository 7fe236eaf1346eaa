"""The command `inflight`, the local stack and the demo: the only place that chooses adapters."""
