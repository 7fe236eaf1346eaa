"""The indexer through outages of Elasticsearch and kills of its own."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

from confluent_kafka.admin import AdminClient

from inflight.settings import Settings
from machine_learning_engineering.events.topics import LOGS
from machine_learning_engineering.kafka.client import client_options, end_offsets, topic_name
from monitoring.runtime.groups import INDEXER
from tests.support.indexing import eventually, ids, indexer, lag, letters, log, publish


def _process(settings: Settings, **environment: str) -> subprocess.Popen[bytes]:
    """The indexer as a process of its own."""
    given = {
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_INDEXER_METRICS_PORT": "0",
        "INFLIGHT_ELASTICSEARCH_BATCH_RECORDS": "100",
        "INFLIGHT_KAFKA_SESSION_TIMEOUT": "6",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "inflight.cli", "indexer"], env={**os.environ, **given}, stderr=subprocess.DEVNULL
    )


def _members(settings: Settings) -> set[str]:
    group = topic_name(settings, INDEXER)
    # Kept in a variable: a client that is collected never answers.
    admin = AdminClient(client_options(settings))
    found = admin.describe_consumer_groups([group])[group].result(60)
    return {member.member_id for member in found.members}


def test_an_outage_of_elasticsearch_loses_nothing(settings: Settings, search: Any) -> None:
    """The indexer waits, in its group and in little memory, and goes on by itself."""
    few = settings.model_copy(update={"elasticsearch_batch_records": 50})
    before, total = 6_000, 8_000
    with indexer(few) as running:
        try:
            publish(settings, *[log(settings, number) for number in range(before)])
            # Most are still to come, so that the batches on their way are full.
            eventually(lambda: running.results()["created"] >= 100)
            members = _members(settings)
            search.kill()
            publish(settings, *[log(settings, number) for number in range(before, total)])
            # Two batches on their way and a full one behind them is all that it takes, however long this lasts.
            eventually(lambda: running.value("inflight_indexer_in_flight_documents") >= 150)
            until = time.monotonic() + 8
            while time.monotonic() < until:
                assert running.value("inflight_indexer_in_flight_documents") <= 160
                assert running.results()["created"] < before
                time.sleep(0.2)
            assert _members(settings) == members
        finally:
            if not search.is_alive():
                search.start()
        eventually(lambda: running.results()["created"] + running.results()["replayed"] >= total)
        assert _members(settings) == members
        retried = [
            sample.value
            for family in running.registry.collect()
            for sample in family.samples
            if "retries_total" in sample.name
        ]
        assert sum(retried) >= 2
    assert sorted(ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))
    assert (letters(settings), lag(settings)) == ([], 0)


def test_a_killed_indexer_leaves_nothing_out_and_nothing_twice(settings: Settings, search: Any) -> None:
    """kill -9 in the middle, three times."""
    total = 6_000
    publish(settings, *[log(settings, number) for number in range(total)])
    for round_ in range(1, 4):
        process = _process(settings)
        try:
            eventually(lambda enough=round_ * 600: len(ids(settings)) >= enough)
        finally:
            process.kill()
            process.wait(60)
    process = _process(settings)
    try:
        eventually(lambda: lag(settings) == 0)
    finally:
        process.terminate()
        assert process.wait(120) == 0
    assert sorted(ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))
    assert letters(settings) == []


def test_sigterm_drains(settings: Settings, search: Any) -> None:
    """It ends by itself, soon, with exit code 0, and what was read is indexed and committed: both or neither."""
    # So many that it can't be through with them before we have seen the first.
    publish(settings, *[log(settings, number) for number in range(30_000)])
    process = _process(settings)
    try:
        eventually(lambda: len(ids(settings)) >= 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
    total = sum(high for _, high in end_offsets(settings, LOGS).values())
    assert total - lag(settings) == len(ids(settings)) < total


def test_two_indexers_share_and_take_over(settings: Settings, search: Any) -> None:
    """A second one joins in the middle of the work, and the first one leaves."""
    few = settings.model_copy(update={"elasticsearch_batch_records": 50})
    total = 4_000
    publish(settings, *[log(settings, number) for number in range(total)])
    with indexer(few) as second_of_two:
        with indexer(few) as first:
            eventually(lambda: first.results().total() + second_of_two.results().total() > 500)
            eventually(lambda: len(_members(settings)) == 2)
        eventually(lambda: lag(settings) == 0)
        both = first.results() + second_of_two.results()
    assert set(both) <= {"created", "replayed"}
    assert sorted(ids(settings)) == sorted(f"{settings.topic_prefix}{number}" for number in range(total))
