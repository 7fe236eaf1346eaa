"""Apache Kafka's own Java client as a second producer beside ours: its keys, partitions, codecs and transactions."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from confluent_kafka import Message

from inflight.stack.kafka import jars
from inflight.stack.process import foreign_environment
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end, topic_name
from tests.conftest import MISSING_TOOLS
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.waiting import figures

PROGRAM = Path(__file__).parents[1] / "support" / "programs" / "ForeignProducer.java"
CODECS = ("gzip", "zstd", "lz4", "snappy")
RECORDS = 40_000 if FULL else 1_200
"""Of each mode."""
PER_TRANSACTION = 40 if FULL else 20
OURS = 20_000 if FULL else 1_000


class Sent(NamedTuple):
    """A record by its producer's word; `request_id` is None if it is no request. `offset` is None if it never left."""

    fate: str
    request_id: str | None
    key: bytes | None
    partition: int | None
    offset: int | None


class JavaProducer(threading.Thread):
    """A run of the program. `sent` waits for its end."""

    def __init__(self, deployment: Deployment, name: str, mode: str, codecs: Iterable[str] = CODECS) -> None:
        super().__init__(name=name, daemon=True)
        settings, features = deployment.settings, deployment.settings.home / "diamonds.jsonl"
        features.write_bytes(b"\n".join(msgspec.json.encode(one) for one in deployment.diamonds(500)))
        # All tests share one index.
        name = settings.topic_prefix + name
        arguments = [settings.kafka_bootstrap_servers, topic_name(settings, REQUESTS), name, mode]
        arguments += [str(RECORDS), str(PER_TRANSACTION), str(features), *codecs]
        self._command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars()}/*", str(PROGRAM), *arguments]
        self._wanted = 9 if mode == "killed" else 0
        self._done: subprocess.CompletedProcess[str] | None = None

    def run(self) -> None:
        self._done = subprocess.run(
            self._command, env=foreign_environment(), capture_output=True, text=True, timeout=1_200, check=False
        )

    def sent(self) -> list[Sent]:
        """What it has sent, in this order."""
        self.join()
        assert self._done is not None
        assert self._done.returncode == self._wanted, self._done.stderr[-3_000:]
        return [_sent(*line.split()) for line in self._done.stdout.splitlines()]


def _sent(fate: str, request_id: str, key: str, partition: str, offset: str) -> Sent:
    return Sent(
        fate,
        None if request_id == "-" else request_id,
        None if key == "-" else base64.b64decode(key[1:]),
        *(None if number == "-" else int(number) for number in (partition, offset)),
    )


@pytest.fixture(autouse=True)
def _java() -> None:
    missing = MISSING_TOOLS or [tool for tool in ("javac",) if shutil.which(tool) is None]
    if missing:
        assert not os.environ.get("REQUIRE_REAL"), f"{missing} missing: apt-get install default-jdk-headless maven"
        pytest.skip(f"{' and '.join(missing)} missing: no Java producer (apt-get install default-jdk-headless maven)")


def origins(messages: Iterable[Message]) -> Iterator[tuple[tuple[int, int], Message]]:
    """Dead letters by the place of their request."""
    for message in messages:
        origin = read_origin(headers_of(message))
        assert origin.reason == "not_json"
        yield (origin.partition, origin.offset), message


def check_outputs(deployment: Deployment, sent: list[Sent]) -> dict[str, int]:
    """One outcome for each committed record, none for an aborted one; with the key, partition and order of requests."""
    settings = deployment.settings
    ours = settings.topic_prefix + "ours"
    committed = {(one.partition, one.offset): one for one in sent if one.fate == "committed"}
    aborted = {one.request_id for one in sent if one.fate == "aborted"}
    names = {one.request_id for one in sent} - {None}
    requests = {
        (record.partition() or 0, record.offset() or 0): record
        for record in read_to_end(settings, REQUESTS)
        if f'"{ours}'.encode() not in (record.value() or b"")
    }
    # The consumer's view of the topic is the producer's: where each record is, and its key, which may be empty or null.
    assert {place: record.key() for place, record in requests.items()} == {at: one.key for at, one in committed.items()}
    places = {one.request_id: place for place, one in committed.items() if one.request_id is not None}

    found = {}
    for topic, decode in ((RESULTS, events.decode_result), (LOGS, events.decode_log)):
        first: dict[str, tuple[int, int]] = {}
        order: defaultdict[tuple[int | None, bytes | None], list[int]] = defaultdict(list)
        for record in read_to_end(settings, topic):
            outcome: Any = decode(record.value() or b"")  # type: ignore[operator]
            if outcome.request_id not in names:
                assert outcome.request_id.startswith(ours), outcome
                continue
            assert outcome.request_id not in aborted, f"an aborted request has an outcome: {outcome}"
            place = places[outcome.request_id]
            request = committed[place]
            assert (record.key(), record.partition()) == (request.key, request.partition), outcome
            if outcome.request_id not in first:
                first[outcome.request_id] = place
                order[record.partition(), record.key()].append(place[1])
        assert first == places, f"{len(places.keys() - first.keys())} committed requests without an outcome"
        assert all(offsets == sorted(offsets) for offsets in order.values()), "the order of a key is lost"
        found[topic] = len(first)

    letters = dict(origins(read_to_end(settings, DEAD_LETTERS)))
    assert letters.keys() == {place for place, one in committed.items() if one.request_id is None}
    for place, letter in letters.items():
        assert (letter.key(), letter.partition()) == (committed[place].key, place[0])
    return {"results": found[RESULTS], "logs": found[LOGS], "dead_letters": len(letters)}


def run_audit_command(deployment: Deployment) -> dict[str, Any]:
    """What `inflight audit` says, by its exit code too."""
    command = [sys.executable, "-m", "inflight.cli", "audit", "--json"]
    environment = {**os.environ, **deployment.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(1_800)
@pytest.mark.usefixtures("search")
def test_java_producers_beside_ours_have_one_outcome_for_each_committed_request(deployment: Deployment) -> None:
    """Idempotent and transactional, with all codecs; one dies within a transaction, which its successor aborts."""
    for _ in range(2):
        deployment.worker()
    deployment.indexer()
    deployment.serving(2)
    killed = JavaProducer(deployment, "killed", "killed", ["lz4"])
    killed.start()
    died = killed.sent()
    ours = deployment.load(OURS, rate=400, prefix=deployment.settings.topic_prefix + "ours")
    producers = [JavaProducer(deployment, mode, mode) for mode in ("idempotent", "transactional")]
    for producer in producers:
        producer.start()
    sent = died + [one for producer in producers for one in producer.sent()]
    report = ours.report()
    deployment.settles(index=True)

    outputs = check_outputs(deployment, sent)
    fates = Counter(one.fate for one in sent)
    bad = sum(one.request_id is None for one in sent if one.fate == "committed")
    assert fates["aborted"] > len(died) > 0
    assert outputs["results"] == fates["committed"] - bad
    found = run_audit_command(deployment)
    assert found["accepted"] == fates["committed"] + report.accepted, found
    assert (found["completed"], found["dead_letters"]) == (outputs["results"] + report.accepted, bad), found
    assert not any(found[name] for name in ("failed", "lost", "duplicates", "orphans", "unindexed", "conflicts")), found
    kinds = {None: "null", b"": "empty"}
    figures(
        committed=fates["committed"],
        aborted=fates["aborted"],
        ours=report.accepted,
        keys=dict(Counter(kinds.get(one.key, "binary" if one.key and one.key[0] == 0 else "customer") for one in sent)),
        **outputs,
    )
