"""Consumer groups, without the deployment's prefix."""

from machine_learning_engineering.events.topics import (
    API_CALLS,
    DEAD_LETTERS,
    LABELS,
    LOGS,
    MEASUREMENTS,
    MODEL_EVENTS,
    REQUESTS,
    SHADOWS,
)

WORKER = "inflight-worker"
INDEXER = "inflight-indexer"
EXPORTER = "inflight-exporter"
LABEL_JOINER = "inflight-label-joiner"
DRIFT_MONITOR = "inflight-drift-monitor"
FEATURES = "inflight-features"
ARCHIVE = "inflight-archive"

# The worker declares its group in stream_app.faust_adapter.app; packages do not import each other, a test compares.
READS = {
    WORKER: (REQUESTS,),
    INDEXER: (LOGS, SHADOWS, DEAD_LETTERS, MEASUREMENTS, MODEL_EVENTS, API_CALLS),
    EXPORTER: (LOGS, SHADOWS, DEAD_LETTERS),
    LABEL_JOINER: (LABELS,),
    DRIFT_MONITOR: (LOGS,),
    FEATURES: (LOGS, LABELS),
    ARCHIVE: (LOGS, LABELS, API_CALLS),
}
"""Topics of each group: their lag is exported."""
