"""Reader of dead letters."""

import heapq
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Message

from machine_learning_engineering.core.timestamps import datetime_of_milliseconds
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, read_origin, without_origin
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.settings import KernelSettings

# A producer that is not ours may write anything.
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
# As far as Kafka's own numbers go, of 31 and 63 bits.
_ADDRESS = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")


class Address(NamedTuple):
    """Position of a dead letter in its topic; it never changes."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class DeadLetter(NamedTuple):
    """A dead letter; `key`, `value` and `headers` are those of the original record."""

    address: Address
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    origin: DeadLetterOrigin


class Selection(NamedTuple):
    """Filter of dead letters; all given conditions must hold."""

    reason: str | None = None
    model: str | None = None
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    addresses: frozenset[Address] = frozenset()

    def holds(self, letter: DeadLetter) -> bool:
        """Tell whether `letter` is selected; `since` is inclusive, `until` exclusive."""
        origin = letter.origin
        return (
            (self.reason is None or origin.reason == self.reason)
            and (self.model is None or origin.model == self.model)
            and (self.stage is None or origin.stage == self.stage)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (not self.addresses or letter.address in self.addresses)
        )


def parse_address(text: str) -> Address:
    """Parse `PARTITION:OFFSET`.

    Raises:
        ValueError: The text is not an address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a dead letter: write PARTITION:OFFSET, such as 0:17, as `inflight dlq list` prints it"
        )
    return Address(int(match[1]), int(match[2]))


def select(settings: KernelSettings, selection: Selection | None = None) -> Iterator[DeadLetter]:
    """Iterate over the selected dead letters, in the order of each partition.

    Records without an origin in their headers are skipped.

    Raises:
        TimeoutError: The broker stopped responding.
    """
    selection = selection or Selection()
    for message in read_to_end(settings, DEAD_LETTERS):
        letter = letter_of(message)
        if letter is not None and selection.holds(letter):
            yield letter


def letter_of(message: Message) -> DeadLetter | None:
    """Return the dead letter in a record of their topic; None if its headers hold no origin."""
    headers = headers_of(message)
    try:
        origin = read_origin(headers)
    except ValueError:
        return None
    _, timestamp_ms = message.timestamp()
    return DeadLetter(
        Address(message.partition(), message.offset()),
        datetime_of_milliseconds(timestamp_ms) or _UNKNOWN_TIME,
        message.key(),
        message.value(),
        without_origin(headers),
        origin,
    )


def newest(settings: KernelSettings, selection: Selection, limit: int) -> tuple[list[DeadLetter], int]:
    """Return the newest selected dead letters, oldest first and at most `limit`, and the number of selected ones.

    Raises:
        TimeoutError: The broker stopped responding.
    """
    count = 0

    def counted() -> Iterator[DeadLetter]:
        nonlocal count
        for letter in select(settings, selection):
            count += 1
            yield letter

    letters = heapq.nlargest(limit, counted(), key=lambda letter: (letter.at, letter.address))
    return letters[::-1], count


def find(settings: KernelSettings, address: Address) -> DeadLetter:
    """Return the dead letter at `address`.

    Raises:
        LookupError: There is none.
    """
    for letter in select(settings, Selection(addresses=frozenset([address]))):
        return letter
    raise LookupError(f"no dead letter at {address}: `inflight dlq list` prints all")
