"""Looking at dead letters and publishing them again, by function and by command."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Message, Producer

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.dead_letters.reader import Address, DeadLetter, Selection, find, select
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from producers.client import partition_of
from producers.dead_letter_replay import replay
from producers.stop_signal import StopSignal

NOW = datetime.now(UTC)
HEADERS = [("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"), ("shop", b"\xff\x00")]


def _origin(settings: Settings, reason: str = "invalid_request", **fields: object) -> DeadLetterOrigin:
    found = {"message": "not JSON", "stage": "decode", "partition": 0, "offset": 0, **fields}
    topic = topic_name(settings, str(found.pop("topic", REQUESTS)))
    return DeadLetterOrigin(reason=reason, topic=topic, **found)  # type: ignore[arg-type]


def _put(settings: Settings, *letters: tuple[bytes | None, bytes | None, DeadLetterOrigin]) -> None:
    """Write dead letters as the worker does; the n-th is n minutes old."""
    producer = Producer(producer_options(settings))
    for age, (key, value, origin) in enumerate(letters):
        producer.produce(
            topic_name(settings, DEAD_LETTERS),
            key=key,
            value=value,
            headers=dead_letter_headers(origin, HEADERS),
            timestamp=int((NOW - timedelta(minutes=age)).timestamp() * 1000),
            partition=age % settings.topic_partitions,
        )
    assert producer.flush(30) == 0


def _on_topic(settings: Settings, name: str = REQUESTS) -> list[Message]:
    return list(read_to_end(settings, name))


def _dlq(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "inflight.cli", "dlq", *arguments]
    return subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False)


@pytest.fixture
def letters(settings: Settings) -> Settings:
    """Six dead letters: four of the requests topic, one of the logs topic, one of a topic that is not ours."""
    foreign = _origin(settings)._replace(topic="somebody-elses-topic")
    _put(
        settings,
        (b"a", b"not json", _origin(settings, partition=3, offset=8)),
        (None, b"\xff\xfe\x00", _origin(settings, "not_utf8")),
        (b"c", b'{"request_id": "c"}', _origin(settings, "invalid_request", model="titanic", request_id="c")),
        (b"d", None, _origin(settings, "empty_value")),
        (b"e", b'{"log": 1}', _origin(settings, "mapping", stage="index", topic=LOGS, model="diamonds")),
        (b"f", b"not ours", foreign),
    )
    return settings


def test_a_dead_letter_is_the_original_record_and_where_it_came_from(letters: Settings) -> None:
    """Bytes, key and headers are those of before; the origin is apart from them."""
    found = {letter.value: letter for letter in select(letters)}
    assert set(found) == {b"not json", b"\xff\xfe\x00", b'{"request_id": "c"}', None, b'{"log": 1}', b"not ours"}
    letter = found[b"not json"]
    assert (letter.address, letter.key, letter.headers) == (Address(0, 0), b"a", HEADERS)
    assert (letter.origin.partition, letter.origin.offset, letter.origin.reason) == (3, 8, "invalid_request")
    assert abs(letter.at - NOW) < timedelta(milliseconds=2)
    assert found[b"\xff\xfe\x00"].key is None


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        (Selection(reason="mapping"), {b"e"}),
        (Selection(model="titanic"), {b"c"}),
        (Selection(stage="index"), {b"e"}),
        (Selection(since=NOW - timedelta(minutes=2, seconds=30)), {b"a", None, b"c"}),
        (Selection(until=NOW - timedelta(minutes=2, seconds=30)), {b"d", b"e", b"f"}),
        (Selection(reason="invalid_request", since=NOW - timedelta(seconds=30)), {b"a"}),
        (Selection(addresses=frozenset([Address(0, 0), Address(1, 0), Address(3, 99)])), {b"a", None}),
    ],
)
def test_letters_are_selected_by_reason_model_stage_time_and_address(
    letters: Settings, selection: Selection, keys: set[bytes | None]
) -> None:
    """All that is given must be met."""
    assert {letter.key for letter in select(letters, selection)} == keys


def test_a_replay_publishes_the_original_record_to_its_partition(letters: Settings) -> None:
    """Same bytes, key and headers, without what made it a dead letter; a letter of the logs goes to the logs."""
    outcomes: list[tuple[bytes | None, str]] = []

    def tell(letter: DeadLetter, outcome: str) -> None:
        outcomes.append((letter.key, outcome))

    report = replay(letters, select(letters), on_result=tell)
    assert (report.accepted, report.failed, report.indeterminate, report.already_replayed, report.unknown_topic) == (
        5,
        0,
        0,
        0,
        1,
    )
    assert (b"f", "unknown_topic") in outcomes
    requests = {message.key(): message for message in _on_topic(letters)}
    assert {key: message.value() for key, message in requests.items()} == {
        b"a": b"not json",
        None: b"\xff\xfe\x00",
        b"c": b'{"request_id": "c"}',
        b"d": None,
    }
    assert all(message.headers() == HEADERS for message in requests.values())
    assert (requests[b"a"].partition(), requests[b"c"].partition()) == (3, 0)
    assert [message.value() for message in _on_topic(letters, LOGS)] == [b'{"log": 1}']


def test_no_letter_is_replayed_twice_unless_again(letters: Settings) -> None:
    """The journal outlives the process; `again` overrules it."""
    selection = Selection(reason="invalid_request", stage="decode", model="titanic")
    assert replay(letters, select(letters, selection)).accepted == 1
    second = replay(letters, select(letters, selection))
    assert (second.accepted, second.already_replayed) == (0, 1)
    assert len(_on_topic(letters)) == 1
    assert replay(letters, select(letters, selection), again=True).accepted == 1
    assert len(_on_topic(letters)) == 2


def test_a_letter_that_comes_back_is_a_new_letter(letters: Settings) -> None:
    """Replayed, failed again, set aside again: it has an address of its own and may be replayed."""
    replay(letters, select(letters, Selection(reason="not_utf8")))
    _put(letters, (None, b"\xff\xfe\x00", _origin(letters, "not_utf8")))
    report = replay(letters, select(letters, Selection(reason="not_utf8")))
    assert (report.accepted, report.already_replayed) == (1, 1)


def test_a_dry_run_publishes_and_notes_nothing(letters: Settings) -> None:
    """It counts what a replay would publish."""
    assert replay(letters, select(letters), dry_run=True).accepted == 5
    assert _on_topic(letters) == []
    assert replay(letters, select(letters)).accepted == 5


def test_limit_and_interruption_end_a_replay_and_the_next_one_goes_on(letters: Settings) -> None:
    """Nothing is published twice, nothing is left out."""
    ours = [letter for letter in select(letters) if letter.key != b"f"]
    stop_signal = StopSignal()

    def interrupted() -> object:
        yield ours[2]
        stop_signal.requested = True
        yield ours[3]

    assert replay(letters, ours, limit=2).accepted == 2
    report = replay(letters, interrupted(), stop_signal=stop_signal)  # type: ignore[arg-type]
    assert (report.accepted, report.interrupted) == (1, True)
    rest = replay(letters, ours)
    assert (rest.accepted, rest.already_replayed) == (2, 3)
    assert len(_on_topic(letters)) + len(_on_topic(letters, LOGS)) == 5


def test_many_letters_are_replayed_in_chunks(settings: Settings) -> None:
    """More than one chunk of the journal: each once, and all known afterwards."""
    _put(settings, *[(b"%d" % n, b"%d" % n, _origin(settings, partition=n % 4, offset=n)) for n in range(1_200)])
    assert replay(settings, select(settings)).accepted == 1_200
    assert replay(settings, select(settings)).already_replayed == 1_200
    assert sorted(int(message.value()) for message in _on_topic(settings)) == list(range(1_200))


def test_finding_by_address(letters: Settings) -> None:
    """One letter, or an error that says where to look."""
    assert find(letters, Address(1, 0)).value == b"\xff\xfe\x00"
    with pytest.raises(LookupError, match="no dead letter at 1:99"):
        find(letters, Address(1, 99))


def test_list_prints_the_newest_and_the_number_of_all(letters: Settings) -> None:
    """As a table for people and as one object for programs."""
    result = json.loads(_dlq(letters, "list", "--limit", "2", "--json").stdout)
    assert result["matching"] == 6
    assert [letter["key"] for letter in result["dead_letters"]] == [None, "a"]
    assert result["dead_letters"][1]["address"] == "0:0"
    table = _dlq(letters, "list", "--model", "titanic")
    assert b"2:0" in table.stdout
    assert b"1 of 1 dead letters" in table.stderr


def test_show_prints_text_a_hex_dump_json_or_the_exact_bytes(letters: Settings) -> None:
    """Four ways to look at the same bytes."""
    shown = _dlq(letters, "show", "0:0").stdout.decode()
    assert "invalid_request" in shown
    assert "traceparent: 00-1" in shown
    assert shown.endswith("not json\n")
    assert b"00000000  ff fe 00" in _dlq(letters, "show", "1:0").stdout
    assert _dlq(letters, "show", "1:0", "--raw").stdout == b"\xff\xfe\x00"
    as_json = json.loads(_dlq(letters, "show", "1:0", "--json").stdout)
    assert (b64decode(as_json["value_base64"]), as_json["reason"]) == (b"\xff\xfe\x00", "not_utf8")


def test_replay_by_command_needs_a_choice_and_tells_what_it_did(letters: Settings) -> None:
    """By address, by filter or all; a letter from elsewhere makes the code 1."""
    nothing = _dlq(letters, "replay")
    assert (nothing.returncode, b"--all" in nothing.stderr) == (2, True)
    one = _dlq(letters, "replay", "0:0", "--json")
    assert (one.returncode, json.loads(one.stdout)["accepted"]) == (0, 1)
    every = _dlq(letters, "replay", "--all")
    assert every.returncode == 1
    assert every.stdout.startswith(b"4 accepted, 0 failed, 0 indeterminate, 1 replayed before, 1 from a topic")
    assert len(_on_topic(letters)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "9:9"], b"no dead letter at 9:9"),
        (["show", "x"], b"PARTITION:OFFSET"),
        (["list", "--since", "x"], b"15m"),
    ],
)
def test_wrong_arguments_end_with_code_2(settings: Settings, arguments: list[str], words: bytes) -> None:
    """With a message that names the fix."""
    result = _dlq(settings, *arguments)
    assert (result.returncode, words in result.stderr) == (2, True)


def test_a_key_goes_where_librdkafka_sends_it(settings: Settings) -> None:
    """Our partition of a key is that of confluent-kafka and kcat."""
    producer = Producer({**producer_options(settings), "partitioner": "consistent_random"})
    for number in range(64):
        producer.produce(topic_name(settings, REQUESTS), key=b"key-%d" % number, value=b"{}")
    assert producer.flush(30) == 0
    messages = _on_topic(settings)
    assert len(messages) == 64
    for message in messages:
        assert message.partition() == partition_of(message.key(), settings.topic_partitions)


def test_headers_without_a_value_and_like_ours_are_replayed_as_they_came(settings: Settings) -> None:
    """The record that a consumer gets is the one that its producer sent."""
    headers = [("a", None), ("dlq_attempts", b"3"), ("dlq_reason", b"mine"), ("dlq_topic", b"another")]
    producer = Producer(producer_options(settings))
    letter_headers = dead_letter_headers(_origin(settings, partition=2), headers)
    producer.produce(topic_name(settings, DEAD_LETTERS), b"v", b"k", headers=letter_headers)
    assert producer.flush(30) == 0
    assert replay(settings, select(settings)).accepted == 1
    (message,) = _on_topic(settings)
    assert (message.key(), message.value(), message.headers(), message.partition()) == (b"k", b"v", headers, 2)
    assert replay(settings, select(settings)).already_replayed == 1


def test_a_part_of_a_record_is_not_replayed_as_the_whole(settings: Settings) -> None:
    """The original is still on its topic; the command says so and ends with 1."""
    _put(settings, (b"k", b"part", _origin(settings, truncated=9_000_000)))
    report = replay(settings, select(settings))
    assert (report.accepted, report.truncated) == (0, 1)
    assert _on_topic(settings) == []
    ended = _dlq(settings, "replay", "--all")
    assert ended.returncode == 1
    assert b"1 hold only a part of their record" in ended.stderr
