"""Topics and their configuration."""

from typing import NamedTuple

REQUESTS = "prediction-requests"
RESULTS = "prediction-results"
LOGS = "prediction-logs"
SHADOWS = "prediction-shadows"
DEAD_LETTERS = "prediction-dead-letters"
MODEL_EVENTS = "model-events"
LABELS = "prediction-labels"
MEASUREMENTS = "model-measurements"
API_CALLS = "api-calls"
DRIFT_STATE = "drift-state"

MEBIBYTE = 1024 * 1024

# External senders write these. With any other value the broker would measure what they compressed: a few kilobytes may
# unpack to gigabytes in every reader. So it unpacks each batch itself, and refuses what is then above the limit.
_UNPACKED = {"compression.type": "uncompressed"}


class Topic(NamedTuple):
    """A topic as it is created."""

    name: str
    """Without the deployment's prefix."""
    config: dict[str, str]
    """Broker-side configuration."""
    internal: bool = False
    """The records are private to a process; their format may change with any release."""


_BY_BROKER = {"message.timestamp.type": "LogAppendTime"}
TOPICS = (
    # LogAppendTime: the broker's clock is the same at every re-read and independent of the producers' clocks. It is
    # when a request was accepted; a label or an event can't be later; and no sender names an index. The size limit is
    # above `max_request_bytes`, so that a request that is too large becomes a visible dead letter instead of an error
    # that only its producer sees.
    Topic(
        REQUESTS,
        {"cleanup.policy": "delete", **_BY_BROKER, "max.message.bytes": str(4 * MEBIBYTE), **_UNPACKED},
    ),
    # Outcomes repeat the request, hence the larger limits.
    Topic(RESULTS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    Topic(LOGS, {"cleanup.policy": "delete", **_BY_BROKER, "max.message.bytes": str(8 * MEBIBYTE)}),
    Topic(SHADOWS, {"cleanup.policy": "delete", **_BY_BROKER, "max.message.bytes": str(8 * MEBIBYTE)}),
    Topic(DEAD_LETTERS, {"cleanup.policy": "delete", "max.message.bytes": str(8 * MEBIBYTE)}),
    # Compaction keeps the last event of each type and model.
    Topic(MODEL_EVENTS, {"cleanup.policy": "compact", **_BY_BROKER, **_UNPACKED}),
    # Labels arrive days after their requests and are small: 30 days, so that a new reader gets them too.
    Topic(LABELS, {"cleanup.policy": "delete", **_BY_BROKER, "retention.ms": str(30 * 24 * 3_600_000), **_UNPACKED}),
    Topic(MEASUREMENTS, {"cleanup.policy": "delete", **_BY_BROKER, "max.message.bytes": str(8 * MEBIBYTE)}),
    # A record repeats the bodies of a call and of its answer.
    Topic(API_CALLS, {"cleanup.policy": "delete", **_BY_BROKER, "max.message.bytes": str(8 * MEBIBYTE)}),
    # One record every few seconds for each partition of the log; only the last counts, so old ones are deleted soon.
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
