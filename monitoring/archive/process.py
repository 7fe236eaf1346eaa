"""`inflight archive`: logs, labels and calls of the API from their topics into a SQL database.

An offset is committed only after the transaction that holds every record before it. After a kill at any moment, some
records are reread, which changes nothing. While the database is unavailable nothing is committed, and the records wait
on their topics.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

from confluent_kafka import Message
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from machine_learning_engineering.events.unreadable import UnreadableRecord
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.observability.logging import log_event
from monitoring.archive.database import Database, DatabaseUnavailable, describe, reason
from monitoring.archive.metrics import EXPIRED, UNREADABLE, ArchiveMetrics
from monitoring.archive.rows import PROJECTIONS, Row
from monitoring.archive.rows import UNREADABLE as UNREADABLE_ERRORS
from monitoring.archive.store import Store
from monitoring.archive.tables import AGES
from monitoring.runtime.batch_reader import BatchReader, Interrupted
from monitoring.runtime.groups import ARCHIVE, READS
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import ArchiveSettings

PROCESS = "archive"
PRUNE_SECONDS = 600.0
"""Time between two deletions of old rows."""


class Archiver:
    """The loop: a batch of records into the database, and old rows out of it.

    Args:
        settings: of the archive.
        reader: of the records.
        store: takes them.
        metrics: updated.
    """

    def __init__(self, settings: ArchiveSettings, reader: BatchReader, store: Store, metrics: ArchiveMetrics) -> None:
        self._reader = reader
        self._store = store
        self._metrics = metrics
        self._topics = {topic_name(settings, topic): topic for topic in PROJECTIONS}
        self._retention = timedelta(days=settings.archive_retention_days) or None
        self._prune_due = 0.0

    def run(self) -> None:
        """Archive until the process stops. Unfinished records are not committed, and will be reread.

        Raises:
            KafkaException: a permanent error of Kafka.
        """
        self._reader.run(self.step)

    def step(self) -> None:
        """One batch, and old rows if it is time."""
        messages = self._reader.batch()
        try:
            if messages:
                self._archive(messages)
            self._reader.commit(messages)
            if monotonic() >= self._prune_due:
                self._prune()
        except Interrupted:
            log_event(PROCESS, "interrupted", records=len(messages))

    def _archive(self, messages: Sequence[Message]) -> None:
        """Write records; wait until the database takes them."""
        rows, results = self._rows(messages)
        attempt = 0
        while rows:
            try:
                with self._metrics.write.time():
                    results += self._store.write(rows)
                self._metrics.available.set(1)
                break
            except (SQLAlchemyError, OSError) as error:
                self._metrics.available.set(0)
                if attempt == 0:
                    _log_failure(error)
                self._reader.wait(attempt, describe(error), len(rows))
                attempt += 1
        for (topic, result), count in results.items():
            self._metrics.records.labels(topic, result).inc(count)

    def _rows(self, messages: Sequence[Message]) -> tuple[list[Row], "Counter[tuple[str, str]]"]:
        """The rows of records, and the numbers of those that have none. The indexer makes dead letters of these."""
        rows: list[Row] = []
        without: Counter[tuple[str, str]] = Counter()
        oldest = self._oldest()
        for message in messages:
            topic = self._topics[message.topic()]
            try:
                if isinstance(message, UnreadableRecord):
                    raise ValueError(message.explanation)
                row = PROJECTIONS[topic].row(message)._replace(position=f"{message.partition()}:{message.offset()}")
            except UNREADABLE_ERRORS:
                without[topic, UNREADABLE] += 1
                continue
            if row.at < oldest:
                without[topic, EXPIRED] += 1
            else:
                rows.append(row)
        return rows, without

    def _oldest(self) -> datetime:
        """The time before which nothing is kept."""
        now = datetime.now(UTC)
        return datetime.min.replace(tzinfo=UTC) if self._retention is None else now - self._retention

    def _prune(self) -> None:
        """Delete some old rows of each table; the rest in the next steps."""
        if self._retention is None:
            self._prune_due = float("inf")
            return
        try:
            deleted = {table: self._store.prune(table, self._oldest()) for table in AGES}
        except (SQLAlchemyError, OSError) as error:
            # No reason to stop: what is written next waits for the database.
            self._metrics.available.set(0)
            _log_failure(error)
            self._prune_due = monotonic() + PRUNE_SECONDS / 10
            return
        # Also where nothing is written: partitions may have gone to another archive meanwhile.
        self._metrics.available.set(1)
        for table, rows in deleted.items():
            self._metrics.deleted.labels(table).inc(rows)
        if not any(deleted.values()):
            self._prune_due = monotonic() + PRUNE_SECONDS


def run(settings: ArchiveSettings) -> None:
    """Run the archive until SIGTERM or SIGINT.

    Raises:
        ArchiveError: the address of the database is malformed, or a newer release made its tables.
        KafkaException: a permanent error of Kafka.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = ArchiveMetrics(registry)
    database = Database(settings.archive_address, settings.archive_timeout)

    def work(stopping: threading.Event) -> None:
        run_until_ready(PROCESS, lambda: _prepare(settings, database), stopping)
        if stopping.is_set():
            return
        metrics.available.set(1)
        reader = BatchReader(
            settings,
            PROCESS,
            ARCHIVE,
            metrics.consumer,
            metrics.retries,
            stopping,
            max_records=settings.archive_batch_records,
            max_bytes=settings.archive_batch_bytes,
        )
        log_event(PROCESS, "ready")
        Archiver(settings, reader, Store(database), metrics).run()

    try:
        run_process(PROCESS, settings, work, (registry, settings.archive_metrics_port), database=database.shown)
    finally:
        database.close()


def migrate(settings: ArchiveSettings) -> None:
    """Make the tables, or bring those of an older release up to date, and end. It needs no broker.

    Raises:
        ArchiveError: the address of the database is malformed, or a newer release made its tables.
        DatabaseUnavailable: it does not respond, or refuses.
    """
    database = Database(settings.archive_address, settings.archive_timeout)
    try:
        _upgrade(database)
        log_event(PROCESS, "migrated", database=database.shown)
    finally:
        database.close()


def _upgrade(database: Database) -> None:
    try:
        database.upgrade()
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(reason(error) or describe(error)) from error


def _prepare(settings: ArchiveSettings, database: Database) -> None:
    _upgrade(database)
    prepare_topics(PROCESS, settings, reads=READS[ARCHIVE])


def _log_failure(error: Exception) -> None:
    why = reason(error) if isinstance(error, SQLAlchemyError) else str(error)
    log_event(PROCESS, "database_unavailable", cause=describe(error), **({"reason": why} if why else {}))
