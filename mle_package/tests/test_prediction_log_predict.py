"""`predict_with_logging`: every row is answered or failed by itself, and is never lost in silence."""

import json
import math
import re
import sqlite3
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.core.faults import MachineFaultError
from machine_learning_engineering.core.model import MethodNotImplemented
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.prediction_log import predict as predict_module
from machine_learning_engineering.prediction_log import rows
from machine_learning_engineering.prediction_log.predict import (
    MAX_ATTEMPTS,
    PredictionsNotLogged,
    PredictionsSpooled,
    predict_with_logging,
    replay_spool,
)
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLogError


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "log.sqlite") as opened:
        yield opened


class Flaky:
    """A log that fails so many times before it works."""

    def __init__(self, log, failures):
        self.log = log
        self.failures = failures
        self.calls = 0

    def append(self, records):
        self.calls += 1
        if self.calls <= self.failures:
            raise PredictionLogError("the log is unreachable")
        return self.log.append(records)


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


def doubles(answers):
    return [None if answer.prediction is None else answer.prediction.double for answer in answers]


def test_every_kind_of_request_is_answered_in_order_and_logged(doubler, log, spool):
    requests = [
        {"number": 1.0},
        b'{"number": 2}',
        msgspec.Raw(b'{"number":3,"note":null}'),
        doubler.Features(number=4.0),
    ]
    result = doubler.predict_with_logging(requests, log, request_ids=["a", "b", "c", "d"], spool_dir=spool)
    assert doubles(result.outcomes) == pytest.approx([2, 4, 6, 8])
    assert (result.spool, result.log_error, spool.exists()) == (None, None, False)
    logged = list(log.read("doubler"))
    assert [one.request_id for one in logged] == ["a", "b", "c", "d"]
    assert [json.loads(bytes(one.features))["number"] for one in logged] == [1, 2, 3, 4]
    assert [json.loads(bytes(one.prediction))["double"] for one in logged] == doubles(result.outcomes)
    assert {(one.model_version, one.outcome, one.batch_size) for one in logged} == {("unversioned", "completed", 4)}
    assert all(one.score_seconds > 0 for one in logged)


def test_requests_without_ids_get_their_own(doubler, log, spool):
    result = doubler.predict_with_logging([{"number": 1}] * 3, log, spool_dir=spool)
    assert len({answer.request_id for answer in result.outcomes}) == len(list(log.read("doubler"))) == 3


@pytest.mark.parametrize("given", [["a"], ["a", ""], ["a", "x" * 257]])
def test_ids_that_do_not_fit_are_refused_before_anything_is_done(doubler, log, spool, given):
    with pytest.raises(ValueError, match="2 requests need as many request_ids"):
        doubler.predict_with_logging([{"number": 1}] * 2, log, request_ids=given, spool_dir=spool)
    assert list(log.read("doubler")) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"number": "1"}, "feature `number` must be .*, not a string"),
        ({"number": float("nan")}, "feature `number` must be a finite number"),
        ({"number": float("inf"), "note": None}, "feature `number` must be a finite number"),
        ({"number": 1, "surprise": 1}, "feature `surprise` is unknown"),
        ({}, "feature `number` is missing"),
        pytest.param({"number": object()}, "feature `number` can't be written as JSON", id="no-json-value"),
        ({"number": 1, "note": "\ud800"}, "feature `note` can't be written as JSON"),
        (b'{"number":NaN}', "feature `number` must be a finite number"),
        (b"\xff", "not JSON"),
        (b"", "not JSON"),
        (None, "must be a JSON object, not null"),
        (7, "must be a JSON object"),
    ],
    ids=repr,
)
def test_a_bad_row_fails_by_itself_and_is_logged_as_a_failure(doubler, log, spool, request_, message):
    result = doubler.predict_with_logging([{"number": 1}, request_, {"number": 3}], log, spool_dir=spool)
    assert doubles(result.outcomes) == [pytest.approx(2), None, pytest.approx(6)]
    assert result.outcomes[1].error.type == "invalid_features"
    assert re.search(message, result.outcomes[1].error.message)
    (failed,) = [one for one in log.read("doubler") if one.outcome == "failed"]
    assert (failed.error, failed.batch_size) == (result.outcomes[1].error, 0)
    assert failed.prediction is msgspec.UNSET
    json.loads(bytes(failed.features))


def test_a_struct_that_was_made_with_wrong_values_is_refused(doubler, log, spool):
    (answer,) = doubler.predict_with_logging([doubler.Features(number=-1.0)], log, spool_dir=spool).outcomes
    assert answer.error.message.startswith("feature `number` must be a number of at least 0")


def test_rows_that_predict_raises_for_stand_alone(doubler, log, spool, monkeypatch, caplog):
    answer = type(doubler).predict

    def fragile(self, rows):
        if any(row.number in (3, 11) for row in rows):
            raise ZeroDivisionError("secret 42")
        return answer(self, rows)

    monkeypatch.setattr(type(doubler), "predict", fragile)
    result = doubler.predict_with_logging([{"number": n} for n in range(16)], log, spool_dir=spool)
    assert [n for n, one in enumerate(result.outcomes) if one.error is not None] == [3, 11]
    assert result.outcomes[3].error.type == "prediction_error"
    assert result.outcomes[3].error.message.startswith("model doubler: predict raised ZeroDivisionError at ")
    assert sum(one.outcome == "failed" for one in log.read("doubler")) == 2
    assert len([one for one in caplog.records if one.name == rows.__name__]) == 2


@pytest.mark.parametrize("wrong", [lambda rows: [], lambda rows: [object()] * len(rows), lambda rows: None])
def test_a_predict_that_answers_nonsense_fails_its_rows(doubler, log, spool, monkeypatch, wrong):
    monkeypatch.setattr(type(doubler), "predict", lambda self, rows: wrong(rows))
    result = doubler.predict_with_logging([{"number": 1}] * 3, log, spool_dir=spool)
    assert [answer.error.type for answer in result.outcomes] == ["prediction_error"] * 3


class Margin(msgspec.Struct, frozen=True):
    double: float
    margins: list[float | None]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_fails_its_row_alone(doubler, log, spool, monkeypatch, wrong):
    """JSON would hold null for it. A None in an answer is one: that is the model's own affair."""

    def answers(self, rows):
        return [Margin(2 * row.number, [None, wrong if row.number in (1, 6) else 0.5]) for row in rows]

    monkeypatch.setattr(type(doubler), "predict", answers)
    result = doubler.predict_with_logging([{"number": n} for n in range(8)], log, spool_dir=spool)
    assert [n for n, one in enumerate(result.outcomes) if one.error is not None] == [1, 6]
    assert {result.outcomes[n].error.type for n in (1, 6)} == {"prediction_error"}
    assert [result.outcomes[n].prediction for n in (1, 6)] == [None, None]
    logged = {json.loads(bytes(one.features))["number"]: one for one in log.read("doubler")}
    assert (logged[1].outcome, logged[1].prediction) == ("failed", msgspec.UNSET)
    assert json.loads(bytes(logged[2].prediction)) == {"double": 4.0, "margins": [None, 0.5]}


def test_an_answer_may_hold_json_text_of_its_own_with_null_in_it(doubler, log, spool, monkeypatch):
    text = msgspec.Raw(b'{"why":null}')
    monkeypatch.setattr(type(doubler), "predict", lambda self, rows: [text for _ in rows])
    (answer,) = doubler.predict_with_logging([{"number": 1}], log, spool_dir=spool).outcomes
    assert answer == (answer.request_id, text, None)


def test_a_predict_that_is_not_written_says_so(doubler, log, spool, monkeypatch):
    monkeypatch.delattr(type(doubler), "predict")
    with pytest.raises(MethodNotImplemented, match=r"predict\(\) is not written yet"):
        doubler.predict_with_logging([{"number": 1}], log, spool_dir=spool)


def test_no_requests_give_no_answers_and_ask_no_log(doubler, spool):
    flaky = Flaky(None, failures=9)
    assert doubler.predict_with_logging([], flaky, spool_dir=spool).outcomes == []
    assert flaky.calls == 0


def test_a_log_that_fails_for_a_moment_is_asked_again(doubler, log, spool):
    flaky = Flaky(log, failures=MAX_ATTEMPTS - 1)
    result = predict_with_logging(doubler, [{"number": 1}], flaky, spool_dir=spool, pause=0)
    assert (result.log_error, spool.exists()) == (None, False)
    assert len(list(log.read("doubler"))) == 1


def spooled(doubler, spool, ids):
    with pytest.warns(PredictionsSpooled, match="were not logged .*the log is unreachable.*replay_spool"):
        return predict_with_logging(
            doubler, [{"number": 1}] * len(ids), Flaky(None, 99), request_ids=ids, spool_dir=spool, pause=0
        )


def test_what_the_log_does_not_take_is_spooled_reported_and_replayed(doubler, log, spool):
    result = spooled(doubler, spool, ["a", "b"])
    assert doubles(result.outcomes) == pytest.approx([2, 2])
    assert (result.spool, result.log_error) == (spool / "doubler.jsonl", "PredictionLogError: the log is unreachable")
    spooled(doubler, spool, ["c"])
    assert replay_spool(log, spool) == 3
    assert {one.request_id for one in log.read("doubler")} == {"a", "b", "c"}
    assert replay_spool(log, spool) == 0


@pytest.mark.parametrize("white", ["\n", "\r\n", "\r", "\n\n", "\t"], ids=repr)
def test_a_request_of_several_lines_is_spooled_and_replayed(doubler, log, spool, white):
    features = f'{{{white}"number": 1.50,{white}"note": "\\n\u2028"{white}}}'.encode()
    with pytest.warns(PredictionsSpooled, match="were not logged"):
        predict_with_logging(
            doubler, [features, b"7"], Flaky(None, 99), request_ids=["a", "b"], spool_dir=spool, pause=0
        )
    assert replay_spool(log, spool) == 2
    first, second = log.read("doubler")
    assert (first.outcome, json.loads(bytes(first.features))) == ("completed", {"number": 1.5, "note": "\n\u2028"})
    assert (second.request_id, second.outcome, bytes(second.features)) == ("b", "failed", b"7")


def test_a_replay_that_fails_keeps_the_spool(doubler, log, spool):
    spooled(doubler, spool, ["a"])
    with pytest.raises(PredictionLogError, match="unreachable"):
        replay_spool(Flaky(log, failures=1), spool)
    assert replay_spool(log, spool) == 1


def test_a_line_that_a_crash_cut_off_is_set_aside_and_the_others_are_kept(doubler, log, spool):
    spooled(doubler, spool, ["a"])
    with (spool / "doubler.jsonl").open("ab") as file:
        file.write(b'{"request_id":"torn"')
    spooled(doubler, spool, ["b"])
    with pytest.warns(PredictionsSpooled, match=r"1 damaged lines were moved to .*doubler\.damaged"):
        assert replay_spool(log, spool) == 2
    assert (spool / "doubler.damaged").read_bytes() == b'{"request_id":"torn"\n'


def test_without_log_and_disk_an_error_holds_the_answers(doubler, tmp_path, monkeypatch):
    def full(path, records):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predict_module, "_spool", full)
    message = r"neither logged .*unreachable.* nor spooled .*No space left"
    with pytest.raises(PredictionsNotLogged, match=message) as raised:
        predict_with_logging(doubler, [{"number": 1}], Flaky(None, 99), spool_dir=tmp_path, pause=0)
    assert doubles(raised.value.outcomes) == pytest.approx([2])


def test_the_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = Path(__file__).parents[1] / "README.md"
    blocks = re.findall(r"```python runnable\n(.*?)```", readme.read_text(), re.DOTALL)
    assert len(blocks) == 3
    namespace = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, str(readme), "exec"), namespace)
    with namespace["log"] as log:
        assert [one.outcome for one in log.read("doubler")] == ["completed", "failed"]


def faulty(monkeypatch, doubler, times):
    left = [times]
    answer = type(doubler).predict

    def locked(self, rows):
        if left[0] > 0:
            left[0] -= 1
            raise sqlite3.OperationalError("database is locked")
        return answer(self, rows)

    monkeypatch.setattr(type(doubler), "predict", locked)


def test_a_fault_of_the_machine_that_passes_fails_no_request(doubler, log, spool, monkeypatch):
    faulty(monkeypatch, doubler, 2)
    result = doubler.predict_with_logging([{"number": 1}], log, spool_dir=spool)
    assert doubles(result.outcomes) == [pytest.approx(2)]


def test_a_fault_of_the_machine_that_stays_is_raised_and_nothing_is_logged(doubler, log, spool, monkeypatch):
    faulty(monkeypatch, doubler, float("inf"))
    with pytest.raises(MachineFaultError, match="OperationalError"):
        predict_module.predict_with_logging(doubler, [{"number": 1}], log, spool_dir=spool, fault_timeout=0.1)
    assert list(log.read("doubler")) == []


def test_a_long_message_of_a_model_is_cut(doubler, log, spool, monkeypatch):
    def verbose(self, raw):
        raise InvalidFeatures("x" * 9_000_000)

    monkeypatch.setattr(type(doubler), "decode", verbose)
    (answer,) = doubler.predict_with_logging([{"number": 1}], log, spool_dir=spool).outcomes
    assert len(answer.error.message) == 4_096
