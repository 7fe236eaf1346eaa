"""Publishing requests to a broker, by function and by command."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from inflight.settings import Settings
from inflight.stack.kafka import KafkaNode
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import MEBIBYTE, REQUESTS
from machine_learning_engineering.kafka.client import client_options, read_to_end, topic_name
from machine_learning_engineering.observability.trace import TRACEPARENT
from producers.client import MissingTopic, connect, disconnect
from producers.replay import Progress, ReplayStopped, replay
from producers.request_builder import Record, request_id_of
from producers.shift import parse_shift
from producers.sources import Request
from producers.stop_signal import StopSignal
from tests.support.broker_clients import confluent_sender
from tests.support.durability import needs_durable_nodes
from tests.support.waiting import until

# kafka-python drops the sockets of failed connections without closing them; the garbage collector does.
pytestmark = pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning")

FEATURES = {"carat": 0.23, "cut": "Ideal", "depth": 61.5}


@pytest.fixture
def sockets_collected() -> Iterator[None]:
    """Let the garbage collector find those sockets here and not in the test of somebody else."""
    yield
    gc.collect()


def _messages(settings: Settings) -> list[Message]:
    return list(read_to_end(settings, REQUESTS))


def _requests(settings: Settings) -> dict[str, events.PredictionRequested]:
    found = [events.decode_request(message.value()) for message in _messages(settings)]
    return {request.request_id: request for request in found}


def _command(settings: Settings, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "inflight.cli", "replay", *arguments],
        stdin=options.get("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _eventually(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def test_the_producer_is_idempotent_with_acks_from_all(settings: Settings) -> None:
    """kafka-python has not turned it off behind our back."""
    producer = connect(settings)
    try:
        assert producer.config["enable_idempotence"] is True
        assert producer.config["acks"] == -1
        assert producer._transaction_manager is not None
    finally:
        disconnect(producer)


def test_accepted_requests_are_on_the_topic_once_each(settings: Settings) -> None:
    """Flat out: what is reported as accepted is what another client reads, under its own key."""
    report = replay(settings, ({**FEATURES, "n": n} for n in range(5_000)), model="diamonds", keep_ids=True)
    messages = _messages(settings)
    assert (report.accepted, report.failed, report.indeterminate) == (5_000, 0, 0)
    assert Counter(message.key().decode() for message in messages) == Counter(report.ids["accepted"])
    assert len({message.partition() for message in messages}) == settings.topic_partitions
    for message in messages:
        request = events.decode_request(message.value())
        assert (message.key().decode(), request.model) == (request.request_id, "diamonds")
    assert {events.parse(events.decode_request(m.value()).features)["n"] for m in messages} == set(range(5_000))


def test_a_second_run_with_the_same_prefix_publishes_the_same_ids_to_the_same_partitions(settings: Settings) -> None:
    """Repeating a run is safe: every request is recognised as the one that was there."""
    for _ in range(2):
        replay(settings, [FEATURES] * 50, model="diamonds", id_prefix="again")
    places = Counter((message.key(), message.partition()) for message in _messages(settings))
    assert len(places) == 50
    assert set(places.values()) == {2}


def test_the_rate_is_kept(settings: Settings) -> None:
    """400 requests at 200 a second take two seconds, evenly: half of them after half the time. A busy one is late."""
    seen: list[tuple[float, int]] = []
    start = time.monotonic()

    def progress(state: Progress) -> None:
        seen.append((time.monotonic() - start, state.accepted + state.outstanding))

    report = replay(settings, [FEATURES] * 400, model="diamonds", rate=200, on_progress=progress)
    assert report.accepted == 400
    assert 399 / 200 <= report.seconds < 60
    assert any(100 <= published <= 300 for _, published in seen)


def test_a_record_that_is_too_large_fails_and_the_others_do_not(settings: Settings) -> None:
    """More than the topic takes is failed, with the reason, and not on the topic; just below is accepted."""
    requests = [b"small", b"x" * (5 * MEBIBYTE), b"small", b"x" * (9 * MEBIBYTE), b"small"]
    report = replay(settings, requests, id_prefix="size", keep_ids=True)
    assert (report.accepted, report.failed, report.indeterminate) == (3, 2, 0)
    assert report.ids["failed"] == ["size-00000001", "size-00000003"]
    assert report.errors["MessageSizeTooLargeError"].records == 2
    assert sorted(message.value() for message in _messages(settings)) == [b"small"] * 3


def test_a_refusal_by_the_broker_fails_its_record_and_no_other(each_broker: Any, settings: Settings) -> None:
    """A broker that takes less than we think: kafka-python then fails everything, so the rest is sent again."""
    topic = topic_name(settings, REQUESTS)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    resource.add_incremental_config(
        ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
    )
    admin = AdminClient(client_options(settings))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    # A broker may measure what it is sent, and our own clients compress: nothing is gained on these.
    large = random.Random(0).randbytes(200_000)
    # The broker says yes before its log follows.
    until(lambda: _is_refused(settings, large), 120, "the broker takes less")
    requests = [large if number in (100, 101, 350) else b"small %d" % number for number in range(500)]
    report = replay(settings, requests, id_prefix="n", keep_ids=True)
    assert (report.accepted, report.failed, report.indeterminate) == (497, 3, 0)
    assert sorted(report.ids["failed"]) == ["n-00000100", "n-00000101", "n-00000350"]
    found = {message.value() for message in _messages(settings)} - {large}
    assert found == {value for value in requests if len(value) < 100}


def _is_refused(settings: Settings, value: bytes) -> bool:
    with confluent_sender(settings) as send:
        try:
            send(topic_name(settings, REQUESTS), value)
        except RuntimeError as error:
            return "MSG_SIZE_TOO_LARGE" in str(error)
    return False


def test_bad_records_are_published_as_they_are(settings: Settings) -> None:
    """No key, no value, no JSON, headers of one's own."""
    records = [Record(b"no key"), Record(None, b"k"), Record(b"", b"k"), Record(b"\xff", b"k", [("h", b"\x00")])]
    assert replay(settings, records).accepted == 4
    found = {(message.key(), message.value(), tuple(message.headers() or ())) for message in _messages(settings)}
    assert found == {
        (None, b"no key", ()),
        (b"k", None, ()),
        (b"k", b"", ()),
        (b"k", b"\xff", (("h", b"\x00"),)),
    }


def test_limit_shift_and_trace(settings: Settings) -> None:
    """The third request of an endless source is not even asked for."""

    def endless() -> Iterator[dict[str, Any]]:
        for number in count():
            assert number < 2
            yield FEATURES

    report = replay(settings, endless(), model="diamonds", limit=2, shift=[parse_shift("carat=+1")], trace=True)
    assert report.accepted == 2
    messages = _messages(settings)
    assert {dict(message.headers())[TRACEPARENT][:3] for message in messages} == {b"00-"}
    carats = [events.parse(request.features)["carat"] for request in _requests(settings).values()]
    assert carats == [pytest.approx(1.23)] * 2


def test_shuffled_is_another_order_in_which_each_request_keeps_its_number(settings: Settings) -> None:
    """A limit takes a sample of all of it; the same at every run. Labels are found by those numbers."""
    rows = [{"carat": float(number)} for number in range(200)]
    for prefix in ("a", "b"):
        assert replay(settings, rows, model="diamonds", id_prefix=prefix, shuffle=7, limit=50).accepted == 50
    carats = {key: events.parse(request.features)["carat"] for key, request in _requests(settings).items()}
    assert {key: request_id_of(key[0], int(carat)) for key, carat in carats.items()} == {key: key for key in carats}
    first, second = ({carat for key, carat in carats.items() if key[0] == prefix} for prefix in "ab")
    assert first == second
    assert len(first) == 50
    assert max(first) > 100


def test_an_error_of_the_source_ends_the_replay_with_an_account_of_what_went_before(settings: Settings) -> None:
    """The second request names no model: the first is accepted and reported."""
    with pytest.raises(ReplayStopped) as stopped:
        replay(settings, [Request(FEATURES, "diamonds"), Request(FEATURES)])
    assert stopped.value.report.accepted == 1
    assert isinstance(stopped.value.__cause__, ValueError)


def test_an_interruption_stops_between_two_requests_and_waits_for_what_is_under_way(settings: Settings) -> None:
    """Everything that was published has an outcome."""
    stop_signal = StopSignal()

    def source() -> Iterator[dict[str, Any]]:
        for number in count():
            if number == 1_000:
                stop_signal.requested = True
            yield FEATURES

    report = replay(settings, source(), model="diamonds", stop_signal=stop_signal)
    assert report.interrupted
    assert (report.accepted, report.failed, report.indeterminate) == (1_001, 0, 0)
    assert len(_messages(settings)) == 1_001


def test_a_missing_topic_is_an_error_and_is_not_created(settings: Settings) -> None:
    """A topic that the broker invents would lack our configuration."""
    elsewhere = settings.model_copy(update={"topic_prefix": settings.topic_prefix + "other-"})
    for _ in range(2):
        with pytest.raises(MissingTopic, match="inflight up"):
            replay(elsewhere, [FEATURES], model="diamonds")


@pytest.mark.parametrize(
    "hard", [pytest.param(False, id="clean"), pytest.param(True, id="hard", marks=needs_durable_nodes)]
)
@pytest.mark.usefixtures("sockets_collected")
def test_a_broker_that_restarts_loses_no_accepted_request(settings: Settings, broker: Any, hard: bool) -> None:
    """Restarted in the middle: all are accepted in the end, each is on the topic, and none twice on real Kafka."""
    restarted = False

    def source() -> Iterator[dict[str, Any]]:
        nonlocal restarted
        for number in range(3_000):
            if number == 1_500:
                broker.restart(hard=hard)
                restarted = True
            yield {**FEATURES, "n": number}

    report = replay(settings, source(), model="diamonds", keep_ids=True)
    assert restarted
    assert (report.failed, report.accepted + report.indeterminate) == (0, 3_000)
    keys = Counter(message.key().decode() for message in _messages(settings))
    assert set(report.ids["accepted"]) <= keys.keys()
    if isinstance(broker, KafkaNode) and not report.indeterminate:
        assert set(keys.values()) == {1}


@pytest.mark.usefixtures("sockets_collected")
def test_a_broker_that_stays_away_leaves_requests_indeterminate(settings: Settings, broker: Any) -> None:
    """What was sent into the void is neither accepted nor failed, and the replay ends."""
    hasty = settings.model_copy(update={"producer_delivery_timeout": 3.0})

    def source() -> Iterator[dict[str, Any]]:
        for number in range(200):
            if number == 100:
                broker.kill()
            yield FEATURES

    try:
        # Fast enough that all are sent before the first is given up.
        report = replay(hasty, source(), model="diamonds", rate=2_000)
    finally:
        broker.start()
    assert report.failed == 0
    assert report.accepted + report.indeterminate == 200
    assert report.indeterminate >= 99
    assert report.seconds < 60


def test_the_command_publishes_a_file_and_counts_malformed_lines(settings: Settings, tmp_path: Path) -> None:
    """Three lines, one of them broken: code 1, the line's number, the rest published."""
    path = tmp_path / "requests.jsonl"
    path.write_text('{"carat": 1}\n{"carat": \n{"request_id": "own", "model": "titanic", "features": {"age": 3}}\n')
    process = _command(settings, str(path), "--model", "diamonds", "--id-prefix", "cli", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "line 2" in err
    outcome = json.loads(out)
    assert {name: outcome[name] for name in ("accepted", "failed", "indeterminate", "malformed")} == {
        "accepted": 2,
        "failed": 0,
        "indeterminate": 0,
        "malformed": 1,
    }
    assert {(key, request.model) for key, request in _requests(settings).items()} == {
        ("cli-00000000", "diamonds"),
        ("own", "titanic"),
    }


def test_the_command_repeats_a_csv_file_with_fresh_ids(settings: Settings, tmp_path: Path) -> None:
    """Twice two rows are four requests."""
    path = tmp_path / "rows.csv"
    path.write_text("carat,cut\n0.3,Ideal\n0.4,Good\n")
    process = _command(settings, str(path), "--model", "diamonds", "--repeat", "2", "--shift", "carat=2", "--shuffle")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith("4 accepted, 0 failed, 0 indeterminate, 0 malformed")
    carats = sorted(events.parse(request.features)["carat"] for request in _requests(settings).values())
    assert carats == [0.6, 0.6, 0.8, 0.8]


def test_ctrl_c_while_a_pipe_is_silent_reports_what_was_published(settings: Settings) -> None:
    """Code 130, and the request that had come before is accepted."""
    process = _command(settings, "-", "--model", "diamonds", "--json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        process.stdin.write('{"carat": 1}\n')
        process.stdin.flush()
        _eventually(lambda: len(_messages(settings)) == 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, err
    outcome = json.loads(out)
    assert (outcome["accepted"], outcome["indeterminate"], outcome["interrupted"]) == (1, 0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-of-the-kind"], "no dataset 'nothing-of-the-kind'"),
        (["missing.csv", "--model", "m"], "missing.csv"),
        (["-", "--repeat", "2"], "only once"),
        (["-", "--shift", "x"], "is not a shift"),
        (["-", "--rate", "0"], "above 0"),
    ],
)
def test_wrong_arguments_end_with_code_2_and_name_the_fix(settings: Settings, arguments: list[str], words: str) -> None:
    """Nothing is published."""
    process = _command(settings, *arguments)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert words in err
    assert _messages(settings) == []


def test_an_unknown_dataset_names_those_there_are(settings: Settings) -> None:
    """diamonds and titanic are built in."""
    process = _command(settings, "diamnods")
    _, err = process.communicate(timeout=300)
    assert "diamonds" in err
    assert "titanic" in err
