"""Looking at dead letters and publishing them again as they were."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from machine_learning_engineering.settings import Settings
from machine_learning_engineering.stream.headers import DeadLetterOrigin, headers_of, read_origin, without_origin
from machine_learning_engineering.stream.kafka import end_offsets, read_to_end, topic_name
from machine_learning_engineering.stream.topics import DEAD_LETTERS, TOPICS
from producers.client import connect, disconnect
from producers.interruption import Interruption
from producers.journal import Place, open_journal
from producers.publisher import Errors, Outcome, Publisher

_ADDRESS = re.compile(r"(\d+):(\d+)")
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CHUNK = 500


class Address(NamedTuple):
    """Where a dead letter is on the topic of dead letters: it never changes."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class DeadLetter(NamedTuple):
    """A record that was set aside: `key`, `value` and `headers` are those of the original record."""

    address: Address
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    origin: DeadLetterOrigin


class Selection(NamedTuple):
    """Which dead letters are meant: those that meet everything that is given."""

    reason: str | None = None
    model: str | None = None
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    addresses: frozenset[Address] = frozenset()

    def holds(self, letter: DeadLetter) -> bool:
        """True if `letter` is meant; `since` is inclusive, `until` is not."""
        origin = letter.origin
        return (
            (self.reason is None or origin.reason == self.reason)
            and (self.model is None or origin.model == self.model)
            and (self.stage is None or origin.stage == self.stage)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (not self.addresses or letter.address in self.addresses)
        )


class DeadLetterReport(Struct, frozen=True, kw_only=True):
    """What became of the dead letters that were selected.

    `already` were replayed before and are left alone; `foreign` name a source topic that is not one of this deployment.
    """

    accepted: int = 0
    failed: int = 0
    indeterminate: int = 0
    already: int = 0
    foreign: int = 0
    interrupted: bool = False
    errors: dict[str, Errors] = {}


def parse_address(text: str) -> Address:
    """The address in `PARTITION:OFFSET`.

    Raises:
        ValueError: the text is no address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no dead letter: write PARTITION:OFFSET, such as 0:17, as `inflight dlq list` shows it"
        )
    return Address(int(match[1]), int(match[2]))


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A moment from RFC 3339 (`2026-01-31T12:00:00Z`; local without an offset) or an age (`90s`, `15m`, `2h`, `1d`).

    Raises:
        ValueError: the text is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 15m, 2h, 1d or 2026-01-31T12:00:00Z") from None


def select(settings: Settings, selection: Selection | None = None) -> Iterator[DeadLetter]:
    """The dead letters that are meant, in the order of each partition.

    Records on the topic without our headers are passed over.

    Raises:
        TimeoutError: the broker stopped answering.
    """
    selection = selection or Selection()
    for message in read_to_end(settings, DEAD_LETTERS):
        headers = headers_of(message)
        try:
            origin = read_origin(headers)
        except ValueError:
            continue
        _, timestamp_ms = message.timestamp()
        letter = DeadLetter(
            Address(message.partition(), message.offset()),
            datetime.fromtimestamp(timestamp_ms / 1000, UTC),
            message.key(),
            message.value(),
            without_origin(headers),
            origin,
        )
        if selection.holds(letter):
            yield letter


def find(settings: Settings, address: Address) -> DeadLetter:
    """The dead letter at `address`.

    Raises:
        LookupError: there is none.
    """
    for letter in select(settings, Selection(addresses=frozenset([address]))):
        return letter
    raise LookupError(f"no dead letter at {address}: `inflight dlq list` shows what there is")


def replay(
    settings: Settings,
    letters: Iterable[DeadLetter],
    *,
    again: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
    on_letter: Callable[[DeadLetter, str], None] | None = None,
    interruption: Interruption | None = None,
) -> DeadLetterReport:
    """Publish each letter's original bytes, key and headers to the topic and partition that it came from.

    A journal under the settings' home keeps what was replayed, so that no letter is replayed twice from this machine,
    unless `again`. It is written after the broker's acknowledgement: a crash in between may repeat up to 500 letters,
    which their unchanged ids make harmless.

    Args:
        dry_run: publish nothing; `accepted` counts what would be published.
        limit: replay at most so many; letters that are left alone don't count.
        on_letter: called with each letter and what became of it: an outcome, "already", "foreign" or "would replay".

    Raises:
        JournalInUse: another replay is running on this machine.
        kafka.errors.KafkaTimeoutError: no broker answers.
    """
    interruption = interruption or Interruption()
    tell = on_letter or (lambda letter, outcome: None)
    topics = {topic_name(settings, topic.name): topic.name for topic in TOPICS if topic.name != DEAD_LETTERS}
    partitions: dict[str, int] = {}
    already = foreign = 0
    done: list[Place] = []
    place = _placer(topic_name(settings, DEAD_LETTERS))

    def settled(letter: DeadLetter, outcome: Outcome, _error: BaseException | None) -> None:
        if outcome == "accepted":
            done.append(place(letter))
        tell(letter, outcome)

    with open_journal(settings.home / "dead-letters-replayed.jsonl") as journal:

        def wanted() -> Iterator[DeadLetter]:
            nonlocal already, foreign
            for letter in letters:
                if interruption.requested:
                    return
                if letter.origin.topic not in topics:
                    foreign += 1
                    tell(letter, "foreign")
                elif not again and place(letter) in journal:
                    already += 1
                    tell(letter, "already")
                else:
                    yield letter

        chosen = islice(wanted(), limit)
        if dry_run:
            count = 0
            for letter in chosen:
                count += 1
                tell(letter, "would replay")
            return DeadLetterReport(
                accepted=count, interrupted=interruption.requested, already=already, foreign=foreign
            )

        publisher = Publisher(
            partial(connect, settings),
            disconnect=disconnect,
            settled=settled,
            timeout=settings.producer_delivery_timeout,
        )
        with publisher:
            try:
                for letter in chosen:
                    source = letter.origin.topic
                    if source not in partitions:
                        partitions[source] = len(end_offsets(settings, topics[source]))
                    publisher.publish(
                        source,
                        key=letter.key,
                        value=letter.value,
                        headers=letter.headers or None,
                        partition=letter.origin.partition if letter.origin.partition < partitions[source] else None,
                        label=letter,
                    )
                    if len(done) >= _CHUNK:
                        journal.add(done)
                        done.clear()
                publisher.drain()
            except KeyboardInterrupt:
                publisher.give_up()
            except Exception:
                publisher.drain()
                raise
            finally:
                journal.add(done)
        return DeadLetterReport(
            accepted=publisher.accepted,
            failed=publisher.failed,
            indeterminate=publisher.indeterminate,
            interrupted=interruption.requested,
            errors=publisher.errors,
            already=already,
            foreign=foreign,
        )


def _placer(topic: str) -> Callable[[DeadLetter], Place]:
    return lambda letter: (
        topic,
        letter.address.partition,
        letter.address.offset,
        round(letter.at.timestamp() * 1000),
    )
