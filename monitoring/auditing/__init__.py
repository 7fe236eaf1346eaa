"""The promise, counted from topics and index alone: `inflight audit`."""
