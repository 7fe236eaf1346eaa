"""Publishes dead letters again, unchanged, to the topics they came from; never to a topic of others.

A record of an existing topic goes to the topic of requests, with a header that names its place: a worker reads it as
one of that topic. So others see nothing of a replay but its result.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from itertools import islice

from confluent_kafka import KafkaException, Producer
from msgspec import Struct

from machine_learning_engineering.dead_letters.reader import DeadLetter
from machine_learning_engineering.events.schemas import SourcePosition
from machine_learning_engineering.events.sources import source_header
from machine_learning_engineering.events.topics import DEAD_LETTERS, REQUESTS, TOPICS
from machine_learning_engineering.kafka.client import end_offsets, producer_options, send, topic_name
from producers.client import connect, disconnect
from producers.journal import Position, open_journal
from producers.publisher import Errors, Outcome, Publisher
from producers.settings import ProducerSettings
from producers.stop_signal import StopSignal

_CHUNK = 500


class DeadLetterReport(Struct, frozen=True, kw_only=True):
    """The outcomes of the selected dead letters.

    `already_replayed` were replayed before and skipped. `unknown_topic` name a source topic that this deployment does
    not have. `truncated` hold only a part of their record, which is not published as if it were the whole.
    """

    accepted: int = 0
    failed: int = 0
    indeterminate: int = 0
    already_replayed: int = 0
    unknown_topic: int = 0
    truncated: int = 0
    interrupted: bool = False
    errors: dict[str, Errors] = {}


def replay(
    settings: ProducerSettings,
    letters: Iterable[DeadLetter],
    *,
    again: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
    on_result: Callable[[DeadLetter, str], None] | None = None,
    stop_signal: StopSignal | None = None,
    sources: Collection[str] = (),
) -> DeadLetterReport:
    """Publish each letter's original bytes, key and headers to the topic and partition that it came from.

    Those of a record of one of the `sources` go to the topic of requests.

    A journal in the settings' home records replayed letters, so that this machine replays none twice unless `again` is
    set. It is written after the broker's acknowledgement: a crash in between may repeat up to 500 letters, which is
    harmless because their request ids are unchanged.

    Args:
        dry_run: publish nothing; `accepted` counts the letters that would be published.
        limit: replay at most this many; skipped letters do not count.
        on_result: called with each letter and its result: an outcome, "already_replayed", "unknown_topic", "truncated"
            or "would replay".
        sources: full names of existing topics that workers read.

    Raises:
        JournalInUse: another replay is running on this machine.
        kafka.errors.KafkaTimeoutError: no broker is reachable.
    """
    stop_signal = stop_signal or StopSignal()
    report = on_result or (lambda letter, outcome: None)
    topics = {topic_name(settings, topic.name): topic.name for topic in TOPICS if topic.name != DEAD_LETTERS}
    partitions: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    done: list[Position] = []
    dead_letter_topic = topic_name(settings, DEAD_LETTERS)

    def on_delivery(letter: DeadLetter, outcome: Outcome, _error: BaseException | None) -> None:
        if outcome == "accepted":
            done.append(_position(dead_letter_topic, letter))
        report(letter, outcome)

    def skip(letter: DeadLetter, reason: str) -> None:
        skipped[reason] += 1
        report(letter, reason)

    with open_journal(settings.home / "dead-letters-replayed.jsonl") as journal:

        def to_replay() -> Iterator[DeadLetter]:
            for letter in letters:
                if stop_signal.requested:
                    return
                if _destination(settings, letter, topics, sources) is None:
                    skip(letter, "unknown_topic")
                elif letter.origin.truncated is not None:
                    skip(letter, "truncated")
                elif not again and _position(dead_letter_topic, letter) in journal:
                    skip(letter, "already_replayed")
                else:
                    yield letter

        chosen = islice(to_replay(), limit)
        if dry_run:
            count = 0
            for letter in chosen:
                count += 1
                report(letter, "would replay")
            return DeadLetterReport(
                accepted=count,
                interrupted=stop_signal.requested,
                already_replayed=skipped["already_replayed"],
                unknown_topic=skipped["unknown_topic"],
                truncated=skipped["truncated"],
            )

        publisher = Publisher(
            partial(connect, settings),
            disconnect=disconnect,
            on_delivery=on_delivery,
            timeout=settings.producer_delivery_timeout,
        )
        with publisher:
            try:
                for letter in chosen:
                    to = _destination(settings, letter, topics, sources) or ""
                    if to not in partitions:
                        partitions[to] = len(end_offsets(settings, topics[to]))
                    partition = letter.origin.partition if letter.origin.partition < partitions[to] else None
                    if to != letter.origin.topic:
                        letter = _of_source(letter)
                        # The same modulo as that of outputs, so that the results of a partition stay together.
                        partition = letter.origin.partition % partitions[to]
                    headers = [(name, value) for name, value in letter.headers if value is not None]
                    if len(headers) < len(letter.headers):
                        outcome = _publish_with_null_headers(settings, letter, to, partition)
                        alone[outcome] += 1
                        on_delivery(letter, outcome, None)
                    else:
                        publisher.publish(
                            to,
                            key=letter.key,
                            value=letter.value,
                            headers=headers or None,
                            partition=partition,
                            label=letter,
                        )
                    if len(done) >= _CHUNK:
                        journal.add(done)
                        done.clear()
                publisher.flush()
            except KeyboardInterrupt:
                publisher.abandon()
            except Exception:
                publisher.flush()
                raise
            finally:
                journal.add(done)
        return DeadLetterReport(
            accepted=publisher.accepted + alone["accepted"],
            failed=publisher.failed + alone["failed"],
            indeterminate=publisher.indeterminate + alone["indeterminate"],
            interrupted=stop_signal.requested,
            errors=publisher.errors,
            already_replayed=skipped["already_replayed"],
            unknown_topic=skipped["unknown_topic"],
            truncated=skipped["truncated"],
        )


def _destination(
    settings: ProducerSettings, letter: DeadLetter, ours: Collection[str], sources: Collection[str]
) -> str | None:
    """The topic to publish a letter to: its own, or that of requests for one of a source; None if it is of neither."""
    if letter.origin.topic in ours:
        return letter.origin.topic
    return topic_name(settings, REQUESTS) if letter.origin.topic in sources else None


def _of_source(letter: DeadLetter) -> DeadLetter:
    origin = letter.origin
    place = SourcePosition(origin.topic, origin.partition, origin.offset)
    return letter._replace(headers=[*letter.headers, source_header(place)])


def _publish_with_null_headers(
    settings: ProducerSettings, letter: DeadLetter, topic: str, partition: int | None
) -> Outcome:
    """Publish one letter and wait for its outcome. Not with kafka-python, which takes no header without a value."""
    producer = Producer(producer_options(settings))
    options = {"headers": letter.headers} | ({} if partition is None else {"partition": partition})
    try:
        send(producer, topic, letter.value, letter.key, settings.producer_delivery_timeout, **options)
    except TimeoutError:
        return "indeterminate"
    except KafkaException:
        return "failed"
    return "accepted"


def _position(topic: str, letter: DeadLetter) -> Position:
    return topic, letter.address.partition, letter.address.offset, round(letter.at.timestamp() * 1000)
