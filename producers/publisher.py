"""Publishing with a known outcome for every record, in bounded memory."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

from machine_learning_engineering.topics import MEBIBYTE
from producers.client import is_refusal, is_timeout

Outcome = Literal["accepted", "failed", "indeterminate"]
Headers = list[tuple[str, bytes]]


class Sending(Protocol):
    """The future of one send, as kafka-python gives it."""

    is_done: bool
    exception: BaseException | None

    def get(self, timeout: float | None = None) -> Any: ...


class Producer(Protocol):
    """What is used of `kafka.KafkaProducer`."""

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None, partition: int | None
    ) -> Sending: ...


class Errors(Struct, frozen=True):
    """How many records one kind of error ended, and its first text."""

    records: int
    first: str


class Sent(NamedTuple):
    """A record under way. `attempt` counts from 1; `since` is the monotonic time of the first attempt."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    partition: int | None
    label: Any
    attempt: int
    since: float


class Publisher:
    """Sends records and finds out what became of each: accepted, failed or indeterminate.

    - accepted: acknowledged by the broker with acks=all.
    - failed: refused for good (too large, not allowed); the record is not on the topic.
    - indeterminate: nobody knows; a send timed out, or broke off. It may be on the topic. Publish it again with the
      same request id.

    What is neither refused nor timed out is sent again, the same bytes with the same key, up to `attempts` times in all
    and within `timeout` seconds. One thread owns a publisher: everything but the sending itself happens in its calls.

    `settled` is called with (label, outcome, error) for each record, the label being whatever `publish` was given.
    """

    def __init__(
        self,
        producer: Producer,
        *,
        settled: Callable[[Any, Outcome, BaseException | None], None] | None = None,
        attempts: int = 3,
        timeout: float = 60.0,
        max_records: int = 10_000,
        max_bytes: int = 64 * MEBIBYTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._settled = settled
        self._attempts = attempts
        self._timeout = timeout
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._outstanding: deque[tuple[Sending, Sent]] = deque()
        self._bytes = 0
        self._started = 0
        self.while_waiting: Callable[[], None] = lambda: None
        """Called again and again while `publish` or `drain` waits."""
        self.accepted = 0
        self.failed = 0
        self.errors: dict[str, Errors] = {}
        """What ended records that were not accepted, by the kind of error."""

    @property
    def outstanding(self) -> int:
        """Records whose outcome is not known yet."""
        return len(self._outstanding)

    @property
    def indeterminate(self) -> int:
        """Records that were started and are neither accepted, failed nor outstanding, whatever interrupted them."""
        return self._started - self.accepted - self.failed - len(self._outstanding)

    def publish(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        partition: int | None = None,
        label: Any = None,
    ) -> None:
        """Send one record; wait first while too many records or bytes are outstanding."""
        self.settle()
        while self._outstanding and (len(self._outstanding) >= self._max_records or self._bytes >= self._max_bytes):
            self._wait_for_oldest(0.2)
            self.settle()
            self.while_waiting()
        self._started += 1
        self._send(Sent(topic, key, value, headers, partition, label, 1, self._clock()))

    def settle(self) -> None:
        """Account for the records whose outcome has come, oldest first, without waiting."""
        outstanding = self._outstanding
        while outstanding and outstanding[0][0].is_done:
            sending, sent = outstanding.popleft()
            self._bytes -= len(sent.value or b"")
            if sending.exception is None:
                self.accepted += 1
                if self._settled is not None:
                    self._settled(sent.label, "accepted", None)
            else:
                self._unsuccessful(sent, sending.exception)

    def drain(self, timeout: float | None = None) -> None:
        """Wait until every outcome is known; what is unknown after `timeout` seconds becomes indeterminate."""
        deadline = self._clock() + (2 * self._timeout if timeout is None else timeout)
        while self._outstanding and self._clock() < deadline:
            self._wait_for_oldest(min(0.2, max(0.0, deadline - self._clock())))
            self.settle()
            self.while_waiting()
        self.give_up()

    def give_up(self) -> None:
        """Count whatever is still outstanding as indeterminate, without waiting."""
        while self._outstanding:
            sending, sent = self._outstanding.popleft()
            self._bytes -= len(sent.value or b"")
            if sending.is_done and sending.exception is None:
                self.accepted += 1
                if self._settled is not None:
                    self._settled(sent.label, "accepted", None)
            else:
                self._end(sent, "indeterminate", sending.exception or TimeoutError("no answer from the broker yet"))

    def _wait_for_oldest(self, timeout: float) -> None:
        # An error is either "still under way", or an outcome that `settle` reads from the future.
        with suppress(Exception):
            self._outstanding[0][0].get(timeout)

    def _send(self, sent: Sent) -> None:
        try:
            sending = self._producer.send(
                sent.topic, value=sent.value, key=sent.key, headers=sent.headers, partition=sent.partition
            )
        except Exception as error:
            self._unsuccessful(sent, error)
            return
        self._bytes += len(sent.value or b"")
        self._outstanding.append((sending, sent))

    def _unsuccessful(self, sent: Sent, error: BaseException) -> None:
        if is_refusal(error):
            self.failed += 1
            self._end(sent, "failed", error)
        elif is_timeout(error) or sent.attempt >= self._attempts or self._clock() - sent.since >= self._timeout:
            self._end(sent, "indeterminate", error)
        else:
            self._send(sent._replace(attempt=sent.attempt + 1))

    def _end(self, sent: Sent, outcome: Outcome, error: BaseException) -> None:
        kind = type(error).__name__
        seen = self.errors.get(kind)
        self.errors[kind] = Errors(1, str(error) or kind) if seen is None else Errors(seen.records + 1, seen.first)
        if self._settled is not None:
            self._settled(sent.label, outcome, error)
