"""No value of a request leaks: a canary is planted, and looked for in everything that is written."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from msgspec import Meta

from inflight.settings import Settings
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.redaction import redaction
from machine_learning_engineering.sdk import MLEModel
from stream_app.serving.outcomes import OutputTopics, ScoredBatch
from stream_app.serving.scorer import Scorer
from tests.support.request_records import batch_of, record

TOPICS = OutputTopics("results", "logs", "dead-letters")
CANARY = "CANARY 7f3a@example.org"
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Passenger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=60)]
    age: Annotated[float, Meta(ge=0, le=120)] | None = None
    port: Annotated[str, Meta(pattern="^[CQS]$")] | None = None
    sizes: list[int] = []

    def __post_init__(self) -> None:
        if self.age == 13:
            raise ValueError(f"{self.name} is 13")
        if self.age == 14:
            raise InvalidFeatures("feature `age` must not be 14")


class Careless(MLEModel):
    """A model that quotes what it is given, wherever it can."""

    name = "careless"
    Features = Passenger
    Prediction = Passenger
    primary_metric = "none"
    version = "v1"

    def decode(self, raw: Any) -> Any:
        row = super().decode(raw)
        if row.age == 15:
            raise RuntimeError(f"decode: {row}")
        return row

    def predict(self, rows: Sequence[Any]) -> Sequence[Any]:
        logging.getLogger("careless").info("predicting %s", rows)
        for row in rows:
            if row.age == 16:
                raise ValueError(f"predict: {row}")
            if row.age == 17:
                raise FileNotFoundError(f"no file for {row.name}")
            if row.age == 18:
                try:
                    {}[row.name]
                except KeyError as error:
                    raise LookupError(row.name) from error
        return rows


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service log says, at its most talkative."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    settings = Settings(_env_file=None, log_level="debug")  # type: ignore[call-arg]
    service_log.configure_logging("worker", settings, stream, packages=["stream_app"])
    root.handlers[-1].filters.clear()
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*service_log.OWN_LOGGERS, "stream_app"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    # Else pytest would not hear of what goes wrong in the threads and destructors of later tests.
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def score(value: bytes, key: bytes | None = b"r1", rules: Any = None) -> ScoredBatch:
    settings = Settings(  # type: ignore[call-arg]
        _env_file=None, log_redact=rules or {}, log_redact_key="a secret of these tests"
    )
    model = Careless()
    scorer = Scorer(
        {"careless": model}, TOPICS, max_request_bytes=5_000, redaction=redaction(settings, {"careless": Careless})
    )
    (scored,) = scorer.score([batch_of(record(value, key, headers=[("traceparent", TRACE)]))])
    return scored


def messages(scored: ScoredBatch) -> Iterator[str]:
    """All that is written for a request, but for its prediction and its features."""
    for result in scored.outputs["results"]:
        event = events.decode_result(result[1])
        yield event.error.message if isinstance(event, events.PredictionFailed) else ""
    for logged in scored.outputs["logs"]:
        found = events.decode_log(logged[1])
        yield "" if found.error is msgspec.UNSET else found.error.message
    for dead_letter in scored.outputs["dead-letters"]:
        yield read_origin(dead_letter[2]).message


CANARIES = st.sampled_from([CANARY, {CANARY: 1}, [CANARY], {"inner": {CANARY: [CANARY]}}, f"{CANARY}\ud800"])
AGES = st.sampled_from([13, 14, 15, 16, 17, 18, 1, -1, None, 1e400]) | CANARIES
# Half of them are understood by the model, which may then raise.
UNDERSTOOD = st.fixed_dictionaries({"name": st.just(CANARY), "age": st.sampled_from([13, 14, 15, 16, 17, 18, 1])})
FEATURES = UNDERSTOOD | st.fixed_dictionaries(
    {},
    optional={"name": CANARIES, "age": AGES, "port": CANARIES, "sizes": CANARIES, CANARY: AGES, "unknown": CANARIES},
)
REQUESTS = st.fixed_dictionaries({"request_id": st.just("r1"), "model": st.just("careless"), "features": FEATURES})
ENVELOPES = REQUESTS | st.fixed_dictionaries(
    {"request_id": st.just("r1") | st.just(7), "model": st.just("careless") | st.just({"a": "careless"})},
    optional={
        "features": FEATURES | CANARIES,
        "requested_at": CANARIES,
        "type": CANARIES,
        CANARY: CANARIES,
        "note": CANARIES,
    },
)


@examples(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENVELOPES, st.booleans(), st.sampled_from([b"r1", None, CANARY.encode()]), st.integers(0, 40))
def test_no_value_is_in_a_message_or_in_the_service_log(
    log: io.StringIO, envelope: dict[str, Any], ascii_only: bool, key: bytes | None, cut: int
) -> None:
    """Whatever is wrong with a request, and whatever the model does about it."""
    log.seek(0)
    log.truncate()
    value = json.dumps(envelope, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    scored = score(value[: len(value) - cut] if cut > 30 else value, key)
    # A key of an unknown field is told only if it looks like a name, which the canary does not.
    told = [*messages(scored), log.getvalue()]
    assert not [text for text in told if "CANARY" in text or "7f3a" in text]


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FEATURES, st.sampled_from([{"*": "drop"}, {"*": "hash"}, {"*": "drop", "age": "keep"}]))
def test_what_is_redacted_is_in_no_log_record(
    log: io.StringIO, features: dict[str, Any], rules: dict[str, str]
) -> None:
    """Whether the request is answered, refused, or makes the model raise."""
    value = json.dumps({"request_id": "r1", "model": "careless", "features": features}).encode()
    scored = score(value, rules={"careless": rules})
    for logged in scored.outputs["logs"]:
        found = events.decode_log(logged[1])
        assert "CANARY" not in bytes(found.features).decode()
        assert found.redacted in (["name", "port", "sizes"], ["name", "age", "port", "sizes"], ["*"])
    assert "CANARY" not in log.getvalue()


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (13, "features of `careless` are rejected: ValueError at test_privacy.py:"),
        (14, "feature `age` must not be 14"),
        (15, "model careless: decode raised RuntimeError at test_privacy.py:"),
        (16, "model careless: predict raised ValueError at test_privacy.py:"),
        (17, "model careless: predict raised FileNotFoundError at test_privacy.py:"),
        (18, "model careless: predict raised LookupError at test_privacy.py:"),
        (-1, "feature `age` must be a number of at least 0 and at most 120"),
    ],
)
def test_what_is_told_still_helps(log: io.StringIO, age: int, words: str) -> None:
    """The field or the line of code, in the result; and in the service log the traceback, under the request's trace."""
    scored = score(
        json.dumps({"request_id": "r1", "model": "careless", "features": {"name": CANARY, "age": age}}).encode()
    )
    for message in messages(scored):
        assert message.startswith(words)
    assert CANARY not in log.getvalue()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {line["trace.id"] for line in lines} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert {line["inflight.request_id"] for line in lines} == {"r1"}
    assert any("error.stack_trace" in line for line in lines) == (age > 14)


def test_rules_leave_scoring_and_results_alone() -> None:
    """The model sees what was sent."""
    value = json.dumps({"request_id": "r1", "model": "careless", "features": {"name": CANARY, "age": 1}}).encode()
    plain, redacted = score(value), score(value, rules={"careless": {"name": "hash", "age": "drop"}})
    answers = [events.decode_result(one.outputs["results"][0][1]) for one in (plain, redacted)]
    assert answers[0].prediction == answers[1].prediction  # type: ignore[union-attr]
    before, after = (events.decode_log(one.outputs["logs"][0][1]) for one in (plain, redacted))
    assert (before.redacted, after.redacted) == (msgspec.UNSET, ["name", "age"])
    assert b'"redacted"' not in plain.outputs["logs"][0][1]
    assert events.parse(before.features) == {"name": CANARY, "age": 1}
    assert events.parse(after.features)["name"].startswith("hash-")


@pytest.mark.parametrize(("rules", "features"), [({}, {"name": CANARY}), ({"careless": {"name": "drop"}}, {})])
def test_where_there_are_rules_no_features_are_logged_for_an_unknown_model(
    rules: dict[str, Any], features: dict[str, str]
) -> None:
    """A typo in the model's name must not reveal what its rules protect."""
    value = json.dumps({"request_id": "r1", "model": "carless", "features": {"name": CANARY}}).encode()
    (logged,) = score(value, rules=rules).outputs["logs"]
    assert events.parse(events.decode_log(logged[1]).features) == features


def test_a_dead_letter_keeps_its_bytes() -> None:
    """It is kept to be repaired and replayed; the broker's access rules protect it."""
    value = json.dumps({"request_id": "r1", "model": "careless", "features": {"name": CANARY}, "typo": 1}).encode()
    (dead_letter,) = score(value, key=b"other", rules={"careless": {"name": "drop"}}).outputs["dead-letters"]
    assert dead_letter[1] == value
