"""How many readable records lie behind offsets, by the broker."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_app.serving.batch import TP

# Of a consumer's options, the admin client takes those of every client.
_OF_CONSUMERS = ("auto.", "enable.", "fetch.", "group.", "heartbeat.", "max.poll.", "partition.", "queued.", "session.")


class LagQuery:
    """Asks for the ends of partitions over connections of its own. Call it from any thread, one call at a time.

    A consumer's own query waits behind its fetch, for up to `fetch.wait.max.ms` (half a second) for each partition, and
    a consumer that waits does not poll.

    Args:
        options: librdkafka's, of a consumer or of any client.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {
            name: value
            for name, value in options.items()
            if not name.startswith(_OF_CONSUMERS) and not name.endswith("_cb")
        }
        self._client: AdminClient | None = None

    def __call__(self, committed: Mapping[TP, int], topics: list[str], timeout: float) -> int:
        """The number of readable records at or above the committed offsets; negative ones stand for the first record.

        Args:
            topics: asked for if nothing is committed, so that a broker that does not respond is noticed.
            timeout: seconds.

        Raises:
            KafkaException: the broker does not respond.
        """
        asked = list(committed) or [TP(topic, 0) for topic in topics]
        try:
            ends = self._offsets(asked, OffsetSpec.latest(), timeout)
            starts = self._offsets([tp for tp in committed if committed[tp] < 0], OffsetSpec.earliest(), timeout)
        except KafkaException:
            # It may have forgotten all brokers, see `kafka.broker_check`.
            self._client = None
            raise
        return sum(max(0, ends[tp] - starts.get(tp, offset)) for tp, offset in committed.items())

    def ends(self, partitions: list[TP], timeout: float) -> dict[TP, int]:
        """The offset behind the last readable record of each partition. Raises as a call does."""
        return self._offsets(partitions, OffsetSpec.latest(), timeout)

    def _offsets(self, partitions: list[TP], spec: OffsetSpec, timeout: float) -> dict[TP, int]:
        if not partitions:
            return {}
        if self._client is None:
            self._client = AdminClient(self._options)
        found = self._client.list_offsets(
            {TopicPartition(*tp): spec for tp in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=timeout,
        )
        return {TP(tp.topic, tp.partition): answer.result().offset for tp, answer in found.items()}
