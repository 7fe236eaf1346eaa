"""The Open Inference Protocol by bytes: metadata, tensors in JSON and binary, ids, versions and errors.

`tests/integration/test_open_inference.py` has a client that is not ours.
"""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machine_learning_engineering.events import schemas as events
from model.catalog import available
from producers.gateway.keys import KeyFile
from producers.gateway.open_inference import signature
from tests.support.gateway import Running, Topics, gateway, put_model, score

INFER = "/v2/models/line/infer"
LENGTH = "Inference-Header-Content-Length"


def tensor(values: Any = (4.0,), shape: Any = None, datatype: str = "FP64", name: str = "number", **more: Any) -> Any:
    data = list(values)
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data, **more}


def features(running: Running) -> list[Any]:
    return [json.loads(bytes(events.decode_request(one.value).features)) for one in running.topics.requests]


def error(response: Any, status: int, kind: str) -> str:
    """The message of an error as the protocol has them; the problem is beside it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found["type"] == f"urn:inflight:problem:{kind}", found
    assert found["status"] == status
    message: str = found["error"]
    return message


def outputs(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {one["name"]: one for one in response.json()["outputs"]}


def test_a_tensor_for_each_feature(tmp_path: Path) -> None:
    """Rows of several shapes; every output, each with its datatype."""
    with gateway(tmp_path) as running:
        for shape in ([2], [2, 1]):
            response = running.client.post(INFER, json={"inputs": [tensor([4.0, 5.5], shape)]})
            found = outputs(response)
            assert found["answer"] == {"name": "answer", "datatype": "FP64", "shape": [2], "data": [8.0, 11.0]}
            assert [json.loads(one) for one in found["prediction"]["data"]] == [{"answer": 8}, {"answer": 11}]
            body = response.json()
            assert (body["model_name"], body["model_version"]) == ("line", "v1")
            assert response.headers["x-request-id"] == body["id"]
            later = running.client.get(f"/v1/predictions/{body['id']}")
            assert [one["prediction"]["answer"] for one in later.json()["predictions"]] == [8, 11]
        assert features(running) == [{"number": 4.0}, {"number": 5.5}] * 2


def test_rows_as_objects(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        body = {"inputs": [tensor(['{"number": 4}', '{"number":5}'], datatype="BYTES", name="features")]}
        assert outputs(running.client.post(INFER, json=body))["answer"]["data"] == [8, 10]
        for text in ("[1]", "x", "", '{"number": 4'):
            wrong = {"inputs": [tensor([text], datatype="BYTES", name="features")]}
            assert "value 0" in error(running.client.post(INFER, json=wrong), 400, "malformed-request")


def test_the_outputs_that_a_client_asks_for(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        body = {"inputs": [tensor()], "outputs": [{"name": "answer"}]}
        assert set(outputs(running.client.post(INFER, json=body))) == {"answer"}
        body["outputs"] = [{"name": "price"}]
        assert "answer, prediction" in error(running.client.post(INFER, json=body), 400, "malformed-request")
        body["outputs"] = [{"name": "answer", "parameters": {"classification": 2}}]
        assert "classification" in error(running.client.post(INFER, json=body), 400, "malformed-request")


def test_what_flinks_provider_sends(tmp_path: Path) -> None:
    """One column in, one out, in upper case, and the version `latest`; with columns of JSON any model fits."""
    inputs = [{"name": "FEATURES", "datatype": "BYTES", "shape": [1], "data": ['{"number": 4}']}]
    path = "/v2/models/line/versions/latest/infer"
    headers = {"Content-Type": "application/json; charset=utf-8"}
    with gateway(tmp_path) as running:
        for name in ("PREDICTION", "ANSWER"):
            body = {"inputs": inputs, "outputs": [{"name": name}]}
            response = running.client.post(path, content=json.dumps(body), headers=headers)
            assert list(outputs(response)) == [name]
        assert outputs(response)["ANSWER"]["data"] == [8]
        both = {"inputs": [tensor(), tensor(name="NUMBER")]}
        assert "twice" in error(running.client.post(path, json=both), 400, "malformed-request")


@pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/json"])
def test_the_binary_extension(tmp_path: Path, media_type: str | None) -> None:
    """Both directions, with the header that says where the JSON ends."""
    part = struct.pack("<2f", 0.1, 21)
    head = {
        "inputs": [
            {"name": "number", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": len(part)}}
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    headers = {LENGTH: str(len(text))} | ({"Content-Type": media_type} if media_type else {})
    with gateway(tmp_path) as running:
        response = running.client.post(INFER, content=text + part, headers=headers)
        assert response.status_code == 200, response.text
        length = int(response.headers[LENGTH])
        found = json.loads(response.content[:length])["outputs"]
        assert [one["name"] for one in found] == ["answer", "prediction"]
        sizes = [one["parameters"]["binary_data_size"] for one in found]
        assert length + sum(sizes) == len(response.content)
        answers = struct.unpack("<2d", response.content[length : length + sizes[0]])
        assert answers == (0.2, 42.0)
        assert features(running)[0] == {"number": 0.1}, "the same feature as 0.1 in JSON"
        size = int.from_bytes(response.content[length + sizes[0] :][:4], "little")
        assert json.loads(response.content[length + sizes[0] + 4 :][:size]) == {"answer": 0.2}


def test_one_bad_row_fails_the_request(tmp_path: Path) -> None:
    """The protocol has no partial success; the message says which row, and where the others are."""
    with gateway(tmp_path) as running:
        response = running.client.post(INFER, json={"inputs": [tensor([4.0, -1.0])], "id": "two"})
        message = error(response, 400, "invalid-features")
        assert message.startswith("row 1 of 2: feature `number`")
        assert "/v1/predictions/two" in message
        assert running.client.get("/v1/predictions/two").status_code == 207
        error(running.client.post(INFER, json={"inputs": [tensor([13])]}), 500, "prediction-error")


def test_the_id_is_an_idempotency_key(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        body = {"id": "order-1", "inputs": [tensor()]}
        first = running.client.post(INFER, json=body)
        assert first.json()["id"] == "order-1"
        assert running.client.post(INFER, json=body).json() == first.json()
        assert len(running.topics.requests) == 1
        error(running.client.post(INFER, json=body | {"inputs": [tensor([5])]}), 422, "key-reused")
        assert running.client.post(INFER, json=body, headers={"Idempotency-Key": "order-1"}).json() == first.json()
        error(running.client.post(INFER, json=body, headers={"Idempotency-Key": "o"}), 400, "malformed-request")
        error(running.client.post(INFER, json=body | {"id": "a b"}), 400, "malformed-request")
        assert running.client.post(INFER, json=body | {"id": ""}).json()["id"] != "order-1"


def test_the_same_request_by_another_door_is_the_same(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        key = {"Idempotency-Key": "order-1"}
        running.client.post("/v1/line/double", json={"number": 4.0}, headers=key)
        found = running.client.post(INFER, json={"id": "order-1", "inputs": [tensor()]})
        assert outputs(found)["answer"]["data"] == [8]
        assert len(running.topics.requests) == 1


def test_versions(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        versions = ("/versions/v1", "/versions/1", "/versions/latest", "")
        for path in (f"/v2/models/line{version}" for version in versions):
            assert running.client.get(path).json()["versions"] == ["v1"]
            assert running.client.get(f"{path}/ready").json() == {"name": "line", "ready": True}
            assert outputs(running.client.post(f"{path}/infer", json={"inputs": [tensor()]}))
        for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
            response = running.client.request(method, f"/v2/models/line/versions/v9{path}", json={"inputs": [tensor()]})
            assert "v1 is the version of line" in error(response, 404, "unknown-version")
        assert "line" in error(running.client.get("/v2/models/nothing/ready"), 404, "unknown-model")
        assert error(running.client.get("/v2/nothing"), 404, "not-found")
        assert error(running.client.get(INFER), 405, "method-not-allowed")


def test_a_version_that_is_replaced_while_the_request_runs(tmp_path: Path) -> None:
    class Promoting(Topics):
        def append(self, request: Any) -> None:
            super().append(request)
            self.answer(request, score(request, "v2"))

    with gateway(tmp_path, topics=Promoting()) as running:
        response = running.client.post("/v2/models/line/versions/v1/infer", json={"id": "x", "inputs": [tensor()]})
        assert "/v1/predictions/x" in error(response, 404, "unknown-version")
        assert running.client.post(INFER, json={"inputs": [tensor()]}).json()["model_version"] == "v2"


def test_metadata(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        server = running.client.get("/v2").json()
        assert server["name"] == "inflight"
        assert server["extensions"] == ["binary_tensor_data"]
        assert running.client.get("/v2/models/line").json() == {
            "name": "line",
            "versions": ["v1"],
            "platform": "inflight",
            "inputs": [{"name": "number", "datatype": "FP64", "shape": [-1]}],
            "outputs": [
                {"name": "answer", "datatype": "FP64", "shape": [-1]},
                {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
            ],
        }


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("diamonds", {"carat": "FP64", "cut": "BYTES"}),
        ("titanic", {"pclass": "INT64", "age": "FP64", "sex": "BYTES"}),
        ("reviews", {"title": "BYTES", "text": "BYTES"}),
    ],
)
def test_the_tensors_of_the_real_models(tmp_path: Path, name: str, some: dict[str, str]) -> None:
    cls = available()[name]
    schemas = {"features_schema": cls.schema(), "prediction_schema": msgspec.json.schema(cls.Prediction)}
    put_model(tmp_path / "registry", name, cls.prediction_name, **schemas)
    with gateway(tmp_path) as running:
        found = running.client.get(f"/v2/models/{name}").json()
        types = {one["name"]: one["datatype"] for one in found["inputs"]}
        assert types | some == types
        assert set(types) == {one.name for one in signature.fields(cls.schema())}
        assert "prediction" in {one["name"] for one in found["outputs"]}


def test_time(tmp_path: Path) -> None:
    """Nobody answers: 504 with the address of the result, after the time that the client gives in microseconds."""
    with gateway(tmp_path, topics=Topics()) as running:
        body = {"id": "slow", "inputs": [tensor()], "parameters": {"timeout": 1_000}}
        response = running.client.post(INFER, json=body)
        assert "/v1/predictions/slow" in error(response, 504, "prediction-timeout")
        assert response.headers["location"] == "/v1/predictions/slow"
        running.answer_all()
        assert outputs(running.client.post(INFER, json=body))["answer"]["data"] == [8]
        for timeout in ("x", -1, True, []):
            wrong = running.client.post(INFER, json=body | {"parameters": {"timeout": timeout}})
            assert "microseconds" in error(wrong, 400, "malformed-request")


def test_a_page_can_not_send_what_it_need_not_ask_for(tmp_path: Path) -> None:
    body = json.dumps({"inputs": [tensor()]})
    with gateway(tmp_path) as running:
        headers = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
        error(running.client.post(INFER, content=body, headers=headers), 415, "unsupported-media-type")
        assert running.client.post(INFER, content=body, headers={"Content-Type": "text/plain"}).status_code == 200


def test_limits(tmp_path: Path) -> None:
    with gateway(tmp_path, gateway_max_rows=2, gateway_max_depth=8, gateway_max_body_bytes=2_000) as running:
        error(running.client.post(INFER, json={"inputs": [tensor([1.0] * 3)]}), 413, "too-large")
        error(running.client.post(INFER, content=b" " * 3_000), 413, "too-large")
        deep = tensor(['{"number":' + "[" * 20 + "]" * 20 + "}"], datatype="BYTES", name="features")
        assert "levels deep" in error(running.client.post(INFER, json={"inputs": [deep]}), 400, "malformed-request")


def test_scopes(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "gateway-keys.json")
    predict, read = file.add("a", ["predict"])[1], file.add("b", ["read"])[1]
    with gateway(tmp_path) as running:
        body = {"inputs": [tensor()]}
        assert running.client.post(INFER, json=body, headers={"X-API-Key": predict}).status_code == 200
        error(running.client.post(INFER, json=body, headers={"X-API-Key": read}), 403, "forbidden")
        for path in ("/v2", "/v2/models/line", "/v2/models/line/ready"):
            assert running.client.get(path, headers={"X-API-Key": read}).status_code == 200
            error(running.client.get(path), 401, "unauthorized")
        assert running.client.get("/v2/health/live").json()["live"] is True


def test_not_ready(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        running.stream.problem = "the stream is being read"
        error(running.client.get("/v2/models/line/ready"), 503, "not-ready")
        error(running.client.post(INFER, json={"inputs": [tensor()]}), 503, "not-ready")
