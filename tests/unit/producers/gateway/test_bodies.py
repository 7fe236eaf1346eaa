"""Bodies of any shape: never an error of the gateway, never a value in a message."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.fingerprint import fingerprint
from producers.gateway.orders import fingerprint_of_body, preference, rows_of
from tests.support.gateway import gateway

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SECRET = "s3cr3t-value"


def test_any_body(tmp_path_factory: Any) -> None:
    """Any bytes: a prediction or a problem, and what is published is a request that a worker can read."""
    home: Path = tmp_path_factory.mktemp("home")
    with gateway(home) as running:

        @given(
            st.binary(max_size=200)
            | JSON.map(msgspec.json.encode)
            | st.dictionaries(st.sampled_from(["features", "rows", "number"]), JSON, max_size=2).map(
                msgspec.json.encode
            )
        )
        @settings(max_examples=150)
        def check(content: bytes) -> None:
            for path in ("/v1/models/line/predictions", "/v1/line/double"):
                before = len(running.topics.requests)
                response = running.client.post(path, content=content, headers={"Content-Type": "application/json"})
                assert response.status_code in (200, 207, 400, 413, 422, 500), response.text
                if response.status_code == 500:
                    assert response.json()["type"].endswith("prediction-error"), response.text
                for request in running.topics.requests[before:]:
                    event = events.decode_request(request.value)
                    assert event.request_id == request.request_id
                    assert isinstance(msgspec.json.decode(event.features), dict)

        check()


def test_no_message_quotes_a_value(tmp_path: Path) -> None:
    bodies = [
        f'{{"features": "{SECRET}"}}',
        f'{{"{SECRET} {SECRET}": 1}}',
        f'{{"rows": ["{SECRET}"]}}',
        f'{{"features": {SECRET}}}',
        f'"{SECRET}"',
        f'{{"features": {{"number": "{SECRET}"}}}}',
    ]
    with gateway(tmp_path) as running:
        for body in bodies:
            for path in ("/v1/models/line/predictions", "/v1/line/double"):
                response = running.client.post(path, content=body, headers={"Content-Type": "application/json"})
                assert response.status_code >= 400
                assert SECRET not in response.text, response.text


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(), max_size=3), min_size=1, max_size=5))
def test_the_fingerprint_of_a_body(rows: list[dict[str, int]]) -> None:
    """Of one row, that of the prediction log; of many, with their number; equal for equal values."""
    raw = [msgspec.Raw(msgspec.json.encode(row)) for row in rows]
    spaced = [msgspec.Raw(msgspec.json.format(one, indent=2)) for one in raw]
    assert fingerprint_of_body("m", raw[:1], many=False) == fingerprint("m", raw[0])
    many = fingerprint_of_body("m", raw, many=True)
    assert rows_of(many) == len(rows)
    assert rows_of(fingerprint("m", raw[0])) == 0
    assert fingerprint_of_body("m", spaced, many=True) == many
    assert fingerprint_of_body("n", raw, many=True) != many
    assert fingerprint_of_body("m", [*raw, raw[0]], many=True) != many


@given(st.text())
def test_any_preference(text: str) -> None:
    preference(text)


def test_preferences() -> None:
    assert preference("") == (None, False)
    assert preference("respond-async, wait=10") == (10.0, True)
    assert preference('Wait="3", handling=lenient') == (3.0, False)
    assert preference("wait=-1") == (None, False)
