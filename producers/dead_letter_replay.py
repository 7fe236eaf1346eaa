"""Looking at dead letters and publishing them again as they were."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from msgspec import Struct

from machine_learning_engineering.dead_letters.reader import DeadLetter
from machine_learning_engineering.events.topics import DEAD_LETTERS, TOPICS
from machine_learning_engineering.kafka.client import end_offsets, topic_name
from producers.client import connect, disconnect
from producers.interruption import StopSignal
from producers.journal import Place, open_journal
from producers.publisher import Errors, Outcome, Publisher
from producers.settings import ProducerSettings

_CHUNK = 500


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


def replay(
    settings: ProducerSettings,
    letters: Iterable[DeadLetter],
    *,
    again: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
    on_letter: Callable[[DeadLetter, str], None] | None = None,
    interruption: StopSignal | None = None,
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
    interruption = interruption or StopSignal()
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
