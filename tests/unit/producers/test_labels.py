"""Which labels belong to which requests, and how they are written."""

from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.events.schemas import PredictionRequested, decode_label, encode
from producers import labels
from producers.labels import RequestLabel, labels_by_prefix, labels_by_requests, shuffled
from producers.request_builder import RequestBuilder, number_of, request_id_of

EXAMPLES = [Example({"carat": 0.5, "cut": "Ideal"}, 10.5), Example({"carat": 0.7, "cut": "Good"}, 20.5)]


@given(st.text(min_size=1), st.integers(0, 10**10))
def test_the_number_of_a_request_is_in_its_id(prefix: str, number: int) -> None:
    """Whatever the prefix holds."""
    assert number_of(request_id_of(prefix, number)) == number


@pytest.mark.parametrize(
    "request_id",
    ["", "order", "order-17", "-00000001", "a-0000000x", "a-\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661"],
)
def test_other_ids_have_no_number(request_id: str) -> None:
    """They are somebody else's."""
    assert number_of(request_id) is None


def test_labels_by_prefix_have_the_ids_of_the_replay() -> None:
    """Also of one that goes through the dataset twice."""
    composer = RequestBuilder("diamonds", id_prefix="d")
    ids = [composer.build(example.features, number)[0] for number, example in enumerate(EXAMPLES * 2)]
    found = list(labels_by_prefix(iter(EXAMPLES), "diamonds", "d", repeat=2))
    assert [one.request_id for one in found] == ids
    assert [one.label for one in found] == [10.5, 20.5, 10.5, 20.5]


def test_labels_by_the_topic_are_those_of_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are spelled; neither shifted ones, nor those of other models and producers."""

    def request(request_id: str, features: bytes, model: str = "diamonds") -> bytes:
        return encode(PredictionRequested(request_id, model, Raw(features)))

    first, second = (msgspec.json.encode(example.features) for example in EXAMPLES)
    values = [
        request("a-00000000", first),
        request("b-00000003", b'{ "cut": "Good", "carat": 0.7 }'),
        request("a-00000001", b'{"carat":1.4,"cut":"Good"}'),
        request("a-00000001", first),
        request("order-17", second),
        request("a-00000001", second, model="titanic"),
        b"{",
        None,
    ]
    monkeypatch.setattr(
        labels, "read_to_end", lambda _settings, _topic: (SimpleNamespace(value=lambda v=v: v) for v in values)
    )
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    assert list(labels_by_requests(settings, EXAMPLES, "diamonds")) == [
        RequestLabel("a-00000000", "diamonds", 10.5),
        RequestLabel("b-00000003", "diamonds", 20.5),
    ]
    assert list(labels_by_requests(settings, [], "diamonds")) == []


def test_a_label_is_keyed_by_its_request_and_observed_when_it_is_published() -> None:
    """Unless it says when."""
    before = datetime.now(UTC)
    request_id, record = labels._record(RequestLabel("r1", "titanic", True))
    event = decode_label(record.value or b"")
    assert (request_id, record.key) == ("r1", b"r1")
    assert (event.request_id, event.model, bytes(event.label)) == ("r1", "titanic", b"true")
    assert before <= event.observed_at <= datetime.now(UTC)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert decode_label(labels._record(RequestLabel("r1", "m", 1, at))[1].value or b"").observed_at == at


def test_a_shuffle_is_another_order_and_the_same_each_time() -> None:
    """Nothing is lost by it."""
    answers = [RequestLabel(f"r{n}", "m", n) for n in range(50)]
    assert shuffled(answers, 1) == shuffled(answers, 1) != answers
    assert sorted(shuffled(answers, 1), key=lambda one: one.label) == answers
