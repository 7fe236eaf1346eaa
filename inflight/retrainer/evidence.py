"""What the stream tells of the champions: drift of their requests, live quality, and how many labels there are.

It is read by assignment, without a group: nothing is committed, and any number of processes may read. The newest
records of a model count; of labels, only the number and their times are kept.
"""

import bisect
from array import array
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException

from inflight.stack.probes import anything_listens
from machine_learning_engineering.core.timestamps import datetime_of_milliseconds
from machine_learning_engineering.events.labels import InvalidLabel, LabelTooLarge, read_label
from machine_learning_engineering.events.schemas import DriftMeasured, QualityMeasured, decode_measurement
from machine_learning_engineering.events.topics import LABELS, MEASUREMENTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.retraining.triggers import DriftSeen, QualitySeen
from machine_learning_engineering.settings import KernelSettings

RECENT = timedelta(days=2)
"""Measurements that are older say nothing of now."""
TIMEOUT = 15.0
"""Seconds without a record after which the broker counts as unreachable."""
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError)


class Champion(NamedTuple):
    """A champion, and when it was trained."""

    version: str
    trained_at: datetime
    primary_metric: str


class Seen(NamedTuple):
    """What is known of a champion."""

    drift: DriftSeen | None = None
    quality: QualitySeen | None = None
    labels: int = 0
    labels_in_drift: int = 0


class EvidenceUnavailable(RuntimeError):
    """The stream can't be read. The message says why."""


class StreamEvidence:
    """Reads what is new with each call.

    Args:
        settings: Connection and topic prefix.
        timeout: In seconds, see `TIMEOUT`.
    """

    def __init__(self, settings: KernelSettings, timeout: float = TIMEOUT) -> None:
        self._settings = settings
        self._timeout = timeout
        self._windows: dict[tuple[str, str], dict[str, DriftMeasured]] = {}
        self._quality: dict[tuple[str, str], QualityMeasured] = {}
        self._labels: dict[str, _Labels] = {}
        self._read_until: dict[str, datetime] = {}

    def read(self, champions: Mapping[str, Champion], now: datetime) -> dict[str, Seen]:
        """What is known of each champion at `now`.

        Raises:
            EvidenceUnavailable: The broker is unreachable or denies access.
        """
        servers = self._settings.kafka_bootstrap_servers
        if not anything_listens(servers):
            raise EvidenceUnavailable(f"no response from Kafka at {servers} (nothing listens there)")
        try:
            for record in self._new(MEASUREMENTS, now - RECENT):
                self._measured(record)
            oldest = min((one.trained_at for one in champions.values()), default=now)
            if any(name not in self._labels for name in champions):
                # Of a model that is new here, none was kept.
                self._read_until.pop(LABELS, None)
            for name in champions:
                self._labels.setdefault(name, _Labels())
            for record in self._new(LABELS, oldest):
                self._labelled(record)
        except (KafkaException, TimeoutError) as error:
            cause = error.args[0] if error.args else error
            text = cause.str() if hasattr(cause, "str") else str(error)
            raise EvidenceUnavailable(
                f"no response from Kafka at {self._settings.kafka_bootstrap_servers} ({text})"
            ) from error
        return {name: self._seen(name, champion, now) for name, champion in champions.items()}

    def _new(self, topic: str, oldest: datetime) -> Iterator[Any]:
        """Records since the last call; the last ones once more, since another partition may be behind."""
        since = max(oldest, self._read_until.get(topic, oldest) - timedelta(seconds=5))
        newest = since
        for record in read_to_end(self._settings, topic, self._timeout, since=since):
            at = datetime_of_milliseconds(record.timestamp()[1])
            newest = newest if at is None else max(newest, at)
            yield record
        self._read_until[topic] = newest

    def _measured(self, record: Any) -> None:
        try:
            event = decode_measurement(record.value() or b"")
        except _UNDECODABLE:
            return
        key = event.model, event.model_version
        if isinstance(event, DriftMeasured):
            self._windows.setdefault(key, {})[event.window_id] = event
        elif key not in self._quality or event.measured_at >= self._quality[key].measured_at:
            self._quality[key] = event

    def _labelled(self, record: Any) -> None:
        try:
            event = read_label(record)
        except (LabelTooLarge, InvalidLabel, *_UNDECODABLE):
            return
        if (labels := self._labels.get(event.model)) is not None:
            labels.add(event.request_id, record.timestamp()[1])

    def _seen(self, name: str, champion: Champion, now: datetime) -> Seen:
        key = name, champion.version
        labels = self._labels[name]
        windows = sorted(self._windows.get(key, {}).values(), key=lambda one: one.window_end)
        windows = [one for one in windows if now - one.window_end <= RECENT]
        self._windows[key] = {one.window_id: one for one in windows}
        drift = _drift(windows)
        quality = self._quality.get(key)
        return Seen(
            drift,
            None if quality is None or now - quality.measured_at > RECENT else _quality(quality, champion),
            labels.since(champion.trained_at),
            0 if drift is None else labels.since(drift.since),
        )


class _Labels:
    """Times of the labels of a model, one for each request; in memory 8 bytes each, and as much for the ids."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._times = array("q")

    def add(self, request_id: str, milliseconds: int) -> None:
        identity = int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big")
        if identity not in self._known:
            self._known.add(identity)
            # Nearly in order, since the broker sets them.
            bisect.insort(self._times, milliseconds)

    def since(self, moment: datetime) -> int:
        return len(self._times) - bisect.bisect_left(self._times, int(moment.timestamp() * 1000))


def _drift(windows: list[DriftMeasured]) -> DriftSeen | None:
    """The newest window if it has drifted; older ones as far as all have."""
    last: DriftMeasured | None = None
    since = datetime.max.replace(tzinfo=UTC)
    for window in reversed(windows):
        if not any(field.drifted for field in window.fields):
            break
        last = last or window
        since = min(since, window.window_start)
    if last is None:
        return None
    drifted = sorted((field for field in last.fields if field.drifted), key=lambda one: -one.psi)
    least = min(field.p_adjusted for field in drifted)
    return DriftSeen(
        last.window_id, last.window_start, last.window_end, since, least, tuple(one.field for one in drifted)
    )


def _quality(event: QualityMeasured, champion: Champion) -> QualitySeen | None:
    for metric in event.metrics:
        if metric.name == champion.primary_metric:
            reference = metric.reference if isinstance(metric.reference, float | int) else None
            return QualitySeen(event.window_end, metric.name, metric.value, metric.upper, reference, event.rows)
    return None
