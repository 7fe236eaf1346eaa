"""How fast a case works off a backlog, read from the topic of results and not from what the case says of itself."""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.cases.catalog import Case
from benchmarks.deployment import Deployment, EvaluationError, forget_group
from benchmarks.subject import Subject, running
from machine_learning_engineering.events.schemas import PredictionCompleted, decode_result
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import client_options, consumer_options, topic_name
from model.diamonds.features import DiamondPrediction
from stream_app.faust_adapter.app import GROUP

WARM_UP = 0.1
"""The share of the answers that comes before the clock starts: fetching, batching and caches get going."""
SLOW_SECONDS = 30.0
"""A case that is not done so long after its first answer is measured on what it has answered until then."""
START_SECONDS = 60.0
STALLED_SECONDS = 20.0
POLL_SECONDS = 0.05


class Answer(NamedTuple):
    """A record of the topic of results; `milliseconds` is the broker's clock, `price` is None for a failure."""

    key: bytes
    milliseconds: int
    price: float | None


class Run(msgspec.Struct, frozen=True):
    """One case, once. Rates are a second, sizes in bytes.

    Attributes:
        answered: distinct requests with an answer.
        repeats: further answers to the same requests.
        differing: requests whose price is not what the model gives.
        cut_off: the case was stopped before it was done, since it is slow.
        cpu_seconds_per_record: processor time from the first answers to the last, start-up left out.
    """

    case: str
    round: int
    requests: int
    answered: int
    repeats: int
    differing: int
    cut_off: bool
    rate: float
    cpu_seconds_per_record: float
    peak_rss_bytes: int
    rss_bytes: int

    @property
    def lost(self) -> int:
        """Requests without an answer, where there was time for one."""
        return 0 if self.cut_off else self.requests - self.answered

    @property
    def wrong(self) -> bool:
        """Whether answers are missing or differ."""
        return self.differing > 0 or self.lost > 0


def measure(name: str, case: Case, number: int, deployment: Deployment, expected: Mapping[bytes, float]) -> Run:
    """Run a case over the whole backlog from a fresh consumer group.

    Raises:
        EvaluationError: the case does not start, or ends by itself.
    """
    settings = deployment.settings
    # The name that the worker has anyway, for all cases; it is forgotten after each.
    group = topic_name(settings, GROUP)
    admin = AdminClient(client_options(settings))
    topic = topic_name(settings, RESULTS)
    partitions = range(settings.topic_partitions)
    begin = _ends(admin, topic, partitions)
    with running(case, deployment, group) as subject:
        usage = _watch(subject, admin, topic, begin, len(expected))
    forget_group(settings, group)
    answers = list(_read(deployment, topic, begin, _ends(admin, topic, partitions)))
    first = {answer.key: answer for answer in reversed(answers)}
    return Run(
        case=name,
        round=number,
        requests=len(expected),
        answered=len(first),
        repeats=len(answers) - len(first),
        differing=sum(expected.get(key) != answer.price for key, answer in first.items()),
        cut_off=usage.cut_off,
        rate=rate([answer.milliseconds for answer in first.values()]),
        cpu_seconds_per_record=usage.cpu_seconds_per_record,
        peak_rss_bytes=usage.peak_rss_bytes,
        rss_bytes=usage.rss_bytes,
    )


def rate(milliseconds: Iterable[int], warm_up: float = WARM_UP) -> float:
    """Answers a second from the end of the warm-up to the last answer, by the times of the answers.

    Answers with the time at which the warm-up ends do not count: a broker stamps whole batches.
    """
    times = sorted(milliseconds)
    if not times:
        return 0.0
    start = times[min(len(times) - 1, int(len(times) * warm_up))]
    seconds = (times[-1] - start) / 1000
    return sum(time > start for time in times) / seconds if seconds else 0.0


class _Usage(NamedTuple):
    cut_off: bool
    cpu_seconds_per_record: float
    peak_rss_bytes: int
    rss_bytes: int


def _watch(subject: Subject, admin: AdminClient, topic: str, begin: Sequence[int], wanted: int) -> _Usage:
    """Wait until the case has answered all, or long enough."""
    started = moved = time.monotonic()
    first: tuple[float, int, float] | None = None
    count = before = 0
    while True:
        time.sleep(POLL_SECONDS)
        subject.check()
        now = time.monotonic()
        count = sum(_ends(admin, topic, range(len(begin)))) - sum(begin)
        cpu = subject.cpu_seconds()
        if count > before:
            moved, before = now, count
            first = first or (now, count, cpu)
        cut_off = first is not None and now - first[0] > SLOW_SECONDS
        if count >= wanted or cut_off or now - moved > (START_SECONDS if first is None else STALLED_SECONDS):
            break
    if first is None:
        raise EvaluationError(f"no answer within {now - started:.0f} s of the start")
    return _Usage(
        cut_off=cut_off and count < wanted,
        cpu_seconds_per_record=(cpu - first[2]) / max(1, count - first[1]),
        peak_rss_bytes=subject.peak_rss_bytes(),
        rss_bytes=subject.rss_bytes(),
    )


def _ends(admin: AdminClient, topic: str, partitions: Iterable[int]) -> list[int]:
    """The next offset of each partition."""
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    found = {tp.partition: future.result().offset for tp, future in admin.list_offsets(asked).items()}
    return [found[partition] for partition in sorted(found)]


def _read(deployment: Deployment, topic: str, begin: Sequence[int], end: Sequence[int]) -> Iterable[Answer]:
    """The answers between two offsets of each partition."""
    consumer = Consumer(consumer_options(deployment.settings, f"bench-reader-{time.time_ns()}"))
    price = msgspec.json.Decoder(DiamondPrediction).decode
    missing = sum(end) - sum(begin)
    consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in enumerate(begin)])
    try:
        while missing > 0:
            messages = consumer.consume(min(missing, 10_000), 30.0 if missing < 10_000 else 1.0)
            for message in messages:
                if message.error() is not None:
                    raise KafkaException(message.error())
                result = decode_result(message.value())
                given = price(result.prediction).price if isinstance(result, PredictionCompleted) else None
                yield Answer(result.request_id.encode(), message.timestamp()[1], given)
            missing -= len(messages)
    finally:
        consumer.close()


def ratios(runs: Sequence[Run], reference: str) -> dict[str, list[float]]:
    """For each case its rate over that of the reference in the same round, for the rounds that have both."""
    by_round = itertools.groupby(sorted(runs, key=lambda run: run.round), key=lambda run: run.round)
    found: dict[str, list[float]] = {}
    for _, group in by_round:
        rates = {run.case: run.rate for run in group}
        if rates.get(reference):
            for name, of_case in rates.items():
                found.setdefault(name, []).append(of_case / rates[reference])
    return found
