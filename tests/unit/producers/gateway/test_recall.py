"""What a gateway knows of all gateways' requests, in bounded memory."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from producers.gateway.recall import Entry, Position, Recall, Seen


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def request(name: str, fingerprint: str = "a") -> Seen:
    return Seen("request", name, "line", fingerprint, Position(0, 0))


def result(name: str, offset: int, fingerprint: str = "a", value: bytes = b"{}") -> Seen:
    return Seen("result", name, "line", fingerprint, Position(0, offset), value)


def test_the_first_result_counts() -> None:
    """Also if the second one differs, and for those who ask later."""

    async def scenario() -> None:
        recall = Recall(10, 1_000)
        future = recall.claim("r", "line", "a")
        recall.note([request("r"), result("r", 3, value=b"1"), result("r", 4, value=b"2"), result("r", 3, value=b"1")])
        assert (await future).result == b"1"
        recall.release("r", future, published=True)
        entry = recall.get("r")
        assert entry is not None
        assert entry.result == b"1"
        assert recall.repeats == 1, "the same record read again is no repeat"
        assert recall.waiting == 0

    run(scenario())


def test_who_is_scored_first_owns_the_id() -> None:
    """Two gateways publish different bodies under one id at the same moment: both see the same winner."""

    async def scenario() -> None:
        recall = Recall(10, 1_000)
        future = recall.claim("r", "line", "mine")
        recall.note([request("r", "other"), request("r", "mine"), result("r", 0, "other"), result("r", 1, "mine")])
        assert (await future).fingerprint == "other"

    run(scenario())


def test_a_claim_that_was_not_published_frees_the_id() -> None:
    async def scenario() -> None:
        recall = Recall(10, 1_000)
        recall.release("r", recall.claim("r", "line", "a"), published=False)
        assert recall.get("r") is None
        # Unless it was on the topic after all.
        future = recall.claim("r", "line", "a")
        recall.note([request("r")])
        recall.release("r", future, published=False)
        assert recall.get("r") is not None

    run(scenario())


def test_memory_is_bounded() -> None:
    """The oldest requests are forgotten, and results keep their position only; nobody who waits is forgotten."""

    async def scenario() -> None:
        recall = Recall(max_requests=50, max_bytes=1_000)
        future = recall.claim("waits", "line", "a")
        for number in range(500):
            recall.note([request(f"r{number}"), result(f"r{number}", number, value=b"x" * 100)])
        assert len(recall) == 50
        kept = [entry for number in range(500) if (entry := recall.get(f"r{number}")) is not None]
        assert sum(len(entry.result or b"") for entry in kept) <= 1_000
        assert kept[-1].result == b"x" * 100
        assert kept[0] == Entry("a", "line", None, Position(0, 451), True), kept[0]
        assert not future.done()
        recall.note([result("waits", 1_000)])
        assert future.done()
        assert len(recall._with_result) <= 50

    run(scenario())


def test_results_of_forgotten_requests_take_no_memory() -> None:
    async def scenario() -> None:
        recall = Recall(max_requests=5, max_bytes=1 << 30)
        for number in range(1_000):
            recall.note([result(f"r{number}", number, value=b"x" * 100)])
        assert recall._bytes == 500
        assert len(recall._with_result) == 5

    run(scenario())
