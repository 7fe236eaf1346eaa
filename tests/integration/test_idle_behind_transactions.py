"""A whole deployment that idles behind transactions: it stays, lags by nothing, pages nobody, and answers at once."""

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from inflight.settings import Settings
from machine_learning_engineering.events.topics import REQUESTS, RESULTS, TOPICS
from machine_learning_engineering.kafka.client import client_options, read_to_end, topic_name
from monitoring.audit.readers import run_audit
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.programs.streaming import committed
from tests.support.prometheus import Prometheus, observed
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

STALL_SECONDS = 120.0 if FULL else 20.0
"""When the watchdog ends a worker. The full dose has the default."""
IDLE_SECONDS = 600.0 if FULL else 2.5 * STALL_SECONDS
ABORT_SECONDS = 20.0 if FULL else 5.0
"""An aborted transaction now and then, on all topics: what is readable moves, and nobody is handed anything."""
TRANSACTIONS = 200 if FULL else 40
SILENT, ABORTED, OPEN, FREE = range(4)
"""The partitions of requests: behind committed transactions, aborted ones, an open one, and without any."""

Sent = tuple[str, int, str, bytes]
"""Topic, partition, key and value."""


class Transactional:
    """A producer that writes in transactions, with an id of its own."""

    def __init__(self, settings: Settings) -> None:
        options = {"transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 900_000, "linger.ms": 0}
        self._settings = settings
        self._producer = Producer({**client_options(settings), **options})
        self._producer.init_transactions(120)

    def begin(self, records: Iterable[Sent]) -> None:
        """Write in a new transaction; returns when the broker has them."""
        self._producer.begin_transaction()
        for topic, partition, key, value in records:
            self._producer.produce(topic_name(self._settings, topic), value, key, partition=partition)
        assert self._producer.flush(120) == 0

    def commit(self) -> None:
        """End it: the records become visible."""
        self._producer.commit_transaction(120)

    def abort(self) -> None:
        """End it: nobody ever sees the records."""
        self._producer.abort_transaction(120)


class Idle:
    """What is measured while nothing happens."""

    def __init__(self, prometheus: Prometheus, jobs: dict[str, Supervised]) -> None:
        self._prometheus, self._jobs = prometheus, jobs
        self._pids = {name: process.pid for name, process in jobs.items()}
        self._started = time.monotonic()

    def ended(self) -> list[str]:
        """Processes that ended, or were started again."""
        return [
            f"{name} {process.exit_codes}: {process.log_tail()}"
            for name, process in self._jobs.items()
            if not process.is_alive() or process.pid != self._pids[name]
        ]

    def lags(self) -> dict[str, float]:
        """What is not zero of all lags, by series."""
        names = "inflight_consumer_lag_records|inflight_consumer_lag_seconds|inflight_worker_lag_records"
        query = f'{{__name__=~"{names}"}}'
        until(lambda: len(self._prometheus.query(query)) > len(self._jobs), 120, "all lags are scraped")
        found = self._prometheus.query(query)
        return {str(one["metric"]): float(one["value"][1]) for one in found if float(one["value"][1])}

    def alerts(self, state: str) -> set[str]:
        """Alerts that were firing, or pending, since then; before the first scrape all processes are absent."""
        seen = f'ALERTS{{alertstate="{state}"}}[{int(time.monotonic() - self._started)}s]'
        found = self._prometheus.query(f"count by (alertname) (count_over_time({seen}))")
        return {one["metric"]["alertname"] for one in found}

    def stalled(self) -> float:
        """Seconds for which any group stood still before records that wait, at most."""
        found = self._prometheus.query("max(max_over_time(inflight_consumer_stalled_seconds[1h]))")
        return float(found[0]["value"][1])


def request(deployment: Deployment, request_id: str) -> bytes:
    (features,) = deployment.diamonds(1)
    return msgspec.json.encode({"request_id": request_id, "model": "diamonds", "features": features})


def everywhere(settings: Settings) -> Iterator[Sent]:
    """A record on every partition of every topic but two of requests, whose last markers stay the last."""
    for topic in TOPICS:
        for partition in range(settings.topic_partitions):
            if topic.name != REQUESTS or partition == ABORTED:
                yield topic.name, partition, "aborted", b"nobody reads this"


@pytest.mark.timeout(2_400)
@pytest.mark.usefixtures("search")
def test_an_idle_deployment_behind_transactions_stays_and_alerts_nobody(deployment: Deployment, tmp_path: Path) -> None:
    """Behind committed, aborted and open ones. An open one is told of after five minutes, for it hides requests."""
    settings = deployment.settings
    sent = 0

    def one(partition: int) -> Sent:
        nonlocal sent
        sent += 1
        return REQUESTS, partition, "a customer", request(deployment, f"{settings.topic_prefix}{sent}")

    with observed(deployment, tmp_path / "prometheus", worker_stall_timeout=STALL_SECONDS) as (prometheus, jobs):
        producer, other, opened = (Transactional(settings) for _ in range(3))
        opened.begin([one(OPEN)])
        for _ in range(TRANSACTIONS):
            producer.begin([one(SILENT)])
            producer.commit()
        for _ in range(TRANSACTIONS // 10):
            other.begin(everywhere(settings))
            other.abort()
        until(lambda: deployment.results() >= TRANSACTIONS, 300, "the committed requests are answered")
        ends = {SILENT: 2 * TRANSACTIONS, OPEN: 0, FREE: 0}
        until(lambda: ends.items() <= committed(settings).items(), 120, "all is committed, behind the last marker")

        idle = Idle(prometheus, jobs)
        until(lambda: not idle.lags(), 120, "nothing lags")
        # Before the first scrape, all processes are absent.
        until(lambda: not prometheus.query('ALERTS{alertstate="pending"}'), 120, "no alert is pending")
        idle = Idle(prometheus, jobs)
        aborts, started = 0, time.monotonic()
        while (elapsed := time.monotonic() - started) < IDLE_SECONDS:
            other.begin(everywhere(settings))
            other.abort()
            aborts += 1
            due = min(IDLE_SECONDS, elapsed + ABORT_SECONDS)
            # The time is the dose: as long as nothing happens, it goes on.
            until(lambda due=due: time.monotonic() - started > due or idle.ended(), 600, "the time is over")  # type: ignore[misc]
            assert not idle.ended()
        until(lambda: not idle.lags(), 120, f"nothing lags: {idle.lags()}")
        expected = {"InflightOpenTransaction"} if FULL else set()
        assert idle.alerts("firing") == expected
        assert idle.alerts("pending") == set()

        before, asked = deployment.results(), time.monotonic()
        plain = Transactional(settings)
        plain.begin([one(FREE), one(SILENT)])
        plain.commit()
        until(lambda: deployment.results() >= before + 2, 60, "a request is answered at once")
        answered = time.monotonic() - asked
        opened.commit()
        until(lambda: deployment.results() >= before + 3, 60, "the open one is answered once it is committed")
        deployment.settles(index=True)
        until(lambda: not prometheus.has('ALERTS{alertstate="firing"}'), 120, "no alert is left")
        assert not idle.ended()
        stalled = idle.stalled()

    # By the prefix: the index holds other tests' requests too.
    found = run_audit(settings, settings.topic_prefix)
    assert found.passed, found
    assert (found.accepted, found.completed, found.results_seen) == (sent, sent, sent), found
    assert (found.unindexed, found.indexed_distinct) == (0, sent), found
    keys = {(record.key(), record.partition()) for record in read_to_end(settings, RESULTS)}
    assert keys == {(b"a customer", partition) for partition in (SILENT, OPEN, FREE)}
    assert stalled < 60, stalled
    figures(
        idle_s=round(IDLE_SECONDS),
        transactions=TRANSACTIONS + 2,
        aborted=TRANSACTIONS // 10 + aborts,
        requests=sent,
        alerts=sorted(expected),
        longest_stalled_s=stalled,
        answered_after_s=round(answered, 2),
    )
