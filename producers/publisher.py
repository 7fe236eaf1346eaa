"""Publishes records in bounded memory and determines the outcome of each."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal, NamedTuple, Protocol

from msgspec import Struct

from machine_learning_engineering.events.topics import MEBIBYTE
from producers.client import is_rejection, is_timeout

Outcome = Literal["accepted", "failed", "indeterminate"]
Headers = list[tuple[str, bytes]]


class SendFuture(Protocol):
    """The future of one send, as returned by kafka-python."""

    is_done: bool
    exception: BaseException | None

    def get(self, timeout: float | None = None) -> Any: ...


class Producer(Protocol):
    """The part of `kafka.KafkaProducer` that is used here."""

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers | None, partition: int | None
    ) -> SendFuture: ...


class Errors(Struct, frozen=True):
    """How many records failed with one type of error, and its first message."""

    records: int
    first: str


class Sent(NamedTuple):
    """A record in flight. `attempt` starts at 1; `since` is the monotonic time of the first attempt."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    partition: int | None
    label: Any
    attempt: int
    since: float


InFlight = tuple[SendFuture, Sent]

# A producer that has not completed a record after this multiple of its delivery time-out never will.
_STALLED = 1.25
# Limit of sends per record, not counting those that failed because of another record.
_ATTEMPTS = 3


def ignore(label: Any, outcome: Outcome, error: BaseException | None) -> None:
    """Ignore an outcome."""


class Publisher(AbstractContextManager["Publisher"]):
    """Sends records and reports one outcome for each: accepted, failed or indeterminate.

    - accepted: acknowledged by the broker with acks=all.
    - failed: rejected for good (too large, not authorized); the record is not on the topic.
    - indeterminate: a send timed out or was aborted. The record may be on the topic. Publish it again with the same
      request id.

    After an error other than a time-out, an idempotent kafka-python producer is broken: it fails all other records with
    the error of the first. Failed records are therefore sent again, with the same bytes and key, over a new producer
    and in ever smaller groups, until a rejection can only concern the record itself.

    A publisher belongs to one thread: except for the I/O, everything happens within its calls.
    """

    def __init__(
        self,
        connect: Callable[[], Producer],
        *,
        disconnect: Callable[[Any], None] = lambda producer: None,
        on_delivery: Callable[[Any, Outcome, BaseException | None], None] = ignore,
        timeout: float = 60.0,
        connect_timeout: float = 0.0,
        interrupted: Callable[[], bool] = lambda: False,
        max_records: int = 10_000,
        max_bytes: int = 64 * MEBIBYTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect.

        Args:
            on_delivery: called once per record with the label given to `publish`, the outcome and the error.
            timeout: seconds during which a record is retried; the producer's own delivery time-out.
            connect_timeout: seconds to wait for an unavailable broker before the next record, unless `interrupted`.
            max_records: limit of outstanding records; `max_bytes` limits the bytes of their values.
        """
        self._connect = connect
        self._disconnect = disconnect
        self._on_delivery = on_delivery
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._interrupted = interrupted
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._outstanding: deque[InFlight] = deque()
        self._bytes = 0
        self._started = 0
        self.on_wait: Callable[[], None] = lambda: None
        """Called repeatedly while `publish` or `flush` waits."""
        self.accepted = 0
        self.failed = 0
        self.errors: dict[str, Errors] = {}
        """The errors of records that were not accepted, by type."""
        self._producer: Producer | None = connect()

    def __exit__(self, *_: object) -> None:
        self._close_producer()

    @property
    def outstanding(self) -> int:
        """Records without an outcome yet."""
        return len(self._outstanding)

    @property
    def indeterminate(self) -> int:
        """Records that were sent and are neither accepted, failed nor outstanding."""
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
        """Send one record, after waiting until few enough records and bytes are outstanding.

        Raises:
            kafka.errors.KafkaTimeoutError: no broker was reachable within `connect_timeout`.
        """
        self.poll()
        while self._outstanding and (len(self._outstanding) >= self._max_records or self._bytes >= self._max_bytes):
            self._wait(self._outstanding[0][0], 0.2)
            self.poll()
        if self._producer is None:
            self._producer = self._reconnect()
        self._started += 1
        self._send(Sent(topic, key, value, headers, partition, label, 1, self._clock()))

    def poll(self) -> None:
        """Process finished sends, oldest first. Waits only to send failed records again."""
        failed_sends = self._collect()
        if failed_sends:
            failed_sends += self._collect_all()
            self._send_again(self._retryable(failed_sends, alone=False))
        elif self._outstanding and self._clock() - self._outstanding[0][1].since > _STALLED * self._timeout:
            # After a restart of its broker a kafka-python producer may neither send nor time out.
            stalled: BaseException = TimeoutError("the producer stalled")
            unfinished: list[tuple[Sent, BaseException]] = [
                (self._pop()[1], stalled) for _ in range(len(self._outstanding))
            ]
            self._send_again(self._retryable(unfinished, alone=False))

    def flush(self, timeout: float | None = None) -> None:
        """Wait for all outcomes; those unknown after `timeout` seconds are indeterminate."""
        deadline = self._clock() + (2 * self._timeout if timeout is None else timeout)
        while self._outstanding and self._clock() < deadline:
            self._wait(self._outstanding[0][0], min(0.2, max(0.0, deadline - self._clock())))
            self.poll()
        self.abandon()

    def abandon(self) -> None:
        """Count all outstanding records as indeterminate, without waiting."""
        for sent, error in self._collect():
            self._end(sent, "indeterminate", error)
        while self._outstanding:
            _, sent = self._pop()
            self._end(sent, "indeterminate", TimeoutError("no response from the broker yet"))

    def _send(self, sent: Sent) -> None:
        assert self._producer is not None
        try:
            future = self._producer.send(
                sent.topic, value=sent.value, key=sent.key, headers=sent.headers, partition=sent.partition
            )
        except Exception as error:
            # Raised before anything was sent: the error concerns this record only, and the producer still works.
            self._end(sent, "failed" if is_rejection(error) else "indeterminate", error)
            return
        self._bytes += len(sent.value or b"")
        self._outstanding.append((future, sent))

    def _collect(self) -> list[tuple[Sent, BaseException]]:
        """Process the oldest finished sends; return the failed ones whose outcome is open."""
        failed_sends = []
        while self._outstanding and self._outstanding[0][0].is_done:
            future, sent = self._pop()
            if future.exception is None:
                self.accepted += 1
                self._on_delivery(sent.label, "accepted", None)
            elif is_timeout(future.exception):
                self._end(sent, "indeterminate", future.exception)
            else:
                failed_sends.append((sent, future.exception))
        return failed_sends

    def _collect_all(self) -> list[tuple[Sent, BaseException]]:
        """Wait until no record is outstanding; return the failed ones whose outcome is open."""
        deadline = self._clock() + 2 * self._timeout
        failed_sends = self._collect()
        while self._outstanding and self._clock() < deadline:
            self._wait(self._outstanding[0][0], 0.2)
            failed_sends += self._collect()
        self.abandon()
        return failed_sends

    def _retryable(self, failed_sends: list[tuple[Sent, BaseException]], *, alone: bool) -> list[Sent]:
        """Return the records to retry; the others get their outcome. `alone`: no other record shared the producer."""
        again = []
        for sent, error in failed_sends:
            if is_rejection(error):
                if alone:
                    self._end(sent, "failed", error)
                    continue
            elif sent.attempt >= _ATTEMPTS or self._clock() - sent.since >= self._timeout:
                self._end(sent, "indeterminate", error)
                continue
            again.append(sent._replace(attempt=sent.attempt + 1))
        return again

    def _send_again(self, group: list[Sent]) -> None:
        """Send `group` over a new producer; split failed records into halves until each has an outcome."""
        self._close_producer()
        if not group:
            return
        try:
            self._producer = self._connect()
        except Exception as error:
            for sent in group:
                self._end(sent, "indeterminate", error)
            return
        for sent in group:
            self._send(sent)
        failed_sends = self._collect_all()
        if failed_sends:
            again = self._retryable(failed_sends, alone=len(group) == 1)
            half = (len(again) + 1) // 2
            self._send_again(again[:half])
            if again[half:]:
                self._send_again(again[half:])

    def _reconnect(self) -> Producer:
        deadline = self._clock() + self._connect_timeout
        while True:
            try:
                return self._connect()
            except Exception as error:
                if not is_timeout(error) or self._clock() >= deadline or self._interrupted():
                    raise
            self.on_wait()

    def _pop(self) -> InFlight:
        future, sent = self._outstanding.popleft()
        self._bytes -= len(sent.value or b"")
        return future, sent

    def _wait(self, future: SendFuture, timeout: float) -> None:
        # An error means either "not done yet", or an outcome that is read from the future later.
        with suppress(Exception):
            future.get(timeout)
        self.on_wait()

    def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._disconnect(producer)

    def _end(self, sent: Sent, outcome: Outcome, error: BaseException) -> None:
        if outcome == "failed":
            self.failed += 1
        kind = type(error).__name__
        seen = self.errors.get(kind)
        self.errors[kind] = Errors(1, str(error) or kind) if seen is None else Errors(seen.records + 1, seen.first)
        self._on_delivery(sent.label, outcome, error)
