"""Bulk uploads: an outcome a line, in order; bad lines; the same upload again; a broker that comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.gateway.bulk.lines import Lines
from producers.gateway.stream import NotAccepted
from tests.support.gateway import Running, Topics, gateway, score
from tests.unit.producers.gateway.test_predictions import PREDICT, problem

TYPE = {"Content-Type": "application/x-ndjson"}


def rows(*numbers: Any) -> bytes:
    return b"".join(json.dumps({"number": number}).encode() + b"\n" for number in numbers)


def upload(running: Running, content: Any, **headers: str) -> list[dict[str, Any]]:
    """The outcomes, with the last line, which counts them."""
    response = running.client.post(PREDICT, content=content, headers=TYPE | headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_an_outcome_a_line(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        *outcomes, end = upload(running, rows(1, 2, 3))
        assert [one["prediction"]["answer"] for one in outcomes] == [2, 4, 6]
        assert [one["line"] for one in outcomes] == [1, 2, 3]
        assert end == {"lines": 3, "predicted": 3, "running": 0, "failed": 0}
        later = running.client.get(f"/v1/predictions/{outcomes[1]['request_id']}").json()
        assert later["prediction"] == {"answer": 4}


def test_a_bad_line_fails_alone(tmp_path: Path) -> None:
    lines = [b'{"number": 1}', b"", b"{", b"[1]", b'{"number": -1}', b'{"number": 13}', b"\xff", b"x" * 900, b"  "]
    lines += [b'{"number":' + b"[" * 100 + b"]" * 100 + b"}", b'{"number": 2}\r', b'{"number": 3}']
    with gateway(tmp_path, max_request_bytes=800) as running:
        *outcomes, end = upload(running, b"\n".join(lines))
        found = {one["line"]: one for one in outcomes}
        assert list(found) == [1, 3, 4, 5, 6, 7, 8, 10, 11, 12], "blank lines count, and have no outcome"
        kinds = {line: one["problem"]["type"].rpartition(":")[2] for line, one in found.items() if "problem" in one}
        assert kinds == {
            3: "malformed-request",
            4: "invalid-request",
            5: "invalid-features",
            6: "prediction-error",
            7: "malformed-request",
            8: "too-large",
            10: "malformed-request",
        }
        assert [found[line]["prediction"]["answer"] for line in (1, 11, 12)] == [2, 4, 6]
        assert end == {"lines": 10, "predicted": 3, "running": 0, "failed": 7}


def test_the_same_upload_again_counts_once(tmp_path: Path) -> None:
    """With an Idempotency-Key each line has an id of its own; a longer file goes on where the shorter ended."""
    with gateway(tmp_path) as running:
        key = {"Idempotency-Key": "file-1"}
        first = upload(running, rows(1, 2), **key)
        assert [one["request_id"] for one in first[:-1]] == ["file-1:1", "file-1:2"]
        assert upload(running, rows(1, 2, 3), **key)[:2] == first[:2]
        assert len(running.topics.requests) == 3
        changed = upload(running, rows(1, 5), **key)
        assert changed[1]["problem"]["type"].endswith("key-reused")
        wrong = running.client.post(PREDICT, content=rows(1), headers=TYPE | {"Idempotency-Key": "a b"})
        problem(wrong, 400, "malformed-request")


def test_results_that_are_late(tmp_path: Path) -> None:
    with gateway(tmp_path, topics=Topics()) as running:
        *outcomes, end = upload(running, rows(1, 2), Prefer="wait=0.05", **{"Idempotency-Key": "f"})
        assert [one["status"] for one in outcomes] == ["running", "running"]
        assert outcomes[0]["location"] == "/v1/predictions/f:1"
        assert end["running"] == 2
        # The same upload waits for what it ordered before.
        again = upload(running, rows(1), Prefer="wait=0.05", **{"Idempotency-Key": "f"})
        assert again[0]["status"] == "running"
        running.answer_all()
        assert upload(running, rows(1, 2), **{"Idempotency-Key": "f"})[-1]["predicted"] == 2
        assert len(running.topics.requests) == 2


def test_a_broker_that_comes_back_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.gateway.bulk.upload._RETRY_SECONDS", 0.01)

    class Back(Topics):
        def append(self, request: Any) -> None:
            super().append(request)
            self.answer(request, score(request))

    with gateway(tmp_path, topics=Back()) as running:
        stream, refusals = running.stream, iter([NotAccepted("away", indeterminate=True)] * 5)
        publish = stream.publish

        async def refuse(requests: Any) -> Any:
            stream.refusal = next(refusals, None)
            return await publish(requests)

        stream.publish = refuse  # type: ignore[method-assign]
        assert upload(running, rows(1, 2, 3))[-1]["predicted"] == 3
        stream.publish = publish  # type: ignore[method-assign]
        stream.refusal = NotAccepted("away", indeterminate=False)
        (outcome, _) = upload(running, rows(1), Prefer="wait=0.05")
        assert outcome["problem"]["type"].endswith("stream-unavailable")


def test_refused_as_a_whole(tmp_path: Path) -> None:
    with gateway(tmp_path, gateway_upload_window=20, gateway_max_in_flight_per_caller=10) as running:
        problem(running.client.post(PREDICT, content=rows(1), headers=TYPE), 429, "too-many-requests")
    with gateway(tmp_path) as running:
        path = PREDICT.replace("line", "nothing")
        problem(running.client.post(path, content=rows(1), headers=TYPE), 404, "unknown-model")
        encoded = TYPE | {"Content-Encoding": "gzip"}
        problem(running.client.post(PREDICT, content=rows(1), headers=encoded), 415, "unsupported-media-type")
        running.stream.problem = "the stream is being read"
        problem(running.client.post(PREDICT, content=rows(1), headers=TYPE), 503, "not-ready")
        running.stream.problem = ""
        running.run(running.bulk.drain)
        problem(running.client.post(PREDICT, content=rows(1), headers=TYPE), 503, "not-ready")
        assert running.client.post(PREDICT, json={"features": {"number": 1}}).status_code == 200


@given(st.lists(st.sampled_from([b"", b"a", b"bb", b" ", b"long line", b"\r"]), max_size=12), st.data())
def test_lines_do_not_depend_on_pieces(parts: list[bytes], data: st.DataObject) -> None:
    content = b"\n".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    lines = Lines(5)
    found = [line for piece in pieces for line in lines.feed(piece)] + list(lines.end())
    wanted = [
        (number, None if len(part) > 5 else part)
        for number, part in enumerate(parts, 1)
        if len(part) > 5 or part.strip()
    ]
    assert [(one.number, one.content) for one in found] == wanted
