"""What callers of the gateway send as tensors, lines and ids of events, and what live streams make of records."""

import json
import struct
from typing import Any

import hypothesis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from producers.gateway.bodies import Limits, decode
from producers.gateway.bulk.lines import Lines
from producers.gateway.catalog import ServedModel
from producers.gateway.live.positions import Place, event_id, read_event_id
from producers.gateway.live.records import record, shown
from producers.gateway.open_inference import signature
from producers.gateway.open_inference.endpoints import InferRequest
from producers.gateway.open_inference.tensors import InvalidTensor, OutputTensor, encoded
from producers.gateway.problems import Problem
from tests.support.fuzzing import SECRET, bounded, check_message, dose, mutated
from tests.support.live import EventReader

DOORS = (
    "producers/gateway/open_inference/tensors.py:_from_json",
    "producers/gateway/open_inference/signature.py:_object",
    "producers/gateway/open_inference/signature.py:_members",
    "producers/gateway/open_inference/signature.py:_typed",
    "producers/gateway/live/records.py:_decode",
    "producers/gateway/live/records.py:record",
)
LIMITS = Limits(1 << 20, 64, 10.0)
_OBJECT = json.dumps({"carat": 0.3, "cut": SECRET})
_BYTES = SECRET.encode()
_BINARY = struct.pack("<d", 0.3) + len(_BYTES).to_bytes(4, "little") + _BYTES
REQUESTS = [
    json.dumps(body).encode()
    for body in (
        {"id": "a", "inputs": [{"name": "features", "datatype": "BYTES", "shape": [1], "data": [_OBJECT]}]},
        {
            "inputs": [
                {"name": "carat", "datatype": "FP32", "shape": [2, 1], "data": [[0.3], [1]]},
                {"name": "cut", "datatype": "BYTES", "shape": [2], "data": [SECRET, "Ideal"]},
                {"name": "sizes", "datatype": "INT8", "shape": [2, 2], "data": [1, 2, 3, 4]},
            ],
            "outputs": [{"name": "price", "parameters": {"binary_data": True}}],
        },
        {
            "inputs": [
                {"name": "carat", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}},
                {"name": "cut", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(_BYTES) + 4}},
            ]
        },
    )
]
MODEL = msgspec.convert(
    {
        "name": "diamonds",
        "version": "v1",
        "created_at": "2026-01-01T00:00:00Z",
        "metrics": {},
        "primary_metric": "mae",
        "prediction_name": "value",
        "features_schema": {"properties": {"carat": {"type": "number"}, "sizes": {"type": "array"}}},
        "prediction_schema": {"properties": {"price": {"type": "number"}, "label": {"type": "string"}}},
        "example": {},
        "redacted_features": {},
    },
    ServedModel,
)
EVENTS = [
    b'{"type":"prediction.completed.v1","request_id":"a","model":"diamonds","prediction":{"price":1}}',
    b'{\n "type":"drift.detected.v1",\r\n "model":"line", "fields":[{"detail":"%s"}]}' % _BYTES,
]
PREDICTIONS = [b'{"price":1.5,"label":"x"}', b'{"price":null,"label":3}', b"7", b"[1]"]


@dose(60)
@given(body=mutated(REQUESTS), binary=mutated([_BINARY, b""]))
@hypothesis.example(body=REQUESTS[2], binary=_BINARY)
@hypothesis.example(
    body=b'{"inputs":[{"name":"a","datatype":"BOOL","shape":[2147483647,2147483647],"data":[true]}]}', binary=b""
)
def test_tensors_are_rows_or_a_problem(body: bytes, binary: bytes) -> None:
    """Rows are objects of JSON; a problem names the tensor and quotes nothing."""
    with bounded(len(body) + len(binary)):
        try:
            request = decode(body, InferRequest, LIMITS)
            rows = signature.rows_of(MODEL, request.inputs, binary)
        except (Problem, InvalidTensor) as error:
            check_message(str(error))
            return
    assert rows
    for row in rows:
        assert isinstance(msgspec.json.decode(row), dict)


@dose(30)
@given(found=st.lists(mutated(PREDICTIONS), min_size=1, max_size=4))
def test_predictions_are_tensors(found: list[bytes]) -> None:
    """Whatever a model of another version gives: as many values as rows, in JSON and in binary alike."""
    rows = []
    for text in found:
        try:
            msgspec.json.decode(text)
            rows.append(msgspec.Raw(text.decode().encode()))
        except (ValueError, RecursionError):
            rows.append(msgspec.Raw(b"{}"))
    tensors: list[OutputTensor] = signature.predictions(MODEL, rows, signature.output_names(MODEL))
    for binary in (frozenset[str](), frozenset(one.name for one in tensors)):
        heads, part = encoded(tensors, binary)
        assert [head["shape"] for head in heads] == [[len(rows)]] * 3
        msgspec.json.decode(msgspec.json.encode(heads))
        assert sum(head.get("parameters", {}).get("binary_data_size", 0) for head in heads) == len(part)


@dose(40)
@given(value=st.none() | mutated(EVENTS))
def test_a_record_is_one_event_or_none(value: bytes | None) -> None:
    """It begins and ends where it should, whatever is in it."""
    place = Place("results", 3)
    with bounded(len(value or b"")):
        found = record(place, 7, value)
    assert (found.place, found.offset) == (place, 7)
    if found.text:
        (event,) = EventReader().feed(shown(found, {place: 8}))
        assert (event.name, event.id) == ("result", "r3:8")
        assert event.data["model"] == found.model


@dose(40)
@given(text=mutated([b"r0:17,r1:4,e0:2", b"m5:0"]))
def test_ids_of_events(text: bytes) -> None:
    """What is read is what was written."""
    given_ = text.decode(errors="replace")
    try:
        positions = read_event_id(given_)
    except ValueError as error:
        check_message(str(error))
        return
    assert event_id(positions) == given_


@dose(30)
@given(content=mutated([b'{"carat":1}\n{"carat":2}\r\n\n[1]', b"\n" * 50]), cut=st.integers(0, 100))
def test_lines(content: bytes, cut: int) -> None:
    lines = Lines(1_000)
    with bounded(len(content)):
        found: list[Any] = [*lines.feed(content[:cut]), *lines.feed(content[cut:]), *lines.end()]
    wanted = [
        (number, None if len(line) > 1_000 else line)
        for number, line in enumerate(content.split(b"\n"), 1)
        if len(line) > 1_000 or line.strip()
    ]
    assert [(one.number, one.content) for one in found] == wanted
