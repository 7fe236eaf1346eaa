"""Replies to senders that name a topic for their answer, as Spring's `ReplyingKafkaTemplate` does. Pure.

A reply is a copy of the result. The topic of results has it too, whatever becomes of the reply.
"""

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import NamedTuple

from machine_learning_engineering.events.headers import RecordHeaders
from machine_learning_engineering.events.topics import TOPICS

REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID = "kafka_replyTopic", "kafka_replyPartition", "kafka_correlationId"
_TOPIC = re.compile(rb"[A-Za-z0-9._-]{1,249}")
_MAX_CORRELATION_BYTES = 256
_ANY_PARTITION = -1


class Reply(NamedTuple):
    """A record for a sender's own topic. `partition` is negative if the key chooses it."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class ReplyRules:
    """Which topics requests may name: otherwise whoever may send requests could write to any topic.

    Args:
        allowed: full names; `*` stands for any characters.
        prefix: of the deployment's own topics, which no request may name.
    """

    def __init__(self, allowed: Collection[str], prefix: str = "") -> None:
        self._allowed = tuple(allowed)
        self._own = frozenset(prefix + topic.name for topic in TOPICS)
        self._known: dict[str, bool] = {}
        self.refused = 0
        """Requests that named a topic that they may not."""

    def reply(
        self, request: RecordHeaders, key: bytes | None, value: bytes, carried: list[tuple[str, bytes]]
    ) -> Reply | None:
        """The reply to a request; None if it wants none, or names a topic that it may not.

        Args:
            request: headers of the request.
            key: of the result.
            value: of the result.
            carried: headers of the result.
        """
        # As in Kafka, the last header of a name counts.
        found = {name: header for name, header in request if name in (REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID)}
        topic = found.get(REPLY_TOPIC)
        if topic is None:
            return None
        name = topic.decode() if _TOPIC.fullmatch(topic) else ""
        if not self._allows(name):
            self.refused += 1
            return None
        headers = list(carried)
        correlation = found.get(CORRELATION_ID)
        if correlation is not None and len(correlation) <= _MAX_CORRELATION_BYTES:
            headers.append((CORRELATION_ID, correlation))
        return Reply(name, _partition(found.get(REPLY_PARTITION)), key, value, headers)

    def _allows(self, topic: str) -> bool:
        known = self._known.get(topic)
        if known is None:
            # Topics whose names begin so are the broker's.
            closed = not topic or topic.startswith("__") or topic in self._own
            known = not closed and any(fnmatchcase(topic, pattern) for pattern in self._allowed)
            if len(self._known) > 1_000:
                self._known.clear()
            self._known[topic] = known
        return known


def _partition(header: bytes | None) -> int:
    """Spring writes four bytes, most significant first."""
    if header is None or len(header) != 4:
        return _ANY_PARTITION
    return int.from_bytes(header, "big", signed=True)
