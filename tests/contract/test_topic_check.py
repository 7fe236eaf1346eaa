"""The check of topics that others have made, on every kind of broker."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.settings import Settings
from inflight.stack.doctor import examine
from machine_learning_engineering.events.topics import (
    DEAD_LETTERS,
    LABELS,
    LOGS,
    MEBIBYTE,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    SHADOWS,
    TOPICS,
)
from machine_learning_engineering.kafka.client import client_options, create_topics, end_offsets, topic_name
from machine_learning_engineering.kafka.topic_check import UnusableTopics, check_topics, require_topics
from tests.support.broker_clients import set_topic
from tests.support.programs.streaming import count_of, running, until

ALL = [topic.name for topic in TOPICS]
WRITTEN = (RESULTS, LOGS, DEAD_LETTERS)

pytestmark = pytest.mark.usefixtures("each_broker")


@pytest.fixture
def foreign(settings: Settings) -> Settings:
    """A deployment all of whose topics a broker made with its own defaults."""
    found = settings.model_copy(update={"topic_prefix": settings.topic_prefix + "foreign-"})
    admin = AdminClient(client_options(found))
    for future in admin.create_topics([NewTopic(topic_name(found, name), 1, 1) for name in ALL]).values():
        future.result()
    # Creates none: it waits until the broker knows them.
    assert create_topics(found) == []
    return found


def found(settings: Settings, names: Any = ALL, writes: Any = WRITTEN) -> set[tuple[str, str, str, str, bool]]:
    prefix = len(settings.topic_prefix)
    faults = check_topics(settings, names, writes)
    return {(one.topic[prefix:], one.setting, one.found, one.wanted, one.fatal) for one in faults}


def test_topics_as_they_are_created_have_no_faults(settings: Settings) -> None:
    """Else every start would warn."""
    assert check_topics(settings, ALL, ALL) == []
    assert require_topics(settings, reads=ALL, writes=ALL) == []


def test_missing_topics_have_no_faults(settings: Settings) -> None:
    """They are created first."""
    nobody = settings.model_copy(update={"topic_prefix": settings.topic_prefix + "nobody-"})
    assert check_topics(nobody, ALL, ALL) == []


def test_every_default_that_matters_is_told(foreign: Settings) -> None:
    """Topics that a broker has created by itself."""
    own, eight = "1048588", "8388608 or more"
    faults = found(foreign, writes=[name for name in ALL if name not in (REQUESTS, LABELS)])
    assert {one for one in faults if one[4]} == {
        (name, "max.message.bytes", own, eight, True)
        for name in (RESULTS, LOGS, SHADOWS, DEAD_LETTERS, "model-measurements", "api-calls", "drift-state")
    }
    assert {one for one in faults if not one[4]} == {
        *(
            (name, "message.timestamp.type", "CreateTime", "LogAppendTime", False)
            for name in (REQUESTS, LOGS, SHADOWS, LABELS, MODEL_EVENTS, "model-measurements", "api-calls")
        ),
        (REQUESTS, "max.message.bytes", own, "4194304 or more", False),
        *((name, "compression.type", "producer", "uncompressed", False) for name in (REQUESTS, LABELS, MODEL_EVENTS)),
        (MODEL_EVENTS, "cleanup.policy", "delete", "compact", False),
        ("drift-state", "cleanup.policy", "delete", "compact", False),
    }


def test_a_worker_refuses_topics_with_the_defaults_and_says_why_line_by_line(foreign: Settings) -> None:
    """Its first large output would end it, and every one after it, again and again."""
    with running("streaming_worker", foreign) as program:
        assert program.wait(120) == 2
    lines = [line for line in program.log.splitlines() if "max.message.bytes is" in line and RESULTS in line]
    name = topic_name(foreign, RESULTS)
    assert len(lines) == 1, program.log
    assert f"topic {name}: max.message.bytes is 1048588, wanted 8388608 or more: " in lines[0]
    assert f"kafka-configs --alter --topic {name} --add-config max.message.bytes=8388608" in lines[0]
    assert "Traceback" not in program.log


def test_a_worker_answers_requests_of_a_foreign_topic_and_warns(settings: Settings) -> None:
    """A producer that came first made the topic of requests; the others are created by the worker."""
    mixed = settings.model_copy(update={"topic_prefix": settings.topic_prefix + "mixed-"})
    requests = topic_name(mixed, REQUESTS)
    admin = AdminClient(client_options(mixed))
    admin.create_topics([NewTopic(requests, 2, 1)])[requests].result()
    producer = Producer(client_options(mixed))
    producer.produce(requests, b'{"request_id":"1","model":"doubling","features":{"n":1}}', partition=1)
    assert producer.flush(60) == 0
    with running("streaming_worker", mixed) as program:
        until(lambda: count_of(mixed, RESULTS) == 1, 300, "the request is answered")
        assert program.terminate() == 0
    assert end_offsets(mixed, RESULTS)[1][1] == 1
    for line in (
        f"topic {requests}: message.timestamp.type is CreateTime, wanted LogAppendTime",
        f"topic {requests}: max.message.bytes is 1048588, wanted 4194304 or more",
        f"topic {requests}: compression.type is producer, wanted uncompressed",
        f"topic {topic_name(mixed, RESULTS)}: number of partitions is 4, wanted 2, as {requests} has",
    ):
        assert line in program.log


@pytest.mark.parametrize(
    ("command", "topic"),
    [
        (["drift-monitor"], LOGS),
        (["features", "follow"], LABELS),
        (["replay", "requests.jsonl", "--model", "doubling"], REQUESTS),
    ],
)
def test_other_processes_refuse_them_too(settings: Settings, tmp_path: Path, command: list[str], topic: str) -> None:
    """One line for each fault, and the exit code of what is wrong outside of the program."""
    set_topic(settings, topic, "cleanup.policy", "compact")
    (tmp_path / "requests.jsonl").write_text('{"n": 1}\n')
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_DRIFT_MONITOR_METRICS_PORT": "0",
    }
    program = [sys.executable, "-m", "inflight.cli", *command]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    wanted = f"error: topic {topic_name(settings, topic)}: cleanup.policy is compact, wanted delete: "
    assert [line for line in done.stderr.splitlines() if line.startswith(wanted)], done.stderr
    assert "Traceback" not in done.stderr
    assert end_offsets(settings, REQUESTS) == dict.fromkeys(range(4), (0, 0))


@pytest.mark.parametrize("policy", ["compact", "compact,delete", "delete,compact"])
@pytest.mark.parametrize("topic", [REQUESTS, LOGS, LABELS])
def test_compaction_is_fatal_where_each_record_counts(settings: Settings, topic: str, policy: str) -> None:
    """For readers and writers: records are gone, and those without a key are refused."""
    set_topic(settings, topic, "cleanup.policy", policy)
    with pytest.raises(UnusableTopics, match=f"{topic}: cleanup.policy is (compact|delete)"):
        require_topics(settings, reads=(topic,))


def test_a_limit_is_fatal_for_who_writes_and_a_warning_for_who_reads(settings: Settings) -> None:
    """A reader of it gets what was accepted."""
    set_topic(settings, LOGS, "max.message.bytes", str(2 * MEBIBYTE))
    (fault,) = require_topics(settings, reads=(LOGS,), writes=(DEAD_LETTERS,))
    assert (fault.setting, fault.found, fault.fatal) == ("max.message.bytes", str(2 * MEBIBYTE), False)
    with pytest.raises(UnusableTopics, match=r"max\.message\.bytes is 2097152, wanted 8388608 or more"):
        require_topics(settings, writes=(LOGS,))


def test_more_than_is_wanted_will_do(settings: Settings) -> None:
    """But for requests, which anybody may send."""
    set_topic(settings, LOGS, "max.message.bytes", str(64 * MEBIBYTE))
    assert check_topics(settings, ALL, ALL) == []
    set_topic(settings, REQUESTS, "max.message.bytes", str(64 * MEBIBYTE))
    assert found(settings) == {(REQUESTS, "max.message.bytes", str(64 * MEBIBYTE), str(4 * MEBIBYTE), False)}


def test_a_minimum_of_replicas_that_can_not_be_reached_is_fatal(settings: Settings) -> None:
    """No record is ever acknowledged."""
    set_topic(settings, RESULTS, "min.insync.replicas", "2")
    with pytest.raises(UnusableTopics, match=r"min\.insync\.replicas is 2 with 1 replica, wanted 1 or fewer"):
        require_topics(settings, reads=(REQUESTS,), writes=WRITTEN)


def test_the_doctor_tells_each_fault_with_its_fix(foreign: Settings) -> None:
    """As the worker does, for all topics."""
    checks = [check for check in examine(foreign) if check.name.startswith("topic")]
    by_topic = {(check.name, check.status) for check in checks}
    assert (f"topic {topic_name(foreign, RESULTS)}", "fail") in by_topic
    assert (f"topic {topic_name(foreign, REQUESTS)}", "warn") in by_topic
    assert all("wanted" in check.found and check.fix.startswith("kafka-") for check in checks)


def test_the_doctor_is_content_with_our_own(settings: Settings) -> None:
    """One line for all."""
    (check,) = [check for check in examine(settings) if check.name.startswith("topic")]
    assert (check.name, check.status) == ("topics", "ok")


@pytest.mark.embedded_gap(reason="it measures a batch as it was compressed, whatever the topic says")
@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4", "snappy"])
@pytest.mark.parametrize("topic", [REQUESTS, LABELS, MODEL_EVENTS])
def test_the_broker_unpacks_what_senders_write_and_refuses_bombs(settings: Settings, topic: str, codec: str) -> None:
    """Twelve megabytes of one letter, in a few kilobytes. What is small stays welcome."""
    errors: list[Any] = []
    producer = Producer(
        {**client_options(settings), "compression.type": codec, "message.max.bytes": 32 * MEBIBYTE, "retries": 0}
    )
    for value in (b"x" * 1_000, b"x" * 12 * MEBIBYTE):
        producer.produce(topic_name(settings, topic), value, b"key", on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(60) == 0
    assert errors[0] is None
    assert errors[1].name() in ("MSG_SIZE_TOO_LARGE", "UNKNOWN")
    assert sum(high - low for low, high in end_offsets(settings, topic).values()) == 1
