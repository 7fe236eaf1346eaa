"""Consumer groups whose lag is watched, and what each reads. Names are without the deployment's prefix."""

from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, LOGS, MEASUREMENTS, MODEL_EVENTS, REQUESTS

WORKER = "inflight-worker"
INDEXER = "inflight-indexer"
EXPORTER = "inflight-exporter"
JOINER = "inflight-label-joiner"
WATCHER = "inflight-drift-monitor"

# The worker's own name for its group is in stream_app.faust_adapter.app; rooms do not import one another, a test compares them.
READS = {
    WORKER: (REQUESTS,),
    INDEXER: (LOGS, DEAD_LETTERS, MEASUREMENTS, MODEL_EVENTS),
    EXPORTER: (LOGS, DEAD_LETTERS),
    JOINER: (LABELS,),
    WATCHER: (LOGS,),
}
