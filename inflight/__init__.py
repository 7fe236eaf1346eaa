"""The command `inflight`, the local stack and the demo: the only place that chooses adapters."""

from inflight import search_path as search_path
