"""The topics that processes meet on, and how each is configured."""

from typing import NamedTuple

REQUESTS = "prediction-requests"
RESULTS = "prediction-results"
LOGS = "prediction-logs"
DEAD_LETTERS = "prediction-dead-letters"
MODEL_EVENTS = "model-events"
LABELS = "prediction-labels"
MEASUREMENTS = "model-measurements"
DRIFT_STATE = "drift-state"

MEBIBYTE = 1024 * 1024


class Topic(NamedTuple):
    """A topic as it is created: its name without the deployment's prefix, and its broker-side configuration.

    What is on an internal one is a process's own affair, and may change with any release.
    """

    name: str
    config: dict[str, str]
    internal: bool = False


TOPICS = (
    # LogAppendTime: "accepted at" is the broker's clock, the same at every re-read, whatever a producer's clock says.
    # The size limit is above `max_request_bytes`, so that a request which is too large becomes a visible dead letter
    # and not an error that only its producer sees.
    Topic(
        REQUESTS,
        {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime", "max.message.bytes": str(4 * MEBIBYTE)},
    ),
    # What a worker writes holds a request and more, hence the larger limits.
    Topic(RESULTS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    Topic(LOGS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    Topic(DEAD_LETTERS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    # The last event of each key stays: what was said last of each model.
    Topic(MODEL_EVENTS, {"cleanup.policy": "compact"}),
    # Labels come days after their requests, and are few: kept for 30 days, so that a new reader has them too.
    Topic(LABELS, {"cleanup.policy": "delete", "retention.ms": str(30 * 24 * 3_600_000)}),
    Topic(MEASUREMENTS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    # A record every few seconds for each partition of the log, of which the last one counts: old ones go soon.
    Topic(
        DRIFT_STATE,
        {
            "cleanup.policy": "compact",
            "segment.ms": "3600000",
            "min.cleanable.dirty.ratio": "0.1",
            "max.message.bytes": str(8 * MEBIBYTE),
        },
        internal=True,
    ),
)
MAX_MESSAGE_BYTES = 8 * MEBIBYTE
