"""Replies to topics that requests name: to those that are allowed and to no other."""

from typing import Any

import pytest

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import TOPICS
from stream_app.serving.outcomes import OutputTopics
from stream_app.serving.replies import Reply, ReplyRules
from stream_app.serving.scorer import Scorer
from tests.support.request_records import Doubling, batch_of, record, request

CORRELATION = bytes(range(16))


def rules(*allowed: str) -> ReplyRules:
    return ReplyRules(allowed, "p-")


def reply(topic: bytes | None, allowed: ReplyRules, **more: bytes | None) -> Reply | None:
    headers: list[tuple[str, bytes | None]] = [("kafka_replyTopic", topic), *more.items()]
    return allowed.reply(headers, b"k", b"{}", [("traceparent", b"t")])


def test_a_reply_has_the_results_key_value_and_headers() -> None:
    found = reply(
        b"shop",
        rules("shop"),
        kafka_correlationId=CORRELATION,
        kafka_replyPartition=(7).to_bytes(4, "big"),
    )
    headers = [("traceparent", b"t"), ("kafka_correlationId", CORRELATION)]
    assert found == Reply("shop", 7, b"k", b"{}", headers)


@pytest.mark.parametrize("partition", [None, b"", b"1", b"\xff\xff\xff\xff", b"00000000"])
def test_without_a_usable_partition_the_key_chooses(partition: bytes | None) -> None:
    found = reply(b"shop", rules("shop"), kafka_replyPartition=partition)
    assert found is not None
    assert found.partition < 0


@pytest.mark.parametrize("topic", [b"other", b"", b"\xff", b"x" * 300, b"__consumer_offsets", b"shop2", b"Shop"])
def test_other_topics_are_refused(topic: bytes) -> None:
    allowed = rules("shop", "__*", "?")
    assert reply(topic, allowed) is None
    assert allowed.refused == 1


@pytest.mark.parametrize("name", [topic.name for topic in TOPICS])
def test_own_topics_are_refused_whatever_the_pattern(name: str) -> None:
    """A reply on the topic of requests would be a request; one on that of results a second result."""
    assert reply(f"p-{name}".encode(), rules("*")) is None
    assert reply(b"p-shop", rules("p-*")) is not None


def test_a_null_header_asks_for_nothing() -> None:
    assert reply(None, rules("*")) is None


def test_many_names_take_no_memory() -> None:
    allowed = rules("*")
    for number in range(5_000):
        assert reply(f"t{number}".encode(), allowed) is not None
    assert len(allowed._known) <= 1_001


@pytest.mark.parametrize(("allowed", "wanted"), [(("shop",), 2), ((), 0)])
def test_completed_and_failed_requests_are_replied_to(allowed: tuple[str, ...], wanted: int) -> None:
    """With the result, byte for byte; without allowed topics nobody is."""
    headers = [("kafka_replyTopic", b"shop"), ("kafka_correlationId", CORRELATION)]
    records = [
        record(request("good"), offset=0, headers=headers),
        record(request("bad", "x"), offset=1, headers=headers),
        record(request("silent"), offset=2),
    ]
    scorer = Scorer(
        {"doubling": Doubling()},
        OutputTopics("results", "logs", "dead"),
        max_request_bytes=1_000,
        replies=ReplyRules(allowed) if allowed else None,
    )
    (scored,) = scorer.score([batch_of(*records)])
    assert len(scored.replies) == wanted
    results: dict[str, Any] = {events.decode_result(v or b"").request_id: v for _, v, _ in scored.outputs["results"]}
    assert len(results) == 3
    for one in scored.replies:
        assert one.value == results[events.decode_result(one.value).request_id]
        assert one.headers == [("kafka_correlationId", CORRELATION)]
