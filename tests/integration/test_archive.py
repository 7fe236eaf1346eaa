"""The archive as a process, under kill -9 and outages of its database: every record is there, once."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from msgspec import Raw
from sqlalchemy import text

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import ApiCalled, LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import API_CALLS, LABELS, LOGS
from machine_learning_engineering.kafka.client import consumer_options, producer_options, topic_name
from monitoring.archive.database import Database
from monitoring.archive.metrics import RESULTS
from monitoring.archive.tables import AGES
from monitoring.exporter.lag import LagReader
from monitoring.runtime.groups import ARCHIVE, READS
from tests.support.postgres import PostgresNode
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

NOW = datetime.now(UTC).replace(microsecond=0)
SECONDS = 300.0


def logged(number: int, at: datetime = NOW) -> bytes:
    features = Raw(json.dumps({"carat": 0.2 + number / 1_000, "cut": "Ideal"}).encode())
    prediction = Raw(b'{"price":%d}' % number)
    event = PredictionLogged(
        *(f"r-{number}", "diamonds", "completed", features, at, at, at, 0.0, 0.1, 0.2, 1, 0, number, "v1", prediction)
    )
    return encode(event)


def label(number: int) -> bytes:
    return encode(LabelReported(f"r-{number}", "diamonds", Raw(str(number).encode()), NOW))


def call(number: int) -> bytes:
    event = ApiCalled(
        call_id=f"c-{number}",
        method="POST",
        route="/v1/{model}/{prediction}",
        status=200,
        started_at=NOW,
        seconds=0.01,
        request_bytes=10,
        response_bytes=10,
        request_id=f"r-{number}",
        request_body=Raw(b'{"carat":1}'),
    )
    return encode(event)


def publish(settings: Settings, topic: str, records: list[bytes]) -> None:
    producer = Producer(producer_options(settings))
    for record in records:
        producer.produce(topic_name(settings, topic), record)
    assert producer.flush(60) == 0


def publish_all(settings: Settings, numbers: range) -> None:
    for topic, record in ((LABELS, label), (LOGS, logged), (API_CALLS, call)):
        publish(settings, topic, [record(number) for number in numbers])


class Archive:
    """Processes of one group on one database."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings, self._url = settings, url
        self._processes: list[Supervised] = []
        self._lag = LagReader(settings, timeout=20.0)

    def start(self, **environment: object) -> Supervised:
        variables = {
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": self._settings.kafka_bootstrap_servers,
            "INFLIGHT_TOPIC_PREFIX": self._settings.topic_prefix,
            "INFLIGHT_KAFKA_SESSION_TIMEOUT": "6",
            "INFLIGHT_HOME": str(self._settings.home.absolute()),
            "INFLIGHT_ARCHIVE_URL": self._url,
            "INFLIGHT_ARCHIVE_BATCH_RECORDS": "100",
        }
        variables |= {f"INFLIGHT_{name.upper()}": str(value) for name, value in environment.items()}
        folder = self._settings.home / "processes"
        process = Supervised(f"archive-{len(self._processes)}", "archive", folder, variables)
        self._processes.append(process)
        process.launch()
        return process

    def close(self) -> None:
        self.kill()
        del self._lag

    def kill(self) -> None:
        for process in self._processes:
            process.kill()

    def rewind(self) -> None:
        """Let the next process read everything again, once the group is empty."""
        consumer = Consumer(consumer_options(self._settings, ARCHIVE))
        topics = consumer.list_topics(timeout=60).topics
        names = [topic_name(self._settings, topic) for topic in READS[ARCHIVE]]
        first = [TopicPartition(name, partition, 0) for name in names for partition in topics[name].partitions]

        def committed() -> bool:
            try:
                consumer.commit(offsets=first, asynchronous=False)
            except KafkaException:
                return False
            return True

        until(committed, SECONDS, "the group is empty")
        consumer.close()

    def behind(self) -> int:
        lag = self._lag.read()
        return sum(lag[ARCHIVE, topic] for topic in READS[ARCHIVE])

    def caught_up(self) -> None:
        until(lambda: self.behind() == 0, SECONDS, "the archive has committed everything")

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        database = Database(self._url)
        try:
            with database.reading() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        finally:
            database.close()

    def everything(self) -> list[list[tuple[Any, ...]]]:
        """All rows of all tables."""
        return [self.ask(f"SELECT * FROM {name} ORDER BY 1") for name in AGES]

    def holds(self, count: int) -> None:
        """Check that the tables hold exactly the records with these numbers."""
        ids = {f"r-{number}" for number in range(count)}
        found = self.ask("SELECT request_id, CAST(prediction AS TEXT), label_text FROM labelled_predictions")
        assert {one[0] for one in found} == ids
        for request_id, prediction, value in found:
            number = request_id.removeprefix("r-")
            assert (json.loads(prediction)["price"], value) == (int(number), number)
        for table in ("predictions", "labels", "api_calls"):
            assert self.ask(f"SELECT COUNT(*), COUNT(DISTINCT request_id) FROM {table}") == [(count, count)]


@pytest.fixture
def archive(settings: Settings, archive_url: str) -> Iterator[Archive]:
    found = Archive(settings, archive_url)
    yield found
    found.close()


@pytest.fixture
def on_postgres(settings: Settings, new_archive: Callable[[str], str]) -> Iterator[Archive]:
    found = Archive(settings, new_archive("postgresql"))
    yield found
    found.close()


def test_every_record_is_archived_once_through_kills(archive: Archive, settings: Settings) -> None:
    """kill -9 three times, each in the middle; records that are none; at the end everything is read again."""
    publish(settings, LOGS, [b"no log", b""])
    process = archive.start()
    for part in range(3):
        publish_all(settings, range(1_000 * part, 1_000 * (part + 1)))
        waiting = 3_000
        until(lambda waiting=waiting: archive.behind() < waiting, SECONDS, "it is in the middle")  # type: ignore[misc]
        process.kill()
        process = archive.start()
    archive.caught_up()
    archive.holds(3_000)
    before = archive.everything()
    process.stop()
    archive.rewind()
    assert archive.behind() >= 9_000
    process = archive.start()
    archive.caught_up()
    assert archive.everything() == before
    for topic in READS[ARCHIVE]:
        results = {
            result: process.metric("inflight_archive_records_total", topic=topic, result=result) for result in RESULTS
        }
        assert results["repeated"] == 3_000, results
        assert results["written"] == results["refused"] == 0, results
    process.stop()
    assert "error" not in process.log_tail().lower()


def test_postgres_killed_and_restarted(on_postgres: Archive, settings: Settings, postgres: PostgresNode) -> None:
    """kill -9 of the server and its orderly restart, each while records are written: nothing is lost, nothing twice."""
    process = on_postgres.start()
    count = 0
    for hard in (True, False):
        publish_all(settings, range(count, count + 1_500))
        until(lambda: on_postgres.behind() < 4_500, SECONDS, "records are written")
        postgres.kill() if hard else postgres.stop()
        publish_all(settings, range(count + 1_500, count + 2_000))
        count += 2_000
        until(lambda: process.metric("inflight_archive_database_available") == 0, SECONDS, "it sees the outage")
        retries = process.metric("inflight_archive_retries_total")
        until(lambda seen=retries: process.metric("inflight_archive_retries_total") > seen, SECONDS, "it tries again")  # type: ignore[misc]
        assert on_postgres.behind() >= 1_500
        down = time.monotonic()
        postgres.start()
        on_postgres.caught_up()
        figures(hard=hard, caught_up=f"{time.monotonic() - down:.1f} s")
        on_postgres.holds(count)
    assert process.metric("inflight_archive_database_available") == 1
    assert process.is_alive()
    log = process.log_path.read_text()
    assert "carat" not in log
    assert "a-pass" not in log


def test_a_server_that_hangs_is_given_up_and_holds_nobody(
    on_postgres: Archive, settings: Settings, postgres: PostgresNode
) -> None:
    """It keeps its connections and says nothing: the archive tries again, and ends on SIGTERM at once."""
    process = on_postgres.start(archive_timeout=3)
    publish_all(settings, range(100))
    on_postgres.caught_up()
    postgres.pause()
    try:
        publish_all(settings, range(100, 300))
        until(lambda: process.metric("inflight_archive_retries_total") >= 1, SECONDS, "it gives up waiting")
        assert on_postgres.behind() >= 600
        started = time.monotonic()
        process.stop(60)
        assert time.monotonic() - started < 30
        log = process.log_path.read_text()
        assert "stopped" in log
    finally:
        postgres.go_on()
    on_postgres.start()
    on_postgres.caught_up()
    on_postgres.holds(300)


def test_two_archives_share_the_work_and_one_takes_over(on_postgres: Archive, settings: Settings) -> None:
    first, second = on_postgres.start(), on_postgres.start()
    publish_all(settings, range(2_000))
    until(lambda: on_postgres.behind() < 5_000, SECONDS, "records are written")
    first.kill()
    publish_all(settings, range(2_000, 2_500))
    on_postgres.caught_up()
    on_postgres.holds(2_500)
    assert second.is_alive()


def test_old_rows_are_deleted_and_not_written(archive: Archive, settings: Settings) -> None:
    """By the age of the request: rows of before the setting, and records that are reread later."""
    old = NOW - timedelta(days=40)
    publish(
        settings, LOGS, [logged(number, old) for number in range(20)] + [logged(number) for number in range(20, 30)]
    )
    archive.start(archive_retention_days=0)
    archive.caught_up()
    assert archive.ask("SELECT COUNT(*) FROM predictions") == [(30,)]
    archive.kill()
    process = archive.start(archive_retention_days=30)
    deleted = "inflight_archive_deleted_rows_total"
    until(lambda: process.metric(deleted, table="predictions") == 20, SECONDS, "old rows are deleted")
    publish(settings, LOGS, [logged(number, old) for number in range(20)])
    archive.caught_up()
    assert process.metric("inflight_archive_records_total", topic=LOGS, result="expired") == 20
    assert archive.ask("SELECT COUNT(*) FROM predictions") == [(10,)]


def test_a_wrong_address_ends_it_with_one_line(settings: Settings) -> None:
    archive = Archive(settings, "mysql://u:hidden@db/x")
    process = archive.start()
    try:
        until(lambda: not process.is_alive(), 120, "it has ended")
        log = process.log_path.read_text()
        assert "INFLIGHT_ARCHIVE_URL must be postgresql://" in log
        assert "Traceback" not in log
        assert "hidden" not in log
    finally:
        archive.close()
