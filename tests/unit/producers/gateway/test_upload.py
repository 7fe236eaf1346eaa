"""The server's side of an upload, piece by piece: what is read when, who is cut off, and what fails alone."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from producers.gateway.bodies import Limits
from producers.gateway.bulk.upload import Plan, Upload
from producers.gateway.calls import Call
from producers.gateway.catalog import Catalog
from producers.gateway.orders import new_order
from producers.gateway.predictor import Predictor
from producers.gateway.stream import NoHistory
from tests.support.gateway import MemoryStream, Topics, put_model, score
from tests.unit.producers.gateway.test_bulk import rows


class Wire:
    """The server's side of an upload, piece by piece."""

    def __init__(self, tmp_path: Path, topics: Topics | None = None, **changes: Any) -> None:
        put_model(tmp_path / "registry")
        catalog = Catalog(tmp_path / "registry")
        catalog.refresh()
        self.topics = topics or Topics()
        self.predictor = Predictor(MemoryStream(self.topics, max_requests=100_000), NoHistory(), 1_000)
        self.stopping = asyncio.Event()
        self.released = 0
        plan = Plan(
            catalog.models["line"],
            lambda row, line: new_order({"idempotency-key": f"u:{line}"}, "line", [row], many=False),
            5.0,
            4,
            Limits(10_000, 10, 0.5),
            1_000,
        )
        self.call = Call("POST", b"")
        self.upload = Upload(plan._replace(**changes), self.predictor, self.stopping, self._release, self.call)
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.asked = 0
        self.takes = asyncio.Event()
        self.takes.set()
        self.task = asyncio.ensure_future(self.upload({}, self._receive, self._send))

    def _release(self) -> None:
        self.released += 1

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self.pieces.get()

    async def _send(self, message: Any) -> None:
        await self.takes.wait()
        self.sent.append(message)

    def give(self, body: bytes, more: bool = True) -> None:
        self.pieces.put_nowait({"type": "http.request", "body": body, "more_body": more})

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        body = b"".join(one.get("body", b"") for one in self.sent)
        return [json.loads(line) for line in body.splitlines()]

    def answer(self) -> None:
        done = {request.request_id for request, _ in self.topics.results}
        for one in list(self.topics.requests):
            if one.request_id not in done:
                self.topics.answer(one, score(one))


async def eventually(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_no_more_is_read_than_is_in_progress(tmp_path: Path) -> None:
    """Nobody answers: four lines are on the stream and no piece more is asked for, until outcomes are taken."""

    async def test() -> None:
        wire = Wire(tmp_path)
        for number in range(6):
            wire.give(rows(number, number + 100))
        await eventually(lambda: len(wire.topics.requests) == 4)
        await asyncio.sleep(0.02)
        assert len(wire.topics.requests) == 4
        assert wire.asked == 3
        # There are answers, but the client does not take them.
        wire.takes.clear()
        wire.answer()
        await asyncio.sleep(0.02)
        assert len(wire.topics.requests) == 4
        wire.takes.set()
        wire.give(b"", more=False)
        while not wire.task.done():
            wire.answer()
            await asyncio.sleep(0.001)
        assert wire.outcomes[-1] == {"lines": 12, "predicted": 12, "running": 0, "failed": 0}
        assert [one["line"] for one in wire.outcomes[:-1]] == list(range(1, 13))
        assert wire.released == 1

    asyncio.run(test())


def test_a_client_that_goes(tmp_path: Path) -> None:
    """What it has sent goes on; nothing is held any more."""

    async def test() -> None:
        wire = Wire(tmp_path)
        wire.give(rows(1, 2))
        await eventually(lambda: len(wire.topics.requests) == 2)
        wire.pieces.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(wire.task, 10)
        assert wire.released == 1
        assert wire.outcomes == []
        assert wire.predictor._stream.recall.waiting == 0  # type: ignore[attr-defined]
        wire.answer()
        assert (await wire.predictor.find("u:2")).results[0] is not None

    asyncio.run(test())


def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    """Cut off: the response has no end."""

    async def test() -> None:
        wire = Wire(tmp_path, limits=Limits(10_000, 10, 0.05))
        wire.give(rows(1), more=False)
        await eventually(lambda: wire.topics.requests)
        wire.takes.clear()
        wire.answer()
        await asyncio.wait_for(wire.task, 10)
        assert wire.sent == []
        assert wire.released == 1

    asyncio.run(test())


@pytest.mark.parametrize("reason", ["slow", "stopping"])
def test_an_upload_that_ends_early(tmp_path: Path, reason: str) -> None:
    """Lines in progress have their outcomes, and the last line says why there are no more."""

    async def test() -> None:
        wire = Wire(tmp_path, limits=Limits(10_000, 10, 0.1 if reason == "slow" else 30.0))
        wire.give(rows(1, 2) + b'{"num')
        await eventually(lambda: len(wire.topics.requests) == 2)
        if reason == "stopping":
            wire.stopping.set()
        await eventually(lambda: "problem" in wire.upload._end)
        wire.answer()
        await asyncio.wait_for(wire.task, 10)
        end = wire.outcomes[-1]
        assert (end["lines"], end["predicted"]) == (2, 2)
        kind = {"slow": "body-timeout", "stopping": "not-ready"}[reason]
        assert end["problem"]["type"].endswith(kind)
        assert not wire.sent[-1]["more_body"]

    asyncio.run(test())


def test_a_bug_in_one_line(tmp_path: Path) -> None:
    def order(row: Raw, line: int) -> Any:
        if line == 2:
            raise RuntimeError("a bug")
        return new_order({"idempotency-key": f"u:{line}"}, "line", [row], many=False)

    async def test() -> None:
        wire = Wire(tmp_path, order=order)
        wire.give(rows(1, 2, 3), more=False)
        await eventually(lambda: len(wire.topics.requests) == 2)
        wire.answer()
        await asyncio.wait_for(wire.task, 10)
        assert [one.get("problem", {}).get("status") for one in wire.outcomes[:-1]] == [None, 500, None]

    asyncio.run(test())


def test_the_bytes_in_progress_are_bounded(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, window=100, limits=Limits(250, 10, 5.0))
        line = b'{"number": 1, "x": "%s"}\n' % (b"x" * 90)
        wire.give(line * 10, more=False)
        await eventually(lambda: len(wire.topics.requests) == 2)
        await asyncio.sleep(0.02)
        assert len(wire.topics.requests) == 2
        wire.task.cancel()
        await asyncio.gather(wire.task, return_exceptions=True)
        assert wire.released == 1

    asyncio.run(test())
