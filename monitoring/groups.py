"""Consumer groups whose lag is watched, and what each reads. Names are without the deployment's prefix."""

from machine_learning_engineering.topics import DEAD_LETTERS, LOGS, REQUESTS

WORKER = "inflight-worker"
INDEXER = "inflight-indexer"
EXPORTER = "inflight-exporter"

# The worker's own name for its group is in stream_app.topology; rooms do not import one another, a test compares them.
READS = {
    WORKER: (REQUESTS,),
    INDEXER: (LOGS,),
    EXPORTER: (LOGS, DEAD_LETTERS),
}
