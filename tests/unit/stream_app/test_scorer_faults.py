"""Scoring what no request is to blame for: odd timestamps, locked databases, long errors."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from confluent_kafka import Message

from machine_learning_engineering.core.faults import MachineFaultError
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.schemas import Error, PredictionCompleted
from machine_learning_engineering.events.unreadable import UNREADABLE_BATCH, UnreadableRecord
from stream_app.serving.batch import split_into_batches
from stream_app.serving.scorer import Scorer
from tests.support.request_records import REQUESTS, Doubling, batch_of, record, request, requests
from tests.support.scorer_outputs import TOPICS, logs, on, only, results, scorer


class Faulty(Doubling):
    """Raises an error in its first calls of `predict` or `decode`."""

    def __init__(self, error: Exception, times: float = 3, where: str = "predict") -> None:
        super().__init__()
        self.error = error
        self.left = {"predict": 0.0, "decode": 0.0} | {where: times}

    def decode(self, raw: msgspec.Raw) -> Any:
        self._raise("decode")
        return super().decode(raw)

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        self._raise("predict")
        return super().predict(rows)

    def _raise(self, where: str) -> None:
        if self.left[where] > 0:
            self.left[where] -= 1
            raise self.error


@pytest.mark.parametrize("where", ["predict", "decode"])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("database is locked"), ConnectionResetError(), MemoryError()], ids=repr
)
def test_a_fault_of_the_machine_that_passes_is_no_failure_of_a_request(
    error: Exception, count: int, where: str
) -> None:
    """Whatever the load: one request alone is no worse off than several together."""
    scored = only(scorer(Faulty(error, where=where)).score([requests(*range(count))]))
    assert (scored.completed, scored.failed) == (count, 0)


@pytest.mark.parametrize("where", ["predict", "decode"])
def test_a_fault_of_the_machine_that_stays_answers_nothing(where: str) -> None:
    """The worker ends, and another one scores the requests."""
    model = Faulty(sqlite3.OperationalError("database is locked"), float("inf"), where)
    faulty = Scorer({"doubling": model}, TOPICS, max_request_bytes=1_000, fault_timeout=0.1)
    with pytest.raises(MachineFaultError, match="OperationalError at "):
        faulty.score([requests(1, 2)])


def test_a_file_that_a_request_names_is_the_requests_fault() -> None:
    """Waiting for it would stop the worker forever."""
    model = Faulty(FileNotFoundError(2, "No such file or directory"), float("inf"))
    scored = only(scorer(model).score([requests(1)]))
    assert (scored.completed, scored.failed) == (0, 1)


@pytest.mark.parametrize("bad", [False, True], ids=["completed", "failed"])
@pytest.mark.parametrize(
    "milliseconds", [-1, -62_135_596_800_001, 253_402_300_800_000, 1_700_000_000_000_000, 2**62], ids=str
)
def test_a_record_without_a_usable_time_is_a_dead_letter(milliseconds: int, bad: bool) -> None:
    """No time at all, or microseconds: the request that follows it is answered."""
    value = request("r", "no number" if bad else 1)
    odd = Message(topic=REQUESTS, partition=0, offset=0, key=b"r", value=value, timestamp=(1, milliseconds))
    good = record(request("s"), b"s", offset=1)
    scored = only(scorer(Doubling()).score([batch_of(odd, good)]))
    (letter,) = on(scored, "dead-letters")
    origin = read_origin(letter.headers)
    assert (origin.reason, origin.model, origin.request_id) == ("invalid_timestamp", "doubling", "r")
    assert "LogAppendTime" in origin.message
    assert (letter.key, letter.value) == (b"r", value)
    assert [type(one) for one in results(scored)] == [PredictionCompleted]


@pytest.mark.parametrize("milliseconds", [0, 253_402_300_799_999])
def test_the_first_and_the_last_time_are_times(milliseconds: int) -> None:
    """Odd ones, but a request has an outcome with them."""
    scored = only(scorer(Doubling()).score([batch_of(record(request("r"), b"r", accepted=milliseconds / 1000))]))
    assert (scored.completed, scored.dead_letters) == (1, 0)


def test_an_unreadable_batch_is_one_dead_letter_without_a_value() -> None:
    """In the place of its last record."""
    skipped: Any = UnreadableRecord(REQUESTS, 0, 6, UNREADABLE_BATCH, "the batch of offsets 2 to 6 can't be unpacked")
    scored = only(scorer(Doubling()).score([batch_of(record(request("r"), b"r", offset=1), skipped)]))
    (letter,) = on(scored, "dead-letters")
    assert (letter.key, letter.value) == (None, None)
    origin = read_origin(letter.headers)
    assert (origin.reason, origin.offset, origin.stage) == ("unreadable_batch", 6, "decode")
    # So a replay does not publish it as if it were a record.
    assert origin.truncated == 0
    assert origin.message == skipped.explanation
    assert (scored.completed, scored.dead_letters) == (1, 1)


@pytest.mark.parametrize(
    ("large", "size"),
    [
        ({"key": b"k" * 20_000}, 20_000),
        ({"headers": [("n", b"x" * 1_000)] * 70}, 70_070),
        ({"headers": [("n", None)] * 101}, 101),
    ],
    ids=["key", "headers", "many headers"],
)
def test_a_dead_letter_that_keeps_a_part_of_its_record_says_so(large: dict[str, Any], size: int) -> None:
    """Or its replay would publish the part, with another key or without headers, as if it were the record."""
    [batch] = split_into_batches([record(b"value", **large)], 1_000_000)
    (letter,) = on(only(scorer(Doubling()).score([batch])), "dead-letters")
    origin = read_origin(letter.headers)
    assert (origin.reason, origin.truncated) == ("too_large", size + len(b"value"))


def test_a_long_message_of_a_model_is_cut() -> None:
    """The broker would refuse an outcome that is too large, again after each restart."""
    scored = only(scorer(Faulty(ValueError("x" * 9_000_000), where="decode")).score([requests(1)]))
    (log,) = logs(scored)
    assert isinstance(log.error, Error)
    assert len(log.error.message) <= 4_096
    assert sum(len(one.value or b"") for topic in TOPICS for one in on(scored, topic)) < 20_000
