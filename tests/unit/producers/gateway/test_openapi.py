"""The OpenAPI document: generated from the registry, valid, and following promotions; and the page that shows it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from machine_learning_engineering.sdk import MLEModel
from model.catalog import available
from producers.gateway.examples import example
from tests.support.gateway import gateway, put_model
from tests.unit.producers.gateway.test_predictions import problem


def references(value: Any) -> set[str]:
    """All references in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_document_follows_promotions(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        before = running.client.get("/openapi.json").json()
        assert before["paths"]["/v1/line/double"]["post"]["x-model-version"] == "v1"
        assert running.client.get("/openapi.json").json() == before
        put_model(tmp_path / "registry")
        after = running.client.get("/openapi.json").json()
        assert after["paths"]["/v1/line/double"]["post"]["x-model-version"] == "v2"


def test_it_is_complete(tmp_path: Path) -> None:
    """Every reference leads somewhere, and every route is in it."""
    with gateway(tmp_path) as running:
        document = running.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert "$defs" not in schema, name
    console = {path for path in document["paths"] if path.startswith("/v1/console/")}
    assert set(document["paths"]) - console == {
        "/v1/line/double",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/models/{model}/predictions",
        "/v1/predictions/{request_id}",
        "/v1/predictions/{request_id}/label",
        "/v1/streams/{streams}",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/infer",
        "/v2/models/{model}/versions/{version}/ready",
    }
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_other_methods(tmp_path: Path) -> None:
    """405 with those that there are, whatever the names of models."""
    names = {"model": "line", "request_id": "a", "version": "v1", "streams": "results"}
    with gateway(tmp_path) as running:
        paths = running.client.get("/openapi.json").json()["paths"]
        for path, operations in (paths | {"/v1/{model}/similar": {"get": {}}}).items():
            if not path.startswith("/v1/console/"):
                other = "GET" if "post" in operations else "POST"
                response = running.client.request(other, path.format(**names))
                # The result of a request whose id ends so.
                if path != "/v1/predictions/{request_id}/label":
                    assert response.status_code == 405, path
                    assert {one.lower() for one in response.headers["allow"].split(", ")} - {"head"} == set(operations)


@pytest.mark.parametrize("name", ["diamonds", "titanic", "reviews"])
def test_the_models_declare_what_developers_need(name: str) -> None:
    """An example that the model accepts, made from its schema alone; units, choices and ranges are in the schema."""
    cls: type[MLEModel] = available()[name]
    schema = msgspec.json.decode(msgspec.json.encode(cls.schema()))
    row = example(schema)
    assert cls().decode(msgspec.json.encode(row)) is not None
    Draft202012Validator(schema).validate(row)
    assert cls.prediction_name in {"value", "survival", "sentiment"}


def test_routes_of_the_use_cases(tmp_path: Path) -> None:
    """With the real models' schemas in the registry."""
    for name, cls in available().items():
        put_model(
            tmp_path / "registry",
            name,
            cls.prediction_name,
            features_schema=cls.schema(),
            prediction_schema=msgspec.json.schema(cls.Prediction),
        )
    with gateway(tmp_path) as running:
        document = running.client.get("/openapi.json").json()
        shown = running.client.get("/v1/models/diamonds").json()
    assert {"/v1/diamonds/value", "/v1/titanic/survival", "/v1/reviews/sentiment"} <= set(document["paths"])
    body = document["paths"]["/v1/reviews/sentiment"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["example"]) == {"title", "text"}
    carat = document["components"]["schemas"]["diamonds.Features.DiamondFeatures"]["properties"]["carat"]
    assert (carat["exclusiveMinimum"], carat["maximum"]) == (0, 50)
    assert "carats" in carat["description"]
    assert shown["example"]["cut"] == "Ideal"
    assert shown["path"] == "/v1/diamonds/value"


def test_a_damaged_version_keeps_the_one_before(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        (tmp_path / "registry" / "line" / "aliases.json").write_text("{")
        assert running.client.get("/v1/models/line").json()["version"] == "v1"
        (tmp_path / "registry" / "line" / "aliases.json").write_text('{"champion": "v9"}')
        assert running.client.get("/v1/models/line").json()["version"] == "v1"
        (tmp_path / "registry" / "line" / "aliases.json").write_text("{}")
        problem(running.client.get("/v1/models/line"), 404, "unknown-model")


def test_the_page_needs_no_other_server(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        page = running.client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "http" not in page.text.replace("https://", "http://").split("<body>")[1]
        assert "script-src 'self'" in page.headers["content-security-policy"]
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
            assert f"/docs/{name}" in page.text
            assert running.client.get(f"/docs/{name}").status_code == 200, name
        assert running.client.get("/docs/../gateway-keys.json").status_code == 404


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, 0.5),
        ({"type": "number", "exclusiveMinimum": 0}, 1),
        ({"type": "number", "maximum": -2}, -2),
        ({"type": "string", "minLength": 3}, "aaa"),
        ({"enum": [None, "x"]}, "x"),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, False),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"type": "array", "prefixItems": [{"const": 4}], "items": False}, [4]),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": {}}, "required": ["b"]}}},
            {"b": None},
        ),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}, None),
    ],
)
def test_examples(schema: dict[str, Any], wanted: Any) -> None:
    assert example(schema) == wanted


def test_every_example_of_a_body_is_accepted(tmp_path: Path) -> None:
    """Whoever tries a route of the page as it stands gets a success."""
    with gateway(tmp_path) as running:
        paths = running.client.get("/openapi.json").json()["paths"]
        known = running.client.post("/v1/line/double", json={"number": 1}).json()["request_id"]
        tried = set()
        for path, methods in paths.items():
            content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
            # The console replays dead letters of a broker: tests/integration/test_console.py.
            if content is not None and not path.startswith("/v1/console/"):
                address = path.format(model="line", version="v1", request_id=known)
                answer = running.client.post(address, json=content["example"])
                assert answer.status_code in (200, 202), (path, answer.text)
                tried.add(path)
    assert "/v2/models/{model}/versions/{version}/infer" in tried
    assert len(tried) >= 5
