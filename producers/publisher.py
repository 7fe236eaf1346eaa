"""Publishing with a known outcome for every record, in bounded memory."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol, Self

from msgspec import Struct

from machine_learning_engineering.events.topics import MEBIBYTE
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


Under = tuple[Sending, Sent]

# A producer that has not settled a record after so many of its own delivery time-outs never will.
_SILENT = 1.25


def ignore(label: Any, outcome: Outcome, error: BaseException | None) -> None:
    """Take no notice of an outcome."""


class Publisher:
    """Sends records and finds out what became of each: accepted, failed or indeterminate.

    - accepted: acknowledged by the broker with acks=all.
    - failed: refused for good (too large, not allowed); the record is not on the topic.
    - indeterminate: nobody knows; a send timed out, or broke off. It may be on the topic. Publish it again with the
      same request id.

    After an error that is no time-out, an idempotent kafka-python producer is spent: it fails every other record with
    the error of the first. So what failed is sent again, the same bytes with the same key, over a new producer, and in
    ever smaller groups, until a refusal can only be the record's own.

    One thread owns a publisher: everything but the sending itself happens in its calls.
    """

    def __init__(
        self,
        connect: Callable[[], Producer],
        *,
        disconnect: Callable[[Any], None] = lambda producer: None,
        settled: Callable[[Any, Outcome, BaseException | None], None] = ignore,
        attempts: int = 3,
        timeout: float = 60.0,
        patience: float = 0.0,
        interrupted: Callable[[], bool] = lambda: False,
        max_records: int = 10_000,
        max_bytes: int = 64 * MEBIBYTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect.

        Args:
            settled: called with the label that `publish` was given, the outcome and the error, once for each record.
            attempts: a record is sent at most so often, unless it is in doubt only because of others.
            timeout: seconds in which a record is sent again; the producer's own delivery time-out.
            patience: seconds that the next record waits for a broker that is away, unless `interrupted`.
            max_records: at most so many are outstanding, and at most `max_bytes` of values.
        """
        self._connect = connect
        self._disconnect = disconnect
        self._settled = settled
        self._attempts = attempts
        self._timeout = timeout
        self._patience = patience
        self._interrupted = interrupted
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._clock = clock
        self._outstanding: deque[Under] = deque()
        self._bytes = 0
        self._started = 0
        self.while_waiting: Callable[[], None] = lambda: None
        """Called again and again while `publish` or `drain` waits."""
        self.accepted = 0
        self.failed = 0
        self.errors: dict[str, Errors] = {}
        """What ended records that were not accepted, by the kind of error."""
        self._producer: Producer | None = connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

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
        """Send one record; wait first while too many records or bytes are outstanding.

        Raises:
            kafka.errors.KafkaTimeoutError: the producer was spent, and no broker answers a new one within `patience`.
        """
        self.settle()
        while self._outstanding and (len(self._outstanding) >= self._max_records or self._bytes >= self._max_bytes):
            self._wait(self._outstanding[0][0], 0.2)
            self.settle()
        if self._producer is None:
            self._producer = self._connect_patiently()
        self._started += 1
        self._send(Sent(topic, key, value, headers, partition, label, 1, self._clock()))

    def settle(self) -> None:
        """Account for the records whose outcome has come, oldest first. Waits only to repair what failed."""
        in_doubt = self._collect()
        if in_doubt:
            in_doubt += self._collect_all()
            self._send_again(self._worth_another_try(in_doubt, alone=False))
        elif self._outstanding and self._clock() - self._outstanding[0][1].since > _SILENT * self._timeout:
            # After its broker was restarted a kafka-python producer may neither send nor time out any more.
            silent = TimeoutError("the producer fell silent")
            stuck: list[tuple[Sent, BaseException]] = [(self._pop()[1], silent) for _ in range(len(self._outstanding))]
            self._send_again(self._worth_another_try(stuck, alone=False))

    def drain(self, timeout: float | None = None) -> None:
        """Wait until every outcome is known; what is unknown after `timeout` seconds becomes indeterminate."""
        deadline = self._clock() + (2 * self._timeout if timeout is None else timeout)
        while self._outstanding and self._clock() < deadline:
            self._wait(self._outstanding[0][0], min(0.2, max(0.0, deadline - self._clock())))
            self.settle()
        self.give_up()

    def give_up(self) -> None:
        """Count whatever is still outstanding as indeterminate, without waiting."""
        for sent, error in self._collect():
            self._end(sent, "indeterminate", error)
        while self._outstanding:
            _, sent = self._pop()
            self._end(sent, "indeterminate", TimeoutError("no answer from the broker yet"))

    def _send(self, sent: Sent) -> None:
        assert self._producer is not None
        try:
            sending = self._producer.send(
                sent.topic, value=sent.value, key=sent.key, headers=sent.headers, partition=sent.partition
            )
        except Exception as error:
            # Raised before anything was sent: this record's own error, and the producer is as good as before.
            self._end(sent, "failed" if is_refusal(error) else "indeterminate", error)
            return
        self._bytes += len(sent.value or b"")
        self._outstanding.append((sending, sent))

    def _collect(self) -> list[tuple[Sent, BaseException]]:
        """Settle the oldest records that are done; return those that failed and are in doubt."""
        in_doubt = []
        while self._outstanding and self._outstanding[0][0].is_done:
            sending, sent = self._pop()
            if sending.exception is None:
                self.accepted += 1
                self._settled(sent.label, "accepted", None)
            elif is_timeout(sending.exception):
                self._end(sent, "indeterminate", sending.exception)
            else:
                in_doubt.append((sent, sending.exception))
        return in_doubt

    def _collect_all(self) -> list[tuple[Sent, BaseException]]:
        """Wait until no record is outstanding; return those that failed and are in doubt."""
        deadline = self._clock() + 2 * self._timeout
        in_doubt = self._collect()
        while self._outstanding and self._clock() < deadline:
            self._wait(self._outstanding[0][0], 0.2)
            in_doubt += self._collect()
        self.give_up()
        return in_doubt

    def _worth_another_try(self, in_doubt: list[tuple[Sent, BaseException]], *, alone: bool) -> list[Sent]:
        """Settle what has had its chances; the rest is returned. `alone`: no other record shared the producer."""
        again = []
        for sent, error in in_doubt:
            if is_refusal(error):
                if alone:
                    self._end(sent, "failed", error)
                    continue
            elif sent.attempt >= self._attempts or self._clock() - sent.since >= self._timeout:
                self._end(sent, "indeterminate", error)
                continue
            again.append(sent._replace(attempt=sent.attempt + 1))
        return again

    def _send_again(self, group: list[Sent]) -> None:
        """Send `group` over a new producer; split what fails, until each record has an outcome."""
        self._let_go()
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
        in_doubt = self._collect_all()
        if in_doubt:
            again = self._worth_another_try(in_doubt, alone=len(group) == 1)
            half = (len(again) + 1) // 2
            self._send_again(again[:half])
            if again[half:]:
                self._send_again(again[half:])

    def _connect_patiently(self) -> Producer:
        deadline = self._clock() + self._patience
        while True:
            try:
                return self._connect()
            except Exception as error:
                if not is_timeout(error) or self._clock() >= deadline or self._interrupted():
                    raise
            self.while_waiting()

    def _pop(self) -> Under:
        sending, sent = self._outstanding.popleft()
        self._bytes -= len(sent.value or b"")
        return sending, sent

    def _wait(self, sending: Sending, timeout: float) -> None:
        # An error is either "still under way", or an outcome that is read from the future later.
        with suppress(Exception):
            sending.get(timeout)
        self.while_waiting()

    def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._disconnect(producer)

    def _end(self, sent: Sent, outcome: Outcome, error: BaseException) -> None:
        if outcome == "failed":
            self.failed += 1
        kind = type(error).__name__
        seen = self.errors.get(kind)
        self.errors[kind] = Errors(1, str(error) or kind) if seen is None else Errors(seen.records + 1, seen.first)
        self._settled(sent.label, outcome, error)
