"""Tensors of the Open Inference Protocol: what can't be read, missing values, short floats, arrays."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from producers.gateway.open_inference.tensors import InputTensor, InvalidTensor, columns
from tests.support.gateway import gateway
from tests.unit.producers.gateway.test_open_inference import INFER, LENGTH, error, features, tensor


@pytest.mark.parametrize(
    ("length", "size", "message"),
    [
        ("999999", 8, LENGTH),
        ("x", 8, LENGTH),
        (None, 80, "binary_data_size"),
        (None, -1, "binary_data_size"),
        (None, True, "binary_data_size"),
        (None, 4, "binary"),
    ],
)
def test_binary_parts_that_do_not_fit(tmp_path: Path, length: str | None, size: Any, message: str) -> None:
    head = {"inputs": [{"name": "number", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": size}}]}
    text = json.dumps(head).encode()
    headers = {LENGTH: length or str(len(text))}
    with gateway(tmp_path) as running:
        response = running.client.post(INFER, content=text + b"\0" * 8, headers=headers)
        assert message in error(response, 400, "malformed-request")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (tensor(datatype="COMPLEX"), "datatype"),
        (tensor(shape=[2]), "has 1 values, and its shape says 2"),
        (tensor(shape=[0]), "shape"),
        (tensor(shape=[1, 1, 2], values=[1.0, 2.0]), "two dimensions"),
        (tensor(["4"]), "no FP64"),
        (tensor([True]), "no FP64"),
        (tensor([1.5], datatype="INT64"), "no INT64"),
        (tensor([2**70], datatype="INT64"), "no INT64"),
        ({"name": "number", "datatype": "FP64", "shape": [1]}, "has no `data`"),
        (
            {"name": "number", "datatype": "FP64", "shape": [1], "parameters": {"shared_memory_region": "r"}},
            "shared memory",
        ),
    ],
)
def test_tensors_that_can_not_be_read(tmp_path: Path, given: Any, message: str) -> None:
    with gateway(tmp_path) as running:
        response = running.client.post(INFER, json={"inputs": [given]})
        assert message in error(response, 400, "malformed-request")
        assert response.json()["example"]["inputs"][0]["name"] == "features"
        assert running.topics.requests == []


def test_tensors_that_do_not_belong_together(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        for inputs in ([tensor(), tensor()], [tensor(), tensor([1, 2], name="other")], []):
            error(running.client.post(INFER, json={"inputs": inputs}), 400, "malformed-request")
        error(running.client.post(INFER, json={"rows": []}), 400, "invalid-request")


def test_a_missing_value(tmp_path: Path) -> None:
    """null and NaN leave the feature out: the model decides whether it needs it."""
    with gateway(tmp_path) as running:
        response = running.client.post(INFER, json={"inputs": [tensor([None])]})
        assert "number" in error(response, 400, "invalid-features")
        assert features(running) == [{}]
    values = columns(
        [InputTensor("a", "FP32", [2], parameters={"binary_data_size": 8})],
        struct.pack("<2f", float("nan"), 1.5),
        frozenset(),
    )
    assert values == {"a": [None, 1.5]}
    infinite = struct.pack("<f", float("inf"))
    with pytest.raises(InvalidTensor, match="infinite"):
        columns([InputTensor("a", "FP32", [1], parameters={"binary_data_size": 4})], infinite, frozenset())


@pytest.mark.parametrize("code", ["<e", "<f"])
def test_short_floats_are_the_number_that_was_meant(code: str) -> None:
    datatype, size = {"<e": ("FP16", 2), "<f": ("FP32", 4)}[code]
    for wanted in (0.23, 61.5, 3.95, 1e-3, -0.1, 100.0, 0.0):
        given = InputTensor("a", datatype, [1], parameters={"binary_data_size": size})
        assert columns([given], struct.pack(code, wanted), frozenset()) == {"a": [wanted]}


def test_features_that_are_arrays() -> None:
    given = [InputTensor("a", "INT32", [2, 2], msgspec.Raw(b"[[1,2],[3,4]]"))]
    assert columns(given, b"", frozenset()) == {"a": [[1, 2], [3, 4]]}
    assert columns([InputTensor("a", "INT32", [1, 1], msgspec.Raw(b"[7]"))], b"", frozenset({"a"})) == {"a": [[7]]}
