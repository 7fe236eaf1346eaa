"""The arms of a rollout: a pure split, each request exactly one outcome, and everything says who answered."""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, RolloutArm
from machine_learning_engineering.observability.redaction import Redaction, Redactor
from machine_learning_engineering.rollout.split import BUCKETS, Splitter
from stream_app.serving.arms import Arms, roles
from stream_app.serving.bindings import bindings_of
from stream_app.serving.outcomes import ScoredBatch
from stream_app.serving.replies import ReplyRules
from stream_app.serving.scorer import Scorer
from tests.support.bound import binding, event, source_batch, source_record
from tests.support.request_records import Answer, Doubling, Features, batch_of, record, request
from tests.support.rollout_arms import SALT, arms, rollout
from tests.support.scorer_outputs import NOW, TOPICS, Clock, logs, on, only, results

KEYS = st.binary(min_size=1, max_size=40)
SALTS = st.text(min_size=1, max_size=16)
PERCENTS = st.integers(0, 100)
HEADERS = [("kafka_replyTopic", b"shop-replies")]


class Tripling(Doubling):
    """Another version, with another answer."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        super().__init__(bad)
        self.version = "v2"

    def predict(self, rows: Sequence[Features]) -> list[Answer]:
        return [Answer(row.doubled + row.doubled // 2) for row in super().predict(rows)]


def scorer(split: Arms, *models: Any, **more: Any) -> Scorer:
    first = models[0] if models else split._served
    return Scorer(
        {"doubling": first}, TOPICS, max_request_bytes=10_000, clock=Clock(NOW), arms={"doubling": split}, **more
    )


def batch(count: int, *, key: bytes | None = None, headers: Any = None) -> Any:
    return batch_of(
        *(record(request(f"r-{n}", n), key and key % n, offset=n, headers=headers) for n in range(1, count + 1))
    )


# The split


@given(KEYS, SALTS, PERCENTS, PERCENTS)
def test_a_larger_percentage_only_adds_keys(key: bytes, salt: str, one: int, other: int) -> None:
    """None changes back, and none changes within a percentage."""
    low, high = sorted((one, other))
    split = Splitter(salt)
    assert split.is_challenger(key, high) or not split.is_challenger(key, low)
    assert split.is_challenger(key, low) == Splitter(salt).is_challenger(key, low)
    assert not split.is_challenger(key, 0)
    assert split.is_challenger(key, 100)


@pytest.mark.parametrize("percent", [1, 5, 25, 50])
@pytest.mark.parametrize("form", [b"customer-%d", b"%d", b"\0\0\0%d"])
def test_the_share_is_the_percentage(percent: int, form: bytes) -> None:
    """Within the bounds of a binomial of 20,000 keys: six standard deviations, one in 500 million."""
    count, share = 20_000, percent / 100
    found = sum(Splitter(SALT).is_challenger(form % n, percent) for n in range(count))
    assert abs(found - count * share) < 6 * math.sqrt(count * share * (1 - share))


@pytest.mark.parametrize("other", [Splitter("another salt"), Splitter(SALT, "shadow")], ids=["salt", "domain"])
def test_another_salt_or_domain_splits_independently(other: Splitter) -> None:
    """Else the same customers would always get what is new. Chi-square of the four cells, one degree of freedom."""
    count, share, split = 20_000, 0.25, Splitter(SALT)
    both = sum(split.is_challenger(b"%d" % n, 25) and other.is_challenger(b"%d" % n, 25) for n in range(count))
    expected = count * share * share
    assert abs(both - expected) < 6 * math.sqrt(expected * (1 - share * share))


def test_a_split_is_the_same_in_every_release() -> None:
    """Keys would change arm when workers of two releases share a topic."""
    assert [Splitter(SALT).bucket(b"customer-%d" % n) for n in range(4)] == BUCKETS_OF_CUSTOMERS
    assert max(BUCKETS_OF_CUSTOMERS) < BUCKETS


BUCKETS_OF_CUSTOMERS = [784, 5092, 75, 4006]


@given(
    st.sampled_from([b"7", b"7.0", b"7e0"]),
    st.sampled_from([b'"a"', b'"\\u0061"']),
    st.none() | KEYS,
    st.text(min_size=1, max_size=9),
)
def test_a_key_is_what_a_field_means(number: bytes, text: bytes, key: bytes | None, request_id: str) -> None:
    """However its JSON is spelled; the record's key where there is none, and else the request id."""
    split = arms(rollout(policy={"key": "customer.id"}), Doubling(), Tripling())

    def entity(features: bytes) -> bytes:
        return split.entity(Raw(features), key, request_id)

    assert entity(b'{"n":1,"customer":{"id":%b}}' % number) == b"7"
    assert entity(b'{"customer":{"id":%b,"name":"b"}}' % text) == b"a"
    fallback = request_id.encode() if key is None else key
    for features in (b"{}", b'{"customer":{"id":null}}', b'{"customer":3}', b'{"customer":{}}', b"[1]", b"nonsense"):
        assert entity(features) == fallback


# Who answers, by the record and by the alias


@pytest.mark.parametrize(
    ("stage", "served", "expected"),
    [
        ("shadow", "v1", (0, "", "v2", "challenger")),
        ("canary", "v1", (25, "v2", "", "challenger")),
        ("bake", "v2", (100, "v1", "v1", "champion")),
        ("canary", "v2", None),  # Promoted, and the record does not say so yet.
        ("shadow", "v2", None),
        ("bake", "v1", None),  # Rolled back, and the record does not say so yet.
        ("canary", "v3", None),  # Promoted by hand.
        ("bake", "v3", None),
        ("finished", "v1", None),
    ],
)
def test_the_alias_decides_and_no_answer_claims_what_the_record_does_not_say(
    stage: str, served: str, expected: Any
) -> None:
    assert roles(rollout(stage), served) == expected


# Scoring


@given(st.integers(1, 60), st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), PERCENTS, st.booleans())
def test_each_request_has_one_outcome_of_its_arm(
    count: int, bad: set[int], worse: set[int], percent: int, keyed: bool
) -> None:
    """In order, whichever arm and whatever fails; and the prediction is that of the version which the record names."""
    split = arms(rollout(percent=percent), Doubling(frozenset(bad)), Tripling(frozenset(worse)))
    scored = only(scorer(split).score([batch(count, key=b"key-%d" if keyed else None)]))
    answers, log = results(scored), logs(scored)
    assert [one.offset for one in log] == list(range(1, count + 1))
    assert [one.request_id for one in answers] == [one.request_id for one in log]
    for n, (answer, logged) in enumerate(zip(answers, log, strict=True), 1):
        entity = (f"key-{n}" if keyed else f"r-{n}").encode()
        is_new = Splitter(SALT).is_challenger(entity, percent)
        expected = RolloutArm("9f1c2a7b", "challenger" if is_new else "champion", "v1", "v2", SALT, percent)
        assert answer.rollout == logged.rollout == expected
        assert answer.model_version == logged.model_version == ("v2" if is_new else "v1")
        assert isinstance(answer, PredictionCompleted) == (n not in (worse if is_new else bad))
        if isinstance(answer, PredictionCompleted):
            assert events.parse(answer.prediction) == {"doubled": 3 * n if is_new else 2 * n}
    assert scored.completed + scored.failed == count


def test_what_is_written_is_what_the_events_encode_to() -> None:
    split = arms(rollout(percent=50), Doubling(frozenset({3})), Tripling())
    scored = only(scorer(split).score([batch(30)]))
    assert [output.value for output in on(scored, "results")] == [events.encode(one) for one in results(scored)]
    assert [output.value for output in on(scored, "logs")] == [events.encode(one) for one in logs(scored)]
    assert {one.rollout.arm for one in logs(scored) if one.rollout is not UNSET} == {"champion", "challenger"}


def test_without_a_rollout_nothing_is_written_of_one() -> None:
    """Byte for byte: other models of the worker, too."""
    split = arms(rollout(model="other"), Doubling(), Tripling())
    plain = Scorer({"doubling": Doubling()}, TOPICS, max_request_bytes=10_000, clock=Clock(NOW))
    beside = scorer(split, Doubling())
    beside._serving = {"doubling": Doubling()}, {}, {"other": split}
    expected, found = only(plain.score([batch(9)])), only(beside.score([batch(9)]))
    assert found.outputs == expected.outputs
    assert b"rollout" not in b"".join(output.value or b"" for output in on(found, "results") + on(found, "logs"))


class Renamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int
    extra: int


class Other(Tripling):
    """A version that declares other features."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = msgspec.json.Decoder(Renamed)  # type: ignore[assignment]


def test_each_version_decodes_by_its_own_schema() -> None:
    split = arms(rollout(percent=50), Doubling(), Other())
    answers = results(only(scorer(split).score([batch(40)])))
    kinds = {(one.rollout.arm, type(one).__name__) for one in answers if one.rollout is not UNSET}
    assert kinds == {("champion", "PredictionCompleted"), ("challenger", "PredictionFailed")}


def test_replies_say_it_too() -> None:
    split = arms(rollout(percent=50), Doubling(frozenset({2})), Tripling(frozenset({5})))
    found = scorer(split, replies=ReplyRules(["shop-*"])).score([batch(20, headers=HEADERS)])
    replies = {json.loads(reply.value)["request_id"]: reply.value for reply in only(found).replies}
    assert replies == {one.request_id: output.value for one, output in answered(only(found))}
    assert all(b'"rollout":{"rollout_id":"9f1c2a7b"' in reply for reply in replies.values())


def answered(scored: ScoredBatch) -> list[tuple[Any, Any]]:
    return list(zip(results(scored), on(scored, "results"), strict=True))


@pytest.mark.parametrize(
    "result", ["", 'topic = "scores"', 'topic = "scores"\nform = "enriched"'], ids=["bound", "own-topic", "enriched"]
)
def test_results_of_existing_topics_say_it_too(result: str) -> None:
    """By the key of the source's record; a row whose features are refused has an arm as well."""
    bound = binding('request_id = "order.id"', result)
    split = arms(rollout(percent=50), Doubling(frozenset({4})), Tripling(frozenset({7})))
    found = scorer(split, bindings=bindings_of([bound]))
    records = [source_record(event(n), n, key=b"c-%d" % n) for n in range(1, 21)]
    scored = only(found.score([source_batch([*records, source_record(event("text"), 21, key=b"c-21")])]))
    written = [json.loads(output.value or b"") for output in on(scored, "scores" if result else "results")]
    written = [one[bound.result.field] if "enriched" in result else one for one in written]
    assert len(written) == 21
    expected = ["challenger" if Splitter(SALT).is_challenger(b"c-%d" % n, 50) else "champion" for n in range(1, 22)]
    assert [one["rollout"]["arm"] for one in written] == expected
    assert [one.rollout.arm for one in logs(scored) if one.rollout is not UNSET] == expected


def test_features_are_redacted_by_the_rules_of_the_version_that_answers() -> None:
    """A new version may declare what the one before did not."""
    token = str
    drop = Redactor({"n": "drop"}, "drop", token)
    split = arms(rollout(percent=50), Doubling(), Tripling(frozenset({5})), v2=drop)
    scored = only(scorer(split, redaction=Redaction({}, False)).score([batch(30)]))
    for log in logs(scored):
        assert log.rollout is not UNSET
        hidden = log.rollout.arm == "challenger"
        assert (bytes(log.features) == b"{}", log.redacted == ["n"]) == (hidden, hidden)


# What is scored once more


@given(st.floats(0.05, 1))
def test_the_shadow_gets_the_same_requests_in_every_worker(share: float) -> None:
    """By the request id, whatever the batches; failed ones without an answer."""
    model = Doubling(frozenset({3}))
    split = arms(rollout("shadow", 0, policy={"shadow_share": share}), model)
    found = scorer(split)
    scored = [only(found.score([one])) for one in (batch(25), batch_of(record(request("r-26", 26), offset=26)))]
    assert {log.rollout.arm for one in scored for log in logs(one) if log.rollout is not UNSET} == {"champion"}
    taken = {
        row.request.request_id: prediction
        for shadow in found.take_shadows()
        for row, prediction in zip(shadow.rows, shadow.predictions, strict=True)
    }
    chosen = {n for n in range(1, 27) if Splitter(SALT, "shadow").is_challenger(b"r-%d" % n, share * 100)}
    assert taken == {f"r-{n}": None if n == 3 else b'{"doubled":%d}' % (2 * n) for n in chosen}
    assert found.take_shadows() == []


def test_a_canary_has_no_shadow_and_the_bake_has_the_champion_of_before() -> None:
    canary = scorer(arms(rollout(percent=50), Doubling(), Tripling()))
    canary.score([batch(5)])
    assert canary.take_shadows() == []
    bake = scorer(arms(rollout("bake", 100), Tripling(), Doubling()))
    scored = only(bake.score([batch(5)]))
    assert {log.model_version for log in logs(scored)} == {"v2"}
    (shadow,) = bake.take_shadows()
    assert (shadow.plan.role, shadow.plan.served_version, shadow.plan.shadow_version) == ("champion", "v2", "v1")
